"""Etude: a laboratory for small transformers.

The names below load on first use, so that `import etude` is quick and needs no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from etude.core.lab import Lab as Lab
    from etude.core.run import Run as Run
    from etude.core.site import Site as Site
    from etude.models.load import load as load
    from etude.nn.look import look as look

_HOMES = {
    "Lab": "etude.core.lab",
    "Run": "etude.core.run",
    "Site": "etude.core.site",
    "load": "etude.models.load",
    "look": "etude.nn.look",
}

__all__ = ["Lab", "Run", "Site", "__version__", "load", "look"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'etude' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
