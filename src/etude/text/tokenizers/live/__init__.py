"""Live tokenizers: text to token ids and back. What makes them is data, in the family around this folder."""

from __future__ import annotations

import json
from pathlib import Path

from etude.core.errors import DamagedError
from etude.text.tokenizers.live.byte import ByteTokenizer
from etude.text.tokenizers.live.byte_pair import BytePairTokenizer, read_tokenizer_json
from etude.text.tokenizers.live.protocol import END, KIND_FILE, TOKENIZER_FILE, Tokenizer

__all__ = ["END", "KIND_FILE", "TOKENIZER_FILE", "BytePairTokenizer", "ByteTokenizer", "Tokenizer", "load_tokenizer"]


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Return the tokenizer that was saved in a folder, or one of GPT-2's kind from a `tokenizer.json` found there.

    Raises:
        UsageError: there is none, or it is of a kind that Etude does not read.
        DamagedError: its files are not what was written.
    """
    kind = Path(folder) / KIND_FILE
    if not kind.exists():
        return BytePairTokenizer(read_tokenizer_json(Path(folder) / TOKENIZER_FILE))
    try:
        said = json.loads(kind.read_text(encoding="utf-8"))
        name, expected = said["kind"], (said["vocabulary"], said["end"])
    except (ValueError, KeyError, TypeError):
        raise DamagedError(f"{str(kind)!r} is damaged: make the run again") from None
    if name not in ("byte", "bpe"):
        raise DamagedError(f"{str(kind)!r} names the kind {name!r}, and this Etude knows byte and bpe")
    found = ByteTokenizer() if name == "byte" else BytePairTokenizer(read_tokenizer_json(kind.parent / TOKENIZER_FILE))
    if (found.vocabulary, found.end) != expected:
        raise DamagedError(
            f"{str(kind)!r} says {expected[0]} tokens, end {expected[1]}, and the tokenizer has {found.vocabulary}, end"
            f" {found.end}: make the run again"
        )
    return found
