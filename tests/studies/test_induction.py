"""The induction study, small: what it plans, that its numbers are those of the runs, and what it says when nothing was
learned. That the whole finds induction heads is for the study itself to show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.recipes import Heads
from etude.interp.recipes import HeadAblation, HeadCircuits
from etude.models.architectures.decoder import Decoder
from etude.models.recipes import Planted
from etude.studies.induction import Induction
from etude.studies.sections import induction_findings
from etude.studies.sections.findings import plain
from etude.studies.sections.induction_numbers import LEAST, SHORT, Rise
from etude.text.corpora.fable import Fable
from etude.text.corpora.repetition import Repetition
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import At, Train

STUDY = Induction(
    data=Tokens(Repetition(problems=200, symbols=16, shortest=4, longest=6, total=20, spaced=False), Byte()),
    model=Decoder(layers=2, width=16, heads=2, feedforward=0, context=16, positions="rotary"),
    steps=4,
    batch=4,
    warmup=2,
    checkpoints=2,
    seeds=1,
    sequences=4,
    precision="fp32",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def answer(lab: Lab) -> Run:
    return lab.run(STUDY)


@pytest.fixture(scope="module")
def done(lab: Lab, answer: Run) -> Done:
    found = Done()
    for name in answer.inputs:
        run = Run(lab.root / name)
        found.add(run.recipe, run)
    return found


def test_what_is_asked_for():
    asked = list(STUDY.plan({}))
    kinds = [recipe.kind for recipe in asked]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "train": 2,
        "heads": 6,  # two models at steps 0, 2 and 4
        "in-context": 6,
        "head-circuits": 1,
    }
    assert {recipe.model.layers for recipe in asked if isinstance(recipe, Train)} == {2, 1}
    of = [recipe.of for recipe in asked if isinstance(recipe, Heads)]
    assert [model.step for model in of if isinstance(model, At)] == [0, 2, 0, 2]
    assert len(list(replace(STUDY, seeds=3).plan({}))) == len(asked) + 4, "two more of each, scored at the end alone"


def test_the_control_differs_in_its_layers_alone():
    deep, control = (STUDY.train(layers, 0) for layers in STUDY.depths)
    assert replace(control, model=replace(control.model, layers=2)) == deep
    other = STUDY.train(2, 1)
    assert replace(other, seed=0, keep_every=deep.keep_every) == deep and other.seed == 1


def test_what_is_taken_out_waits_for_the_heads_that_are_found(done: Done):
    last = list(STUDY.plan(done))[-1]
    assert isinstance(last, HeadAblation) and last.group == ()
    assert last not in list(STUDY.plan({}))


def test_numbers_are_those_of_the_runs(answer: Run, lab: Lab):
    told = answer.result
    for name, layers in (("two layers", 2), ("one layer", 1)):
        train = STUDY.train(layers, 0)
        for row, step in zip(told["curves"][name], (0, 2, 4), strict=True):
            heads, context = (lab.run(recipe) for recipe in STUDY.of_checkpoint(train, step))
            assert (row["step"], row["run"], row["context_run"]) == (step, heads.id, context.id)
            assert row["gain"] == heads.result["gain"] and row["in_context"] == context.result["score"]
            scores = [head["induction"]["mean"] for head in heads.result["heads"]]
            assert row["induction"]["mean"] == max(scores)
        end = lab.run(Heads(train, 4, "text"))
        assert told["loss"][name] == [{"run": end.id, **end.result["repeated_loss"]}]
    losses = [told["loss"][name][0]["mean"] for name in ("two layers", "one layer")]
    assert told["times_lower"] == pytest.approx(losses[1] / losses[0])


def test_where_nothing_was_learned_nothing_is_claimed(answer: Run):
    found = {finding["text"]: finding["strength"] for finding in answer.result["findings"]}
    assert answer.result["induction_heads"] == []
    assert "clear" not in found.values(), found
    assert found["No head does induction, so there is none to take out."] == "none"
    (formed,) = [text for text in found if text.startswith("Induction heads formed in 0 of 1")]
    assert found[formed] == "none" and "in 0 of 1 with one" in formed
    assert sum("repeats are in the end not seen to be easier than fresh tokens" in text for text in found) == 2
    assert not any("comes between steps" in text for text in found), "of what was not gained no share is told"


def test_with_few_checkpoints_it_is_said_that_they_are_few(done: Done, lab: Lab):
    for finding in induction_findings._phase(STUDY, as_if_learned(done, lab, 1, 2)):
        assert finding.strength == "none"
        assert "too few checkpoints to tell whether it is a phase change" in plain(finding.text)


def test_the_page_has_every_section_and_a_card_for_every_run(answer: Run):
    page = answer.file("report.html").read_text(encoding="utf-8")
    for title in (
        "What was learned when",
        "What the heads do",
        "What is lost without them",
        "How they are joined",
        "How it was done",
    ):
        assert title in page
    assert all(f'id="run-{name}"' in page for name in answer.inputs)


PLANTED = Planted(length=24, data=Tokens(Fable(stories=40), Byte()))


def as_if_learned(done: Done, lab: Lab, *depths: int) -> Done:
    """Return runs among which those of the planted circuit stand where the trained models' heads are scored."""
    runs = Done()
    for recipe in done:
        runs.add(recipe, done[recipe])
    for layers in depths:
        runs.add(STUDY.heads(STUDY.train(layers, 0)).resolve(), lab.run(Heads(PLANTED, 8)))
    return runs


