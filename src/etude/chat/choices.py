"""What a person chooses before talking, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from etude.chat.prompts.base import Prompt
from etude.chat.prompts.short import Short
from etude.core.spec import Spec
from etude.models.sampling import Sampling

SHORT = Short()

TALK = Sampling(temperature=0.8, max_tokens=256)
"""How a model answers where nothing else is said: a little surer than its own distribution."""


@dataclass(frozen=True)
class Choices(Spec):
    """How to talk with a model.

    Attributes:
        prompt: what the model reads first.
        sampling: how it writes.
    """

    prompt: Prompt = SHORT
    sampling: Sampling = TALK
