"""Whether a challenge can be trusted: a blank starter, a solution that passes, an answer of its own for each mutant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.practice.challenge import FEWEST_MUTANTS, Challenge

if TYPE_CHECKING:
    from etude.practice.verdict import Verdict

SEEDS = (0, 1, 2)


def complaints(challenge: Challenge, seeds: Sequence[int] = SEEDS) -> Iterator[str]:
    """Yield what is wrong with a challenge. It is judged in this process: a check of one's own is trusted.

    Args:
        challenge: which.
        seeds: of the numbers that each is asked with.
    """
    from etude.practice.judging import judge

    if len(challenge.mutants) < FEWEST_MUTANTS:
        yield f"{challenge.name} has {len(challenge.mutants)} mutants: give {FEWEST_MUTANTS} or more"
    outcome = judge(challenge, challenge.starter, seeds[0]).outcome
    if outcome != "blank":
        yield f"{challenge.name}: the starter is {outcome}; it has to raise NotImplementedError in every function"
    for seed in seeds:
        if not (verdict := judge(challenge, challenge.solution, seed)).passed:
            yield f"{challenge.name}: the solution is {verdict.outcome} with seed {seed}: {verdict.message}"
    for mutant in challenge.mutants:
        try:
            source = mutant.of(challenge.solution)
        except UsageError as error:
            yield f"{challenge.name}: {error}"
            continue
        for seed in seeds:
            if said := _survives(challenge, mutant.says, judge(challenge, source, seed)):
                yield f"{challenge.name}: the mutant {mutant.name!r}, seed {seed}, {said}"
                break


def _survives(challenge: Challenge, says: str, verdict: Verdict) -> str:
    """Say how a mutant is not answered as it has to be, or nothing."""
    if verdict.passed:
        return "passes"
    if verdict.outcome not in ("wrong", "forbidden", "raised"):
        return f"is {verdict.outcome}, not wrong"
    if says not in verdict.message:
        return f"is answered with {verdict.message.splitlines()[0]!r}, which does not say {says!r}"
    others = [other.name for other in challenge.mutants if other.says != says and other.says in verdict.message]
    if others:
        return f"is answered as {others[0]!r} is: {verdict.message!r}"
    return ""
