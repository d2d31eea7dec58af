"""Whether an expert is there when it should be, and transmission is what its four scores make it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

AXES = ("step", "world")


def check(theirs: Any, exam: Exam) -> None:
    """Ask about episodes of even and odd length, about chains, also by draws that equal a chance, and about scores."""
    worlds = exam.random.randint(2, 5)
    for steps in (2 * exam.random.randint(3, 6) + 1, 2 * exam.random.randint(3, 6), 1):
        for kind in ("full", "none", "half"):
            _masks(theirs, kind, steps, worlds, exam)
    for steps, worlds in ((40, 9), (40, 7), (1, 3)):
        _chains(theirs, steps, worlds, exam)
    for _ in range(3):
        _transmits(theirs, exam)


def _masks(theirs: Any, kind: str, steps: int, worlds: int, exam: Exam) -> None:
    rows = [kind == "full" or (kind == "half" and t < steps // 2) for t in range(steps)]
    want = torch.tensor([[row] * worlds for row in rows])
    early = torch.tensor([[t < steps - steps // 2] * worlds for t in range(steps)])
    of_worlds = torch.tensor([[b < worlds // 2 for b in range(worlds)] for _ in range(steps)])
    turned = {"the expert is present where it should be absent, and absent where it should be present": ~want}
    if kind == "half":
        turned = {
            "of an odd number of steps the middle one is without the expert: it is present at the first steps // 2": (
                early
            ),
            "the expert is there for the second half of the steps, and should be for the first": want.flip(0),
            "the expert is in half of the worlds at all steps, and should be in all worlds for half of the steps": (
                of_worlds
            ),
            "the expert is there at every other step, and should be at the first half of them": torch.tensor(
                [[t % 2 == 0] * worlds for t in range(steps)]
            ),
        } | turned
    got = theirs.presence(kind, steps, worlds)
    exam.same(got, want, f'your presence "{kind}" of {steps} steps', unless=turned, axes=AXES)
    exam.ask(
        got.dtype == torch.bool,
        f'your presence "{kind}" holds {str(got.dtype)[6:]}; it should hold truth values (bool)',
    )


def _walk(uniform: Tensor, step: Callable[[bool, float], bool], first: bool = True) -> Tensor:
    """Return the chains of all worlds by going through them one at a time."""
    found = torch.zeros(uniform.shape, dtype=torch.bool)
    for b, draws in enumerate(uniform.T.tolist()):
        state = first
        for t, draw in enumerate(draws):
            state = step(state, draw) if t else first
            found[t, b] = state
    return found


def _chains(theirs: Any, steps: int, worlds: int, exam: Exam) -> None:
    uniform = exam.integers(64, steps, worlds) / 64  # some equal a chance exactly
    out, back = exam.random.choice(((2, 5), (3, 6), (5, 3), (6, 2)))
    leaves, comes = out / 16, back / 16
    want = _walk(uniform, lambda here, u: u >= leaves if here else u < comes)
    got = theirs.flickering(uniform, leaves, comes)
    alone = uniform >= leaves
    but_first = torch.cat([torch.ones_like(alone[:1]), alone[1:]])
    exam.same(
        got,
        want,
        f"your presence of an expert that leaves with chance {leaves} and comes with {comes}",
        unless={
            "a draw that is equal to its chance makes the event happen: it happens where uniform[t] is below": _walk(
                uniform, lambda here, u: u > leaves if here else u <= comes
            ),
            "leaving and staying are exchanged: one that is present is absent next where uniform < leaves": _walk(
                uniform, lambda here, u: u < leaves if here else u < comes
            ),
            "coming and staying away are exchanged: one that is absent is present next where uniform < comes": _walk(
                uniform, lambda here, u: u >= leaves if here else u >= comes
            ),
            "both changes are the wrong way round: it goes where uniform < leaves, and comes where uniform < comes": (
                _walk(uniform, lambda here, u: u < leaves if here else u >= comes)
            ),
            "the two chances are exchanged: `leaves` is for one that is present": _walk(
                uniform, lambda here, u: u >= comes if here else u < leaves
            ),
            "each step is drawn by itself: what happens depends on whether it was there at the step before": but_first,
            "every step is drawn by itself, the first one too: at step 0 the expert is present": alone,
            "the expert is absent at step 0, and should be present": _walk(
                uniform, lambda here, u: u >= leaves if here else u < comes, first=False
            ),
            "the expert never comes back: one that is absent returns with chance `comes`": _walk(
                uniform, lambda here, u: here and u >= leaves
            ),
            "the draws are a step late: what happens at step t is told by uniform[t], not by uniform[t - 1]": _walk(
                torch.cat([uniform[:1], uniform[:-1]]), lambda here, u: u >= leaves if here else u < comes
            ),
            "that is when the expert is absent": ~want,
        },
        axes=AXES,
    )
    exam.ask(got.dtype == torch.bool, f"your presence holds {str(got.dtype)[6:]}; it should hold truth values (bool)")


def _transmits(theirs: Any, exam: Exam) -> None:
    solo, half, full, expert = (exam.random.uniform(low, low + 0.8) for low in (1.0, 2.0, 3.0, 5.0))
    gains = ((full - solo) / expert, (half - solo) / expert)
    exam.same(
        theirs.cultural_transmission(full, half, solo, expert),
        sum(gains) / 2,
        f"your transmission with A_full = {full:.3g}, A_half = {half:.3g}, A_solo = {solo:.3g}, E = {expert:.3g}",
        unless={
            "both gains are summed: each counts for a half": sum(gains),
            "the gains are not shares of the expert's score: divide by E": (full + half) / 2 - solo,
            "what the agent does alone is not taken away": (full + half) / (2 * expert),
            "what the agent does alone is taken from A_full and not from A_half": (full - solo + half) / (2 * expert),
            "the gains are shares of E - A_solo, and should be of the expert's own score E": (
                ((full + half) / 2 - solo) / (expert - solo)
            ),
            "only the score with the expert throughout counts: what stays after the first half is the other half": (
                gains[0]
            ),
            "only the score with the expert throughout counts, and for a half": gains[0] / 2,
            "only the score with the expert for the first half counts": gains[1],
            "A_full is compared with A_half: each is compared with A_solo": (full - half) / expert,
        },
    )
    exam.same(
        theirs.cultural_transmission(full / 8, half / 8, solo / 8, expert / 8),
        sum(gains) / 2,
        "your transmission with an expert that scores less than 1, as with all scores eight times as large,",
    )
    for nothing in (0.0, -exam.random.uniform(0.5, 2.0)):
        exam.same(
            theirs.cultural_transmission(full, half, solo, nothing),
            0.0,
            f"your transmission with an expert that scores {nothing:.3g}, and so transmits nothing,",
        )
