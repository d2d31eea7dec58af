"""Judging an answer in this process: its text in, a verdict out. `sandbox` does it in a process with limits."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import io
import time
import traceback
import types
from collections.abc import Callable, Iterator
from inspect import unwrap
from pathlib import Path
from typing import Any

import torch

from etude.practice.challenge import Challenge
from etude.practice.exam import Exam, Wrong
from etude.practice.forbidden import HIDING, forbidden_uses
from etude.practice.theirs import Blank, Theirs
from etude.practice.verdict import Verdict

MOST_PRINTED = 4000
"""Characters of what an answer prints that are kept."""


UNUSABLE = (AttributeError, TypeError, IndexError, KeyError, ValueError, RuntimeError)
"""What a check raises by itself where an answer has returned something that cannot be worked with."""


def judge(challenge: Challenge, source: str, seed: int) -> Verdict:
    """Check an answer.

    Args:
        challenge: what was asked.
        source: the text of the learner's file.
        seed: of the numbers that it is asked with.

    Whatever the answer does, short of ending the process, becomes a verdict. It must come with limits from outside.
    """
    file = f"{challenge.name}.py"
    try:
        ast.parse(source, filename=file)
    except (SyntaxError, ValueError) as error:
        return Verdict("syntax", _syntax(error, file, source), seed=seed)
    if used := forbidden_uses(source, challenge.barred):
        line, name = used[0]
        return Verdict(
            "forbidden", f"line {line} uses `{name.lstrip('.')}`, which is what is to be built here", seed=seed
        )
    if challenge.barred and (used := forbidden_uses(source, HIDING)):
        line, name = used[0]
        return Verdict("forbidden", f"line {line} uses `{name}`, which hides what is used: write its name", seed=seed)
    started, said, exam = time.perf_counter(), _Prints(), Exam(seed)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        outcome, message = _asked(challenge, source, exam, file)
    return Verdict(outcome, message, said.told, time.perf_counter() - started, seed, exam.shown)


def _asked(challenge: Challenge, source: str, exam: Exam, file: str) -> tuple[str, str]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    theirs = None
    try:
        with torch.random.fork_rng(devices=[]), _kept():
            torch.manual_seed(exam.seed)
            theirs = Theirs(_module(challenge.name, source, file), file)
            _check(path := challenge.folder / "check.py", path.stat().st_mtime_ns)(theirs, exam)
    except Wrong as wrong:
        return "wrong", str(wrong)
    except Blank as blank:
        return "blank", f"`{blank}` is not written yet"
    except BaseException as error:  # noqa: BLE001 (whatever an answer raises is told to who wrote it)
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return "memory", "it asked for more memory than a check gives"
        return _raised(error, file, theirs)
    finally:
        torch.set_num_threads(threads)
    return "passed", ""


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Put back what an answer replaces in PyTorch, which it is judged by, and find it wrong where it would pass."""
    places = (torch, torch.Tensor, torch.nn.functional, torch.linalg)
    before = [(place, name, value) for place in places for name, value in vars(place).items() if callable(value)]
    try:
        yield
    finally:
        changed = [each for each in before if unwrap(vars(each[0]).get(each[1], Wrong)) is not unwrap(each[2])]
        for place, name, value in changed:
            setattr(place, name, value)
    if changed:
        raise Wrong(f"`{changed[0][1]}` of PyTorch is replaced by something else: leave it as it is")


def _module(name: str, source: str, file: str) -> types.ModuleType:
    """Run a source as a module of a name that nothing else can import."""
    module = types.ModuleType(name)
    module.__file__ = file
    exec(compile(source, file, "exec"), module.__dict__)
    return module


@functools.lru_cache(maxsize=256)
def _check(path: Path, changed: int) -> Callable[[Any, Exam], None]:
    """Return the function of a check; a file that was changed is read anew."""
    name = f"etude_practice_check_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.check


def _raised(error: BaseException, file: str, theirs: Theirs | None) -> tuple[str, str]:
    """Say what an answer raised, and where; an error of the check itself goes on."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not lines:
        if theirs is not None and theirs.calls and isinstance(error, UNUSABLE):
            told = f"{type(error).__name__}: {error}"
            return "wrong", f"what `{theirs.calls}` returned could not be used as the task says ({told})"
        raise error
    if isinstance(error, NotImplementedError) and not error.args:  # PyTorch's own has words
        return "blank", f"line {lines[-1].lineno} is not written yet"
    said = " ".join(str(error).split()) or "no more words"
    if isinstance(error, SystemExit):
        return "raised", f"line {lines[-1].lineno} ends Python ({type(error).__name__}): return a value instead"
    within = f", in `{theirs.calls}`" if theirs is not None and theirs.calls else ""
    if isinstance(error, EOFError):
        said = "nobody is there to answer `input()` while it is checked"
    return "raised", f"line {lines[-1].lineno} raises {type(error).__name__}{within}: {said}"


def _syntax(error: SyntaxError | ValueError, file: str, source: str) -> str:
    if not isinstance(error, SyntaxError):
        return f"{file} is no Python: {error}"
    if error.lineno is None:
        return f"{file} is no Python: {error.msg}"
    lines = source.splitlines()
    text = lines[error.lineno - 1].strip() if error.lineno <= len(lines) else ""
    return f"line {error.lineno} is no Python ({error.msg})" + (f": {text}" if text else "")


class _Prints(io.TextIOBase):
    """Keeps the beginning of what is printed, however much it is."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._kept = self._lost = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        room = max(0, MOST_PRINTED - self._kept)
        if room:
            self._parts.append(text[:room])
        self._kept += min(room, len(text))
        self._lost += max(0, len(text) - room)
        return len(text)

    @property
    def told(self) -> str:
        end = f"\n... and {self._lost:,} characters more" if self._lost else ""
        return "".join(self._parts) + end
