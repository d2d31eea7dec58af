"""Which of a tokenizer's tokens separates documents, and which are special, as the files of the ecosystem say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.core.errors import DamagedError, UsageError
from etude.text.tokenizers.live.protocol import END, letters_of

if TYPE_CHECKING:
    import tokenizers

SAYING = ("special_tokens_map.json", "tokenizer_config.json")
"""Files beside a tokenizer's that say which tokens are special; the later one counts."""

_FIELDS: dict[str, tuple[str, ...]] = {
    "end": ("eos_token", "sep_token"),
    "mask": ("mask_token",),
    "first": ("cls_token", "bos_token"),
    "separator": ("sep_token",),
    "pad": ("pad_token",),
}
_USUAL: dict[str, tuple[str, ...]] = {
    "end": (END, "<|end_of_text|>", "</s>", "<eos>", "[SEP]"),
    "mask": (letters_of("mask"), "[MASK]", "<mask>"),
    "first": (letters_of("first"), "[CLS]", "<s>", "<bos>", "<|begin_of_text|>"),
    "separator": (letters_of("separator"), "[SEP]"),
    "pad": (letters_of("pad"), "[PAD]", "<pad>", "<|padding|>"),
}


def said_beside(path: Path) -> dict[str, Any]:
    """Return what the files beside a tokenizer's file say that bears on it: `eos_token` and the like, as text, and how
    a WordPiece vocabulary reads text.

    Raises:
        DamagedError: one of them is not JSON.
    """
    said: dict[str, Any] = {}
    for file in (path.parent / name for name in SAYING):
        if file.is_file():
            said |= _read(file)
    return said


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{str(file)!r} is not JSON: {error}; fetch it again") from None
    if not isinstance(found, dict):
        raise DamagedError(f"{str(file)!r} holds no settings: expected an object; fetch it again")
    kept: dict[str, Any] = {}
    for name in {field for fields in _FIELDS.values() for field in fields}:
        token = found.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            kept[name] = token
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if isinstance(found.get(name), bool):
            kept[name] = found[name]
    return kept


def marks(inner: tokenizers.Tokenizer, said: Mapping[str, Any]) -> tuple[int, dict[str, int]]:
    """Return the id that separates documents, and the special tokens by role.

    For each, what the files say goes first, then the usual names among the special tokens. The separator is the token
    that ends a text (`eos_token`), or, where there is none, the one that parts two (`sep_token`).

    Args:
        inner: the tokenizer.
        said: what `said_beside` returned.

    Raises:
        UsageError: there is no separator, or the one that is named is not a token.
    """
    added = {token.content: id for id, token in inner.get_added_tokens_decoder().items() if token.special}
    end = _said(inner, said, "end") or _usual(added, "end") or _usual(inner.get_vocab(), "end")
    if end is None:
        named = said.get("eos_token") or said.get("sep_token")
        why = f"its settings name {named!r}, which is no token of it" if named else "its settings name none"
        raise UsageError(
            f"the tokenizer has no token that separates documents: {why}, and it has none of"
            f" {', '.join(_USUAL['end'])}; name its eos_token in a {SAYING[-1]} beside it"
        )
    found = {role: _said(inner, said, role) or _usual(added, role) for role in _FIELDS if role != "end"}
    put_first = _put_first(inner)
    if found["first"] is None or (found["first"] == end and put_first is None):
        found["first"] = put_first  # GPT-NeoX names its separator as bos_token too, and puts it nowhere
    return end[0], {role: id[0] for role, id in found.items() if id is not None}


Found = tuple[int]
"""An id that was found: in a tuple, so that 0 counts as found."""


def _said(inner: tokenizers.Tokenizer, said: Mapping[str, Any], role: str) -> Found | None:
    ids = (inner.token_to_id(said[field]) for field in _FIELDS[role] if field in said)
    return next(((id,) for id in ids if id is not None), None)


def _usual(tokens: Mapping[str, int], role: str) -> Found | None:
    return next(((tokens[name],) for name in _USUAL[role] if name in tokens), None)


def _put_first(inner: tokenizers.Tokenizer) -> Found | None:
    """Return the id that the tokenizer itself puts before a text."""
    plain, marked = (inner.encode("a", add_special_tokens=also).ids for also in (False, True))
    return (marked[0],) if len(marked) > len(plain) and marked[: len(plain)] != plain else None
