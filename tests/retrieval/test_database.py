"""The database on disk: what is written, what is read, and what bad input gets. The embedder is a toy whose keys can be
checked by hand."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etude.core.errors import DamagedError, EtudeError, UsageError
from etude.core.files import sha256_of
from etude.retrieval.building import build, embedded, planned, written
from etude.retrieval.database import Database
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.manifest import MANIFEST, SHARD, Manifest
from etude.text.chunks import Chunks
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter

END, VOCABULARY, SHARD_OF = 0, 100, 7


class Toy:
    """Gives sum, length and first token of a chunk, and counts the chunks that it was given."""

    def __init__(self, identity: str = "toy", at_once: int = 3, broken: float | None = None) -> None:
        self.dimension, self.identity, self.at_once, self.broken = 3, identity, at_once, broken
        self.seen = 0

    def __call__(self, tokens: np.ndarray, present: np.ndarray) -> np.ndarray:
        self.seen += len(tokens)
        if self.broken is not None:
            return np.full((len(tokens), 3), self.broken, np.float32)
        columns = [(tokens * present).sum(1), present.sum(1), tokens[:, 0]]
        return np.stack(columns, axis=1).astype(np.float32)


def chunks_of(folder: Path, lengths: list[int], seed: int = 0, size: int = 4) -> Chunks:
    random = np.random.default_rng(seed)
    with StoreWriter(folder / f"{seed}.tokens", VOCABULARY) as writer:
        for length in lengths:
            writer.add([*random.integers(1, VOCABULARY, length).tolist(), END], length)
            writer.end_document()
    return Chunks(TokenStore.open(folder / f"{seed}.tokens"), size, END)


def plan_of(chunks: Chunks, embedder: Toy | None = None, tokenizer: str = "words", shard: int = SHARD_OF) -> Manifest:
    return planned(chunks, embedder or Toy(), Tfidf(), tokenizer, shard)


def built(folder: Path, chunks: Chunks, embedder: Toy | None = None, **how: Any) -> Path:
    folder.mkdir(exist_ok=True)
    build(folder, chunks, embedder or Toy(), plan_of(chunks, embedder, **how))
    return folder


def by_hand(chunks: Chunks) -> np.ndarray:
    """Return the toy's keys from the documents themselves, in plain Python."""
    ids, bounds, found = chunks.store.tokens.tolist(), chunks.store.documents.tolist(), []
    for start, stop in itertools.pairwise(bounds):
        text = [END, *ids[start : stop - 1]]
        for at in range(0, len(text), chunks.size):
            piece = text[at : at + chunks.size]
            found.append([sum(piece), len(piece), piece[0]])
    return np.array(found, np.float32)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.iterdir()}


@pytest.fixture
def chunks(tmp_path: Path) -> Chunks:
    return chunks_of(tmp_path, [9, 3, 40, 1, 17, 25, 8])


@pytest.fixture
def folder(tmp_path: Path, chunks: Chunks) -> Path:
    return built(tmp_path / "base", chunks)


def test_every_chunk_has_the_key_of_its_own_tokens(folder: Path, chunks: Chunks):
    database = Database.open(folder)
    assert (len(database), database.dimension, database.chunk) == (len(chunks), 3, 4)
    np.testing.assert_array_equal(database.keys(0, len(database)), by_hand(chunks))


def test_shards_come_in_order_and_are_what_numpy_reads(folder: Path, chunks: Chunks):
    found = list(Database.open(folder).shards())
    assert [first for first, _ in found] == list(range(0, len(chunks), SHARD_OF))
    np.testing.assert_array_equal(np.concatenate([keys for _, keys in found]), by_hand(chunks))
    assert all(isinstance(keys, np.memmap) for _, keys in found)
    np.testing.assert_array_equal(np.load(folder / "keys-00001.npy"), by_hand(chunks)[SHARD_OF : 2 * SHARD_OF])


