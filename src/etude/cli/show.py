"""`etude show`: one thing in full, be it a run, a study, a kind of recipe, a family or one of its members."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from cyclopts import App, Parameter

from etude.cli.console import AsJson, RunsFolder, near, say, say_json, say_table
from etude.cli.describe import documentation, path_of, presets_of, summary
from etude.cli.fields import MISSING, fields_of
from etude.cli.results import aligned, flattened
from etude.cli.spelling import command_for, spell
from etude.core.errors import EtudeError, UsageError
from etude.core.family import Member, families
from etude.core.files import bytes_of
from etude.core.lab import Lab
from etude.core.recipe import Recipe, kinds
from etude.core.run import Run
from etude.core.shelf import Shelf
from etude.core.spec import Spec, label

command = App("show", version_flags=[])


@command.default
def show(
    what: Annotated[str, Parameter(help="a run, study, kind of recipe, family, or member as in compress/methods/pca.")],
    /,
    *,
    sites: Annotated[
        bool, Parameter(name="--sites", negative=(), show_default=False, help="what can be looked at in a model's run.")
    ] = False,
    json: AsJson = False,
    runs: RunsFolder = None,
) -> None:
    """Show one thing in full: what a run was made from and what came out, or what a study, recipe or member takes."""
    shelf = Shelf(Lab(runs).root)
    if sites:
        _show_sites(shelf.find(what), json=json)
        return
    cls = _named(what)
    if cls is not None:
        (_say_json_of if json else _say_class)(cls)
        return
    run = _run_named(what, shelf)
    if json:
        say_json(_run_data(run, shelf))
    else:
        _say_run(run, shelf)


def _named(what: str) -> type[Spec] | None:
    """Return the kind, family's base or member of a name, or None where it may be a run's."""
    every = kinds()
    if what in every:
        return every[what]
    houses = families()
    if what in houses:
        return houses[what].base()
    found = [f for f in houses.values() if what in (f"{f.path}/{name}" for name in f.names())]
    found = found or [f for f in houses.values() if what in f.names()]
    if len(found) > 1:
        paths = ", ".join(f"{family.path}/{what}" for family in found)
        raise UsageError(f"{what!r} is in {len(found)} families: write {paths}")
    return found[0].member(what.rpartition("/")[2]) if found else None


def _run_named(what: str, shelf: Shelf) -> Run:
    """Return a run, or raise the error that knows everything that could have been meant."""
    try:
        return shelf.find(what)
    except UsageError as error:
        if not str(error).startswith("unknown run"):
            raise
    members = [f"{family.path}/{name}" for family in families().values() for name in family.names()]
    known = [*kinds(), *families(), *members, *(m.rpartition("/")[2] for m in members), *shelf.names()]
    known += [run.id for run in shelf]
    alike = difflib.get_close_matches(what, known, n=1, cutoff=0.5)
    hint = f" did you mean {alike[0]!r}?" if alike else ""
    raise UsageError(
        f"unknown name {what!r}:{hint} There are {len(list(shelf))} runs (etude runs), {len(kinds())} recipes and"
        f" {len(members)} members of families (etude list)"
    )


def _say_class(cls: type[Spec]) -> None:
    """Print what a study, recipe, family or member is and takes."""
    if issubclass(cls, Member) and not issubclass(cls, Recipe):
        say(path_of(cls).removesuffix(f"/{cls.name}") if _is_family(cls) else path_of(cls))
    else:
        say(label(cls))
    say()
    say(documentation(cls))
    if _is_family(cls) and issubclass(cls, Member):
        say()
        for line in aligned([(m.name, summary(m)) for m in _members(cls)]):
            say(line)
    _say_fields(cls)
    if issubclass(cls, Recipe):
        for name, preset in presets_of(cls).items():
            say()
            say(f"Preset {name}: etude run {cls.kind} --preset {name}")
            _say_words(preset)


def _say_fields(cls: type[Spec]) -> None:
    fields = [
        (field.flag if issubclass(cls, Recipe) else field.path[-1], field.help) for field in fields_of(cls, None, ())
    ]
    if fields:
        say()
        for line in aligned(fields):
            say(line)


def _say_words(spec: Spec) -> None:
    """Print in what a preset differs from the defaults, a flag a line."""
    words = spell(spec)
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            say(f"  {word}" + (f" {after}" if after and not after.startswith("--") else ""))


def _say_json_of(cls: type[Spec]) -> None:
    fields = {
        field.path[-1]: {"about": field.about, "default": _plain(field.default), "required": field.default is MISSING}
        for field in fields_of(cls, None, ())
    }
    answer: dict[str, Any] = {"name": label(cls), "about": documentation(cls), "fields": fields}
    if _is_family(cls) and issubclass(cls, Member):
        answer["members"] = {member.name: summary(member) for member in _members(cls)}
    if issubclass(cls, Recipe):
        answer["presets"] = {name: preset.to_json() for name, preset in presets_of(cls).items()}
    say_json(answer)


def _is_family(cls: type[Spec]) -> bool:
    return any(family.base() is cls for family in families().values())


def _members(base: type[Member]) -> list[type[Member]]:
    return next(list(family) for family in families().values() if family.base() is base)


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.to_json()
    return None if value is MISSING else value


def _say_run(run: Run, shelf: Shelf) -> None:
    """Print a run: how to make it again, what came out, where it came from, what rests on it."""
    data = _run_data(run, shelf)
    say(run.id + (f" ({', '.join(data['names'])})" if data["names"] else ""))
    say(data["command"] or "its recipe is of another version of Etude, and is only in its recipe.json")
    _say_block("result", flattened(run.result))
    _say_block("came from", _origin(run))
    _say_block("made from", [(name, "" if (shelf.root / name).exists() else "not here") for name in data["inputs"]])
    _say_block("what rests on it", [(name, "") for name in data["users"]])
    _say_block(f"files in {near(run.path)}", [(name, bytes_of(f["bytes"])) for name, f in sorted(run.files.items())])


def _say_block(title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        say()
        say(title)
        for line in aligned(rows):
            say(f"  {line.rstrip()}")


def _origin(run: Run) -> list[tuple[str, str]]:
    facts = {key: value for key, value in run.provenance.items() if key not in ("inputs", "timing")}
    return [*flattened(facts), *flattened({**run.provenance.get("timing", {}), **run.result.get("timing", {})})]


def _run_data(run: Run, shelf: Shelf) -> dict[str, Any]:
    try:
        command = command_for(run.recipe)
    except EtudeError:  # of a class that has changed since
        command = None
    return {
        "id": run.id,
        "path": near(run.path),
        "names": [name for name, target in shelf.names().items() if target == run.id],
        "command": command,
        "recipe": run.recipe_data,
        "result": run.result,
        "provenance": run.provenance,
        "inputs": run.inputs,
        "users": shelf.users(run.id),
        "files": run.files,
    }


def _show_sites(run: Run, *, json: bool) -> None:
    """Print what can be looked at in a model's run, with shapes."""
    from etude.models.load import load  # with PyTorch

    model, _ = load(run)
    found = {str(site): " ".join(map(str, shape)) for site, shape in model.sites().items()}
    if json:
        say_json(found)
    else:
        say_table(["site", "shape"], [[site, shape] for site, shape in found.items()])
