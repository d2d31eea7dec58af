"""Whether two heads set by hand find and copy what followed before: the model is run, and each part asked in turn."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import shown
from etude.practice.exam import Exam

MOST = 0.9
SLOTS = ("token", "position", "previous", "output")


def check(theirs: Any, exam: Exam) -> None:
    """Run texts in which distinct tokens appear twice in the same order."""
    for longer in (3, 0, 1):
        n = exam.random.randint(4, 6)
        V, T = n + 1 + exam.random.randint(2, 4), 2 * n + 1 + longer
        first = exam.permutation(V - 1)[:n] + 1
        text = torch.cat((torch.zeros(1, dtype=torch.long), first, first))
        x = torch.zeros(len(text), 3 * V + T)
        x[torch.arange(len(text)), text] = 1
        x[torch.arange(len(text)), V + torch.arange(len(text))] = 1
        x = x + _previous_token(exam, _head(theirs, exam, "previous_token_head", V, T), x, text, V, T)
        _induction(exam, _head(theirs, exam, "induction_head", V, T), x, text, n, V, T)


def _head(theirs: Any, exam: Exam, name: str, V: int, T: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a head's weights, their shapes asked."""
    W_Q, W_K, W_V, W_O = getattr(theirs, name)(V, T)
    D = 3 * V + T
    for weight, its in ((W_Q, "W_Q"), (W_K, "W_K"), (W_V, "W_V"), (W_O, "W_O")):
        real = isinstance(weight, Tensor) and weight.is_floating_point() and weight.ndim == 2
        exam.ask(real, f"{its} of {name} is no matrix of real numbers")
        reads = weight.shape[1 if its == "W_O" else 0]
        shape = "[J, D]" if its == "W_O" else "[D, J]" if its == "W_V" else "[D, K]"
        said = f"{its} of {name} has shape {list(weight.shape)}; it should be {shape} with D = 3 V + T = {D}"
        exam.ask(reads == D, said)
        exam.ask(bool(weight.isfinite().all()), f"{its} of {name} is not finite everywhere")
    exam.ask(
        W_Q.shape == W_K.shape, f"W_Q and W_K of {name} have {W_Q.shape[1]} and {W_K.shape[1]} columns, not the same K"
    )
    exam.ask(
        W_V.shape[1] == len(W_O), f"W_V of {name} has {W_V.shape[1]} columns and W_O {len(W_O)} rows, not the same J"
    )
    return W_Q.float(), W_K.float(), W_V.float(), W_O.float()


def _scores(x: Tensor, W_Q: Tensor, W_K: Tensor) -> Tensor:
    return (x @ W_Q) @ (x @ W_K).T


def _attention(scores: Tensor) -> Tensor:
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1)


def _slots(written: Tensor, V: int, T: int) -> dict[str, Tensor]:
    return dict(zip(SLOTS, written.split((V, T, V, V), dim=-1), strict=True))


def _named(slots: list[str]) -> str:
    return " and ".join(f"`{each}`" for each in slots)


def _previous_token(
    exam: Exam, head: tuple[Tensor, Tensor, Tensor, Tensor], x: Tensor, text: Tensor, V: int, T: int
) -> Tensor:
    """Ask the head of layer 0 for its pattern and for what it writes; return that."""
    W_Q, W_K, W_V, W_O = head
    scores = _scores(x, W_Q, W_K)
    pattern = _attention(scores)
    rows = torch.arange(1, len(text))
    shares = pattern[rows, rows - 1]
    if not bool(shares.min() >= MOST):
        t = int(rows[shares.argmin()])
        most = pattern[rows].argmax(-1)
        inner = rows[:-1]
        exam.ask(
            bool(scores.abs().max() > 0), "the previous-token head looks at all positions alike: every score of it is 0"
        )
        exam.ask(
            not bool((scores[inner].argmax(-1) == inner + 1).all()),
            "the previous-token head looks for the position after, which is hidden: the key of position s has to match"
            " the query of position s + 1",
        )
        exam.ask(
            not bool((most == rows).all()),
            "the previous-token head looks at the position itself: the key of position s has to match the query of"
            " position s + 1, not that of s",
        )
        exam.ask(
            not bool((most == rows - 1).all()),
            f"the previous-token head looks the right way, but too weakly: position {t} gives {shown(shares.min())} of"
            f" its attention to position {t - 1}. What makes a softmax sharper?",
        )
        exam.ask(
            False,
            f"in layer 0 position {t} gives {shown(pattern[t, t - 1])} of its attention to position {t - 1}, and most"
            f" ({shown(pattern[t].max())}) to position {int(pattern[t].argmax())}",
        )
    written = pattern @ x @ W_V @ W_O
    slots = _slots(written[1:], V, T)
    used = [name for name in SLOTS if slots[name].abs().max() > 0.05]
    exam.ask(bool(used), "the previous-token head looks where it should, but writes nothing: W_V W_O is 0 on tokens")
    exam.ask(
        used == ["previous"],
        f"the previous-token head writes into the slot{'s' * (len(used) > 1)} {_named(used)}: it should write"
        " into `previous` alone",
    )
    wanted = torch.eye(V)[text[:-1]]
    read = "the previous-token head looks where it should, but does not write the one-hot vector of the token there"
    exam.same(
        slots["previous"], wanted, "the slot `previous`", unless={read: slots["previous"]}, tolerance=2 * (1 - MOST)
    )
    return written


