"""Keys that are means of vectors over positions: of a model trained here, and of a sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.run import Run
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.encoder_model import EncoderModel
from etude.models.load import load, load_foreign
from etude.models.saved import SHAPE, WEIGHTS
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.retrieval.embedders.base import Given, identity_of
from etude.retrieval.same_tokens import hash_of
from etude.text.tokenizers.live import Tokenizer

AT_ONCE = 64
"""Chunks that a model reads at once."""


def averaged(vectors: Float[Tensor, "B T D"], present: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Return the mean over the positions that are there, float32; 0 where none is."""
    kept = present[..., None].to(torch.float32)
    return (vectors.float() * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)


class HiddenStates:
    """The residual stream of a model after a layer, averaged.

    Args:
        model: in evaluation mode, a decoder or an encoder.
        layer: its number.
        identity: hash of what decides the keys.
    """

    def __init__(self, model: Transformer, layer: int, identity: str) -> None:
        self.model, self.site, self.identity = model, f"L{layer}.resid.post", identity
        self.dimension, self.at_once = model.spec.width, AT_ONCE
        self._sees_behind = isinstance(model.spec, Encoder)  # a decoder's texts do not see their padding

    @torch.inference_mode()
    def __call__(self, tokens: Int[np.ndarray, "B m"], present: Bool[np.ndarray, "B m"]) -> Float[np.ndarray, "B d"]:
        there = torch.from_numpy(present)
        given: dict[str, Any] = {"present": there} if self._sees_behind else {}
        seen = look(self.model, torch.from_numpy(tokens), self.site, **given)
        return averaged(seen[self.site], there).numpy()


def hidden_states(run: Run, layer: int, given: Given) -> HiddenStates:
    """Return the embedder of a model's run.

    Raises:
        UsageError: the model is an encoder-decoder, lacks the layer, reads fewer positions than a chunk has, or has
            another tokenizer than the chunks.
    """
    model, tokenizer = load(run)
    spec = model.spec
    if isinstance(spec, EncoderDecoder):
        raise UsageError(f"{run.id} is an encoder-decoder, which reads two texts: embed with a decoder or an encoder")
    if not -1 <= layer < spec.layers or not spec.layers:
        raise UsageError(f"hidden.layer = {layer} and {run.id} has {spec.layers} layers: give -1 for its last")
    if spec.context < given.chunk:
        raise UsageError(
            f"chunk = {given.chunk} is longer than the {spec.context} positions that {run.id} reads: make chunks of at"
            " most as many, or embed with another model"
        )
    if hash_of(tokenizer) != hash_of(given.tokenizer):
        raise UsageError(
            f"the embedder's model {run.id} was made with another tokenizer than the library's tokens: set --data.like"
            " to the tokens of the model"
        )
    layer %= spec.layers
    identity = identity_of("hidden 1", str(layer), *(run.files[name]["sha256"] for name in (WEIGHTS, SHAPE)))
    return HiddenStates(model, layer, identity)


class SentenceVectors:
    """The last vectors of a BERT-like encoder, averaged over its tokens, those that open and close a text among them.

    Args:
        path: of the encoder.
        identity: hash of what decides the keys.
        theirs: what made the chunks' tokens.

    Raises:
        UsageError: what is there is no encoder.
    """

    def __init__(self, path: Path | str, identity: str, theirs: Tokenizer) -> None:
        model, self.own = load_foreign(path)
        if not isinstance(model, EncoderModel):
            raise UsageError(f"{str(path)!r} holds a {model.spec.name}: a sentence encoder is an encoder, as BERT is")
        self.model, self.identity, self.theirs = model, identity, theirs
        self.dimension, self.at_once = model.spec.width, AT_ONCE

    @torch.inference_mode()
    def __call__(self, tokens: Int[np.ndarray, "B m"], present: Bool[np.ndarray, "B m"]) -> Float[np.ndarray, "B d"]:
        words = present & (tokens != self.theirs.end)
        texts = [self.theirs.decode(row[kept].tolist()) for row, kept in zip(tokens, words, strict=True)]
        ids, there = side_by_side([self._framed(found) for found in self.own.encode_batch(texts)])
        return averaged(self.model.stream(ids, present=there), there).numpy()

    def _framed(self, ids: list[int]) -> list[int]:
        """Return a text between the tokens that open and close one, cut at the model's context."""
        first, last = (
            [self.own.specials[role]] if role in self.own.specials else [] for role in ("first", "separator")
        )
        room = self.model.spec.context - len(first) - len(last)
        return [*first, *ids[:room], *last] or [self.own.end]  # a text of nothing has a vector too


def side_by_side(texts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Return texts of any length as one batch, padded on the right, and which tokens are no padding."""
    longest = max(map(len, texts))
    there = torch.tensor([[at < len(text) for at in range(longest)] for text in texts])
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
    return ids, there
