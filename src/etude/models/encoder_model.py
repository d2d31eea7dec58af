"""The live encoder: every position sees the whole text."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.models.architectures.encoder import Encoder
from etude.models.transformer import Transformer, blocks, embedding, final_norm, norm_of
from etude.nn.embedding import Unembedding
from etude.nn.feedforward import ACTIVATIONS
from etude.nn.linear import bias, linear, weight
from etude.nn.taps import Tap
from etude.nn.view import View, not_padding, same_document


class Dense(nn.Module):
    """One map of the width to itself with an activation, and a norm where tokens are read out: BERT's transform
    (Devlin et al. 2019, the released code) and, with tanh and no norm, its pooler. Site: `out`."""

    axes: ClassVar[dict[str, str]] = {"W_dense": "D D", "b_dense": "D"}

    def __init__(self, width: int, activation: str, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.W_dense, self.b_dense = weight(width, width), bias(True, width)
        self.activation = torch.tanh if activation == "tanh" else ACTIVATIONS[activation]
        self.norm = norm
        self.out = Tap("B D" if activation == "tanh" else "B T D", D=width)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        x = self.activation(linear(x, self.W_dense, self.b_dense))
        return self.out(x if self.norm is None else self.norm(x))


class EncoderModel(Transformer[Encoder]):
    """An encoder-only transformer from tokens to scores: of every token at each position, or of every class."""

    def __init__(self, spec: Encoder, vocabulary: int) -> None:
        super().__init__(spec, vocabulary)
        self.embed = embedding(spec, vocabulary, spec.segments, spec.norm_embeddings)
        self.layers = blocks(spec, spec.layers, causal=False)
        self.final_norm = final_norm(spec)
        scores, bert = spec.classes or vocabulary, spec.head == "bert"
        self.pool = Dense(spec.width, "tanh") if (bert and spec.classes) or spec.next_sentence else None
        make_norm = norm_of(spec)
        self.transform = None
        if bert and not spec.classes:
            self.transform = Dense(spec.width, spec.activation, make_norm() if make_norm else None)
        self.unembed = None if spec.tied else Unembedding(spec.width, scores, biases=bert)
        self.b_U = bias(bert and spec.tied, scores)  # the bias of an unembedding that has no weight of its own
        self.follows = Unembedding(spec.width, 2, biases=True) if spec.next_sentence else None
        self.dropout = nn.Dropout(spec.dropout)
        self.logits = Tap("B C", C=scores) if spec.classes else Tap("B T V", V=scores)

    def stream(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        present: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
        documents: Int[Tensor, "B T"] | None = None,
        positions: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the residual stream after the last layer.

        Args:
            tokens: the texts.
            present: false where there is padding, which nobody sees.
            segments: which part of its text each token belongs to.
            documents: which document each token belongs to; none sees another.
            positions: where each token stands in its text; None counts from 0.
        """
        self.check_tokens(tokens)
        if segments is not None and not self.spec.segments:
            raise UsageError("the model has no segments: build it with segments = 2, or leave them out")
        visible = None if documents is None else same_document(documents)
        if present is not None:
            # Padding of a document that is nothing else would see nothing at all.
            unpadded = not_padding(present, 0 if documents is None else tokens.shape[1])
            visible = unpadded if visible is None else visible & unpadded
        x = self.embed(tokens, positions, segments)
        return self.final_norm(self.through(self.layers, x, View(positions=positions, visible=visible)))

    def hidden(
        self, tokens: Int[Tensor, "B T"], *, follows: Int[Tensor, " B"] | None = None, **given: Tensor
    ) -> Float[Tensor, "*B D"]:
        """Return what the unembedding reads: [B T D], or [B D] where the model is a classifier.

        Args:
            tokens: the texts.
            follows: what the next-sentence head should say. Pairs of segments bring it along; nothing reads it here.
            given: see `stream`.
        """
        x = self.stream(tokens, **given)
        return self.pooled(x, given.get("present")) if self.spec.classes else self.transformed(x)

    def transformed(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Return what the unembedding of tokens reads of the stream."""
        x = x if self.transform is None else self.transform(x)
        return x * self.spec.logit_scale if self.spec.mup_base else x

    def pooled(self, x: Float[Tensor, "B T D"], present: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B D"]:
        """Return one vector a text: of its first token, or the mean over what is not padding."""
        if self.spec.pooling == "first" or self.spec.next_sentence:
            x = x[:, 0]
        elif present is None:
            x = x.mean(dim=1)
        else:
            counted = present[..., None].to(x.dtype)
            x = (x * counted).sum(dim=1) / counted.sum(dim=1)
        x = self.dropout(x if self.pool is None else self.pool(x))
        return x * self.spec.logit_scale if self.spec.mup_base else x

    def following(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B C"]:
        """Return, from the stream, the scores of "the second segment follows the first" (class 0) and "it does not".

        Raises:
            UsageError: the model has no such head.
        """
        if self.follows is None:
            raise UsageError("the model has no next-sentence head: build it with next_sentence")
        return self.follows(self.pooled(x))

    def unembedding(self) -> tuple[Float[Tensor, "D V"], Float[Tensor, " V"] | None]:
        """Return W_U and b_U; tied, the transposed embedding."""
        return (self.embed.W_E.mT, self.b_U) if self.unembed is None else (self.unembed.W_U, self.unembed.b_U)
