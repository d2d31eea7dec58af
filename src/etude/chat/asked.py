"""What a program asks the endpoint for, read from OpenAI's form, and the answer in that form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from etude.chat.dialogue import Dialogue
from etude.chat.prompts.story import Story
from etude.chat.saved import parted
from etude.chat.session import Reply, Session
from etude.core.errors import UsageError
from etude.models.sampling import Sampling

NUMBERS = {"temperature": (0, 2), "top_p": (0, 1)}
WHOLE = {"max_tokens": (1, 1 << 31), "max_completion_tokens": (1, 1 << 31), "seed": (0, 1 << 63), "n": (1, 1)}
REFUSED = ("tools", "functions", "response_format", "logprobs", "top_logprobs", "echo", "suffix", "logit_bias")
MOST_STOPS = 4
DEFAULT_TOKENS = 16
"""That a completion has where nothing is said, as in OpenAI's."""


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        session: with what was said before.
        text: what is said to it.
        talks: whether it is a conversation, else a text to be completed.
        streams: whether the answer comes in pieces.
        counts: whether a stream ends with the number of tokens.
        seeded: whether a seed was given.
    """

    session: Session
    text: str
    talks: bool
    streams: bool
    counts: bool
    seeded: bool

    @property
    def id(self) -> str:
        """What the answer's name begins with."""
        return "chatcmpl" if self.talks else "cmpl"

    def begin(self) -> Reply:
        """Return the reply's pieces, none of which is written yet.

        Raises:
            UsageError: what was said does not fit the context; a text has to fit it whole.
        """
        if not self.talks and (words := self.session.left_out_by(self.text)):
            raise UsageError(f"the prompt is too long for the model's context by {words:,} words: shorten it")
        return self.session.say(self.text)

    def whole(self, text: str) -> dict[str, Any]:
        """Return the answer in one."""
        said = {"message": {"role": "assistant", "content": text}} if self.talks else {"text": text}
        return {**self._object(), "choices": [self._choice(said, self._reason())], "usage": self._usage()}

    def parts(self, reply: Reply) -> Iterator[dict[str, Any]]:
        """Yield the answer piece by piece, and last why it ended."""
        if self.talks:
            yield self._part({"delta": {"role": "assistant", "content": ""}})
        for piece in reply:
            yield self._part({"delta": {"content": piece}} if self.talks else {"text": piece})
        yield self._part({"delta": {}} if self.talks else {"text": ""}, self._reason())
        if self.counts:
            yield {**self._object(chunk=True), "choices": [], "usage": self._usage()}

    def _part(self, said: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**self._object(chunk=True), "choices": [self._choice(said, reason)]}

    def _object(self, chunk: bool = False) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.talks else "text_completion"
        return {"object": kind}

    def _choice(self, said: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {"index": 0, **said, "logprobs": None, "finish_reason": reason}

    def _reason(self) -> str:
        return "length" if self.session.told and self.session.told.stopped == "length" else "stop"

    def _usage(self) -> dict[str, int]:
        """Return how many tokens were read and written, and, which is our own, what was left out."""
        told = self.session.told
        read, written, left_out = (len(told.read), len(told.written), told.left_out) if told else (0, 0, 0)
        counted = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return {**counted, "exchanges_left_out": left_out} if left_out else counted


def chat_asked(data: dict[str, Any], session: Session) -> Asked:
    """Read a request to `/v1/chat/completions`. The system's message, the first or none, comes before the prompt.

    Raises:
        UsageError: it is not of the form, or asks for what there is not.
    """
    if "messages" not in data or not isinstance(data["messages"], list):
        raise UsageError("messages are a list of role and content")
    system, rest = parted([_flat(message) for message in data["messages"]])
    dialogue = Dialogue.from_messages(rest)
    if not dialogue.turns or dialogue.answered:
        raise UsageError("the last message is the user's: there is nothing to answer")
    sampling = _sampling(data, session.sampling)
    prompt = session.prompt
    own = Session(session.model, session.tokenizer, prompt, sampling, system=system, reader=session.reader)
    own.dialogue = Dialogue(dialogue.turns[:-1])
    return _asked(data, own, dialogue.turns[-1].text, talks=True)


def text_asked(data: dict[str, Any], session: Session) -> Asked:
    """Read a request to `/v1/completions`, of one text.

    Raises:
        UsageError: it is not of the form, or asks for what there is not.
    """
    text = data.get("prompt", "")
    if isinstance(text, list) and len(text) == 1:
        text = text[0]
    if not isinstance(text, str):
        raise UsageError("prompt is one text: neither tokens nor several texts are read")
    sampling = _sampling({"max_tokens": DEFAULT_TOKENS, **data}, session.sampling)
    own = Session(session.model, session.tokenizer, Story(), sampling, reader=session.reader)
    return _asked(data, own, text, talks=False)


def _asked(data: dict[str, Any], session: Session, text: str, talks: bool) -> Asked:
    options = data.get("stream_options") or {}
    counts = isinstance(options, dict) and bool(options.get("include_usage"))
    seeded = data.get("seed") is not None
    return Asked(session, text, talks, _flag(data, "stream"), counts, seeded)


def _flat(message: Any) -> Any:
    """Return a message whose content is text, also where it came in parts."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError("a message holds text alone: no images, sounds or files")
    return {**message, "content": "".join(map(str, texts))}


def _sampling(data: dict[str, Any], sampling: Sampling) -> Sampling:
    """Return how is written, what was asked for in place of the session's own."""
    refused = next((name for name in REFUSED if data.get(name)), None)
    if refused:
        raise UsageError(f"{refused} is not supported: leave it out")
    numbers = {name: _number(data, name, *bounds, float) for name, bounds in NUMBERS.items()}
    whole = {name: _number(data, name, *bounds, int) for name, bounds in WHOLE.items()}
    most = whole["max_completion_tokens"] or whole["max_tokens"]
    found = numbers | {"max_tokens": most, "seed": whole["seed"], "stop": _stops(data.get("stop"))}
    return replace(sampling, **{name: value for name, value in found.items() if value is not None})


def _number(data: dict[str, Any], name: str, least: float, most: float, kind: type) -> Any:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | kind) or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        raise UsageError(f"{name} = {value!r} is not {what} from {least} to {most}")
    return value


def _stops(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) for s in stops):
        raise UsageError(f"stop is a text, or a list of {MOST_STOPS} at most")
    return tuple(stops)


def _flag(data: dict[str, Any], name: str) -> bool:
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{name} = {value!r} is neither true nor false")
    return bool(value)
