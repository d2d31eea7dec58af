"""Who sees the expert when: what each way promises, and the statistics of what is drawn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.culture.presence import FULL, HALF, NONE, Presence


def mask(presence: Presence, steps: int = 100, worlds: int = 4000) -> np.ndarray:
    return presence.mask(steps, worlds, np.random.default_rng(0))


def only(**weights: float) -> Presence:
    return Presence(**{"full": 0.0, **weights})


def test_the_three_in_which_transmission_is_measured() -> None:
    assert mask(FULL).all() and not mask(NONE).any()
    half = mask(HALF)
    assert half[:50].all() and not half[50:].any()
    assert mask(HALF, 5)[:2].all() and not mask(HALF, 5)[2:].any()
    assert mask(FULL, 1).shape == (1, 4000)


def stretches(seen: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the lengths of whole stretches with and without, those at the ends left out."""
    found: tuple[list[int], list[int]] = ([], [])
    for world in seen.T:
        ends = np.flatnonzero(np.diff(world)) + 1
        for begin, end in pairwise(ends):
            found[0 if world[begin] else 1].append(int(end - begin))
    return found


def test_it_flickers_with_these_means_from_the_first_step_on() -> None:
    seen = mask(only(flicker=1.0, on=6.0, off=3.0), steps=600, worlds=500)
    share = seen.mean(1)
    assert abs(share.mean() - 2 / 3) < 0.01
    assert abs(share[0] - 2 / 3) < 0.07 and abs(share[-1] - 2 / 3) < 0.07
    there, gone = stretches(seen)
    assert abs(np.mean(there) - 6) < 0.2 and abs(np.mean(gone) - 3) < 0.1
    assert abs(np.std(there) - np.sqrt(6 * 5)) < 0.3, "geometric: the past tells nothing"
    always = mask(only(flicker=1.0, on=1.0, off=1.0), steps=20, worlds=50)
    assert (always[1:] != always[:-1]).all()


def test_it_leaves_for_good_after_a_number_of_steps_drawn_evenly() -> None:
    seen = mask(only(leaves=1.0), steps=10, worlds=22_000)
    assert (np.diff(seen.astype(int), axis=0) <= 0).all()
    counts = np.bincount(seen.sum(0), minlength=11) / 22_000
    assert np.abs(counts - 1 / 11).max() < 0.01


def test_each_world_draws_its_own_way_by_the_weights() -> None:
    seen = mask(Presence(full=2, half=1, none=1), worlds=8000)
    kinds = [seen.all(0).mean(), (seen[:50].all(0) & ~seen[50:].any(0)).mean(), (~seen.any(0)).mean()]
    np.testing.assert_allclose(kinds, [0.5, 0.25, 0.25], atol=0.02)
    again = mask(Presence(full=4, half=2, none=2), worlds=8000)
    assert np.array_equal(seen, again), "weights count by their shares"


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: only(), "the weights of full, half, none, flicker and leaves are"),
        (lambda: Presence(half=-1), "the weights of"),
        (lambda: Presence(on=0.5), r"on = 0\.5, off = 10: a stretch has 1 step or more"),
        (lambda: mask(FULL, 0), "steps = 0: an episode has 1 step or more"),
        (lambda: mask(only(flicker=1.0), 0), "steps = 0: an episode has 1 step or more"),
    ],
)
def test_what_cannot_be_is_refused(build, words) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        build()
