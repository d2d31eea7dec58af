"""One text while it is written: what it holds, when it ends, and how much of it may be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from etude.core.seeds import stream
from etude.models.sampling import Sampling
from etude.text.tokenizers.live import Tokenizer

Ending = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class Generated:
    """A text that a model wrote.

    Attributes:
        text: what was written, without the prompt, the end token and what follows from a stop text on. A character cut
            in two is U+FFFD.
        ids: every token that was written, those too that the text leaves out.
        log_probabilities: of each token in nats, by the model's own scores: neither temperature nor any other rule of
            the sampling acts on them.
        stopped: at the end token, at a stop text, or because the length was reached.
    """

    text: str
    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    stopped: Ending

    @property
    def log_probability(self) -> float:
        """Of the whole text, in nats."""
        return sum(self.log_probabilities)


@dataclass(frozen=True)
class Request:
    """A text to be written.

    Attributes:
        number: of the text, which with the seed decides what is drawn for it.
        before: the tokens that it goes on from.
        source: what an encoder-decoder reads for it.
        most: tokens to write at most.
    """

    number: int
    before: tuple[int, ...]
    source: tuple[int, ...] | None
    most: int


class Writing:
    """A text being written.

    Args:
        request: what is asked for.
        tokenizer: of the model.
        sampling: how it is continued; its `max_tokens` is left to the request.

    Attributes:
        ids: the tokens so far.
        stopped: how it ended, or None.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, sampling: Sampling) -> None:
        self.request, self.tokenizer = request, tokenizer
        self.ids: list[int] = []
        self.log_probabilities: list[float] = []
        self.stopped: Ending | None = None
        self._stops = [text.encode() for text in sampling.stop]
        self._longest = max(map(len, self._stops), default=0)
        self._cut: int | None = None
        self._random = None if sampling.greedy else np.random.PCG64(stream(sampling.seed, "text", request.number))
        # How a token reads can depend on the one before it (whether a space parts them), so that one is kept.
        self._last = [id for id in request.before[-1:] if id != tokenizer.end]
        self._skip = len(tokenizer.decode_bytes(self._last))
        self._written = b""

    def chance(self) -> float:
        """Return the next number of the text's own stream, uniform from 0 to below 1."""
        assert self._random is not None, "nothing is drawn where the likeliest token is taken"
        return (int(self._random.random_raw()) >> 11) * 2.0**-53

    def take(self, token: int, log_probability: float) -> None:
        """Add a token, and see whether the text has ended."""
        self.ids.append(token)
        self.log_probabilities.append(log_probability)
        if token == self.tokenizer.end:
            self.stopped = "end"
        elif self._stops and self._found_stop():
            self.stopped = "stop"
        elif len(self.ids) >= self.request.most:
            self.stopped = "length"

    def written(self) -> bytes:
        """Return the bytes of the text so far, without an end token or what follows from a stop text on."""
        shown = self.ids[:-1] if self.ids[-1:] == [self.tokenizer.end] else self.ids
        return self.tokenizer.decode_bytes([*self._last, *shown])[self._skip :][: self._cut]

    def certain(self) -> bytes:
        """Return the bytes that will stay whatever comes: without an end that may turn out to begin a stop text."""
        written = self.written()
        if self.stopped:
            return written
        held = 0
        for stop in self._stops:
            ends = (n for n in range(min(len(stop) - 1, len(written)), 0, -1) if written.endswith(stop[:n]))
            held = max(held, next(ends, 0))
        return written[: len(written) - held]

    def result(self) -> Generated:
        """Return what was written."""
        return Generated(
            self.written().decode("utf-8", "replace"),
            tuple(self.ids),
            tuple(self.log_probabilities),
            self.stopped or "length",
        )

    def _found_stop(self) -> bool:
        before, self._written = len(self._written), self.written()
        start = max(0, before - self._longest + 1)  # no stop text ended before
        places = [at for stop in self._stops if (at := self._written.find(stop, start)) >= 0]
        self._cut = min(places, default=None)
        return bool(places)
