"""Site: a typed address in a model, as in `L3.attn.pattern` or `L3.attn.W_O`.

There is one naming scheme: a site is the path of a submodule or parameter in the model, with `layers.3` written `L3`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from etude.core.errors import UsageError, unknown

_PART = r"[A-Za-z_][A-Za-z0-9_]*"
_LAYER = r"L(?P<layer>0|[1-9][0-9]*)"
_FORM = re.compile(rf"(?:{_LAYER}\.)?(?P<rest>(?!L[0-9]+(?:\.|$)){_PART}(?:\.{_PART})*)")


class Site(str):
    """An address, usable wherever its text is.

    Raises:
        UsageError: the text has not the form of an address. (Whether a model has it is the model's to say.)
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Site:
        if not _FORM.fullmatch(text):
            raise UsageError(f"{text!r} is not a site: write as in L0.attn.pattern, L1.mlp.W_out, embed.out or logits")
        return super().__new__(cls, text)

    @property
    def layer(self) -> int | None:
        """The layer, from 0, or None for what stands outside the layers."""
        match = _FORM.fullmatch(self)
        return int(match["layer"]) if match and match["layer"] is not None else None

    @property
    def part(self) -> str:
        """What follows the layer: `attn.pattern` in `L3.attn.pattern`."""
        return self.partition(".")[2] if self.layer is not None else str(self)

    @property
    def is_weight(self) -> bool:
        """Whether the address is a parameter: its last name starts with `W_`, `b_`, or is a norm's `w` or `b`."""
        last = self.rpartition(".")[2]
        return last.startswith(("W_", "b_")) or last in ("w", "b")

    @property
    def path(self) -> str:
        """The dotted path of the submodule or parameter in the model."""
        return re.sub(r"^L(\d+)\.", r"layers.\1.", self)

    @staticmethod
    def of(path: str) -> Site:
        """Return the site of a submodule's or parameter's dotted path in the model."""
        return Site(re.sub(r"^layers\.(\d+)\.", r"L\1.", path))


def match(patterns: str | Iterable[str], sites: Iterable[Site]) -> list[Site]:
    """Return the sites that any of the globs match (`L*.attn.pattern`), in the model's order.

    Raises:
        UsageError: a glob matches nothing.
    """
    every = list(sites)
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    chosen: set[str] = set()
    for pattern in wanted:
        found = fnmatch.filter(every, pattern)
        if not found:
            raise _no_such_site(pattern, every)
        chosen.update(found)
    return [site for site in every if site in chosen]


def _no_such_site(pattern: str, every: list[Site]) -> UsageError:
    layers = sorted({site.layer for site in every if site.layer is not None})
    asked = re.match(r"L(\d+)\.", pattern)
    if asked and int(asked[1]) not in layers:
        named = ", ".join(f"L{n}" for n in layers) or "none"
        return UsageError(f"unknown site {pattern!r}: the model has {len(layers)} layers ({named})")
    alike = [s for s in every if s.layer in (None, int(asked[1]) if asked else 0)]
    return unknown("site", pattern, alike)
