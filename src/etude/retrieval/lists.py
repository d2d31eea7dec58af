"""Lists for inverted file search: which keys are nearest to which of some centroids (Jégou, Douze and Schmid 2011,
section IV; faiss' `IVF`). They are made from the keys and hold none, so that what is kept of them is a cache.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from etude.core.errors import UsageError
from etude.core.files import replacing
from etude.core.seeds import stream
from etude.retrieval.exact import Keys, exact, joined

LEAST_IN_LIST = 39
"""Keys that a centroid needs to be worth its place, as faiss counts."""

SAMPLE = 32
"""Keys that each centroid is placed by."""

ROUNDS = 4
"""Of k-means. After ten, which take two and a half times as long, 3 to 15% fewer lists are looked through."""

VERSION = 2
"""Of how lists are made. What another version kept is made again."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Which keys stand in which list. It holds no keys, so that it is small and soon made again.

    Attributes:
        centroids: [L d].
        spreads: [L] mean squared distance of each list's keys from its centroid; 0 of an empty list.
        members: [C] numbers of keys, list after list, and in order within each.
        bounds: [L + 1] where each list starts among them.
    """

    centroids: Float[np.ndarray, "L d"]
    spreads: Float[np.ndarray, " L"]
    members: Int[np.ndarray, " C"]
    bounds: Int[np.ndarray, " L1"]


def lists_for(keys: int) -> int:
    """Return how many lists so many keys are put in: the power of two nearest to eight times their root, as long as a
    list has enough of them."""
    return max(1, min(2 ** round(np.log2(8 * keys**0.5)), keys // LEAST_IN_LIST))


def placed(keys: Keys, count: int) -> Float[np.ndarray, "L d"]:
    """Return the centroids of so many lists, placed by keys spread evenly over the library, those nobody may find too.

    Raises:
        UsageError: faiss is not installed.
    """
    faiss = _faiss()
    spread = np.linspace(0, len(keys) - 1, min(len(keys), SAMPLE * count)).round().astype(np.int64)
    means = faiss.Kmeans(
        keys.dimension,
        count,
        niter=ROUNDS,
        seed=stream(0, "lists", count) % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=SAMPLE,
    )
    means.train(keys.take(spread))
    return np.array(means.centroids, np.float32)


def made(keys: Keys) -> Lists:
    """Put keys in lists.

    Raises:
        UsageError: faiss is not installed.
    """
    centroids = placed(keys, lists_for(len(keys)))
    nearest = joined([exact(Keys([centroids]), block.numpy(), 1) for _, block in keys.blocks()], 1)
    of, away = nearest.numbers[:, 0], nearest.distances[:, 0]
    sizes = np.bincount(of, minlength=len(centroids))
    spreads = (np.bincount(of, away, len(sizes)) / np.maximum(sizes, 1)).astype(np.float32)
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Lists(centroids, spreads, np.argsort(of, kind="stable"), bounds)


def kept(path: Path, keys: Keys, identity: str, say: Callable[[str], None] = lambda text: None) -> Lists:
    """Return the lists that a file keeps, or make them and keep them there. The file may be removed at any time.

    Args:
        path: where they are kept.
        keys: what is searched.
        identity: hash of the keys (`Database.identity`).
        say: told where a file was there and could not be trusted.

    Raises:
        UsageError: faiss is not installed.
    """
    of = hashlib.sha256(f"{VERSION} {lists_for(len(keys))} {SAMPLE} {ROUNDS} {identity}".encode()).hexdigest()
    if path.exists():
        if (found := _read(path, of)) is not None:
            return found
        say(f"the index {path.name} is damaged, or of other keys: it is made again")
    lists = made(keys)
    tensors = {name: np.ascontiguousarray(getattr(lists, name)) for name in Lists.__dataclass_fields__}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"of": of, "sha256": _hash(tensors)})
    return lists


def _read(path: Path, of: str) -> Lists | None:
    """Return the lists that a file keeps; None where it was damaged, or they are of something else."""
    try:
        with safe_open(path, "np") as file:
            said, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    good = said.get("of") == of and said.get("sha256") == _hash(tensors)
    return Lists(**tensors) if good else None


def _hash(tensors: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


def _faiss() -> Any:
    """Return faiss.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with warnings.catch_warnings():  # of its wrapper's types, as it loads
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except ImportError:
        raise UsageError(
            "--index ivf and lance need faiss: pip install 'etude[retrieval]', or use --index exact"
        ) from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss
