"""A tokenizer that somebody else made, from its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from etude.core.errors import DamagedError, UsageError
from etude.core.spec import AUTO, cosmetic
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.live import Tokenizer
from etude.text.tokenizers.live.reading import identity, read_tokenizer, tokenizer_file


@dataclass(frozen=True)
class File(TokenizerSpec):
    """Any `tokenizer.json` of the tokenizers library, BERT's `vocab.txt` (WordPiece), or llama2.c's `tok*.bin`.

    Which token separates documents, and which are special, is taken from `tokenizer_config.json` and
    `special_tokens_map.json` beside it, else from the usual names.

    Attributes:
        path: the folder (or the file in it). It does not enter the fingerprint: the content does.
        sha256: identity of the content. Left at auto, it is taken from what is there; set, what is there must have it.
    """

    path: str = cosmetic("")
    sha256: str = AUTO

    def settle(self) -> Self:
        return self if self.sha256 != AUTO else dataclasses.replace(self, sha256=identity(self._file()))

    def expected_vocabulary(self) -> int:
        return read_tokenizer(self._file()).vocabulary

    def build(self, texts: Callable[[], Iterator[str]]) -> Tokenizer:
        file = self._file()
        if self.sha256 != AUTO and self.sha256 != (found := identity(file)):
            raise DamagedError(
                f"the tokenizer at {self.path!r} has changed: its sha256 is {found[:12]} and the recipe's is"
                f" {self.sha256[:12]}; put the old files back, or leave sha256 out to use the new ones"
            )
        return read_tokenizer(file)

    def _file(self) -> Path:
        if not self.path:
            raise UsageError("tokenizer file needs the folder of its file: --tokenizer.path FOLDER")
        return tokenizer_file(self.path)
