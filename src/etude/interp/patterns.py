"""Attention patterns of any text."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.site import Site, match
from etude.models.encoder_decoder_model import EncoderDecoderModel
from etude.models.transformer import Transformer
from etude.nn.look import look


@torch.no_grad()
def attention_patterns(model: Transformer, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B L H T S"]:
    """Return what every head attends to: row t of a pattern sums to 1 over the positions s that t may see."""
    if not model.spec.layers:
        return torch.zeros(len(tokens), 0, model.spec.heads, *2 * tokens.shape[1:])
    return torch.stack(list(look(model, tokens, "L*.attn.pattern").values()), 1)


class TwoTexts(NamedTuple):
    """What the heads of an encoder-decoder attend to.

    Attributes:
        written: [B L H T T] of the decoder, among what it wrote before.
        across: [B L H T S] of the decoder, in the source.
        read: [B L H S S] of the encoder, in the source.
    """

    written: Float[Tensor, "B L H T T2"]
    across: Float[Tensor, "B L H T S"]
    read: Float[Tensor, "B M H S S2"]


@torch.no_grad()
def patterns_of_two(model: EncoderDecoderModel, tokens: Int[Tensor, "B T"], source: Int[Tensor, "B S"]) -> TwoTexts:
    """Return what every head of an encoder-decoder attends to.

    Args:
        model: in evaluation mode.
        tokens: the target so far, without padding.
        source: what it is translated from, without padding.
    """
    kinds = ("L*.attn.pattern", "L*.cross.pattern", "encoder.L*.attn.pattern")
    sites = [match(kind, model.sites()) for kind in kinds]
    seen: dict[Site, Tensor] = {}
    with model.tapped({site: _kept(seen, site) for group in sites for site in group}):
        model(tokens, source=source)
    return TwoTexts(*(torch.stack([seen[site] for site in group], 1) for group in sites))


def _kept(seen: dict[Site, Tensor], site: Site) -> Callable[[Tensor], Tensor]:
    def keep(pattern: Tensor) -> Tensor:
        seen[site] = pattern.clone()
        return pattern.clone()

    return keep
