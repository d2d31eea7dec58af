"""The English and the code that every Python carries: its manual's topics and its standard library."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import os
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.text.corpora.base import Corpus, Document
from etude.text.splits import check_split, fraction, split_of

EXTRACTOR = 1
"""Raised whenever the same files would give another text."""

TOPICS = "pydoc_data/topics.py"

_SALT = "pylib 136"
"""Goes into the hash that splits the files. Of the salts 0 to 599 this one comes nearest to shares of 90, 5 and 5% in
bytes of sources and of docstrings on Python 3.11, 3.12 and 3.13 (off by at most 0.8 points; a salt drawn blindly is
off by about 3, for files differ in size), with the topics, the longest English text, in train."""

_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_LEFT_OUT_PREFIXES = ("config-", "_sysconfigdata", ".")  # written by the build: settings, not text


@dataclass(frozen=True)
class Pylib(Corpus):
    """The standard library of the Python that runs Etude, without its tests: sources, docstrings and the language
    manual's topics, about 12 MB. Nothing is imported; docstrings and topics are found with `ast`.

    One file is one document, in the split that a hash of its relative path says, so that a docstring is never in
    another split than its source. The topics are one file. They differ between Python builds: the identity says which.

    Not covered: texts that several files share (licence notes, the tables in `encodings`) do stand in several splits.

    Attributes:
        part: `all` is every source as it stands, docstrings inside, and the topics as the text they hold;
            `docstrings` is the docstrings and the topics, English for the most part; `sources` is all without topics.
    """

    part: Literal["all", "docstrings", "sources"] = "all"

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        for name in self._names(split):
            text = self._text(name)
            if text:
                yield Document(name, [text])

    def identity(self) -> str:
        return _identity(library())

    def about(self) -> dict[str, Any]:
        root = library()
        return {
            "licence": "PSF-2.0",
            "source": f"the standard library of Python {sys.version.split()[0]}",
            "files": len(_files(root)),
            "bytes": sum(_files(root).values()),
        }

    def size(self, split: str) -> int:
        if self.part == "docstrings":
            return 0  # known only once every file is parsed
        sizes = _files(library())
        return sum(sizes[name] for name in self._names(split))

    def _names(self, split: str) -> list[str]:
        names = (name for name in _files(library()) if split_of(fraction(f"{_SALT} {name}")) == split)
        return [name for name in names if not (name == TOPICS and self.part == "sources")]

    def _text(self, name: str) -> str:
        source = _decode((library() / name).read_bytes())
        if name == TOPICS:
            return topics(source)
        return docstrings(source) if self.part == "docstrings" else source


def library() -> Path:
    """Return the folder of the standard library's sources.

    Raises:
        UsageError: this Python was installed without them.
    """
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "ast.py").is_file():
        raise UsageError(f"this Python has no library sources in {str(root)!r}: use the corpus fable or files")
    return root


@functools.cache
def _files(root: Path) -> dict[str, int]:
    """Return the size of each file by its path under the root, with `/`, sorted by path."""
    found = {}
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in _LEFT_OUT and not name.startswith(_LEFT_OUT_PREFIXES)]
        for name in files:
            if name.endswith(".py") and not name.startswith(_LEFT_OUT_PREFIXES):
                path = Path(folder, name)
                found[path.relative_to(root).as_posix()] = path.stat().st_size
    return dict(sorted(found.items()))


@functools.cache
def _identity(root: Path) -> str:
    whole = hashlib.sha256(f"pylib {EXTRACTOR}\n".encode())
    for name in _files(root):
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        whole.update(f"{content} {name}\n".encode())
    return whole.hexdigest()


def _decode(raw: bytes) -> str:
    """Decode a source as Python does: by its coding line, else UTF-8, every line end as a line feed."""
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(raw).readline)[0]
    except SyntaxError:
        encoding = "utf-8"
    return raw.decode(encoding, "surrogateescape").replace("\r\n", "\n")


def docstrings(source: str) -> str:
    """Return the docstrings of a module, its classes and functions, in the order of the file, indentation removed and
    two blank lines between; nothing for a source that this Python cannot parse."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    try:
        with warnings.catch_warnings(action="ignore"):  # such as for an old escape in a string: not our concern
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False):
            first = node.body[0]
            found.append((first.lineno, first.col_offset, ast.get_docstring(node)))
    return "\n\n\n".join(text for _, _, text in sorted(found) if text)


def topics(source: str) -> str:
    """Return the manual's topics from the source of `pydoc_data/topics.py`, in its order.

    Pythons write that file in several ways (one string in brackets, many strings joined, raw triple quotes); all are a
    dictionary from names to constant strings, and that is what is looked for.
    """
    dictionaries = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Dict)]
    values = (value for node in dictionaries for value in node.values)
    texts = (v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str))
    return "\n\n\n".join(cleandoc(text) for text in texts)
