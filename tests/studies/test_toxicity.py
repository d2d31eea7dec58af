"""Toxicity against scale: slopes and contrasts by hand, what is said of a judge that is worth little, and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import t as student

from etude.chat.prompts.short import Short
from etude.chat.prompts.story import Story
from etude.cli.app import main
from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.judge_recipes import Judge
from etude.evals.statistics import Estimate
from etude.models.architectures.decoder import Decoder
from etude.models.sampling import Sampling
from etude.studies.sections.toxicity_findings import findings, holds
from etude.studies.sections.toxicity_numbers import Change, Told, _slope, told
from etude.studies.sections.toxicity_page import masked
from etude.studies.toxicity import PROMPTED, TUNED, VANILLA, Toxicity
from etude.text.corpora.fable import Fable
from etude.text.corpora.labelled import Labelled
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

MADE = Path(__file__).with_name("made") / "remarks.csv"
REMARKS = Labelled(path=str(MADE), classes=("civil", "rude"), held_out=0.2)


def model(width: int, seed: int = 0) -> Train:
    shape = Decoder(layers=1, width=width, heads=2, feedforward=16, context=160, spread=0.5)
    return Train(
        Tokens(Fable(stories=20), Byte()), shape, steps=0, evaluate_every=0, evaluate_tokens=320, seed=seed,
        precision="fp32",
    )  # fmt: skip


STUDY = Toxicity(
    (model(16), model(8)),
    (model(8, seed=1),),
    REMARKS,
    ("rude",),
    prompt=Story(opening="Be kind."),
    prompts=12,
    each=2,
    bins=3,
    sampling=Sampling(max_tokens=6),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def done_of(lab: Lab, study: Toxicity) -> Done:
    done = Done()
    for needed in lab.run(study).inputs:
        done.add(Run(lab.root / needed).recipe, Run(lab.root / needed))
    return done


def test_slopes_and_contrasts_are_made_prompt_by_prompt(lab: Lab) -> None:
    found = told(STUDY.resolve(), done_of(lab, STUDY))
    assert [(one.condition, one.parameters) for one in found.members] == [
        (name, size) for name in (VANILLA, PROMPTED, TUNED) for size in sorted(
            {int(lab.run(m).result["parameters"]) for m in (STUDY.tuned if name == TUNED else STUDY.of)}
        )
    ]  # fmt: skip
    small, large, prompted, _, tuned = found.members
    doubled = np.log2(large.parameters / small.parameters)
    apart = (large.values["toxicity"] - small.values["toxicity"]) / doubled
    slope = next(c for c in found.slopes if (c.condition, c.measure) == (VANILLA, "toxicity"))
    assert slope.estimate.mean == pytest.approx(apart.mean()) and slope.estimate.n == len(apart)
    reach = student.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
    assert slope.estimate.high - slope.estimate.mean == pytest.approx(reach)
    assert {c.condition for c in found.slopes} == {VANILLA, PROMPTED}  # one tuned model has no slope
    changed = next(c for c in found.contrasts if (c.condition, c.measure) == (TUNED, "margin"))
    assert changed.estimate.mean == pytest.approx((tuned.values["margin"] - small.values["margin"]).mean())
    assert prompted.written.id != small.written.id


def test_pairs_are_compared_by_byte(lab: Lab) -> None:
    found = told(STUDY.resolve(), done_of(lab, STUDY)).members[0]
    assert found.values["civil"] == pytest.approx((found.values["margin"] > 0).astype(float))
    assert len(found.pairs) == 48
    bare = [row["bare"][row["right"][0]] / row["bytes"][row["right"][0]] for row in found.pairs]
    other = [row["bare"][1 - row["right"][0]] / row["bytes"][1 - row["right"][0]] for row in found.pairs]
    assert found.values["alone"] == pytest.approx((np.array(bare) > np.array(other)).astype(float))
    assert found.to_json()["civil"]["mean"] == pytest.approx(found.replies.result["scores"]["by_bytes"]["mean"])


def test_what_each_condition_reads() -> None:
    study = replace(STUDY, prompt=Short())
    vanilla, prompted, tuned = (study.written(name, STUDY.of[0]) for name in (VANILLA, PROMPTED, TUNED))
    assert (vanilla.preamble, vanilla.around, vanilla.sampling.stop) == ("", "{prompt}", ())
    assert prompted.preamble == Short().text and prompted.around == "User: {prompt}\nAssistant:" == tuned.around
    assert tuned.preamble == "" and tuned.sampling.stop == ("\nUser:",)
    assert study.replies(VANILLA, STUDY.of[0]) == study.replies(TUNED, STUDY.of[0])
    assert study.replies(PROMPTED, STUDY.of[0]).prompt.description == Short().text


def test_a_slope_over_prompts_is_least_squares() -> None:
    random = np.random.default_rng(2)
    x = random.uniform(0, 1, 300)
    y = 0.3 * x + random.normal(0, 0.02 + 0.2 * x)
    found = _slope(x, y)
    assert found.mean == pytest.approx(np.polyfit(x, y, 1)[0])
    draws = [np.polyfit(x[at], y[at], 1)[0] for at in random.integers(0, 300, (2000, 300))]
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.std(draws), rel=0.1)


# Findings


def of_judge(home: float, away: float, others: Any = "not measured") -> dict[str, Any]:
    def area(mean: float) -> dict[str, Any]:
        return {"auc": Estimate(mean, mean - 0.05, min(1.0, mean + 0.05), 100).to_json()}

    found = others if others == "not measured" else [area(mean) for mean in others]
    return {"in_domain": area(home), "replies": area(away), "others": found, "groups": []}


@pytest.mark.parametrize(
    ("card", "firm", "strength"),
    [
        (of_judge(0.95, 0.8), True, "clear"),
        (of_judge(0.95, 0.62), False, "uncertain"),
        (of_judge(0.95, 0.8, [0.9, 0.52]), False, "uncertain"),
        (of_judge(0.95, 0.8, [0.9]), True, "clear"),
        (of_judge(0.53, 0.8), False, "none"),
    ],
)
def test_nothing_is_firmer_than_the_judge(card: dict[str, Any], firm: bool, strength: str) -> None:
    assert holds(card) is firm
    changes = [
        Change("toxicity", VANILLA, "", Estimate(-0.2, -0.3, -0.1, 50), ("train-1",)),
        Change("toxicity", PROMPTED, "", Estimate(0.01, -0.1, 0.12, 50), ("train-1",)),
        Change("civil", VANILLA, "", Estimate(0.2, 0.1, 0.3, 48), ("train-1",)),
    ]
    judge = cast(Run, SimpleNamespace(result=card, id="judge-1"))
    judged, falls, unseen, civil = findings(Told([], changes, [], [], [], judge))
    assert judged.strength == strength
    assert falls.strength == ("clear" if firm else "uncertain") and "falls" in str(falls.text)
    assert unseen.strength == "uncertain" and "not seen to change" in str(unseen.text)
    assert civil.strength == "clear" and "rises" in str(civil.text)  # the judge has no part in it
    assert ("not measured" in str(judged.text)) is (card["others"] == "not measured")


# The page


def test_the_card_is_on_the_page_and_no_text_of_a_model(lab: Lab) -> None:
    run = lab.run(STUDY)
    page = run.file("report.html").read_text(encoding="utf-8")
    for words in ("not measured", "AUC", "Errors by group", "Calibration", "What such a judge confuses", "Shift"):
        assert words in page
    assert run.result["judge"]["others"] == "not measured" and run.result["judge"]["groups"]
    told_of = json.dumps(run.result)
    for one in told(STUDY.resolve(), done_of(lab, STUDY)).members:
        for line in one.written.file("continuations.jsonl").read_text().splitlines():
            row = json.loads(line)
            assert row["prompt"] not in page and row["prompt"] not in told_of


def test_a_switch_shows_the_texts_escaped(lab: Lab, tmp_path: Path) -> None:
    rows = "".join(
        f'"<b onclick=""x({n})"">row {n}</b> </script> & \x1b[2J it is {("nice", "foul")[n % 2]}",{n % 2}\n'
        for n in range(160)
    )
    (tmp_path / "a.csv").write_text("text,label\n" + rows)
    remarks = Labelled(path=str(tmp_path / "a.csv"), classes=("civil", "rude"), held_out=0.2)
    study = replace(STUDY, labelled=remarks, tuned=(), of=STUDY.of[:1], masked=False, bins=1)
    page = lab.run(study).file("report.html").read_text(encoding="utf-8")
    assert "<b onclick" not in page and "&lt;b onclick" in page and "\x1b" not in page
    hidden = lab.run(replace(study, masked=True)).file("report.html").read_text(encoding="utf-8")
    assert "onclick" not in hidden and "o••••••" in hidden


def test_masks_hide_all_but_the_first_letter() -> None:
    assert masked("You are SO kind, 42 times\n été") == "Y•• a•• S• k•••, 4• t••••\n é••"


def test_one_command_does_it(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    run = lab.run(STUDY.of[0])
    words = ["--labelled.path", str(MADE), "--labelled.text-field", "text", "--labelled.label-field", "label"]
    words += ["--labelled.classes", "civil,rude", "--labelled.held-out", "0.2", "--toxic", "rude"]
    words += ["--prompt", "story", "--prompts", "4", "--each", "1", "--bins", "1", "--sampling.max-tokens", "3"]
    code = main(["run", "toxicity", "--of", run.id, *words, "--runs", str(lab.root), "--quiet", "--json"])
    result = json.loads(capsys.readouterr().out)["result"]
    assert code == 0 and result["judge"]["in_domain"]["auc"]["n"] > 30 and not result["per_doubling"]


def test_wrong_use_is_said() -> None:
    with pytest.raises(UsageError, match="there is nobody to judge: give models with --of RUN"):
        Toxicity()
    with pytest.raises(UsageError, match="of names a model twice"):
        replace(STUDY, of=(STUDY.of[0], STUDY.of[0]))
    with pytest.raises(UsageError, match="unknown class in --toxic 'hate'"):
        replace(STUDY, toxic=("hate",))
    assert isinstance(STUDY.judge, Judge)
