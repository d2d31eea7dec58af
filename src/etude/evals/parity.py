"""Etude's parts beside PyTorch's own modules on the same weights: how far apart their outputs and gradients are.

PyTorch has its own account of each step from attention to a whole model, which knows nothing of ours. Where the two
agree to rounding, in double precision to thirteen digits or so, both compute what the papers say, or share a mistake.
Not covered: dropout, whose random numbers differ; what PyTorch has no module for, as rotary positions or RMS norm
(tests compare those with other libraries).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.recipes import Parity
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.nn.attention.base import AttentionShape
from etude.nn.block import Block
from etude.nn.dot_product import causal_mask, scaled_dot_product
from etude.nn.feedforward import FeedForward
from etude.nn.multi_head import MultiHead
from etude.nn.norm import LayerNorm
from etude.nn.rule import Rule
from etude.nn.view import View, not_padding

VOCABULARY, CLASSES = 53, 3


@dataclass(frozen=True)
class Sizes:
    """The sizes of everything that is compared.

    Attributes:
        width: D.
        heads: H of what has several.
        layers: of whole models.
        length: T; the source of the encoder-decoder is one longer.
        batch: B; each text after the first is shorter by one, so that there is padding.
    """

    width: int = 32
    heads: int = 4
    layers: int = 2
    length: int = 12
    batch: int = 3

    @property
    def present(self) -> Tensor:
        """[B, T] false where there is padding."""
        lengths = torch.arange(self.length, 0, -1)[: self.batch]
        return torch.arange(self.length) < lengths[:, None]

    def spec(self, kind: type[Architecture], **fields: Any) -> Any:
        """Return an architecture of these sizes."""
        feedforward, context = 2 * self.width, self.length + 1
        return kind(self.layers, self.width, self.heads, feedforward=feedforward, context=context, **fields)


class Pair(NamedTuple):
    """One comparison, ready to be made.

    Attributes:
        ours: gives outputs.
        theirs: gives the same from PyTorch's module.
        leaves: what gradients are taken of, ours and theirs.
    """

    ours: Callable[[], list[Tensor]]
    theirs: Callable[[], list[Tensor]]
    leaves: tuple[Tensor, Tensor]


def parity(recipe: Parity, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Compare every rung in single and in double precision."""
    sizes = Sizes(recipe.width, recipe.heads, recipe.layers, recipe.length, recipe.batch)
    rows: dict[str, Any] = {}
    for name, rung in RUNGS.items():
        rows[name] = {"against": rung.against}
        for precision, dtype in (("fp32", torch.float32), ("fp64", torch.float64)):
            output, gradient = differences(name, sizes, recipe.seed, dtype)
            rows[name][precision] = {"output": output, "gradient": gradient}
    return {"rungs": rows, "torch": torch.__version__.partition("+")[0]}


def differences(rung: str, sizes: Sizes, seed: int, dtype: torch.dtype) -> tuple[float, float]:
    """Return the greatest difference between the outputs of a rung, and between the gradients of a random weighting of
    the outputs.

    Args:
        rung: one of `RUNGS`.
        sizes: of what is compared.
        seed: of weights, inputs and weighting.
        dtype: that all is computed in.
    """
    random = torch.Generator().manual_seed(seed)
    pair = RUNGS[rung].make(sizes, random, dtype)
    ours, theirs = pair.ours(), pair.theirs()
    apart = max(float((a - b).detach().abs().max()) for a, b in zip(ours, theirs, strict=True))
    weighting = [torch.randn(out.shape, generator=random, dtype=torch.float64).to(dtype) for out in ours]
    slopes = [
        torch.autograd.grad(sum((o * w).sum() for o, w in zip(out, weighting, strict=True)), leaf)[0]  # type: ignore[arg-type]
        for out, leaf in zip((ours, theirs), pair.leaves, strict=True)
    ]
    return apart, float((slopes[0] - slopes[1]).abs().max())


# The rungs


