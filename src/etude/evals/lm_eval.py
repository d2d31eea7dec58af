"""Models from here in lm-evaluation-harness 0.4.13 or later (extra `lm-eval`), by the name `etude`.

    python -m etude.evals.lm_eval run --model etude --model_args run=RUN --tasks TASK --include_path FOLDER

The harness finds the models that are registered in its own process and no others, so that this command registers ours
and hands its words on. From Python, `register()` does the same for `lm_eval.simple_evaluate(model="etude", ...)`.
Nothing is fetched: a task is offline where its own data are local (`dataset_path: json` with `data_files`).
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, cast

import torch

from etude.core.errors import EtudeError, UsageError, unknown
from etude.core.progress import Shown
from etude.evals.asking import AT_ONCE, Ask, Asker, Group, Said, ask_for, rolled
from etude.models.generation import generate
from etude.models.load import load
from etude.models.prepared import prepared
from etude.models.sampling import Sampling
from etude.nn.precision import autocast

NAME = "etude"

WRITTEN_AT_ONCE = 64
"""Texts that are written side by side."""

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What the harness calls the most tokens to write, the first that is given counts."""

MOST = 256
"""Tokens to write at most where a task does not say, as with the harness's own models."""

DRAWN = ("top_k", "top_p", "min_p", "repetition_penalty", "seed")
"""Settings of a task's generation that are called here as there."""


