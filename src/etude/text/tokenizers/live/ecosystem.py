"""Any tokenizer of the tokenizers library: WordPiece, SentencePiece's kind of byte pairs, byte-level BPE with its own
pattern, and others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.core.errors import UsageError
from etude.text.tokenizers.live.protocol import TOKENIZER_FILE, check_id, readable, write_kind
from etude.text.tokenizers.live.structure import structure

if TYPE_CHECKING:
    import tokenizers


class EcosystemTokenizer:
    """A tokenizer as its file has it. Text is encoded without the tokens that the file would put around it, and letters
    such as `[SEP]` or `</s>` in a text are letters: where the file's model would take them for the special token, they
    become its unknown token (are left out, where it has none).

    `lossless` says whether texts come back exactly, apart from one character: where a vocabulary has a sign for the
    space (SentencePiece's U+2581), that sign comes back as a space. WordPiece is not lossless: it drops white space,
    and mostly case and accents. Where tokens stand for no bytes, as there, `decode_bytes` gives the bytes of the text.
    """

    def __init__(self, inner: tokenizers.Tokenizer, end: int, specials: Mapping[str, int]) -> None:
        """Take a tokenizer, its separator, and its special tokens by role. `etude.text.tokenizers.live.marks` finds
        them.

        Raises:
            UsageError: what it does not know, it writes as its separator.
        """
        settings = json.loads(inner.to_str())
        _settle(inner)
        self._inner, self.end, self.specials = inner, end, dict(specials)
        known = inner.get_vocab()
        self.vocabulary = max(known.values(), default=-1) + 1
        added = inner.get_added_tokens_decoder()
        contents = {id: token.content for id, token in added.items()}
        found = structure(settings, inner.get_vocab(with_added_tokens=False), contents)
        self.by_piece, self.lossless = found.by_piece, found.lossless
        self._bytes, self._strips = found.token_bytes, found.strips
        self._unknown = _unknown(inner, settings["model"])
        if self._unknown == end and not found.complete:
            raise UsageError(
                f"the tokenizer writes what it does not know as {inner.id_to_token(end)!r}, its separator: documents"
                " would be cut in two; name another eos_token in tokenizer_config.json"
            )
        marked = {id for id, token in added.items() if token.special} | {end, *specials.values()}
        self._marks = frozenset(marked - ({self._unknown} - {end}))

    def encode(self, text: str) -> list[int]:
        return self._letters_alone(self._inner.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        found = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._letters_alone(encoded.ids) for encoded in found]

    def decode(self, ids: Iterable[int]) -> str:
        if self._bytes is not None:
            return self.decode_bytes(ids).decode("utf-8", "replace")
        return self._inner.decode([self._check(id) for id in ids], skip_special_tokens=False)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        if self._bytes is None:
            return self.decode(ids).encode()
        written = b"".join(self._bytes[self._check(id)] for id in ids)
        spaces = len(written) - len(written.lstrip(b" "))
        return written[min(spaces, self._strips) :]

    def piece(self, id: int) -> str:
        self._check(id)
        return readable(self._bytes[id] if self._bytes is not None else self._token(id).encode())

    def save(self, folder: Path) -> None:
        self._inner.save(str(folder / TOKENIZER_FILE))
        write_kind(folder, "ecosystem", self)

    def _letters_alone(self, ids: list[int]) -> list[int]:
        """Return the tokens of a text without special ones."""
        if self._marks.isdisjoint(ids):
            return ids
        instead = [] if self._unknown is None or self._unknown in self._marks else [self._unknown]
        return [kept for id in ids for kept in (instead if id in self._marks else [id])]

    def _token(self, id: int) -> str:
        return self._inner.id_to_token(id) or ""

    def _check(self, id: int) -> int:
        if self._inner.id_to_token(check_id(id, self.vocabulary)) is None:
            raise UsageError(f"no token has the id {id}: the tokenizer leaves it out")
        return id


def _settle(inner: tokenizers.Tokenizer) -> None:
    """Switch off what is for training and for batches of equal length, and let special tokens' letters be letters."""
    inner.encode_special_tokens = True
    inner.no_padding()
    inner.no_truncation()
    if getattr(inner.model, "dropout", None):
        inner.model.dropout = None


def _unknown(inner: tokenizers.Tokenizer, model: Mapping[str, Any]) -> int | None:
    """Return the id of what a model writes for what it does not know."""
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    return inner.token_to_id(model["unk_token"]) if model.get("unk_token") else None
