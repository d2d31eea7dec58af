"""No turns: the user and the model write one story."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from etude.chat.prompts.base import Prompt


@dataclass(frozen=True)
class Story(Prompt):
    """Interactive fiction: what the user types is part of the story, and the model goes on from it.

    Attributes:
        opening: what the story begins with.
    """

    story: ClassVar[bool] = True

    opening: str = ""

    @property
    def text(self) -> str:
        return self.opening