def test_of_the_planted_circuit_all_is_told_as_it_is(done: Done, lab: Lab):
    runs = as_if_learned(done, lab, 2)
    runs.add(STUDY.circuits.resolve(), lab.run(HeadCircuits(PLANTED, draws=1)))
    assert STUDY.ablation(runs).group == ("L1H0",)
    runs.add(STUDY.ablation(runs).resolve(), lab.run(HeadAblation(PLANTED, group=("L1H0",), sequences=8)))
    lower, _, _, formed, lost, composed = induction_findings.findings(STUDY, runs)
    assert {finding.strength for finding in (lower, formed, lost, composed)} == {"clear"}
    said = [plain(finding.text) for finding in (formed, lost, composed)]
    assert "Induction heads formed in 1 of 1 trainings with two layers and in 0 of 1 with one" in said[0]
    assert "that of L1H0" in said[0]
    assert (
        said[1].startswith("Without L1H0 the loss on repeats goes from ") and "without L1H1, as many others" in said[1]
    )
    assert said[2].startswith("By the weights, the keys of L1H0 can read the largest share of what L0H0 writes")


RISES = {
    "sudden": (
        Rise(2, 4, SHORT, 0.9, 2 * LEAST, 0.0),
        "clear",
        "; a phase change, and the strongest induction score goes",
    ),
    "slow": (Rise(0, 4, 0.6, 0.9, 2 * LEAST, 0.0), "none", "; no phase change."),
    "small": (Rise(2, 4, SHORT, 0.9, LEAST / 2, 0.0), "none", "; no phase change."),
    "from the start": (Rise(0, 2, SHORT, 0.9, 2 * LEAST, 0.0), "none", "; no phase change."),
    "none": (None, "none", "no easier, beside fresh tokens, than before training."),
}


@pytest.mark.parametrize(("rise", "strength", "words"), RISES.values(), ids=list(RISES))
def test_a_phase_change_is_said_where_there_is_one(
    rise: Rise | None, strength: str, words: str, done: Done, lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    """The rise of a training is handed over; what is said of it is the page's."""
    monkeypatch.setattr(induction_findings, "rise", lambda study, done, layers: rise)
    monkeypatch.setattr(induction_findings, "SHORT", 0.5)  # of two checkpoints, one
    for finding in induction_findings._phase(STUDY, as_if_learned(done, lab, 1, 2)):
        said = plain(finding.text)
        assert finding.strength == strength and words in said
        if rise is not None:
            assert f"comes between steps {rise.start} and {rise.end}: {round(100 * rise.share)}%" in said


@pytest.mark.parametrize(("second", "strength"), [(0.5, "clear"), (2.1, "uncertain")])
def test_a_difference_is_clear_where_every_seed_shows_it(
    second: float, strength: str, done: Done, monkeypatch: pytest.MonkeyPatch
):
    def row(mean: float) -> dict[str, Any]:
        return {"run": "run", "mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 9}

    rows = {"two layers": [row(0.4), row(second)], "one layer": [row(2.0), row(2.0)]}
    monkeypatch.setattr(induction_findings, "losses", lambda study, done: rows)
    assert induction_findings._difference(STUDY, done).strength == strength


def test_where_all_heads_of_a_layer_go_the_rise_has_to_be_half_of_the_way_to_guessing(done: Done, lab: Lab):
    """Nothing is left to compare with. The planted heads are missed by as much, those of a random model are not."""
    runs = as_if_learned(done, lab, 2)
    one = STUDY.ablation(runs)
    for of, strength in ((PLANTED, "clear"), (STUDY.train(2, 0), "uncertain")):
        runs.add(one.resolve(), lab.run(HeadAblation(of, group=("L1H0", "L1H1"), sequences=8)))
        (lost,) = induction_findings._lost(STUDY, runs)
        assert "their layers have no other heads to compare with" in plain(lost.text)
        assert lost.strength == strength


def test_what_runs_give_notice_of_is_on_the_page(answer: Run, lab: Lab):
    (notice,) = lab.run(STUDY.circuits).result["notices"]
    assert "positions are rotary" in notice
    assert f"{notice}." in answer.file("report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": replace(STUDY.model, layers=1)}, "layers = 1, .* with one of 1; set --model.feedforward 0"),
        ({"model": replace(STUDY.model, feedforward=8)}, "feedforward = 8"),
        ({"checkpoints": 3}, "steps = 4, checkpoints = 3"),
        ({"checkpoints": 1}, "give 2 or more checkpoints"),
        ({"steps": 0}, "steps = 0, checkpoints = 2"),
        ({"seeds": 0}, "seeds = 0"),
        ({"sequences": 1}, "sequences = 1 is too small"),
    ],
)
def test_what_cannot_be_asked(fields: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words) as caught:
        replace(STUDY, **fields)
    assert "\n" not in str(caught.value)


def test_left_to_the_machine_the_precision_is_settled_before_anything_is_run():
    assert replace(STUDY, precision="auto").resolve().precision in ("fp32", "bf16")
    assert STUDY.resolve() == STUDY.resolve().resolve()