def test_the_manifest_says_all_that_decides_the_keys(folder: Path, chunks: Chunks):
    said = json.loads((folder / MANIFEST).read_text())
    shards = [(folder / f"keys-{n:05d}.npy") for n in range(-(-len(chunks) // SHARD_OF))]
    assert said == {
        "format": 1,
        "chunk": 4,
        "chunks": len(chunks),
        "dimension": 3,
        "shard": SHARD_OF,
        "tokens": chunks.store.sha256,
        "tokenizer": "words",
        "fitted": "toy",
        "shards": [{"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in shards],
        "embedder": Tfidf().to_json(),
        "complete": True,
    }
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *(path.name for path in shards)}
    assert plan_of(chunks, shard=SHARD).shards == (None,)


def test_a_shard_is_made_by_itself_as_it_is_in_the_row(folder: Path, chunks: Chunks, tmp_path: Path):
    manifest = Manifest.read(folder)
    for number in (2, 0):
        stored = written(tmp_path, number, embedded(manifest.rows(number), chunks, Toy()))
        assert stored == manifest.shards[number]
        assert sha256_of(tmp_path / f"keys-{number:05d}.npy") == stored.sha256


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_keys_are_found_across_shards_and_volumes(tmp_path: Path, data: st.DataObject):
    kinds = ([9, 3, 40, 1], [2], [30, 30, 5])
    parts = [chunks_of(tmp_path, lengths, seed=n) for n, lengths in enumerate(kinds)]
    database = Database.open([built(tmp_path / f"v{n}", part, shard=5 + n) for n, part in enumerate(parts)])
    whole = np.concatenate([by_hand(part) for part in parts])
    assert len(database) == len(whole)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    np.testing.assert_array_equal(database.keys(start, stop), whole[start:stop])
    for first, keys in database.shards():
        np.testing.assert_array_equal(keys, whole[first : first + len(keys)])


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 1000)])
def test_keys_that_are_not_there(folder: Path, start: int, stop: int):
    with pytest.raises(IndexError, match=f"chunks {start} to {stop} asked of"):
        Database.open(folder).keys(start, stop)


def test_the_identity_is_of_every_key_and_of_nothing_else(folder: Path, chunks: Chunks, tmp_path: Path):
    def identity(*folders: Path) -> str:
        return Database.open(folders).identity

    other = chunks_of(tmp_path, [9, 3, 40, 1, 17, 25, 8], seed=1)
    copy = built(tmp_path / "copy", chunks)
    manifest = Manifest.read(copy)
    replace(manifest, embedder={"path": "elsewhere"}).write(copy)
    assert identity(folder) == identity(copy)
    different = [built(tmp_path / "text", other), built(tmp_path / "shard", chunks, shard=8)]
    found = {
        identity(folder),
        *map(identity, different),
        identity(folder, different[0]),
        identity(different[0], folder),
    }
    assert len(found) == 5


# going on


class Stopped(Exception):
    """What stands for a kill."""


def stopping_after(count: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= count:
            raise Stopped

    return progress


@pytest.mark.parametrize("stop", range(1, 31, 4))
def test_a_build_that_is_stopped_anywhere_ends_as_an_unbroken_one(
    folder: Path, chunks: Chunks, tmp_path: Path, stop: int
):
    again, toy = tmp_path / "again", Toy()
    again.mkdir()
    with pytest.raises(Stopped):
        build(again, chunks, toy, plan_of(chunks), stopping_after(stop))
    made = sum(shard is not None for shard in Manifest.read(again).shards)
    assert made == max(0, stop - 1) // SHARD_OF  # what was embedded before the shard in hand
    (again / ".keys-00003.npy.1.tmp").write_bytes(b"torn")  # what a kill in the middle of a write leaves
    seen, told = toy.seen, []
    build(again, chunks, toy, plan_of(chunks), lambda done, total: told.append((done, total)))
    assert toy.seen - seen == len(chunks) - made * SHARD_OF
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[0][0] > made * SHARD_OF and told[-1] == (len(chunks), len(chunks))
    assert hashes(again) == hashes(folder)


def test_what_is_complete_is_not_made_again(folder: Path, chunks: Chunks):
    toy, before = Toy(), {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    build(folder, chunks, toy, plan_of(chunks))
    assert toy.seen == 0
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")} == before


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_a_damaged_shard_is_made_again_and_no_other(folder: Path, chunks: Chunks):
    before, toy = hashes(folder), Toy()
    damage(folder / "keys-00001.npy")
    (folder / "keys-00003.npy").unlink()
    build(folder, chunks, toy, plan_of(chunks))
    assert toy.seen == sum(len(Manifest.read(folder).rows(number)) for number in (1, 3))
    assert hashes(folder) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_line_and_what_is_there_stays_good(folder: Path, chunks: Chunks, tmp_path: Path):
    again = tmp_path / "again"
    again.mkdir()

    def fill(done: int, total: int) -> None:
        if done == SHARD_OF:  # the second shard will be written to a device that is full
            (again / f".keys-00001.npy.{os.getpid()}.tmp").symlink_to("/dev/full")

    with pytest.raises(EtudeError, match=r"^the disk is full: not all keys .* goes on from what is there$"):
        build(again, chunks, Toy(), plan_of(chunks), fill)
    assert sha256_of(again / "keys-00000.npy") == hashes(folder)["keys-00000.npy"]
    assert not (again / "keys-00001.npy").exists()
    toy = Toy()
    build(again, chunks, toy, plan_of(chunks))
    assert toy.seen == len(chunks) - SHARD_OF
    assert hashes(again) == hashes(folder)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_keys_that_are_not_finite_are_refused(chunks: Chunks, tmp_path: Path, bad: float):
    with pytest.raises(UsageError, match=r"7 of 7 keys are not finite: the embedder's model has diverged"):
        build(tmp_path, chunks, Toy(broken=bad), plan_of(chunks))


@pytest.mark.parametrize(
    "change",
    [
        lambda chunks: plan_of(chunks, Toy("other")),
        lambda chunks: plan_of(chunks, tokenizer="bytes"),
        lambda chunks: plan_of(Chunks(chunks.store, 5, END)),
        lambda chunks: plan_of(chunks, shard=8),
    ],
    ids=["embedder", "tokenizer", "chunk", "shard"],
)
def test_a_folder_of_other_keys_is_not_built_into(folder: Path, chunks: Chunks, change: Callable[[Chunks], Manifest]):
    before = hashes(folder)
    with pytest.raises(UsageError, match="holds keys of another text, chunk size, tokenizer or embedder"):
        build(folder, chunks, Toy(), change(chunks))
    assert hashes(folder) == before


# bad input


def test_a_shard_that_is_missing_cut_short_or_changed(folder: Path, chunks: Chunks):
    whole = Database.open(folder)
    whole.verify()
    path = folder / "keys-00001.npy"
    good = path.read_bytes()
    damage(path)
    with pytest.raises(DamagedError, match=r"keys-00001.npy' was changed: its hash is not the one in manifest.json"):
        Database.open(folder).verify()
    path.write_bytes(good[:-4])
    for read in (whole.verify, lambda: whole.keys(8, 9), lambda: Database.open(folder)):
        with pytest.raises(DamagedError, match=r"keys-00001.npy' is cut short, \d+ bytes instead of \d+: remove"):
            read()
    path.write_bytes(good + b"more")
    with pytest.raises(DamagedError, match=r"keys-00001.npy' is too long"):
        Database.open(folder)
    path.write_bytes(b"x" * len(good))
    with pytest.raises(DamagedError, match=r"keys-00001.npy' cannot be read \(.*\): remove the library's run"):
        list(Database.open(folder).shards())
    path.write_bytes(good.replace(b"(7, 3)", b"(3, 7)"))
    with pytest.raises(DamagedError, match=r"keys-00001.npy' was changed: it holds float32 \[3, 7\]"):
        Database.open(folder).keys(8, 9)
    path.unlink()
    with pytest.raises(DamagedError, match=r"keys-00001.npy' is missing: remove the library's run"):
        Database.open(folder)


def test_a_database_that_is_not_complete(chunks: Chunks, tmp_path: Path):
    with pytest.raises(Stopped):
        build(tmp_path, chunks, Toy(), plan_of(chunks), stopping_after(2 * SHARD_OF + 1))
    with pytest.raises(DamagedError, match=r"is not complete: 2 of 5 shards are made; run the command .* again"):
        Database.open(tmp_path)


def test_what_is_no_manifest(folder: Path, tmp_path: Path):
    path = folder / MANIFEST
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "format": 2}))
    with pytest.raises(DamagedError, match="has format 2, and Etude reads 1"):
        Database.open(folder)
    for wrong in ({"format": 1}, {**said, "surprise": 1}, {**said, "shards": [{"bytes": 1}]}, {**said, "shards": 3}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(DamagedError, match=r"manifest.json' was changed: remove the library's run"):
            Database.open(folder)
    path.write_text("[1]")
    with pytest.raises(DamagedError, match="has format None"):
        Database.open(folder)
    with pytest.raises(UsageError, match=r"no manifest.json in .*: give the folder of a library's run"):
        Database.open(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="at least one volume"):
        Database.open([])


def test_a_reader_with_other_chunks_tokenizer_or_embedder_is_told_which(folder: Path, chunks: Chunks, tmp_path: Path):
    Database.open(folder, chunk=4, tokenizer="words", fitted="toy")
    with pytest.raises(UsageError, match="has chunks of 4 tokens and its reader of 64: give the reader chunks of 4"):
        Database.open(folder, chunk=64)
    with pytest.raises(UsageError, match=r"made with another tokenizer \(words\) than its reader's \(bytes\)"):
        Database.open(folder, tokenizer="bytes")
    with pytest.raises(UsageError, match=r"made with another embedder \(toy\) than its reader's \(other\)"):
        Database.open(folder, fitted="other")
    other = built(tmp_path / "other", chunks, Toy("other"))
    with pytest.raises(UsageError, match="made with another embedder"):
        Database.open([folder, other])


def test_a_database_moves_with_its_folder(folder: Path, tmp_path: Path):
    before = Database.open(folder).identity
    shutil.move(folder, tmp_path / "moved")
    moved = Database.open(tmp_path / "moved")
    moved.verify()
    assert moved.identity == before