def _attention(sizes: Sizes, random: torch.Generator, dtype: torch.dtype) -> Pair:
    q, k, v = (_normal(random, dtype, sizes.batch, sizes.length, sizes.width) for _ in range(3))
    masks = (None, causal_mask(sizes.length), sizes.present[:, None, :])
    x = q.requires_grad_()
    return Pair(
        lambda: [scaled_dot_product(x, k, v, mask) for mask in masks],
        lambda: [F.scaled_dot_product_attention(x, k, v, mask) for mask in masks],
        (x, x),
    )


def _heads(count: int | None) -> Callable[[Sizes, torch.Generator, torch.dtype], Pair]:
    """Return the comparison of attention with so many heads, its pattern too; None has as many as the sizes say."""

    def make(sizes: Sizes, random: torch.Generator, dtype: torch.dtype) -> Pair:
        heads = count or sizes.heads
        shape = AttentionShape(sizes.width, heads, sizes.length, causal=False)
        ours = _lively(MultiHead(shape), random, dtype)
        theirs = nn.MultiheadAttention(sizes.width, heads, batch_first=True).to(dtype)
        copy_attention(ours, theirs)
        x, present = _normal(random, dtype, sizes.batch, sizes.length, sizes.width).requires_grad_(), sizes.present

        def mine() -> list[Tensor]:
            seen: list[Tensor] = []
            out = ours(x, View(visible=not_padding(present)))  # by the fused kernel
            watch = ours.pattern.register_forward_hook(lambda module, given, pattern: seen.append(pattern))
            watched = ours(x, View(visible=not_padding(present)))  # as the paper writes it
            watch.remove()
            return [out, watched, *seen]

        def torchs() -> list[Tensor]:
            out, pattern = theirs(x, x, x, key_padding_mask=~present, average_attn_weights=False)
            return [out, out, pattern]

        return Pair(mine, torchs, (x, x))

    return make


def _block(sizes: Sizes, random: torch.Generator, dtype: torch.dtype) -> Pair:
    D, H = sizes.width, sizes.heads
    x, causal = _normal(random, dtype, sizes.batch, sizes.length, D).requires_grad_(), ~causal_mask(sizes.length)
    pairs = []
    for post in (True, False):
        rule = Rule(causal=True)
        attention = MultiHead(AttentionShape(D, H, sizes.length), rule)
        feed_forward = FeedForward(D, 2 * D, "gelu")
        ours = _lively(Block(D, attention, feed_forward, lambda: LayerNorm(D), post), random, dtype)
        theirs = _layer(sizes, pre=not post).to(dtype)
        copy_block(ours, theirs, ["attn_norm", "mlp_norm"])
        pairs.append((ours, theirs))
    return Pair(
        lambda: [ours(x) for ours, _ in pairs],
        lambda: [theirs(x, src_mask=causal) for _, theirs in pairs],
        (x, x),
    )


def _classifier(sizes: Sizes, random: torch.Generator, dtype: torch.dtype) -> Pair:
    ours = _lively(sizes.spec(Encoder, classes=CLASSES).build(VOCABULARY), random, dtype)
    stack = _stack(ours, sizes, pre=True)
    tokens, present = _tokens(sizes, random), sizes.present
    words, places = (nn.Parameter(W.detach().clone()) for W in (ours.embed.W_E, ours.embed.W_pos))

    def torchs() -> list[Tensor]:
        x = stack(F.embedding(tokens, words) + places[: sizes.length], src_key_padding_mask=~present)
        mean = x.masked_fill(~present[..., None], 0).sum(1) / present.sum(1, keepdim=True)
        return [mean @ ours.unembed.W_U.detach()]

    return Pair(lambda: [ours(tokens, present=present)], torchs, (ours.embed.W_E, words))


