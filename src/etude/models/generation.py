"""Writing texts with a model: greedy, by chance or by beam search, one or many at once, whole or piece by piece."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.models.architectures.retro import Retro
from etude.models.beams import beam_search
from etude.models.choosing import choose, log_probability
from etude.models.prepared import prepared
from etude.models.reading import Reader, Retrieve, Scored
from etude.models.sampling import Sampling
from etude.models.transformer import Transformer
from etude.models.writing import Generated, Request, Writing
from etude.text.tokenizers.live import Tokenizer

Prompts = Sequence[str] | Sequence[Sequence[int]]
Progress = Callable[[float, float, str], None]


WRITERS = ("decoder", "retro", "encoder-decoder")
"""The architectures that write."""


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Prompts,
    sampling: Sampling | None = None,
    *,
    first: int = 0,
    batch: int = 16,
    precision: str = "fp32",
    ready: Scored | None = None,
    retrieve: Retrieve | None = None,
    progress: Progress | None = None,
) -> list[Generated]:
    """Continue each prompt, or, where the model is an encoder-decoder, write what follows from each source.

    The seed and a prompt's number decide what is drawn for it, and nothing else does: it is continued alike by itself
    and among others, where rounding does not tip the balance between two tokens. Without dropout, whatever mode the
    model is in; functions put at its sites act, each on the positions of one call: the prompts', then one more a call.

    Args:
        model: a decoder or an encoder-decoder.
        tokenizer: the model's.
        prompts: texts, or their tokens. A text begins with the tokenizer's `first` token where it has one; an empty
            one is started from the end token, which separates documents; a source ends with it.
        sampling: how; by default drawn from the model's own distribution until its context is full.
        first: number of the first prompt.
        batch: prompts at once.
        precision: `fp32`, or `bf16` for products of weights rounded to bf16, which halves what a token reads from
            memory and now and then chooses another token.
        ready: what `prepared` made of the model, for many calls while its weights stay as they are; it has a precision
            of its own. None prepares the model for this call.
        retrieve: finds the neighbours of each chunk as soon as it is written, for a model that reads them
            (`etude.retrieval.searching`). None writes without.
        progress: told how many tokens are written, out of how many at most.

    Raises:
        UsageError: the model writes no text, or a prompt leaves no room for what is to be written.
    """
    sampling = sampling or Sampling()
    requests = _requests(model, tokenizer, prompts, sampling, first)
    done: dict[int, Generated] = {}
    total = sum(request.most for request in requests)
    with _writing(model, precision, min(batch, len(requests)) * sampling.beams, ready) as scored:
        for part in _batches(requests, model.spec, batch, sampling):
            before = sum(request.most for request in requests if request.number in done)
            reader = _reader(model, scored, tokenizer, part, retrieve)
            if sampling.beams > 1:
                best = beam_search(reader, part, tokenizer, sampling)
                done |= {r.number: texts[0] for r, texts in zip(part, best, strict=True)}
                if progress:
                    progress(before + sum(request.most for request in part), total, "tokens")
                continue
            texts = [Writing(request, tokenizer, sampling) for request in part]
            for _ in _steps(reader, part, texts, sampling):
                if progress:
                    progress(before + sum(t.request.most if t.stopped else len(t.ids) for t in texts), total, "tokens")
            done |= {text.request.number: text.result() for text in texts}
    return [done[request.number] for request in requests]


def stream(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    sampling: Sampling | None = None,
    *,
    number: int = 0,
    precision: str = "fp32",
    ready: Scored | None = None,
    retrieve: Retrieve | None = None,
    reader: Reader | None = None,
) -> Generator[str, None, Generated]:
    """Yield pieces of one text as they are written, and return the text whole.

    The pieces together are the text that `generate` gives for the same number. No piece breaks a character, and none
    holds the beginning of a stop text before it is known not to be one.

    Args:
        model: as in `generate`.
        tokenizer: the model's.
        prompt: a text, or its tokens.
        sampling: how; beam search, which knows no text before its end, is refused.
        number: of the prompt.
        precision: as in `generate`.
        ready: as in `generate`.
        retrieve: as in `generate`.
        reader: what `reader_for` made of the model, for texts that begin alike: only what is new in this one is read.
            It has a precision and neighbours of its own. None reads the prompt whole.
    """
    sampling = sampling or Sampling()
    if sampling.beams > 1:
        raise UsageError("beam search knows no text before its end: set beams to 1, or use generate")
    requests = _requests(model, tokenizer, [prompt], sampling, number)  # pyright: ignore[reportArgumentType]
    return _stream(model, tokenizer, requests, sampling, precision, ready, retrieve, reader)


def reader_for(
    model: Transformer,
    tokenizer: Tokenizer,
    *,
    precision: str = "fp32",
    ready: Scored | None = None,
    retrieve: Retrieve | None = None,
) -> Reader:
    """Return what reads one text after another for `stream`, and keeps the beginning that they share.

    Args:
        model: one that writes, other than an encoder-decoder, whose weights stay as they are.
        tokenizer: the model's.
        precision: as in `generate`.
        ready: as in `generate`.
        retrieve: as in `generate`.
    """
    if model.spec.name not in WRITERS[:2]:
        raise UsageError(f"an {model.spec.name} goes on from no text: give a {' or a '.join(WRITERS[:2])}")
    with _writing(model, precision, 1, ready) as scored:
        return _reader(model, scored, tokenizer, [], retrieve)


def _stream(
    model: Transformer,
    tokenizer: Tokenizer,
    requests: list[Request],
    sampling: Sampling,
    precision: str,
    ready: Scored | None,
    retrieve: Retrieve | None,
    reader: Reader | None,
) -> Generator[str, None, Generated]:
    (request,) = requests
    text = Writing(request, tokenizer, sampling)
    characters, shown = codecs.getincrementaldecoder("utf-8")("replace"), 0
    with _writing(model, precision, 1, ready or (reader and reader.model)) as scored:
        reader = reader or _reader(model, scored, tokenizer, requests, retrieve)
        for _ in _steps(reader, requests, [text], sampling):
            certain = text.certain()
            piece = characters.decode(certain[shown:], final=text.stopped is not None)
            shown = len(certain)
            if piece:
                yield piece
    return text.result()


def _steps(reader: Reader, requests: Sequence[Request], texts: Sequence[Writing], sampling: Sampling) -> Iterator[None]:
    """Write texts side by side until each has ended, and stop after every token of all."""
    scores = reader.begin([request.before for request in requests])
    held = _held(scores, requests) if sampling.repetition_penalty != 1 else None
    rows = list(texts)
    while True:
        chances = None
        if not sampling.greedy:
            chances = torch.tensor([0.0 if t.stopped else t.chance() for t in rows], dtype=torch.float64)
        tokens = choose(scores, sampling, held, chances)
        likely = log_probability(scores, tokens)
        for text, token, value in zip(rows, tokens.tolist(), likely.tolist(), strict=True):
            if not text.stopped:
                text.take(token, value)
        yield
        live = [row for row, text in enumerate(rows) if not text.stopped]
        if not live:
            return
        if held is not None:
            held.scatter_(1, tokens[:, None], value=True)
        if len(live) <= 0.75 * len(rows):  # else leaving them out would cost more than going on with them
            kept = torch.tensor(live, device=reader.device)
            reader.select(kept)
            tokens, held = tokens[kept], None if held is None else held[kept]
            rows = [rows[row] for row in live]
        scores = reader.go_on(tokens)


def _held(scores: Tensor, requests: Sequence[Request]) -> Tensor:
    """Return which tokens each text holds [B V]: of a decoder those of its prompt, of an encoder-decoder none yet."""
    held = torch.zeros_like(scores, dtype=torch.bool)
    for row, request in enumerate(requests):
        if request.source is None:
            held[row, list(request.before)] = True
    return held


def _requests(
    model: Transformer, tokenizer: Tokenizer, prompts: Prompts, sampling: Sampling, first: int
) -> list[Request]:
    """Return what is to be written, checked before any work."""
    name, context = model.spec.name, model.spec.context
    if name not in WRITERS:
        raise UsageError(f"an {name} writes no text: give a {', a '.join(WRITERS[:-1])} or an {WRITERS[-1]}")
    if model.vocabulary < tokenizer.vocabulary:  # a larger one is padded
        raise UsageError(
            f"the tokenizer has {tokenizer.vocabulary} tokens and the model {model.vocabulary}: give the model's own"
        )
    if isinstance(prompts, str):
        raise UsageError("prompts are several: give a list, as in [prompt]")
    if sampling.slide and name == "encoder-decoder":
        raise UsageError("the target of an encoder-decoder begins with its first token always: leave slide out")
    requests = []
    for number, prompt in enumerate(prompts, first):
        tokens = _tokens_of(prompt, tokenizer, ends=name == "encoder-decoder")
        source, before = (tokens, (tokenizer.end,)) if name == "encoder-decoder" else (None, tokens)
        outside = next((t for t in tokens if not 0 <= t < tokenizer.vocabulary), None)
        if outside is not None:
            raise UsageError(f"prompt {number}: no token has the id {outside}; there are {tokenizer.vocabulary}")
        # The last token that is written is never read, so that a text may be one longer than the context.
        room = context + 1 - len(before)
        if len(tokens) > context or (not sampling.slide and sampling.max_tokens > room):
            raise UsageError(_too_long(number, tokens, before, sampling, context))
        requests.append(Request(number, before, source, sampling.max_tokens or room))
    return requests


def _tokens_of(prompt: str | Sequence[int], tokenizer: Tokenizer, ends: bool) -> tuple[int, ...]:
    if not isinstance(prompt, str):
        return tuple(prompt) or (tokenizer.end,)
    if ends:
        return (*tokenizer.encode(prompt), tokenizer.end)
    first = tokenizer.specials.get("first")
    tokens = tokenizer.encode(prompt)
    return tuple(tokens) or (tokenizer.end,) if first is None else (first, *tokens)


def _too_long(number: int, tokens: Sequence[int], before: Sequence[int], sampling: Sampling, context: int) -> str:
    if len(tokens) > context:
        return f"prompt {number} has {len(tokens)} tokens and the model reads {context}: shorten it"
    return (
        f"prompt {number}: {len(before)} tokens and {sampling.max_tokens} more do not fit the model's context of"
        f" {context}: set max_tokens to {context + 1 - len(before)} or less, or slide"
    )


def _batches(
    requests: Sequence[Request], spec: Architecture, batch: int, sampling: Sampling
) -> Iterator[list[Request]]:
    """Yield what is written side by side: prompts of about the same length, so that little is padded, and such that the
    padding leaves each the room that it needs. Texts that slide are of one length, so that they do so by themselves;
    so are those that are read in chunks."""
    if batch < 1:
        raise UsageError(f"batch = {batch} is too small: it is 1 or more")
    part: list[Request] = []
    context, alike = spec.context, sampling.slide or spec.name == "retro"
    for request in sorted(requests, key=lambda r: len(r.before)):
        longest, most = len(request.before), max(r.most for r in (*part, request))
        fits = longest == len((part or [request])[0].before) if alike else longest + most - 1 <= context
        if part and (len(part) == batch or not fits):
            yield part
            part = []
        part.append(request)
    if part:
        yield part


def _reader(
    model: Transformer,
    scored: Scored,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    retrieve: Retrieve | None,
) -> Reader:
    device, spec = next(model.parameters()).device, model.spec
    if retrieve is not None and not isinstance(spec, Retro):
        raise UsageError(f"a {spec.name} reads no neighbours: leave retrieve out, or give a retro")
    sources = [request.source for request in requests if request.source is not None]
    chunk = spec.chunk if isinstance(spec, Retro) else 0
    vocabulary = tokenizer.vocabulary
    return Reader(scored, spec.context, vocabulary, device, sources or None, model.cache, retrieve, chunk)


@contextmanager
def _writing(model: Transformer, precision: str, rows: int, ready: Scored | None) -> Iterator[Scored]:
    """Give what reads the tokens of so many texts at once, with the model in evaluation mode meanwhile."""
    if ready is not None and ready is not model and model._forward_pre_hooks:
        raise UsageError(
            "functions put at weights act on the model, not on what was made ready before: leave ready out"
        )
    was = model.training
    model.eval()
    try:
        yield ready or prepared(model, precision, rows)
    finally:
        model.train(was)
