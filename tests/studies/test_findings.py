"""Findings follow the numbers: planted runs, and the words and hedges that must come of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

from etude.compress.recipes import Compress
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Heads
from etude.evals.statistics import paired
from etude.models.architectures.decoder import Decoder
from etude.report.blocks import Finding, Value
from etude.studies.progress_report import ProgressReport
from etude.studies.sections.findings import findings, kept_at, pairs_of_methods, plain
from etude.studies.sections.numbers import beyond, comparisons, compression, compressions, versus
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

STUDY = ProgressReport(
    train=Train(data=Tokens(Fable(), Byte()), model=Decoder(layers=2, width=16, heads=2, feedforward=32, context=32)),
    sizes=(1, 3, 5),
    codes=(4,),
    shown=3,
)
MODELS = STUDY.models({})
WINDOWS, EACH = 40, 32
"""Windows that were read, and tokens in each."""

Done = dict[Recipe, Run]


@dataclass
class Told:
    """A run that was never made, with planted results."""

    id: str
    result: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    files: dict[str, np.ndarray] = field(default_factory=dict)

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        return {**(self.arrays or {"loss": self.files[name]}), "count": np.full(WINDOWS, EACH)}


def estimate(mean: float, half: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": WINDOWS}


def planted(
    *,
    losses: dict[str, float] | None = None,
    rise: Callable[[Compress], float] = lambda c: 1.0,
    noise: float | Callable[[Compress], float] = 0.001,
    heads: dict[str, tuple[float, float]] | None = None,
    half: float = 0.01,
    token: float = 0.9,
) -> Done:
    """Return runs of the study.

    Args:
        losses: mean loss of each model and baseline, in nats per token.
        rise: the rise in loss of each compression.
        noise: how far windows scatter about these; of compressions, for each if it is a function.
        heads: each model's strongest induction score, and its gain on repeated tokens; chance is 0.05.
        half: half the width of those intervals.
        token: share of every latent that the token foretells.
    """
    draw = np.random.default_rng(0)

    def windows(mean: float, noise: float = 0.001 if callable(noise) else noise) -> np.ndarray:
        scatter = draw.normal(size=WINDOWS)
        return EACH * (mean + noise * (scatter - scatter.mean()))

    losses = {"unigram": 4.0, "bigram": 3.0, "attention-only": 2.5, "with feed-forward": 2.0, "one layer": 2.8} | (
        losses or {}
    )
    heads = dict.fromkeys(MODELS, (0.05, 0.0)) | (heads or {})
    done: dict[Any, Any] = {}
    stored = {f"{name}.safetensors": windows(losses[name]) for name in ("unigram", "bigram")}
    done[STUDY.baselines] = Told("baselines-0", files=stored)
    for number, (name, model) in enumerate(MODELS.items()):
        done[model] = Told(f"train-{number}", arrays={"loss": windows(losses[name])})
        score, gain = heads[name]
        weak = {"head": "L0H0", "induction": estimate(0.01, 0.0)}
        strong = {"head": "L0H1", "induction": estimate(score, half)}
        told = {"heads": [weak, strong], "chance": 0.05, "gain": estimate(gain, half)}
        done[Heads(model)] = Told(f"heads-{number}", told)
    clean = windows(2.0)
    compressions = [c for model in STUDY.compressed({}).values() for c in STUDY.compressions(model)]
    for number, recipe in enumerate(compressions):
        loss = clean + (windows(rise(recipe), noise(recipe)) if callable(noise) else windows(rise(recipe)))
        increase = paired(loss, clean, np.full(WINDOWS, EACH)).to_json()
        harm = {"increase": increase, "kl": estimate(0.1, 0.01), "accuracy": estimate(0.5, 0.01), "explained": 0.5}
        cost = {"dimensions": recipe.method.size, "bits": 1.0, "parameters": 1}
        done[recipe] = Told(f"compress-{number}", {"harm": harm, "cost": cost}, {"loss": loss, "clean": clean})
    for number, recipe in enumerate(q for m in STUDY.compressed({}).values() for q in STUDY.latents(m)):
        told = {"latents": [{"foretold_by": {"token": token}}, {"foretold_by": {"token": None}}]}
        done[recipe] = Told(f"latents-{number}", told)
    return cast(Done, done)


def said(done: Done) -> list[Finding]:
    return findings(STUDY, done, compressions(STUDY, done))


def compared(done: Done) -> dict[tuple[str, str], Finding]:
    rows = comparisons(STUDY, done)
    return {(row["of"], row["against"]): finding for row, finding in zip(rows, said(done), strict=False)}


def about(done: Done, model: str, word: str) -> Finding:
    """Return the finding on a model (or on all) in which a word comes."""
    name = {"attention-only": "attention-only model", "with feed-forward": "feed-forward layers", "": ""}[model]
    found = [f for f in said(done)[len(comparisons(STUDY, done)) :] if word in plain(f.text)]
    (only,) = [f for f in found if name in plain(f.text).partition(",")[0] or name in plain(f.text)[:60]]
    return only


# Models and baselines


def test_models_that_are_apart() -> None:
    found = compared(planted())
    assert {finding.strength for finding in found.values()} == {"clear"}
    words = plain(found["with feed-forward", "attention-only"].text)
    assert "better" in words and "0.500" in words and "worse" not in words


def test_the_sign_decides_who_is_better() -> None:
    found = compared(planted(losses={"with feed-forward": 3.5}))
    words = plain(found["with feed-forward", "bigram"].text)
    assert "worse" in words and "0.500" in words and "better" not in words
    assert found["with feed-forward", "bigram"].strength == "clear"


def test_a_difference_whose_interval_contains_zero_is_undecided() -> None:
    found = compared(planted(losses={"with feed-forward": 2.499}, noise=0.1))
    finding = found["with feed-forward", "attention-only"]
    assert finding.strength == "uncertain"
    assert not {"better", "worse"} & set(plain(finding.text).split())
    assert found["with feed-forward", "unigram"].strength == "clear"


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.02, 0.04, 0.08, -0.08])
def test_the_hedge_is_the_interval(gap: float) -> None:
    done = planted(losses={"with feed-forward": 2.5 - gap}, noise=0.08)
    row = next(r for r in comparisons(STUDY, done) if r["against"] == "attention-only")
    undecided = row["low"] <= 0 <= row["high"]
    assert compared(done)["with feed-forward", "attention-only"].strength == ("uncertain" if undecided else "clear")
    assert row["mean"] == pytest.approx(-gap)


def test_every_finding_names_its_runs() -> None:
    done = planted(rise=lambda c: 0.05 if c.method.name == "infovae" else 1.0)
    ids = {run.id for run in done.values()}
    for finding in said(done):
        named = {run for part in finding.text.parts for run in getattr(part, "runs", ())}
        assert named and named <= ids


# Components


def rises(infovae: dict[int, float], mean: float = 1.0) -> Callable[[Compress], float]:
    """The rise at each size of the InfoVAE, and with the mean in place; all else harms as much as the mean."""
    return lambda c: infovae[c.method.size] if c.method.name == "infovae" else mean


def kept(done: Done, site: str = "L0.attn.out") -> tuple[int | None, bool]:
    row, firm = kept_at(compressions(STUDY, done)["attention-only"], site, "infovae")
    return (row["size"] if row else None), firm


def test_the_smallest_size_within_a_tenth_is_kept() -> None:
    done = planted(rise=rises({1: 0.5, 3: 0.05, 5: 0.01}))
    assert kept(done) == (3, True)
    finding = about(done, "attention-only", "nine tenths")
    assert finding.strength == "clear" and "3 numbers in place of 16" in plain(finding.text)
    one = planted(rise=rises({1: 0.02, 3: 0.05, 5: 0.01}))
    assert "1 number in place of 16" in plain(about(one, "attention-only", "nine tenths").text)


def test_an_interval_past_the_limit_is_hedged() -> None:
    done = planted(rise=rises({1: 0.5, 3: 0.098, 5: 0.01}), noise=0.03)
    assert kept(done) == (3, False)
    assert about(done, "attention-only", "nine tenths").strength == "uncertain"


def test_the_limit_is_an_estimate_too() -> None:
    """The code's own harm is sure, a tenth of what the mean does is not: 0.09 against 0.10 give or take 0.02."""
    rise = rises({1: 0.5, 3: 0.09, 5: 0.01})
    unsure = planted(rise=rise, noise=lambda c: 0.6 if c.method.name == "mean" else 0.001)
    assert kept(unsure) == (3, False)
    assert about(unsure, "attention-only", "nine tenths").strength == "uncertain"
    assert kept(planted(rise=rise)) == (3, True)


