"""A tokens run, opened: its tokenizer, its stores, and samples from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.text.batches import Examples, Openings, Windows
from etude.text.splits import check_split
from etude.text.store import TokenStore
from etude.text.tokenizers.live import KIND_FILE, TOKENIZER_FILE, Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from etude.core.recipe import Recipe
    from etude.core.run import Run


class TextData:
    """What a tokens run holds. Each file is opened when it is first asked for, and then kept open."""

    def __init__(self, folder: Path, file: Callable[[str], Path], beside: Mapping[Recipe, Run] | None = None) -> None:
        """Take the run's folder, what gives the path of a file in it (and may check it), and the runs that were made of
        it. Use `open`."""
        self.folder, self.beside = folder, beside or {}
        self._file = file
        self._stores: dict[str, TokenStore] = {}

    @classmethod
    def open(cls, source: Run | Path | str, beside: Mapping[Recipe, Run] | None = None) -> TextData:
        """Open a tokens run, whose files are then checked against its hashes, or a folder with the same files, whose
        stores' headers and lengths alone are checked.

        Args:
            source: the run or folder.
            beside: other runs that samples are made of, as neighbours in a library.

        Raises:
            UsageError: there is no such folder.
        """
        if isinstance(source, Path | str):
            folder = Path(source)
            if not folder.is_dir():
                raise UsageError(f"no folder {str(source)!r}: give the folder of a tokens run")
            return cls(folder, lambda name: folder / name, beside)
        return cls(source.path, source.file, beside)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens."""
        for name in (KIND_FILE, TOKENIZER_FILE):
            self._file(name)
        return load_tokenizer(self.folder)

    @property
    def vocabulary(self) -> int:
        """How many ids there are."""
        return self.tokenizer.vocabulary

    def store(self, split: str) -> TokenStore:
        """Return the tokens of a split."""
        if check_split(split) not in self._stores:
            self._stores[split] = TokenStore.open(self._file(f"{split}.tokens"))
        return self._stores[split]

    def examples(self, split: str, context: int) -> Examples:
        """Return the samples of a split: one a document where only openings were kept, else windows.

        Raises:
            UsageError: the split is too short for the context, or the openings too long.
        """
        store = self.store(split)
        kind = Openings if store.openings else Windows
        return kind(store, context, self.tokenizer.end)

    def tokens_per_byte(self, split: str) -> float:
        """Return tokens over bytes of UTF-8, separators among the tokens: what turns a loss a token into one a byte."""
        store = self.store(split)
        return store.count / store.bytes
