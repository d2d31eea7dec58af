"""What every method of compression owes, asked of each file in the family's folder: fitted to what a real compression
is fitted to, at a place where it can stand."""

from __future__ import annotations

import functools
import itertools
import json
import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from etude.compress.codec import Codec, Text
from etude.compress.component import input_of
from etude.compress.material import Material
from etude.compress.methods.base import Method
from etude.compress.recipes import Compress
from etude.compress.saved import load_compressor
from etude.compress.work import material_of
from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.lab import Lab
from etude.core.run import Draft, Run
from etude.core.site import Site
from etude.core.spec import field_types
from etude.evals.recording import as_vectors
from etude.models.architectures.decoder import Decoder
from etude.models.decoder_model import DecoderModel
from etude.models.load import load
from etude.nn.look import look
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

FAMILY = Family("compress/methods")

ARGUMENTS: dict[str, dict[str, Any]] = {
    "autoencoder": {"steps": 20, "batch": 64},
    "beta-vae": {"steps": 20, "batch": 64},
    "denoising": {"steps": 20, "batch": 64},
    "infovae": {"steps": 20, "batch": 64},
    "relu-sae": {"steps": 40, "batch": 64},
    "topk-sae": {"steps": 40, "batch": 64},
    "transcoder": {"steps": 40, "batch": 64},
    "residual-quantisation": {"codes": 8},
}
"""What makes a member quick; those left out are."""

SIZES = {"bits": (2, 4, 8), "kept": (25, 50, 75)}
"""Sizes that are tried, by what they count; of all else 2, 4 and 8."""

TOO_LARGE = 10_001
"""No width, no number of recorded tokens or of numbers in a weight, and no percentage comes to it here."""

MODEL = Train(
    data=Tokens(Fable(stories=40), Byte()),
    model=Decoder(layers=1, width=16, heads=4, feedforward=32, context=32),
    batch=8,
    steps=10,
    evaluate_every=0,
    evaluate_tokens=320,
)


def sizes(name: str) -> tuple[int, int, int]:
    return SIZES.get(kind_of(name).counts, (2, 4, 8))


def kind_of(name: str) -> type[Method]:
    return cast(type[Method], FAMILY.member(name))


def made(name: str, size: int | None = None) -> Method:
    """Return a member with quick choices and a size, the middle one where none is given."""
    kind = kind_of(name)
    sized = {kind.sized: sizes(name)[1] if size is None else size} if kind.sized else {}
    return kind(**{**ARGUMENTS.get(name, {}), **sized})


def place(method: Method) -> Site:
    """Return a site where a method can stand."""
    found = (method.at(Site("L0.mlp.out")), method.at(Site("L0.attn.out")))
    return next(site for site in found if site is not None)


def squeezed(method: Method, **choices: Any) -> Compress:
    return Compress(MODEL, place(method), method, fit_tokens=640, evaluate_tokens=320, sequences=4, **choices)


class Given(NamedTuple):
    """What a codec is put in place of: a weight, or activations of held-out text; and the text, if it reads that."""

    x: Tensor
    text: tuple[Text, ...]

    def as_type(self, dtype: torch.dtype) -> Given:
        return Given(self.x.to(dtype), self.text)

    def token(self, window: int, at: int) -> Given:
        """Return one token by itself."""
        return Given(self.x[window, at], tuple(Text(*(part[window, at] for part in text)) for text in self.text))

    def through(self, codec: Codec) -> Tensor:
        return codec(self.x, *self.text)


