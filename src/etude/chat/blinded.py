"""The page on which a person chooses between replies, and the key that tells whose they were."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from etude.core.errors import DamagedError
from etude.report.html import policy, script_json
from etude.text.visible import visible

_FOLDER = resources.files("etude.chat") / "page"

CHOICES = ("A", "B", "tie")
"""What a person may choose."""


def page(pairs: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return the page: one file that loads nothing, in which what is said is shown as text, whatever it is.

    Args:
        pairs: of each the `turns` of the dialogue and the replies `A` and `B`.
        name: of the run that the page belongs to, which the choices name too.
    """
    shown = [
        {"turns": [visible(turn) for turn in pair["turns"]], "A": visible(pair["A"]), "B": visible(pair["B"])}
        for pair in pairs
    ]
    script, style, template = ((_FOLDER / f"pairs.{ending}").read_text("utf-8") for ending in ("js", "css", "html.j2"))
    return (
        jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        .from_string(template)
        .render(
            policy=policy([script]),
            script=Markup(script),
            style=Markup(style),
            name=name,
            data=script_json({"of": name, "pairs": shown}),
        )
    )


def masked(sides: Sequence[str], name: str) -> dict[str, str]:
    """Return the sides of the tuned model, `A` or `B`, so that a glance at the file does not tell them."""
    hidden = bytes(ord(side) ^ mask for side, mask in zip(sides, _mask(name, len(sides)), strict=True))
    return {"sides": base64.b64encode(hidden).decode()}


def unmasked(key: Mapping[str, Any]) -> list[str]:
    """Return the sides that `masked` hid.

    Raises:
        DamagedError: they are none.
    """
    hidden = base64.b64decode(key["sides"])
    sides = [chr(byte ^ mask) for byte, mask in zip(hidden, _mask(key["pairs"], len(hidden)), strict=True)]
    if not set(sides) <= {"A", "B"}:
        raise DamagedError("the key of the pairs was changed: make the run of pairs again")
    return sides


def _mask(name: str, count: int) -> bytes:
    return hashlib.shake_256(f"pairs {name}".encode()).digest(count)
