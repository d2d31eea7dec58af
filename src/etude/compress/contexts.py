"""What a number in a code responds to: the contexts where it is highest and lowest, and what foretells it."""

from __future__ import annotations

from typing import Any

import numpy as np

from etude.compress.recipes import Latents
from etude.text.tokenizers.live import Tokenizer


def responses(codes: np.ndarray, tokens: np.ndarray, recipe: Latents, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Return, for each latent, its top and bottom contexts and the share of its variance that simple facts foretell.

    Args:
        codes: [N, T, R], NaN where there is no token.
        tokens: [N, T].
        recipe: how many contexts, how far each reaches, how many latents.
        tokenizer: to show tokens.
    """
    return [_one(codes[..., r], tokens, r, recipe, tokenizer) for r in range(min(recipe.most, codes.shape[-1]))]


def _one(code: np.ndarray, tokens: np.ndarray, index: int, recipe: Latents, tokenizer: Tokenizer) -> dict[str, Any]:
    real = code[np.isfinite(code)]
    position = np.broadcast_to(np.arange(code.shape[1]), code.shape)
    before = np.concatenate([np.full_like(tokens[:, :1], -1), tokens[:, :-1]], axis=1)
    return {
        "latent": index,
        "mean": float(real.mean()),
        "spread": float(real.std()),
        "foretold_by": {
            "token": foretold(code, tokens),
            "previous_token": foretold(code, before),
            "position": foretold(code, position),
        },
        "top": _contexts(code, tokens, recipe, tokenizer, highest=True),
        "bottom": _contexts(code, tokens, recipe, tokenizer, highest=False),
    }


def foretold(code: np.ndarray, fact: np.ndarray) -> float | None:
    """Return the share of a latent's variance that a discrete fact foretells on windows it was not learned from.

    The guess is the fact's mean over the even windows; it is judged on the odd ones, about their own mean. A fact not
    seen before is guessed as the overall mean. Below 0 the guess is worse than none.

    Args:
        code: [N, T].
        fact: [N, T] whole numbers.
    """
    learn, judge = (slice(0, None, 2), slice(1, None, 2))
    seen, value = fact[learn][np.isfinite(code[learn])], code[learn][np.isfinite(code[learn])]
    kinds, where = np.unique(seen, return_inverse=True)
    if len(value) == 0 or not np.isfinite(code[judge]).any():
        return None
    overall = value.mean()
    # Shrunk towards the overall mean by two pseudo-counts: a kind seen once says little.
    means = (np.bincount(where, value) + 2 * overall) / (np.bincount(where) + 2)
    asked, truth = fact[judge][np.isfinite(code[judge])], code[judge][np.isfinite(code[judge])]
    at = np.clip(np.searchsorted(kinds, asked), 0, len(kinds) - 1)
    guess = np.where(kinds[at] == asked, means[at], overall)
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - guess) ** 2).sum()) / total if total > 0 else None


def _contexts(
    code: np.ndarray, tokens: np.ndarray, recipe: Latents, tokenizer: Tokenizer, *, highest: bool
) -> list[dict[str, Any]]:
    """Return the contexts at one end, at most one from each window, so that one passage does not fill the list."""
    signed = np.where(np.isfinite(code), code if highest else -code, -np.inf)
    best = signed.argmax(1)
    order = np.argsort(-signed.max(1), kind="stable")[: recipe.contexts]
    found = []
    for window in order:
        at = int(best[window])
        # One token follows the last that foretells another; what follows that is padding.
        text = tokens[window, : int(np.flatnonzero(np.isfinite(code[window]))[-1]) + 2]
        pieces = [tokenizer.piece(int(t)) for t in text]
        found.append(
            {
                "value": float(code[window, at]),
                "before": pieces[max(0, at - recipe.reach) : at],
                "token": pieces[at],
                "after": pieces[at + 1 : at + 1 + recipe.reach],
                "position": at,
            }
        )
    return found
