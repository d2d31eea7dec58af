"""What an instrument looks at: a model in fp32, its tokenizer, and a text that it can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.run import Run
from etude.models.decoder_model import DecoderModel
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.nn.embedding import outside_vocabulary
from etude.nn.look import unwrapped
from etude.text.tokenizers.live import Tokenizer


class Subject(NamedTuple):
    """A model that is looked at.

    Attributes:
        model: in evaluation mode and fp32.
        tokenizer: its own.
        notices: what a person should know of how it is looked at.
    """

    model: Transformer
    tokenizer: Tokenizer
    notices: tuple[str, ...]

    @property
    def decoder(self) -> DecoderModel:
        """The model, which has to be a decoder.

        Raises:
            UsageError: it is not.
        """
        return decoder_of(self.model)

    @torch.no_grad()
    def likeliest(self, tokens: Int[Tensor, "1 T"], position: int = -1) -> int:
        """Return the likeliest token after a position of a text."""
        return int(self.decoder(tokens)[0, position].argmax())

    def tokens(self, text: str, what: str = "text") -> list[int]:
        """Return a text's tokens.

        Raises:
            UsageError: it is empty, or longer than the model's context.
        """
        ids = self.tokenizer.encode(text)
        if not ids:
            raise UsageError(f"the {what} is empty: give one of at least a token")
        context = self.model.spec.context
        if len(ids) > context:
            raise UsageError(
                f"the {what} has {len(ids)} tokens, and the model reads {context}: shorten it by {len(ids) - context}"
            )
        return ids

    def place(self, position: int, length: int) -> int:
        """Return a position of a text counted from 0.

        Raises:
            UsageError: the text has no such position.
        """
        if not -length <= position < length:
            raise UsageError(f"position {position} is outside a text of {length} tokens (0 to {length - 1})")
        return position % length

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return tokens in printable form."""
        return [self.piece(i) for i in ids]

    def piece(self, token: int) -> str:
        """Return a token in printable form; a row of a padded embedding, which is no token, by its number."""
        return self.tokenizer.piece(token) if token < self.tokenizer.vocabulary else f"[{token}]"

    def token(self, text: str) -> int:
        """Return the one token that is written so, or that a word is: some tokenizers put a space before a text.

        Raises:
            UsageError: it is none, or several.
        """
        same = [i for i in range(self.tokenizer.vocabulary) if self.tokenizer.piece(i) == text]
        if len(same) == 1:
            return same[0]
        ids = self.tokenizer.encode(text)
        if len(ids) != 1:
            cut = " + ".join(repr(self.tokenizer.piece(i)) for i in ids) or "nothing"
            raise UsageError(f"{text!r} is {cut} to this tokenizer, and one token is needed: choose another word")
        return ids[0]


def subject(source: Run) -> Subject:
    """Return a run's model as instruments look at it: weights of less precision are widened to fp32, which is said."""
    model, tokenizer = load(source)
    kept = {weight.dtype for weight in model.parameters()} - {torch.float32, torch.float64}
    notices: tuple[str, ...] = ()
    if kept:
        name = str(min(map(str, kept))).removeprefix("torch.")
        model = model.float()
        notices = (f"the weights of {source.id} are {name}; it was looked at in float32",)
    return Subject(model, tokenizer, notices)


def decoder_of(model: Any) -> DecoderModel:
    """Return a model that an instrument can read; of a compiled one the original.

    Raises:
        UsageError: it is no decoder, or it is in training mode and drops out.
    """
    original = unwrapped(model)
    if not isinstance(original, DecoderModel):
        name = original.spec.name if isinstance(original, Transformer) else type(original).__name__
        raise UsageError(f"this instrument reads decoders, and the model is an {name}: choose a decoder")
    original.check_steady()
    return original


def check_text(model: DecoderModel, tokens: Tensor) -> None:
    """Raise UsageError where tokens are not [B T] tokens of the model, are none, or are longer than its context."""
    model.check_tokens(tokens)
    if not tokens.numel():
        raise UsageError(f"the text is empty (tokens of shape {list(tokens.shape)}): give at least one token")
    if tokens.min() < 0 or tokens.max() >= model.vocabulary:
        raise outside_vocabulary(tokens, model.vocabulary)
