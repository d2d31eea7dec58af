"""A trained encoder as a judge of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from etude.core.errors import DivergedError, UsageError
from etude.core.run import Run
from etude.evals.judge_recipes import Judge
from etude.models.architectures.encoder import Encoder
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.text.framing import Frame
from etude.text.tokenizers.live import Tokenizer

AT_ONCE = 64
"""Texts that are read at once."""


class EncoderJudge:
    """An encoder whose classes are gathered into toxic and other ones. Texts are framed as in its training, and cut to
    its context.

    Args:
        model: the encoder.
        tokenizer: its own.
        context: tokens of a text, those of the frame among them.
        toxic: [classes] which count as toxic.
        prior: the log odds of a toxic text in training, which are taken out of the scores; 0 leaves them in.

    Raises:
        UsageError: the model is no encoder with so many classes.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, context: int, toxic: np.ndarray, prior: float) -> None:
        if not isinstance(model.spec, Encoder) or model.spec.classes != len(toxic):
            raise UsageError(f"a judge is an encoder with {len(toxic)} classes: choose one trained on this corpus")
        self.model, self.tokenizer, self.context = model, tokenizer, context
        self._toxic, self._prior, self._frame = torch.from_numpy(toxic), prior, Frame.of(tokenizer)

    @classmethod
    def of(cls, run: Run, recipe: Judge, prior: float) -> EncoderJudge:
        """Return the judge that a recipe makes of an encoder's run."""
        assert recipe.of is not None, "a recipe with an encoder"
        model, tokenizer = load(run)
        toxic = np.array([name in recipe.toxic for name in recipe.corpus.classes])
        return cls(model, tokenizer, min(recipe.of.context, model.spec.context), toxic, prior)

    def score(self, texts: Sequence[str]) -> np.ndarray:
        parts = [self._scored(texts[start : start + AT_ONCE]) for start in range(0, len(texts), AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros(0)

    @torch.no_grad()
    def _scored(self, texts: Sequence[str]) -> np.ndarray:
        tokens, present = self._framed([self.tokenizer.encode(text) for text in texts])
        scores = self.model(tokens, present=present).double()
        odds = scores[:, self._toxic].logsumexp(1) - scores[:, ~self._toxic].logsumexp(1) - self._prior
        if not odds.isfinite().all():
            raise DivergedError("the encoder gives a score that is no number: train another one")
        return torch.sigmoid(odds).numpy()

    def _framed(self, texts: list[list[int]]) -> tuple[Tensor, Tensor]:
        frame = self._frame
        rows = [[frame.first, *text[: self.context - 2], frame.separator] for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max())
        tokens = torch.tensor([row + [frame.pad] * (width - len(row)) for row in rows])
        return tokens, torch.arange(width) < lengths[:, None]
