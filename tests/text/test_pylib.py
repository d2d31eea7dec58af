from __future__ import annotations

import time
from pathlib import Path

import pytest

from etude.core.errors import UsageError
from etude.text.corpora import pylib
from etude.text.corpora.pylib import TOPICS, Pylib, docstrings, topics
from etude.text.splits import SPLITS

SOURCE = '''"""Module.

    Indented.
"""
x = "not a docstring"
class A:
    """Of A."""
    async def f(self):
        """Of f."""
def g():
    r"""Of \\g."""
def h(): pass
'''


def names(corpus: Pylib) -> dict[str, list[str]]:
    return {split: [document.name for document in corpus.documents(split)] for split in SPLITS}


def test_docstrings_in_the_order_of_the_file():
    assert docstrings(SOURCE) == "Module.\n\nIndented.\n\n\nOf A.\n\n\nOf f.\n\n\nOf \\g."
    assert docstrings("def broken(:") == ""
    assert docstrings("a = '\\d'") == ""


@pytest.mark.parametrize(
    "source",
    [
        "topics = {'a': 'One.\\n', 'b': 'Two.'}",
        "topics = {'a': ('One'\n '.\\n'), 'b': 'Two.'}",
        "# -*- coding: utf-8 -*-\ntopics = {\n 'a': r'''One.\n''',\n 'b': r'''Two.''',\n}",
        "topics: dict[str, str] = {'a': 'One.', 'b': 'Two.'}",
    ],
)
def test_topics_in_each_layout_that_pythons_use(source: str):
    assert topics(source).replace("\n", "") == "One.Two."


def test_no_file_is_in_two_splits_and_every_part_keeps_them():
    every = names(Pylib())
    found = [name for split in SPLITS for name in every[split]]
    assert len(found) == len(set(found)) > 100
    assert {d.name for d in Pylib(part="docstrings").documents("valid")} <= set(every["valid"])
    assert set(names(Pylib(part="sources"))["test"]) == set(every["test"])
    assert TOPICS in every["train"] and TOPICS not in names(Pylib(part="sources"))["train"]


def test_tests_and_installed_packages_are_left_out():
    found = {part for split in SPLITS for name in names(Pylib())[split] for part in Path(name).parts}
    assert not found & {"test", "tests", "idle_test", "site-packages", "__pycache__"}


def test_shares_are_near_what_is_promised():
    sizes = {split: Pylib().size(split) for split in SPLITS}
    assert all(0.03 < sizes[split] / sum(sizes.values()) < 0.07 for split in ("valid", "test"))


def test_a_docstring_stands_with_its_source():
    sources = {document.name: document.text() for document in Pylib().documents("valid")}
    found = {document.name: document.text() for document in Pylib(part="docstrings").documents("valid")}
    words = {name: text.split()[0] for name, text in found.items()}
    assert len(found) > 10 and all(word in sources[name] for name, word in words.items())


def test_identity_is_quick_and_follows_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started = time.process_time()
    Pylib().identity()
    assert time.process_time() - started < 1.0
    (tmp_path / "ast.py").write_text("'''Trees.'''\n")
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / TOPICS).write_text("topics = {'a': 'One.'}")
    monkeypatch.setattr(pylib, "library", lambda: tmp_path)
    identities = set()
    for content in ("one = 1\n", "one = 2\n", "one = 2\n"):
        (tmp_path / "one.py").write_text(content)
        pylib._files.cache_clear()
        pylib._identity.cache_clear()
        identities.add(Pylib().identity())
    assert len(identities) == 2
    pylib._files.cache_clear()
    pylib._identity.cache_clear()


def test_a_python_without_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pylib.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(UsageError, match=r"no library sources in .*: use the corpus fable or files"):
        Pylib().identity()
