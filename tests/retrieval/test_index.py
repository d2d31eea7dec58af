from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.retrieval import exact as searching
from etude.retrieval import index, lists
from etude.retrieval.exact import Keys, distances, exact
from etude.retrieval.index import Inverted, fewest_probes, recall
from etude.retrieval.lists import Lists, kept, lists_for, made


def drawn(count, width=8, seed=0, clusters=12):
    """Return keys in clusters."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, width))
    return (centres[random.integers(clusters, size=count)] + 0.4 * random.normal(size=(count, width))).astype("f4")


def sorted_by_hand(keys, queries, k, document=None, own=None, banned=None):
    """Return what sorting every key by distance and then by number gives."""
    away = distances(queries, np.broadcast_to(keys, (len(queries), *keys.shape)))
    if own is not None:
        away[own[:, None] == document] = np.inf
    if banned is not None:
        away[:, banned[document]] = np.inf
    order = np.lexsort((np.broadcast_to(np.arange(len(keys)), away.shape), away))[:, :k]
    near = np.take_along_axis(away, order, 1)
    numbers = np.where(np.isfinite(near), order, -1)
    return tuple(
        np.pad(x, ((0, 0), (0, k - x.shape[1])), constant_values=v) for x, v in ((near, np.inf), (numbers, -1))
    )


def same(found, wanted):
    assert np.array_equal(found.numbers, wanted[1])
    assert np.array_equal(found.distances, wanted[0])
    assert found.distances.dtype == np.float32 and found.numbers.dtype == np.int64


def test_exact_search_is_that_of_sorting_every_key_whatever_the_blocks(monkeypatch):
    keys, queries = drawn(700), drawn(90, seed=1)
    whole = exact(Keys([keys]), queries, 7)
    same(whole, sorted_by_hand(keys, queries, 7))
    monkeypatch.setattr(searching, "AT_ONCE", 13)
    parts = Keys([keys[:1], keys[1:1], keys[1:300], keys[300:]])
    monkeypatch.setattr(parts, "blocks", lambda size=64, of=parts.blocks: of(64))
    same(exact(parts, queries, 7), whole)


def test_exact_search_finds_what_faiss_finds():
    faiss = pytest.importorskip("faiss", exc_type=ImportError)
    keys, queries = drawn(2000, 24), drawn(50, 24, seed=1)
    flat = faiss.IndexFlatL2(24)
    flat.add(keys)
    away, numbers = flat.search(queries, 10)
    found = exact(Keys([keys]), queries, 10)
    assert np.array_equal(found.numbers, numbers)
    assert np.allclose(found.distances, away, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000), st.integers(1, 4))
def test_equal_keys_come_by_number_and_barred_ones_never(count, k, seed, values):
    random = np.random.default_rng(seed)
    keys = random.integers(values, size=(count, 2)).astype("f4")  # many are equal
    queries, document = random.integers(values, size=(9, 2)).astype("f4"), np.sort(random.integers(5, size=count))
    own, banned = random.integers(-1, 5, size=9), random.random(5) < 0.3
    found = exact(Keys([keys], document, banned), queries, k, own)
    same(found, sorted_by_hand(keys, queries, k, document, own, banned))


def test_rounding_hides_no_key_where_many_are_nearly_as_far(monkeypatch):
    """Far from the origin a matrix product tells nothing of small differences."""
    random = np.random.default_rng(0)
    keys = (1000 + random.integers(3, size=(600, 6)) * 0.001).astype("f4")
    queries = keys[:40] + np.float32(0.001)
    asked, fetched = [], searching._fetched
    monkeypatch.setattr(searching, "_fetched", lambda *given: (asked.append(given[3]), fetched(*given))[1])
    same(exact(Keys([keys]), queries, 5), sorted_by_hand(keys, queries, 5))
    assert max(asked) == 600  # what the first fetch brought was not enough


def test_a_query_of_which_all_keys_are_barred_finds_none_and_is_not_searched_again(monkeypatch):
    asked, fetched = [], searching._fetched
    monkeypatch.setattr(searching, "_fetched", lambda *given: (asked.append(given[3]), fetched(*given))[1])
    keys = Keys([drawn(300)], np.zeros(300, np.int64))
    found = exact(keys, drawn(5), 4, np.zeros(5, np.int64))
    assert (found.numbers == -1).all() and np.isinf(found.distances).all()
    assert len(asked) == 1
    assert keys.available(np.array([0, -1])).tolist() == [0, 300]


def test_more_neighbours_than_there_are_keys_leave_places_that_hold_nothing():
    found = exact(Keys([drawn(3)]), drawn(2), 5)
    assert (found.numbers[:, 3:] == -1).all() and (found.numbers[:, :3] >= 0).all()


def test_keys_are_taken_by_number_across_the_arrays_that_hold_them():
    keys = drawn(50)
    numbers = np.array([[49, 0], [17, 16]])
    assert np.array_equal(Keys([keys[:17], keys[17:]]).take(numbers), keys[numbers])


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: exact(Keys([drawn(9)]), drawn(2), 0), "k = 0 neighbours are none: give 1 or more"),
        (lambda: exact(Keys([drawn(9)]), drawn(2, 5), 1), "queries of 5 numbers in a library whose keys have 8"),
        (lambda: Keys([drawn(0)]), "the library has no chunk"),
        (lambda: Keys([drawn(3)], np.array([0, 1])), "2 documents in order are wanted, one for each of 3 keys"),
        (lambda: Keys([drawn(2)], np.array([1, 0])), "in order are wanted"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(ask, words):
    with pytest.raises(UsageError) as caught:
        ask()
    assert words in str(caught.value) and "\n" not in str(caught.value)


# lists


@pytest.fixture(scope="module")
def clustered():
    pytest.importorskip("faiss", exc_type=ImportError)
    keys = drawn(4000, 16, clusters=60)
    document = np.sort(np.random.default_rng(3).integers(80, size=4000))
    return keys, document, made(Keys([keys], document))


def test_every_key_stands_in_the_list_of_its_nearest_centroid_and_once(clustered):
    keys, _, found = clustered
    assert len(found.centroids) == lists_for(4000) == 102
    assert sorted(found.members.tolist()) == list(range(4000))
    nearest = sorted_by_hand(found.centroids, keys, 1)[1][:, 0]
    for number in range(len(found.centroids)):
        members = found.members[found.bounds[number] : found.bounds[number + 1]]
        assert np.array_equal(members, np.flatnonzero(nearest == number))


def test_how_many_lists_there_are_follows_from_the_keys():
    assert [lists_for(n) for n in (1, 39, 1000, 200_000, 1_000_000)] == [1, 1, 25, 4096, 8192]


def test_the_spread_of_a_list_is_the_mean_squared_distance_of_its_keys_from_the_centroid(clustered):
    keys, _, found = clustered
    for number in range(len(found.centroids)):
        members = found.members[found.bounds[number] : found.bounds[number + 1]]
        away = np.square(keys[members] - found.centroids[number]).sum(1)
        assert found.spreads[number] == pytest.approx(away.mean(), rel=1e-5)


def test_a_list_without_keys_has_no_spread(monkeypatch):
    monkeypatch.setattr(lists, "placed", lambda keys, count: np.array([[0, 0], [9, 9], [2, 0]], "f4"))
    found = made(Keys([np.array([[2, 0], [0, 1], [0, 0], [3, 0]], "f4")]))
    assert found.members.tolist() == [1, 2, 0, 3] and found.bounds.tolist() == [0, 2, 2, 4]
    assert found.spreads.tolist() == [0.5, 0, 0.5]


def test_of_two_lists_whose_centroids_are_nearly_as_far_the_denser_is_looked_through_first():
    """Angles on a circle: the wide list's centroid lies inwards and a little nearer, and its keys lie further."""
    angles = np.array([-1.5, -1.3, 1.3, 1.5, 0.45, 0.5, 0.55])
    keys = np.stack([np.cos(angles), np.sin(angles)], 1).astype("f4")
    centroids = np.stack([keys[:4].mean(0), keys[4:].mean(0)])
    spreads = np.array([np.square(keys[:4] - centroids[0]).sum(1).mean(), 0.0], "f4")
    query = np.array([[np.cos(-0.6), np.sin(-0.6)]], "f4")
    away = np.square(query - centroids).sum(1)
    assert away[0] < away[1] < away[0] + index.WIDE * spreads[0]
    found = Lists(centroids, spreads, np.arange(7), np.array([0, 4, 7]))
    assert Inverted(Keys([keys]), found, 1).search(query, 1).numbers.tolist() == [[4]]
    by_centroid = replace(found, spreads=np.zeros(2, "f4"))
    assert Inverted(Keys([keys]), by_centroid, 1).search(query, 1).numbers.tolist() == [[1]]


