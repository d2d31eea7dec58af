"""Where to spend a budget of bits over the components of a model: greedily, and by a price on bits.

Each component has options, each with its bits a token and its measured harm. What several do together is assumed to be
the sum of what each does alone, which is for the composed model to confirm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from etude.core.errors import UsageError


class Option(NamedTuple):
    """One way to compress a component.

    Attributes:
        bits: a token.
        harm: rise in loss, in nats.
        key: which it is.
    """

    bits: float
    harm: float
    key: int


Choice = dict[str, Option]
"""The option of each component."""


def frontier(options: Sequence[Option]) -> list[Option]:
    """Return the options that no other beats in both bits and harm, by rising bits and falling harm."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.bits, o.harm)):
        if not kept or option.harm < kept[-1].harm:
            kept.append(option)
    return kept


def hull(options: Sequence[Option]) -> list[Option]:
    """Return the options on the lower convex hull of harm against bits: those that some price on bits would choose."""
    kept: list[Option] = []
    for option in frontier(options):
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) >= _slope(kept[-1], option):
            kept.pop()
        kept.append(option)
    return kept


def _slope(a: Option, b: Option) -> float:
    return (b.harm - a.harm) / (b.bits - a.bits)


def cheapest(components: Mapping[str, Sequence[Option]]) -> Choice:
    """Return the options of the fewest bits."""
    return {name: frontier(options)[0] for name, options in components.items()}


def greedy(components: Mapping[str, Sequence[Option]], budget: float) -> Choice:
    """Return options within a budget: begin with the fewest bits everywhere, then go again and again to the option, of
    any component, that lowers the harm most for each bit more, as long as one fits.

    Args:
        components: the options of each.
        budget: bits a token, over all components.

    Raises:
        UsageError: even the fewest bits are over the budget.
    """
    chosen = _begun(components, budget)
    left = budget - sum(option.bits for option in chosen.values())
    while True:
        steps = [
            (_slope(chosen[name], option), name, option)
            for name, options in components.items()
            for option in frontier(options)
            if option.harm < chosen[name].harm and 0 < option.bits - chosen[name].bits <= left
        ]
        if not steps:
            return chosen
        _, name, option = min(steps, key=lambda step: (step[0], step[1]))
        left -= option.bits - chosen[name].bits
        chosen[name] = option


def priced(components: Mapping[str, Sequence[Option]], budget: float) -> Choice:
    """Return options within a budget by a price on bits (the Lagrangian): at each price every component by itself takes
    the option of least harm plus price times bits, and the lowest price is taken at which all fit. What then remains is
    spent greedily. Without that rest, no other choice of as few bits harms less (Everett 1963, "Generalized Lagrange
    Multiplier Method", theorem 1).

    Raises:
        UsageError: even the fewest bits are over the budget.
    """
    chosen = _begun(components, budget)
    # Along each hull the price at which the next option is worth its bits falls, so steps sorted by it are taken in
    # order until one does not fit.
    hulls = {name: hull(options) for name, options in components.items()}
    steps = sorted((_slope(a, b), name, b) for name, on in hulls.items() for a, b in pairwise(on))
    left = budget - sum(option.bits for option in chosen.values())
    for _, name, option in steps:
        more = option.bits - chosen[name].bits
        if more > left:
            break
        left -= more
        chosen[name] = option
    return _spent(components, chosen, budget)


def _spent(components: Mapping[str, Sequence[Option]], chosen: Choice, budget: float) -> Choice:
    """Return a choice with what is left of the budget spent greedily."""
    at_least = {
        name: [option for option in options if option.bits >= chosen[name].bits and option.harm <= chosen[name].harm]
        for name, options in components.items()
    }
    return greedy(at_least, budget)


def even(components: Mapping[str, Sequence[Option]], budget: float) -> Choice:
    """Return what is chosen where every component has the same share of the budget: the floor of the other two.

    Raises:
        UsageError: even the fewest bits are over the budget.
    """
    chosen, share = _begun(components, budget), budget / len(components)
    for name, options in components.items():
        within = [option for option in frontier(options) if option.bits <= share]
        chosen[name] = within[-1] if within else chosen[name]
    return chosen


def _begun(components: Mapping[str, Sequence[Option]], budget: float) -> Choice:
    empty = next((name for name, options in components.items() if not options), None)
    if empty is not None:
        raise UsageError(f"{empty} has no option: give each component at least one, as its mean at 0 bits")
    chosen = cheapest(components)
    least = sum(option.bits for option in chosen.values())
    if least > budget:
        raise UsageError(f"a budget of {budget:g} bits is under the {least:g} of the smallest codes: raise it")
    return chosen
