"""What a tokens run costs beside the tokenizers library alone: the library's time over the run's, on the same texts.

    python benchmarks/tokenising.py WIKITEXT_FOLDER GPT2_VOCABULARY [--rounds 9] [--by articles|lines]

The library is given all documents as one list of texts that are in memory, and asked for its encodings and no more. The
run reads the corpus, cuts it, encodes it, counts its bytes, checks and hashes its tokens, and writes them to the disk.
Both use every core. The two take turns, each with a tokenizer freshly read (reading it is not counted); printed are the
median of the rounds' ratios, the least and the most. 1.00 would be a run that costs nothing beside the encoding.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from etude.core.lab import Lab
from etude.text.corpora.base import Corpus
from etude.text.corpora.files import Files
from etude.text.corpora.wikitext import Wikitext
from etude.text.recipes import Tokens
from etude.text.splits import SPLITS
from etude.text.tokenizers.gpt2 import Gpt2
from etude.text.tokenizers.live import TOKENIZER_FILE


def library_seconds(spec: Gpt2, texts: list[str], folder: Path) -> float:
    """Return how long the library alone takes over the texts."""
    from tokenizers import Tokenizer as Library

    spec.build(lambda: iter([])).save(folder)
    bare = Library.from_file(str(folder / TOKENIZER_FILE))
    began = time.perf_counter()
    found = bare.encode_batch_fast(texts, add_special_tokens=False)
    spent = time.perf_counter() - began
    assert len(found) == len(texts)
    return spent


def run_seconds(recipe: Tokens, folder: Path) -> float:
    """Return how long a tokens run takes, without making its tokenizer."""
    return Lab(folder, quiet=True).run(recipe).result["timing"]["encode_seconds"]


def corpus_of(folder: Path, by: str, scratch: Path) -> Corpus:
    """Return the corpus by articles, or with each line that has text as a document of its own."""
    if by == "articles":
        return Wikitext(path=str(folder))
    for split in SPLITS:
        lines = (folder / f"{split}.txt").read_text(encoding="utf-8").split("\n")
        rows = (json.dumps({"text": line}) for line in lines if line.strip())
        (scratch / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return Files(path=str(scratch))


def rounds(recipe: Tokens, spec: Gpt2, texts: list[str], number: int) -> Iterator[tuple[float, float]]:
    """Yield the library's and the run's seconds, in turn first. The first round warms up and is left out."""
    for turn in range(number + 1):
        with tempfile.TemporaryDirectory() as folder:
            spent = {}
            for side in ("library", "run") if turn % 2 else ("run", "library"):
                run = side == "run"
                spent[side] = run_seconds(recipe, Path(folder)) if run else library_seconds(spec, texts, Path(folder))
        if turn:
            yield spent["library"], spent["run"]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("vocabulary")
    asked.add_argument("--rounds", type=int, default=9)
    asked.add_argument("--by", choices=("articles", "lines"), default="articles")
    given = asked.parse_args()

    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    with tempfile.TemporaryDirectory() as scratch:
        corpus, spec = corpus_of(given.folder, given.by, Path(scratch)), Gpt2(path=given.vocabulary)
        texts = [document.text() for split in SPLITS for document in corpus.documents(split)]
        times = list(rounds(Tokens(corpus, spec), spec, texts, given.rounds))
    ratios = [library / run for library, run in times]
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} documents ({given.by}), {size:.1f} MB, {os.cpu_count()} cores")
    for side, seconds in zip(("library", "run"), zip(*times, strict=True), strict=True):
        print(f"{side:8} {size / statistics.median(seconds):6.1f} MB/s")
    print(f"ratio    {statistics.median(ratios):6.2f}  ({min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)})")


if __name__ == "__main__":
    main()
