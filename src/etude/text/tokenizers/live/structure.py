"""What the settings of a `tokenizer.json` say: the bytes of its tokens, whether texts may be cut, and come back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etude.text.tokenizers.live.byte_pair import bytes_by_letter

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

_LOCAL = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer"}
"""Normalisers that never look across a space which follows a letter."""

_AT_SPACES = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_FINER = {"Digits", "Punctuation"}

_PARTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}


@dataclass(frozen=True)
class Structure:
    """What was found.

    Attributes:
        token_bytes: the bytes of each id, where tokens stand for bytes; else None.
        strips: how many spaces at the start of the bytes are no part of the text: it was given them to be encoded.
        complete: whether there is a token for every byte, so that no text is unknown.
        by_piece: whether a text's pieces, encoded one by one, have the tokens of the whole. False where in doubt.
        lossless: whether every text comes back. False where in doubt.
    """

    token_bytes: dict[int, bytes] | None
    strips: int
    complete: bool
    by_piece: bool
    lossless: bool


def structure(settings: Mapping[str, Any], vocabulary: Mapping[str, int], added: Mapping[int, str]) -> Structure:
    """Return what a tokenizer's settings say.

    Args:
        settings: the content of `tokenizer.json`.
        vocabulary: the model's tokens and their ids, without those added.
        added: the content of added tokens by id, which are written as they are.
    """
    matched = [token for token in settings.get("added_tokens") or () if not token.get("special")]
    if _is_byte_level(settings):
        token_bytes, complete = _letters(vocabulary), bytes_by_letter().keys() <= vocabulary.keys()
        strips, exact = 0, _byte_level_is_exact(settings)
    elif _is_byte_fallback(settings):
        token_bytes = {id: _fallback_bytes(token, settings) for token, id in vocabulary.items()}
        complete = bool(settings["model"].get("byte_fallback")) and _all_bytes(vocabulary)
        strips = sum(stage["start"] for stage in _stages(settings, "decoder") if stage["type"] == "Strip")
        exact = _fallback_is_exact(settings, strips) and not (strips and matched)
    else:
        return Structure(None, 0, False, _cuts_freely(settings, matched), False)
    token_bytes |= {id: content.encode() for id, content in added.items()}
    plain = not any(token.get("lstrip") or token.get("rstrip") for token in matched)
    return Structure(token_bytes, strips, complete, _cuts_freely(settings, matched), complete and exact and plain)


def _stages(settings: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """Return the stages of a part in order, a part without any being none, and a sequence being its members."""
    whole = settings.get(part)
    if not whole:
        return []
    return list(whole[_PARTS[part]]) if whole["type"] == "Sequence" else [whole]


def _is_byte_level(settings: Mapping[str, Any]) -> bool:
    splits = {stage["type"] for stage in _stages(settings, "pre_tokenizer")}
    return "ByteLevel" in splits and [stage["type"] for stage in _stages(settings, "decoder")] == ["ByteLevel"]


def _is_byte_fallback(settings: Mapping[str, Any]) -> bool:
    stages = _stages(settings, "decoder")
    kinds = {stage["type"] for stage in stages}
    understood = all(
        stage.get("content") == " " and not stage["stop"]
        if stage["type"] == "Strip"
        else stage["type"] != "Replace" or "String" in stage["pattern"]
        for stage in stages
    )
    return understood and "ByteFallback" in kinds and kinds <= {"Replace", "ByteFallback", "Fuse", "Strip"}


def _letters(vocabulary: Mapping[str, int]) -> dict[int, bytes]:
    byte = bytes_by_letter()
    return {
        id: bytes(byte[letter] for letter in token) if all(letter in byte for letter in token) else token.encode()
        for token, id in vocabulary.items()
    }


def _fallback_bytes(token: str, settings: Mapping[str, Any]) -> bytes:
    if found := _BYTE.fullmatch(token):
        return bytes([int(found[1], 16)])
    return _replaced(token, _stages(settings, "decoder")).encode()


def _replaced(text: str, stages: list[dict[str, Any]]) -> str:
    for stage in stages:
        if stage["type"] == "Replace":
            text = text.replace(stage["pattern"]["String"], stage["content"])
    return text


def _all_bytes(vocabulary: Mapping[str, int]) -> bool:
    return all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))


def _keeps(stage: Mapping[str, Any]) -> bool:
    """Return whether a way of splitting keeps every character."""
    return stage["type"] in {"Split", "Punctuation", "Digits"} and stage.get("behavior") != "Removed"


def _byte_level_is_exact(settings: Mapping[str, Any]) -> bool:
    return not _stages(settings, "normalizer") and all(
        not stage.get("add_prefix_space") if stage["type"] == "ByteLevel" else _keeps(stage)
        for stage in _stages(settings, "pre_tokenizer")
    )


def _fallback_is_exact(settings: Mapping[str, Any], strips: int) -> bool:
    """Return whether what the normaliser puts before a text is what the decoder takes away, and its sign for a space is
    the decoder's."""
    stages, back = _stages(settings, "normalizer"), _stages(settings, "decoder")
    if not all(
        stage["type"] == "Prepend" or (stage["type"] == "Replace" and "String" in stage["pattern"]) for stage in stages
    ):
        return False
    prefix = "".join(stage["prepend"] for stage in stages if stage["type"] == "Prepend")
    returns = _replaced(_replaced(" ", stages), back) == " "
    return returns and _replaced(prefix, back) == " " * strips and all(map(_keeps, _stages(settings, "pre_tokenizer")))


def _cuts_freely(settings: Mapping[str, Any], matched: list[dict[str, Any]]) -> bool:
    """Return whether nothing in a tokenizer reaches across the places where `etude.text.pieces` cuts: right before a
    space or line feed that follows a character which is no white space."""
    if any(token.get("lstrip") or token.get("rstrip") or token.get("single_word") for token in matched):
        return False
    if any(re.search(r"\S[ \n]", token["content"]) for token in matched):
        return False
    if not {stage["type"] for stage in _stages(settings, "normalizer")} <= _LOCAL:
        return False
    splits = _stages(settings, "pre_tokenizer")
    parting = [stage for stage in splits if stage["type"] in _AT_SPACES or _is_gpt2_split(stage)]
    finer = [stage for stage in splits if stage["type"] in _FINER]
    return bool(parting) and len(parting) + len(finer) == len(splits)


def _is_gpt2_split(stage: Mapping[str, Any]) -> bool:
    return stage["type"] == "ByteLevel" and not stage.get("add_prefix_space") and bool(stage.get("use_regex", True))
