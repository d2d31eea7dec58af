"""Masked language modelling: some tokens are hidden, and are predicted from all the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.models.architectures.encoder import Encoder
from etude.text.batches import Examples, Windows
from etude.text.framing import Frame, Texts
from etude.text.masking import Hiding, MaskedTexts, no_mask
from etude.text.recipes import Tokens
from etude.text.sentences import Segments
from etude.train.objectives.base import Objective, Summed

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from etude.models.transformer import Transformer
    from etude.text.data import TextData


@dataclass(frozen=True)
class Masked(Objective):
    """Cross-entropy of hidden tokens, as BERT learned: drawn anew at each step, and counted nowhere else (Devlin et al.
    2019, section 3.1). The tokenizer needs a mask: `--data.tokenizer.specials mask`; `first` and `separator` too where
    texts are framed, or else the separator of documents stands in for them.

    Attributes:
        share: of the tokens, hidden.
        mask_share: of these, replaced by the mask.
        random_share: of these, replaced by any token. The rest are left as they are.
        samples: `windows` of consecutive tokens, across documents (RoBERTa, Liu et al. 2019, section 4.2); or
            `documents`, one each, framed, cut to the context and padded, as classification reads them.
        next_sentence: whether each sample is two segments, and a second loss asks if the second followed the first. The
            loss is the sum of both means; a pair counts as often as it has hidden tokens, so that parts of a batch add
            up. The model needs the same flag.
    """

    architectures: ClassVar[tuple[str, ...]] = ("encoder",)
    per_byte: ClassVar[bool] = False

    share: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    samples: Literal["windows", "documents"] = "windows"
    next_sentence: bool = False

    def check(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"share = {self.share} is not above 0 and below 1; BERT has 0.15")
        if self.mask_share < 0 or self.random_share < 0 or self.mask_share + self.random_share > 1:
            raise UsageError(
                f"shares {self.mask_share} of masks and {self.random_share} of random tokens: give two from 0 on, and"
                " of at most 1 together; BERT has 0.8 and 0.1"
            )
        if self.next_sentence and self.samples == "documents":
            raise UsageError("next_sentence takes two segments a sample: leave samples at windows")

    def check_fits(self, data: Tokens, model: Architecture) -> None:
        super().check_fits(data, model)
        specials = getattr(data.tokenizer, "specials", None)  # of one that is read from files, only the files know
        if specials is not None and "mask" not in specials:
            raise no_mask(f"tokenizer {data.tokenizer.name}")
        if data.openings and (self.next_sentence or self.samples == "windows"):
            raise UsageError(
                f"openings = {data.openings} gives one short text a document: set --objective.samples documents, or"
                " --data.openings 0"
            )
        if isinstance(model, Encoder):
            self._check_head(model)

    def _check_head(self, model: Encoder) -> None:
        if model.classes:
            raise UsageError(f"a model of {model.classes} classes has no scores for tokens: set --model.classes 0")
        if model.next_sentence != self.next_sentence:
            state = "has no head for it: set --model.next-sentence and --model.segments 2"
            if model.next_sentence:
                state = "has a head that nothing would teach: set --objective.next-sentence"
            raise UsageError(f"objective.next_sentence is {str(self.next_sentence).lower()}, and the model {state}")

    def examples(self, data: TextData, split: str, context: int) -> Examples:
        store, tokenizer = data.store(split), data.tokenizer
        if self.next_sentence:
            texts: Examples = Segments(store, context, Frame.of(tokenizer))
        elif self.samples == "documents":
            texts = Texts(store, context, Frame.of(tokenizer))
        else:
            texts = Windows(store, context, tokenizer.end)
        return MaskedTexts(texts, tokenizer, Hiding(self.share, self.mask_share, self.random_share))

    def summed(
        self,
        model: Transformer,
        inputs: Tensor,
        targets: Tensor,
        given: Mapping[str, Tensor],
        *,
        chunked: bool = False,
        count_right: bool = False,
    ) -> Summed:
        from etude.train.masked_losses import summed

        return summed(model, inputs, targets, given, chunked=chunked, count_right=count_right)

    def beside(self, model: Transformer, examples: Examples, windows: np.ndarray, precision: str) -> dict[str, Any]:
        from etude.train.masked_losses import next_sentence_scores

        return (
            {"next_sentence": next_sentence_scores(model, examples, windows, precision)} if self.next_sentence else {}
        )
