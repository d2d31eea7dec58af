"""µP: what it says of scales and starting weights, and the coordinate check (Yang et al. 2022, appendix D.1)."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from etude.models.architectures.decoder import Decoder
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.train.optimisers.adamw import AdamW

V, T, BASE = 50, 16, 32
WIDTHS = (32, 128, 512)
STEPS, RATE = 4, 2e-3


def built(width: int, mup: bool) -> Transformer:
    spec = Decoder(width=width, heads=4, feedforward=4 * width, context=T, layers=2, mup_base=BASE if mup else 0)
    return spec.build(V, seed=1)


@pytest.mark.parametrize("width", WIDTHS)
def test_scales_are_those_of_table_8(width: int) -> None:
    model = built(width, mup=True)
    ratio = width / BASE
    attention = model.spec.attention_shape()
    assert attention.scale == pytest.approx(1 / math.sqrt(BASE / 4) / ratio)
    assert model.spec.logit_scale == pytest.approx(1 / ratio)
    spreads = {name: model.get_parameter(name).std().item() for name in ("embed.W_E", "unembed.W_U")}
    assert spreads == pytest.approx(dict.fromkeys(spreads, 0.02), rel=0.1)
    assert model.get_parameter("layers.0.mlp.W_in").std().item() == pytest.approx(0.02 / ratio**0.5, rel=0.05)


def sizes(width: int, mup: bool) -> dict[str, float]:
    """Return how far the coordinates of some activations have moved, on average, after a few steps of Adam."""
    model, generator = built(width, mup), torch.Generator().manual_seed(0)
    optimiser = AdamW(weight_decay=0.0).build(model)
    sites = ["L1.resid.post", "L1.attn.scores", "logits"]
    probe = torch.randint(V, (8, T), generator=generator)
    before = look(model, probe, sites)
    for _ in range(STEPS):
        tokens = torch.randint(V, (8, T + 1), generator=generator) % 7  # something that can be learned
        for group in optimiser.param_groups:
            group["lr"] = RATE * group.get("multiplier", 1.0)
        optimiser.zero_grad()
        F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimiser.step()
    after = look(model, probe, sites)
    return {site: (after[site] - before[site]).abs().mean().item() for site in sites}


def test_the_coordinate_check() -> None:
    standard, mup = ([sizes(width, mup) for width in WIDTHS] for mup in (False, True))
    for site in standard[0]:
        grows, holds = (found[-1][site] / found[0][site] for found in (standard, mup))
        print(f"{site}: from width {WIDTHS[0]} to {WIDTHS[-1]} what moved grew {grows:.1f} times, under µP {holds:.2f}")
        assert holds < 2, "no coordinate moves further in a wider model"
        assert grows > 4, "as it does under the standard parametrisation"
