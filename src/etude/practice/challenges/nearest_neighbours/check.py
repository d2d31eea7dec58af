"""Whether the neighbours found are those that a slow search finds."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from etude.practice.exam import Exam

AXES = ("query", "place")

ANY = 1e9
"""A tolerance that asks for shape and type alone."""


def check(theirs: Any, exam: Exam) -> None:
    """Ask with whole coordinates, which have exact distances; with ties; by cosine; and for others than oneself."""
    for _ in range(2):
        _distances(theirs, exam)
    _ties(theirs, exam)
    for _ in range(2):
        _cosines(theirs, exam)
    _tied_cosines(theirs, exam)
    _others(theirs, exam)
    _tied_others(theirs, exam)


def _points(exam: Exam, count: int, width: int, high: int = 40) -> Tensor:
    """Return points of whole coordinates, as real numbers: their squared distances are without rounding."""
    return exam.integers(high, count, width, low=-high).float()


def _away(q: np.ndarray, x: np.ndarray, how: str) -> np.ndarray:
    """Return how far each of the one lies from each of the other, by NumPy in double precision."""
    q, x = q.astype(np.float64), x.astype(np.float64)
    if how == "cosine":
        return 1 - (q @ x.T) / np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(x, axis=1))
    apart = np.abs(q[:, None] - x)
    return {"sqeuclidean": (apart**2).sum(-1), "cityblock": apart.sum(-1), "chebyshev": apart.max(-1)}[how]


def _ordered(away: np.ndarray, k: int, turn: int = 1) -> Tensor:
    """Return the k least of each row by a slow sort; equal ones by number, or from the last number if `turn` is -1."""
    return torch.tensor([sorted(range(len(row)), key=lambda n: (row[n], turn * n))[:k] for row in away])


def _distances(theirs: Any, exam: Exam) -> None:
    count, width, k = *exam.sizes(2, least=3, most=6), 4
    queries, keys = _points(exam, count, width), _points(exam, 24, width)
    keys[::3] *= 4  # long keys have large products with a query, and are far
    q, x = queries.numpy().astype(np.float64), keys.numpy().astype(np.float64)
    away = _away(q, x, "sqeuclidean")
    got = theirs.nearest(queries, keys, k)
    _in_order(got, _ordered(away, k), away, exam)
    exam.same(
        got,
        _ordered(away, k),
        "your list of nearest keys",
        unless={
            "the furthest keys come first: the nearest have the least distance": _ordered(-away, k),
            "these are the keys of the largest product with the query: a long key has one, however far it is": (
                _ordered(-(q @ x.T), k)
            ),
            "these are the keys of the largest cosine: the distance depends on the lengths as well": (
                _ordered(_away(q, x, "cosine"), k)
            ),
            "these are nearest by the sum of absolute differences: the differences are squared": (
                _ordered(_away(q, x, "cityblock"), k)
            ),
            "these are nearest by the largest difference: the squares of all are summed": (
                _ordered(_away(q, x, "chebyshev"), k)
            ),
            "these are the right keys, the furthest of them first: begin with the nearest": _ordered(away, k).flip(1),
        },
        axes=AXES,
    )


def _ties(theirs: Any, exam: Exam) -> None:
    queries, keys = _points(exam, 5, 2, high=2), _points(exam, 20, 2, high=2)
    away = _away(queries.numpy(), keys.numpy(), "sqeuclidean")
    for k in (1, 9, 20):
        got, want = theirs.nearest(queries, keys, k), _ordered(away, k)
        _in_order(got, want, away, exam)
        exam.same(got, want, "your list of nearest keys where some are equally far", axes=AXES)


def _in_order(got: Tensor, want: Tensor, away: np.ndarray, exam: Exam) -> None:
    """Ask that keys which are equally far come by their numbers."""
    exam.same(got, want, "your list of nearest keys", axes=AXES, tolerance=ANY)
    found, at = got.long(), torch.from_numpy(away)
    inside = bool(((found >= 0) & (found < away.shape[1])).all())
    exam.ask(inside, "your list of nearest keys has numbers in it that no key has")
    exam.ask(
        torch.equal(found, want) or not torch.equal(at.gather(1, found), at.gather(1, want)),
        "keys that are equally far stand in another order than that of their numbers: the lower number comes first"
        " (which sort keeps the order of equal ones?)",
    )


def _tied_cosines(theirs: Any, exam: Exam) -> None:
    """Ask with keys along the axes, so that many have the same cosine without rounding."""
    keys = torch.eye(4)[exam.integers(4, 24)] * 2.0 ** exam.integers(4, 24, 1)
    queries = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, -4.0, 3.0], [0.0, 2.0, 0.0, 0.0]])
    away = -(queries @ keys.T / keys.norm(dim=1)).double().numpy()
    got, want = theirs.nearest_by_cosine(queries, keys, 20), _ordered(away, 20)
    _in_order(got, want, away, exam)
    exam.same(got, want, "your list of keys by cosine where some cosines are equal", axes=AXES)


def _cosines(theirs: Any, exam: Exam) -> None:
    count, width, k = *exam.sizes(2, least=3, most=6), 3
    while True:  # until no two cosines are so near that rounding could exchange them
        queries, keys = exam.normal(count, width), exam.normal(12, width)
        keys *= exam.permutation(12)[:, None] * 2 + 1
        q, x = queries.double().numpy(), keys.double().numpy()
        away = _away(q, x, "cosine")
        if np.diff(np.sort(away)).min() > 1e-4:
            break
    exam.same(
        theirs.nearest_by_cosine(queries, keys, k),
        _ordered(away, k),
        "your list of keys by cosine",
        unless={
            "the least cosine comes first: two vectors of one direction have the greatest, which is 1": (
                _ordered(-away, k)
            ),
            "the products are not divided by the lengths of the keys: long ones come first, whatever their direction": (
                _ordered(-(q @ x.T), k)
            ),
            "these are nearest by distance: the cosine depends on the directions alone": (
                _ordered(_away(q, x, "sqeuclidean"), k)
            ),
            "a cosine is divided by the lengths |q| |x|, and yours by their squares": (
                _ordered(-(q @ x.T) / (x**2).sum(1), k)
            ),
        },
        axes=AXES,
    )


def _others(theirs: Any, exam: Exam) -> None:
    k = 3
    keys = _points(exam, 12, 3)
    away = _away(keys.numpy(), keys.numpy(), "sqeuclidean")
    first = _asked(theirs, keys, away, k, exam)
    own = torch.arange(len(keys))[:, None]
    exam.ask(
        not bool((first == own).any()),
        "a key finds itself, at a distance of 0: it is to find others only",
    )
    exam.same(first, _without(away, k), "your list of nearest others", axes=("key", "place"))
    places = exam.permutation(12)
    keys[places[:3]] = keys[places[3:6]]
    away = _away(keys.numpy(), keys.numpy(), "sqeuclidean")
    second = _asked(theirs, keys, away, k, exam)
    exam.ask(
        not bool((second == own).any()),
        "where a copy of a key has a lower number, the key still finds itself: what comes first in its row is the copy."
        " Leave it out by its number, not by its place",
    )
    far = away.copy()
    far[far == 0] = np.inf
    exam.same(
        second,
        _without(away, k),
        "your list of nearest others, with copies among the keys,",
        unless={"a copy of a key under another number is not found: only the key itself is left out": _ordered(far, k)},
        axes=("key", "place"),
    )


def _tied_others(theirs: Any, exam: Exam) -> None:
    keys = _points(exam, 24, 2, high=2)
    away = _away(keys.numpy(), keys.numpy(), "sqeuclidean")
    np.fill_diagonal(away, np.inf)
    got, want = theirs.nearest_others(keys, 20), _ordered(away, 20)
    _in_order(got, want, away, exam)
    exam.same(got, want, "your list of nearest others where some are equally far", axes=("key", "place"))


def _without(away: np.ndarray, k: int) -> Tensor:
    others = away.copy()
    np.fill_diagonal(others, np.inf)
    return _ordered(others, k)


def _asked(theirs: Any, keys: Tensor, away: np.ndarray, k: int, exam: Exam) -> Tensor:
    got = theirs.nearest_others(keys, k)
    exam.same(got, _without(away, k), "your list of nearest others", axes=("key", "place"), tolerance=ANY)
    return got
