from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import DamagedError, EtudeError
from etude.text import store as module
from etude.text.store import TokenStore, dtype_for
from etude.text.store_writer import StoreWriter

documents_of = st.lists(st.lists(st.lists(st.integers(0, 299), max_size=5), max_size=3), max_size=6)


def write(path: Path, documents: list[list[list[int]]], vocabulary: int = 300, openings: int = 0) -> TokenStore:
    with StoreWriter(path, vocabulary, openings) as writer:
        for document in documents:
            for ids in document:
                writer.add(ids, 2 * len(ids))
            writer.end_document()
    return TokenStore.open(path)


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return write(tmp_path / "a.tokens", [[[1, 2, 3], [4]], [[5] * 1000], [[6, 7]]])


@settings(max_examples=60, deadline=None)
@given(documents=documents_of, vocabulary=st.sampled_from([300, 65536, 65537, 1 << 20]))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, documents, vocabulary: int):
    store = write(tmp_path_factory.mktemp("s") / "a.tokens", documents, vocabulary)
    flat = [[id for ids in document for id in ids] for document in documents]
    assert store.tokens.dtype == np.dtype(dtype_for(vocabulary)) and store.tokens.dtype.byteorder in "=<"
    assert [store.tokens[a:b].tolist() for a, b in zip(store.documents, store.documents[1:], strict=False)] == flat
    assert store.documents.tolist()[0] == 0 and store.documents[-1] == store.count == sum(map(len, flat))
    assert (store.bytes, store.vocabulary, store.openings) == (2 * store.count, vocabulary, 0)
    store.verify()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what it was advised")
@pytest.mark.parametrize("large", [False, True])
def test_of_a_large_store_nothing_is_read_ahead(large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if large:
        monkeypatch.setattr(module, "LARGE", 2000)  # bytes of tokens; the boundaries are fewer
    store = write(tmp_path / "a.tokens", [[[5] * 1000]])
    assert store.tokens.tolist() == [5] * 1000 and store.documents.tolist() == [0, 1000]
    mappings = Path("/proc/self/smaps").read_text().split(str(store.path))[1:]
    flags = [next(line for line in lines.splitlines() if line.startswith("VmFlags")) for lines in mappings]
    assert sorted(" rr" in line for line in flags) == [False, large]


def test_the_hash_is_of_the_content_alone(tmp_path: Path):
    one = write(tmp_path / "one", [[[1, 2], [3]]])
    other = write(tmp_path / "other", [[[1], [2, 3]]])
    divided = write(tmp_path / "divided", [[[1, 2]], [[3]]])
    assert one.sha256 == other.sha256 != divided.sha256
    assert one.path.read_bytes() == other.path.read_bytes()


def test_the_file_is_little_endian_as_its_layout_says(store: TokenStore):
    raw = store.path.read_bytes()
    assert raw[:8] == b"ETUDETOK" and struct.unpack_from("<I", raw, 8) == (2,)
    assert struct.unpack_from("<5H", raw, 4096) == (1, 2, 3, 4, 5)
    assert struct.unpack_from("<4Q", raw, len(raw) - 32) == (0, 4, 1004, 1006)


def test_a_store_can_only_be_read(store: TokenStore):
    with pytest.raises(ValueError, match="read-only"):
        store.tokens[0] = 9


@pytest.mark.parametrize("at", [0, 9, 20, 60, 100])
def test_a_flipped_bit_in_the_header(store: TokenStore, at: int):
    raw = bytearray(store.path.read_bytes())
    raw[at] ^= 4
    store.path.write_bytes(raw)
    with pytest.raises(DamagedError) as caught:
        TokenStore.open(store.path)
    assert "\n" not in str(caught.value) and "make it again" in str(caught.value)


@pytest.mark.parametrize("at", [4096, 5000, -1])
def test_a_flipped_bit_in_the_content(store: TokenStore, at: int):
    raw = bytearray(store.path.read_bytes())
    raw[at] ^= 1
    store.path.write_bytes(raw)
    with pytest.raises(DamagedError, match="was changed: its sha256 is"):
        TokenStore.open(store.path).verify()


@pytest.mark.parametrize("kept", [0, 30, 3000, 4096, 5000, -1])
def test_a_cut_file(store: TokenStore, kept: int):
    store.path.write_bytes(store.path.read_bytes()[:kept])
    with pytest.raises(DamagedError, match="cut short"):
        TokenStore.open(store.path)


def test_a_file_with_something_after_it(store: TokenStore):
    with store.path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedError, match="too long"):
        TokenStore.open(store.path)


