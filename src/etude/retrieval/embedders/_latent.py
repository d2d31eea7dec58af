"""Latent semantic analysis of chunks: TF-IDF, projected on its leading right singular vectors."""

from __future__ import annotations

from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import normalize

from etude.core.errors import DamagedError
from etude.retrieval.embedders.base import State, identity_of
from etude.text.chunks import Chunks

NEGLIGIBLE = 1e-6
"""Singular values below this share of the greatest are rounding, and their directions mean nothing."""


def counted(tokens: Int[np.ndarray, "B m"], present: Bool[np.ndarray, "B m"], vocabulary: int) -> sparse.csr_matrix:
    """Return how often each chunk has each token, [B, V]."""
    ends = np.concatenate([[0], np.cumsum(present.sum(1))])
    found = tokens[present].astype(np.int32)
    counts = sparse.csr_matrix((np.ones(len(found)), found, ends), shape=(len(tokens), vocabulary))
    counts.sum_duplicates()
    return counts


def weighted(counts: sparse.csr_matrix, idf: Float[np.ndarray, " V"]) -> sparse.csr_matrix:
    """Return TF-IDF with rows of length 1, [B, V]; `counts` is used up."""
    counts.data *= idf[counts.indices]
    return cast(sparse.csr_matrix, normalize(counts, copy=False))


def fitted(chunks: Chunks, dimension: int, at_most: int) -> State:
    """Return weights and projection, from at most so many chunks that are spread evenly.

    Returns:
        `idf` [V], smooth: ln((1 + n) / (1 + df)) + 1, and 0 of the separator; `components` [d, V], of which there are
        fewer than `dimension` where the text has no more.
    """
    numbers = np.linspace(0, len(chunks) - 1, min(at_most, len(chunks))).round().astype(np.int64)
    counts = counted(*chunks.read(numbers), chunks.store.vocabulary)
    idf = np.array(TfidfTransformer(smooth_idf=True).fit(counts).idf_)
    idf[chunks.end] = 0.0
    svd = TruncatedSVD(min(dimension, len(numbers), len(idf)), random_state=0).fit(weighted(counts, idf))
    strength = np.asarray(svd.singular_values_)
    kept = strength > NEGLIGIBLE * strength[0]
    kept[0] = True  # of a text of nothing but separators: a key needs a number
    return {"idf": idf.astype(np.float32), "components": np.asarray(svd.components_)[kept].astype(np.float32)}


class Latent:
    """The live embedder.

    Args:
        state: what `fitted` returned.
    """

    def __init__(self, state: State) -> None:
        if {"idf", "components"} - state.keys():
            raise DamagedError("the library's embedder lacks what tfidf was fitted to: make the library again")
        self._idf = state["idf"].astype(np.float64)
        self._projection = np.ascontiguousarray(state["components"].T, dtype=np.float64)
        self.dimension = self._projection.shape[1]
        fitted = (state[name].astype("<f4").tobytes() for name in ("idf", "components"))
        self.identity, self.at_once = identity_of("tfidf 1", *fitted), 4096

    def __call__(self, tokens: Int[np.ndarray, "B m"], present: Bool[np.ndarray, "B m"]) -> Float[np.ndarray, "B d"]:
        rows = weighted(counted(tokens, present, len(self._idf)), self._idf)
        return cast(np.ndarray, normalize(rows @ self._projection, copy=False)).astype(np.float32)
