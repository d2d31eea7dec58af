"""Several corpora in stated proportions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

from etude.core.errors import UsageError
from etude.core.family import family_of
from etude.core.spec import Spec
from etude.text.corpora._blend import Blend, Tally
from etude.text.corpora.base import Corpus, Document
from etude.text.corpora.fable import Fable
from etude.text.corpora.pylib import Pylib
from etude.text.splits import check_split


@dataclass(frozen=True)
class Part(Spec):
    """One corpus of a mix.

    Attributes:
        corpus: where its text comes from.
        share: how much of the bytes it gives, relative to the other parts' shares.
    """

    corpus: Corpus
    share: float = 1.0

    def check(self) -> None:
        if self.share <= 0:
            raise UsageError(f"the share of {self.corpus.name} is {self.share:g}: give more than 0, or leave it out")
        if self.corpus.sides:
            sides = ", ".join(self.corpus.sides)
            raise UsageError(f"corpus {self.corpus.name} comes in groups ({sides}), which a mix would take apart")

    @classmethod
    def from_words(cls, words: Sequence[str]) -> tuple[Self, ...]:
        """Return the parts that words of the command line stand for: `pylib:0.5,fable:0.5`, each with its member's
        defaults; or JSON with a part's corpus, its fields and its share: `[{"corpus": "fable", "seed": 1}]`.

        Raises:
            UsageError: they are neither; or there is no such corpus or field.
        """
        text = ",".join(words)
        if not text.lstrip().startswith("["):
            named = [word.strip().partition(":") for word in text.split(",") if word.strip()]
            return tuple(cls._from_data({"corpus": name, "share": share or "1"}) for name, _, share in named)
        try:
            return tuple(cls._from_data(item) for item in json.loads(text))
        except ValueError as error:
            raise UsageError(f"parts {text[:60]!r} is not JSON: {error}") from None

    @classmethod
    def as_words(cls, parts: Sequence[Part]) -> str:
        """Return parts as `from_words` reads them."""
        data = [part._data() for part in parts]
        if all(set(item) <= {"corpus", "share"} for item in data):
            return ",".join(f"{part.corpus.name}:{part.share!r}" for part in parts)
        return json.dumps(data)

    @classmethod
    def _from_data(cls, data: Any) -> Self:
        if not isinstance(data, dict) or not isinstance(data.get("corpus"), str):
            raise UsageError(f'the part {json.dumps(data)[:60]} names no corpus: write {{"corpus": "fable", ...}}')
        member = family_of(Corpus).member(data["corpus"])
        known = [f.name for f in dataclasses.fields(member)]
        given = {name: value for name, value in data.items() if name not in ("corpus", "share")}
        if strange := [name for name in given if name not in known]:
            raise UsageError(f"corpus {data['corpus']} has no field {strange[0]!r}; it has: {', '.join(known)}")
        if isinstance(given.get("parts"), list):  # a mix within a mix
            given["parts"] = tuple(cls._from_data(item) for item in given["parts"])
        try:
            share = float(data.get("share", 1.0))
        except (TypeError, ValueError):
            raise UsageError(f"the share of {data['corpus']} is {data['share']!r}, which is not a number") from None
        return cls(cast(Corpus, member(**given)), share)

    def _data(self) -> dict[str, Any]:
        held: dict[str, Any] = {"corpus": self.corpus.name, "share": self.share}
        for f in dataclasses.fields(self.corpus):
            value = getattr(self.corpus, f.name)
            default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
            if value != default:
                nested = isinstance(self.corpus, Mix) and f.name == "parts"
                held[f.name] = [part._data() for part in value] if nested else value
        return held


def _default() -> tuple[Part, ...]:
    return (Part(Pylib(), 0.5), Part(Fable(), 0.5))


@dataclass(frozen=True)
class Mix(Corpus):
    """Several corpora, of whose bytes each gives its share.

    The Gopher report mixes its data so (Rae et al. 2021, section 3.1).
    Training documents are drawn one at a time from the part that is furthest behind its share of the UTF-8 bytes, so
    that at any place the shares hold to within a document or two, and the order is always the same. A part that runs
    out is read again from its start, at most `epochs` times in all: four times are nearly as good as new text
    (Muennighoff et al. 2023). How often each was read is in the result. `valid` and `test` hold each part's own, whole,
    one after the other.

    Every document carries its part as its label, so that losses can be told apart by part. Labels that a part has of
    its own (ag-news) are dropped for that. Corpora whose texts come in groups (multi30k) cannot be parts.

    Attributes:
        parts: the corpora with their shares, as in `pylib:0.5,fable:0.5`, or as a JSON list with their fields, as in
            `[{"corpus": "fable", "stories": 100, "share": 0.5}, ...]`.
        train_bytes: size of the training split, of which the last document may stand out. 0 reads until every part was
            read once, or until one was read `epochs` times.
        epochs: how many times a part may be read. With `train_bytes`, needing more is an error.
    """

    parts: tuple[Part, ...] = field(default_factory=_default)
    train_bytes: int = 0
    epochs: int = 4

    def check(self) -> None:
        if not self.parts:
            raise UsageError("mix.parts is empty: name corpora and their shares, as in pylib:0.5,fable:0.5")
        if self.train_bytes < 0 or self.epochs < 1:
            raise UsageError(
                f"mix.train_bytes = {self.train_bytes} and mix.epochs = {self.epochs}: the first is 0 or more, and the"
                " second 1 or more"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """The parts' names, each once: the second `fable` is `fable-2`."""
        names = [part.corpus.name for part in self.parts]
        earlier = (names[:n].count(name) for n, name in enumerate(names))
        return tuple(f"{name}-{n + 1}" if n else name for name, n in zip(names, earlier, strict=True))

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        if split == "train":
            blend = self._blend()
            yield from blend.documents()
            _TALLIES[self.resolve()] = blend.tallies
            return
        for label, (name, part) in enumerate(zip(self.classes, self.parts, strict=True)):
            for document in part.corpus.documents(split):
                yield Document(f"{name}: {document.name}", document.stretches, label)

    def identity(self) -> str:
        parts = (part.corpus.identity() for part in self.parts)
        return hashlib.sha256("\n".join(("mix 1", *parts)).encode()).hexdigest()

    def about(self) -> dict[str, Any]:
        """Return the parts' facts, and how much of each the training split has, for which it is read once if this
        process has not done so yet."""
        abouts = {name: part.corpus.about() for name, part in zip(self.classes, self.parts, strict=True)}
        whole = sum(part.share for part in self.parts)
        parts = {
            name: {
                "share": round(part.share / whole, 6),
                **tally.facts(part.corpus.size("train")),
                "about": abouts[name],
            }
            for name, part, tally in zip(self.classes, self.parts, self._tallies(), strict=True)
        }
        dropped = [name for name, part in zip(self.classes, self.parts, strict=True) if part.corpus.classes]
        return {
            "licence": "; ".join(f"{name}: {about['licence']}" for name, about in abouts.items()),
            "bytes": sum(part["bytes"] for part in parts.values()),
            "parts": parts,
            **({"labels_dropped": dropped} if dropped else {}),
        }

    def size(self, split: str) -> int:
        sizes = [part.corpus.size(split) for part in self.parts]
        if not all(sizes):
            return self.train_bytes if split == "train" else 0
        if split != "train":
            return sum(sizes)
        whole = sum(part.share for part in self.parts)
        for_once = [size * whole / part.share for size, part in zip(sizes, self.parts, strict=True)]
        return self.train_bytes or round(min(max(for_once), self.epochs * min(for_once)))

    def _blend(self) -> Blend:
        corpora, shares = [part.corpus for part in self.parts], [part.share for part in self.parts]
        return Blend(corpora, self.classes, shares, self.train_bytes, self.epochs)

    def _tallies(self) -> list[Tally]:
        key = self.resolve()
        if key not in _TALLIES:
            for _ in self.documents("train"):
                pass
        return _TALLIES[key]


_TALLIES: dict[Mix, list[Tally]] = {}
"""What the training split of a mix was made of, once it was read to its end in this process."""
