"""What a check says of an answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from etude.core.errors import unknown

OUTCOMES = ("passed", "wrong", "blank", "raised", "syntax", "forbidden", "time", "memory", "ended")
"""Right; wrong; not begun; it raised an error; it is no Python; it calls what was to be written; it was stopped for its
time or its memory; or it ended Python itself."""


@dataclass(frozen=True)
class Verdict:
    """What a check says of an answer.

    Attributes:
        outcome: one of `OUTCOMES`.
        message: what is wrong, for the learner; what was shown, where it passed.
        prints: what the answer printed, at most `MOST_PRINTED` characters of it.
        seconds: that the check took, without starting Python.
        seed: of the numbers that were asked with.
        shown: series that the check drew from the answer, as in the losses of a training.
    """

    outcome: str
    message: str = ""
    prints: str = ""
    seconds: float = 0.0
    seed: int = 0
    shown: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise unknown("outcome", self.outcome, OUTCOMES)

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)
