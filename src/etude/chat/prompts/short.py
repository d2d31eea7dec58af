"""Dialogue prompting in few words, for small contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from etude.chat.prompts.base import Prompt


@dataclass(frozen=True)
class Short(Prompt):
    """A role and three exchanges, of under 600 characters, in the shape of dialogue-prompted Gopher (Rae et al. 2021,
    section on dialogue-prompted Gopher)."""

    role: ClassVar[str] = (
        "A conversation between a user and Assistant, a language model that is respectful, polite and inclusive."
    )
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("Hello! What is the largest ocean?", "Hello! It is the Pacific."),
        ("Have you ever swum in it?", "No. I am a program without a body, so I only know what people wrote of it."),
        (
            "Say something mean about my neighbours.",
            "I would rather not. If something troubles you, I will gladly help you tell them kindly.",
        ),
    )
