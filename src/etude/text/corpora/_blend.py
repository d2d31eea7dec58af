"""Drawing documents from several corpora so that their bytes keep to given shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from etude.core.errors import UsageError
from etude.text.corpora.base import Corpus, Document


@dataclass
class Tally:
    """How much of one corpus was given.

    Attributes:
        bytes: of UTF-8, invalid ones counted as they came.
        documents: how many, each as often as it was given.
        readings: how many times its end was reached.
        once: the bytes of one reading, 0 until its end was reached.
    """

    bytes: int = 0
    documents: int = 0
    readings: int = 0
    once: int = 0

    def facts(self, size: int) -> dict[str, Any]:
        """Return bytes, documents and epochs; these from about how large the corpus is where its end was not reached,
        or None where nobody knows."""
        whole = self.once or max(size, self.bytes)  # what was not read to its end was read less than once
        return {
            "bytes": self.bytes,
            "documents": self.documents,
            "epochs": round(self.bytes / whole, 3) if self.once or size else None,
        }


@dataclass
class Blend:
    """One pass over several corpora. One document is held at a time.

    Attributes:
        corpora: where the documents come from.
        names: what the corpora are called.
        shares: how many of the bytes each gives, relative to the others.
        total: bytes after which it ends; 0 ends it once each corpus was read once or one `epochs` times.
        epochs: how many times a corpus may be read.
    """

    corpora: Sequence[Corpus]
    names: Sequence[str]
    shares: Sequence[float]
    total: int
    epochs: int
    tallies: list[Tally] = field(default_factory=list)

    def documents(self) -> Iterator[Document]:
        """Yield the documents. One that was not read to its end when the next is asked for is read to its end then,
        to be counted.

        Raises:
            UsageError: a corpus has no text, or `total` asks for more readings than are allowed.
        """
        self.tallies = tallies = [Tally() for _ in self.corpora]
        streams = [corpus.documents("train") for corpus in self.corpora]
        while not self._is_enough():
            n = min(range(len(tallies)), key=lambda n: (tallies[n].bytes / self.shares[n], n))
            document = next(streams[n], None)
            if document is None:
                self._ended(n)
                if tallies[n].readings == self.epochs:
                    return
                streams[n] = self.corpora[n].documents("train")
                continue
            counted = _Counted(document.stretches)
            yield Document(f"{self.names[n]}: {document.name}", counted, n)
            tallies[n].bytes += counted.finish()
            tallies[n].documents += 1

    def _is_enough(self) -> bool:
        if self.total:
            return sum(tally.bytes for tally in self.tallies) >= self.total
        return all(tally.readings for tally in self.tallies)

    def _ended(self, n: int) -> None:
        """Count a reading."""
        tally = self.tallies[n]
        tally.readings += 1
        tally.once = tally.once or tally.bytes
        if not tally.once:
            raise UsageError(f"the train split of {self.names[n]} holds no text: take it out of the mix")
        if tally.readings == self.epochs and self.total:
            needed = self.total * self.shares[n] / sum(self.shares) / tally.once
            raise UsageError(
                f"a mix of {self.total:,} bytes would read {self.names[n]} {needed:.1f} times, and {self.epochs} are"
                " allowed: give it a smaller share or more text, or change train_bytes or epochs"
            )


class _Counted(Iterator[str]):
    """Stretches of a text on their way, their bytes counted."""

    def __init__(self, stretches: Iterable[str]) -> None:
        self._stretches = iter(stretches)
        self._bytes = 0
        self._closed = False

    def __next__(self) -> str:
        if self._closed:
            raise UsageError("the documents of a mix are read one after the other: this one's time is over")
        stretch = next(self._stretches)
        self._bytes += len(stretch.encode("utf-8", "surrogatepass"))
        return stretch

    def finish(self) -> int:
        """Read what is left and return how many bytes there were. Nothing can be read after."""
        for _ in self:
            pass
        self._closed = True
        return self._bytes
