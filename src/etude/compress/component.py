"""What a component of a decoder reads, and what it takes: for compressors that stand in its place."""

from __future__ import annotations

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.models.architectures.base import Architecture

_READS = {"W_O": "attn.z", "W_out": "mlp.post"}
"""Weights that read what their own component made."""


def input_of(site: Site, spec: Architecture) -> Site:
    """Return the activation that the component behind an activation, or a weight, reads.

    Args:
        site: `L0.attn.out`, `L0.mlp.out`, or a matrix such as `L0.mlp.W_in`.
        spec: the model's shape.

    Raises:
        UsageError: what is read there is no one activation, as at a stream.
    """
    name = site.rpartition(".")[2]
    if site == "unembed.W_U":
        return Site(
            "final_norm.out" if _pre(spec) else f"L{spec.layers - 1}.resid.post" if spec.layers else "embed.out"
        )
    component = site.part.partition(".")[0]
    if site.layer is None or site.stack or component not in ("attn", "mlp") or not (name == "out" or site.is_weight):
        raise UsageError(
            f"{site} is not written by one component from what another activation holds; choose one such as L0.mlp.out"
        )
    if name in _READS:
        return Site(f"L{site.layer}.{_READS[name]}")
    if _pre(spec):
        return Site(f"L{site.layer}.{component}_norm.out")
    mid = component == "mlp" and not getattr(spec, "parallel", False)
    return Site(f"L{site.layer}.resid.{'mid' if mid else 'pre'}")


def _pre(spec: Architecture) -> bool:
    return spec.norm_at == "pre" and spec.norm != "none"
