"""The work of a tokens recipe: make the tokenizer, then stream each split into its store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.text.corpora.base import Corpus, Document
from etude.text.openings import opening
from etude.text.recipes import PARAGRAPH, Tokens
from etude.text.splits import SPLITS
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter
from etude.text.tokenizers.live import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from etude.core.run import Draft, Run

T = TypeVar("T")
U = TypeVar("U")

_BATCH = 1 << 20
"""Characters encoded at once: enough for every thread, and little to hold."""

_SAY_EVERY = 1 << 18
"""Bytes after which progress is said again."""


def tokens(recipe: Tokens, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Make the tokens of a corpus: `tokenizer.json`, and `train.tokens`, `valid.tokens` and `test.tokens`."""
    corpus = recipe.corpus
    started = time.perf_counter()
    far = _Far(run, sum(corpus.size(split) for split in SPLITS))
    if recipe.like is None:
        tokenizer = recipe.tokenizer.build(lambda: far.counted(corpus))
    else:
        tokenizer = load_tokenizer(inputs[recipe.like].path)
    tokenizer.save(run.path)
    built = time.perf_counter()
    work = _Splits(recipe, tokenizer, run, far)
    splits = {split: work.write(split) for split in SPLITS}
    replaced = sum(split["replaced"] for split in splits.values())
    if replaced:
        were = "1 invalid byte was" if replaced == 1 else f"{replaced} invalid bytes were"
        run.say(f"corpus {corpus.name}: {were} replaced by U+FFFD")
    about = corpus.about()
    return {
        "corpus": corpus.name,
        "tokenizer": recipe.tokenizer.name,
        "vocabulary": tokenizer.vocabulary,
        "end": tokenizer.end,
        "openings": recipe.openings,
        "tokens_per_byte": splits["train"]["tokens_per_byte"],
        "replaced": replaced,
        "splits": splits,
        "about": about,
        "licence": about["licence"],
        **({"classes": list(corpus.classes)} if corpus.classes else {}),
        **({"sides": list(corpus.sides)} if corpus.sides else {}),
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
        corpus, counts = self.recipe.corpus, {"replaced": 0, "left_out": 0}
        path = self.run.scratch / f"{split}.tokens"  # what a kill leaves behind there does not become the run's
        groups = _Groups(corpus, split)
        documents = groups.counted(corpus.documents(split))
        vocabulary, openings = self.tokenizer.vocabulary, self.recipe.openings
        with StoreWriter(path, vocabulary, openings, corpus.classes, corpus.sides) as writer:
            if openings:
                self._openings(documents, writer, split, counts, groups)
            else:
                self._whole(documents, writer, split, counts, groups)
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
            **({"labels": TokenStore.open(self.run.path / path.name).label_counts} if corpus.classes else {}),
            "sha256": header.sha256,
        }

    def _whole(
        self, documents: Iterator[Document], writer: StoreWriter, split: str, counts: dict[str, int], groups: _Groups
    ) -> None:
        """Write whole documents, each followed by the separator."""
        by_piece = self.tokenizer.by_piece
        batches = batched(marked(documents, counts, groups.left_out, by_piece), _BATCH)
        for batch, encoded in _beside(batches, lambda pieces: self.tokenizer.encode_batch([p for p, _ in pieces])):
            for (piece, ended), ids in zip(batch, encoded, strict=True):
                size = len(piece.encode())
                writer.add(ids, size)
                if ended:
                    writer.add([self.tokenizer.end], 0)
                    writer.end_document(groups.label(ended))
            self.far.add(sum(len(piece) for piece, _ in batch), split)

    def _openings(
        self, documents: Iterator[Document], writer: StoreWriter, split: str, counts: dict[str, int], groups: _Groups
    ) -> None:
        """Write the first tokens after the mark of each document, and no separator: there is nothing between them."""
        for document in documents:
            ids = opening(document, self.tokenizer, self.recipe.openings)
            counts["replaced"] += document.replaced
            self.far.add(document.read, split)
            if not ids:
                groups.left_out(document)
                counts["left_out"] += 1
                continue
            writer.add(ids, len(self.tokenizer.decode_bytes(ids)))
            writer.end_document(groups.label(document))

    def _nothing(self, split: str, left_out: int) -> str:
        if left_out:
            return (
                f"none of the {left_out} documents in the {split} split of {self.recipe.corpus.name} has the mark"
                f" {PARAGRAPH}: use openings 0 for text that is not in wiki40b's format"
            )
        return f"the {split} split of corpus {self.recipe.corpus.name} holds no text: give it more"


