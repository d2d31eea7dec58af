"""A conversation with a model, in which only what is new is read."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etude.chat.choices import TALK
from etude.chat.dialogue import Dialogue, Turn
from etude.chat.prompts.base import Prompt
from etude.chat.room import Fitted, Room
from etude.chat.saved import Saved, read_saved, write_saved
from etude.core.errors import UsageError
from etude.models.generation import reader_for, stream
from etude.models.reading import Reader
from etude.models.sampling import Sampling
from etude.models.transformer import Transformer
from etude.models.writing import Ending, Generated
from etude.text.tokenizers.live import Tokenizer

Reply = Generator[str, None, None]
"""The pieces of a reply."""


@dataclass(frozen=True)
class Told:
    """What is known of the last reply.

    Attributes:
        read: the tokens that the model was given, whether kept from before or new.
        written: the tokens that it wrote; none where it was broken off.
        stopped: why it ended; None where it was broken off.
        left_out: how much of the conversation, from its beginning, did not fit the context: exchanges, or words of a
            story.
    """

    read: tuple[int, ...]
    written: tuple[int, ...]
    stopped: Ending | None
    left_out: int


class Session:
    """A conversation, or a story that two write.

    What the model has read is kept: of a new turn it reads the new tokens alone, and after `undo` or `regenerate` it
    goes on from where the text changed. What it writes is what `etude.models.generation.stream` writes from `tokens()`
    without anything kept. Where the conversation has outgrown the context, the prompt stays, and the oldest exchanges
    (of a story the oldest words) are left out, which `told` says.

    The model's weights and whatever is put at its sites have to stay as they are; after a change call `forget`.

    Args:
        model: a decoder or a retro.
        tokenizer: its own.
        prompt: what it reads first.
        sampling: how it writes; its `stop` is added to the marks of turns. A reply is also cut where the context is
            full.
        system: what is to come before the prompt.
        reader: what another session of the same model has read, to go on with; None begins anew.

    Attributes:
        dialogue: what was said so far.
        prompt: as it was given or restored.
        sampling: likewise; `adjust` changes it between turns.
        drawn: replies that were asked for, each of which has random numbers of its own.
        told: of the last reply; None before the first.

    Raises:
        UsageError: the model does not go on from a text, or the prompt leaves no room in its context.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        prompt: Prompt,
        sampling: Sampling = TALK,
        *,
        system: str = "",
        reader: Reader | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.reader = reader or reader_for(model, tokenizer)
        self.prompt, self.sampling, self.system = self._checked(prompt, sampling, system)
        self.dialogue, self.drawn = Dialogue(), 0
        self.told: Told | None = None

    def say(self, text: str) -> Reply:
        """Say something and yield the reply in pieces, which together are the text of the model's turn.

        Both turns are added as soon as the first piece is asked for. A reply that is broken off (the generator closed,
        Ctrl-C) stays as far as it came.

        Raises:
            UsageError: the text leaves no room in the context; the conversation is as it was.
        """
        if self.dialogue.turns and not self.dialogue.answered:
            raise UsageError("the last turn is the user's already: ask for the reply with regenerate")
        asked = self.dialogue + Turn("user", text)
        return self._write(asked)

    def left_out_by(self, text: str) -> int:
        """Return how much would be left out of what the model reads if this were said; see `Told.left_out`.

        Raises:
            UsageError: the text leaves no room in the context.
        """
        return self._fitted(self.dialogue + Turn("user", text)).left_out

    def regenerate(self) -> Reply:
        """Write the last reply anew, with other random numbers, and yield it in pieces.

        Raises:
            UsageError: nothing was said yet.
        """
        if not self.dialogue.turns:
            raise UsageError("there is no reply to write again: say something first")
        asked = Dialogue(self.dialogue.turns[:-1]) if self.dialogue.answered else self.dialogue
        return self._write(asked)

    def undo(self) -> None:
        """Take back the last turn of the user and what was answered.

        Raises:
            UsageError: nothing was said yet.
        """
        if not self.dialogue.turns:
            raise UsageError("there is nothing to undo: nothing was said yet")
        self.dialogue = Dialogue(self.dialogue.turns[: -2 if self.dialogue.answered else -1])
        self.told = None

    def adjust(self, **fields: Any) -> None:
        """Change fields of the sampling from the next reply on, as in `adjust(temperature=0.5)`.

        Raises:
            UsageError: a value is impossible.
        """
        self._checked(self.prompt, sampling := replace(self.sampling, **fields), self.system)
        self.sampling = sampling

    def tokens(self) -> list[int]:
        """Return the conversation as the model has it at hand: what it was given for the last reply, and the reply, as
        far as its context reaches."""
        turns = self.dialogue.turns
        if not self.dialogue.answered:
            return list(self._fitted(self.dialogue if turns else Dialogue((Turn("user", ""),))).ids)
        given = self._fitted(Dialogue(turns[:-1]))
        reply = turns[-1].text if self.prompt.story else f" {turns[-1].text}"
        return [*given.ids, *self.tokenizer.encode(reply)][: self.model.spec.context]

    def save(self, path: Path | str) -> None:
        """Write the conversation, its prompt and its sampling as JSON.

        Raises:
            UsageError: a file stands there that is no conversation.
            OSError: it cannot be written.
        """
        write_saved(Path(path), Saved(self.dialogue, self.prompt, self.sampling, self.system, self.drawn))

    def restore(self, path: Path | str) -> None:
        """Go on with a saved conversation, or a list of messages in OpenAI's form, in place of this one. What the file
        says of prompt and sampling holds from now on.

        Raises:
            UsageError: it is no conversation, its turns are out of order, or it does not fit the model.
            DamagedError: its prompt or sampling is of another version.
            OSError: it cannot be read.
        """
        saved = read_saved(Path(path))
        choices = saved.prompt or self.prompt, saved.sampling or self.sampling, saved.system
        self.prompt, self.sampling, self.system = self._checked(*choices)
        self.dialogue, self.drawn, self.told = saved.dialogue, saved.drawn, None

    @classmethod
    def load(cls, path: Path | str, model: Transformer, tokenizer: Tokenizer, prompt: Prompt | None = None) -> Session:
        """Return the session that was saved. See `restore`.

        Args:
            path: of the file.
            model: to go on with; it may be another than before.
            tokenizer: its own.
            prompt: where the file names none.
        """
        from etude.chat.prompts.none import Nothing

        saved = read_saved(Path(path))
        session = cls(
            model, tokenizer, saved.prompt or prompt or Nothing(), saved.sampling or TALK, system=saved.system
        )
        session.dialogue, session.drawn = saved.dialogue, saved.drawn
        return session

    def forget(self) -> None:
        """Read everything anew at the next turn."""
        self.reader.forget()

    def _checked(self, prompt: Prompt, sampling: Sampling, system: str) -> tuple[Prompt, Sampling, str]:
        if sampling.beams > 1:
            raise UsageError("beam search knows no text before its end: set beams to 1")
        system = Turn("user", system).text  # which refuses what is not UTF-8
        Room.of(self.tokenizer, self.model.spec.context, sampling.max_tokens).check_prompt(prompt, system)
        return prompt, sampling, system

    def _fitted(self, asked: Dialogue) -> Fitted:
        room = Room.of(self.tokenizer, self.model.spec.context, self.sampling.max_tokens)
        return room.fit(self.prompt, asked, self.system)

    def _write(self, asked: Dialogue) -> Reply:
        """Return the pieces of a reply to a dialogue that ends with the user's turn."""
        given = self._fitted(asked)
        sampling = self._sampling(len(given.ids))
        written = stream(self.model, self.tokenizer, given.ids, sampling, number=self.drawn, reader=self.reader)
        return self._keep(asked, given, written)

    def _sampling(self, length: int) -> Sampling:
        """Return how a reply is written: until a turn begins, and where nothing slides until the context is full."""
        room, most = self.model.spec.context + 1 - length, self.sampling.max_tokens
        if not self.sampling.slide:
            most = min(most or room, room)
        return replace(self.sampling, max_tokens=most, stop=(*self.sampling.stop, *self.prompt.stops))

    def _keep(self, asked: Dialogue, given: Fitted, written: Generator[str, None, Generated]) -> Reply:
        """Yield a reply, and keep both turns however it ends."""
        shown, result = list[str](), None
        self.drawn += 1
        try:
            with closing(written):
                result = yield from _shown(written, shown, trim=not self.prompt.story)
        except GeneratorExit:  # between two tokens, where what the reader keeps is whole
            raise
        except BaseException:
            self.reader.forget()
            raise
        finally:
            self.dialogue = asked + Turn("model", "".join(shown))
            ids, stopped = (result.ids, result.stopped) if result else ((), None)
            self.told = Told(given.ids, ids, stopped, given.left_out)


def _shown(written: Generator[str, None, Generated], shown: list[str], trim: bool) -> Generator[str, None, Generated]:
    """Yield the pieces of a text and note them, without the white space around the text where that is wanted."""
    held = ""
    while True:
        try:
            piece = held + next(written)
        except StopIteration as end:
            return end.value
        if trim:
            piece = piece if shown else piece.lstrip()
            held = piece[len(piece.rstrip()) :]
            piece = piece[: len(piece) - len(held)]
        if piece:
            shown.append(piece)
            yield piece
