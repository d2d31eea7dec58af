"""Specs and recipes: read back equal, named by what decides the outcome, and refused in one line when wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import DamagedError, EtudeError, UsageError
from etude.core.recipe import Recipe, kind_named, recipes_in
from etude.core.spec import AUTO, Spec, cosmetic


@dataclass(frozen=True)
class Inner(Spec):
    size: int = 4
    rate: float = 0.1


@dataclass(frozen=True)
class Other(Spec):
    text: str = "other"


@dataclass(frozen=True)
class Everything(Recipe, kind="toy-everything"):
    """One field of each type that a spec may have."""

    whole: int = 3
    real: float = 0.5
    flag: bool = False
    text: str = ""
    choice: Literal["a", "b", 1] = "a"
    maybe: int | None = None
    number: int | float = 1
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[str, float] = ("x", 0.0)
    nested: tuple[tuple[float, ...], ...] = ()
    one: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    either: Inner | Other | None = None
    one_or_many: int | tuple[Inner, ...] = 0
    device: str = cosmetic("cpu")


@dataclass(frozen=True)
class Derived(Recipe, kind="toy-derived"):
    of: Everything = field(default_factory=Everything)
    among: tuple[Recipe, ...] = ()
    steps: int = 1


@dataclass(frozen=True)
class Either(Recipe, kind="toy-either"):
    of: Everything | Derived = field(default_factory=Everything)


@dataclass(frozen=True)
class Listed(Recipe, kind="toy-listed"):
    many: tuple[Inner, ...] = (Inner(), Inner(size=5))


@dataclass(frozen=True)
class Chosen(Recipe, kind="toy-chosen"):
    """A field left to the machine."""

    threads: int | Literal["auto"] = AUTO
    path: str = cosmetic(AUTO)

    def settle(self) -> Chosen:
        return dataclasses.replace(self, threads=2) if self.threads == AUTO else self


@dataclass(frozen=True)
class Holder(Recipe, kind="toy-holder"):
    held: Chosen = field(default_factory=Chosen)
    rest: tuple[Chosen, ...] = ()


@dataclass(frozen=True)
class Worded(Recipe, kind="toy-worded"):
    """Text that may well be the word auto, beside words of which auto is one."""

    text: str = ""
    precision: Annotated[Literal["auto", "fp32"] | None, "how exact"] = "fp32"


@dataclass(frozen=True)
class Even(Spec):
    """A spec with a combination that cannot be."""

    width: int = 4
    heads: int = 2

    def check(self) -> None:
        if self.width % self.heads:
            raise UsageError(f"width {self.width} does not divide into {self.heads} heads")


whole = st.integers(-(2**70), 2**70)
real = st.floats(allow_nan=False, allow_infinity=False)
inner = st.builds(Inner, size=whole, rate=real)
everything = st.builds(
    Everything,
    whole=whole,
    real=real | st.integers(-(2**53), 2**53),
    flag=st.booleans(),
    text=st.text(),
    choice=st.sampled_from(["a", "b", 1]),
    maybe=st.none() | whole,
    number=whole | real,
    sizes=st.lists(whole),
    pair=st.tuples(st.text(), real),
    nested=st.lists(st.lists(real)),
    one=inner,
    many=st.lists(inner),
    either=st.none() | inner | st.builds(Other, text=st.text()),
    one_or_many=whole | st.lists(inner),
    device=st.sampled_from(["cpu", "cuda"]),
)
derived = st.builds(Derived, of=everything, among=st.lists(everything, max_size=2), steps=whole)
either = st.builds(Either, of=everything | derived)


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


@given(everything | derived | either)
def test_reads_back_equal(recipe: Recipe) -> None:
    back = Recipe.from_json(through_json(recipe.to_json()))
    assert back == recipe
    assert type(back) is type(recipe)
    assert back.to_json() == recipe.to_json()
    assert back.fingerprint() == recipe.fingerprint()
    assert hash(back) == hash(recipe)


@given(everything, everything)
def test_fingerprints_differ_exactly_when_recipes_do(a: Everything, b: Everything) -> None:
    a, b = dataclasses.replace(a, device="cpu"), dataclasses.replace(b, device="cpu")
    assert (a.fingerprint() == b.fingerprint()) == (a == b)


CHANGES: dict[str, Any] = {
    "whole": 4,
    "real": 0.25,
    "flag": True,
    "text": "t",
    "choice": "b",
    "maybe": 0,
    "number": 2,
    "sizes": (2, 1),
    "pair": ("y", 0.0),
    "nested": ((),),
    "one": Inner(size=5),
    "many": (Inner(),),
    "either": Inner(),
    "one_or_many": (),
}


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Everything)])
def test_every_field_counts_unless_it_is_cosmetic(name: str) -> None:
    changed = Everything(**{name: CHANGES.get(name, "cuda")})
    assert (changed.fingerprint() == Everything().fingerprint()) == (name == "device")


def test_a_change_deep_inside_counts() -> None:
    plain = Derived()
    for changed in (
        Derived(of=Everything(one=Inner(size=5))),
        Derived(of=Everything(many=(Inner(rate=0.2),))),
        Derived(among=(Everything(),)),
    ):
        assert changed.fingerprint() != plain.fingerprint()
    assert Derived(of=Everything(device="cuda")).fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Everything(real=1), Everything(real=1.0)),
        (Everything(real=-0.0), Everything(real=0)),
        (Everything(pair=["x", -0.0]), Everything(pair=("x", 0))),  # pyright: ignore[reportArgumentType]
        (Everything(sizes=[1, 2, 3]), Everything(sizes=(1, 2, 3))),  # pyright: ignore[reportArgumentType]
        (Everything(number=2), Everything(number=2.0)),
        (Everything(whole=3), Everything()),
        (Everything(text="é", whole=1), Everything(whole=1, text="\u00e9")),
    ],
)
def test_one_value_has_one_form(a: Everything, b: Everything) -> None:
    assert a == b
    assert a.fingerprint() == b.fingerprint()
    assert json.dumps(a.to_json()) == json.dumps(b.to_json())


def test_kinds_and_types_are_told_apart() -> None:
    assert Chosen(threads=1).fingerprint() != Derived(steps=1).fingerprint()
    assert Everything(maybe=0).fingerprint() != Everything(maybe=None).fingerprint()
    assert Everything(choice=1) != Everything(choice="a")


def test_field_order_and_new_fields_with_a_default_change_nothing() -> None:
    @dataclass(frozen=True)
    class Before(Spec):
        a: int = 1
        b: float = 2.0

    @dataclass(frozen=True)
    class Reordered(Spec):
        b: float = 2.0
        a: int = 1

    @dataclass(frozen=True)
    class Grown(Spec):
        a: int = 1
        new: tuple[int, ...] = ()
        b: float = 2.0

    for later in (Reordered, Grown):
        assert later(a=5).fingerprint() == Before(a=5).fingerprint()
        assert later().fingerprint() == Before().fingerprint()


def test_a_bumped_version_changes_the_name_here_and_above(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> list[str]:
        recipes = [Everything(), Everything(many=(Inner(),)), Derived(), Derived(of=Everything(whole=9)), Listed()]
        return [recipe.fingerprint() for recipe in recipes]

    before = names()
    monkeypatch.setattr(Inner, "version", 2)
    assert not set(names()) & set(before)


def test_auto_is_refused_until_it_is_resolved() -> None:
    for recipe in (Chosen(), Holder(), Holder(held=Chosen(threads=1), rest=(Chosen(),))):
        with pytest.raises(UsageError, match="threads is still 'auto'"):
            recipe.fingerprint()
        resolved = recipe.resolve()
        assert resolved.fingerprint() == resolved.resolve().fingerprint()
    assert Holder().resolve() == Holder(held=Chosen(threads=2))
    assert Holder().resolve().fingerprint() == Holder(held=Chosen(threads=2)).fingerprint()


def test_names_are_equal_in_every_process() -> None:
    code = "from etude.core.spec import Spec\nfrom dataclasses import dataclass\n" + (
        "@dataclass(frozen=True)\nclass A(Spec):\n a: int = 1\n b: str = 'x'\n c: tuple[float, ...] = ()\n"
        "print(A(a=2, b='é', c=(0.1, 1e300)).fingerprint())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": s},
        ).stdout
        for s in ("0", "1", "12345")
    }
    assert len(found) == 1
    assert len(found.pop().strip()) == 64


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"real": math.nan}, "real = nan is not a finite number"),
        ({"real": math.inf}, "real = inf is not a finite number"),
        ({"real": 10**400}, "is not a finite number"),
        ({"real": "0.5"}, "real = '0.5' is not a finite number"),
        ({"real": True}, "real = True is not a finite number"),
        ({"whole": True}, "whole = True is not a whole number"),
        ({"whole": 2.0}, "whole = 2.0 is not a whole number"),
        ({"whole": None}, "whole = None is not a whole number"),
        ({"flag": 1}, "flag = 1 is not true or false"),
        ({"text": 3}, "text = 3 is not text"),
        ({"text": b"x"}, "is not text"),
        ({"choice": "c"}, "choice = 'c' is not one of: a, b, 1"),
        ({"choice": True}, "choice = True is not one of: a, b, 1"),
        ({"choice": []}, "choice = [] is not one of"),
        ({"maybe": "x"}, "maybe = 'x' is not a whole number"),
        ({"sizes": 3}, "sizes = 3 is not a list"),
        ({"sizes": "12"}, "sizes = '12' is not a list"),
        ({"sizes": (1, math.nan)}, "sizes = nan is not a whole number"),
        ({"pair": ("x",)}, "pair = ('x',) needs 2 values"),
        ({"nested": ((1.0, "x"),)}, "nested = 'x' is not a finite number"),
        ({"one": Other()}, "is not Inner"),
        ({"one": {"size": 4}}, "is not Inner"),
        ({"many": (Other(),)}, "is not Inner"),
        ({"text": "two\nlines", "whole": "two\nlines"}, "whole"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        Everything(**fields)
    message = str(caught.value)
    assert named in message
    assert message.startswith("toy-everything.")
    assert "\n" not in message
    assert caught.value.exit_code == 2


@given(
    st.sampled_from([f.name for f in dataclasses.fields(Everything)]), st.none() | st.complex_numbers() | st.binary()
)
def test_no_value_gets_in_by_accident(name: str, value: Any) -> None:
    """A value is taken in a form that reads back equal, or it is refused; nothing else is raised."""
    try:
        recipe = Everything(**{name: value})
    except UsageError:
        return
    assert Recipe.from_json(through_json(recipe.to_json())) == recipe


def test_fields_that_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="width 5 does not divide into 2 heads"):
        Even(width=5)
    with pytest.raises(UsageError, match="3 heads"):
        dataclasses.replace(Even(), heads=3)


def edited(recipe: Recipe, **changes: Any) -> dict[str, Any]:
    return {**through_json(recipe.to_json()), **changes}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (edited(Everything(), version=7), "written as version 7 and this Etude has version 1"),
        ({"kind": "toy-everything"}, "written as version None"),
        (edited(Everything(), hight=3), "has no field 'hight'; it has: whole, real"),
        (edited(Derived(), of=edited(Chosen(threads=1))), "expected toy-everything, found toy-chosen"),
        (edited(Derived(), of=None), "expected the fields of toy-everything, found None"),
        (edited(Derived(), of=3), "expected the fields of toy-everything, found 3"),
        (edited(Everything(), one={"version": 2}), "Inner was written as version 2"),
        (edited(Everything(), either={"version": 1, "neither": 1}), "neither"),
        (edited(Everything(), whole="many"), "toy-everything.whole = 'many' is not a whole number"),
        (edited(Everything(), pair=["x"]), "needs 2 values"),
        ([], "expected the fields of"),
        ({"kind": "toy-everythin", "version": 1}, "did you mean 'toy-everything'?"),
        ({"kind": "zzz", "version": 1}, "unknown kind of run 'zzz'"),
        ({}, "unknown kind of run"),
    ],
)
def test_data_of_another_shape_is_refused(data: Any, words: str) -> None:
    with pytest.raises(EtudeError) as caught:
        Recipe.from_json(data)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_required_field_that_is_missing() -> None:
    @dataclass(frozen=True)
    class Needs(Spec):
        size: int

    with pytest.raises(DamagedError, match="size"):
        Needs.from_json({"version": 1})


def test_a_field_may_be_called_name_or_kind() -> None:
    @dataclass(frozen=True)
    class Labelled(Spec):
        name: str = "someone"
        kind: str = "some kind"

    with pytest.raises(UsageError, match=r"^Labelled\.name = 3 is not text"):
        Labelled(name=3)  # pyright: ignore[reportArgumentType]


def test_a_recipe_knows_its_id_and_its_inputs() -> None:
    first, second = Everything(whole=1), Everything(whole=2)
    recipe = Derived(of=first, among=(second, Derived(of=first)))
    assert recipe.id == f"toy-derived-{recipe.fingerprint()[:12]}"
    assert list(recipes_in(recipe)) == [first, second, Derived(of=first)]
    assert tuple(recipe.plan({})) == tuple(recipes_in(recipe))
    assert kind_named("toy-derived") is Derived


def test_auto_in_a_field_of_text_is_text():
    assert Worded("auto").fingerprint() != Worded().fingerprint()
    with pytest.raises(UsageError, match=r"toy-worded.precision is still 'auto'"):
        Worded(precision="auto").fingerprint()
