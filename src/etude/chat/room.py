"""What of a conversation fits the model's context: the prompt always, and the latest of the rest."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable
from dataclasses import dataclass

from etude.chat.dialogue import Dialogue, Turn, render, told
from etude.chat.prompts.base import Prompt
from etude.chat.prompts.long import Long
from etude.chat.prompts.none import Nothing
from etude.chat.prompts.short import Short
from etude.core.errors import UsageError
from etude.text.tokenizers.live import Tokenizer

SHARE = 4
"""A quarter of the context is left for a reply at most; one that may be shorter leaves less."""


@dataclass(frozen=True)
class Fitted:
    """What a model reads for its next turn.

    Attributes:
        ids: its tokens.
        left_out: exchanges (of a story, words) from the beginning that are not among them.
    """

    ids: tuple[int, ...]
    left_out: int


@dataclass(frozen=True)
class Room:
    """The room that a model has.

    Attributes:
        tokenizer: the model's.
        context: tokens that it reads.
        reply: tokens that are kept free for the reply.
    """

    tokenizer: Tokenizer
    context: int
    reply: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, context: int, most: int) -> Room:
        """Return the room where a reply has so many tokens at most; 0 is as many as there is room for."""
        share = max(1, context // SHARE)
        return cls(tokenizer, context, min(most or share, share))

    def encoded(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text, after the one that a document begins with: the tokenizer's `first` or, as in
        training, the separator."""
        first = self.tokenizer.specials.get("first", self.tokenizer.end)
        return (first, *self.tokenizer.encode(text))

    def over(self, ids: tuple[int, ...]) -> int:
        """Return by how many tokens a text is too long, 0 or less where it fits."""
        return len(ids) + self.reply - self.context

    def fit(self, prompt: Prompt, dialogue: Dialogue, system: str = "") -> Fitted:
        """Return the prompt and as much of a dialogue's end as there is room for, the last turn among it.

        Raises:
            UsageError: the prompt leaves no room, or the last turn is too long.
        """
        written = _story(prompt, dialogue) if prompt.story else _exchanges(prompt, dialogue, system)
        count, text_without = written

        def fits(left_out: int) -> bool:
            return self.over(self.encoded(text_without(left_out))) <= 0

        left_out = bisect.bisect_left(range(count), True, key=fits)
        if left_out == count:
            self.check_prompt(prompt, system)
            over = self.over(self.encoded(text_without(count - 1)))
            raise UsageError(
                f"what was said is too long by {over} tokens for the model's context of {self.context}, of which"
                f" {self.reply} are kept for the reply: shorten it"
            )
        return Fitted(self.encoded(text_without(left_out)), left_out)

    def check_prompt(self, prompt: Prompt, system: str = "") -> None:
        """Raise UsageError where a prompt leaves no room for anything to be said."""
        nothing = Dialogue() if prompt.story else Dialogue((Turn("user", ""),))
        ids = self.encoded(render(prompt, nothing, system))
        if self.over(ids) > 0:
            raise UsageError(
                f"the prompt {prompt.name!r}{' and the system message have' if system else ' has'} {len(ids)} tokens,"
                f" and the model's context of {self.context} holds {self.context - self.reply} beside a reply:"
                f" {_remedy(prompt, system)}"
            )


def _remedy(prompt: Prompt, system: str) -> str:
    if prompt.story:
        return "shorten its opening"
    if prompt.name not in ("short", "none"):
        return "choose the prompt 'short' or 'none'"
    return "shorten the system message" if system else "choose the prompt 'none', or shorter marks"


def _exchanges(prompt: Prompt, dialogue: Dialogue, system: str) -> tuple[int, Callable[[int], str]]:
    """Return in how many lengths a dialogue can be had, and its text without the first so many exchanges."""
    return (len(dialogue) + 1) // 2, lambda left_out: render(prompt, dialogue.without(left_out), system)


def _story(prompt: Prompt, dialogue: Dialogue) -> tuple[int, Callable[[int], str]]:
    """Return in how many lengths a story can be had, and its text without the first so many words."""
    whole = told(prompt.text, dialogue)
    words = re.split(r"(?<=\s)(?=\S)", whole[len(prompt.text) :])
    return len(words), lambda left_out: prompt.text + "".join(words[left_out:])


def prompt_for(tokenizer: Tokenizer, context: int) -> Prompt:
    """Return the longest of the prompts that leaves half of a context free: `long`, `short`, or none."""
    room = Room.of(tokenizer, context, 0)
    fitting = (prompt for prompt in (Long(), Short()) if 2 * len(room.encoded(prompt.text)) <= context)
    return next(fitting, Nothing())
