"""What was found, in words: some chunks, spread over a text, side by side with their nearest neighbours."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.errors import UsageError

if TYPE_CHECKING:
    from etude.retrieval.exact import Found
    from etude.retrieval.prepared import Split
    from etude.text.chunks import Chunks, Volumes
    from etude.text.tokenizers.live import Tokenizer

EXAMPLES = "examples.json"
"""In a run of neighbours, the chunks that are kept in words."""

KEPT = 64
"""How many they are, at most."""

NEAREST = 3
"""Neighbours of each that are kept in words."""

GAP = "  |  "


def written_out(
    splits: Sequence[Split], tables: Mapping[str, Found], volumes: Volumes, tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """Return chunks that have neighbours, spread evenly over the splits, in words.

    Args:
        splits: what was searched for.
        tables: what was found, by the split's name.
        volumes: where the neighbours' words are.
        tokenizer: of both.
    """
    having = [(split, int(n)) for split in splits for n in split.whole[tables[split.name].numbers[split.whole, 0] >= 0]]
    chosen = np.linspace(0, len(having) - 1, min(KEPT, len(having))).round().astype(int)
    each = (having[at] for at in chosen.tolist())
    return [_example(split, number, tables[split.name], volumes, tokenizer) for split, number in each]


def _example(split: Split, number: int, table: Found, volumes: Volumes, tokenizer: Tokenizer) -> dict[str, Any]:
    away, numbers = table.distances[number, :NEAREST], table.numbers[number, :NEAREST]
    return {
        "split": split.name,
        "document": int(split.chunks.document[number]),
        "chunk": number,
        "text": _words(split.chunks, number, tokenizer)["text"],
        "neighbours": [
            {
                "distance": round(float(distance), 6),
                "document": int(volumes.document[found]),
                "chunk": found,
                **_words(volumes, found, tokenizer),
            }
            for distance, found in zip(away, numbers.tolist(), strict=True)
            if found >= 0
        ],
    }


def _words(chunks: Chunks | Volumes, number: int, tokenizer: Tokenizer) -> dict[str, str]:
    """Return the words of a chunk and of its continuation; the separator stands for none."""
    tokens, present = (part[0].reshape(2, chunks.size) for part in chunks.read(np.array([number]), pieces=2))
    there = present & (tokens != tokenizer.end)
    halves = [tokenizer.decode(tokens[at][there[at]].tolist()) for at in range(2)]
    return {"text": halves[0], "continuation": halves[1]}


def lines(examples: Sequence[Mapping[str, Any]], count: int, width: int | None = None) -> Iterator[str]:
    """Yield some of the kept chunks as lines for a terminal: the chunk on the left, on the right its neighbours.

    Args:
        examples: what `written_out` returned.
        count: how many, spread evenly.
        width: of the terminal; none looks.

    Raises:
        UsageError: so many are not kept.
    """
    if count > KEPT:
        raise UsageError(f"--show {count}: a run keeps {KEPT} chunks in words, so give at most {KEPT}")
    width = min(width or shutil.get_terminal_size((100, 24)).columns, 160)
    chosen = np.linspace(0, len(examples) - 1, min(count, len(examples))).round().astype(int)
    for at in chosen.tolist():
        yield from _side_by_side(examples[at], width)
    if not examples and count:
        yield "no chunk has a neighbour to show"


def _side_by_side(example: Mapping[str, Any], width: int) -> Iterator[str]:
    left = width * 2 // 5
    right = width - left - len(GAP)
    mine = [f"{example['split']} chunk {example['chunk']}, document {example['document']}"]
    mine += textwrap.wrap(example["text"], left)
    theirs = []
    for rank, found in enumerate(example["neighbours"], 1):
        theirs.append(f"{rank}. distance {found['distance']:.3g}: chunk {found['chunk']}, document {found['document']}")
        theirs += textwrap.wrap(found["text"], right)
        theirs += textwrap.wrap(f"... {found['continuation']}", right) if found["continuation"] else []
    yield "-" * width
    yield from (f"{a:<{left}}{GAP}{b}".rstrip() for a, b in zip_longest(mine, theirs, fillvalue=""))
