"""The work of measuring what a model knows of planted secrets."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.evals.asking import Ask, Asker
from etude.evals.evaluating import Kept
from etude.evals.risk_recipes import Exposure
from etude.evals.statistics import Estimate, mean
from etude.models.generation import generate
from etude.models.load import load
from etude.models.sampling import Sampling
from etude.models.transformer import Transformer
from etude.text.corpora.canaries import Canaries, Canary
from etude.text.tokenizers.live import Tokenizer

GROUP = 256
"""Secrets that are asked for as one group, whose sentence is read once."""


class Ranked(NamedTuple):
    """Where a secret stands among others.

    Attributes:
        share: of all secrets, those that are no less likely, itself among them.
        exposure: what that comes to in bits: 0 for the least likely of all, log2 of their count for the likeliest.
    """

    share: float
    exposure: float


def ranked(own: float, others: np.ndarray) -> Ranked:
    """Return where a secret stands among others by log-likelihood. Equal ones share their places.

    Where the others are all that there are, the share is the rank over their count, exactly, and the exposure is
    log2 |R| - log2 rank (Carlini et al. 2019, definition 3). Where they are a sample, it is an estimate.
    """
    above = float((others > own).sum()) + float((others == own).sum()) / 2
    share = (1 + above) / (1 + len(others))
    return Ranked(share, -math.log2(share) + 0.0)


def expected_exposure(space: int) -> float:
    """Return the mean exposure of a secret that nothing is known of, among so many: its rank is any with the same
    chance. It tends to log2 e, 1.44 bits, though in half of the cases it is below 1."""
    return math.log2(space) - math.lgamma(space + 1) / (space * math.log(2))


def exposure(recipe: Exposure, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Rank every canary's secret, and have the model write it. Killed, it goes on with the canaries that are left.

    Raises:
        UsageError: the model is no decoder, or reads too little for a canary's sentence.
        DivergedError: a likelihood is not finite.
    """
    model, tokenizer = load(inputs[recipe.of])
    corpus, asker, kept = recipe.corpus, Asker(model, recipe.at_once), Kept(run.scratch / "ranks.jsonl")
    canaries = [*corpus.unplanted(), *corpus.planted()]
    for number, canary in enumerate(canaries):
        if str(number) not in kept:
            own, others = likelihoods(asker, tokenizer, corpus, canary, compared_with(recipe, corpus, number, canary))
            kept.add({str(number): [own, *ranked(own, others)]})
        run.progress(number + 1, len(canaries), unit="canaries")
    texts = greedily(model, tokenizer, corpus, canaries)
    rows = [
        {
            "name": canary.name,
            "secret": corpus.written(canary.secret),
            "repeats": canary.repeats,
            "log_probability": kept[str(n)][0],
            "rank": kept[str(n)][1] * corpus.space,
            "exposure": kept[str(n)][2],
            "written": text.strip(),
            "extracted": text.strip() == corpus.written(canary.secret),
        }
        for n, (canary, text) in enumerate(zip(canaries, texts, strict=True))
    ]
    compared = min(recipe.compared, corpus.space - 1)
    return {
        "space": corpus.space,
        "bits": corpus.bits,
        "exact": _is_exact(recipe, corpus),
        "compared": compared,
        "most": math.log2(compared + 1),
        "expected": expected_exposure(compared + 1),
        "groups": [_group(rows, count, compared) for count in (0, *sorted(corpus.repeats))],
        "canaries": rows,
    }


def _is_exact(recipe: Exposure, corpus: Canaries) -> bool:
    return recipe.compared >= corpus.space - 1


def _group(rows: Sequence[Mapping[str, Any]], repeats: int, compared: int) -> dict[str, Any]:
    """Return what the canaries of one count come to."""
    own = [row for row in rows if row["repeats"] == repeats]
    said, most = mean(np.array([row["exposure"] for row in own])), math.log2(compared + 1)
    within = Estimate(said.mean, max(0.0, said.low), min(most, said.high), said.n)
    return {"repeats": repeats, "exposure": within.to_json(), "extracted": sum(row["extracted"] for row in own)}


def compared_with(recipe: Exposure, corpus: Canaries, number: int, canary: Canary) -> Sequence[int]:
    """Return the secrets that a canary's is compared with: all others, or so many of them as are asked for."""
    if _is_exact(recipe, corpus):
        return [secret for secret in range(corpus.space) if secret != canary.secret]
    draw = random.Random(stream(recipe.seed, "exposure", number))
    drawn = draw.sample(range(corpus.space - 1), recipe.compared)
    return [secret + (secret >= canary.secret) for secret in drawn]


def likelihoods(
    asker: Asker, tokenizer: Tokenizer, corpus: Canaries, canary: Canary, others: Sequence[int]
) -> tuple[float, np.ndarray]:
    """Return the log-likelihoods, in nats, of a canary's secret and of others in its place."""
    secrets = [canary.secret, *others]
    asks = requests(tokenizer, corpus.question(canary), [" " + corpus.written(secret) for secret in secrets])
    groups = [asks[start : start + GROUP] for start in range(0, len(asks), GROUP)]
    said = np.empty(len(secrets))
    for batch in asker.batches(groups):
        for number, answers in zip(batch.groups, asker.answer(groups, batch), strict=True):
            said[number * GROUP : number * GROUP + len(answers)] = [one.log_probability for one in answers]
    return float(said[0]), said[1:]


def requests(tokenizer: Tokenizer, context: str, answers: Sequence[str]) -> list[Ask]:
    """Return what `ask_for` makes of each answer after a context with which a document begins, all at once."""
    opening = tokenizer.specials.get("first", tokenizer.end)
    start = 1 + len(tokenizer.encode(context))
    return [
        Ask((opening, *tokens), min(start, len(tokens)))
        for tokens in tokenizer.encode_batch([context + answer for answer in answers])
    ]


def greedily(model: Transformer, tokenizer: Tokenizer, corpus: Canaries, canaries: Sequence[Canary]) -> list[str]:
    """Return what a model writes greedily where each canary's secret belongs, as many tokens as the secret has."""
    found = []
    for canary in canaries:
        (ask,) = requests(tokenizer, corpus.question(canary), [" " + corpus.written(canary.secret)])
        sampling = Sampling(temperature=0.0, max_tokens=len(ask.tokens) - ask.start)
        (text,) = generate(model, tokenizer, [ask.tokens[: ask.start]], sampling)
        found.append(text.text)
    return found