class Bench:
    """A small trained model, what methods are fitted to in it, and what came of them, each made once."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder, self.drafts = lab, folder, 0
        self.model = cast(DecoderModel, load(lab.run(MODEL))[0])
        examples = TextData.open(lab.run(MODEL.data)).examples("valid", MODEL.context)
        self.tokens = torch.from_numpy(examples.batch(np.arange(5)).inputs)
        self.codec, self.run = functools.cache(self._codec), functools.cache(self._run)

    def material(self, method: Method) -> Material:
        """Return the very material that a compression is fitted to."""
        recipe = squeezed(method)
        inputs: Any = {one: self.lab.run(one) for one in recipe.plan({MODEL: self.lab.run(MODEL)})}
        return material_of(recipe, place(method), self.model, inputs)

    def fit(self, method: Method, seed: int) -> Codec:
        self.drafts += 1
        draft = Draft(self.folder / f"{method.name}-{self.drafts}.partial", squeezed(method).resolve())
        return method.fit(self.material(method), seed, draft).eval()

    def _codec(self, name: str, size: int | None = None, seed: int = 0) -> Codec:
        return self.fit(made(name, size), seed)

    def _run(self, name: str) -> Run:
        return self.lab.run(squeezed(made(name)))

    def given(self, name: str) -> Given:
        method = made(name)
        site = place(method)
        if method.target == "weight":
            return Given(self.material(method).values.clone(), ())
        read = input_of(site, MODEL.model) if method.target == "component" else site
        x = as_vectors(read, look(self.model, self.tokens, read)[read])
        return Given(x, (Text.of(self.tokens),) if self.codec(name).reads_text else ())


@pytest.fixture(params=FAMILY.names(), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    lab = Lab(tmp_path_factory.mktemp("lab"), threads=1, quiet=True)
    return Bench(lab, tmp_path_factory.mktemp("fits"))


def sized_only(name: str) -> Method:
    method = made(name)
    if not method.sized:
        pytest.skip("it has no size")
    return method


def reads_tokens(name: str) -> Method:
    method = made(name)
    if method.target == "weight":
        pytest.skip("it compresses a weight, and no token passes it")
    return method


def test_the_family_has_its_members() -> None:
    assert {"infovae", "kmeans", "mean", "pca", "random", "svd", "zero"} <= set(FAMILY.names())
    assert {"experts", "prune-heads", "prune-neurons", "prune-weights"} <= set(FAMILY.names())
    assert FAMILY.base() is Method


# The codec


def test_shape_and_dtype_are_kept(name: str, bench: Bench) -> None:
    """A component's output has its own width; every number is finite, and the same each time."""
    codec, given = bench.codec(name), bench.given(name)
    width = bench.material(made(name)).values.shape[-1]
    for dtype in (torch.float32, torch.float64, torch.float16):
        left = given.as_type(dtype).through(codec)
        assert left.shape == (*given.x.shape[:-1], width) and left.dtype == dtype
        assert left.isfinite().all() and not left.requires_grad
    assert torch.equal(given.through(codec), given.through(codec))
    assert torch.equal(given.x, bench.given(name).x)  # and what it read is as it was


def test_a_token_is_compressed_by_itself(name: str, bench: Bench) -> None:
    reads_tokens(name)
    codec, given = bench.codec(name), bench.given(name)
    whole = given.through(codec)
    for window, at in ((0, 0), (2, 3), (4, 31)):
        torch.testing.assert_close(given.token(window, at).through(codec), whole[window, at], atol=1e-5, rtol=1e-5)


def test_what_is_decoded_is_the_code(name: str, bench: Bench) -> None:
    codec, given = bench.codec(name), bench.given(name)
    code = codec.encode(given.x, *given.text)
    assert torch.equal(codec.decode(code), given.through(codec))
    dimensions = codec.cost().dimensions
    if made(name).target == "activation" and made(name).counts == "dimensions" and dimensions is not None:
        assert code.shape == (*given.x.shape[:-1], dimensions)


def test_saved_and_loaded(name: str, bench: Bench, tmp_path: Path) -> None:
    method, codec, given = made(name), bench.codec(name), bench.given(name)
    save_file({key: value.clone() for key, value in codec.state_dict().items()}, tmp_path / "codec.safetensors")
    again = method.codec(load_file(tmp_path / "codec.safetensors"))
    assert torch.equal(given.through(again), given.through(codec))
    assert torch.equal(again.encode(given.x, *given.text), codec.encode(given.x, *given.text))
    assert again.cost() == codec.cost() and again.reads_text == codec.reads_text
    assert not given.through(again).requires_grad


# What it costs


