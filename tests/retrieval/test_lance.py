"""Search with lists on disk: what Lance finds, beside exact search and the lists in memory, and what is kept."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.retrieval import lance_index
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.exact import Keys, distances, exact
from etude.retrieval.index import fewest_probes, recall
from etude.retrieval.lance_index import STAMP, OnDisk, kept, make
from etude.retrieval.recipes import Library, Neighbours
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("lance", "faiss")),
    reason="no lance: pip install 'etude[retrieval,lance]'",
)


def drawn(count, width=8, seed=0, clusters=12):
    """Return keys in clusters, some of them several times."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, width))
    found = (centres[random.integers(clusters, size=count)] + 0.4 * random.normal(size=(count, width))).astype("f4")
    found[1::7] = found[::7][: len(found[1::7])]
    return found


COUNT, SHARD = 3000, 130
DRAWN = drawn(COUNT)
DOCUMENT = np.sort(np.random.default_rng(1).integers(90, size=COUNT))
QUERIES = drawn(200, seed=0)[:200] + np.float32(0.05)


def keys(banned=None):
    return Keys([DRAWN[at : at + SHARD] for at in range(0, COUNT, SHARD)], DOCUMENT, banned)


def index(folder, of, identity="one", said=None):
    """Return an index, made here part by part, the last part first: the order must not matter."""
    place = folder / "index"
    return kept(
        place, of, identity, lambda parts: [make(of, place, part) for part in reversed(parts)], (said or []).append
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lance_index, "IN_SEGMENT", 8)
        index(folder, keys())
    return folder


def test_each_shard_is_a_fragment_and_segments_are_several(folder):
    import lance

    data = lance.dataset(str(folder / "index" / lance_index.DATA))
    assert [fragment.count_rows() for fragment in data.get_fragments()] == [SHARD] * 23 + [COUNT - 23 * SHARD]
    table = data.to_table()
    assert np.array_equal(table["chunk"].to_numpy(), np.arange(COUNT))
    assert np.array_equal(table["document"].to_numpy(), DOCUMENT)
    assert np.array_equal(np.stack(table["key"].to_numpy()), DRAWN)
    assert len(list((folder / "index" / lance_index.DATA / "_indices").iterdir())) == 3 == 24 // 8


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("own", [False, True])
def test_with_every_list_it_finds_what_exact_search_finds(folder, k, own):
    of = keys()
    search = OnDisk(of, folder / "index", probes=10_000)
    documents = np.random.default_rng(2).integers(-1, 90, size=len(QUERIES)) if own else None
    found, true = search.search(QUERIES, k, documents), exact(of, QUERIES, k, documents)
    assert np.array_equal(found.numbers, true.numbers) and np.array_equal(found.distances, true.distances)


@pytest.mark.parametrize("probes", [1, 3])
def test_with_few_lists_it_finds_the_nearest_keys_in_the_lists_nearest_to_a_query(folder, probes):
    centroids = np.load(folder / "index" / lance_index.CENTROIDS).astype(np.float64)

    def away(points):
        return np.square(points[:, None].astype(np.float64) - centroids).sum(-1)

    of = away(DRAWN).argmin(1)
    asked = np.argsort(away(QUERIES), axis=1)[:, :probes]
    true = distances(QUERIES, np.broadcast_to(DRAWN, (len(QUERIES), *DRAWN.shape)))
    true[~(of == asked[..., None]).any(1)] = np.inf
    order = np.lexsort((np.broadcast_to(np.arange(COUNT), true.shape), true))[:, :10]
    assert np.isfinite(np.take_along_axis(true, order, 1)).all() and len(centroids) > 20
    found = OnDisk(keys(), folder / "index", probes).search(QUERIES, 10)
    assert np.array_equal(found.numbers, order)


def test_the_fewest_lists_for_a_recall_are_found_as_for_lists_in_memory(folder):
    search = OnDisk(keys(), folder / "index")
    probes, share = fewest_probes(search, QUERIES, None, 0.9)
    assert 1 < probes < search.most and share >= 0.9
    search.probes = probes - 1
    assert recall(search.search(QUERIES, 10).distances, exact(keys(), QUERIES, 10).distances) < 0.9


def test_neither_the_own_document_nor_a_banned_one_is_found_however_much_of_the_library_they_are(folder):
    banned = np.zeros(90, bool)
    banned[:80] = True
    of = keys(banned)
    search = OnDisk(of, folder / "index", probes=10_000)
    own = np.full(len(QUERIES), 85)
    found = search.search(QUERIES, 10, own)
    assert (found.numbers >= 0).all()
    assert set(DOCUMENT[found.numbers].flatten()) <= set(range(80, 90)) - {85}
    assert np.array_equal(found.numbers, exact(of, QUERIES, 10, own).numbers)


