"""One token a byte: nothing to train, no text that it cannot write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.live import ByteTokenizer, Tokenizer, check_roles


@dataclass(frozen=True)
class Byte(TokenizerSpec):
    """The 256 bytes of UTF-8 and a separator: 257 tokens.

    Attributes:
        specials: roles of special tokens to add after these: of `mask`, `first`, `separator`, `pad`.
    """

    specials: tuple[str, ...] = ()

    def check(self) -> None:
        check_roles(self.specials, "byte.specials")

    def build(self, texts: Callable[[], Iterator[str]]) -> Tokenizer:
        return ByteTokenizer(self.specials)

    def expected_vocabulary(self) -> int:
        return ByteTokenizer(self.specials).vocabulary