class _Groups:
    """Holds a corpus to what it says of its documents: with sides, they come in whole groups; with classes, each has a
    label that is one of them."""

    def __init__(self, corpus: Corpus, split: str) -> None:
        self._where = f"corpus {corpus.name}, {split} split"
        self._classes, self._sides = corpus.classes, corpus.sides
        self._seen = 0

    def counted(self, documents: Iterator[Document]) -> Iterator[Document]:
        """Yield the documents, and see at the end that the last group is whole."""
        for document in documents:
            self._seen += 1
            yield document
        if self._sides and (over := self._seen % len(self._sides)):
            raise UsageError(
                f"{self._where}: {self._seen} texts come in groups ({', '.join(self._sides)}), and the last lacks"
                f" {', '.join(self._sides[over:])}: complete it or take it out"
            )

    def left_out(self, document: Document) -> None:
        """Raise UsageError where a document without text would break a group. It is called before the next is read."""
        if self._sides:
            side = self._sides[(self._seen - 1) % len(self._sides)]
            raise UsageError(
                f"{self._where}: {document.name} holds no text to keep, on its side {side}; give it some, or take its"
                f" group ({', '.join(self._sides)}) out of every side"
            )

    def label(self, document: Document) -> int | None:
        """Return a document's label, checked."""
        label, classes = document.label, self._classes
        if (label is None) == (not classes) and (label is None or 0 <= label < len(classes)):
            return label
        known = f"{len(classes)} classes ({', '.join(classes)}), numbered from 0" if classes else "no classes"
        raise UsageError(f"{self._where}: {document.name} has the label {label}, and there are {known}: correct it")


def marked(
    documents: Iterable[Document],
    counts: dict[str, int],
    left_out: Callable[[Document], None] = lambda document: None,
    by_piece: bool = True,
) -> Iterator[tuple[str, Document | None]]:
    """Yield the pieces of documents, each with the document if it is its last. Documents without text are left out.

    Args:
        documents: read once, in order.
        counts: `replaced` and `left_out` grow here.
        left_out: is told of each that is left out, before the next is read.
        by_piece: False gives each document as one piece, for tokenizers whose tokens would differ at a cut.
    """
    for document in documents:
        held: str | None = None
        for piece in document.pieces if by_piece else [document.text()]:
            if held is not None:
                yield held, None
            held = piece
        counts["replaced"] += document.replaced
        if held:
            yield held, document
        else:
            left_out(document)
            counts["left_out"] += 1


def _beside(items: Iterable[T], work: Callable[[T], U]) -> Iterator[tuple[T, U]]:
    """Yield each item with what work makes of it, one behind: the next is read, and the last used, while a thread
    works. It is worth it where the work lets go of the interpreter, as encoding does."""
    with ThreadPoolExecutor(1, thread_name_prefix="encode") as pool:
        before: tuple[T, Future[U]] | None = None
        for item in items:
            now = item, pool.submit(work, item)
            if before is not None:
                yield before[0], before[1].result()
            before = now
        if before is not None:
            yield before[0], before[1].result()


def batched(pieces: Iterable[tuple[str, T]], size: int) -> Iterator[list[tuple[str, T]]]:
    """Yield pieces in lists of at least `size` characters, the last one excepted."""
    batch: list[tuple[str, T]] = []
    held = 0
    for piece, ended in pieces:
        batch.append((piece, ended))
        held += len(piece)
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