def _bert(sizes: Sizes, random: torch.Generator, dtype: torch.dtype) -> Pair:
    shape = {"norm_at": "post", "segments": 2, "norm_embeddings": True, "head": "bert", "tied": True}
    ours = _lively(sizes.spec(Encoder, **shape).build(VOCABULARY), random, dtype)
    stack = _stack(ours, sizes, pre=False)
    tokens, present = _tokens(sizes, random), sizes.present
    segments = (torch.arange(sizes.length) > sizes.length // 2).long().expand_as(tokens)
    words, places, parts = (
        nn.Parameter(W.detach().clone()) for W in (ours.embed.W_E, ours.embed.W_pos, ours.embed.W_seg)
    )
    norms = [nn.LayerNorm(sizes.width).to(dtype) for _ in range(2)]
    for mine, other in zip((ours.embed.norm, ours.transform.norm), norms, strict=True):
        copy_norm(mine, other)
    dense = nn.Linear(sizes.width, sizes.width).to(dtype)
    copy_map(ours.transform, "W_dense", "b_dense", dense)

    def torchs() -> list[Tensor]:
        x = norms[0](F.embedding(tokens, words) + places[: sizes.length] + F.embedding(segments, parts))
        x = norms[1](F.gelu(dense(stack(x, src_key_padding_mask=~present))))
        return [(x @ words.mT + ours.b_U.detach())[present]]

    def mine() -> list[Tensor]:
        return [ours(tokens, present=present, segments=segments)[present]]

    return Pair(mine, torchs, (ours.embed.W_E, words))


def _gpt(sizes: Sizes, random: torch.Generator, dtype: torch.dtype) -> Pair:
    ours = _lively(sizes.spec(Decoder).build(VOCABULARY), random, dtype)
    stack, tokens = _stack(ours, sizes, pre=True), _tokens(sizes, random)
    words, places = (nn.Parameter(W.detach().clone()) for W in (ours.embed.W_E, ours.embed.W_pos))
    hidden = ~causal_mask(sizes.length)

    def torchs() -> list[Tensor]:
        x = stack(F.embedding(tokens, words) + places[: sizes.length], mask=hidden)
        return [x @ ours.unembed.W_U.detach()]

    return Pair(lambda: [ours(tokens)], torchs, (ours.embed.W_E, words))


def _encoder_decoder(sizes: Sizes, random: torch.Generator, dtype: torch.dtype) -> Pair:
    shape = {
        "norm_at": "post",
        "positions": "sinusoidal",
        "activation": "relu",
        "scaled_embeddings": True,
        "tied": True,
    }
    ours = _lively(sizes.spec(EncoderDecoder, **shape).build(VOCABULARY), random, dtype)
    options: dict[str, Any] = {"dropout": 0.0, "batch_first": True}
    D, H = sizes.width, sizes.heads
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(D, H, 2 * D, **options), sizes.layers, enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(D, H, 2 * D, **options), sizes.layers)
    theirs = nn.Transformer(D, H, custom_encoder=encoder, custom_decoder=decoder, batch_first=True).to(dtype).eval()
    for mine, other in zip(ours.encoder.layers, encoder.layers, strict=True):
        copy_block(mine, other, ["attn_norm", "mlp_norm"])
    for mine, other in zip(ours.layers, decoder.layers, strict=True):
        copy_block(mine, other, ["attn_norm", "cross_norm", "mlp_norm"])
        copy_attention(mine.cross, other.multihead_attn)
    source = torch.randint(VOCABULARY, (sizes.batch, sizes.length), generator=random)
    target, present = _tokens(sizes, random), sizes.present
    words = nn.Parameter(ours.embed.W_E.detach().clone())
    places = ours.embed.sinusoids[: sizes.length].to(dtype)

    def torchs() -> list[Tensor]:
        read, written = (F.embedding(t, words) * D**0.5 + places for t in (source, target))
        masks = {"src_key_padding_mask": ~present, "memory_key_padding_mask": ~present}
        x = theirs(read, written, tgt_mask=~causal_mask(sizes.length), tgt_is_causal=True, **masks)
        return [x @ words.mT]

    return Pair(lambda: [ours(target, source=source, source_present=present)], torchs, (ours.embed.W_E, words))


