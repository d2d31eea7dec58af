"""The work of looking for leakage: runs in common found and told, and a model's loss on each chunk."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from etude.core.files import replacing, write_json
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.retrieval.leakage import LongestRuns, Runs
from etude.retrieval.recipes import FileLosses, Overlap
from etude.text.chunks import Chunks
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter
from etude.text.tokenizers.live import Tokenizer
from etude.text.work import batched, marked

TESTED = "tested.tokens"
"""The evaluation text in a run that was given one of its own."""

RUNS = "runs.safetensors"

MASK = "mask.json"
"""Of an evaluation file of many texts, the rows that leaked: what `etude.evals.item_masks` reads."""

MARK_EVERY = 2.0
"""Seconds between marks of how far the search is."""

OPENING = 8
"""Tokens of a training document that name it on the page."""

EIGHTHS = np.arange(9) / 8


def overlap(recipe: Overlap, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Find the runs, which are kept for every chunk in `runs.safetensors`, and tell the chunks that leaked. Of a file
    of many texts `mask.json` says which rows have such a chunk.

    A search that was killed goes on from the block where it was.
    """
    data = TextData.open(inputs[recipe.against])
    tokenizer = data.tokenizer
    names = _encode(recipe.file, tokenizer, run.path / TESTED) if recipe.file is not None else []
    chunks = Chunks(_store(recipe, inputs, run.path), recipe.chunk, tokenizer.end)
    training = Chunks(data.store("train"), recipe.chunk, tokenizer.end)
    runs = _searched(LongestRuns(chunks, training, recipe.least), run)
    sizes = np.minimum(chunks.size, chunks.stops - chunks.starts)
    r = runs.length / sizes
    spans = predicted(chunks)
    kept = {"tokens": sizes, "of": chunks.document, "first": spans[0], "stop": spans[1]}
    run.save(RUNS, {**runs._asdict(), **kept, "bytes": _bytes(chunks.store, spans, tokenizer)})
    leaked = np.flatnonzero(r >= recipe.threshold)
    worst = leaked[np.lexsort((leaked, -runs.length[leaked], -r[leaked]))]
    if names:
        write_json(
            run.path / MASK,
            {"masked": masked({names[n] for n in chunks.document[leaked].tolist()}), "r": recipe.threshold},
        )
    return {
        "chunks": len(chunks),
        "documents": len(chunks.first) - 1,
        "tokens": chunks.store.count,
        "end": tokenizer.end,
        "searched": {"documents": len(training.first) - 1, "tokens": training.store.count},
        "histogram": histogram(r),
        "leaked": [_told(number, chunks, runs, r) for number in worst.tolist()],
        "shown": [_in_words(n, chunks, training, runs, tokenizer) for n in worst[: recipe.shown].tolist()],
    }


def masked(names: Iterable[str]) -> dict[str, list[int]]:
    """Return the numbers of the rows that leaked, by the name of their file, from the names of documents."""
    rows: dict[str, list[int]] = {}
    for file, row in (name.rpartition(":")[::2] for name in names):
        if file and row.isdecimal():  # else the document is a whole file
            rows.setdefault(Path(file).name, []).append(int(row))
    return {file: sorted(numbers) for file, numbers in sorted(rows.items())}


def _encode(file: Files, tokenizer: Tokenizer, path: Path) -> list[str]:
    """Write a person's own text as a token store, and return the names of its documents."""
    names = list[str]()
    counts = {"replaced": 0, "left_out": 0}
    pieces = marked(file.whole(), counts, by_piece=tokenizer.by_piece)
    with StoreWriter(path, tokenizer.vocabulary) as writer:
        for batch in batched(pieces, 1 << 20):
            for (piece, ended), ids in zip(batch, tokenizer.encode_batch([p for p, _ in batch]), strict=True):
                writer.add(ids, len(piece.encode()))
                if ended:
                    writer.add([tokenizer.end], 0)
                    writer.end_document()
                    names.append(ended.name)
    return names


def _store(recipe: Overlap, inputs: Mapping[Recipe, Run], folder: Path) -> TokenStore:
    """Return the evaluation text; `folder` is that of the overlap's run."""
    if recipe.file is not None:
        return TokenStore.open(folder / TESTED)
    return TextData.open(inputs[recipe.tested or recipe.against]).store(recipe.split)