def test_the_cost_is_that_of_the_size(name: str, bench: Bench) -> None:
    """What passes is no wider than what it codes, and a larger size spends more bits on a token or in store."""
    method, given = made(name), bench.given(name)
    codecs = [bench.codec(name, size) for size in (sizes(name) if method.sized else (None, None))]
    costs = [codec.cost() for codec in codecs]
    for codec, cost in zip(codecs, costs, strict=True):
        # What passes has a price, but for a weight that is only stored in less.
        assert cost.bits is not None or method.target == "weight"
        assert cost.bits is None or (cost.bits >= 0 and math.isfinite(cost.bits))
        assert cost.dimensions is None or 0 <= cost.dimensions <= max(given.x.shape[-1], sizes(name)[-1])
        assert 0 <= cost.parameters <= sum(tensor.numel() for tensor in codec.state_dict().values())
        assert cost.flops >= 0 and cost.to_json()["storage"] >= 0
    assert json.loads(json.dumps(costs[0].to_json())) == costs[0].to_json()
    if method.sized:
        spent = [(cost.bits or 0.0, cost.to_json()["storage"]) for cost in costs]
        for axis in zip(*spent, strict=True):
            assert sorted(axis) in (list(axis), list(axis)[::-1])
        assert all(less[0] < more[0] or less[1] < more[1] for less, more in itertools.pairwise(spent))
    else:
        assert costs[0] == costs[1]


def test_numbers_that_pass_cost_their_bits(name: str, bench: Bench) -> None:
    method, cost = made(name), bench.codec(name).cost()
    if method.target == "weight" or cost.dimensions is None:
        assert cost.bits is None or cost.dimensions is None or cost.bits == 32 * cost.dimensions
    elif method.counts in ("dimensions", "kept"):
        assert cost.bits == 32 * cost.dimensions
    else:  # which latents or which expert it is takes bits too
        assert cost.bits is not None and cost.bits >= 32 * cost.dimensions


def test_a_size_says_what_it_counts_and_a_legend_what_it_is(name: str, bench: Bench) -> None:
    method = sized_only(name)
    assert method.label
    dimensions = bench.codec(name).cost().dimensions
    if method.counts == "dimensions":
        assert dimensions == method.size
    elif method.counts in ("codes", "bits"):
        assert dimensions is None
    elif method.counts == "kept" and method.target == "activation":
        assert dimensions == bench.given(name).x.shape[-1] * method.size / 100


def test_the_codec_fits_into_the_room_that_it_asks_for(name: str, bench: Bench) -> None:
    method = made(name)
    material = bench.material(method)
    held = sum(tensor.element_size() * tensor.numel() for tensor in bench.codec(name).state_dict().values())
    wide = 0 if material.inputs is None or method.target == "weight" else material.inputs.shape[1]
    widest = max(wide, *(material.values.shape if method.target == "weight" else material.values.shape[1:]))
    assert held <= method.disk_bytes(widest) + 64


def test_a_code_of_numbers_is_held_in_fewer_bits_and_no_other_is(name: str, bench: Bench) -> None:
    method, codec = made(name), bench.codec(name)
    dimensions = None if method.target == "weight" or codec.reads_text else codec.cost().dimensions
    assert method.rounds is bool(dimensions)
    if dimensions is None:
        with pytest.raises(UsageError, match=r"^precision = 8: .* leave it at 32$"):
            bench.lab.run(squeezed(method, precision=8))
    else:
        cost, whole = bench.lab.run(squeezed(method, precision=8)).result["cost"], bench.run(name).result["cost"]
        assert whole["bits"] - cost["bits"] == pytest.approx(24 * whole["dimensions"])
        assert cost["dimensions"] == whole["dimensions"]


# Its size


def test_the_size_is_a_field(name: str) -> None:
    kind = kind_of(name)
    if kind.sized:
        assert field_types(kind)[kind.sized] is int
        assert made(name, 7).size == 7
    else:
        assert made(name).size == 0
    assert {f.name for f in fields(kind)} >= ({kind.sized} if kind.sized else set())


def test_an_impossible_size_is_one_line(name: str, bench: Bench) -> None:
    method = sized_only(name)
    with pytest.raises(UsageError, match=rf"{name}\.{method.sized} = 0") as small:
        replace(method, **{method.sized: 0})
    with pytest.raises(UsageError, match=rf"{name}\.{method.sized} = {TOO_LARGE} does not fit.* choose ") as large:
        bench.fit(replace(method, **{method.sized: TOO_LARGE}), 0)
    assert "\n" not in f"{small.value}{large.value}"


