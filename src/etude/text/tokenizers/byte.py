"""One token a byte: nothing to train, no text that it cannot write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.live import ByteTokenizer, Tokenizer


@dataclass(frozen=True)
class Byte(TokenizerSpec):
    """The 256 bytes of UTF-8 and a separator: 257 tokens."""

    def build(self, texts: Callable[[], Iterator[str]]) -> Tokenizer:
        return ByteTokenizer()

    def expected_vocabulary(self) -> int:
        return ByteTokenizer.vocabulary
