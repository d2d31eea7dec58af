"""The study of one squeezed component: its plan, its numbers against the runs', and words that are true to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.compress.recipes import Compress
from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.statistics import paired, ratio
from etude.models.architectures.decoder import Decoder
from etude.models.recipes import OnText
from etude.report.blocks import Details, Section, walk
from etude.studies.sections.squeeze_findings import called_part, compared, of_method
from etude.studies.sections.squeeze_numbers import SMALL, able, kept, most_harmed, share, title
from etude.studies.squeeze import Squeeze
from etude.text.corpora.fable import Fable
from etude.text.corpora.repetition import Repetition
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train
from etude.train.schedule import Schedule

TRAIN = Train(
    data=Tokens(Fable(stories=60), Byte()),
    model=Decoder(layers=1, width=16, heads=2, feedforward=32, context=16),
    schedule=Schedule(peak=2e-2, warmup=5),
    batch=8,
    steps=60,
    evaluate_tokens=320,
    precision="fp32",
)
STUDY = Squeeze(
    TRAIN,
    methods=("pca", "kmeans:4", "svd", "reduced-rank"),
    size=3,
    seeds=2,
    fit_tokens=1024,
    evaluate_tokens=1024,
    shown=2,
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    return lab.run(STUDY)


@pytest.fixture(scope="module")
def done(lab: Lab, run: Run) -> Done:
    found = Done()
    for name in run.inputs:
        made = Run(lab.root / name)
        found.add(made.recipe, made)
    return found


# The plan


def test_every_method_is_asked_for_the_same() -> None:
    asked = [recipe.kind for recipe in STUDY.plan({})]
    floors, fits = 4, 1 + 2 + 1 + 1  # k-means draws, and is fitted twice
    assert asked.count("compress") == floors + fits
    assert asked.count("meaning") == 4 and asked.count("latents") == 3 and asked.count("seed-match") == 1


def test_sizes_and_places_follow_from_what_a_method_is() -> None:
    sizes = {named: STUDY.method(named).size for named in STUDY.methods}
    assert sizes == {"pca": 3, "kmeans:4": 4, "svd": 3, "reduced-rank": 3}
    assert STUDY.method("kmeans").size == 64  # its codes are no dimensions
    assert STUDY.method("relu-sae").size == 512  # its features are all that there are, not those that pass
    assert [STUDY.fits(named)[0].site for named in STUDY.methods] == ["L0.mlp.out"] * 2 + ["L0.mlp.W_out", "L0.mlp.out"]
    assert {fit.seed for fit in STUDY.fits("kmeans:4")} == {0, 1}
    assert STUDY.floors()["random"].method.size == 3
    assert not STUDY.has_units("svd") and not STUDY.has_units("kmeans:1") and STUDY.has_units("kmeans:2")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"methods": ()}, "give 1 or more methods"),
        ({"methods": ("pca", "pca")}, "name each once"),
        ({"methods": ("mean",)}, "mean is a floor, which stands beside the methods by itself"),
        ({"methods": ("pac",)}, "unknown method 'pac'"),
        ({"methods": ("pca:x",)}, "methods names 'pca:x': give a whole number"),
        ({"methods": ("pca:0",)}, "pca.dimensions = 0 is too small"),
        ({"site": "L*.mlp.out"}, "names several sites"),
        ({"site": "L3.mlp.out"}, "the model has 1 layers"),
        ({"site": "L0.resid.post", "methods": ("svd",)}, "svd stands for a component"),
        ({"evaluate_tokens": 256}, "256 is less than 32 windows of 16"),
        ({"seeds": 0}, "seeds = 0"),
    ],
)
def test_what_makes_no_sense(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Squeeze(**{"of": TRAIN, **fields})
    assert "\n" not in str(caught.value)


# The numbers


def test_numbers_are_those_of_the_runs(run: Run, lab: Lab) -> None:
    for row, named in zip(run.result["methods"], STUDY.methods, strict=True):
        first = lab.run(STUDY.fits(named)[0])
        assert row["run"] == first.id and row["increase"] == first.result["harm"]["increase"]
        assert row["cost"] == first.result["cost"]
        assert [rise["run"] for rise in row["rises"]] == [lab.run(fit).id for fit in STUDY.fits(named)]
    assert [floor["name"] for floor in run.result["floors"]] == ["zero", "mean", "resample", "random"]
    gaps = run.result["differences"]
    best = min(run.result["methods"], key=lambda row: np.mean([rise["rise"] for rise in row["rises"]]))
    assert {gap["against"] for gap in gaps} == {best["name"]} and all(gap["mean"] >= 0 for gap in gaps)


def test_methods_are_compared_over_all_their_seeds(run: Run, lab: Lab) -> None:
    """K-means has two fits: their mean is compared, and its interval knows how far they are apart."""
    gap = next(gap for gap in run.result["differences"] if gap["of"] == "kmeans:4")
    fits, best = (STUDY.fits(name) for name in ("kmeans:4", gap["against"]))
    held = [lab.run(fit).tensors("windows.safetensors") for fit in (*fits, *best)]
    one, other, least = (each["loss"] for each in held)
    count = held[0]["count"]
    over = paired((one + other) / 2, least, count)
    assert gap["mean"] == pytest.approx(over.mean) and one.sum() != other.sum()
    apart = 12.7062 * abs(one.sum() - other.sum()) / count.sum() / 2  # Student's factor for one degree of freedom
    assert gap["high"] - gap["mean"] == pytest.approx(np.hypot(over.high - over.mean, apart), rel=1e-4)
    assert set(gap["runs"]) == {lab.run(fit).id for fit in (*fits, *best)}
    assert gap["least"]["mean"] == pytest.approx(lab.run(best[0]).result["harm"]["increase"]["mean"])


def test_a_share_of_what_is_not_known_is_withheld(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    one, floor = (lab.run(recipe) for recipe in (STUDY.fits("pca")[0], STUDY.floors()["mean"]))
    rise = kept(one, floor)["rise"]
    monkeypatch.setattr("etude.studies.sections.squeeze_numbers.STEADY", 1.01 * rise["low"] / rise["mean"])
    assert kept(one, floor)["share"] is None


def test_verdicts_are_corrected_for_all_methods_of_the_page(run: Run, lab: Lab) -> None:
    from etude.compress.verdict import holm

    told = [row for row in run.result["methods"] if "meaning" in row]
    alone = [lab.run(STUDY.meanings(row["name"])[0]).result["comparisons"] for row in told]
    chances = holm(np.array([pairs[name]["p"] for pairs in alone for name in ("coordinates", "rotation")]))
    found = [row["meaning"][0]["p"][name] for row in told for name in ("coordinates", "rotation")]
    assert found == pytest.approx(chances.tolist()) and len(found) == 6
    assert len(told[1]["meaning"]) == 2, "k-means has a verdict of each seed"


def test_a_share_is_of_its_floor_and_withheld_where_that_is_little(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    one, floor = (lab.run(recipe) for recipe in (STUDY.fits("pca")[0], STUDY.floors()["mean"]))
    told = kept(one, floor)
    rises = [run.result["harm"]["increase"]["mean"] for run in (one, floor)]
    assert told["rise"] == floor.result["harm"]["increase"]
    assert rises[1] > SMALL, "or the test tests nothing"
    assert told["share"]["mean"] == pytest.approx(1 - rises[0] / rises[1])
    whole = lab.run(Compress(TRAIN, "L0.mlp.out", STUDY.method("pca:16"), fit_tokens=1024, evaluate_tokens=1024))
    assert kept(whole, floor)["share"]["mean"] == pytest.approx(1, abs=1e-3)
    assert kept(one, whole)["share"] is None, "all of it in its own place raises nothing"
    monkeypatch.setattr("etude.studies.sections.squeeze_numbers.SMALL", rises[1] * 1.01)
    assert kept(one, floor) == {**told, "share": None}


def test_the_interval_of_a_share_is_that_of_a_bootstrap() -> None:
    draw = np.random.default_rng(0)
    whole = draw.normal(1, 2, 400)  # below 0 in many windows
    part = 0.6 * whole + draw.normal(0, 1, 400)
    found = share(part, whole)
    rows = draw.integers(0, 400, (4000, 400))
    low, high = np.quantile(part[rows].sum(1) / whole[rows].sum(1), (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)
    assert found.mean == part.sum() / whole.sum()
    positive = np.abs(whole)
    assert share(part, positive) == ratio(part, positive)


# The words


def estimate(mean: float, reach: float = 0.01) -> dict[str, float]:
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "n": 20}


def part(rise: float, clean: float = 3.0, reach: float = 0.01) -> dict[str, Any]:
    return {"clean": estimate(clean), "rise": estimate(rise, reach), "tokens": 100, "able": True}


def test_what_is_harmed_most_has_the_greatest_rise_beyond_doubt() -> None:
    apart = {"parts": {"number": part(0.3), "mark": part(0.1), "word start": part(0.5, reach=0.6)}}
    assert most_harmed(apart) == ("number", False)  # the third may be more, or nothing
    del apart["parts"]["word start"]
    assert most_harmed(apart) == ("number", True)
    assert most_harmed({"parts": {"number": part(-0.3), "mark": part(0.0)}}) == (None, False)


def test_what_the_model_cannot_do_is_not_harmed() -> None:
    """On random tokens an untrained model loses as much as a guess does, or more."""
    vocabulary = 257
    parts = able(
        {"induction": part(0.5, clean=np.log(257) + 0.1), "in-context": part(0.4, clean=0.0), "number": part(0.1)},
        vocabulary,
    )
    assert [each["able"] for each in parts.values()] == [False, False, True]
    assert most_harmed({"parts": parts}) == ("number", True)
    parts = able({"induction": part(0.5, clean=2.0), "in-context": part(0.1, clean=-0.5)}, vocabulary)
    assert most_harmed({"parts": parts}) == ("induction", True)


def made(**more: Any) -> dict[str, Any]:
    """Return the row of a method of which nothing is out of the ordinary."""
    sets = {name: {"median": estimate(0.5)} for name in ("units", "coordinates", "rotation")}
    meaning = {"run": "meaning-1", "sets": sets, "verdict": "easier"}
    return {
        "name": "pca",
        "title": "PCA, 5 dimensions",
        "run": "compress-1",
        "cost": {"bits": 160.0},
        "increase": estimate(0.1),
        "kept": {"mean": {"floor": "compress-2", "rise": estimate(0.3), "share": estimate(0.7)}},
        "parts": {"number": part(0.3), "mark": part(0.1)},
        "meaning": [meaning, {**meaning, "run": "meaning-2"}],
        "match": None,
        **more,
    }


def words(row: dict[str, Any]) -> dict[str, str]:
    from etude.studies.sections.findings import plain

    alone = compared(STUDY, {}, [row]) if "differences" not in row else []
    return {plain(said.text): said.strength for said in (*alone, *of_method(row))}


@pytest.fixture
def one_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one method there are no differences to read from runs."""
    monkeypatch.setattr("etude.studies.sections.squeeze_findings.differences", lambda *given: [])


