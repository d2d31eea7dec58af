"""Several labelled sets as words of the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etude.core.errors import UsageError, unknown

if TYPE_CHECKING:
    from etude.text.corpora.labelled import Labelled


def from_words(cls: type[Labelled], words: Sequence[str]) -> tuple[Labelled, ...]:
    """Return the sets: `a.csv,b.jsonl`, with their columns as by default, or `[{"path": "a.csv", "text_field": ...}]`.

    Raises:
        UsageError: the JSON is none, or names a field that there is not.
    """
    text = ",".join(words)
    if not text.lstrip().startswith("["):
        return tuple(cls(path=word.strip()) for word in text.split(",") if word.strip())
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"sets {text[:60]!r} are not JSON: {error}") from None
    return tuple(_made(cls, item) for item in data)


def to_words(sets: Sequence[Labelled]) -> str:
    """Return sets as `from_words` reads them."""
    data = [_data(one) for one in sets]
    paths = [item.get("path", "") for item in data]
    if all(set(item) == {"path"} and "," not in item["path"] for item in data):
        return ",".join(paths)
    return json.dumps(data)


def _made(cls: type[Labelled], data: Any) -> Labelled:
    if not isinstance(data, dict):
        raise UsageError(f'the set {json.dumps(data)[:60]} is no object: write {{"path": "a.csv", ...}}')
    known = [f.name for f in dataclasses.fields(cls)]
    for name in data:
        if name not in known:
            raise unknown("field of labelled", name, known)
    return cls(**data)


def _data(one: Labelled) -> dict[str, Any]:
    held = {f.name: getattr(one, f.name) for f in dataclasses.fields(one)}
    return {f.name: held[f.name] for f in dataclasses.fields(one) if held[f.name] != f.default}
