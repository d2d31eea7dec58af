"""Classification: which class a whole text is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.models.architectures.encoder import Encoder
from etude.text.batches import Examples
from etude.text.framing import Frame, Texts
from etude.text.recipes import Tokens
from etude.train.objectives.base import Objective

if TYPE_CHECKING:
    from etude.text.data import TextData


@dataclass(frozen=True)
class Classification(Objective):
    """Cross-entropy of a document's label, read by an encoder with as many classes as the corpus has. A document is cut
    to the context. Decoders as classifiers are not covered."""

    architectures: ClassVar[tuple[str, ...]] = ("encoder",)
    per_byte: ClassVar[bool] = False

    def check_fits(self, data: Tokens, model: Architecture) -> None:
        super().check_fits(data, model)
        classes = data.corpus.classes
        if not classes:
            raise unlabelled(f"corpus {data.corpus.name}")
        if isinstance(model, Encoder) and model.classes != len(classes):
            raise UsageError(
                f"model.classes = {model.classes}, and corpus {data.corpus.name} has {len(classes)}"
                f" ({', '.join(classes)}): set --model.classes {len(classes)}"
            )

    def examples(self, data: TextData, split: str, context: int) -> Examples:
        store = data.store(split)
        if store.labels is None:
            raise unlabelled(f"the text in {store.path.name}")
        return Texts(store, context, Frame.of(data.tokenizer))


def unlabelled(what: str) -> UsageError:
    """Return the error for a text without classes."""
    return UsageError(f"{what} has no labels to learn: choose a corpus with classes, such as ag-news or rt-polarity")
