"""A recipe's fields as flags: what there is, what is chosen, and that any recipe can be spelled."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import etude
from etude.cli.fields import fields_of
from etude.cli.run import run
from etude.cli.spelling import command_for, spell
from etude.cli.subject import HELP, _takes_word, carry_out, options_of
from etude.compress.methods.pca import Pca
from etude.compress.recipes import Compress, Latents
from etude.core.errors import UsageError
from etude.core.family import Family, families, family_of, is_base, member
from etude.core.recipe import _KINDS, Recipe, kinds
from etude.core.spec import Spec, field_types
from etude.train.recipes import At, Train

HEAD = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom etude.{} import {}\n"
TOY = HEAD.format("games.toys.base", "Toy") + "@dataclass(frozen=True)\n"
FILES = {
    "games/__init__.py": "",
    "games/toys/__init__.py": '"""Family of toys."""',
    "games/toys/base.py": HEAD.format("core.family", "Member") + "@dataclass(frozen=True)\nclass Toy(Member): ...",
    "games/toys/ball.py": TOY + "class Ball(Toy):\n    radius: float = 1.0",
    "games/toys/toy_box.py": TOY
    + "class Box(Toy):\n    inside: Toy | None = None\n    lid: bool = True\n    sides: tuple[int, ...] = (1, 2, 3)",
}


@dataclass(frozen=True)
class Paint(Spec):
    """Colour.

    Attributes:
        colour: what it looks
            like.
        coats: how often.
    """

    colour: Literal["red", "blue"] = "red"
    coats: int | None = None
    glossy: bool = False


@dataclass(frozen=True)
class Gift(Recipe, kind="toy-gift", does=f"{__name__}:wrap"):
    """A toy, painted.

    Attributes:
        to: who gets it.
    """

    to: str
    paint: Paint = field(default_factory=Paint)
    second: Paint | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shelf(Recipe, kind="toy-shelf", does=f"{__name__}:wrap"):
    """Gifts in a row."""

    of: Gift
    others: tuple[Gift, ...] = ()
    like: Recipe | None = None


def wrap(*_: Any) -> dict[str, Any]:
    return {}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Recipe]]:
    """A family beside the house's, and a recipe with a field of it."""
    for path, source in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    monkeypatch.setattr(etude, "__path__", [*etude.__path__, str(tmp_path)])
    families.cache_clear()
    toy = Family("games/toys").base()
    ball = Family("games/toys").member("ball")
    spaces = {"__annotations__": {"toy": toy, "any": toy | None}, "toy": field(default_factory=ball), "any": None}
    with without_new_kinds():
        play = dataclass(frozen=True)(type("Play", (Recipe,), {**spaces, "__module__": __name__}, kind="toy-play"))
        yield play
    families.cache_clear()
    for name in [name for name in sys.modules if name.startswith("etude.games")]:
        del sys.modules[name]


@contextlib.contextmanager
def without_new_kinds() -> Iterator[None]:
    before = dict(_KINDS)
    yield
    _KINDS.clear()
    _KINDS.update(before)


def asked(*words: str) -> Any:
    """Return the recipe that words after `etude plan` mean."""
    found: list[Recipe] = []

    def act(recipe: Recipe, *, preset: str | None = None, runs: str | None = None) -> None:
        found.append(recipe)

    carry_out("plan", words, act)
    return found[0]


def refused(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        asked(*words)
    return str(caught.value)


def test_plain_fields_nest():
    words = [
        "toy-gift",
        "--to",
        "me",
        "--paint.colour=blue",
        "--paint.coats",
        "2",
        "--paint.glossy",
        "--notes",
        "a",
        "b,c",
    ]
    assert asked(*words) == Gift("me", Paint("blue", 2, True), None, ("a", "b", "c"))
    assert asked("toy-gift", "--to=me", "--no-paint.glossy", "--paint.coats", "none") == Gift("me")
    assert asked("toy-gift", "--to", "me", "--second.coats", "1").second == Paint(coats=1)
    assert asked("toy-gift", "--to=-me", "--notes=") == Gift("-me")


def test_a_field_may_be_written_as_in_python():
    assert asked("train", "--evaluate_every", "5", "--model.norm_at=post").model.norm_at == "post"


def test_help_comes_from_the_docstring():
    helps = {f.flag: f.help for f in fields_of(Paint, None, ())}
    assert helps["--colour"] == "what it looks like. One of: red, blue. [red]"
    assert helps["--coats"] == "how often. [none]"
    assert next(f.help for f in fields_of(Gift, None, ())) == "who gets it. Required."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("toy-gift", "toy-gift needs --to: who gets it."),
        ("toy-gift --to me --paint.coluor red", "unknown flag --paint.coluor: did you mean --paint.colour?"),
        ("toy-gift --to me --colour red", "unknown flag --colour: did you mean --paint.colour? See: etude plan"),
        ("toy-gift --to me --paint red", "--paint is set through its fields: --paint.colour, --paint.coats, --pa"),
        ("toy-gift --to me --paint.colour rde", "unknown --paint.colour 'rde': did you mean 'red'? There are: blue"),
        ("toy-gift --to me --paint.coats 1.5", "--paint.coats '1.5' is not a whole number"),
        ("toy-shelf", "toy-shelf needs --of: A run, by id or name; or toy-gift."),
        ("toy-shelf --of toy-gift", "toy-gift needs --of.to: who gets it."),
        ("toy-shelf --of train", "--of 'train' is a train, and it takes: toy-gift"),
        ("toy-shelf --of.to me --like.steps 3", "--like is not chosen, so that nothing can be set below it."),
        ("train --model.width 130", "width = 130 is not divisible by heads = 4"),
        ("compress --of train --method pac", "unknown method 'pac': did you mean 'pca'?"),
        (
            "compress --method.latent 3",
            "the method chosen is pca, whose fields are: dimensions; latent belongs to autoencoder, beta-vae,",
        ),
        ("compress --of trian", "unknown run for --of 'trian': did you mean 'train'?"),
    ],
)
def test_what_cannot_be_is_said(here, words, message):
    assert message in refused(*words.split())


