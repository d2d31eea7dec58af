"""A volume of a database on disk: shards of keys, and the manifest that says what they are. Anything else, such as an
index, is made from these."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from etude.core.errors import DamagedError, UsageError
from etude.core.files import read_json, sha256_of, write_json

FORMAT = 1
"""Layout of a volume. A reader that finds another number says so instead of guessing."""

MANIFEST = "manifest.json"

SHARD = 8192
"""Chunks in a shard, as long as they are few."""

MOST_SHARDS = 4096
"""Shards of a volume, at most: each is a file that stands open while it is searched, and the manifest is written anew
with every one."""


@dataclass(frozen=True)
class Stored:
    """What a shard's file is.

    Attributes:
        bytes: its length.
        sha256: hash of its content.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a volume says of itself.

    Attributes:
        chunk: tokens in a chunk.
        chunks: how many there are.
        dimension: numbers in a key.
        shard: chunks in a shard.
        tokens: hash of the store whose chunks these are.
        tokenizer: hash of the tokenizer (`same_tokens.hash_of`).
        fitted: hash of all of the embedder that decides a key (`LiveEmbedder.identity`).
        shards: what each shard's file is; None where it is not made yet.
        embedder: its recipe as JSON data, for a person to read: where its files lay is in it too.
    """

    chunk: int
    chunks: int
    dimension: int
    shard: int
    tokens: str
    tokenizer: str
    fitted: str
    shards: tuple[Stored | None, ...]
    embedder: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the manifest in a folder.

        Raises:
            UsageError: there is none.
            DamagedError: it was changed, or has another format.
        """
        if not (folder / MANIFEST).is_file():
            raise UsageError(f"no {MANIFEST} in {str(folder)!r}: give the folder of a library's run")
        said = read_json(folder / MANIFEST)
        found = said.pop("format", None) if isinstance(said, dict) else None
        if found != FORMAT:
            raise DamagedError(f"the database {str(folder)!r} has format {found}, and Etude reads {FORMAT}: {AGAIN}")
        try:
            said.pop("complete")
            shards = tuple(None if shard is None else Stored(**shard) for shard in said.pop("shards"))
            return cls(**said, shards=shards)
        except (KeyError, TypeError):
            raise DamagedError(f"{str(folder / MANIFEST)!r} was changed: {AGAIN}") from None

    def write(self, folder: Path) -> None:
        """Put the manifest in place in one step."""
        write_json(folder / MANIFEST, {"format": FORMAT, **dataclasses.asdict(self), "complete": self.complete})

    @property
    def complete(self) -> bool:
        """Whether every shard is made."""
        return None not in self.shards

    @property
    def bytes(self) -> int:
        """Bytes of the shards that are made."""
        return sum(shard.bytes for shard in self.shards if shard)

    @property
    def identity(self) -> str:
        """Hash (64 hex) of all that decides the keys: two volumes of one identity have the same, of the same chunks."""
        decides = {name: value for name, value in dataclasses.asdict(self).items() if name != "embedder"}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def begun(self) -> Self:
        """Return the manifest as it was before the first shard."""
        return dataclasses.replace(self, shards=(None,) * len(self.shards))

    def having(self, number: int, shard: Stored | None) -> Self:
        """Return the manifest with another word on one shard."""
        return dataclasses.replace(self, shards=(*self.shards[:number], shard, *self.shards[number + 1 :]))

    def rows(self, number: int) -> range:
        """Return the chunks of a shard."""
        return range(number * self.shard, min((number + 1) * self.shard, self.chunks))

    def keys(self, folder: Path, number: int) -> Float[np.ndarray, "n d"]:
        """Return the keys of a shard, mapped from its file.

        Raises:
            DamagedError: the file is missing or not what was written, as far as is seen without reading all of it.
        """
        path = folder / shard_name(number)
        self.check_length(folder, number)
        try:
            keys = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DamagedError(f"{str(path)!r} cannot be read ({error}): {AGAIN}") from None
        if keys.shape != (len(self.rows(number)), self.dimension) or keys.dtype != np.dtype("<f4"):
            raise DamagedError(f"{str(path)!r} was changed: it holds {keys.dtype} {list(keys.shape)}: {AGAIN}")
        return keys

    def check_length(self, folder: Path, number: int) -> None:
        """Raise DamagedError where a shard's file is missing or not as long as it was."""
        path, shard = folder / shard_name(number), self.shards[number]
        if shard is None:
            made = sum(found is not None for found in self.shards)
            raise DamagedError(
                f"the database {str(folder)!r} is not complete: {made} of {len(self.shards)} shards are made; run the"
                " command that makes it again, which goes on from there"
            )
        if not path.is_file():
            raise DamagedError(f"{str(path)!r} is missing: {AGAIN}")
        if (size := path.stat().st_size) != shard.bytes:
            state = "cut short" if size < shard.bytes else "too long"
            raise DamagedError(f"{str(path)!r} is {state}, {size} bytes instead of {shard.bytes}: {AGAIN}")

    def verify(self, folder: Path, number: int) -> None:
        """Raise DamagedError where a shard's file is not what was written, having read all of it."""
        self.check_length(folder, number)
        path, shard = folder / shard_name(number), self.shards[number]
        if shard is None or sha256_of(path) != shard.sha256:
            raise DamagedError(f"{str(path)!r} was changed: its hash is not the one in {MANIFEST}; {AGAIN}")


def shard_for(chunks: int) -> int:
    """Return how many chunks of so many a shard holds: a power of two, which grows where shards would be too many."""
    return max(SHARD, 1 << (-(-chunks // MOST_SHARDS) - 1).bit_length())


AGAIN = "remove the library's run and make it again"


def shard_name(number: int) -> str:
    """Return the name of a shard's file."""
    return f"keys-{number:05d}.npy"
