"""The work of translating a split and counting BLEU."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.bleu import Counts, counted, estimate
from etude.evals.recipes import Translations
from etude.evals.splits import asked_of
from etude.models.generation import generate
from etude.models.load import load
from etude.text.data import TextData
from etude.text.pairs import chosen_sides
from etude.text.tokenizers.live import Tokenizer

COUNTS = "counts.safetensors"
TEXTS = "texts.jsonl"


def translations(recipe: Translations, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Translate sentences of a split and score them beside their references: `texts.jsonl` has all of them.

    As a baseline the sources themselves are scored as if they were translations: what names, numbers and punctuation
    come to.
    """
    counted(["a"], ["a"])  # what is missing is said before any work
    data = TextData.open(inputs[recipe.of.text])
    model, tokenizer = load(inputs[recipe.of])
    sources, references = _pairs(recipe, data, tokenizer)
    shown = [tokenizer.decode(ids) for ids in sources]
    fits = [ids if len(ids) < model.spec.context else ids[: model.spec.context - 1] for ids in sources]
    started = time.perf_counter()
    written = generate(
        model,
        tokenizer,
        [[*ids, tokenizer.end] for ids in fits],
        recipe.sampling,
        batch=recipe.batch,
        progress=run.progress,
    )
    seconds = time.perf_counter() - started
    texts = [text.text for text in written]
    with (run.path / TEXTS).open("w", encoding="utf-8") as file:
        for source, reference, text in zip(shown, references, texts, strict=True):
            row = {"source": source, "reference": reference, "written": text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    counts, signature = counted(texts, references)
    copied, _ = counted(shown, references)
    run.save(COUNTS, _arrays(counts))
    run.save(f"copied-{COUNTS}", _arrays(copied))
    return {
        "bleu": estimate(counts).to_json(),
        "copied": estimate(copied).to_json(),
        "signature": signature,
        "sentences": len(texts),
        "cut": sum(len(a) != len(b) for a, b in zip(fits, sources, strict=True)),
        "unended": sum(text.stopped != "end" for text in written),
        "tokens": sum(len(text.ids) for text in written),
        "timing": {"seconds_writing": round(seconds, 2)},
    }


def counts_of(run: Run, copied: bool = False) -> Counts:
    """Return the counts that a run of translations kept, its own or those of its sources as they are."""
    held = run.tensors(f"copied-{COUNTS}" if copied else COUNTS)
    return Counts(*(held[name] for name in Counts._fields))


def _arrays(counts: Counts) -> dict[str, np.ndarray]:
    return counts._asdict()


def _pairs(recipe: Translations, data: TextData, tokenizer: Tokenizer) -> tuple[list[list[int]], list[str]]:
    """Return the sources' tokens and the references: all of the split, or evenly spread ones."""
    store = data.store(recipe.split)
    if len(store.sides) < 2:
        raise UsageError("translations need a corpus of pairs of texts, such as multi30k: name a model trained on one")
    asked = asked_of(recipe.of)
    read, written = chosen_sides(store.sides, getattr(asked, "source", ""), getattr(asked, "target", ""))
    group, n = len(store.sides), store.header.documents // len(store.sides)
    wanted = min(n, recipe.sentences) if recipe.sentences else n
    chosen = np.linspace(0, n - 1, wanted).round().astype(np.int64) * group
    starts = np.asarray(store.documents)

    def document(number: int) -> list[int]:
        ids: Sequence[int] = store.tokens[int(starts[number]) : int(starts[number + 1]) - 1].tolist()
        return list(ids)

    sources = [document(int(first) + store.sides.index(read)) for first in chosen]
    references = [tokenizer.decode(document(int(first) + store.sides.index(written))) for first in chosen]
    return sources, references
