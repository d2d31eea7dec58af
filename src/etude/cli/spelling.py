"""A recipe as the command line that makes it: the way back from `leaves`."""

from __future__ import annotations

import shlex

from etude.cli.describe import presets_of
from etude.cli.fields import MISSING, Path, fields_of, negative_of
from etude.core.recipe import Recipe
from etude.core.spec import Spec, label


def command_for(recipe: Recipe) -> str:
    """Return what to type to do a recipe, begun at the preset that leaves the least to say."""
    ways = [spell(recipe)]
    ways += [["--preset", name, *spell(recipe, preset)] for name, preset in presets_of(type(recipe)).items()]
    return shlex.join(["etude", "run", recipe.kind, *min(ways, key=len)])


def spell(spec: Spec, base: Spec | None = None, path: Path = (), *, inputs: bool = True) -> list[str]:
    """Return the words of a command line that make a spec out of `base`, or out of its class's defaults.

    Args:
        spec: what to spell.
        base: what the words start from.
        path: of the field that holds the spec.
        inputs: whether to spell the recipes inside too.

    Not covered: what the command line does not cover, and texts with commas in tuples of texts.
    """
    words: list[str] = []
    for field in fields_of(type(spec), base, path):
        value = getattr(spec, field.path[-1])
        if (field.default is not MISSING and value == field.default) or (field.recipe and not inputs):
            continue
        if isinstance(value, Spec):
            default = field.default if isinstance(field.default, Spec) else None
            start = default if type(value) is type(default) else None
            words += [field.flag, label(type(value))] if start is None and field.shape else []
            words += spell(value, start, field.path, inputs=inputs)
        elif field.shape == "flag":
            words.append(field.flag if value else negative_of(field.flag))
        elif field.shape:
            text = field.written(value)
            words += [f"{field.flag}={text}"] if not text or text.startswith("-") else [field.flag, text]
    return words
