"""Allocation against every possible choice, and what must hold for any options."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.compress.allocation import Choice, Option, even, frontier, greedy, hull, priced
from etude.core.errors import UsageError

Components = dict[str, list[Option]]


def options(pairs: Sequence[tuple[float, float]]) -> list[Option]:
    return [Option(bits, harm, key) for key, (bits, harm) in enumerate([(0.0, 5.0), *pairs])]


PAIRS = st.lists(st.tuples(st.integers(1, 12).map(float), st.integers(0, 50).map(lambda n: n / 10)), max_size=4)
COMPONENTS = st.lists(PAIRS, min_size=1, max_size=3).map(lambda all: {f"c{n}": options(p) for n, p in enumerate(all)})


def bits(choice: Choice) -> float:
    return sum(option.bits for option in choice.values())


def harm(choice: Choice) -> float:
    return sum(option.harm for option in choice.values())


def best(components: Components, budget: float) -> float:
    """Return the least harm of all choices within the budget."""
    every = itertools.product(*components.values())
    return min(sum(o.harm for o in choice) for choice in every if sum(o.bits for o in choice) <= budget)


@given(COMPONENTS, st.integers(0, 30))
def test_every_way_keeps_to_the_budget_and_none_beats_the_best(components: Components, budget: int) -> None:
    least = best(components, budget)
    for way in (even, greedy, priced):
        found = way(components, budget)
        assert set(found) == set(components) and bits(found) <= budget
        assert harm(found) >= least - 1e-9


@given(COMPONENTS)
def test_enough_bits_come_to_the_least_harm(components: Components) -> None:
    wanted = sum(min(o.harm for o in options) for options in components.values())
    for way in (even, greedy, priced):
        assert harm(way(components, 1000)) == pytest.approx(wanted)


@given(COMPONENTS)
def test_at_the_bits_that_a_price_comes_to_no_choice_is_better(components: Components) -> None:
    """Everett's theorem: without a rest to spend, what a price chooses is best for its bits."""
    for price in (0.01, 0.05, 0.2, 1.0):
        chosen = {name: min(hull(o), key=lambda o: (o.harm + price * o.bits, o.bits)) for name, o in components.items()}
        assert harm(priced(components, bits(chosen))) == pytest.approx(best(components, bits(chosen)))


@given(PAIRS)
def test_a_hull_is_convex_and_a_frontier_falls(pairs: list[tuple[float, float]]) -> None:
    given = options(pairs)
    on_frontier, on_hull = frontier(given), hull(given)
    assert all(a.bits < b.bits and a.harm > b.harm for a, b in itertools.pairwise(on_frontier))
    slopes = [(b.harm - a.harm) / (b.bits - a.bits) for a, b in itertools.pairwise(on_hull)]
    assert slopes == sorted(slopes)
    assert set(on_hull) <= set(on_frontier) <= set(given)
    for option in given:  # nothing lies below the hull
        for a, b in itertools.pairwise(on_hull):
            if a.bits <= option.bits <= b.bits:
                assert option.harm >= a.harm + (option.bits - a.bits) * (b.harm - a.harm) / (b.bits - a.bits) - 1e-9


def test_bits_go_where_they_help() -> None:
    components = {"deaf": options([(8, 4.9), (16, 4.8)]), "needy": options([(8, 1.0), (16, 0.0)])}
    for way in (greedy, priced):
        assert {name: o.bits for name, o in way(components, 16).items()} == {"deaf": 0, "needy": 16}
    assert {name: o.bits for name, o in even(components, 16).items()} == {"deaf": 8, "needy": 8}


def test_the_rest_of_a_budget_is_spent() -> None:
    """A price alone would leave bits that an option off the hull has use for."""
    components = {"a": options([(4, 4.5), (8, 0.0)])}
    assert hull(components["a"]) == [components["a"][0], components["a"][2]]
    assert priced(components, 5)["a"].bits == 4


def test_a_budget_that_nothing_fits_is_one_line() -> None:
    for way in (even, greedy, priced):
        with pytest.raises(UsageError, match="a budget of 3 bits is under the 8 of the smallest codes"):
            way({"a": [Option(8, 1, 0)]}, 3)
        with pytest.raises(UsageError, match="b has no option"):
            way({"b": []}, 3)
