"""Families: a file dropped into a folder is a member, by its file's name, with nothing else to edit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import etude
from etude.core.errors import DamagedError, UsageError
from etude.core.family import Family, Member, families, family_of, is_base, member
from etude.core.recipe import Recipe
from etude.core.spec import Spec

HEAD = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
FROM_CORE, FROM_BASE = "from etude.core.family import Member\n", "from etude.toys.shapes.base import Shape\n"


def frozen(cls: str, base: str, body: str = "...") -> str:
    return f"@dataclass(frozen=True)\nclass {cls}({base}):\n    {body}\n"


FILES = {
    "toys/__init__.py": "",
    "toys/shapes/__init__.py": "",
    "toys/shapes/base.py": HEAD + FROM_CORE + frozen("Shape", "Member"),
    "toys/shapes/round_one.py": HEAD + FROM_BASE + frozen("Circle", "Shape", "radius: float = 1.0"),
    "toys/shapes/square.py": HEAD + FROM_BASE + frozen("Square", "Shape", "side: float = 1.0"),
    "toys/shapes/_sums.py": "",
    "toys/shapes/sub/__init__.py": "",
    "toys/no_family/__init__.py": "",
}


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A floor `toys` with one family, beside the house's own floors."""
    for path, source in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    monkeypatch.setattr(etude, "__path__", [*etude.__path__, str(tmp_path)])
    families.cache_clear()
    yield tmp_path / "toys" / "shapes"
    families.cache_clear()
    for name in [name for name in sys.modules if name.startswith("etude.toys")]:
        del sys.modules[name]


@pytest.mark.usefixtures("shapes")
def test_members_are_named_as_their_files_are() -> None:
    family = Family("toys/shapes")
    assert family.names() == ["round-one", "square"]
    assert [cls.name for cls in family] == ["round-one", "square"]
    assert [cls.__name__ for cls in family] == ["Circle", "Square"]
    assert family.base().__name__ == "Shape"
    assert all(issubclass(cls, family.base()) for cls in family)


@pytest.mark.usefixtures("shapes")
def test_the_house_knows_its_families() -> None:
    assert "toys/shapes" in families()
    assert "toys/no_family" not in families()
    base = Family("toys/shapes").base()
    assert is_base(base)
    assert not is_base(Family("toys/shapes").member("square"))
    assert not is_base(Member)
    assert family_of(base) == family_of(Family("toys/shapes").member("square")) == Family("toys/shapes")


def test_a_dropped_file_is_a_member(shapes: Path) -> None:
    assert "hexagon" not in Family("toys/shapes").names()
    (shapes / "hexagon.py").write_text((shapes / "square.py").read_text().replace("Square", "Hexagon"))
    assert "hexagon" in Family("toys/shapes").names()
    assert (
        member("toys/shapes", "hexagon", side=2).fingerprint() != member("toys/shapes", "square", side=2).fingerprint()
    )


@pytest.mark.usefixtures("shapes")
def test_an_unknown_name_gets_the_nearest_and_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        member("toys/shapes", "sqare")
    assert str(caught.value) == (
        "unknown shape 'sqare': did you mean 'square'? There are: round-one, square. See: etude list toys/shapes"
    )
    with pytest.raises(UsageError, match=r"^unknown shape 'base': There are: round-one, square\."):
        member("toys/shapes", "base")
    with pytest.raises(UsageError, match="unknown family 'toys/shape': did you mean 'toys/shapes'"):
        member("toys/shape", "square")


def test_a_file_with_two_members_or_none_is_refused(shapes: Path) -> None:
    (shapes / "two.py").write_text(HEAD + FROM_BASE + frozen("A", "Shape") + frozen("B", "Shape"))
    (shapes / "none.py").write_text("")
    for name, count in (("two", 2), ("none", 0)):
        with pytest.raises(UsageError, match=rf"etude\.toys\.shapes\.{name} must define one .* it defines {count}"):
            member("toys/shapes", name)


def test_an_import_that_fails_inside_a_member_is_not_hidden(shapes: Path) -> None:
    (shapes / "broken.py").write_text("import there_is_no_such_module")
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"):
        member("toys/shapes", "broken")


@pytest.mark.usefixtures("shapes")
def test_members_read_back_through_a_field_of_the_base() -> None:
    base = Family("toys/shapes").base()
    square = member("toys/shapes", "square", side=3)
    data = json.loads(json.dumps(square.to_json()))
    assert data == {"member": "square", "version": 1, "side": 3.0}
    assert base.from_json(data) == square
    assert type(square).from_json(data) == square
    with pytest.raises(DamagedError, match="expected round-one, found square"):
        Family("toys/shapes").member("round-one").from_json(data)
    with pytest.raises(UsageError, match="unknown shape 'triangle'"):
        base.from_json({**data, "member": "triangle"})


@pytest.mark.usefixtures("shapes")
def test_members_that_look_alike_have_names_of_their_own() -> None:
    first, second = member("toys/shapes", "square"), member("toys/shapes", "round-one")
    assert first.fingerprint() != second.fingerprint()


@pytest.mark.usefixtures("shapes")
def test_messages_name_the_member_and_the_family() -> None:
    with pytest.raises(UsageError, match=r"^square\.side = 'x' is not a finite number$"):
        member("toys/shapes", "square", side="x")

    base = Family("toys/shapes").base()
    drawing: Any = dataclass(frozen=True)(
        type("Drawing", (Recipe,), {"__annotations__": {"shape": base}}, kind="toy-drawing")
    )
    assert drawing(shape=member("toys/shapes", "square")).to_json()["shape"]["member"] == "square"
    with pytest.raises(UsageError, match=r"^toy-drawing\.shape = 'square' is not shape$"):
        drawing(shape="square")


@pytest.mark.parametrize(
    ("path", "noun"),
    [
        ("text/corpora", "corpus"),
        ("nn/attention", "attention"),
        ("compress/methods", "method"),
        ("studies", "study"),
        ("practice/challenges", "challenge"),
    ],
)
def test_nouns(path: str, noun: str) -> None:
    assert Family(path).noun == noun


def test_every_family_of_the_house_is_whole() -> None:
    """Each member loads, builds with what its fields offer by themselves, and is documented."""
    for family in families().values():
        assert issubclass(family.base(), Spec)
        for cls in family:
            assert cls.__doc__, f"{family.path}: {cls.__name__} has no docstring"
            assert issubclass(cls, family.base())
