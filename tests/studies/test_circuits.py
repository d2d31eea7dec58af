"""The circuits study: the planted heads are found, read and missed; nothing is claimed where nothing was learned."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.statistics import Estimate, mean
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.recipes import Planted
from etude.studies.circuits import Circuits
from etude.studies.sections import circuits_page
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.masked import Masked
from etude.train.recipes import Train

DATA = Tokens(Fable(stories=40), Byte())
PLANTED = Circuits(Planted(length=24, data=DATA), sequences=16, windows=8, pairs=2)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def untrained(**shape: Any) -> Train:
    given = {"layers": 2, "width": 16, "heads": 2, "feedforward": 0, "context": 24, **shape}
    return Train(data=DATA, model=Decoder(**given), batch=4, steps=0, evaluate_tokens=256, precision="fp32")


def said(run: Run) -> list[tuple[str, str]]:
    return [(finding["text"], finding["strength"]) for finding in run.result["findings"]]


def test_the_planted_circuit_is_told(lab: Lab):
    run = lab.run(PLANTED)
    repeats, needed, copies, keys, queries, values, single, virtual = said(run)
    assert repeats[1] == "clear" and "L1H0 gives most attention to the token after the last occurrence" in repeats[0]
    assert repeats[0].startswith("Where random tokens repeat, the loss changes by -"), "it falls"
    assert needed[1] == "clear" and needed[0].startswith("Without L1H0 the loss on repeats rises most, by 5.")
    assert copies[1] == "clear" and copies[0].startswith("L1H0 copies most by its weights: score 1.000, where the")
    assert keys[1] == "clear" and "the keys of L1H0 can read the largest share of what L0H0 writes" in keys[0]
    assert (queries[1], values[1]) == ("none", "none"), "no head's queries or values read what L0H0 writes"
    # On a text that it was not made for, the induction head's own path is confident and wrong.
    assert single[1] == "clear" and single[0].startswith("Single heads raise the loss of the paths before them by")
    assert virtual == ("Virtual heads of 2 leave the loss of the paths before them as it is.", "none")
    page = run.file("report.html").read_text(encoding="utf-8")
    assert "Path by path" in page and "not a number" not in page
    assert all(f'id="run-{name}"' in page for name in run.inputs)


def test_numbers_are_those_of_the_runs(lab: Lab):
    told = lab.run(PLANTED).result
    for name, recipe in (
        ("circuits", PLANTED.circuits),
        ("heads", PLANTED.heads),
        ("ablation", PLANTED.ablation),
        ("paths", PLANTED.paths),
    ):
        run = lab.run(recipe)
        assert told[name]["run"] == run.id
        assert all(told[name][key] == run.result[key] for key in told[name] if key != "run")
    first = next(pair for pair in told["composition"] if pair["kind"] == "K")
    held = lab.run(PLANTED.circuits).tensors("circuits.safetensors")
    assert (first["from"], first["to"]) == ("L0H0", "L1H0")
    assert first["projected"] == pytest.approx(float(held["K.projected"][0, 0, 1, 0]))


def test_of_an_untrained_model_no_induction_and_no_need_of_a_head_is_claimed(lab: Lab):
    repeats, needed, copies, *_ = said(lab.run(Circuits(untrained(), sequences=32, windows=0)))
    assert repeats[1] == "none" and "induction head" not in repeats[0]
    assert needed[1] == "none"
    assert copies[1] != "clear"


def test_of_untrained_models_next_to_no_copying_and_composition_is_called_clear(lab: Lab):
    """Each finding is clear by chance once in 20 models or less; of six, with three kinds of composition, 24 in all."""
    found = []
    for seed in range(6):
        of = lab.run(Circuits(replace(untrained(), seed=seed), sequences=2).circuits)
        found += circuits_page._copies(of) + [one for kind in "QKV" for one in circuits_page._composed(of, kind)]
    assert len(found) == 24
    assert sum(finding.strength == "clear" for finding in found) <= 4


@pytest.mark.parametrize(
    ("heads", "rise", "strength"),
    [
        (1, (0.5, 0.1, 0.9, 10), "clear"),
        (40, (0.5, 0.1, 0.9, 10), "none"),  # of so many, one is as far above 0 by chance
        (40, (0.5, 0.4, 0.6, 10), "clear"),
        (1, (0.029, 0.028, 0.030, 10), "none"),  # less than 1% of the loss
        (1, (0.5, 0.5, 0.5, 1), "none"),
    ],
)
def test_a_head_is_needed_where_its_rise_is_above_0_among_so_many_and_not_next_to_nothing(
    heads: int, rise: tuple[float, float, float, int], strength: str
):
    run = SimpleNamespace(id="run", result={"loss": Estimate(3.0, 2.9, 3.1, 10).to_json()})
    none = {"increase": Estimate(-1.0, -1.0, -1.0, 10).to_json()}
    rows = [{"increase": Estimate(*rise).to_json()}, *[none] * (heads - 1)]
    run.result["heads"] = [{"head": f"L0H{n}", **row} for n, row in enumerate(rows)]
    assert circuits_page._needed(cast("Run", run)).strength == strength


@given(n=st.integers(2, 30), heads=st.integers(1, 200), seed=st.integers(0, 99))
def test_the_corrected_interval_is_students_at_the_corrected_level(n: int, heads: int, seed: int):
    values = np.random.default_rng(seed).normal(1, 1, n)
    test: Any = ttest_1samp(values, 0, alternative="greater")
    assert circuits_page.rises(mean(values).to_json(), heads) == (test.pvalue < 0.025 / heads)


@pytest.mark.parametrize(
    ("shape", "findings"),
    [
        ({"layers": 1, "heads": 1}, 4),  # attention, ablation, copying, one order of paths
        ({"layers": 1}, 4),
        ({"heads": 1}, 8),
        ({"feedforward": 16}, 6),  # no sum over paths
        ({"norm_at": "post"}, 6),
        ({"heads": 4, "kv_heads": 2, "positions": "rotary", "norm": "rms", "biases": False, "tied": True}, 8),
        ({"norm": "none", "layers": 3}, 9),
    ],
)
def test_every_shape_of_decoder_has_its_page(shape: dict[str, Any], findings: int, lab: Lab):
    run = lab.run(Circuits(untrained(**shape), sequences=4, windows=2))
    assert len(said(run)) == findings
    page = run.file("report.html").read_text(encoding="utf-8")
    assert ("Which heads read what others write" in page) == (shape.get("layers") != 1)
    assert ("Path by path" in page) == ("paths" in run.result)
    for text, _ in said(run):
        assert ("median pair" in text) <= (shape.get("heads") != 1 or shape.get("layers", 2) > 2)


def test_paths_too_many_to_count_are_said_and_left_out(lab: Lab):
    study = Circuits(untrained(layers=4, heads=8), sequences=2)
    assert not study.counts_paths({}) and study.path_count({}) == 6561
    run = lab.run(study)
    assert "paths" not in run.result
    page = run.file("report.html").read_text(encoding="utf-8")
    assert "The model is a sum over 6,561 paths, too many to be counted one by one." in page


def test_what_is_asked_for_depends_on_the_model():
    kinds = [recipe.kind for recipe in Circuits(untrained()).plan({})]
    assert kinds == ["train", "head-circuits", "heads", "head-ablation", "paths"]
    assert [recipe.kind for recipe in Circuits(untrained(feedforward=8)).plan({})] == kinds[:-1]
    assert [recipe.kind for recipe in Circuits(untrained(), windows=0).plan({})] == kinds[:-1]


def encoder() -> Train:
    data = Tokens(Fable(stories=60), BytePair(vocabulary=300, specials=("mask", "first", "separator")))
    shape = Encoder(layers=1, width=8, heads=2, feedforward=8, context=12)
    return Train(data=data, model=shape, objective=Masked(), steps=0, evaluate_tokens=256)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"of": encoder()}, "circuits are read off decoders, and the model is an encoder"),
        ({"of": untrained(layers=0)}, "layers = 0: a model without heads has no circuits"),
        ({"sequences": 1}, "sequences = 1: .* 2 sequences or more"),
        ({"windows": -1}, "windows = -1"),
    ],
)
def test_what_cannot_be_asked(fields: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words) as caught:
        Circuits(**{"of": untrained(), **fields})
    assert "\n" not in str(caught.value)