def _searched(search: LongestRuns, run: Draft) -> Runs:
    """Search from the last mark on, and mark how far the search is now and then."""
    from safetensors.numpy import load_file, save_file

    mark = run.scratch / "searched.safetensors"
    if mark.exists():
        search.load(load_file(mark))
    marked_at = time.monotonic()

    def say() -> None:
        nonlocal marked_at
        run.progress(search.done, search.total, unit="tokens", note="searched")
        if time.monotonic() - marked_at >= MARK_EVERY:
            with replacing(mark) as temporary:
                save_file(search.state(), temporary)
            marked_at = time.monotonic()

    return search.run(say)


def histogram(r: Float[np.ndarray, " C"]) -> list[dict[str, Any]]:
    """Return how many chunks share nothing, up to one eighth of their tokens, two eighths, and so on; those that share
    all of them stand by themselves."""
    bounds = [*EIGHTHS[:-1].tolist(), math.nextafter(1.0, 0.0), 1.0]
    counts = np.bincount(np.searchsorted(bounds, r), minlength=len(bounds))
    lower = [None, *bounds[:-1]]
    return [
        {"above": None if low is None else round(low, 3), "to": round(high, 3), "chunks": int(count)}
        for low, high, count in zip(lower, bounds, counts, strict=True)
    ]


def _told(number: int, chunks: Chunks, runs: Runs, r: Float[np.ndarray, " C"]) -> dict[str, Any]:
    return {
        "chunk": number,
        "document": int(runs.document[number]),
        "offset": int(runs.offset[number]),
        "r": round(float(r[number]), 6),
        "tokens": int(runs.length[number]),
        "start": int(runs.start[number]),
        "of": int(chunks.document[number]),
    }


def _in_words(number: int, chunks: Chunks, training: Chunks, runs: Runs, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return a chunk and the place in the training text that it shares most with, each cut into what stands before the
    run, the run, and what stands after it, as far as the chunk reaches."""
    start, length = int(runs.start[number]), int(runs.length[number])
    first = int(chunks.starts[number])
    stop = min(first + chunks.size, int(chunks.stops[number]))
    opens = int(training.store.documents[runs.document[number]])
    ends = int(training.store.documents[runs.document[number] + 1])
    there = opens + int(runs.offset[number])
    before, after = start, stop - first - start - length
    around = (max(opens, there - before), there, there + length, min(ends, there + length + after))
    return {
        "chunk": number,
        "evaluation": _words(chunks, (first, first + start, first + start + length, stop), tokenizer),
        "training": _words(training, around, tokenizer),
        "opening": _text(training, opens, min(ends, opens + 1 + OPENING), tokenizer),
    }


def _words(text: Chunks, at: tuple[int, int, int, int], tokenizer: Tokenizer) -> list[str]:
    return [_text(text, low, high, tokenizer) for low, high in pairwise(at)]


def _text(text: Chunks, low: int, high: int, tokenizer: Tokenizer) -> str:
    """Return the words of some positions, counted as `Chunks.starts` are; the separator stands for none."""
    tokens = text.store.tokens[max(low - 1, 0) : max(high - 1, 0)].tolist()
    return tokenizer.decode(token for token in tokens if token != tokenizer.end)


def file_losses(recipe: FileLosses, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Measure the loss on every token of a text of one's own, and keep it as `bits-per-byte` does.

    Raises:
        UsageError: the model predicts no next token, or the stride does not fit.
        DivergedError: a loss is not finite.
    """
    from etude.evals.sliding import Sliding, stride_for
    from etude.evals.sliding_work import causal, keep_losses, losses_in

    model, tokens = causal(inputs[recipe.of]), inputs[recipe.overlap]
    store, context = TokenStore.open(tokens.file(TESTED)), recipe.of.context
    end = tokens.result["end"]
    windows = Sliding(store, context, end, recipe.stride or stride_for(context))
    keep_losses(windows, model, recipe.of, run)
    return {"loss": float(losses_in(run).mean(dtype=np.float64)), "tokens": store.count, "windows": len(windows)}


def predicted(chunks: Chunks) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"]]:
    """Return the first token of the store that each chunk predicts, and the one behind its last. The separator before
    a document is predicted by the one before it, and counts for no chunk."""
    opens = chunks.starts == chunks.starts[chunks.first[chunks.document]]
    return chunks.starts - ~opens, np.minimum(chunks.starts + chunks.size, chunks.stops) - 1


def _bytes(store: TokenStore, spans: tuple[np.ndarray, np.ndarray], tokenizer: Tokenizer) -> Int[np.ndarray, " C"]:
    pairs = zip(*(each.tolist() for each in spans), strict=True)
    return np.array([len(tokenizer.decode_bytes(store.tokens[a:b].tolist())) for a, b in pairs], np.int64)
