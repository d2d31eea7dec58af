"""Classifiers that give texts a probability of being toxic: a linear one on word counts, and a trained encoder."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from etude.core.errors import DamagedError, UsageError
from etude.core.files import read_json, write_json
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.judge_recipes import Judge

FEATURES = "features.json"
"""The words and stretches of letters that are counted, in order."""

WEIGHTS = "judge.safetensors"

_ADDRESS = re.compile(r"https?://\S+|www\.\S+", re.IGNORECASE)
_MENTION = re.compile(r"@\w+")

_KINDS: dict[str, dict[str, Any]] = {
    "words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\b\w+\b"},
    "letters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}


def plain(text: str) -> str:
    """Return a text as it is judged: entities of HTML as characters, addresses and names of accounts by one word each,
    and spaces one by one."""
    return " ".join(_MENTION.sub("@user", _ADDRESS.sub("http", html.unescape(text))).split())


class LiveJudge(Protocol):
    """What scores texts."""

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of each text that it is toxic: [N], from 0 to 1."""
        ...


class Linear:
    """Logistic regression on TF-IDF weights.

    Args:
        features: of each kind in `_KINDS`, its features in the order of their columns.
        arrays: `idf.KIND` [features of it], `weight` [features] and `bias` [1].

    Raises:
        DamagedError: the features and the arrays do not fit each other.
    """

    def __init__(self, features: dict[str, list[str]], arrays: dict[str, np.ndarray]) -> None:
        counts = [len(features.get(kind, ())) for kind in _KINDS]
        fitting = all(arrays[f"idf.{kind}"].shape == (n,) for kind, n in zip(_KINDS, counts, strict=True))
        if not fitting or arrays["weight"].shape != (sum(counts),) or arrays["bias"].shape != (1,):
            raise DamagedError(f"{FEATURES} and {WEIGHTS} do not fit each other: make the judge again")
        self.features, self.arrays = features, arrays
        self._counters = {kind: _counter(kind, features[kind], arrays[f"idf.{kind}"]) for kind in _KINDS}

    def score(self, texts: Sequence[str]) -> np.ndarray:
        from scipy.sparse import hstack
        from scipy.special import expit

        if not len(texts):
            return np.zeros(0)
        read = [plain(text) for text in texts]
        weighed = hstack([counter.transform(read) for counter in self._counters.values()]).tocsr()
        return expit(weighed @ self.arrays["weight"] + self.arrays["bias"][0])

    def save(self, run: Draft) -> None:
        """Write the features as JSON and the numbers as safetensors."""
        write_json(run.path / FEATURES, self.features)
        run.save(WEIGHTS, self.arrays)


def fitted(recipe: Judge, texts: Sequence[str], toxic: np.ndarray) -> Linear:
    """Return the judge that a recipe fits.

    Args:
        recipe: how.
        texts: to learn from.
        toxic: [N] which are toxic.

    Raises:
        UsageError: there are too few texts to learn from.
    """
    from scipy.sparse import hstack
    from sklearn.linear_model import LogisticRegression

    read, counters = [plain(text) for text in texts], {}
    if toxic.all() or not toxic.any():
        raise UsageError("the training split has one kind of text alone: give a file with toxic and other texts")
    try:
        blocks = []
        for kind in _KINDS:
            counters[kind] = _vectorizer(kind, min_df=recipe.least, max_features=recipe.features)
            blocks.append(counters[kind].fit_transform(read))
    except ValueError:  # no feature is left
        raise UsageError(
            f"no feature stands in {recipe.least} of {len(read)} texts: set a smaller --least, or give more texts"
        ) from None
    weight = "balanced" if recipe.balanced else None
    model = LogisticRegression(C=1 / recipe.penalty, class_weight=weight, tol=1e-6, max_iter=5000)
    model.fit(hstack(blocks).tocsr(), toxic)
    idf = {f"idf.{kind}": np.asarray(counter.idf_, np.float64) for kind, counter in counters.items()}
    names = {kind: [str(name) for name in counter.get_feature_names_out()] for kind, counter in counters.items()}
    return Linear(names, {**idf, "weight": np.asarray(model.coef_[0]), "bias": np.asarray(model.intercept_)})


def open_judge(run: Run, inputs: Mapping[Recipe, Run]) -> LiveJudge:
    """Return the judge of a run. Nothing that is read can run code.

    Args:
        run: of a `Judge`.
        inputs: the runs of what the recipe `needs`.
    """
    recipe = run.recipe
    assert isinstance(recipe, Judge), "a judge's run"
    if recipe.of is None:
        return Linear(read_json(run.file(FEATURES)), run.tensors(WEIGHTS))
    from etude.evals.encoder_judge import EncoderJudge

    return EncoderJudge.of(inputs[recipe.of], recipe, float(run.tensors(WEIGHTS)["prior"][0]))


def _vectorizer(kind: str, **more: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(lowercase=True, sublinear_tf=True, **_KINDS[kind], **more)


def _counter(kind: str, names: Sequence[str], idf: np.ndarray) -> Any:
    counter = _vectorizer(kind, vocabulary={name: column for column, name in enumerate(names)})
    counter.idf_ = idf
    return counter
