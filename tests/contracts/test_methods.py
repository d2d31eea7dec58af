"""What every method of compression owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from etude.compress.codec import Codec
from etude.compress.material import Material
from etude.compress.methods.base import Method
from etude.compress.recipes import Compress
from etude.compress.work import load_codec
from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.lab import Lab
from etude.core.run import Draft
from etude.core.site import Site
from etude.core.spec import field_types
from etude.models.architectures.decoder import Decoder
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

FAMILY = Family("compress/methods")
WIDTH = 12

ARGUMENTS: dict[str, dict[str, Any]] = {"infovae": {"steps": 20, "batch": 64}}
"""What makes a member quick; those left out are."""

MODEL = Train(
    data=Tokens(Fable(stories=40), Byte()),
    model=Decoder(layers=1, width=16, heads=2, feedforward=32, context=32),
    steps=0,
    evaluate_tokens=320,
)


def made(name: str, size: int = 4) -> Method:
    kind = cast(type[Method], FAMILY.member(name))
    return kind(**ARGUMENTS.get(name, {}), **({kind.sized: size} if kind.sized else {}))


def correlated(n: int = 300, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, WIDTH, generator=draw) @ torch.randn(WIDTH, WIDTH, generator=draw) + 3


def material(method: Method) -> Material:
    """Return what a method is fitted to: activations, or a weight, with what the weight or the component reads."""
    read = correlated(seed=2) if method.target == "component" or method.reads_input else None
    if method.target == "weight":
        inputs = None if read is None else torch.cat((read, read), 1)[:, :20]
        return Material(correlated(20), Site("L0.attn.W_O"), inputs)
    return Material(correlated(), Site("L0.mlp.out"), read, heads=3)


def fitted(method: Method, folder: Path, seed: int = 0) -> Codec:
    return method.fit(material(method), seed, Draft(folder / f"{method.name}-{seed}.partial", MODEL.resolve()))


def read(method: Method) -> Tensor:
    """Return what the codec is put in place of: the weight itself, or activations that it was not fitted to."""
    return correlated(20) if method.target == "weight" else correlated(60, seed=1).reshape(5, 12, WIDTH)


@pytest.fixture(params=FAMILY.names(), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), threads=1, quiet=True)


def test_the_family_has_its_members() -> None:
    assert {"infovae", "kmeans", "mean", "pca", "random", "svd", "zero"} <= set(FAMILY.names())
    assert FAMILY.base() is Method


def test_shape_and_dtype_are_kept(name: str, tmp_path: Path) -> None:
    method = made(name)
    codec, x = fitted(method, tmp_path), read(method)
    for given in (x, x.double(), x.half()):
        left = codec(given)
        assert left.shape == given.shape and left.dtype == given.dtype
        assert left.isfinite().all()
        assert not left.requires_grad
    assert torch.equal(codec(x), codec(x))
    assert torch.equal(x, read(method))  # and what it read is as it was


def test_a_token_is_compressed_by_itself(name: str, tmp_path: Path) -> None:
    method = made(name)
    if method.target == "weight":
        pytest.skip("it reads no tokens")
    codec, x = fitted(method, tmp_path), read(method)
    torch.testing.assert_close(codec(x)[2, 3], codec(x[2, 3]), atol=1e-5, rtol=1e-5)


def test_what_is_decoded_is_the_code(name: str, tmp_path: Path) -> None:
    method = made(name)
    codec, x = fitted(method, tmp_path), read(method)
    code = codec.encode(x)
    assert torch.equal(codec.decode(code), codec(x))
    dimensions = codec.cost().dimensions
    if method.target == "activation" and dimensions is not None:
        assert code.shape == (*x.shape[:-1], dimensions)


def test_the_cost_is_that_of_the_size(name: str, tmp_path: Path) -> None:
    small, large = (fitted(made(name, size), tmp_path / str(size)).cost() for size in (2, 8))
    held = sum(t.numel() for t in fitted(made(name, 8), tmp_path / "again").state_dict().values())
    for cost in (small, large):
        assert cost.bits is not None and 0 <= cost.bits <= 32 * WIDTH and math.isfinite(cost.bits)
        assert cost.dimensions is None or (0 <= cost.dimensions <= WIDTH and cost.bits == 32 * cost.dimensions)
        assert 0 <= cost.parameters <= held or cost is small
    assert json.loads(json.dumps(large.to_json())) == large.to_json()
    if made(name).sized:
        assert (
            small.bits is not None
            and large.bits is not None
            and small.bits < large.bits
            and small.parameters < large.parameters
        )
    else:
        assert small == large


def test_the_size_is_a_field(name: str) -> None:
    kind = cast(type[Method], FAMILY.member(name))
    if kind.sized:
        assert field_types(kind)[kind.sized] is int
        assert made(name, 7).size == 7
    else:
        assert made(name).size == 0
    assert {f.name for f in fields(kind)} >= ({kind.sized} if kind.sized else set())


def test_a_size_says_what_it_counts_and_a_legend_what_it_is(name: str, tmp_path: Path) -> None:
    kind = cast(type[Method], FAMILY.member(name))
    if not kind.sized:
        pytest.skip("it has no size")
    assert kind.label
    assert fitted(made(name, 3), tmp_path).cost().dimensions == (3 if kind.counts == "dimensions" else None)


def test_the_codec_fits_into_the_room_that_it_asks_for(name: str, tmp_path: Path) -> None:
    method = made(name)
    held = sum(4 * tensor.numel() for tensor in fitted(method, tmp_path).state_dict().values())
    assert held <= method.disk_bytes(20 if method.target == "weight" else WIDTH) + 64


def test_an_impossible_size_is_one_line(name: str, tmp_path: Path) -> None:
    method = made(name)
    if not method.sized:
        pytest.skip("it has no size")
    with pytest.raises(UsageError, match=rf"{name}\.{method.sized} = 0") as small:
        replace(method, **{method.sized: 0})
    with pytest.raises(UsageError, match=rf"{name}\.{method.sized} = 301 does not fit.* choose 1 to ") as large:
        fitted(replace(method, **{method.sized: 301}), tmp_path)
    assert "\n" not in f"{small.value}{large.value}"


def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    method = made(name)
    codec, x = fitted(method, tmp_path), read(method)
    save_file({key: value.clone() for key, value in codec.state_dict().items()}, tmp_path / "codec.safetensors")
    again = method.codec(load_file(tmp_path / "codec.safetensors"))
    assert torch.equal(again(x), codec(x)) and torch.equal(again.encode(x), codec.encode(x))
    assert again.cost() == codec.cost()
    assert not again(x).requires_grad


def test_a_seed_decides_the_fit(name: str, tmp_path: Path) -> None:
    method = made(name)
    torch.manual_seed(1)
    first = fitted(method, tmp_path / "a", seed=3).state_dict()
    torch.manual_seed(2)
    again = fitted(method, tmp_path / "b", seed=3).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_choices_survive_json(name: str) -> None:
    method = made(name)
    assert Method.from_json(json.loads(json.dumps(method.to_json()))) == method
    assert method.fingerprint() == Method.from_json(method.to_json()).fingerprint()


def test_every_field_says_what_it_is(name: str) -> None:
    kind = FAMILY.member(name)
    assert kind.__doc__
    assert all(f"{field.name}: " in kind.__doc__ for field in fields(kind))


def test_it_works_in_a_model(name: str, lab: Lab) -> None:
    method = made(name)
    site = "L0.attn.W_O" if method.target == "weight" else "L0.attn.out"
    recipe = Compress(MODEL, site, method, fit_tokens=640, evaluate_tokens=320)
    run = lab.run(recipe)
    assert (run.result["method"], run.result["size"]) == (name, method.size)
    harm = run.result["harm"]
    assert all(math.isfinite(harm[key]["mean"]) for key in ("loss", "increase", "kl", "accuracy"))
    assert harm["kl"]["mean"] >= 0 and harm["explained"] <= 1
    codec = load_codec(recipe, run)
    assert codec.cost().to_json() == run.result["cost"]
    assert run.files["codec.safetensors"]["bytes"] < 64_000


def test_the_other_kind_of_site_is_refused(name: str) -> None:
    method = made(name)
    site = "L0.attn.out" if method.target == "weight" else "L0.attn.W_O"
    with pytest.raises(
        UsageError, match=rf"^{name} compresses an? \w+ and {site} is an? \w+; choose a site such as L0"
    ):
        Compress(MODEL, site, method)