def test_the_limit_is_paired_by_window() -> None:
    done = planted(rise=rises({1: 0.5, 3: 0.08, 5: 0.01}), noise=0.02)
    recipes = {(c.site, c.method.name, c.method.size): c for c in STUDY.compressions(MODELS["attention-only"])}
    mine, mean = (recipes["L0.attn.out", *which] for which in (("infovae", 3), ("mean", 0)))
    a, b = (done[recipe].tensors("windows.safetensors") for recipe in (mine, mean))
    each = ((a["loss"] - a["clean"]) - 0.1 * (b["loss"] - b["clean"])) / EACH
    half = stats.t.ppf(0.975, WINDOWS - 1) * stats.sem(each)
    found = beyond(done, mine, mean)
    assert (found.mean, found.high) == (pytest.approx(each.mean()), pytest.approx(each.mean() + half))
    assert found.mean == pytest.approx(0.08 - 0.1)


def test_what_does_nothing_is_left_out_of_the_count() -> None:
    here = rises({1: 0.5, 3: 0.05, 5: 0.01})
    done = planted(rise=lambda c: 0.0 if "L1.mlp" in c.site and c.method.name == "mean" else here(c), noise=0.01)
    words = plain(about(done, "with feed-forward", "nine tenths").text)
    assert "All 3 components that do something keep as much with 3 or fewer." in words
    assert "Left out: 1 component not seen to do anything beyond the mean." in words


