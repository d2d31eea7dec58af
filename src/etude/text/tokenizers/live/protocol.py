"""What every live tokenizer can do, and what they share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from etude.core.errors import UsageError, unknown

END = "<|endoftext|>"
"""Separates documents. Text that contains these letters is never encoded as the separator."""

ROLES = ("mask", "first", "separator", "pad")
"""What a special token can be for: to stand for a hidden token, to open a text (`[CLS]`, `<s>`), to part two texts
(`[SEP]`), and to fill up a batch."""

KIND_FILE, TOKENIZER_FILE = "tokenizer-kind.json", "tokenizer.json"


@runtime_checkable  # so that checkers of types at run time can ask
class Tokenizer(Protocol):
    """What every live tokenizer can do. Any text without lone surrogates survives `decode(encode(text))`, where it is
    `lossless`."""

    @property
    def vocabulary(self) -> int:
        """How many ids there are; they run from 0."""
        ...

    @property
    def end(self) -> int:
        """The id that separates documents. No text is encoded as it."""
        ...

    @property
    def specials(self) -> dict[str, int]:
        """The ids of special tokens by role (see `ROLES`), empty where there are none. No text is encoded as one."""
        ...

    @property
    def by_piece(self) -> bool:
        """Whether a text's pieces (`etude.text.pieces`), encoded one by one, have the tokens of the whole. Where not,
        a document is encoded whole."""
        ...

    @property
    def lossless(self) -> bool:
        """Whether every text comes back exactly. One that lower-cases, for instance, cannot give back what it read."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode several texts, on several threads where the tokenizer can."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; bytes that are not UTF-8 (a character cut in two) become U+FFFD."""
        ...

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the exact bytes of ids, where tokens stand for bytes: else those of `decode`.

        Raises:
            UsageError: an id is not in the vocabulary.
        """
        ...

    def piece(self, id: int) -> str:
        r"""Return one token as a person can read it: control characters and broken UTF-8 written as in `\n`, `\xe2`,
        spaces left as they are."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `load_tokenizer` reads, `tokenizer.json` of the ecosystem among it."""
        ...


def letters_of(role: str) -> str:
    """Return the letters of a special token that Etude adds, as in `<|mask|>`."""
    return f"<|{role}|>"


def check_roles(roles: Sequence[str], where: str) -> None:
    """Raise UsageError for a role that does not exist, or comes twice.

    Args:
        roles: what was asked for.
        where: what messages call it.
    """
    for number, role in enumerate(roles):
        if role not in ROLES:
            raise unknown(f"role in {where}", role, ROLES)
        if role in roles[:number]:
            raise UsageError(f"{where} names {role} twice: give each role once")


def check_id(id: int, vocabulary: int) -> int:
    """Return an id.

    Raises:
        UsageError: it is not in the vocabulary.
    """
    if not 0 <= id < vocabulary:
        raise UsageError(f"no token has the id {id}: they run from 0 to {vocabulary - 1}")
    return id


def readable(token: bytes) -> str:
    """Return bytes as text in which everything that cannot be printed is escaped."""
    text = token.decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def write_kind(folder: Path, kind: str, tokenizer: Tokenizer) -> None:
    """Write beside a tokenizer's files what it is, for `load_tokenizer` to read and to check."""
    said: dict[str, object] = {"kind": kind, "vocabulary": tokenizer.vocabulary, "end": tokenizer.end}
    if tokenizer.specials:
        said["specials"] = tokenizer.specials
    (folder / KIND_FILE).write_text(json.dumps(said) + "\n", encoding="utf-8")