@pytest.mark.parametrize("probes", [1, 3, 4, 9, 50, 1000])
def test_the_lists_are_looked_through_as_faiss_does(clustered, probes):
    faiss = pytest.importorskip("faiss", exc_type=ImportError)
    keys, _, found = clustered
    theirs = faiss.IndexIVFFlat(faiss.IndexFlatL2(16), 16, len(found.centroids))
    theirs.quantizer.add(found.centroids)
    theirs.is_trained = True
    theirs.add(keys)
    theirs.nprobe = probes
    queries = drawn(200, 16, seed=5, clusters=60)
    away, numbers = theirs.search(queries, 5)
    by_centroid = replace(found, spreads=np.zeros_like(found.spreads))  # as faiss orders lists
    ours = Inverted(Keys([keys]), by_centroid, probes).search(queries, 5)
    full = numbers[:, -1] >= 0  # where their lists hold too few, ours are searched exactly
    assert full.sum() > 100
    assert np.array_equal(ours.numbers[full], numbers[full])
    assert np.allclose(ours.distances[full], away[full], rtol=1e-4)


def test_with_every_list_the_search_is_exact_and_bars_what_exact_search_bars(clustered, monkeypatch):
    keys, document, found = clustered
    random = np.random.default_rng(1)
    queries, own, banned = drawn(300, 16, seed=2, clusters=60), random.integers(-1, 80, 300), random.random(80) < 0.2
    held = Keys([keys], document, banned)
    monkeypatch.setattr(index, "AT_ONCE", 128)
    same(Inverted(held, found, 1000).search(queries, 9, own), exact(held, queries, 9, own))


