"""A score out of a run's result, by its dotted path."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from etude.core.errors import UsageError
from etude.core.run import Run


def score_of(run: Run, path: str) -> float:
    """Return the number at a path of a run's result; of an estimate, its mean.

    Raises:
        UsageError: there is none. The run stays as it is, and is not made again for another path.
    """
    found = dict(_numbers(run.result, ""))
    if path not in found:
        nearest = difflib.get_close_matches(path, found, n=1, cutoff=0.5)
        hint = f" did you mean {nearest[0]!r}?" if nearest else ""
        raise UsageError(
            f"{run.id} has no number {path!r} in its result:{hint} There are: {', '.join(found) or 'none'}."
            " Set --metric; what is done is not done again"
        )
    return found[path]


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Yield every number with its path, an estimate as one, without what depends on the clock."""
    if isinstance(value, dict):
        if name and {"mean", "low", "high"} <= value.keys():
            yield name, float(value["mean"])
            return
        for key, inner in value.items():
            if name or key != "timing":
                yield from _numbers(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)