class Answers:
    """What the harness asks a model, answered as `etude run evaluate` has it answered.

    Texts are parted into tokens as with the harness's Hugging Face models: question and answer as one, with white space
    at the end of a question as part of the answer. A tokenizer's `first` token stands before every text, once; before a
    text that is rolled over, their models have it twice and count the second one where their tokenizer adds it by
    itself. Special tokens' letters in a text are letters.

    Args:
        run: a run, its id or folder, a Hugging Face folder, or whatever else `etude.load` takes.
        at_once: tokens that are read at once, about.
        precision: `fp32`, or `bf16` for matrix products in bf16.
        left: `batch_size`, `max_batch_size` and `device`, which the harness gives every model; they are not used:
            `at_once` is the batch, and models are asked on the CPU.

    Raises:
        UsageError: there is no such run, it is no decoder, or the harness gave something else.
    """

    cache_hook: Any

    def __init__(self, run: Any = "", at_once: int = AT_ONCE, precision: str = "fp32", **left: Any) -> None:
        super().__init__()
        strange = left.keys() - {"batch_size", "max_batch_size", "device"}
        if strange:
            raise unknown("model argument", min(strange), ("run", "at_once", "precision"))
        if not run:
            raise UsageError("no run is named: give --model_args run=RUN, an id or a folder")
        if precision not in ("fp32", "bf16"):
            raise UsageError(f"precision {precision!r} is not one that models are asked in: fp32, bf16")
        self.name, self.precision = str(run), precision
        self.model, self.tokenizer = load(self.name)
        self.asker, self.context = Asker(self.model, at_once), self.model.spec.context

    @property
    def tokenizer_name(self) -> str:
        """What the harness names its own cache of prompts by."""
        return self.name.replace("/", "__")

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return how likely each continuation is after its context, in nats, and whether it is the likeliest."""
        parts: dict[Any, list[int]] = {}
        for number, request in enumerate(requests):
            parts.setdefault(_belongs_to(request), []).append(number)
        asks = [self._asked(*request.args) for request in requests]
        self._warn(sum(len(ask.tokens) - 1 > self.context for ask in asks), len(asks))
        asks = [_shortened(ask, self.context) for ask in asks]
        numbers, found = list(parts.values()), list[Any](asks)
        for group, said in self._answered([[asks[n] for n in part] for part in numbers], not disable_tqdm):
            for number, one in zip(numbers[group], said, strict=True):
                found[number] = (one.log_probability, one.greedy)
                self.cache_hook.add_partial("loglikelihood", requests[number].args, found[number])
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return how likely each whole text is, in nats, from windows that predict every token once."""
        opening = self.tokenizer.specials.get("first", self.tokenizer.end)
        windows = [rolled(self.tokenizer.encode(request.args[0]), self.context, opening) for request in requests]
        of = [number for number, asks in enumerate(windows) for _ in asks]
        found = [0.0] * len(requests)
        for group, (said,) in self._answered([[ask] for asks in windows for ask in asks], not disable_tqdm):
            found[of[group]] += said.log_probability
        for request, total in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return what is written after each context, without what follows from a stop text on."""
        alike: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(number)
        found, shown = dict[int, str](), Shown()
        ready = prepared(self.model, self.precision, WRITTEN_AT_ONCE)
        for settings, numbers in alike.items():
            sampling = sampling_of(json.loads(settings))
            prompts = [self._prompt(requests[number].args[0], sampling.max_tokens) for number in numbers]
            for start in range(0, len(numbers), WRITTEN_AT_ONCE):
                part = slice(start, start + WRITTEN_AT_ONCE)
                texts = generate(
                    self.model, self.tokenizer, prompts[part], sampling,
                    first=start, batch=WRITTEN_AT_ONCE, ready=ready,
                )  # fmt: skip
                for number, text in zip(numbers[part], texts, strict=True):
                    found[number] = text.text
                    self.cache_hook.add_partial("generate_until", requests[number].args, text.text)
                if not disable_tqdm:
                    shown(len(found), len(requests), unit="texts")
        return [found[number] for number in range(len(requests))]

    def _answered(self, groups: Sequence[Group], show: bool) -> Iterator[tuple[int, list[Said]]]:
        """Yield what is said to each group, with its number."""
        shown, done = Shown(), 0
        for batch in self.asker.batches(groups):
            with autocast(torch.device("cpu"), self.precision):
                answers = self.asker.answer(groups, batch)
            yield from zip(batch.groups, answers, strict=True)
            done += len(batch.groups)
            if show:
                shown(done, len(groups), unit="questions")

    def _asked(self, context: str, continuation: str) -> Ask:
        kept = context.rstrip()
        ask = ask_for(self.tokenizer, kept, context[len(kept) :] + continuation)
        if len(ask.tokens) - ask.start > self.context:
            raise UsageError(
                f"{continuation[:40]!r}... takes {len(ask.tokens) - ask.start} tokens and the model reads"
                f" {self.context}: leave the item out, or ask a model that reads more"
            )
        return ask

    def _prompt(self, context: str, most: int) -> tuple[int, ...]:
        room = self.context - most
        if room < 1:
            raise UsageError(
                f"up to {most} tokens are to be written and the model reads {self.context}: give"
                f" --gen_kwargs max_gen_toks={self.context // 2}"
            )
        first = self.tokenizer.specials.get("first")
        tokens = (*(() if first is None else (first,)), *self.tokenizer.encode(context))
        self._warn(int(len(tokens) > room), 1)
        return tokens[-room:]

    def _warn(self, gone: int, of: int) -> None:
        if gone:
            logging.getLogger(__name__).warning(
                "%d of %d prompts are longer than the model's context of %d tokens: their beginnings are left out",
                *(gone, of, self.context),
            )


def sampling_of(settings: Mapping[str, Any]) -> Sampling:
    """Return how texts are written, from a task's `generation_kwargs`.

    Raises:
        UsageError: a setting is none that is known here.
    """
    known = ("until", "do_sample", "temperature", *LENGTHS, *DRAWN)
    strange = settings.keys() - set(known)
    if strange:
        raise unknown("setting of a generation:", min(strange), known)
    until = settings.get("until") or ()
    drawn = settings.get("do_sample")
    temperature = float(settings.get("temperature", 1.0 if drawn else 0.0))
    lengths = (settings[name] for name in LENGTHS if settings.get(name) is not None)
    return Sampling(
        temperature=0.0 if drawn is False else temperature,
        max_tokens=int(next(lengths, MOST)),
        stop=tuple(filter(None, [until] if isinstance(until, str) else until)),
        **{name: settings[name] for name in DRAWN if settings.get(name) is not None},
    )


@functools.cache
def register() -> type[Answers]:
    """Make `etude` a model of the harness, and return the class.

    Raises:
        UsageError: the harness is not installed.
    """
    try:
        base, registry = import_module("lm_eval.api.model").LM, import_module("lm_eval.api.registry")
        import_module("lm_eval.models")  # which registers theirs, where ours is not the first
    except ImportError as error:
        raise UsageError(f"lm-evaluation-harness is not installed ({error}): pip install 'etude[lm-eval]'") from None
    made = cast("type[Answers]", type("Etude", (Answers, base), {"__doc__": Answers.__doc__}))
    registry.register_model(NAME)(made)
    return made


def main() -> None:
    """Hand the command's words to the harness, with `etude` among its models."""
    try:
        register()
        import_module("lm_eval.__main__").cli_evaluate()
    except EtudeError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None


def _belongs_to(request: Any) -> tuple[Any, ...]:
    """Return what the requests have in common that are read side by side: those of one item, with its question or
    without."""
    context = request.args[0]
    item = getattr(request, "doc_id", None)
    return (getattr(request, "task_name", None), item, context if item is None else bool(context))


def _shortened(ask: Ask, context: int) -> Ask:
    gone = max(0, len(ask.tokens) - 1 - context)
    return Ask(ask.tokens[gone:], ask.start - gone) if gone else ask


if __name__ == "__main__":
    main()
