"""Building a volume of a database: shard by shard, each by itself, so that what a kill leaves is gone on with and any
engine may make any shard."""

from __future__ import annotations

import errno
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float

from etude.core.engines.arrival import require_shown
from etude.core.errors import DamagedError, EtudeError, UsageError
from etude.core.files import replacing
from etude.retrieval.embedders.base import Embedder, LiveEmbedder
from etude.retrieval.manifest import MANIFEST, Manifest, Stored, shard_for, shard_name
from etude.text.chunks import Chunks


def planned(
    chunks: Chunks, embedder: LiveEmbedder, spec: Embedder, tokenizer: str, shard: int | None = None
) -> Manifest:
    """Return the manifest of a volume of which nothing is made yet.

    Args:
        chunks: what is embedded.
        embedder: what embeds them.
        spec: its recipe.
        tokenizer: hash of the chunks' tokenizer (`same_tokens.hash_of`).
        shard: chunks in a shard; none takes what suits so many.
    """
    shard = shard_for(len(chunks)) if shard is None else shard
    return Manifest(
        chunk=chunks.size,
        chunks=len(chunks),
        dimension=embedder.dimension,
        shard=shard,
        tokens=chunks.store.sha256,
        tokenizer=tokenizer,
        fitted=embedder.identity,
        shards=(None,) * -(-len(chunks) // shard),
        embedder=spec.to_json(),
    )


def build(
    folder: Path,
    chunks: Chunks,
    embedder: LiveEmbedder,
    plan: Manifest,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Embed chunks into a folder, going on with what stands there, and return the manifest.

    A shard whose file is no longer what the manifest says is made again. While one shard is embedded, a thread writes
    the one before. `gathered` has shards made elsewhere.

    Args:
        folder: where shards and manifest are written.
        chunks: what is embedded.
        embedder: what embeds them.
        plan: what `planned` returned of these.
        progress: called with chunks done and in all.

    Raises:
        UsageError: the folder holds another database, or a key is not finite.
        EtudeError: the disk is full. What is there stays good, and the same call goes on from it.
    """
    manifest, missing, done = _resumed(folder, plan)

    def keep(number: int, keys: Float[np.ndarray, "n d"]) -> None:
        nonlocal manifest
        manifest = manifest.having(number, written(folder, number, keys))
        manifest.write(folder)

    with told_when_full(folder), ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        writing = writer.submit(manifest.write, folder)
        for number in missing:
            keys = embedded(plan.rows(number), chunks, embedder, lambda n, had=done: progress(had + n, plan.chunks))
            writing.result()
            writing = writer.submit(keep, number, keys)
            done += len(keys)
        writing.result()
    return manifest


def gathered(
    folder: Path,
    plan: Manifest,
    make: Callable[[Sequence[int]], Iterable[tuple[int, Stored]]],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Have the shards made elsewhere that a folder lacks, keep the manifest as they come, and return it. The other
    arguments are those of `build`, and either goes on from what the other left.

    Args:
        folder: of this machine and of those that make shards.
        plan: what `planned` returned.
        make: makes the shards of these numbers in the folder, each by `written` of what is `embedded`, and tells of
            each what its file is, in any order.
        progress: called with chunks done and in all.

    Raises:
        UsageError: the folder holds another database.
        EtudeError: the disk is full, or a shard does not show here.
    """
    with told_when_full(folder):
        manifest, missing, done = _resumed(folder, plan)
        manifest.write(folder)
        for number, shard in make(missing):
            require_shown(folder / shard_name(number))
            manifest = manifest.having(number, shard)
            manifest.write(folder)
            done += len(plan.rows(number))
            progress(done, plan.chunks)
    _clear(folder)
    return manifest


def embedded(
    numbers: range, chunks: Chunks, embedder: LiveEmbedder, progress: Callable[[int], None] = lambda done: None
) -> Float[np.ndarray, "n d"]:
    """Return the keys of the chunks of a shard. They depend on nothing else: batches begin with the shard.

    Raises:
        UsageError: a key is not finite.
    """
    keys = np.empty((len(numbers), embedder.dimension), "<f4")
    for at in range(0, len(numbers), embedder.at_once):
        batch = numbers[at : at + embedder.at_once]
        keys[at : at + len(batch)] = embedder(*chunks.read(np.arange(batch.start, batch.stop)))
        progress(at + len(batch))
    if not np.isfinite(keys).all():
        bad = int((~np.isfinite(keys)).any(axis=1).sum())
        raise UsageError(f"{bad} of {len(keys)} keys are not finite: the embedder's model has diverged; take another")
    return keys


def written(folder: Path, number: int, keys: Float[np.ndarray, "n d"]) -> Stored:
    """Write the keys of a shard in one step, and return what its file is."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(keys))
    found, size = hashlib.sha256(), 0
    with replacing(folder / shard_name(number)) as temporary, temporary.open("wb") as file:
        for part in (header.getbuffer(), keys.data):
            file.write(part)
            found.update(part)
            size += part.nbytes
    return Stored(size, found.hexdigest())


def _resumed(folder: Path, plan: Manifest) -> tuple[Manifest, list[int], int]:
    """Return the plan with what stands in the folder already, the numbers of the shards that do not, and how many
    chunks are done.

    Raises:
        UsageError: what stands there is of something else.
    """
    _clear(folder)
    found = _standing(folder, plan)
    missing = [number for number, shard in enumerate(found.shards) if shard is None]
    return found, missing, plan.chunks - sum(len(plan.rows(number)) for number in missing)


def _clear(folder: Path) -> None:
    """Remove what a kill or a lost machine cut off in the middle of a write."""
    for torn in folder.glob(".*.tmp"):
        torn.unlink(missing_ok=True)


def _standing(folder: Path, plan: Manifest) -> Manifest:
    if not (folder / MANIFEST).exists():
        return plan
    found = Manifest.read(folder)
    if found.begun() != plan:
        raise UsageError(
            f"{str(folder)!r} holds keys of another text, chunk size, tokenizer or embedder: build into another folder,"
            " or remove it"
        )
    for number, shard in enumerate(found.shards):
        if shard is not None:
            try:
                found.verify(folder, number)
            except DamagedError:
                found = found.having(number, None)
    return found


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Raise EtudeError in the block where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise EtudeError(
            f"the disk is full: not all keys could be written to {str(folder)!r}; make room and do the same again,"
            " which goes on from what is there"
        ) from None
