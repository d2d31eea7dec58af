"""What a corpus is: documents in three splits, an identity, and a few facts."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from etude.core.errors import DamagedError, UsageError
from etude.core.family import Member
from etude.core.spec import AUTO
from etude.text.pieces import mend, pieces

T = TypeVar("T")


class Document:
    """One text, read once, piece by piece, so that its length does not matter.

    Attributes:
        name: what messages call it.
        label: which of the corpus's classes it is, from 0; None in a corpus without classes.
        read: how many characters were read so far.
        replaced: how many invalid bytes (or lone surrogates) were replaced by U+FFFD in the pieces read so far.
    """

    def __init__(self, name: str, stretches: Iterable[str], label: int | None = None) -> None:
        """Take consecutive stretches of one text, cut anywhere."""
        self.name, self.label = name, label
        self.read = self.replaced = 0
        self._stretches = stretches

    @property
    def pieces(self) -> Iterator[str]:
        """The text in consecutive pieces, cut only where tokens end (see `etude.text.pieces`). Can be read once."""
        return pieces(self._mended())

    @property
    def stretches(self) -> Iterable[str]:
        """The text as it was given, for who passes it on under another name or label. Can be read once."""
        return self._stretches

    def text(self) -> str:
        """Return the whole text, for documents known to be short."""
        return "".join(self.pieces)

    def _mended(self) -> Iterator[str]:
        for stretch in self._stretches:
            text, replaced = mend(stretch)
            self.read += len(text)
            self.replaced += replaced
            yield text


def at_least_one(documents: Iterable[T], none: str) -> Iterator[T]:
    """Yield documents, or what becomes documents.

    Raises:
        UsageError: there are none; the message is `none`.
    """
    empty = True
    for document in documents:
        empty = False
        yield document
    if empty:
        raise UsageError(none)


@dataclass(frozen=True)
class Corpus(Member, abc.ABC):
    """A source of text.

    Attributes:
        sha256: identity of the content. Left at auto, it is taken from what is there; set, what is there must have it.
    """

    sha256: str = AUTO

    @abc.abstractmethod
    def documents(self, split: str) -> Iterator[Document]:
        """Yield the documents of a split (`train`, `valid` or `test`), always in the same order. No document, nor a
        part of one, is in two splits.

        Raises:
            UsageError: there is no such split, the source cannot be read, or the split is empty.
            DamagedError: the content has not the identity in `sha256`.
        """

    @abc.abstractmethod
    def identity(self) -> str:
        """Return a hash (64 hex) of everything that decides the documents, apart from the fields: the content, and
        the version of the code that extracts it. Where the content lies does not enter."""

    @abc.abstractmethod
    def about(self) -> dict[str, Any]:
        """Return facts for a person, as JSON data: `licence` always, and counts. No paths, no times."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels that documents carry, by label; with any, every document has a label."""
        return ()

    @property
    def sides(self) -> tuple[str, ...]:
        """The names of the texts that make one sample together, as `("en", "de")` in translation; with any, documents
        come in groups, one a side, in this order."""
        return ()

    def size(self, split: str) -> int:
        """Return about how many bytes of text a split has, for progress and disk room, or 0 where that is unknown."""
        return 0

    def settle(self) -> Self:
        return self if self.sha256 != AUTO else dataclasses.replace(self, sha256=self.identity())

    def check_identity(self) -> None:
        """Raise DamagedError where the content is not what `sha256` says. Members call it before they read."""
        if self.sha256 != AUTO and self.sha256 != (found := self.identity()):
            raise DamagedError(
                f"corpus {self.name}: the text has changed, its sha256 is {found[:12]} and the recipe's is"
                f" {self.sha256[:12]}; put the old text back, or leave sha256 out to use the new one"
            )
