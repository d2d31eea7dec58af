"""The verdict: planted facts are found, noise is not, the tests are valid, and the rule is the one that is stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from etude.compress.methods.pca import Pca
from etude.compress.methods.svd import Svd
from etude.compress.predictors import FACTS, Judged, facts_of, guessed, judged, shares, split_of
from etude.compress.recipes import Compress, Meaning
from etude.compress.verdict import (
    AGAINST,
    UnitSet,
    compare,
    holm,
    resamples,
    rotation,
    standard,
    unit_set,
    unit_sets,
    verdict,
)
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals.token_classes import token_classes
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.recipes import Train

N, T = 64, 32
WINDOW = np.repeat(np.arange(N), T)
CLASSES = token_classes(ByteTokenizer(), 257)


def text(seed: int = 0) -> dict[str, np.ndarray]:
    """Return the facts of letters and digits drawn evenly, token by token."""
    among = np.frombuffer(b"abcdefgh01234567", np.uint8).astype(np.int64)
    tokens = np.random.default_rng(seed).choice(among, (N, T))
    return {name: fact.ravel() for name, fact in facts_of(tokens, CLASSES).items()}


def score(values: np.ndarray, seed: int = 0) -> Judged:
    return judged(values[:, None] if values.ndim == 1 else values, text(seed), WINDOW)


def noise(units: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N * T, units))


# Predictors


def test_facts_are_what_they_say() -> None:
    tokens = np.array([[97, 49, 46], [32, 98, 97]])
    found = facts_of(tokens, CLASSES)
    assert found["token"] is tokens
    assert found["previous_token"].tolist() == [[-1, 97, 49], [-1, 32, 98]]
    assert found["position"].tolist() == [[0, 1, 2]] * 2
    names = [[CLASSES.names[n] for n in row] for row in found["class"]]
    assert names == [["word part", "number", "punctuation"], ["white space", "word part", "word part"]]


def test_a_guess_is_the_shrunk_mean_of_its_kind() -> None:
    draw = np.random.default_rng(0)
    kinds, asked, values = draw.integers(0, 6, 50), draw.integers(0, 9, 40), draw.normal(2, 1, (50, 3))
    found = guessed(kinds, values, asked)
    for guess, kind in zip(found, asked, strict=True):
        same = values[kinds == kind]
        plain = (same.sum(0) + 2 * values.mean(0)) / (len(same) + 2)
        np.testing.assert_allclose(guess, plain, atol=1e-12)


def test_each_fact_is_chosen_for_what_follows_it_alone() -> None:
    facts = text()
    draw = np.random.default_rng(1)
    by_token = draw.normal(size=128)[facts["token"]]
    by_before = draw.normal(size=128)[facts["previous_token"]]
    by_position = draw.normal(size=T)[facts["position"]]
    by_class = 3.0 * (facts["class"] == 2)
    found = score(np.stack([by_token, by_before, by_position, by_class, noise(1)[:, 0]], 1))
    # A number among letters is known from the token too: the class is chosen since its means rest on more.
    assert found.by.tolist()[:4] == [0, 1, 2, 3]
    assert found.scores[:4].min() > 0.98 and abs(found.scores[4]) < 0.05


def test_the_score_is_that_of_scikit_learn_on_windows_that_neither_taught_nor_chose() -> None:
    from sklearn.metrics import r2_score

    facts = text()
    values = 0.5 * (facts["token"] % 3) + noise(1)[:, 0]
    found = score(values)
    fit, _, judge = (mask[WINDOW] for mask in split_of(N))
    guess = guessed(facts["token"][fit], values[fit][:, None], facts["token"][judge])[:, 0]
    # About the mean of the windows learned from, where scikit-learn takes that of those that judge.
    away = np.sum((values[judge] - values[fit].mean()) ** 2) / np.sum((values[judge] - values[judge].mean()) ** 2)
    assert 1 - (1 - found.scores[0]) * away == pytest.approx(r2_score(values[judge], guess))
    assert found.errors.shape == (N // 4, 1)


def test_parts_of_the_windows_are_apart_and_together_all() -> None:
    for windows in (32, 33, 101):
        split = split_of(windows)
        assert (np.sum(split, 0) == 1).all() and split.judge.sum() >= windows // 4
        assert (np.sort(np.argmax(split, 0)) == np.argmax(split, 0)).all(), "in stretches"
    with pytest.raises(UsageError, match="31 windows are too few") as caught:
        split_of(31)
    assert "\n" not in str(caught.value)


def test_the_choice_among_facts_is_no_advantage() -> None:
    """Of a thousand units of noise, the mean score is not above 0: it would be, were the best of five judged where it
    was chosen."""
    found = score(noise(1000))
    assert found.scores.mean() < 0.001


def test_chances_are_valid_where_nothing_is_foretold() -> None:
    """Dense, and active at one token of fifty: as many units are called predictable as the level says, or fewer."""
    dense, sparse = noise(1000), (np.random.default_rng(2).random((N * T, 1000)) < 0.02).astype(float)
    for values in (dense, sparse):
        found = score(values)
        assert (found.chances() < 0.05).mean() < 0.06
        assert (holm(found.chances()) < 0.05).sum() == 0


def test_chances_are_those_of_students_test() -> None:
    found = score(0.2 * (text()["token"] % 3) + noise(1)[:, 0])
    gain = (found.spread - found.errors)[:, 0]
    _, chance = ttest_1samp(gain, 0, alternative="greater")
    assert found.chances()[0] == pytest.approx(chance, rel=1e-6)


def test_a_unit_that_does_not_vary_has_no_score() -> None:
    found = score(np.stack([np.ones(N * T), noise(1)[:, 0]], 1))
    assert np.isnan(found.scores).tolist() == [True, False] and found.chances()[0] == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_holm(chances: list[float]) -> None:
    """By its definition: the smallest p at which a step-down test still rejects."""
    found = holm(np.array(chances))
    ranked = sorted(range(len(chances)), key=lambda n: chances[n])
    for level in (0.01, 0.05, 0.5):
        rejected: set[int] = set()
        for rank, n in enumerate(ranked):
            if chances[n] * (len(chances) - rank) > level:
                break
            rejected.add(n)
        assert {n for n in range(len(chances)) if found[n] <= level} == rejected


# The verdict


def sets_of(units: np.ndarray, values: np.ndarray) -> dict[str, UnitSet]:
    return unit_sets(units, values, text(), WINDOW, turned=True, draws=2, seed=0)


def said(units: np.ndarray, values: np.ndarray) -> str:
    sets = sets_of(units, values)
    pairs = [compare(sets["units"], sets[name]) for name in AGAINST]
    return verdict([pair.difference.mean for pair in pairs], list(holm(np.array([pair.chance for pair in pairs]))))


def planted(units: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return units that follow from one fact each, and noise as large as they."""
    facts, draw = text(), np.random.default_rng(3)
    tables = [draw.normal(size=128)[facts[name]] for name in ("token", "previous_token", "token") * (units // 3)]
    return standard(np.stack(tables, 1)), noise(units)


def test_units_that_are_facts_in_a_mixture_with_noise_are_easier() -> None:
    clear, dull = planted()
    both = np.concatenate([clear, dull], 1)
    mixed = both @ rotation(12, 0)
    assert said(clear, mixed) == "easier"
    assert said(mixed[:, :6], both[:, :6]) == "harder"
    assert said(dull, noise(12, 7)) == "no difference shown"


def test_a_rotation_of_the_same_space_is_no_easier() -> None:
    """Of a space where every direction is foretold as well, no axes are better."""
    clear = standard(np.random.default_rng(3).normal(size=(128, 6))[text()["token"]])
    assert said(clear, clear @ rotation(6, 1)) == "no difference shown"


def test_a_shuffled_code_is_not_foretold_and_a_turned_one_keeps_the_share() -> None:
    clear, dull = planted()
    sets = sets_of(np.concatenate([clear, dull], 1), np.concatenate([clear, dull], 1))
    told = {name: each.to_json() for name, each in sets.items()}
    assert abs(told["shuffled"]["median"]["mean"]) < 0.01 and told["shuffled"]["predictable"] == 0
    assert told["units"]["predictable"] == 6 and told["units"]["judged"] == 12
    assert told["coordinates"] == told["units"]
    assert told["turned"]["draws"] == 2 and told["turned"]["judged"] == 24
    assert told["units"]["by"]["token"] == 4 and told["units"]["by"]["previous_token"] == 2
    # Turned, each unit is a bit of all: the facts tell as much of the whole, but for the choice of one fact for each.
    assert 0.1 < told["turned"]["weighted"]["mean"] <= told["units"]["weighted"]["mean"]


def test_units_that_are_silent_are_not_turned_with_the_others() -> None:
    clear, _ = planted()
    sets = sets_of(np.concatenate([clear, np.zeros((N * T, 3))], 1), clear)
    told = {name: each.to_json() for name, each in sets.items()}
    assert (told["units"]["units"], told["units"]["judged"]) == (9, 6)
    assert told["turned"]["judged"] == 2 * 6
    assert "turned" not in sets_of(np.zeros((N * T, 2)), clear)


def test_the_share_of_a_whole_set_does_not_change_with_its_axes() -> None:
    """One fact alone foretells as much of the summed variance in any axes."""
    tables = np.random.default_rng(3).normal(size=(128, 6))[text()["token"]]
    values = tables * [1, 2, 3, 1, 1, 1] + noise(6)
    token = {"token": text()["token"]}
    one, other = judged(values, token, WINDOW), judged(values @ rotation(6, 2), token, WINDOW)
    assert other.spread.sum() == pytest.approx(one.spread.sum())
    assert 0.5 < one.weighted == pytest.approx(other.weighted)
    assert np.median(one.scores) != pytest.approx(np.median(other.scores), abs=0.01)


def test_resampled_scores_are_those_of_the_windows_drawn() -> None:
    one = score(np.stack([0.4 * (text()["token"] % 3), np.zeros(N * T)], 1) + noise(2))
    weights = resamples(N // 4, 9)[:5]
    found = unit_set([one], weights).resampled
    assert (weights.sum(1) == N // 4).all()
    for row, weight in zip(found, weights, strict=True):
        drawn = np.repeat(np.arange(N // 4), weight)
        each = 1 - one.errors[drawn].sum(0) / one.spread[drawn].sum(0)
        assert row[0] == pytest.approx(np.median(each))
        assert row[1] == pytest.approx(1 - one.errors[drawn].sum() / one.spread[drawn].sum())


def test_a_comparison_is_two_sided_and_of_the_same_resamples() -> None:
    ours, other = (score(np.stack([0.15 * (text()["token"] % 3)] * 3, 1) + noise(3, seed)) for seed in (1, 2))
    weights = resamples(N // 4, 0)
    one, two = unit_set([ours], weights), unit_set([other], weights)
    gaps = one.resampled[:, 0] - two.resampled[:, 0]
    pair, mirrored = compare(one, two), compare(two, one)
    beyond = min((gaps <= 0).sum(), (gaps >= 0).sum())
    assert (
        pair.chance == mirrored.chance == pytest.approx(2 * (1 + beyond) / (1 + len(gaps))) and 0.01 < pair.chance < 1
    )
    assert (pair.difference.low, pair.difference.high) == pytest.approx(np.quantile(gaps, (0.025, 0.975)))
    assert pair.difference.mean == pytest.approx(np.median(ours.scores) - np.median(other.scores))
    assert compare(one, one).chance == 1


@pytest.mark.parametrize(
    ("gaps", "chances", "expected"),
    [
        ([0.06, 0.2], [0.04, 0.001], "easier"),
        ([0.04, 0.2], [0.001, 0.001], "no difference shown"),
        ([0.06, 0.2], [0.06, 0.001], "no difference shown"),
        ([-0.06, -0.2], [0.001, 0.001], "harder"),
        ([-0.06, 0.2], [0.001, 0.001], "no difference shown"),
        ([None, 0.2], [0.001, 0.001], "no difference shown"),
    ],
)
def test_the_rule(gaps: list[float | None], chances: list[float], expected: str) -> None:
    assert verdict(gaps, chances) == expected


def test_rotations_are_rotations_and_drawn() -> None:
    turn = rotation(9, 0)
    np.testing.assert_allclose(turn @ turn.T, np.eye(9), atol=1e-12)
    assert not np.allclose(turn, rotation(9, 1)) and np.array_equal(turn, rotation(9, 0))


def test_shares_without_spread_are_none() -> None:
    assert np.isnan(shares(np.array([1.0, 0.0]), np.array([2.0, 0.0]))).tolist() == [False, True]


# Through the recipe


def test_of_a_trained_model(lab: Lab, trained: Train) -> None:
    squeezed = Compress(trained, "embed.tokens", Pca(3), fit_tokens=2048, evaluate_tokens=512)
    found = lab.run(Meaning(squeezed, draws=2, evaluate_tokens=2048)).result
    sets = found["sets"]
    assert sets["units"]["units"] == 3 and sets["coordinates"]["units"] == 16 and sets["rotation"]["judged"] == 32
    for name in ("units", "coordinates", "rotation", "turned"):  # an embedding is its token and nothing else
        assert sets[name]["by"]["token"] == sets[name]["judged"] and sets[name]["median"]["mean"] > 0.9
    assert sets["shuffled"]["median"]["mean"] < 0.05 and found["verdict"] == "no difference shown"
    assert [unit["by"] for unit in found["units"]] == ["token"] * 3 and max(u["p"] for u in found["units"]) < 0.01
    assert found["tokens"] == 32 * found["windows"] and set(FACTS) < set(sets["units"]["by"])


def test_too_few_windows_are_refused(lab: Lab, trained: Train) -> None:
    squeezed = Compress(trained, "embed.tokens", Pca(3), fit_tokens=2048, evaluate_tokens=512)
    with pytest.raises(UsageError, match="16 windows are too few"):
        lab.run(Meaning(squeezed, evaluate_tokens=512))


def test_what_has_no_units_is_refused(trained: Train) -> None:
    with pytest.raises(UsageError, match="names several sites"):
        Meaning(Compress(trained, "L*.mlp.out", Pca(3)))
    with pytest.raises(UsageError, match="is a weight, which has no latents"):
        Meaning(Compress(trained, "L0.attn.W_O", Svd(3)))
    with pytest.raises(UsageError, match="draws = 0"):
        Meaning(Compress(trained, "L0.mlp.out", Pca(3)), draws=0)
