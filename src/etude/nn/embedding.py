"""Tokens into the residual stream, and the stream back into scores for the next token."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from etude.core.errors import UsageError
from etude.nn.linear import bias, linear, weight
from etude.nn.positions import sinusoids, vectors_at
from etude.nn.taps import Tap


def embed(tokens: Int[Tensor, "B T"], W_E: Float[Tensor, "V D"], scaled: bool = False) -> Float[Tensor, "B T D"]:
    """Return each token's row of W_E, times √D where scaled (Vaswani et al. 2017, section 3.4).

    Raises:
        UsageError: a token is outside the vocabulary. An accelerator reports this in its own way and later, since a
            check here would make every step wait for it.
    """
    try:
        x = F.embedding(tokens, W_E)
    except IndexError:  # asked afterwards, so that a good batch pays nothing
        raise outside_vocabulary(tokens, W_E.shape[0]) from None
    return x * math.sqrt(W_E.shape[1]) if scaled else x


def outside_vocabulary(tokens: Int[Tensor, "B T"], vocabulary: int) -> UsageError:
    """Return the error that names the first token that the vocabulary does not have."""
    wrong = tokens[(tokens < 0) | (tokens >= vocabulary)]
    return UsageError(
        f"token {int(wrong[0])} is outside the vocabulary of {vocabulary} (0 to {vocabulary - 1}):"
        " use the tokenizer that the model was trained with"
    )


class Embedding(nn.Module):
    """Token vectors, plus position vectors where positions are added, and segment vectors where texts have two parts.

    Sites: `tokens` [B T D], after any scaling; `positions` [T D], the same for every text ([B T D] where a call says
    the positions); `segments` [B T D]; `out` [B T D], before norm and dropout; those of the norm, where there is one.

    Args:
        vocabulary: how many tokens there are.
        width: of the residual stream.
        positions: vectors for this many positions can be added.
        added: learned vectors, fixed sinusoids, or none (rotary positions act in attention instead).
        scaled: whether token vectors are multiplied by the square root of the width.
        dropout: chance that a number is dropped while training.
        segments: how many parts a text can have, each with a vector (BERT, Devlin et al. 2019, section 3); 0 none.
        norm: makes the norm of what was added up, as BERT has it, or is None.
    """

    axes: ClassVar[dict[str, str]] = {"W_E": "V D", "W_pos": "T D", "W_seg": "N D"}
    sinusoids: Tensor

    def __init__(
        self,
        vocabulary: int,
        width: int,
        positions: int,
        added: Literal["learned", "sinusoidal", "none"] = "learned",
        scaled: bool = False,
        dropout: float = 0.0,
        segments: int = 0,
        norm: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.W_E = weight(vocabulary, width)
        if added == "learned":
            self.W_pos = weight(positions, width)
        elif added == "sinusoidal":
            self.register_buffer("sinusoids", sinusoids(positions, width), persistent=False)
        self.added, self.scaled = added, scaled
        self.tokens = Tap("B T D", D=width)
        if added != "none":
            self.positions = Tap("T D", D=width)
        self.parts = segments
        if segments:
            self.W_seg = weight(segments, width)
            self.segments = Tap("B T D", D=width)
        self.out = Tap("B T D", D=width)
        self.norm = norm() if norm else None
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        positions: Int[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        x = self.tokens(embed(tokens, self.W_E, self.scaled))
        if self.added != "none":
            vectors = self.W_pos if self.added == "learned" else self.sinusoids.to(x.dtype)
            at = vectors[: tokens.shape[1]] if positions is None else vectors_at(positions, vectors, "position")
            x = x + self.positions(at)
        if self.parts:
            which = torch.zeros_like(tokens) if segments is None else segments
            x = x + self.segments(vectors_at(which, self.W_seg, "segment"))
        x = self.out(x)
        return self.dropout(x if self.norm is None else self.norm(x))


class Unembedding(nn.Module):
    """Scores from the stream: x W_U, without a bias unless asked for one (BERT's decoder, a classifier)."""

    axes: ClassVar[dict[str, str]] = {"W_U": "D V", "b_U": "V"}

    def __init__(self, width: int, vocabulary: int, biases: bool = False) -> None:
        super().__init__()
        self.W_U, self.b_U = weight(width, vocabulary), bias(biases, vocabulary)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        return linear(x, self.W_U, self.b_U)
