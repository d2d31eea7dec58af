"""What a component, or a weight, reads: checked by computing what it gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from etude.compress.component import input_of
from etude.compress.linear import as_matrix
from etude.core.errors import UsageError
from etude.core.site import Site
from etude.evals.recording import as_vectors
from etude.models.architectures.decoder import Decoder
from etude.nn.look import look

SHAPES: dict[str, dict[str, Any]] = {
    "pre-norm": {},
    "post-norm": {"norm_at": "post"},
    "parallel": {"parallel": True},
    "without norms": {"norm": "none"},
    "grouped and gated": {"kv_heads": 1, "gated": True, "norm": "rms", "positions": "rotary"},
    "attention-only": {"feedforward": 0},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_weight_times_what_it_reads_is_what_it_gives(shape: str) -> None:
    spec = Decoder(**{"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "context": 12, **SHAPES[shape]})
    model, tokens = spec.build(40, seed=0), torch.arange(24).reshape(2, 12) % 40
    gives = {"attn.W_Q": "attn.q", "attn.W_K": "attn.k", "attn.W_V": "attn.v", "attn.W_O": "attn.out"}
    if spec.feedforward:
        gives |= {"mlp.W_in": "mlp.pre", "mlp.W_out": "mlp.out"}
    for weight, output in gives.items():
        site = Site(f"L1.{weight}")
        reads = input_of(site, spec)
        seen = look(model, tokens, [reads, f"L1.{output}"])
        x, y = as_vectors(reads, seen[reads]), as_vectors(f"L1.{output}", seen[f"L1.{output}"])
        matrix = as_matrix(site, model.get_parameter(site.path).detach())
        owner, name = site.path.rsplit(".W_", 1)
        bias = dict(model.named_parameters()).get(f"{owner}.b_{name}")
        given = x @ matrix + (0 if bias is None else bias.detach().flatten())
        torch.testing.assert_close(given, y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_component_reads_what_its_first_weight_reads(shape: str) -> None:
    spec = Decoder(**{"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "context": 12, **SHAPES[shape]})
    assert input_of(Site("L1.attn.out"), spec) == input_of(Site("L1.attn.W_Q"), spec)
    if spec.feedforward:
        assert input_of(Site("L1.mlp.out"), spec) == input_of(Site("L1.mlp.W_in"), spec)


@pytest.mark.parametrize("site", ["L0.resid.post", "L0.attn.z", "embed.out", "final_norm.out", "logits"])
def test_what_no_one_component_writes_is_refused(site: str) -> None:
    with pytest.raises(UsageError, match=f"{site} is not written by one component"):
        input_of(Site(site), Decoder(layers=1, width=16, heads=2))
