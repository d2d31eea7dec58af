"""The live decoder: the parts of `etude.nn`, put together as its spec says."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from etude.core.errors import UsageError
from etude.models.decoder import Decoder
from etude.nn.block import Block
from etude.nn.embedding import Embedding, Unembedding
from etude.nn.feedforward import FeedForward
from etude.nn.linear import linear
from etude.nn.norm import LayerNorm, RMSNorm
from etude.nn.taps import Tap, Tappable


class DecoderModel(Tappable):
    """A decoder-only transformer from tokens to logits.

    Its weights are unset until `initialise` or `load_model` sets them; `spec.build` is the usual way in.

    Attributes:
        spec: what decides its shape.
        vocabulary: how many tokens it knows.
        recompute: whether activations inside the layers are made again during the backward pass instead of kept:
            less memory for a third more work. Off while anybody watches, see `Tappable.watchers`.
    """

    def __init__(self, spec: Decoder, vocabulary: int) -> None:
        super().__init__()
        if vocabulary < 1:
            raise UsageError(f"vocabulary = {vocabulary} is too small: it is 1 or more")
        self.spec, self.vocabulary, self.recompute = spec, vocabulary, False
        added = spec.positions if spec.positions != "rotary" else "none"
        self.embed = Embedding(vocabulary, spec.width, spec.context, added, spec.scaled_embeddings, spec.dropout)
        self.layers = nn.ModuleList(_block(spec) for _ in range(spec.layers))
        norm = _norm(spec) if spec.norm_at == "pre" else None
        self.final_norm = norm() if norm else nn.Identity()
        self.unembed = None if spec.tied else Unembedding(spec.width, vocabulary)
        self.logits = Tap("B T V", V=vocabulary)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Return the scores of every next token, at each position.

        Raises:
            UsageError: the tokens are not [B, T] whole numbers of the vocabulary, or the text is too long.
        """
        if tokens.ndim != 2 or tokens.is_floating_point():
            raise UsageError(f"tokens are whole numbers of shape [B, T], not {tokens.dtype} {list(tokens.shape)}")
        self.spec.fits(tokens.shape[1])
        x = self.embed(tokens)
        recompute = self.recompute and not self.watchers and torch.is_grad_enabled()
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
        x = self.final_norm(x)
        return self.logits(self.unembed(x) if self.unembed is not None else linear(x, self.embed.W_E.mT))


def _block(spec: Decoder) -> Block:
    attention = spec.attention.build(spec.attention_shape)
    feed_forward = None
    if not spec.attention_only:
        feed_forward = FeedForward(spec.width, spec.feedforward, spec.activation, spec.biases)
    return Block(spec.width, attention, feed_forward, _norm(spec), spec.norm_at == "post", spec.dropout)


def _norm(spec: Decoder) -> partial[nn.Module] | None:
    """Return what makes one of the decoder's norms, or None where it has none."""
    if spec.norm == "none":
        return None
    if spec.norm == "rms":
        return partial(RMSNorm, spec.width, spec.norm_epsilon)
    return partial(LayerNorm, spec.width, spec.norm_epsilon, spec.biases)