@pytest.mark.usefixtures("one_method")
def test_findings_say_how_firmly_they_stand() -> None:
    verdict, keeps, breaks = words(made()).items()
    assert "are easier to foretell" in verdict[0] and "2 of 2 seeds come to this" in verdict[0]
    assert "takes back 70%" in keeps[0] and "0.300 [0.290, 0.310] nats" in keeps[0]
    assert "predicting tokens of the class “number”: the loss there rises by 0.300" in breaks[0]
    assert [verdict[1], keeps[1], breaks[1]] == ["clear"] * 3


@pytest.mark.usefixtures("one_method")
def test_what_is_not_shown_is_not_said() -> None:
    nothing = made(
        kept={"mean": {"floor": "compress-2", "rise": estimate(0.003), "share": None}},
        parts={"number": part(0.0)},
    )
    nothing["meaning"] = [{**nothing["meaning"][0], "verdict": "no difference shown"}]
    verdict, keeps, breaks = words(nothing).items()
    assert "are not shown to be easier or harder" in verdict[0] and "%" not in keeps[0]
    assert "raises the loss in no part of the text beyond doubt" in breaks[0]
    assert [verdict[1], keeps[1], breaks[1]] == ["none"] * 3
    worse = made(kept={"mean": {"floor": "compress-2", "rise": estimate(0.3), "share": estimate(-0.2)}})
    assert any("is not seen to do better than the mean" in said for said in words(worse))


