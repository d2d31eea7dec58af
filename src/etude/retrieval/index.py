"""Inverted file search: keys stand in lists by the nearest of some centroids, and a query looks through the lists of
the centroids nearest to it (faiss' `IVF,Flat`). Approximate: what is missed is measured against exact search.

The centroids are faiss'. The lists are looked through here, each with all queries that want it in one matrix product:
where many queries are asked together, as for a whole corpus, that is several times faster than faiss' search of the
same lists, which takes the queries one by one; and the keys that a query may not find are passed over as they come, so
that no more has to be fetched than is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.retrieval.approximate import Approximate
from etude.retrieval.exact import Found, Keys, checked, completed, exact, in_order, joined, padded, pieces
from etude.retrieval.lists import Lists

ABOVE = 262_144
"""Keys from which on lists are worth while. At 200,000 keys by `tfidf`, lists that find 0.98 of the ten nearest are
three times as fast as exact search, which misses none and needs nothing made first."""

AT_ONCE = 16384
"""Queries that are asked together: the more, the more of them want the same list."""

STAGES = (16, 64)
"""Where stages end among the lists of a query, nearest list first, before the last stage. What one finds says how
near a key must be to be looked at in the next, so that most are passed over. The first has to hold enough keys of other
documents than the query's own, which often fills the nearest lists: with 4 lists of 49 keys in it, leaving the own
document out takes up to half as long again."""

WIDE = 0.5
"""Share of a list's spread that counts as distance. The whole of it would order lists by the mean distance of their
keys, but the nearest of these decides, which lies nearer. Of keys of length 1, a half is nearly the angle to the
centroid. By distance to the centroid alone wide lists, whose centroids lie inwards, come too early, and 1.3 to 1.9
times as many keys are looked at for the same recall (benchmarks/retrieval.md)."""

RECALL_AT = 10
"""Neighbours whose share that is found is the recall."""


class Inverted:
    """Keys in lists, to be searched. It holds a copy of the keys in memory, list after list.

    Args:
        keys: what is searched.
        lists: which stand in which list.
        probes: lists that each query looks through.
    """

    def __init__(self, keys: Keys, lists: Lists, probes: int) -> None:
        self.keys, self.lists, self.probes = keys, lists, min(probes, len(lists.centroids))
        self._held = torch.from_numpy(keys.take(lists.members))
        self._norms = self._held.square().sum(1)
        self._norms[torch.from_numpy(keys.barred[lists.members])] = torch.inf
        self._document = torch.from_numpy(keys.document[lists.members])
        self._bounds = lists.bounds.tolist()

    @property
    def most(self) -> int:
        """How many lists there are."""
        return len(self.lists.centroids)

    def search(self, queries: Float[np.ndarray, "Q d"], k: int, own: Int[np.ndarray, " Q"] | None = None) -> Found:
        """Return nearly the k nearest keys of each query, as `Approximate.search` does."""
        own = checked(self.keys, queries, k, own)
        parts = []
        for at in pieces(len(queries), AT_ONCE):
            numbers = self._nearest(torch.from_numpy(queries[at]), k, torch.from_numpy(own[at]))
            parts.append(padded(in_order(self.keys, queries[at], numbers, k), k))
        return completed(joined(parts, k), self.keys, queries, own)

    def _nearest(self, queries: Float[Tensor, "Q d"], k: int, own: Int[Tensor, " Q"]) -> Int[np.ndarray, "Q k"]:
        """Return the numbers of the nearest keys by matrix products, in no order, -1 where the lists hold fewer."""
        centroids = torch.from_numpy(self.lists.centroids)
        offset = centroids.square().sum(1) + WIDE * torch.from_numpy(self.lists.spreads)
        away = torch.addmm(offset, queries, centroids.T, alpha=-2)
        lists = away.topk(self.probes, 1, largest=False).indices
        ends = [*(stage for stage in STAGES if stage < self.probes), self.probes]
        best = self._of_first(queries, lists[:, : ends[0]], k, own)
        for start, stop in pairwise(ends):
            best = _nearer(best, *self._within(queries, lists[:, start:stop], best[0].amax(1), own))
        values, at = best
        return np.where(values.isfinite().numpy(), self.lists.members[at.numpy()], -1)

    def _asked(self, lists: Int[Tensor, "Q P"]) -> Iterator[tuple[slice, Int[Tensor, " n"]]]:
        """Yield each list that is asked for: its place among the members, and by which of the Q · P it is."""
        flat = lists.flatten()
        order = flat.argsort(stable=True)
        cuts = torch.searchsorted(flat[order], torch.arange(len(self._bounds))).tolist()
        for number, (start, stop) in enumerate(zip(self._bounds, self._bounds[1:], strict=False)):
            if start < stop and cuts[number] < cuts[number + 1]:
                yield slice(start, stop), order[cuts[number] : cuts[number + 1]]

    def _away(self, queries: Float[Tensor, "Q d"], rows: Int[Tensor, " n"], held: slice) -> Float[Tensor, "n N"]:
        """Return how far queries are from the keys of a list, less the query's own square, which changes no order."""
        return torch.addmm(self._norms[held], queries.index_select(0, rows), self._held[held].T, alpha=-2)

    def _of_first(
        self, queries: Float[Tensor, "Q d"], lists: Int[Tensor, "Q P"], k: int, own: Int[Tensor, " Q"]
    ) -> tuple[Float[Tensor, "Q k"], Int[Tensor, "Q k"]]:
        """Return the k nearest keys of each query in a few lists, infinitely far where there are fewer."""
        wide = lists.shape[1]
        best = torch.full((lists.numel(), k), torch.inf)
        at = torch.zeros((lists.numel(), k), dtype=torch.int64)
        for held, asked in self._asked(lists):
            rows = asked // wide
            away = self._away(queries, rows, held)
            away.masked_fill_(self._document[held] == own[rows, None], torch.inf)
            values, columns = away.topk(min(k, away.shape[1]), largest=False, sorted=False)
            best[asked, : values.shape[1]], at[asked, : values.shape[1]] = values, columns + held.start
        best, chosen = best.view(len(queries), -1).topk(k, largest=False, sorted=False)
        return best, at.view(len(queries), -1).gather(1, chosen)

    def _within(
        self,
        queries: Float[Tensor, "Q d"],
        lists: Int[Tensor, "Q P"],
        bound: Float[Tensor, " Q"],
        own: Int[Tensor, " Q"],
    ) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"], Int[Tensor, " n"]]:
        """Return what lies within a bound of each query in some lists: of which query it is, how far, and its place
        among the members."""
        found = [(torch.empty(0, dtype=torch.int64), torch.empty(0), torch.empty(0, dtype=torch.int64))]
        for held, asked in self._asked(lists):
            rows = asked // lists.shape[1]
            away = self._away(queries, rows, held)
            of, columns = (away < bound[rows, None]).nonzero(as_tuple=True)
            found.append((rows[of], away[of, columns], columns + held.start))
        rows, away, at = (torch.cat(each) for each in zip(*found, strict=True))
        others = self._document[at] != own[rows]
        return rows[others], away[others], at[others]


