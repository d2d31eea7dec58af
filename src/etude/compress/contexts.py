"""What a unit of a code responds to: the contexts where it is highest, lowest and between, and what foretells it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from etude.compress.predictors import facts_of, guessed
from etude.compress.recipes import Latents
from etude.compress.units import NUMBER, Units, rates, variances
from etude.core.seeds import stream
from etude.evals.token_classes import TokenClasses
from etude.text.tokenizers.live import Tokenizer

End = Literal["top", "middle", "bottom"]
ENDS: tuple[End, ...] = ("top", "middle", "bottom")


def responses(
    units: Units, tokens: Int[np.ndarray, "N T"], classes: TokenClasses, recipe: Latents, tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """Return, for each unit that is shown, its contexts and the share of its variance that simple facts foretell. Shown
    are those of the greatest variance; of a codebook, the entries that are used most.

    Args:
        units: what each does at each token.
        tokens: the text.
        classes: of the tokens.
        recipe: how many contexts, how far each reaches, how many units.
        tokenizer: to show tokens.
    """
    rate, variance = rates(units), variances(units)
    whole = variance.sum()
    shown = np.argsort(-(rate if units.discrete else variance), kind="stable")[: recipe.most]
    found = []
    for unit in shown:
        code = units.values[..., unit]
        said = {"latent": int(unit), "name": units.names[unit], "rate": float(rate[unit])}
        said["share"] = float(variance[unit] / whole) if whole > 0 else None
        ends: dict[str, Any] = {end: contexts(code, tokens, recipe, tokenizer, end) for end in ENDS}
        if units.entry[unit] != NUMBER:  # where an entry is used it is 1 throughout, and elsewhere another is
            ends |= {"middle": [], "bottom": []}
        found.append({**said, **_numbers(code, tokens, classes), **ends})
    return found


def _numbers(code: np.ndarray, tokens: np.ndarray, classes: TokenClasses) -> dict[str, Any]:
    real = code[np.isfinite(code)].astype(np.float64)
    facts = facts_of(tokens, classes)
    controls = {"drawn_class": foretold(code, drawn_classes(classes)[tokens]), "shuffled": _shuffled(code, tokens)}
    return {
        "mean": float(real.mean()),
        "spread": float(real.std()),
        "foretold_by": {name: foretold(code, fact) for name, fact in facts.items()},
        "controls": controls,
    }


def drawn_classes(classes: TokenClasses) -> Int[np.ndarray, " V"]:
    """Return classes dealt out anew among the types of token, as many of each: a control for what a class foretells
    because it is a few frequent tokens (Hewitt and Liang 2019, section 2)."""
    return np.random.Generator(np.random.PCG64(stream(0, "classes"))).permutation(classes.of)


def _shuffled(code: np.ndarray, tokens: np.ndarray) -> float | None:
    """Return what the token foretells of the same activity in another order over the tokens: nothing but chance."""
    seen = np.isfinite(code)
    other = code.copy()
    other[seen] = np.random.Generator(np.random.PCG64(stream(0, "order"))).permutation(code[seen])
    return foretold(other, tokens)


def foretold(code: Float[np.ndarray, "N T"], fact: Int[np.ndarray, "N T"]) -> float | None:
    """Return the share of a unit's variance that a discrete fact foretells on windows it was not learned from.

    The guess is the fact's mean over the even windows; it is judged on the odd ones, about their own mean. A fact not
    seen before is guessed as the overall mean. Below 0 the guess is worse than none.

    Args:
        code: what the unit does, NaN where there is no token.
        fact: whole numbers.
    """
    learn, judge = (slice(0, None, 2), slice(1, None, 2))
    seen, asked = np.isfinite(code[learn]), np.isfinite(code[judge])
    value, truth = code[learn][seen].astype(np.float64), code[judge][asked].astype(np.float64)
    if not len(value) or not len(truth):
        return None
    guess = guessed(fact[learn][seen], value[:, None], fact[judge][asked])[:, 0]
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - guess) ** 2).sum()) / total if total > 0 else None


def contexts(
    code: Float[np.ndarray, "N T"], tokens: Int[np.ndarray, "N T"], recipe: Latents, tokenizer: Tokenizer, end: End
) -> list[dict[str, Any]]:
    """Return contexts of a unit, at most one from each window, so that one passage does not fill the list: where it is
    highest, where it is lowest, and where it is nearest to its median, over the tokens at which it is not 0. Which of
    equal ones are shown is drawn, so that it is not always the first of the text.
    """
    wanted = _wanted(code, end).ravel()
    ties = np.random.Generator(np.random.PCG64(stream(0, "ties"))).random(wanted.shape)
    order = np.lexsort((ties, -wanted))
    order = order[wanted[order] > -np.inf]
    window = order // code.shape[1]
    first = np.sort(np.unique(window, return_index=True)[1])[: recipe.contexts]
    return [_shown(code, tokens, *divmod(int(order[at]), code.shape[1]), recipe, tokenizer) for at in first]


def _wanted(code: np.ndarray, end: End) -> np.ndarray:
    """Return how much each token is wanted, -inf where there is none."""
    seen = np.isfinite(code)
    if end != "middle":
        return np.where(seen, code if end == "top" else -code, -np.inf)
    acts = seen & (code != 0)
    return np.where(acts, -np.abs(code - np.median(code[acts])), -np.inf) if acts.any() else np.where(acts, 0, -np.inf)


def _shown(
    code: np.ndarray, tokens: np.ndarray, window: int, at: int, recipe: Latents, tokenizer: Tokenizer
) -> dict[str, Any]:
    # One token follows the last that foretells another; what follows that is padding.
    text = tokens[window, : int(np.flatnonzero(np.isfinite(code[window]))[-1]) + 2]
    pieces = [tokenizer.piece(int(t)) for t in text]
    return {
        "value": float(code[window, at]),
        "before": pieces[max(0, at - recipe.reach) : at],
        "token": pieces[at],
        "after": pieces[at + 1 : at + 1 + recipe.reach],
        "position": at,
    }
