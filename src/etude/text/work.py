"""The work of a tokens recipe: make the tokenizer, then stream each split into its store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.text.corpora.base import Corpus, Document
from etude.text.openings import opening
from etude.text.recipes import PARAGRAPH, Tokens
from etude.text.splits import SPLITS
from etude.text.store import StoreWriter
from etude.text.tokenizers.live import Tokenizer

if TYPE_CHECKING:
    from etude.core.run import Draft, Run

_BATCH = 1 << 20
"""Characters encoded at once: enough for every thread, and little to hold."""

_SAY_EVERY = 1 << 18
"""Bytes after which progress is said again."""


def tokens(recipe: Tokens, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Make the tokens of a corpus: `tokenizer.json`, and `train.tokens`, `valid.tokens` and `test.tokens`."""
    corpus = recipe.corpus
    started = time.perf_counter()
    far = _Far(run, sum(corpus.size(split) for split in SPLITS))
    tokenizer = recipe.tokenizer.build(lambda: far.counted(corpus))
    tokenizer.save(run.path)
    built = time.perf_counter()
    work = _Splits(recipe, tokenizer, run, far)
    splits = {split: work.write(split) for split in SPLITS}
    replaced = sum(split["replaced"] for split in splits.values())
    if replaced:
        were = "1 invalid byte was" if replaced == 1 else f"{replaced} invalid bytes were"
        run.say(f"corpus {corpus.name}: {were} replaced by U+FFFD")
    return {
        "corpus": corpus.name,
        "tokenizer": recipe.tokenizer.name,
        "vocabulary": tokenizer.vocabulary,
        "end": tokenizer.end,
        "openings": recipe.openings,
        "tokens_per_byte": splits["train"]["tokens_per_byte"],
        "replaced": replaced,
        "splits": splits,
        "about": corpus.about(),
        "licence": corpus.about()["licence"],
        "timing": {"tokenizer_seconds": built - started, "encode_seconds": time.perf_counter() - built},
    }


@dataclass
class _Far:
    """How far the work is, in bytes of text read (characters, which is near enough); `total` is 0 where the corpus
    cannot say."""

    run: Draft
    total: int
    done: int = 0
    said: int = 0

    def counted(self, corpus: Corpus) -> Iterator[str]:
        """Yield the pieces of the training split, for a tokenizer that learns from them."""
        self.total += corpus.size("train")
        for document in corpus.documents("train"):
            for piece in document.pieces:
                yield piece
                self.add(len(piece), "tokenizer")

    def add(self, size: int, note: str) -> None:
        """Say that so many bytes more are done."""
        self.done += size
        if self.done - self.said < _SAY_EVERY:
            return
        self.said = self.done
        self.run.progress(self.done, max(self.total, self.done), unit="bytes", note=note)


@dataclass(frozen=True)
class _Splits:
    """Writes the stores of one recipe."""

    recipe: Tokens
    tokenizer: Tokenizer
    run: Draft
    far: _Far

    def write(self, split: str) -> dict[str, Any]:
        """Write one split's store and return what is in it."""
        counts = {"replaced": 0, "left_out": 0}
        documents = self.recipe.corpus.documents(split)
        path = self.run.scratch / f"{split}.tokens"  # what a kill leaves behind there does not become the run's
        with StoreWriter(path, self.tokenizer.vocabulary, self.recipe.openings) as writer:
            if self.recipe.openings:
                self._openings(documents, writer, split, counts)
            else:
                self._whole(documents, writer, split, counts)
        header = writer.header
        if header is None or not header.bytes:
            raise UsageError(self._nothing(split, counts["left_out"]))
        os.replace(path, self.run.path / path.name)
        return {
            "tokens": header.count,
            "bytes": header.bytes,
            "documents": header.documents,
            "tokens_per_byte": header.count / header.bytes,
            **counts,
            "sha256": header.sha256,
        }

    def _whole(self, documents: Iterator[Document], writer: StoreWriter, split: str, counts: dict[str, int]) -> None:
        """Write whole documents, each followed by the separator."""
        for batch in batched(marked(documents, counts), _BATCH):
            encoded = self.tokenizer.encode_batch([piece for piece, _ in batch])
            for (piece, last), ids in zip(batch, encoded, strict=True):
                size = len(piece.encode())
                writer.add(ids, size)
                if last:
                    writer.add([self.tokenizer.end], 0)
                    writer.end_document()
            self.far.add(sum(len(piece) for piece, _ in batch), split)

    def _openings(self, documents: Iterator[Document], writer: StoreWriter, split: str, counts: dict[str, int]) -> None:
        """Write the first tokens after the mark of each document, and no separator: there is nothing between them."""
        for document in documents:
            ids = opening(document, self.tokenizer, self.recipe.openings)
            counts["replaced"] += document.replaced
            self.far.add(document.read, split)
            if not ids:
                counts["left_out"] += 1
                continue
            writer.add(ids, len(self.tokenizer.decode_bytes(ids)))
            writer.end_document()

    def _nothing(self, split: str, left_out: int) -> str:
        if left_out:
            return (
                f"none of the {left_out} documents in the {split} split of {self.recipe.corpus.name} has the mark"
                f" {PARAGRAPH}: use openings 0 for text that is not in wiki40b's format"
            )
        return f"the {split} split of corpus {self.recipe.corpus.name} holds no text: give it more"


def marked(documents: Iterable[Document], counts: dict[str, int]) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of documents, each with whether it is its document's last. Documents without text are left
    out."""
    for document in documents:
        held: str | None = None
        for piece in document.pieces:
            if held is not None:
                yield held, False
            held = piece
        counts["replaced"] += document.replaced
        if held:
            yield held, True
        else:
            counts["left_out"] += 1


def batched(pieces: Iterable[tuple[str, bool]], size: int) -> Iterator[list[tuple[str, bool]]]:
    """Yield pieces in lists of at least `size` characters, the last one excepted."""
    batch: list[tuple[str, bool]] = []
    held = 0
    for piece, last in pieces:
        batch.append((piece, last))
        held += len(piece)
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