@pytest.mark.usefixtures("one_method")
def test_a_verdict_that_seeds_do_not_share_is_uncertain() -> None:
    row = made()
    row["meaning"][1]["verdict"] = "no difference shown"
    (said, strength), *_ = words(row).items()
    assert strength == "uncertain" and "1 of 2 seeds" in said


@pytest.mark.usefixtures("one_method")
@pytest.mark.parametrize(("least", "by_chance", "strength"), [(0.8, 0.75, "clear"), (0.7, 0.75, "none")])
def test_a_match_is_held_against_its_baseline(least: float, by_chance: float, strength: str) -> None:
    ends = {"mean": 0.85, "least": least, "most": 0.9}
    chance = {"mean": by_chance, "least": by_chance, "most": by_chance}
    row = made(match={"run": "seed-match-1", "matched": ends, "rotated": chance, "shuffled": chance})
    assert list(words(row).values())[-1] == strength


@pytest.mark.parametrize(
    ("method", "named"),
    [("pca:1", "PCA, 1 dimension"), ("kmeans:4", "k-means, 4 codes"), ("prune-neurons:50", "50% kept")],
)
def test_a_method_is_called_by_what_its_size_counts(method: str, named: str) -> None:
    assert title(STUDY._compress("L0.mlp.out", STUDY.method(method))).endswith(named)


