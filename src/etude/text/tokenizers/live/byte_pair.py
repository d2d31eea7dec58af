"""Byte-level byte-pair encoding, by the tokenizers library."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.core.errors import DamagedError, UsageError
from etude.text.tokenizers.live.protocol import (
    END,
    ROLES,
    TOKENIZER_FILE,
    check_id,
    letters_of,
    readable,
    write_kind,
)

if TYPE_CHECKING:
    import tokenizers

_MOST_IDS = 1 << 24


class BytePairTokenizer:
    """Byte-level byte-pair encoding as GPT-2 does it, by the tokenizers library."""

    by_piece = True

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        """Take a tokenizer of GPT-2's kind that has the separator.

        Raises:
            UsageError: it is of another kind, or has no separator.
        """
        settings = json.loads(inner.to_str())
        check_gpt2_kind(settings)
        self.lossless = not settings.get("normalizer")
        end = inner.token_to_id(END)
        if end is None:
            raise UsageError(f"the tokenizer has no token {END}, which separates documents")
        inner.encode_special_tokens = True  # the letters <|endoftext|> in a text are letters
        inner.no_padding()
        inner.no_truncation()
        self._inner, self.end = inner, end
        self.vocabulary = inner.get_vocab_size()
        added = {end: END.encode()}
        added |= {id: token.content.encode() for id, token in inner.get_added_tokens_decoder().items()}
        ids = {role: inner.token_to_id(letters_of(role)) for role in ROLES}
        self.specials = {role: id for role, id in sorted(ids.items(), key=lambda found: found[1] or 0) if id in added}
        letters = bytes_by_letter()
        self._bytes = [
            added[id] if id in added else bytes(letters[letter] for letter in inner.id_to_token(id) or "")
            for id in range(self.vocabulary)
        ]

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        return [found.ids for found in self._inner.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._bytes[check_id(id, self.vocabulary)] for id in ids)

    def piece(self, id: int) -> str:
        return readable(self._bytes[check_id(id, self.vocabulary)])

    def save(self, folder: Path) -> None:
        self._inner.save(str(folder / TOKENIZER_FILE))
        write_kind(folder, "bpe", self)


def read_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    """Return the library's tokenizer from its file.

    Raises:
        UsageError: there is no such file.
        DamagedError: it cannot be read.
    """
    from tokenizers import Tokenizer as Library

    if not path.is_file():
        raise UsageError(f"no tokenizer at {str(path)!r}")
    try:
        found = Library.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception
        reason = str(error).splitlines()[0]
        raise DamagedError(f"{str(path)!r} is not a tokenizer of the tokenizers library: {reason}") from None
    greatest = max(found.get_vocab().values(), default=0)
    if greatest >= _MOST_IDS:  # the library would go through every id below it
        raise DamagedError(f"{str(path)!r} gives a token the id {greatest}, which no vocabulary needs; fetch it again")
    return found


def check_gpt2_kind(settings: dict[str, Any]) -> None:
    """Raise UsageError unless a `tokenizer.json` splits and encodes text as GPT-2 does, perhaps in lower case. Others
    (with another normaliser, a prefix, another pattern) would change texts, or could not be fed piece by piece."""
    split, model = settings.get("pre_tokenizer") or {}, settings.get("model") or {}
    plain = split.get("type") == "ByteLevel" and not split.get("add_prefix_space") and split.get("use_regex", True)
    normaliser = settings.get("normalizer") or {"type": "Lowercase"}
    if not plain or normaliser.get("type") != "Lowercase" or model.get("type") != "BPE":
        raise UsageError(
            f"the tokenizer is of another kind than GPT-2's (model {model.get('type')}, pre-tokenizer"
            f" {split.get('type')}): only byte-level BPE with GPT-2's pattern, no normaliser but lower case, no prefix"
            " is read"
        )


def gpt2_kind(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """Return the library's tokenizer of GPT-2's kind with these tokens, in letters as `bytes_by_letter` has them."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models

    return add_gpt2_parts(Library(models.BPE(vocab=vocabulary, merges=merges)))


def add_gpt2_parts(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Give a byte-pair model GPT-2's way of splitting text, and the separator."""
    from tokenizers import decoders, pre_tokenizers, processors

    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    inner.add_special_tokens([END])
    return inner


def add_specials(inner: tokenizers.Tokenizer, roles: Sequence[str]) -> tokenizers.Tokenizer:
    """Give a tokenizer a special token for each role, last in its vocabulary."""
    if roles:
        inner.add_special_tokens([letters_of(role) for role in roles])
    return inner


def bytes_by_letter() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for: printable Latin-1 for itself, the other
    68 bytes, in order, for the code points from 256 on (GPT-2, `bytes_to_unicode`)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
