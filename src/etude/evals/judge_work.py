"""The work of fitting a judge of texts, and of saying what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.judge_recipes import Judge
from etude.evals.judges import WEIGHTS, LiveJudge, fitted, plain
from etude.evals.paired_replies import replies
from etude.evals.validity import NOT_MEASURED, by_group, of_probabilities, of_set
from etude.text.corpora._labelled import sameness
from etude.text.corpora.base import Corpus
from etude.text.splits import SPLITS


def judge(recipe: Judge, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Fit the judge, or take the encoder, and return its validity card. The score of each text of the test split is
    kept, and no text."""
    texts, toxic = labelled(recipe.corpus, "train", recipe)
    live = _made(recipe, inputs, run, texts, toxic)
    held, truth = labelled(recipe.corpus, "test", recipe)
    scores, (civil, rude) = live.score(held), replies()
    run.save("test.safetensors", {"score": scores, "toxic": truth})
    return {
        "in_domain": of_set(scores, truth),
        "others": _elsewhere(recipe, live, texts) or NOT_MEASURED,
        "replies": of_set(live.score([*civil, *rude]), np.repeat([False, True], [len(civil), len(rude)])),
        "calibration": of_probabilities(scores, truth, recipe.balanced),
        "empty_text": float(live.score([""])[0]),
        "method": "tf-idf" if recipe.of is None else "encoder",
        "classes": list(recipe.corpus.classes),
        "toxic": list(recipe.toxic),
        "learned_from": {"n": len(texts), "toxic": int(toxic.sum())},
        "groups": by_group([plain(text) for text in held], scores, truth, live),
    }


def labelled(corpus: Corpus, split: str, recipe: Judge) -> tuple[list[str], np.ndarray]:
    """Return the texts of a split, and which of them are toxic [N]."""
    found = [(document.text(), document.label) for document in corpus.documents(split)]
    toxic = [number for number, name in enumerate(corpus.classes) if name in recipe.toxic]
    return [text for text, _ in found], np.array([label in toxic for _, label in found], bool)


def _made(recipe: Judge, inputs: Mapping[Recipe, Run], run: Draft, texts: list[str], toxic: np.ndarray) -> LiveJudge:
    if recipe.of is None:
        live = fitted(recipe, texts, toxic)
        live.save(run)
        return live
    from etude.evals.encoder_judge import EncoderJudge

    odds = np.log((toxic.sum() + 1) / ((~toxic).sum() + 1)) if recipe.balanced else 0.0
    run.save(WEIGHTS, {"prior": np.array([odds])})
    return EncoderJudge.of(inputs[recipe.of], recipe, float(odds))


def _elsewhere(recipe: Judge, live: LiveJudge, learned: list[str]) -> list[dict[str, Any]]:
    """Return how the judge fares on other sets, without the texts that it learned from."""
    seen, rows = {sameness(text) for text in learned}, []
    for corpus in recipe.others:
        parts = [labelled(corpus, split, recipe) for split in SPLITS]
        texts = [text for part, _ in parts for text in part]
        new = np.array([sameness(text) not in seen for text in texts])
        kept = [text for text, is_new in zip(texts, new, strict=True) if is_new]
        toxic = np.concatenate([truth for _, truth in parts])[new]
        rows.append(
            {
                "set": f"{corpus.sha256[:6]} ({', '.join(corpus.classes)})",
                "seen": int((~new).sum()),
                **of_set(live.score(kept), toxic),
            }
        )
    return rows