@pytest.mark.parametrize("width", [16, 768])
def test_a_ladder_rises_through_sizes_that_there_are(name: str, width: int) -> None:
    rungs = kind_of(name)().ladder(width)
    if not kind_of(name).sized:
        assert rungs == (0,)
        return
    assert rungs and list(rungs) == sorted(set(rungs)) and rungs[0] >= 1
    assert [replace(kind_of(name)(), **{kind_of(name).sized: size}).size for size in rungs] == list(rungs)
    assert kind_of(name).counts != "dimensions" or rungs[-1] < width
    assert kind_of(name).counts != "kept" or rungs[-1] < 100


# Choices


def test_a_seed_decides_the_fit(name: str, bench: Bench) -> None:
    """And another seed gives another codec where the method says so, and nowhere else."""
    method = made(name)
    torch.manual_seed(1)
    first = bench.fit(method, 3).state_dict()
    torch.manual_seed(2)
    again, other = bench.fit(method, 3).state_dict(), bench.fit(method, 4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    same = all(first[key].shape == other[key].shape and torch.equal(first[key], other[key]) for key in first)
    assert same is not method.drawn


def test_choices_survive_json(name: str) -> None:
    method = made(name)
    assert Method.from_json(json.loads(json.dumps(method.to_json()))) == method
    assert method.fingerprint() == Method.from_json(method.to_json()).fingerprint()


def test_every_field_says_what_it_is(name: str) -> None:
    kind = kind_of(name)
    assert kind.__doc__
    assert all(f"{field.name}: " in kind.__doc__ for field in fields(kind))


# In a model


def test_it_works_in_a_model(name: str, bench: Bench) -> None:
    method, run = made(name), bench.run(name)
    assert (run.result["method"], run.result["size"]) == (name, method.size)
    harm = run.result["harm"]
    assert all(math.isfinite(harm[key]["mean"]) for key in ("loss", "increase", "kl", "accuracy"))
    assert harm["kl"]["mean"] >= 0 and harm["explained"] <= 1
    compressor = load_compressor(run)
    assert compressor.cost().to_json() == run.result["cost"]
    (part,) = compressor.parts.values()
    assert (part.reads is not None) == (method.target == "component")
    assert run.files["codec.safetensors"]["bytes"] < 64_000


@torch.no_grad()
def test_a_model_says_the_same_with_it_placed_or_installed(name: str, bench: Bench) -> None:
    compressor, clean = load_compressor(bench.run(name)), bench.model(bench.tokens)
    with compressor.placed(bench.model):
        placed = bench.model(bench.tokens)
    assert torch.equal(compressor.installed(bench.model)(bench.tokens), placed)
    assert not torch.equal(placed, clean) and torch.equal(bench.model(bench.tokens), clean)


def test_no_code_that_trains_is_needed_to_open_one(bench: Bench) -> None:
    """In an interpreter that has loaded nothing else, one after the other."""
    program = """
import sys
from etude.compress.saved import load_compressor
for folder in sys.argv[1:]:
    load_compressor(folder)
    trains = [name for name in sys.modules if name == "etude.train" or name.startswith("etude.train.")]
    if trains:
        sys.exit(f"{folder} loads {', '.join(sorted(trains))}")
"""
    folders = {str(bench.run(name).path): name for name in FAMILY.names()}
    done = subprocess.run([sys.executable, "-c", program, *folders], capture_output=True, text=True, check=False)
    assert not done.returncode, (folders.get(done.stderr.split(" ")[0]), done.stderr)


def test_the_other_kind_of_site_is_refused(name: str) -> None:
    method = made(name)
    site = "L0.attn.out" if method.target == "weight" else "L0.attn.W_O"
    with pytest.raises(
        UsageError, match=rf"^{name} compresses an? \w+ and {site} is an? \w+; choose a site such as L0"
    ):
        Compress(MODEL, site, method)


def test_a_site_where_it_stands_is_one_that_it_takes(name: str) -> None:
    method = made(name)
    found = [method.at(Site(f"L3.{component}.out")) for component in ("attn", "mlp")]
    assert any(found) and all(site is None or site.layer == 3 for site in found)
    assert all(site.is_weight == (method.target == "weight") for site in found if site is not None)
