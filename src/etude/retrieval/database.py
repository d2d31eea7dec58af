"""A database of keys, opened: the volumes of a library, one that was extended first, numbered on from one to the next
as `etude.text.chunks.Volumes` numbers their chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float

from etude.core.errors import UsageError
from etude.retrieval.manifest import Manifest


class Database:
    """Keys by the numbers of their chunks, read through memory mapping.

    Attributes:
        volumes: folder and manifest of each.
        first: [volumes + 1] number of each volume's first chunk, and behind them the number of chunks.
        chunk: tokens in a chunk.
        dimension: numbers in a key.
        tokenizer: hash of the chunks' tokenizer.
        fitted: hash of what decides the keys beside the embedder's recipe.
    """

    def __init__(self, volumes: Sequence[tuple[Path, Manifest]]) -> None:
        """Take manifests that were checked. Use `open`."""
        self.volumes = tuple(volumes)
        self.first = np.concatenate([[0], np.cumsum([manifest.chunks for _, manifest in volumes])]).astype(np.int64)
        about = volumes[0][1]
        self.chunk, self.dimension = about.chunk, about.dimension
        self.tokenizer, self.fitted = about.tokenizer, about.fitted

    @classmethod
    def open(
        cls,
        folders: Path | Sequence[Path],
        *,
        chunk: int | None = None,
        tokenizer: str | None = None,
        fitted: str | None = None,
    ) -> Self:
        """Open a database. That every shard is there and as long as it was is checked; `verify` reads all of it.

        Args:
            folders: of its volumes, in order.
            chunk: tokens in a chunk, as the reader has them; None does not ask.
            tokenizer: hash of the reader's tokenizer (`same_tokens.hash_of`); None does not ask.
            fitted: `LiveEmbedder.identity` of what the reader searches with; None does not ask.

        Raises:
            UsageError: it was made with another tokenizer, chunk size or embedder, or its volumes do not go together.
            DamagedError: a shard is missing or cut short, or the manifest is not what was written.
        """
        places = [folders] if isinstance(folders, Path) else list(folders)
        if not places:
            raise UsageError("a database has at least one volume: give its folder")
        found = [(place, Manifest.read(place)) for place in places]
        first = found[0][1]
        wanted = (
            first.chunk if chunk is None else chunk,
            first.tokenizer if tokenizer is None else tokenizer,
            first.fitted if fitted is None else fitted,
        )
        for place, manifest in found:
            _check(place, manifest, *wanted)
            for number in range(len(manifest.shards)):
                manifest.check_length(place, number)
        return cls(found)

    def __len__(self) -> int:
        return int(self.first[-1])

    @property
    def identity(self) -> str:
        """Hash (64 hex) of everything: of what was made from the database, it says whether it still holds."""
        return hashlib.sha256(" ".join(manifest.identity for _, manifest in self.volumes).encode()).hexdigest()

    def shards(self) -> Iterator[tuple[int, Float[np.ndarray, "n d"]]]:
        """Yield the shards in order: the number of the first chunk, and the keys, mapped.

        Raises:
            DamagedError: a file is not what was written, as far as is seen without reading all of it.
        """
        for before, (folder, manifest) in zip(self.first.tolist(), self.volumes, strict=False):
            for number in range(len(manifest.shards)):
                yield before + manifest.rows(number).start, manifest.keys(folder, number)

    def keys(self, start: int, stop: int) -> Float[np.ndarray, "n d"]:
        """Return the keys of chunks `start` to `stop`, copied.

        Raises:
            IndexError: there are no such chunks.
            DamagedError: see `shards`.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"chunks {start} to {stop} asked of {len(self)}")
        found = np.empty((stop - start, self.dimension), np.float32)
        for before, (folder, manifest) in zip(self.first.tolist(), self.volumes, strict=False):
            low, high = max(start - before, 0), min(stop - before, manifest.chunks)
            for number in range(low // manifest.shard, -(-high // manifest.shard)) if low < high else ():
                rows = manifest.rows(number)
                taken = range(max(low, rows.start), min(high, rows.stop))
                keys = manifest.keys(folder, number)[taken.start - rows.start : taken.stop - rows.start]
                found[before + taken.start - start : before + taken.stop - start] = keys
        return found

    def verify(self) -> None:
        """Read everything.

        Raises:
            DamagedError: a shard is not what was written.
        """
        for folder, manifest in self.volumes:
            for number in range(len(manifest.shards)):
                manifest.verify(folder, number)


def _check(place: Path, manifest: Manifest, chunk: int, tokenizer: str, fitted: str) -> None:
    """Raise UsageError where a volume is not what its reader needs."""
    where = f"the database {str(place)!r}"
    if manifest.chunk != chunk:
        raise UsageError(
            f"{where} has chunks of {manifest.chunk} tokens and its reader of {chunk}: give the reader chunks of"
            f" {manifest.chunk}, or make the library with --chunk {chunk}"
        )
    if manifest.tokenizer != tokenizer:
        raise UsageError(
            f"{where} was made with another tokenizer ({manifest.tokenizer[:12]}) than its reader's ({tokenizer[:12]}):"
            " make the library from tokens --like the reader's"
        )
    if manifest.fitted != fitted:
        raise UsageError(
            f"{where} was made with another embedder ({manifest.fitted[:12]}) than its reader's ({fitted[:12]}): search"
            " with the one that the library's run holds, or make the library again"
        )
