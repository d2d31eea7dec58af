"""Codebooks fitted by k-means, and what is said of codes that nothing uses."""

from __future__ import annotations

import warnings
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from etude.core.run import Draft


def clustered(data: Float[Tensor, "N D"], codes: int, iterations: int, seed: int) -> Float[Tensor, "C D"]:
    """Return centres by Lloyd's algorithm from one k-means++ start.

    Fewer distinct vectors than codes leave codes that nothing uses; their centres are copies of others.
    """
    # One start: `n_init` is an int or "auto", which scikit-learn's own annotation does not say.
    means = KMeans(codes, n_init=cast(Any, 1), max_iter=iterations, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # The frequencies of the codes say it, and `tell_unused`.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means.fit(data.numpy())
    return torch.from_numpy(means.cluster_centers_).float()


def clustered_numbers(numbers: Float[Tensor, " N"], codes: int, iterations: int) -> Float[Tensor, " C"]:
    """Return the centres of single numbers, rising, by Lloyd's algorithm.

    Numbers that are sorted have clusters that are stretches, so an iteration is a few sums whatever N is. The start is
    not drawn: it is as dense as the cube root of the numbers' density, which is best where there are many centres
    (Panter and Dite 1951). A centre that nothing is nearest to stays where it was.
    """
    ordered = np.sort(numbers.double().numpy())
    distinct = np.unique(ordered)
    if len(distinct) <= codes:
        return torch.from_numpy(np.pad(distinct, (0, codes - len(distinct)), mode="edge")).float()
    # The density is one over the gap to the next number, so its cube root over that gap comes to gap^(2/3).
    share = np.concatenate(([0.0], (np.diff(distinct) ** (2 / 3)).cumsum()))
    centres = np.interp((np.arange(codes) + 0.5) / codes * share[-1], share, distinct)
    sums, edges = np.concatenate(([0.0], ordered.cumsum())), np.zeros(0)
    for _ in range(iterations):
        between = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2, side="right")
        before, edges = edges, np.concatenate(([0], between, [len(ordered)]))
        if np.array_equal(before, edges):
            break
        count = np.diff(edges)
        centres = np.where(count > 0, np.diff(sums[edges]) / np.maximum(count, 1), centres)
    return torch.from_numpy(centres).float()


def used(code: Int[Tensor, "*N"], codes: int) -> Float[Tensor, " C"]:
    """Return how often each of C codes is used; sums to 1."""
    return (torch.bincount(code.flatten(), minlength=codes).double() / code.numel()).float()


def tell_unused(frequency: Float[Tensor, "*N C"], run: Draft) -> None:
    """Say and note how many codes nothing uses on the data that they were fitted to, where there are any."""
    unused = int((frequency == 0).sum())
    if unused:
        run.note(unused_codes=unused)
        run.say(f"{run.recipe.id}: {unused} of {frequency.numel()} codes are used by nothing that they were fitted to")
