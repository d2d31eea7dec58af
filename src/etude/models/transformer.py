"""What every live model is: tokens in, scores out, and between them the vectors that the unembedding reads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.models.cache import Cache
from etude.nn.block import Block
from etude.nn.embedding import Embedding
from etude.nn.feedforward import FeedForward
from etude.nn.linear import linear
from etude.nn.norm import LayerNorm, RMSNorm
from etude.nn.taps import Tap, Tappable
from etude.nn.view import View

Shape = TypeVar("Shape", bound=Architecture)


class Transformer(Tappable, Generic[Shape]):
    """Base of the live models. A model gives `hidden` and `unembedding`; its scores are the one times the other, so
    that a loss can be had without the scores of every token ever being held at once.

    Weights are unset until `initialise` or `load_model` sets them; `spec.build` is the usual way in.

    Attributes:
        spec: what decides its shape.
        vocabulary: how many tokens it knows.
        recompute: whether activations inside the layers are made again during the backward pass instead of kept:
            less memory for a third more work. Off while anybody watches, see `Tappable.watchers`.
        hidden: from tokens [B T], and by keyword what else the model is given, to what the unembedding reads [B T D];
            for a classifier [B D].
        unembedding: returns W [D V] and b [V] or None.
    """

    spec: Shape
    logits: Tap
    hidden: Callable[..., Tensor]
    unembedding: Callable[[], tuple[Tensor, Tensor | None]]

    def __init__(self, spec: Shape, vocabulary: int) -> None:
        super().__init__()
        if vocabulary < 1:
            raise UsageError(f"vocabulary = {vocabulary} is too small: it is 1 or more")
        self.spec, self.vocabulary, self.recompute = spec, vocabulary, False

    def forward(self, tokens: Int[Tensor, "B T"], *, last: int = 0, **given: Any) -> Float[Tensor, "*B V"]:
        """Return the scores of every token at each position [B T V], or of every class [B C].

        Args:
            tokens: the texts.
            last: of so many positions at the end alone; 0 of all.
            given: what else the model takes; see its `hidden`.

        Raises:
            UsageError: the tokens are not [B, T] whole numbers of the vocabulary, or the text is too long.
        """
        x = self.hidden(tokens, **given)
        return self.logits(linear(x[:, -last:] if last else x, *self.unembedding()))

    def cache(self) -> Cache:
        """Return what keeps the positions that one generation has read."""
        return Cache(self.spec.context)

    def grown(self, name: str) -> bool:
        """Return whether a weight is of a part that a model with the same trunk may lack, so that it begins anew where
        training starts from that model's weights."""
        return False

    def check_tokens(self, tokens: Tensor, past: int = 0) -> None:
        """Raise UsageError where tokens are not [B, T] whole numbers, or the text is too long.

        Args:
            tokens: the texts.
            past: how many positions came before, in earlier calls.
        """
        if not isinstance(tokens, Tensor):
            what = type(tokens).__name__
            raise UsageError(f"tokens are a tensor [B, T], not a {what}: for one text write torch.tensor([ids])")
        if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
            kind = str(tokens.dtype).removeprefix("torch.")
            raise UsageError(
                f"tokens are whole numbers of shape [B, T], not {kind} of {list(tokens.shape)}: for one text write"
                " torch.tensor([ids])"
            )
        self.spec.fits(past + tokens.shape[1])

    def check_steady(self) -> None:
        """Raise UsageError where the model draws what it drops, so that two runs of one text differ."""
        if self.training and self.spec.dropout:
            raise UsageError(f"the model drops out a share of {self.spec.dropout}: call its eval() first")

    def through(self, layers: nn.ModuleList, x: Tensor, view: View) -> Tensor:
        """Return the stream after layers, their activations kept or made again in the backward pass."""
        recompute = self.recompute and not self.watchers and torch.is_grad_enabled()
        for layer in layers:
            x = checkpoint(layer, x, view, use_reentrant=False) if recompute else layer(x, view)
        return x


def embedding(spec: Architecture, vocabulary: int, segments: int = 0, normed: bool = False) -> Embedding:
    """Return a model's embedding, to which rotary positions add nothing.

    Args:
        spec: the architecture.
        vocabulary: how many tokens there are.
        segments: how many parts of a text have a vector of their own.
        normed: whether the sum passes a norm.
    """
    added = spec.positions if spec.positions != "rotary" else "none"
    norm = norm_of(spec) if normed else None
    return Embedding(vocabulary, spec.width, spec.context, added, spec.scaled_embeddings, spec.dropout, segments, norm)


def blocks(spec: Architecture, count: int, *, causal: bool = True, cross: bool = False) -> nn.ModuleList:
    """Return the layers of a stack.

    Args:
        spec: the architecture.
        count: how many.
        causal: whether no position sees a later one.
        cross: whether each has cross-attention.
    """
    shapes = [spec.attention_shape(number, cross=True) if cross else None for number in range(count)]
    reads = [spec.attention.build(shape) if shape else None for shape in shapes]
    return nn.ModuleList(block(spec, number, reads[number], causal=causal) for number in range(count))


def block(spec: Architecture, number: int, cross: nn.Module | None = None, *, causal: bool = True) -> Block:
    """Return one layer of a stack.

    Args:
        spec: the architecture.
        number: of the layer, from 0.
        cross: its cross-attention, where it has one.
        causal: whether no position sees a later one.
    """
    feed_forward = None
    if not spec.attention_only:
        feed_forward = FeedForward(spec.width, spec.feedforward, spec.activation, spec.biases, spec.gated)
    return Block(
        spec.width,
        spec.attention.build(spec.attention_shape(number, causal=causal)),
        feed_forward,
        norm_of(spec),
        spec.norm_at == "post",
        spec.dropout,
        cross,
        spec.parallel,
    )


def norm_of(spec: Architecture) -> partial[nn.Module] | None:
    """Return what makes one of an architecture's norms, or None where it has none."""
    if spec.norm == "none":
        return None
    if spec.norm == "rms":
        return partial(RMSNorm, spec.width, spec.norm_epsilon)
    return partial(LayerNorm, spec.width, spec.norm_epsilon, spec.biases)


def final_norm(spec: Architecture) -> nn.Module:
    """Return the norm at the end of a stack, which pre-norm has, or what stands for none."""
    make = norm_of(spec) if spec.norm_at == "pre" else None
    return make() if make else nn.Identity()
