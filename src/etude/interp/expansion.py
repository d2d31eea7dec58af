"""The logits of an attention-only decoder as a sum over paths (Elhage et al. 2021, sections "The path expansion trick"
and "Path expansion of logits").

With attention patterns and the divisors of norms held at what a text gives, such a model is affine: its logits are what
the embedding sends through every sequence of heads, one a layer at most, and a constant that the biases send. The empty
sequence is the direct path (a bigram term), single heads follow, then virtual heads, of which one reads what another
wrote. What moves attention (Q- and K-composition) is in the patterns and so in no path: the expansion says what is
moved, not why it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.models.decoder_model import DecoderModel
from etude.nn.look import Seen, look
from etude.nn.multi_head import head_outputs, shared, split_heads
from etude.nn.norm import centred

Path = tuple[tuple[int, int], ...]
"""The heads (layer, head) that a path goes through, in order; the direct path is ()."""

MOST_VALUES = 1 << 29
"""Logits of paths that `expand` holds at most: 2 GB in fp32."""


@dataclass(frozen=True, eq=False)
class Streams:
    """What the unembedding reads of a text, path by path. Times W_U it is what each path adds to the logits.

    Attributes:
        paths: the heads of each, the shorter first.
        streams: [P B T D] what each leaves behind the final norm, whose divisor is held, and the logit scale.
        constant: [B T D] what all biases leave there, the final norm's too. b_U is not in it.
    """

    paths: tuple[Path, ...]
    streams: Float[Tensor, "P B T D"]
    constant: Float[Tensor, "B T D"]

    def by_order(self) -> Float[Tensor, "N B T D"]:
        """Return the sum over the paths of each order, as `Expansion.by_order` does of logits."""
        return _by_order(self.paths, self.streams)


@dataclass(frozen=True, eq=False)
class Expansion:
    """The logits of a text, path by path.

    Attributes:
        paths: the heads of each, the shorter first.
        logits: [P B T V] what each adds to every logit, or [P B T] to that of the answers asked for.
        constants: [B T V] or [B T], what all biases add, those that heads pass on too.
    """

    paths: tuple[Path, ...]
    logits: Float[Tensor, "P B T *V"]
    constants: Float[Tensor, "B T *V"]

    def total(self) -> Float[Tensor, "B T *V"]:
        """Return the sum of all, which is the model's logits."""
        return self.logits.sum(0) + self.constants

    def by_order(self) -> Float[Tensor, "N B T *V"]:
        """Return the sum over the paths of each order (0 is the direct path, 1 the heads alone, 2 pairs of heads), up
        to the number of layers. Constants are in none."""
        return _by_order(self.paths, self.logits)


@torch.no_grad()
def expand(
    model: DecoderModel,
    tokens: Int[Tensor, "B T"],
    most: int = 1024,
    answers: Int[Tensor, "B T"] | None = None,
    **given: Any,
) -> Expansion:
    """Return the logits of texts as a sum over the paths through the heads.

    There are (1 + H)^L of them, and with each its logits [B T V] are held: P·B·T·V values, no more than `MOST_VALUES`.

    Args:
        model: an attention-only decoder with its norms before the parts, in evaluation mode where it has dropout.
        tokens: the texts.
        most: paths that there may be.
        answers: of the logit of these tokens alone, one a position; no [B T V] is then made.
        given: what else the model is called with, as for `streams_by_path`.

    Raises:
        UsageError: as `streams_by_path`; or there would be too many values.
    """
    _check(model, most)
    if answers is None:
        _check_room(model, tokens)
    found = streams_by_path(model, tokens, most, **given)
    W_U, b_U = model.unembedding()
    if answers is None:
        logits, constants = found.streams @ W_U, found.constant @ W_U
    else:
        read = W_U.mT[answers]
        logits = torch.einsum("pbtd,btd->pbt", found.streams, read)
        constants = torch.einsum("btd,btd->bt", found.constant, read)
        b_U = None if b_U is None else b_U[answers]
    return Expansion(found.paths, logits, constants if b_U is None else constants + b_U)


