"""Bytes as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from etude.text.tokenizers.live.byte_pair import add_specials, bytes_by_letter, gpt2_kind
from etude.text.tokenizers.live.protocol import END, TOKENIZER_FILE, check_id, letters_of, readable, write_kind


class ByteTokenizer:
    """One token a byte of UTF-8, ids 0 to 255, the separator, 256, and special tokens, from 257 on."""

    end, by_piece, lossless = 256, True, True

    def __init__(self, specials: Sequence[str] = ()) -> None:
        """Take the roles of the special tokens there are to be, in the order of their ids."""
        self.specials = {role: self.end + 1 + number for number, role in enumerate(specials)}
        self.vocabulary = self.end + 1 + len(self.specials)
        named = {self.end: END} | {id: letters_of(role) for role, id in self.specials.items()}
        self._bytes = [bytes([id]) for id in range(256)] + [named[id].encode() for id in sorted(named)]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._bytes[check_id(id, self.vocabulary)] for id in ids)

    def piece(self, id: int) -> str:
        return readable(self.decode_bytes([id]))

    def save(self, folder: Path) -> None:
        inner = add_specials(gpt2_kind({**bytes_by_letter(), END: self.end}, []), tuple(self.specials))
        inner.save(str(folder / TOKENIZER_FILE))
        write_kind(folder, "byte", self)
