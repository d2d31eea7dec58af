"""What holds for every test: one thread, signatures checked while the tests run, and where public data lies."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in processes that tests start

import jaxtyping
import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a shell; tests stop themselves by it
    signal.signal(signal.SIGINT, signal.default_int_handler)

CHECKOUT = Path(__file__).parents[1]
IMPORTS_TORCH = re.compile(r"^(import|from) torch\b", re.MULTILINE)


def eager_only(jaxtyped: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap jaxtyping's decorator so that torch.compile sees the undecorated function: it cannot trace the checks."""

    def decorator(*, typechecker: Any) -> Callable[[Any], Any]:
        def decorate(thing: Any) -> Any:
            checked = jaxtyped(thing, typechecker=typechecker)
            if not inspect.isfunction(thing):
                return checked
            compiling = sys.modules["torch"].compiler.is_compiling

            @functools.wraps(thing)
            def call(*args: Any, **kwargs: Any) -> Any:
                return thing(*args, **kwargs) if compiling() else checked(*args, **kwargs)

            return call

        return decorate

    return decorator


def modules_with_torch() -> list[str]:
    """Return the modules of Etude that import torch as they load.

    The others are left alone: a spec checks its own fields, with a better message, and takes an int for a float.
    Packages are left out too, since jaxtyping takes a package's name for everything below it.
    """
    spec = importlib.util.find_spec("etude")
    assert spec is not None and spec.origin is not None, "etude is not installed: make .venv/dev"
    root = Path(spec.origin).parent
    files = (file for file in root.rglob("*.py") if file.name != "__init__.py")
    return [
        ".".join(file.relative_to(root.parent).with_suffix("").parts)
        for file in files
        if IMPORTS_TORCH.search(file.read_text(encoding="utf-8"))
    ]


jaxtyping.jaxtyped = eager_only(jaxtyping.jaxtyped)
jaxtyping.install_import_hook(modules_with_torch(), "beartype.beartype")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Keep torch at one thread, where a test or an import has loaded it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data: `$ETUDE_SHARED`, else `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("ETUDE_SHARED") or CHECKOUT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}: name its folder in ETUDE_SHARED")
    return folder


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = [
    "--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window; its tests are skipped, with the reason, where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install etude[dev]"
    )
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=BROWSER_FLAGS)
        yield opened
        opened.close()
