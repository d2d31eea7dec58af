"""Codes matched across seeds: what is the same is found in any order, and what is not stays at its baseline."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from etude.compress.matching import agreement, matched, overlap
from etude.compress.methods.infovae import Infovae
from etude.compress.methods.kmeans import Kmeans
from etude.compress.methods.pca import Pca
from etude.compress.recipes import Compress, SeedMatch
from etude.compress.verdict import rotation
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.train.recipes import Train


def code(units: int = 6, tokens: int = 2000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, units))


@given(st.permutations(range(6)), st.lists(st.sampled_from([-1.0, 1.0]), min_size=6, max_size=6))
def test_a_permuted_and_flipped_code_is_found_again(order: list[int], signs: list[float]) -> None:
    one = code(tokens=200)
    found = matched(one, 3 * one[:, order] * np.array(signs) + 7)
    assert found.mean == pytest.approx(1)
    for (a, b), r in zip(found.pairs, found.correlation, strict=True):
        assert order[b] == a and r == pytest.approx(signs[b])


def test_pairs_are_the_best_of_all_permutations() -> None:
    from itertools import permutations

    one, other = code(4, 60), code(4, 60, 1) + code(4, 60)
    r = np.abs(np.corrcoef(one.T, other.T)[:4, 4:])
    best = max(sum(r[n, p] for n, p in enumerate(order)) for order in permutations(range(4)))
    assert matched(one, other).mean == pytest.approx(best / 4)


def test_noise_is_at_its_baseline() -> None:
    found = agreement(code(), code(seed=1), turned=True, draws=5, seed=0)
    assert found["matched"] == pytest.approx(found["shuffled"], abs=0.015) and found["matched"] < 0.06
    assert found["overlap"] < 0.02


def test_other_axes_of_the_same_space_are_at_the_baseline_for_that() -> None:
    one = code()
    found = agreement(one, one @ rotation(6, 3), turned=True, draws=20, seed=0)
    assert found["overlap"] == pytest.approx(1)
    assert found["matched"] == pytest.approx(found["rotated"], abs=0.1)
    assert 0.4 < found["matched"] < 0.9 and found["shuffled"] < 0.06


def test_the_overlap_is_that_of_principal_angles() -> None:
    one, other = code(3), np.concatenate([code(3)[:, :1], code(2, seed=4)], 1)
    angles = subspace_angles(one - one.mean(0), other - other.mean(0))
    assert overlap(one, other) == pytest.approx((np.cos(angles) ** 2).mean())
    assert overlap(one, np.concatenate([one, other], 1)) == pytest.approx(1)


def test_units_that_do_not_vary_are_left_out() -> None:
    one, other = code(3), code(3)
    one[:, 0] = 1.0
    found = matched(one, other)
    assert len(found.pairs) == 2 and found.mean == pytest.approx(1)
    assert 0 not in found.pairs[:, 0] and overlap(one, other) == pytest.approx(1)
    nothing = agreement(np.ones((5, 2)), code(2, 5), turned=False, draws=1, seed=0)
    assert nothing["matched"] is None and nothing["pairs"] == [] and nothing["rotated"] is None


def test_a_seed_decides_the_baselines() -> None:
    first, again, other = (agreement(code(), code(seed=1), turned=True, draws=1, seed=s) for s in (0, 0, 1))
    assert first == again and first["rotated"] != other["rotated"]


# Through the recipe


def test_seeds_of_an_autoencoder_are_matched_in_pairs(lab: Lab, trained: Train) -> None:
    squeezed = Compress(trained, "L0.mlp.out", Infovae(latent=3, steps=0), fit_tokens=640, evaluate_tokens=320)
    recipe = SeedMatch(squeezed, seeds=3, draws=1, evaluate_tokens=640)
    assert [one.seed for one in recipe.fits] == [0, 1, 2]
    found = lab.run(recipe).result
    assert [pair["seeds"] for pair in found["pairs"]] == [[0, 1], [0, 2], [1, 2]]
    # Without a step each is the principal components that all begin at.
    assert found["matched"]["least"] == pytest.approx(1) and found["overlap"]["mean"] == pytest.approx(1)
    assert found["shuffled"]["mean"] < 0.3 < found["rotated"]["mean"] < 1


def test_codebooks_are_matched_by_where_they_are_used(lab: Lab, trained: Train) -> None:
    squeezed = Compress(trained, "L0.mlp.out", Kmeans(4), fit_tokens=640, evaluate_tokens=320)
    found = lab.run(SeedMatch(squeezed, seeds=2, draws=2, evaluate_tokens=640)).result
    assert found["rotated"] is None and found["shuffled"]["mean"] < found["matched"]["mean"] <= 1


def test_what_draws_nothing_is_refused(trained: Train) -> None:
    with pytest.raises(UsageError, match="pca draws nothing: every seed gives the same code"):
        SeedMatch(Compress(trained, "L0.mlp.out", Pca(3)))
    with pytest.raises(UsageError, match="seeds = 1"):
        SeedMatch(Compress(trained, "L0.mlp.out", Kmeans(3)), seeds=1)
