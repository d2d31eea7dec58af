"""A challenge of one's own, ready to be filled in. It proves as it stands, so that every change can be tried."""

from __future__ import annotations

import keyword
from pathlib import Path

from etude.core.errors import UsageError
from etude.core.files import write_text

MANIFEST = """# The course: its tracks, and its challenges in the order in which they are met. A name is the folder's.

order = [
]

[tracks]
own = "My own"
"""

DESCRIPTION = """title = "{title}"
minutes = [5, 20]
after = []
forbidden = ["torch.mean", ".mean"]
hints = [
    "An idea: what would you do by hand?",
    "The formula, or the shape after each step.",
    "Almost the code; a line is left to write.",
]

# A mutant is the solution with `old`, which stands there once, replaced by `new`. `says` is a part of the sentence that
# the check answers it with, and no other mutant. Give five or more.

[[mutants]]
name = "a sum"
old = "x.sum(dim=-1) / x.shape[-1]"
new = "x.sum(dim=-1)"
says = "never divided"

[[mutants]]
name = "the first axis"
old = "x.sum(dim=-1) / x.shape[-1]"
new = "x.sum(dim=0) / x.shape[0]"
says = "the mean of the columns"

[[mutants]]
name = "an unbiased variance's divisor"
old = "/ x.shape[-1]"
new = "/ (x.shape[-1] - 1)"
says = "by N - 1"

[[mutants]]
name = "everything at once"
old = "x.sum(dim=-1) / x.shape[-1]"
new = "x.sum() / x.numel()"
says = "one number for all"

[[mutants]]
name = "PyTorch's own"
old = "x.sum(dim=-1) / x.shape[-1]"
new = "x.mean(dim=-1)"
says = "is what is to be built here"
"""

STARTER = '''"""{title}."""

import torch
from torch import Tensor


def {name}(x: Tensor) -> Tensor:
    """Return the mean of each row.

        {name}(x)_i = (1 / N) sum_j x_ij

    Args:
        x: of shape [M, N].

    Returns:
        Of shape [M].
    """
    raise NotImplementedError
'''

SOLUTION = '''"""{title}."""

import torch
from torch import Tensor


def {name}(x: Tensor) -> Tensor:
    """Return the mean of each row of x [M, N], as [M]."""
    return x.sum(dim=-1) / x.shape[-1]
'''

CHECK = '''"""Whether the mean of each row is one."""

from typing import Any

import torch

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask with tables of several shapes, and for the gradient."""
    for _ in range(3):
        rows, columns = exam.sizes(2)
        x = exam.normal(rows, columns)
        want = torch.mean(x, dim=-1)
        exam.same(
            theirs.{name}(x),
            want,
            "your mean of each row",
            unless={{
                "the sum was never divided by N": x.sum(-1),
                "this is the mean of the columns: a row is x[i], so the sum runs over the last axis": x.mean(0),
                "the sum is divided by N - 1: a mean divides by N": x.sum(-1) / (columns - 1),
                "this is one number for all: every row has a mean of its own": x.mean(),
            }},
            axes=("row",),
        )
    exam.gradients(theirs.{name}, lambda x: torch.mean(x, dim=-1), {{"x": exam.normal(3, 4)}}, "your mean")
'''


def scaffold(name: str, folder: Path) -> Path:
    """Write a new challenge, which proves as it stands, and put it last in the folder's manifest.

    Args:
        name: a Python name in lower case, which its function has too.
        folder: of one's own challenges; it is made where there is none.

    Raises:
        UsageError: it is no such name, or is taken, or the manifest is not one that can be added to.
    """
    name = name.replace("-", "_")
    if not name.isidentifier() or name != name.lower() or keyword.iskeyword(name):
        raise UsageError(f"{name!r} is no name for a challenge: lower-case letters, digits and _, as in low_rank")
    place, manifest = folder / name, folder / "manifest.toml"
    if place.exists():
        raise UsageError(f"{place} exists already: choose another name, or work on that one")
    text = manifest.read_text(encoding="utf-8") if manifest.exists() else MANIFEST
    lines = text.splitlines()
    try:
        first = next(n for n, line in enumerate(lines) if line.replace(" ", "").startswith("order=["))
        last = next(n for n in range(first, len(lines)) if lines[n].strip() == "]")
        tracks = lines.index("[tracks]")
        track = lines[tracks + 1].partition("=")[0].strip()
    except (StopIteration, ValueError, IndexError):
        raise UsageError(f"{manifest} is laid out otherwise than ours: add {name!r} to its order by hand") from None
    title = name.replace("_", " ").capitalize()
    parts = {"challenge.toml": DESCRIPTION, "starter.py": STARTER, "solution.py": SOLUTION, "check.py": CHECK}
    for part, written in parts.items():
        write_text(place / part, written.format(name=name, title=title))
    write_text(manifest, "\n".join([*lines[:last], f'    "{track}/{name}",', *lines[last:]]) + "\n")
    return place
