"""Where a run came from: code, versions and machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import etude
from etude.core.machine import machine
from etude.core.recipe import Recipe

LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers", "scipy", "scikit-learn", "altair", "vl-convert-python")


def provenance(recipe: Recipe, inputs: list[str], threads: int) -> dict[str, Any]:
    """Return what is known before the work starts; the work adds data hashes through `Draft.note`."""
    return {
        "code": dict(code()),
        "python": platform.python_version(),
        "libraries": dict(versions()),
        "machine": dict(machine()),
        "threads": threads,
        "seed": getattr(recipe, "seed", None),
        "inputs": sorted(inputs),
        "timing": {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z")},
    }


@functools.cache
def code() -> dict[str, str]:
    """Return the release, the hash of the source as it stands, and the commit where there is one."""
    folder = Path(etude.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    found = {"version": etude.__version__, "source": digest.hexdigest()[:16]}
    if (folder.parents[1] / ".git").exists():
        git = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
        try:
            answer = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True)
            found["commit"] = answer.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass  # no git, or no commit yet: the source hash says more anyway
    return found


@functools.cache
def versions() -> dict[str, str]:
    """Return the installed versions of the libraries that can move a number."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