@torch.no_grad()
def streams_by_path(model: DecoderModel, tokens: Int[Tensor, "B T"], most: int = 1024, **given: Any) -> Streams:
    """Return what the unembedding reads of texts as a sum over the paths through the heads.

    There are (1 + H)^L of them, and with each a stream [B T D] is held. From here on all is linear: what is wanted of
    many paths, or of a large vocabulary, is summed before it is unembedded.

    Args:
        model: as for `expand`.
        tokens: the texts.
        most: paths that there may be.
        given: what else the model is called with, such as `documents`: no path leads from one to another. No `past`.

    Raises:
        UsageError: the model has feed-forward layers, norms after each addition, or dropout that is on; it has more
            paths; it cannot read the tokens; or a past is given.
    """
    _check(model, most)
    if given.get("past") is not None:
        raise UsageError("a past has keys that no path begins at: leave past out, and give the whole text")
    frozen = _Frozen(model, tokens, given)
    streams: dict[Path, Tensor] = {(): frozen.embedded}
    constant = torch.zeros_like(frozen.embedded)
    for layer in range(model.spec.layers):
        for path, stream in list(streams.items()):
            for head, written in enumerate(frozen.heads(stream, layer).unbind(2)):
                streams[*path, (layer, head)] = written
        constant = constant + frozen.heads(constant, layer, biases=True).sum(2) + frozen.bias(layer)
    paths = tuple(sorted(streams, key=lambda path: (len(path), path)))
    left = torch.stack([frozen.read(streams.pop(path)) for path in paths])
    return Streams(paths, left, frozen.read(constant, biases=True))


def _by_order(paths: tuple[Path, ...], values: Float[Tensor, "P ..."]) -> Float[Tensor, "N ..."]:
    """Return the sum of what paths of each order have, up to the longest."""
    orders = torch.tensor([len(path) for path in paths], device=values.device)
    return torch.stack([values[orders == order].sum(0) for order in range(int(orders.max()) + 1)])


def _check(model: DecoderModel, most: int) -> None:
    spec = model.spec
    if not spec.attention_only:
        raise UsageError(f"feedforward = {spec.feedforward}: only attention-only models are a sum over paths of heads")
    if spec.norm_at != "pre":
        raise UsageError("norm_at = 'post' divides the stream itself: paths are those of models with norm_at = 'pre'")
    if model.training and spec.dropout:
        raise UsageError("dropout is on, and each call would be another sum: call the model's eval() first")
    if (paths := (1 + spec.heads) ** spec.layers) > most:
        raise UsageError(
            f"{spec.layers} layers of {spec.heads} heads have {paths} paths, more than most = {most}: raise it, or take"
            " a smaller model"
        )


def _check_room(model: DecoderModel, tokens: Int[Tensor, "B T"]) -> None:
    paths = (1 + model.spec.heads) ** model.spec.layers
    if (values := paths * tokens.numel() * model.vocabulary) > MOST_VALUES:
        raise UsageError(
            f"{paths} paths of {tokens.numel()} tokens have {values} logits, more than {MOST_VALUES}: give answers, for"
            " one logit a position, or take streams_by_path"
        )


class _Frozen:
    """A model of which a text's patterns and divisors are held fixed, so that each part is affine."""

    def __init__(self, model: DecoderModel, tokens: Int[Tensor, "B T"], given: dict[str, Any]) -> None:
        self.model = model
        kinds = ("embed.out", "attn.pattern", "attn_norm.scale", "final_norm.scale")
        self.seen: Seen = look(model, tokens, [site for site in model.sites() if site.part in kinds], **given)
        self.embedded = self.seen["embed.out"]

    def heads(self, x: Float[Tensor, "B T D"], layer: int, biases: bool = False) -> Float[Tensor, "B T H D"]:
        """Return what each head of a layer writes when the stream is x, without biases unless they are asked for."""
        attention: Any = self.model.layers[layer].attn
        read = self._normed(x, f"layers.{layer}.attn_norm", f"L{layer}.attn_norm.scale", biases)
        v = split_heads(read, attention.W_V, attention.b_V if biases else None)
        pattern = self.seen[f"L{layer}.attn.pattern"]
        z = torch.einsum("bhts,bshk->bthk", pattern, shared(v, self.model.spec.heads))
        return head_outputs(z, attention.W_O)

    def bias(self, layer: int) -> Tensor | float:
        """Return what attention adds beside its heads."""
        attention: Any = self.model.layers[layer].attn
        return 0.0 if attention.b_O is None else attention.b_O

    def read(self, x: Float[Tensor, "B T D"], biases: bool = False) -> Float[Tensor, "B T D"]:
        """Return what the unembedding reads of a stream."""
        return self._normed(x, "final_norm", "final_norm.scale", biases) * self.model.spec.logit_scale

    def _normed(self, x: Float[Tensor, "B T D"], norm: str, scale: str, biases: bool) -> Float[Tensor, "B T D"]:
        spec = self.model.spec
        if spec.norm == "none":
            return x
        part: Any = self.model.get_submodule(norm)
        x = (centred(x) if spec.norm == "layer" else x) / self.seen[scale] * part.w
        b = getattr(part, "b", None)
        return x + b if biases and b is not None else x