def test_lists_that_hold_too_few_are_completed_by_exact_search(folder):
    banned = np.ones(90, bool)
    banned[[3, 60]] = False
    of = keys(banned)
    found = OnDisk(of, folder / "index", probes=1).search(QUERIES, 40, np.full(len(QUERIES), 3))
    there = int((DOCUMENT == 60).sum())
    assert ((found.numbers >= 0).sum(1) == min(there, 40)).all() and there > 5
    assert set(DOCUMENT[found.numbers[found.numbers >= 0]]) == {60}


def test_equal_keys_are_found_in_the_order_of_their_numbers(tmp_path):
    alike = np.repeat(drawn(40), 50, axis=0)  # of each more than are fetched at first
    of = Keys([alike[at : at + 500] for at in range(0, 2000, 500)])
    search = index(tmp_path, of)
    search.probes = 10_000
    found = search.search(alike[::50], 30)
    assert np.array_equal(found.numbers, exact(of, alike[::50], 30).numbers)


def test_nothing_and_one_may_be_asked(folder):
    search = OnDisk(keys(), folder / "index", probes=5)
    assert search.search(QUERIES[:0], 4).numbers.shape == (0, 4)
    assert search.search(QUERIES[:1], 4).numbers.shape == (1, 4)
    with pytest.raises(UsageError, match="k = 0 neighbours are none"):
        search.search(QUERIES, 0)


# what is kept


def forbidden(parts):
    raise AssertionError("made again")


def test_what_is_kept_is_taken_and_not_made_again(folder):
    assert kept(folder / "index", keys(), "one", forbidden).most == OnDisk(keys(), folder / "index").most


def damaged(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "harm",
    [
        lambda place: damaged(next(place.glob("keys.lance/data/*.lance"))),
        lambda place: damaged(next(place.glob("keys.lance/_indices/*/auxiliary.idx"))),
        lambda place: next(place.glob("keys.lance/_indices/*/index.idx")).unlink(),
        lambda place: (place / STAMP).write_text("torn"),
    ],
    ids=["a changed fragment", "a changed segment", "a missing file", "no stamp"],
)
def test_a_damaged_index_is_made_again_and_that_is_said(folder, tmp_path, harm):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    harm(tmp_path / "index")
    said = ["before"]
    search = index(tmp_path, keys(), said=said)
    assert said[1:] == ["the index index is damaged, or of other keys: it is made again"]
    search.probes = 10_000
    assert np.array_equal(search.search(QUERIES, 5).numbers, exact(keys(), QUERIES, 5).numbers)


def test_the_index_of_another_library_is_made_again_and_a_half_made_one_without_a_word(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    other = Keys([drawn(500, seed=9)])
    said = ["before"]
    search = index(tmp_path, other, identity="two", said=said)
    search.probes = 10_000
    assert len(said) == 2
    assert np.array_equal(search.search(QUERIES, 5).numbers, exact(other, QUERIES, 5).numbers)
    (tmp_path / "index" / STAMP).unlink()
    index(tmp_path, other, identity="two", said=said)
    assert len(said) == 2


def test_without_lance_the_remedy_is_told(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(
        UsageError, match=r"--index lance needs pylance: pip install 'etude\[lance\]', or use --index ivf"
    ):
        OnDisk(keys(), folder / "index")


def test_lance_says_nothing_by_itself(folder):
    search = (
        "import numpy as np, sys; from pathlib import Path; from etude.retrieval.exact import Keys\n"
        "from etude.retrieval.lance_index import OnDisk, kept, make\n"
        "keys, place = Keys([np.eye(8, dtype='f4').repeat(20, 0)]), Path(sys.argv[1])\n"
        "kept(place, keys, '', lambda parts: [make(keys, place, p) for p in parts]).search(np.eye(8, dtype='f4'), 3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", search, str(folder / "quiet")], capture_output=True, text=True, check=True
    )
    assert done.stdout == done.stderr == ""


# the recipe


def test_neighbours_by_an_index_on_disk_are_those_of_exact_search_and_the_recall_is_measured(tmp_path):
    lab = Lab(tmp_path / "runs", quiet=True, threads=1)
    library = Library(Tokens(Fable(stories=40), Byte()), chunk=16, embedder=Tfidf(dimension=24))
    recipes = [Neighbours(library, k=3, index=kind, recall=0.95, splits=("train",)) for kind in ("exact", "lance")]
    true, found = lab.run_all(recipes)
    said = found.result["index"]
    assert said["kind"] == "lance" and 0.95 <= said["recall"] <= 1 and 1 <= said["probes"] <= said["lists"]
    near, away = (np.load(run.file("train.distances.npy")) for run in (true, found))
    there = np.isfinite(near).any(1)
    assert (away <= near[:, -1:])[there].mean() > 0.93
    assert not list(found.path.glob("*lance*")), "a cache is no part of the run"
