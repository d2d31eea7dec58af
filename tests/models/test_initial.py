"""Starting weights: decided by the seed, and of the sizes that their sources give."""

from __future__ import annotations

import pytest
import torch

from etude.core.errors import UsageError
from etude.models.architectures.decoder import Decoder


def test_the_seed_alone_decides(spec: Decoder) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = spec.build(11, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second, other = spec.build(11, seed=3).state_dict(), spec.build(11, seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if ".W_" in name)
    assert torch.equal(spec.build(11).state_dict()["embed.W_E"], spec.build(11, seed=0).state_dict()["embed.W_E"])


def test_models_that_share_a_part_start_with_the_same_weights_in_it() -> None:
    whole, bare = (Decoder(layers=1, feedforward=f, biases=False).build(50).state_dict() for f in (512, 0))
    shared = bare.keys() - {"layers.0.attn.W_O"}  # scaled by the number of writes
    assert all(torch.equal(bare[name], whole[name]) for name in shared)


@pytest.mark.parametrize(
    ("fields", "name", "deviation"),
    [
        ({}, "embed.W_E", 0.02),
        ({}, "layers.0.attn.W_Q", 0.02),
        ({}, "layers.1.mlp.W_in", 0.02),
        ({}, "layers.1.attn.W_O", 0.02 / 8**0.5),
        ({}, "layers.0.mlp.W_out", 0.02 / 8**0.5),
        ({"feedforward": 0}, "layers.0.attn.W_O", 0.02 / 4**0.5),
        ({"spread": 0.07}, "layers.0.attn.W_Q", 0.07),
        ({"spread": 0.07}, "layers.0.mlp.W_out", 0.07 / 8**0.5),
        ({"norm_at": "post"}, "embed.W_E", 128**-0.5),
        ({"norm_at": "post"}, "layers.0.attn.W_Q", (2 / 256) ** 0.5),
        ({"norm_at": "post"}, "layers.0.attn.W_O", (2 / 256) ** 0.5),
        ({"norm_at": "post"}, "layers.0.mlp.W_out", (2 / 640) ** 0.5),
        ({"norm": "none"}, "layers.0.mlp.W_in", (2 / 640) ** 0.5),
    ],
)
def test_deviations(fields: dict[str, object], name: str, deviation: float) -> None:
    model = Decoder(layers=4, **fields).build(200)  # type: ignore[arg-type]
    weight = model.get_parameter(name)
    assert weight.std().item() == pytest.approx(deviation, rel=0.03)
    assert abs(weight.mean().item()) < 0.05 * deviation


@pytest.mark.parametrize(("fields", "message"), [
    ({"spread": 0.0}, "spread = 0.0 is not above 0"),
    ({"spread": 0.1, "norm": "none"}, "spread = 0.1 says nothing without a norm before each part"),
    ({"spread": 0.1, "norm_at": "post"}, "leave it at 0.02"),
])  # fmt: skip
def test_a_spread_that_decides_nothing_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Decoder(**fields)  # type: ignore[arg-type]


def test_biases_start_at_zero_and_norms_at_one(spec: Decoder) -> None:
    for name, weight in spec.build(11).named_parameters():
        last = name.rpartition(".")[2]
        if last.startswith("b"):
            assert not weight.any()
        if last == "w":
            assert (weight == 1).all()