def test_another_version(store: TokenStore):
    raw = bytearray(store.path.read_bytes())
    raw[8:12] = struct.pack("<I", 7)
    store.path.write_bytes(raw)
    with pytest.raises(DamagedError, match="has version 7 and this Etude reads version 2: make it again"):
        TokenStore.open(store.path)


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(DamagedError, match=r"cannot read the token store .*: No such file"):
        TokenStore.open(tmp_path / "no.tokens")


def begin_and_stop(path: Path) -> None:
    with StoreWriter(path, 300) as writer:
        writer.add([1], 1)
        raise RuntimeError("stop")


def test_nothing_is_left_of_a_store_that_was_not_finished(tmp_path: Path):
    with pytest.raises(RuntimeError, match="stop"):
        begin_and_stop(tmp_path / "a.tokens")
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_place_stays_until_the_new_one_is_whole(store: TokenStore):
    before = store.path.read_bytes()
    with pytest.raises(RuntimeError, match="stop"):
        begin_and_stop(store.path)
    assert store.path.read_bytes() == before


@pytest.mark.parametrize("ids", [[300], [-1], [0, 70000]])
def test_a_token_beyond_the_vocabulary(tmp_path: Path, ids: list[int]):
    with (
        pytest.raises(EtudeError, match="does not fit a vocabulary of 300"),
        StoreWriter(tmp_path / "a", 300) as writer,
    ):
        writer.add(ids, 1)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_document(tmp_path: Path):
    with pytest.raises(EtudeError, match="end_document"), StoreWriter(tmp_path / "a", 300) as writer:
        writer.add([1], 1)


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EtudeError, match=r"cannot write '.*a.tokens': No space left on device; make room"):
        write(tmp_path / "a.tokens", [[[1]]])
    assert list(tmp_path.iterdir()) == []


LABELLED = [[1, 2, 3], [4], [5, 6]]


def write_labelled(path: Path, labels: list[int | None], classes: tuple[str, ...], openings: int = 0) -> TokenStore:
    with StoreWriter(path, 300, openings, classes) as writer:
        for ids, label in zip(LABELLED, labels, strict=True):
            writer.add(ids, len(ids))
            writer.end_document(label)
    return TokenStore.open(path)


@pytest.mark.parametrize("count", [2, 3000])
def test_labels_come_back_with_their_names(tmp_path: Path, count: int):
    classes = tuple(f"class {n} \N{SNOWMAN}" for n in range(count))  # 3,000 names need more room than a page
    store = write_labelled(tmp_path / "a", [1, 0, count - 1], classes)
    assert store.labels is not None and store.labels.dtype == np.int64
    assert store.labels.tolist() == [1, 0, count - 1] and store.classes == classes and store.sides == ()
    assert store.tokens.tolist() == [1, 2, 3, 4, 5, 6] and store.documents.tolist() == [0, 3, 4, 6]
    assert store.header.start % 4096 == 0 and (store.header.start == 4096) == (count == 2)
    assert store.label_counts[:2] == [1, 1 + (count == 2)]
    store.verify()


def test_labels_are_part_of_the_content(tmp_path: Path):
    one, other = (write_labelled(tmp_path / f"{n}", [n, 0, 1], ("a", "b")) for n in (0, 1))
    assert one.sha256 != other.sha256
    raw = bytearray(one.path.read_bytes())
    raw[-8] ^= 1
    one.path.write_bytes(raw)
    with pytest.raises(DamagedError, match="was changed"):
        TokenStore.open(one.path).verify()


def test_a_store_without_labels_has_none(store: TokenStore):
    assert store.labels is None and store.classes == store.sides == () and store.label_counts == []


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 2, 1], ("a", "b"), r"document 1 has the label 2, and the 2 classes \(a, b\) are numbered from 0"),
        ([0, -1, 1], ("a", "b"), "document 1 has the label -1"),
        ([0, None, 1], ("a", "b"), "document 1 has the label None"),
        ([0, None, None], (), "document 0 has the label 0 and there are no classes"),
    ],
)
def test_a_label_that_is_none_of_the_classes(tmp_path: Path, labels, classes, message: str):
    with pytest.raises(EtudeError, match=message):
        write_labelled(tmp_path / "a", labels, classes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("documents", [0, 2, 3])
def test_sides_need_whole_groups(tmp_path: Path, documents: int):
    def made() -> TokenStore:
        with StoreWriter(tmp_path / "a", 300, sides=("en", "de")) as writer:
            for n in range(documents):
                writer.add([n], 1)
                writer.end_document()
        return TokenStore.open(tmp_path / "a")

    if documents % 2:
        with pytest.raises(EtudeError, match="3 documents make no groups of 2"):
            made()
    else:
        assert made().sides == ("en", "de") and made().labels is None
