"""Reads `NAME [--field value ...]`, which `run` and `plan` share: which recipe is meant, with what in its fields."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import UnknownOptionError

from etude.cli.complaints import help_style, nearest_flag
from etude.cli.describe import documentation, is_study, paragraphs, presets_of
from etude.cli.fields import flag_of, path_of_flag
from etude.cli.leaves import Asked, Branch, grow, name_of, parameters, scan
from etude.core.errors import UsageError, unknown
from etude.core.family import Family
from etude.core.lab import Lab
from etude.core.recipe import Recipe, kinds
from etude.core.shelf import Shelf, recipe_from_file
from etude.core.spec import field_types, label

HELP = {"--help", "-h"}
OPTIONS = Group("Options", sort_key=1000)  # after the fields
Options = Mapping[str, inspect.Parameter]


def carry_out(verb: str, words: Sequence[str], act: Callable[..., None]) -> None:
    """Read the words after `run` or `plan`, and call `act(recipe, **options)`; or show help.

    Args:
        verb: for messages.
        words: the name of a recipe or study, or a run or recipe's file, and flags.
        act: takes the recipe and, as keyword parameters, the verb's own options, `runs` and `preset` among them.

    Raises:
        UsageError: there is no such recipe, or its fields refuse the values.
    """
    options = options_of(act)
    name, rest = _split(verb, words, options)
    if name is None:
        _help_without_name(verb, act, options)
        return
    said = scan(rest)
    root = Lab(said.get(("runs",)) or None).root
    cls, base = _subject(name, said.get(("preset",)), root)

    def find(word: str, wanted: type[Recipe], flag: str) -> Recipe | type[Recipe]:
        return _find(word, wanted, flag, root)

    branch = grow(cls, base, Asked(said, find))
    paths = {name_of(field.path): field.path for field in branch.leaves()}

    def command(**given: Any) -> None:
        recipe = branch.build({paths[key]: value for key, value in given.items() if key in paths})
        act(recipe, **{key: value for key, value in given.items() if key not in paths})

    command.__signature__ = inspect.Signature([*options.values(), *parameters(branch, find)])
    app = app_named(f"etude {verb} {name}", documentation(cls) + _presets_line(cls))
    app.default(command)
    try:
        app([with_dashes(word) for word in rest], exit_on_error=False, print_error=False)
    except UnknownOptionError as error:
        flag = error.token.keyword or error.token.value
        raise unknown_flag(flag, branch, options, f"etude {verb} {name}") from None


def recipe_named(word: str, root: Path) -> Recipe | None:
    """Return the recipe of a `recipe.json`, of a folder that holds one or of a run; None where there is none.

    Args:
        word: a path, from here or from the folder of runs, or a run's id, the start of one, or its name.
        root: the folder of runs.

    Raises:
        UsageError: several runs begin so.
        DamagedError: the recipe cannot be read.
    """
    for path in (Path(word), root / word):
        file = path / "recipe.json" if path.is_dir() else path
        if file.is_file():
            return recipe_from_file(file)
    shelf = Shelf(root)
    # A start must reach into the fingerprint: `compres` is a slip of the pen, not the start of `compress-8ee1`.
    begun = any(run.id.startswith(word) and len(word) > run.id.rfind("-") + 1 for run in shelf)
    return shelf.find(word).recipe if begun or word in shelf.names() else None


def _find(word: str, wanted: type[Recipe], flag: str, root: Path) -> Recipe | type[Recipe]:
    """Return the recipe, or kind of recipe, that a word after a flag names."""
    found = kinds().get(word) or recipe_named(word, root)
    fitting = [name for name, kind in kinds().items() if issubclass(kind, wanted)]
    if found is None:
        shelf = Shelf(root)
        ids = [run.id for run in shelf if run.recipe_data.get("kind") in fitting]
        raise unknown(f"run for {flag}", word, [*ids, *shelf.names(), *fitting], see="etude runs")
    cls = found if isinstance(found, type) else type(found)
    if not issubclass(cls, wanted):
        raise UsageError(f"{flag} {word!r} is a {label(cls)}, and it takes: {', '.join(sorted(fitting))}")
    return found


def _subject(name: str, preset: str | None, root: Path) -> tuple[type[Recipe], Recipe | None]:
    """Return the class of the recipe that NAME means, and what to start from where that is not its defaults."""
    cls = kinds().get(name)
    if cls is None:
        recipe = recipe_named(name, root)
        if recipe is None:
            raise unknown("recipe or study", name, kinds(), see="etude list")
        if preset:
            raise UsageError(f"--preset {preset} goes with a study's name, and {name} has values of its own")
        return type(recipe), recipe
    if preset is None:
        return cls, None
    named = presets_of(cls)
    if preset not in named:
        raise unknown(f"preset of {name}", preset, named, see=f"etude show {name}")
    return cls, named[preset]


def options_of(act: Callable[..., None]) -> Options:
    """Return the verb's own options: the keyword-only parameters of what it calls."""
    hints = typing.get_type_hints(act, include_extras=True)
    own = [p for p in inspect.signature(act).parameters.values() if p.kind is p.KEYWORD_ONLY]
    grouped = {p.name: typing.Annotated[hints[p.name], Parameter(group=OPTIONS)] for p in own}
    return {p.name: p.replace(annotation=grouped[p.name]) for p in own}


