"""GPT-2's own tokenizer (Radford et al. 2019), or another of its kind, from files that a person has."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from etude.core.errors import DamagedError, UsageError
from etude.core.spec import AUTO, cosmetic
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.live import END, BytePairTokenizer, Tokenizer
from etude.text.tokenizers.live.byte_pair import gpt2_kind, read_tokenizer_json

_LAYOUTS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"), ("tokenizer.json",))


@dataclass(frozen=True)
class Gpt2(TokenizerSpec):
    """A byte-level BPE read from a folder with `encoder.json` and `vocab.bpe`, or `vocab.json` and `merges.txt`, or
    `tokenizer.json`. GPT-2's has 50,257 tokens, the separator last.

    Attributes:
        path: the folder (or a `tokenizer.json`). It does not enter the fingerprint: the content does.
        sha256: identity of the files. Left at auto, it is taken from what is there; set, what is there must have it.
    """

    path: str = cosmetic("")
    sha256: str = AUTO

    def settle(self) -> Self:
        return self if self.sha256 != AUTO else dataclasses.replace(self, sha256=self._identity())

    def expected_vocabulary(self) -> int:
        return 50257

    def build(self, texts: Callable[[], Iterator[str]]) -> Tokenizer:
        if self.sha256 != AUTO and self.sha256 != (found := self._identity()):
            raise DamagedError(
                f"the tokenizer at {self.path!r} has changed: its sha256 is {found[:12]} and the recipe's is"
                f" {self.sha256[:12]}; put the old files back, or leave sha256 out to use the new ones"
            )
        files = self._files()
        if len(files) == 1:
            return BytePairTokenizer(read_tokenizer_json(files[0]))
        vocabulary, merges = _read_vocabulary(files[0]), _read_merges(files[1])
        vocabulary.setdefault(END, len(vocabulary))
        try:
            return BytePairTokenizer(gpt2_kind(vocabulary, merges))
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception
            raise DamagedError(f"{str(files[1])!r} does not fit {files[0].name}: {error}") from None

    def _files(self) -> list[Path]:
        if not self.path:
            raise UsageError("tokenizer gpt2 needs the folder of its files: --tokenizer.path FOLDER")
        folder = Path(self.path).expanduser()
        if folder.is_file() and folder.name == "tokenizer.json":
            return [folder]
        for names in _LAYOUTS:
            files = [folder / name for name in names]
            if all(file.is_file() for file in files):
                return files
        wanted = ", or ".join(" and ".join(names) for names in _LAYOUTS)
        raise UsageError(f"no tokenizer in {self.path!r}: it needs {wanted}")

    def _identity(self) -> str:
        try:
            parts = (hashlib.sha256(file.read_bytes()).hexdigest() for file in self._files())
            return hashlib.sha256(" ".join(parts).encode()).hexdigest()
        except OSError as error:
            raise UsageError(f"cannot read the tokenizer in {self.path!r}: {error.strerror}; check rights") from None


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{str(path)!r} is not JSON: {error}; fetch it again") from None
    if not isinstance(found, dict) or sorted(found.values(), key=str) != sorted(range(len(found)), key=str):
        raise DamagedError(f"{str(path)!r} does not give each token one id from 0 on; fetch it again")
    return found


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """Return the pairs of a merges file: one a line, the first to be joined first, below a line with its version."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except ValueError:
        raise DamagedError(f"{str(path)!r} is not UTF-8; fetch it again") from None
    pairs = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong is not None:
        raise DamagedError(f"{str(path)!r} has a line that is no pair: {' '.join(wrong)[:40]!r}; fetch it again")
    return [(left, right) for left, right in pairs]
