"""Text to the value of a field, and back, as command lines and sweeps spell it. The field's type decides."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Sequence
from typing import Any

from etude.core.errors import UsageError, unknown

NONE = "none"
"""How None is written where a field may be None."""


def settable(hint: Any) -> bool:
    """Return whether a field of this type holds plain data that a command line can spell."""
    if is_list(hint):
        return all(settable(kind) and not is_list(kind) for kind in typing.get_args(hint) if kind is not Ellipsis)
    if _is_union(hint):
        return any(settable(kind) for kind in typing.get_args(hint) if kind is not type(None))
    return typing.get_origin(hint) is typing.Literal or hint in (int, float, bool, str)


def is_list(hint: Any) -> bool:
    """Return whether a field holds several values."""
    return typing.get_origin(hint) is tuple


def read(text: str, hint: Any, flag: str) -> Any:
    """Return the value of one word.

    Raises:
        UsageError: it is not of the field's type.
    """
    if typing.get_origin(hint) is typing.Literal:
        by_text = {written(choice): choice for choice in typing.get_args(hint)}
        if text not in by_text:
            raise unknown(flag, text, by_text)
        return by_text[text]
    if _is_union(hint):
        return _read_union(text, typing.get_args(hint), flag)
    if is_list(hint):
        return read_list([text], hint, flag)
    if hint is bool:
        answers = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
        if text.lower() not in answers:
            raise UsageError(f"{flag} {text!r} is not yes or no")
        return answers[text.lower()]
    return text if hint is str else _number(text, hint, flag)


def read_list(texts: Sequence[str], hint: Any, flag: str) -> tuple[Any, ...]:
    """Return the values of several words, each of which may hold several with commas between, or, where they are texts,
    be a JSON list of them, which alone can say a text with a comma or with spaces at an end.

    Raises:
        UsageError: they are not of the field's type, or one holds commas or blanks alone.
    """
    kinds = typing.get_args(hint)
    words = _texts(texts, flag) if all(kind in (str, Ellipsis) for kind in kinds) else split(texts)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(read(word, kinds[0], flag) for word in words)
    if len(words) != len(kinds):
        raise UsageError(f"{flag} needs {len(kinds)} values, and {len(words)} were given")
    return tuple(read(word, kind, flag) for word, kind in zip(words, kinds, strict=True))


def split(texts: Sequence[str]) -> list[str]:
    """Return the words in texts that may hold several with commas between."""
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def _texts(words: Sequence[str], flag: str) -> list[str]:
    """Return the texts in words: of a JSON list those in it, of another word those between its commas, without the
    spaces around them."""
    found: list[str] = []
    for word in words:
        if word.startswith('["') or word == "[]":
            found += _json_list(word, flag)
            continue
        parts = [part.strip(" ") for part in word.split(",")]
        if word and not any(parts):
            raise UsageError(f"{flag} {word!r} has no text beside its commas: as a JSON list, {json.dumps([word])}")
        found += [part for part in parts if part]
    return found


def _json_list(word: str, flag: str) -> list[str]:
    try:
        found = json.loads(word)
    except ValueError as error:
        raise UsageError(f'{flag} {word!r} is no JSON list ({error}): write it as \'[",", "b"]\'') from None
    if not all(isinstance(item, str) for item in found):
        raise UsageError(f'{flag} {word!r} is a JSON list of more than texts: write it as \'[",", "b"]\'')
    return found


def written(value: Any) -> str:
    """Return a value as `read` takes it."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        if all(isinstance(item, str) for item in value) and not all(map(_is_plain, value)):
            return json.dumps(value, ensure_ascii=False)
        return ",".join(written(item) for item in value)
    return repr(value) if isinstance(value, float) else str(value)


def _is_plain(text: str) -> bool:
    """Return whether a text among several can stand between commas."""
    is_json = text.startswith('["') or text == "[]"
    return bool(text) and text.isprintable() and text == text.strip(" ") and "," not in text and not is_json


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _read_union(text: str, kinds: tuple[Any, ...], flag: str) -> Any:
    if type(None) in kinds and text == NONE:
        return None
    problems = []
    for kind in sorted((k for k in kinds if k is not type(None) and settable(k)), key=lambda k: k is str):
        try:
            return read(text, kind, flag)
        except UsageError as error:
            problems.append(error)
    raise problems[0]


def _number(text: str, hint: Any, flag: str) -> int | float:
    """Read a number; `2e6` is a whole one, and so is `2_000_000`."""
    try:
        return int(text) if hint is int else float(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if hint is int and value.is_integer() and abs(value) < 2**53:
        return int(value)
    raise UsageError(f"{flag} {text!r} is not a {'whole ' if hint is int else ''}number")
