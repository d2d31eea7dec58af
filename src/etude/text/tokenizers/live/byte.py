"""Bytes as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from etude.core.errors import UsageError
from etude.text.tokenizers.live.byte_pair import bytes_by_letter, gpt2_kind
from etude.text.tokenizers.live.protocol import END, TOKENIZER_FILE, readable, write_kind


class ByteTokenizer:
    """One token a byte of UTF-8, ids 0 to 255, and the separator, 256."""

    vocabulary, end = 257, 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return b"".join(END.encode() if id == self.end else _one_byte(id) for id in ids)

    def piece(self, id: int) -> str:
        return readable(self.decode_bytes([id]))

    def save(self, folder: Path) -> None:
        gpt2_kind({**bytes_by_letter(), END: self.end}, []).save(str(folder / TOKENIZER_FILE))
        write_kind(folder, "byte", self)


def _one_byte(id: int) -> bytes:
    if not 0 <= id < 256:
        raise UsageError(f"no token has the id {id}: they run from 0 to 256")
    return bytes([id])