class Rung(NamedTuple):
    """A step of the ladder.

    Attributes:
        against: PyTorch's name for it.
        make: builds both sides.
    """

    against: str
    make: Callable[[Sizes, torch.Generator, torch.dtype], Pair]


RUNGS: dict[str, Rung] = {
    "attention": Rung("scaled_dot_product_attention", _attention),
    "single head": Rung("MultiheadAttention, one head", _heads(1)),
    "multi-head": Rung("MultiheadAttention", _heads(None)),
    "block": Rung("TransformerEncoderLayer, pre- and post-norm", _block),
    "classifier": Rung("TransformerEncoder, mean, linear map", _classifier),
    "BERT": Rung("TransformerEncoder, BERT's head", _bert),
    "GPT": Rung("TransformerEncoder, causal", _gpt),
    "encoder-decoder": Rung("Transformer", _encoder_decoder),
}
"""By name, in the order of the ladder."""


# Weights from ours to theirs


@torch.no_grad()
def copy_attention(ours: Any, theirs: Any) -> None:
    """Give PyTorch's attention our weights: it holds the three maps as one, and each transposed."""
    maps = torch.cat([W.flatten(1).mT for W in (ours.W_Q, ours.W_K, ours.W_V)])
    theirs.in_proj_weight.copy_(maps)
    theirs.in_proj_bias.copy_(torch.cat([b.flatten() for b in (ours.b_Q, ours.b_K, ours.b_V)]))
    theirs.out_proj.weight.copy_(ours.W_O.flatten(0, 1).mT)
    theirs.out_proj.bias.copy_(ours.b_O)


@torch.no_grad()
def copy_map(ours: Any, W: str, b: str, theirs: nn.Linear) -> None:
    """Give a linear map of PyTorch a weight and bias of ours."""
    theirs.weight.copy_(getattr(ours, W).mT)
    theirs.bias.copy_(getattr(ours, b))


@torch.no_grad()
def copy_norm(ours: Any, theirs: Any) -> None:
    """Give a layer norm of PyTorch the weights of ours."""
    theirs.weight.copy_(ours.w)
    theirs.bias.copy_(ours.b)
    theirs.eps = ours.epsilon


def copy_block(ours: Any, theirs: Any, norms: list[str]) -> None:
    """Give a layer of PyTorch our block's weights; its norms are numbered in the order of `norms`."""
    copy_attention(ours.attn, theirs.self_attn)
    copy_map(ours.mlp, "W_in", "b_in", theirs.linear1)
    copy_map(ours.mlp, "W_out", "b_out", theirs.linear2)
    for number, name in enumerate(norms, 1):
        copy_norm(getattr(ours, name), getattr(theirs, f"norm{number}"))


def _layer(sizes: Sizes, pre: bool) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        sizes.width, sizes.heads, 2 * sizes.width, 0.0, "gelu", batch_first=True, norm_first=pre
    ).eval()


def _stack(ours: Any, sizes: Sizes, pre: bool) -> nn.TransformerEncoder:
    """Return PyTorch's stack with the weights of our model's."""
    norm = nn.LayerNorm(sizes.width) if pre else None
    stack = nn.TransformerEncoder(_layer(sizes, pre), sizes.layers, norm, enable_nested_tensor=False)
    stack = stack.to(ours.embed.W_E.dtype).eval()
    for mine, other in zip(ours.layers, stack.layers, strict=True):
        copy_block(mine, other, ["attn_norm", "mlp_norm"])
    if pre:
        copy_norm(ours.final_norm, stack.norm)
    return stack


@torch.no_grad()
def _lively(module: Any, random: torch.Generator, dtype: torch.dtype) -> Any:
    """Return a module with weights of which none is zero or one, biases and norms among them."""
    for weight in module.parameters():
        weight.add_(0.2 * torch.randn(weight.shape, generator=random))
    return module.to(dtype).eval()


def _normal(random: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)


def _tokens(sizes: Sizes, random: torch.Generator) -> Tensor:
    return torch.randint(VOCABULARY, (sizes.batch, sizes.length), generator=random)