def test_a_member_and_its_fields_come_in_any_order(toys):
    box, ball = partial(member, "games/toys", "toy-box"), partial(member, "games/toys", "ball")
    words = [("--toy", "toy-box"), ("--toy.inside", "ball"), ("--toy.inside.radius", "2"), ("--toy.sides=4,5",)]
    wanted = toys(toy=box(inside=ball(radius=2.0), sides=(4, 5)))
    for order in (words, words[::-1], words[2:] + words[:2]):
        assert asked("toy-play", *(word for pair in order for word in pair)) == wanted
    assert asked("toy-play", "--toy=toy-box", "--no-toy.lid").toy == box(lid=False)
    assert asked("toy-play", "--any", "none").any is None
    assert asked("toy-play", "--toy", "ball") == toys()


def test_a_flag_of_another_member_names_the_one_that_is_chosen(toys):
    expected = "the toy chosen is ball, whose fields are: radius; lid belongs to toy-box (as in --toy toy-box)"
    assert expected in refused("toy-play", "--toy.lid")
    assert "the toy chosen is toy-box, whose fields are: inside, lid, sides" in refused(
        "toy-play", "--toy.radius", "3", "--toy", "toy-box"
    )
    assert refused("toy-play", "--any.radius", "3") == (
        "--any is not chosen, so that nothing can be set below it. One of: ball, toy-box"
    )


def test_a_run_stands_for_its_recipe(etude, here):
    (here / "other").mkdir()
    recipe = At(Train(steps=7, keep_every=1), 3)
    (here / "other" / "recipe.json").write_text(json.dumps(recipe.to_json()))
    for word in ("other", "other/recipe.json"):
        found = asked("compress", "--of", word, "--method.dimensions", "4")
        assert found == Compress(recipe, method=Pca(4))
    assert asked("compress", "--of", "other", "--of.of.steps", "9").of == At(Train(steps=9, keep_every=1), 3)
    assert asked("other", "--step", "2") == At(Train(steps=7, keep_every=1), 2)
    assert "--of 'other' is a at" in refused("latents", "--of", "other")
    assert "goes with a study's name" in refused("other", "--preset", "x")


def test_several_runs_stand_for_a_tuple(here):
    (here / "gift.json").write_text(json.dumps(Gift("me").to_json()))
    assert asked("toy-shelf", "--of.to", "you", "--others", "gift.json").others == (Gift("me"),)


def test_presets_are_where_the_flags_start():
    study = kinds()["progress-report"]
    quick = study.presets()["quick"]  # type: ignore[attr-defined]
    found = asked("progress-report", "--preset", "quick", "--train.steps", "3", "--sizes", "1", "5")
    assert found == dataclasses.replace(quick, train=dataclasses.replace(quick.train, steps=3), sizes=(1, 5))
    assert command_for(quick) == "etude run progress-report --preset quick"


def test_help_shows_the_chosen_members_fields(etude):
    shown = etude("run", "compress", "--method", "infovae", "--help").out
    assert "--method.latent INT: how many numbers. [20]" in shown
    assert "--method.dimensions" not in shown
    assert "One of: activation-svd, autoencoder, beta-vae" in shown


def test_no_field_hides_an_option_of_run():
    options = set(_takes_word(options_of(run))) | HELP
    for kind in (kind for kind in kinds().values() if kind.__module__.startswith("etude.")):  # no other test's toys
        assert not options & {f.flag for f in fields_of(kind, None, ())}, kind


# any recipe can be spelled, and the words mean it again

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@functools.cache
def values_of(hint: Any) -> st.SearchStrategy[Any]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple:
        return st.lists(values_of(inner[0]), max_size=3).map(tuple)
    if type(None) in inner:
        return st.none()  # a run of another recipe, which words can only name
    if isinstance(hint, type) and issubclass(hint, Spec):
        return specs(hint)
    plain = {int: st.integers(0, 2000), float: st.floats(0, 1), bool: st.booleans(), str: WORDS}
    return plain[hint]


@functools.cache
def specs(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Every spec of a class, or of any member where it is a family's base; those that refuse their values left out."""
    if is_base(cls):
        return st.one_of([specs(member) for member in family_of(cls)])
    if issubclass(cls, Recipe) and not cls.kind:
        return specs(Train) | specs(At)

    @st.composite
    def made(draw: st.DrawFn) -> Any:
        changed = draw(st.sets(st.sampled_from(list(field_types(cls))), max_size=4)) if field_types(cls) else set()
        needed = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING}
        chosen = {name: draw(values_of(field_types(cls)[name])) for name in sorted(changed | needed)}
        try:
            return cls(**chosen)
        except UsageError:
            assume(False)

    return made()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.one_of(specs(Train), specs(At), specs(Compress), specs(Latents)))
def test_any_recipe_can_be_spelled(recipe):
    assert asked(recipe.kind, *spell(recipe)) == recipe
