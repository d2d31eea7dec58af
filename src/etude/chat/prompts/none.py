"""No words before the conversation: for models trained on dialogues."""

from __future__ import annotations

from dataclasses import dataclass

from etude.chat.prompts.base import Prompt


@dataclass(frozen=True)
class Nothing(Prompt):
    """The conversation alone, for a model that was trained on dialogues."""