def test_one_window_is_never_firm() -> None:
    """An interval of one window is a point, which would lie on one side of everything."""
    done = planted(rise=rises({1: 0.5, 3: 0.05, 5: 0.01}))
    rows = compressions(STUDY, done)["attention-only"]
    one = [{**row, **{key: {**row[key], "n": 1} for key in ("increase", "beyond")}} for row in rows]
    assert kept_at(rows, "L0.attn.out", "infovae") == (rows[1], True)
    assert kept_at(one, "L0.attn.out", "infovae") == (None, False)


def test_no_size_is_enough() -> None:
    done = planted(rise=rises({1: 0.5, 3: 0.4, 5: 0.3}))
    assert kept(done) == (None, False)
    assert about(done, "attention-only", "nine tenths").strength == "none"


def test_a_component_that_does_nothing_has_nothing_to_keep() -> None:
    """Where its mean does no harm, nine tenths of what it does means nothing: no size is said to keep or to lose it."""
    done = planted(rise=rises({1: 0.0, 3: 0.0, 5: 0.0}, mean=0.0), noise=0.1)
    assert kept(done) == (None, False)
    assert not any("keeps nine tenths" in plain(finding.text) for finding in said(done))
    assert about(done, "attention-only", "beyond its mean").strength == "none"


def test_how_many_components_do_so() -> None:
    here = rises({1: 0.5, 3: 0.05, 5: 0.01})
    done = planted(rise=lambda c: here(c) if "L0.attn" in c.site or c.method.name == "mean" else 1.0)
    assert "1 of its 4 components keeps as much" in plain(about(done, "with feed-forward", "nine tenths").text)
    assert "All 4 components" in plain(about(planted(rise=here), "with feed-forward", "nine tenths").text)
    assert "Both components" in plain(about(planted(rise=here), "attention-only", "nine tenths").text)


# Methods