def _takes_word(options: Options) -> dict[str, bool]:
    """Return the verb's own flags, and whether a word follows each."""
    found = {}
    for name, parameter in options.items():
        kind, *notes = typing.get_args(parameter.annotation)
        names = [n for note in notes if isinstance(note, Parameter) for n in note.name or ()] or [flag_of((name,))]
        found |= dict.fromkeys(names, kind is not bool)
    return found


def _split(verb: str, words: Sequence[str], options: Options) -> tuple[str | None, list[str]]:
    """Return the name among the words and the other words; None for the name where only help is wanted.

    Raises:
        UsageError: there is no name, or a field's flag stands before it.
    """
    takes_word, skip = _takes_word(options), False
    for at, word in enumerate(words):
        if skip:
            skip = False
        elif not word.startswith("-"):
            return word, [*words[:at], *words[at + 1 :]]
        elif word in HELP:
            return None, []
        elif word.partition("=")[0] not in takes_word:
            raise UsageError(
                f"{word} stands before a name: write etude {verb} NAME first, then {word}. See: etude list"
            )
        else:
            skip = takes_word[word.partition("=")[0]] and "=" not in word
    raise UsageError(f"nothing to {verb}: write etude {verb} NAME, the name of a recipe or study. See: etude list")


def _help_without_name(verb: str, act: Callable[..., None], options: Options) -> None:
    studies = sorted(name for name, kind in kinds().items() if is_study(kind))
    others = sorted(name for name, kind in kinds().items() if not is_study(kind))
    text = (
        f"{paragraphs(act.__doc__ or '')}\n\nNAME is a study ({', '.join(studies) or 'none yet'}), a recipe"
        f" ({', '.join(others)}), or a run or a recipe.json, which is then made again.\n\n`etude {verb} NAME --help`"
        " lists the fields of each."
    )

    def command(**_: Any) -> None: ...

    command.__signature__ = inspect.Signature(list(options.values()))
    app = app_named(f"etude {verb} NAME", text)
    app.default(command)
    app(["--help"], exit_on_error=False, print_error=False)


def app_named(name: str, text: str) -> App:
    """Return what reads the words of one command whose flags are known only now."""
    app = App(
        name,
        help=text,
        help_format="plaintext",
        version_flags=[],
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        **help_style(),
    )
    app["--help"].group = OPTIONS
    return app


def _presets_line(cls: type[Recipe]) -> str:
    named = presets_of(cls)
    return f"\n\nPresets: {', '.join(named)}." if named else ""


def with_dashes(word: str) -> str:
    """Write a flag's name with dashes, so that `--fit_tokens` is `--fit-tokens`."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def unknown_flag(word: str, branch: Branch, options: Options, place: str) -> UsageError:
    """Return the error for a flag that is no leaf here.

    Args:
        word: the flag.
        branch: the fields that there are.
        options: the verb's own.
        place: the command, for the message.
    """
    *above, last = path_of_flag(word)
    here = branch.at((*above, last))
    if here:
        leaves = [field.flag for field in here.leaves()]
        return UsageError(f"{flag_of(here.path)} is set through its fields: {', '.join(leaves)}")
    holder, parent = branch.at(tuple(above[:-1])), branch.at(tuple(above))
    if above and holder and parent and (family := holder.fields[above[-1]].family):
        return _not_of_member(last, parent, family)
    flags = [*_takes_word(options), *(field.flag for field in branch.leaves())]
    return UsageError(f"unknown flag {word.partition('=')[0]}{nearest_flag(word, flags)} See: {place} --help")


def _not_of_member(name: str, chosen: Branch, family: Family) -> UsageError:
    """Return the error for a field that the chosen member has not, and others may have."""
    flag, owners = flag_of(chosen.path), [member.name for member in family if name in field_types(member)]
    instead = f"; {name} belongs to {', '.join(owners)} (as in {flag} {owners[0]})" if owners else ""
    names = ", ".join(field_types(chosen.cls)) or "none"
    return UsageError(
        f"unknown flag {flag_of((*chosen.path, name))}: the {family.noun} chosen is {label(chosen.cls)}, whose fields"
        f" are: {names}{instead}"
    )