def test_parts_are_called_what_they_are() -> None:
    assert called_part("positions 0-3") == "what is predicted at positions 0-3"
    assert "repeat" in called_part("induction")


# The page


def test_every_method_has_the_same_section(done: Done) -> None:
    report = STUDY.tell(done)
    titles = [section.title for section in report.sections]
    assert titles == [
        "Side by side",
        "PCA, 3 dimensions",
        "k-means, 4 codes",
        "SVD of the weight, 3 dimensions",
        "reduced-rank regression, 3 dimensions",
    ]
    inside = [[type(block).__name__ for block in section.blocks] for section in report.sections[1:]]
    assert inside[0] == inside[1] == inside[3] == ["Findings", "Table", "Details", "Details"]
    side = [node.title for node in walk(report.sections[0]) if isinstance(node, Section)]
    assert side[1:] == [
        "Cost and harm",
        "What of the text is harmed",
        "Is it easier to understand?",
        "Do other seeds find the same units?",
    ]
    units = [node.summary for node in walk(report) if isinstance(node, Details)]
    assert len(units) == 6 and units[2].startswith("code ")


def test_the_page_says_what_it_is_of_and_its_rule(run: Run) -> None:
    page = run.file("report.html").read_text(encoding="utf-8")
    assert "Fitted on the training split of fable and judged on" in page
    assert "The rule was fixed before looking." in page and "for all 6 comparisons of one seed" in page
    assert "was brought in" not in page
    assert all(f'id="run-{name}"' in page for name in run.inputs)


def test_of_another_text_the_page_says_so(lab: Lab) -> None:
    study = Squeeze(
        OnText(TRAIN, Repetition(problems=2000, spaced=False)),
        methods=("pca",),
        size=2,
        fit_tokens=320,
        evaluate_tokens=512,
        shown=0,
    )
    page = lab.run(study).file("report.html").read_text(encoding="utf-8")
    assert "Fitted on the training split of repetition and" in page
    assert "The model was trained on another text, fable." in page


def test_of_a_model_brought_in_it_is_not_known_what_it_read(lab: Lab, tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file

    from etude.models.outgoing import format_for, weights_of
    from etude.models.recipes import Imported
    from etude.text.tokenizers.file import File
    from etude.text.tokenizers.live import ByteTokenizer

    spec = Decoder(layers=1, width=8, heads=2, feedforward=16, context=16, activation="gelu-tanh", tied=True)
    chosen, config = format_for(spec, 257)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights_of(spec.build(257, seed=1), chosen), tmp_path / "model.safetensors", {"format": "pt"})
    ByteTokenizer().save(tmp_path)
    of = Imported(path=str(tmp_path), data=Tokens(Fable(stories=60), File()))
    study = Squeeze(of, methods=("pca",), size=2, fit_tokens=320, evaluate_tokens=1024, shown=1)
    page = lab.run(study).file("report.html").read_text(encoding="utf-8")
    assert "The model was brought in: that it was trained on such text is not known." in page
