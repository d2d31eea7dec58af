"""The patching study: on the planted circuit the difference is found on its way, and only there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.recipes import Planted
from etude.studies.patch import Patch
from etude.studies.sections.patch_page import furthest, strongest
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.masked import Masked
from etude.train.recipes import Train

DATA = Tokens(Fable(stories=40), Byte())
# After `b` comes `c`, which the circuit finds by the key at `c` that says that `b` stood before it.
PLANTED = Patch(
    Planted(length=24, data=DATA), "abcdeab", "axcdeab", right="c", wrong="e", receivers=("logits", "L1H0.k", "L1H0.v")
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def untrained(**shape: Any) -> Train:
    given = {"layers": 2, "width": 16, "heads": 2, "feedforward": 32, "context": 24, **shape}
    return Train(data=DATA, model=Decoder(**given), batch=4, steps=0, evaluate_tokens=256, precision="fp32")


def said(run: Run) -> list[tuple[str, str]]:
    return [(finding["text"], finding["strength"]) for finding in run.result["findings"]]


def test_the_planted_circuit_is_told(lab: Lab):
    run = lab.run(PLANTED)
    assert said(run)[2:] == [
        ("On the direct way to logits, L1H0 carries most: 100.0% of the way.", "clear"),
        ("On the direct way to L1H0.k, L0H0 carries most: 100.0% of the way.", "clear"),
        ("No head brings any of it on the direct way to L1H0.v.", "none"),
    ]
    for (text, strength), verb in zip(said(run), ("brings the answer back", "takes the answer away"), strict=False):
        assert strength == "clear" and verb in text and "100.0% of the way" in text
        assert "L0H0" in text or "L1H0" in text, "each of the two does all of it"
    maps = run.result["maps"]
    assert list(maps) == [
        "resid", "attn", "head", "head, noising", "paths to logits", "paths to L1H0.k", "paths to L1H0.v"
    ]  # fmt: skip
    top = {tuple(cell["cell"]) for cell in maps["resid"]["strongest"] if cell["recovered"] > 0.5}
    assert top == {("L0.resid.pre", "1"), ("L1.resid.pre", "2"), ("L1.resid.post", "6")}
    page = run.file("report.html").read_text(encoding="utf-8")
    assert "They differ at position 1 (b / x)." in page
    assert "These findings are of one pair of prompts: they hold of it exactly, and say nothing of others." in page
    assert all(f'id="run-{name}"' in page for name in run.inputs)


def test_numbers_are_those_of_the_runs(lab: Lab):
    told = lab.run(PLANTED).result
    for name, recipe in (("resid", PLANTED.map("resid")), ("head, noising", PLANTED.needed)):
        run = lab.run(recipe)
        assert told["maps"][name] == {"run": run.id, "strongest": strongest(run)}
    first = lab.run(PLANTED.map("resid")).result
    assert all(told["prompts"][key] == first[key] for key in told["prompts"])


def test_the_strongest_cells_are_so_either_way_and_the_furthest_goes_the_right_one(lab: Lab):
    run = lab.run(Patch(untrained(), "A hen", "A fox", "x", "y").map("head"))
    values = run.tensors("patches.safetensors")["recovered"]
    sizes = [abs(cell["recovered"]) for cell in strongest(run)]
    assert sizes == sorted(sizes, reverse=True)
    assert strongest(run)[0]["recovered"] == pytest.approx(values.min()), "of these prompts one that goes back"
    best = furthest(run)
    assert best is not None and best["recovered"] == pytest.approx(values.max()) and values.max() < -values.min()


def test_where_the_model_answers_otherwise_it_is_said(lab: Lab):
    run = lab.run(replace(PLANTED, right="e", wrong="c", receivers=()))
    text, strength = said(run)[0]
    assert strength == "none"
    assert text.startswith("The model does not answer the clean prompt with “e” rather than “c”")
    assert "And to whom" not in run.file("report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "shape",
    [
        {"layers": 1, "heads": 1},
        {"feedforward": 0},
        {"norm": "none", "biases": False},
        {"norm_at": "post"},
        {"heads": 4, "kv_heads": 2, "positions": "rotary", "norm": "rms", "tied": True},
        {"parallel": True},
    ],
)
def test_every_shape_of_decoder_has_its_page(shape: dict[str, Any], lab: Lab):
    run = lab.run(Patch(untrained(**shape), "A dog", "A cat", "x", "y", receivers=("logits", "L0H0.k")))
    assert ("mlp" in run.result["maps"]) == (shape.get("feedforward") != 0)
    assert said(run)[-1] == ("No head brings any of it on the direct way to L0H0.k.", "none"), "none comes before it"
    assert run.file("report.html").exists()


def test_what_is_asked_for():
    kinds = [recipe.kind for recipe in PLANTED.plan({})]
    assert kinds == ["planted", *["patch-map"] * 4, *["path-patches"] * 3]
    assert [recipe.kind for recipe in Patch(untrained(), "a", "b").plan({})].count("patch-map") == 5


def encoder() -> Train:
    data = Tokens(Fable(stories=60), BytePair(vocabulary=300, specials=("mask", "first", "separator")))
    shape = Encoder(layers=1, width=8, heads=2, feedforward=8, context=12)
    return Train(data=data, model=shape, objective=Masked(), steps=0, evaluate_tokens=256)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"of": encoder()}, "patching reads decoders, and the model is an encoder"),
        ({"of": untrained(layers=0)}, "layers = 0: a model without heads has none to patch"),
        ({"corrupted": "abcdeab"}, "clean and corrupted are the same text"),
        ({"clean": ""}, "the clean is empty"),
        ({"receivers": ("logits", "logits")}, "receivers = logits, logits: name each once"),
    ],
)
def test_what_cannot_be_asked(fields: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words) as caught:
        replace(PLANTED, **fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"corrupted": "axcdeabx"}, "the clean prompt has 7 tokens and the corrupted one 8"),
        ({"right": "yes"}, "'yes' is 'y' .* one token is needed"),
        ({"right": "e"}, "--right and --wrong are both 'e': name two tokens"),
        ({"receivers": ("L1",)}, "receiver 'L1' is none"),
    ],
)
def test_what_the_model_cannot_answer_is_said_in_one_line(fields: dict[str, Any], words: str, lab: Lab):
    with pytest.raises(UsageError, match=words) as caught:
        lab.run(replace(PLANTED, **fields))
    assert "\n" not in str(caught.value)
