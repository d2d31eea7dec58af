"""Dialogues: what is said to the model, and what it says."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.core.spec import cosmetic
from etude.text.corpora._labelled import sameness
from etude.text.corpora.base import Corpus, Document, at_least_one
from etude.text.dialogues import SUFFIXES, Read, Talk, dialogues
from etude.text.places import Place, content_hash, split_named
from etude.text.splits import SPLITS, VALID_SHARE, check_split, fraction

_LAYOUT = (
    'dialogues: .jsonl with {"messages": [{"role": "user", "content": "..."}, ...]} a line, chatterbot\'s .yml, or'
    " DailyDialog++"
)
_HELD = {"test": 0, "valid": 1}
"""Splits that are held out, in the order in which a dialogue is theirs."""

_LEAST_WORDS = 3
"""Words by which dialogues are known as alike; a greeting alone says too little."""


@dataclass(frozen=True)
class Dialogues(Corpus):
    """Dialogues from a file or a folder of them, each a document in which turns begin with `User:` and `Assistant:`, as
    `--objective dialogue` learns from. Read are lists of messages in OpenAI's form (JSONL or JSON, also what `etude
    chat` saves), chatterbot's YAML, and DailyDialog++.

    Dialogues that begin with the same words stay together: a hash of these decides on 90 : 5 : 5. Files named train,
    valid and test keep their split where one is named train. Else one named test is the test split, and the others
    are divided between train and valid. What begins as a dialogue of a split that is named does is left out of the
    others, and what stands twice is taken once; both are counted. Bytes that are not UTF-8 become U+FFFD.

    A turn that is said cannot begin another: a line in it that starts with a mark is indented by a space.

    Not covered: tools and pictures in messages; paraphrases across splits.

    Attributes:
        path: the file or folder. It does not enter the fingerprint: the content does.
        replies: of a dialogue of DailyDialog++, whose last turn is given in five ways, so many become dialogues, in an
            order that a hash decides. Where the reply would be the user's, the first turn is left out.
        unfit: what becomes of what is no dialogue, such as one whose roles are out of order: `refuse` ends the work
            and names file, line and turn, `leave-out` counts it.
    """

    path: str = cosmetic("")
    replies: int = 1
    unfit: Literal["refuse", "leave-out"] = "refuse"

    def check(self) -> None:
        if self.replies < 1:
            raise UsageError(f"dialogues.replies = {self.replies}: give 1 or more")

    def documents(self, split: str) -> Iterator[Document]:
        for talk in self.talks(split):
            yield Document(talk.where, [talk.text])

    def talks(self, split: str) -> Iterator[Talk]:
        """Yield the dialogues of a split.

        Raises:
            UsageError: there is no such split, a file cannot be read, something is no dialogue, or the split is empty.
            DamagedError: the content has not the identity in `sha256`.
        """
        check_split(split)
        self.check_identity()
        found = (talk for name, talk in self._divided(Counter()) if name == split)
        empty = f"the {split} split of {self.path!r} is empty: give more dialogues, or files named train and {split}"
        yield from at_least_one(found, empty)

    def read(self) -> Iterator[Read]:
        """Yield everything in the files, in their order, whatever split it is in, and also what is no dialogue.

        Raises:
            UsageError: a file cannot be read.
            DamagedError: the content has not the identity in `sha256`.
        """
        self.check_identity()
        for path in self._files().values():
            yield from dialogues(path, self.replies)

    def identity(self) -> str:
        named = self._named()
        return content_hash("dialogues 1", ((named.get(name, ""), path) for name, path in self._files().items()))

    def about(self) -> dict[str, Any]:
        counts, turns = Counter[str](), Counter[str]()
        for split, talk in self._divided(counts):
            counts[split] += 1
            turns[split] += len(talk.turns)
        return {
            "licence": "that of its source, which you chose (chatterbot: BSD-3-Clause; DailyDialog++: MIT, of dialogues"
            " under CC BY-NC-SA 4.0)",
            "dialogues": {split: counts[split] for split in SPLITS},
            "turns": {split: turns[split] for split in SPLITS},
            "unfit": counts["unfit"],
            "twice": counts["twice"],
            "in_a_named_split": counts["named"],
            **self._folder().origin,
        }

    def _folder(self) -> Place:
        return Place(self.name, self.path, _LAYOUT)

    def _files(self) -> dict[str, Path]:
        """Return the files that are read, by their names within the folder."""
        place = self._folder()
        found = {name: path for name, path in place.files().items() if path.suffix.lower() in SUFFIXES}
        if not found and place.root.is_file():
            raise UsageError(f"cannot read {self.path!r}: the ending must be one of {', '.join(SUFFIXES)}")
        if not found:
            raise place.missing("dialogues")
        by_name = {name: split for name in found if (split := split_named(name))}
        return {name: found[name] for name in by_name} if "train" in by_name.values() else found

    def _named(self) -> dict[str, str]:
        """Return the splits that files are named for, by file."""
        if not self._folder().root.is_dir():
            return {}
        named = {name: split for name in self._files() if (split := split_named(name))}
        return named if "train" in named.values() else {name: s for name, s in named.items() if s == "test"}

    def _divided(self, counts: Counter[str]) -> Iterator[tuple[str, Talk]]:
        """Yield every dialogue with its split: those of files that are named for a held-out split first, which the
        others are held against. Of each two hashes of 16 bytes are kept in memory."""
        files, named = self._files(), self._named()
        pool = set(SPLITS) - (set(named.values()) & set(_HELD))
        order = sorted(files, key=lambda name: (_HELD.get(named.get(name, ""), len(_HELD)), name))
        claimed, seen = dict[bytes, str](), set[bytes]()
        for name in order:
            own = named[name] if named.get(name) in _HELD else ""
            for talk in self._fitting(files[name], counts):
                key = _opening(talk)
                split = own or _pooled(key, pool)
                if own:
                    claimed.setdefault(_digest(key), own)
                if claimed.get(_digest(key), split) != split:
                    counts["named"] += 1
                elif (text := _digest(talk.text)) in seen:
                    counts["twice"] += 1
                else:
                    seen.add(text)
                    yield split, talk

    def _fitting(self, path: Path, counts: Counter[str]) -> Iterator[Talk]:
        for found in dialogues(path, self.replies):
            if isinstance(found, Talk):
                yield found
            elif self.unfit == "refuse":
                remedy = "--corpus.unfit leave-out (--data.corpus.unfit for a training)"
                raise UsageError(f"{found}; correct it, or have it counted and left out with {remedy}")
            else:
                counts["unfit"] += 1


def _pooled(key: str, splits: Container[str]) -> str:
    """Return the split, among some, that a hash decides on."""
    at = fraction(key)
    if "valid" in splits and at < VALID_SHARE:
        return "valid"
    return "test" if "test" in splits and at >= 1 - VALID_SHARE else "train"


def _opening(talk: Talk) -> str:
    """Return the words that a dialogue begins with: its first turn, or more where that has few."""
    words = list[str]()
    for turn in talk.turns:
        words += sameness(turn).split()
        if len(words) >= _LEAST_WORDS:
            break
    return " ".join(words)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