@pytest.mark.parametrize("probes", [1, 5, 40])
def test_nobody_finds_the_own_document_or_a_banned_one_in_a_few_lists(clustered, probes):
    keys, _, found = clustered
    document = np.arange(4000) // 40
    random = np.random.default_rng(1)
    of = random.integers(4000, size=400)
    banned = random.random(100) < 0.2
    near = Inverted(Keys([keys], document, banned), found, probes).search(keys[of], 6, document[of])
    assert (near.numbers >= 0).all()
    assert (document[near.numbers] != document[of][:, None]).all()
    assert not banned[document[near.numbers]].any()
    assert np.array_equal(near.distances, distances(keys[of], keys[near.numbers]))
    assert (np.diff(near.distances) >= 0).all()


def test_a_query_whose_lists_hold_too_few_is_searched_exactly():
    keys = np.concatenate([drawn(300, 4, clusters=1), drawn(5, 4, clusters=1) + 100])
    held = Keys([keys], np.repeat([0, 1], [300, 5]))
    centroids = np.stack([keys[:300].mean(0), keys[300:].mean(0)])
    apart = Lists(centroids, np.zeros(2, "f4"), np.arange(305), np.array([0, 300, 305]))
    queries, own = keys[298:], np.repeat([0, 1], [2, 5])
    same(Inverted(held, apart, 1).search(queries, 6, own), exact(held, queries, 6, own))


def test_recall_counts_the_true_neighbours_that_were_found():
    true = np.array([[1.0, 2.0, 3.0], [1.0, np.inf, np.inf]], "f4")
    assert recall(true, true) == 1.0
    assert recall(np.array([[1.0, 3.0, 4.0], [np.inf] * 3], "f4"), true) == 0.5
    assert recall(np.full((2, 3), np.inf, "f4"), np.full((2, 3), np.inf, "f4")) == 1.0


@pytest.mark.parametrize("wanted", [0.5, 0.9, 1.0])
def test_as_few_lists_are_looked_through_as_the_recall_allows(clustered, wanted):
    keys, document, found = clustered
    searched, queries = Inverted(Keys([keys], document), found, 1), drawn(150, 16, seed=7, clusters=60)
    own = np.full(150, -1)
    probes, share = fewest_probes(searched, queries, own, wanted)
    true = exact(searched.keys, queries, 10, own).distances

    def at(number):
        return recall(Inverted(searched.keys, found, number).search(queries, 10, own).distances, true)

    assert searched.probes == probes and share == at(probes) >= wanted
    assert probes == 1 or at(probes - 1) < wanted


def test_what_is_kept_is_read_again_and_only_if_it_is_whole_and_of_these_keys(clustered, tmp_path, monkeypatch):
    keys, document, found = clustered
    held, path, said = Keys([keys], document), tmp_path / "lists", []
    first = kept(path, held, "these", said.append)
    assert np.array_equal(first.members, found.members) and said == []
    times, make = [], lists.made
    monkeypatch.setattr(lists, "made", lambda keys: (times.append(1), make(keys))[1])
    assert np.array_equal(kept(path, held, "these", said.append).centroids, found.centroids)
    assert times == [] and said == []
    whole = path.read_bytes()
    for broken in (whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], whole[: len(whole) // 2], b"", b"no index at all"):
        path.write_bytes(broken)
        for _ in range(2):  # the second time it is read
            assert np.array_equal(kept(path, held, "these", said.append).members, found.members)
    assert len(times) == len(said) == 4 and "lists is damaged, or of other keys: it is made again" in said[0]
    kept(path, held, "those", said.append)
    assert len(times) == 5
    path.unlink()
    kept(path, held, "those", said.append)
    assert len(times) == 6 and len(said) == 5  # what is gone is no complaint


def test_without_faiss_lists_are_refused_and_exact_search_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"ivf and lance need faiss: pip install 'etude\[retrieval\]', or use --index"):
        made(Keys([drawn(100)]))
    assert exact(Keys([drawn(100)]), drawn(2), 3).numbers.shape == (2, 3)
