"""Live tokenizers: text to token ids and back. What makes them is data, in the family around this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from etude.core.errors import DamagedError
from etude.text.tokenizers.live.byte import ByteTokenizer
from etude.text.tokenizers.live.byte_pair import BytePairTokenizer, read_tokenizer_json
from etude.text.tokenizers.live.ecosystem import EcosystemTokenizer
from etude.text.tokenizers.live.protocol import (
    END,
    KIND_FILE,
    ROLES,
    TOKENIZER_FILE,
    Tokenizer,
    check_roles,
)
from etude.text.tokenizers.live.reading import read_tokenizer, tokenizer_file

__all__ = [
    "END",
    "KIND_FILE",
    "ROLES",
    "TOKENIZER_FILE",
    "BytePairTokenizer",
    "ByteTokenizer",
    "EcosystemTokenizer",
    "Tokenizer",
    "check_roles",
    "load_tokenizer",
]


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Return the tokenizer that was saved in a folder, or the one in a folder from elsewhere: `tokenizer.json`, BERT's
    `vocab.txt`, or llama2.c's `tok*.bin`.

    Raises:
        UsageError: there is none, or it has no token that separates documents.
        DamagedError: its files are not what was written.
    """
    kind = Path(folder) / KIND_FILE
    if not kind.exists():
        return read_tokenizer(tokenizer_file(folder))
    try:
        said = json.loads(kind.read_text(encoding="utf-8"))
        name, expected, specials = said["kind"], (said["vocabulary"], said["end"]), dict(said.get("specials") or {})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedError(f"{str(kind)!r} is damaged: make the run again") from None
    if name not in _KINDS:
        known = f"{', '.join(list(_KINDS)[:-1])} and {list(_KINDS)[-1]}"
        raise DamagedError(f"{str(kind)!r} names the kind {name!r}, and this Etude knows {known}")
    found = _KINDS[name](kind.parent / TOKENIZER_FILE, expected[1], specials)
    if (found.vocabulary, found.end) != expected or not 0 <= found.end < found.vocabulary:
        raise DamagedError(
            f"{str(kind)!r} says {expected[0]} tokens, end {expected[1]}, and the tokenizer has {found.vocabulary}, end"
            f" {found.end}: make the run again"
        )
    if found.specials != specials or not all(0 <= id < found.vocabulary for id in specials.values()):
        raise DamagedError(
            f"{str(kind)!r} says special tokens {specials}, and the tokenizer has {found.specials} among"
            f" {found.vocabulary}: make the run again"
        )
    return found


def _byte(file: Path, end: int, specials: dict[str, int]) -> Tokenizer:
    return ByteTokenizer(tuple(specials))


def _byte_pair(file: Path, end: int, specials: dict[str, int]) -> Tokenizer:
    return BytePairTokenizer(read_tokenizer_json(file))


def _ecosystem(file: Path, end: int, specials: dict[str, int]) -> Tokenizer:
    return EcosystemTokenizer(read_tokenizer_json(file), end, specials)


_KINDS: dict[str, Any] = {"byte": _byte, "bpe": _byte_pair, "ecosystem": _ecosystem}
