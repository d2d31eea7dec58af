"""Site: a typed address in a model, as in `L3.attn.pattern` or `L3.attn.W_O`.

There is one naming scheme: a site is the path of a submodule or parameter in the model, with `layers.3` written `L3`.
Where a model has a second stack, the stack's name comes first: `encoder.L3.attn.pattern`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import cast

from etude.core.errors import UsageError, unknown

_PART = r"[A-Za-z_][A-Za-z0-9_]*"
_NO_LAYER = r"(?!L[0-9]+(?:\.|$))"
_LAYER = rf"(?:(?P<stack>{_NO_LAYER}{_PART})\.)?L(?P<layer>0|[1-9][0-9]*)"
_FORM = re.compile(rf"(?:{_LAYER}\.)?(?P<rest>{_NO_LAYER}{_PART}(?:\.{_PART})*)")
_PATH = re.compile(rf"(?P<stack>{_PART}\.)?layers\.(?P<layer>[0-9]+)\.")


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
        layer = self._found["layer"]
        return None if layer is None else int(layer)

    @property
    def stack(self) -> str:
        """The stack that the layer is of: `encoder` in `encoder.L3.attn.pattern`, and empty in `L3.attn.pattern`."""
        return self._found["stack"] or ""

    @property
    def part(self) -> str:
        """What follows the layer: `attn.pattern` in `L3.attn.pattern`."""
        return self._found["rest"]

    @property
    def _found(self) -> re.Match[str]:
        return cast("re.Match[str]", _FORM.fullmatch(self))  # it was matched when the site was made

    @property
    def is_weight(self) -> bool:
        """Whether the address is a parameter: its last name starts with `W_`, `b_`, or is a norm's `w` or `b`."""
        last = self.rpartition(".")[2]
        return last.startswith(("W_", "b_")) or last in ("w", "b")

    @property
    def path(self) -> str:
        """The dotted path of the submodule or parameter in the model."""
        if self.layer is None:
            return str(self)
        return (f"{self.stack}." if self.stack else "") + f"layers.{self.layer}.{self.part}"

    @staticmethod
    def of(path: str) -> Site:
        """Return the site of a submodule's or parameter's dotted path in the model."""
        found = _PATH.match(path)
        return Site(path if found is None else f"{found['stack'] or ''}L{found['layer']}.{path[found.end() :]}")


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
    asked = re.match(rf"(?:(?P<stack>{_PART})\.)?L(?P<layer>\d+)\.", pattern)
    stack = asked["stack"] or "" if asked else ""
    layers = sorted({site.layer for site in every if site.layer is not None and site.stack == stack})
    if asked and int(asked["layer"]) not in layers and (layers or not stack):
        named = ", ".join(f"L{n}" for n in layers) or "none"
        what = f"its {stack}" if stack else "the model"
        return UsageError(f"unknown site {pattern!r}: {what} has {len(layers)} layers ({named})")
    alike = [s for s in every if s.layer in (None, int(asked["layer"]) if asked else 0)]
    return unknown("site", pattern, alike)