@pytest.mark.parametrize(
    ("infovae", "noise", "strength", "words"),
    [
        (0.2, 0.001, "clear", "in 18 of 18 comparisons, more in 0, and in 0"),
        (0.4, 0.001, "clear", "in 0 of 18 comparisons, more in 18, and in 0"),
        (0.3, 0.100, "uncertain", "in 0 of 18 comparisons, more in 0, and in 18"),
    ],
)
def test_methods_at_the_same_size(infovae: float, noise: float, strength: str, words: str) -> None:
    rise = {"infovae": infovae, "pca": 0.3}
    done = planted(rise=lambda c: rise.get(c.method.name, 1.0), noise=noise)
    finding = about(done, "", "principal components")
    assert finding.strength == strength and words in plain(finding.text)


def test_methods_that_win_half_each_are_undecided() -> None:
    rise = {"infovae": 0.2, "pca": 0.3}
    done = planted(rise=lambda c: rise.get(c.method.name, 1.0) * (-1 if "L0" in c.site else 1))
    assert about(done, "", "principal components").strength == "uncertain"


def test_versus_is_paired() -> None:
    """Far sharper than either rise: what both share, window by window, drops out."""
    rise = {"infovae": 0.2, "pca": 0.3}
    done = planted(rise=lambda c: rise.get(c.method.name, 1.0), noise=0.01)
    pairs = pairs_of_methods(STUDY, done, "infovae", "pca")
    assert len(pairs) == 3 * 6
    for one, other, difference in pairs:
        assert (one.site, one.method.size) == (other.site, other.method.size)
        assert (one.method.name, other.method.name) == ("infovae", "pca")
        assert difference.mean == pytest.approx(-0.1) and difference == versus(done, one, other)


def test_every_count_of_the_comparison_has_its_run() -> None:
    finding = about(planted(), "", "principal components")
    values = [part for part in finding.text.parts if isinstance(part, Value)]
    assert [value.value for value in values][1] == 18 and len(values) == 4
    assert all(value.runs and "see the tables" in value.label for value in values)
    assert not any(c.isdigit() for part in finding.text.parts if isinstance(part, str) for c in part.replace("95%", ""))


# Heads and latents

CONTROL = {"one layer": (0.06, 0.0)}


@pytest.mark.parametrize(
    ("score", "gain", "strength"),
    [
        (0.8, 2.0, "clear"),
        (0.8, 0.0, "uncertain"),  # attends, and does not use it
        (0.06, 2.0, "uncertain"),  # uses something else
        (0.06, 0.0, "none"),
        (0.12, 2.0, "uncertain"),  # above the control, under three times even attention
        (0.12, 0.0, "uncertain"),  # which is a sign, if no more, also where the loss does not gain
    ],
)
def test_induction_takes_attention_and_loss(score: float, gain: float, strength: str) -> None:
    done = planted(heads={"with feed-forward": (score, gain), **CONTROL})
    finding = about(done, "with feed-forward", "last occurrence")
    assert finding.strength == strength and "L0H1" in plain(finding.text)
    assert ("It has learned induction" in plain(finding.text)) == (strength == "clear")
    assert ("no sign of induction" in plain(finding.text)) == (strength == "none")


def test_induction_no_stronger_than_the_control_is_none() -> None:
    done = planted(heads={"with feed-forward": (0.8, 2.0), "one layer": (0.79, 1.99)}, half=0.05)
    assert about(done, "with feed-forward", "last occurrence").strength == "none"


@pytest.mark.parametrize(("token", "mostly"), [(0.9, 6), (0.1, 0)])
def test_latents_that_are_mostly_the_token(token: float, mostly: int) -> None:
    finding = said(planted(token=token))[-1]
    assert f"{mostly} of 6" in plain(finding.text) and finding.strength == "clear"


def test_rows_of_compression_belong_to_a_component() -> None:
    rows = compression(STUDY, "with feed-forward", MODELS["with feed-forward"], planted())
    sites = STUDY.sites(MODELS["with feed-forward"])
    assert {row["component"] for row in rows} == set(sites)
    assert {row["component"] for row in rows if row["method"] == "svd"} == set(sites)
    assert all(row["site"] == sites[row["component"]] for row in rows if row["method"] == "svd")
    narrow = replace(STUDY, sizes=(3,))
    assert len(compression(narrow, "", MODELS["attention-only"], planted())) == 2 * (4 + 1 + 2)