def _nearer(
    best: tuple[Float[Tensor, "Q k"], Int[Tensor, "Q k"]],
    rows: Int[Tensor, " n"],
    away: Float[Tensor, " n"],
    at: Int[Tensor, " n"],
) -> tuple[Float[Tensor, "Q k"], Int[Tensor, "Q k"]]:
    """Return the nearest of what was found before and of what was found now.

    Args:
        best: distances and places of each query.
        rows: of which query each of those found now is.
        away: how far each is.
        at: its place.
    """
    many, k = best[0].shape
    rows = torch.cat((torch.arange(many).repeat_interleave(k), rows))
    away, at = torch.cat((best[0].flatten(), away)), torch.cat((best[1].flatten(), at))
    order = torch.from_numpy(np.lexsort((away.numpy(), rows.numpy())))
    starts = torch.searchsorted(rows[order], torch.arange(many))
    taken = order[starts[:, None] + torch.arange(k)]
    return away[taken], at[taken]


def recall(found: Float[np.ndarray, "Q k"], true: Float[np.ndarray, "Q k"]) -> float:
    """Return the share of the true neighbours that were found, by distance: one as near as the furthest of them is as
    good as it. 1 where there are none.

    Args:
        found: distances of what was found.
        true: distances of the nearest.
    """
    there = np.isfinite(true).sum()
    return float((np.isfinite(found) & (found <= true[:, -1:])).sum() / there) if there else 1.0


def fewest_probes(
    index: Approximate, queries: Float[np.ndarray, "Q d"], own: Int[np.ndarray, " Q"] | None, wanted: float
) -> tuple[int, float]:
    """Return the fewest lists to look through for a wanted recall of the ten nearest, and the recall.

    More lists never find less, so the number is doubled and then halved between.

    Args:
        index: its own number of probes is set to what is returned.
        queries: a sample.
        own: see `exact`.
        wanted: share of the neighbours of exact search, at most 1.
    """
    true = exact(index.keys, queries, RECALL_AT, own).distances

    def reached(probes: int) -> float:
        index.probes = probes
        return recall(index.search(queries, RECALL_AT, own).distances, true)

    low, high, most = 0, 1, index.most
    while (share := reached(high)) < wanted and high < most:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if (found := reached(middle)) >= wanted:
            high, share = middle, found
        else:
            low = middle
    index.probes = high
    return high, share
