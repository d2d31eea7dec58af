"""What corpora with labels share: when two texts count as the same, and how labels are read."""

from __future__ import annotations

import re

from etude.core.errors import UsageError

_BETWEEN = re.compile(r"\W+")


def sameness(text: str) -> str:
    """Return what two texts have in common when they count as the same: their words in lower case, whatever stands
    between them. A text without words is the same only as itself."""
    return _BETWEEN.sub(" ", text.casefold()).strip() or text


def label_of(value: object, first: int, classes: tuple[str, ...], where: str) -> int:
    """Return a label, from 0, as a file has it: a whole number (`2`, or `2.0` as some programs write it).

    Args:
        value: what stands in the file.
        first: the number that the first class has there.
        classes: their names.
        where: what the message calls the place.

    Raises:
        UsageError: it is no number, or none of a class.
    """
    try:
        number = float(str(value))
    except ValueError:
        number = float("nan")
    label = number - first
    if label not in range(len(classes)):
        last = first + len(classes) - 1
        names = ", ".join(classes)
        raise UsageError(f"{where}: the label {str(value)[:40]!r} is none of {first} to {last} ({names}); correct it")
    return int(label)
