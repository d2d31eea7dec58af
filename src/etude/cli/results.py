"""A run's result as lines for a person: numbers with their intervals, by dotted name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

FINDINGS = "findings"
"""The key under which a study's result holds its findings in words, each with how firmly it stands."""

MOST = 24
"""Lines of a result that are shown where all of it is not asked for."""


def result_lines(result: dict[str, Any], run: str) -> list[str]:
    """Return a result's findings where it has any, else the first of its numbers, as lines."""
    findings = result.get(FINDINGS)
    if isinstance(findings, list) and findings and all("text" in finding for finding in findings):
        return [_said(finding) for finding in findings]
    rows = flattened(result)
    lines = aligned(rows[:MOST])
    return lines + ([f"({len(rows) - MOST} more: etude show {run})"] if len(rows) > MOST else [])


def _said(finding: dict[str, Any]) -> str:
    return f"- {finding['text']}" + (f" ({finding['strength']})" if finding.get("strength") else "")


def aligned(rows: list[tuple[str, str]]) -> list[str]:
    """Return names and values in two columns."""
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{name:<{width}}  {value}" for name, value in rows]


def flattened(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return every number of a result with its dotted name, without what depends on the clock."""
    return list(_flat({key: value for key, value in result.items() if key != "timing"}, ""))


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and not is_estimate(value):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            title, rest = _titled(item, number)
            yield from _flat(rest, f"{name}.{title}" if name else title)
    else:
        yield name, shown(value)


def _titled(item: dict[str, Any], number: int) -> tuple[str, dict[str, Any]]:
    """Return what to call one of several, by its first fields where these are text and more follows, and the rest."""
    names = list(itertools.takewhile(lambda key: isinstance(item[key], str), item))
    if names and len(names) < len(item):
        return " ".join(item[key] for key in names), {key: item[key] for key in item if key not in names}
    return str(number), item


def is_estimate(value: dict[str, Any]) -> bool:
    """Return whether a part of a result is one number with its interval."""
    return {"mean", "low", "high"} <= value.keys()


def shown(value: Any) -> str:
    """Return one value of a result as text: `1.234 [1.2, 1.3]` for a number with its interval."""
    match value:
        case {"mean": mean, "low": low, "high": high}:
            return f"{shown(mean)} [{shown(low)}, {shown(high)}]"
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if value.is_integer() and 1e3 <= abs(value) < 1e15 else f"{value:.4g}"
        case list():
            inside = ", ".join(shown(item) for item in value[:8])
            return f"{inside}, … ({len(value):,} in all)" if len(value) > 8 else inside or "-"
        case _:
            return str(value)
