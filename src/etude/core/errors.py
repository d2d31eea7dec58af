"""The errors that a person meets. Each is one line: the value, the choices, the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EtudeError(Exception):
    """The work failed. The command line prints the message on one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(EtudeError):
    """What was asked for cannot be: a wrong value, name or combination."""

    exit_code = 2


class DamagedError(EtudeError):
    """A file is not what was written: cut short, changed, or of another version."""


class DivergedError(EtudeError):
    """A loss or gradient stopped being finite."""


class BusyError(EtudeError):
    """Another process is making this run."""


class Interrupted(EtudeError):
    """The person stopped the work. What was done is kept, and the same command goes on from there."""


def unknown(what: str, value: str, choices: Iterable[str], see: str = "") -> UsageError:
    """Return the error for a name that does not exist: the nearest match first, then the whole list.

    Args:
        what: the noun, as in `corpus` or `study`.
        value: what was asked for.
        choices: every name that exists.
        see: a command that shows more, if there is one.
    """
    names = sorted(choices)
    nearest = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f" did you mean {nearest[0]!r}?" if nearest else ""
    listed = ", ".join(names) if names else "none"
    more = f" See: {see}" if see else ""
    return UsageError(f"unknown {what} {value!r}:{hint} There are: {listed}.{more}")