def _induction(
    exam: Exam, head: tuple[Tensor, Tensor, Tensor, Tensor], x: Tensor, text: Tensor, n: int, V: int, T: int
) -> None:
    """Ask the head of layer 1 for its pattern where tokens appear again, and for what it writes there."""
    W_Q, W_K, W_V, W_O = head
    pattern = _attention(_scores(x, W_Q, W_K))
    rows = torch.arange(n + 1, len(text))
    behind = rows - n + 1
    shares = pattern[rows, behind]
    if not bool(shares.min() >= MOST):
        for why, other in _misled(text).items():
            exam.ask(bool((pattern - other)[rows].abs().max() > 0.1), why)
        t, s = int(rows[shares.argmin()]), int(behind[shares.argmin()])
        exam.ask(
            not bool((pattern[rows].argmax(-1) == behind).all()),
            f"the induction head looks behind the earlier appearance, but too weakly: position {t} gives"
            f" {shown(shares.min())} of its attention to position {s}. Scores have to be further apart",
        )
        exam.ask(
            False,
            f"in layer 1 position {t} holds token {int(text[t])}, which stood at position {t - n} before. The head"
            f" gives {shown(pattern[t, s])} of its attention to position {s}, behind it, and most"
            f" ({shown(pattern[t].max())}) to position {int(pattern[t].argmax())}",
        )
    slots = _slots((pattern @ x @ W_V @ W_O)[rows], V, T)
    logits = slots["output"]
    if logits.abs().max() < 0.05:
        used = [name for name in SLOTS if slots[name].abs().max() > 0.05]
        exam.ask(not used, f"the induction head writes into {_named(used)}, and nothing into `output`")
        exam.ask(False, "the induction head looks where it should, but writes nothing: W_V W_O is 0 on what is there")
    answers, present = text[behind], text[rows]
    margin = logits.gather(1, answers[:, None])[:, 0] - logits.scatter(1, answers[:, None], -torch.inf).amax(1)
    if margin.min() < 0.5:
        exam.ask(
            not bool((logits.argmin(-1) == answers).all()),
            "the induction head lowers the token that it looks at in `output`: the sign is turned",
        )
        exam.ask(
            not bool((logits.argmax(-1) == present).all()),
            "the induction head repeats the present token: W_V reads the slot `previous` of the position looked at,"
            " and should read which token stands there",
        )
        worst = int(margin.argmin())
        exam.ask(
            not bool((logits.argmax(-1) == answers).all()),
            f"the induction head expects the right token, but raises it by only {shown(margin[worst])} above all"
            " others",
        )
        exam.ask(
            False,
            f"at position {int(rows[worst])} the token {int(answers[worst])} comes next, as it did before, and the slot"
            f" `output` is greatest at token {int(logits[worst].argmax())}",
        )


def _misled(text: Tensor) -> dict[str, Tensor]:
    """Return the patterns of heads that match the wrong slots, by what is said of them."""
    before = torch.cat((text[:1], text[:-1]))

    def match(queries: Tensor, keys: Tensor) -> Tensor:
        return _attention(50.0 * (queries[:, None] == keys[None, :]))

    return {
        "the induction head looks at the present token's own appearances, not behind the earlier one: its keys read the"
        " slot `token`, and should read what layer 0 wrote": match(text, text),
        "the induction head looks before, not behind: its queries read the slot `previous`, and its keys `token`. It is"
        " the other way round": match(before, text),
        "the induction head compares `previous` with `previous`: it finds where the token before stood before. Its"
        " queries should read the present token": match(before, before),
        "the induction head looks at all positions alike: no query matches any key": match(text, text + len(text) + 99),
        "the induction head looks at the position before: that is what layer 0 is for": match(
            torch.arange(len(text)), torch.arange(len(text)) + 1
        ),
    }
