"""What one item's answer comes to, and what all of them do: scores with intervals, beside chance."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.evals.detection import calibration as agreement
from etude.evals.detection import share
from etude.evals.items import Choice, Cloze, Passage, Written
from etude.evals.statistics import Estimate, mean, ratio

if TYPE_CHECKING:
    from etude.evals.asking import Said

Row = dict[str, Any]


def judged_choice(item: Choice, answers: Sequence[str], said: Sequence[Said], bare: Sequence[Said] | None) -> Row:
    """Return what a model's likelihoods of the answers come to.

    Args:
        item: the question.
        answers: as they were asked for, without the delimiter: letters or words.
        said: of each answer after the question.
        bare: of each answer without it, or None.
    """
    logs = np.array([one.log_probability for one in said])
    right = list(item.right)
    chances = np.exp(logs - logs.max())
    chances /= chances.sum()
    row: Row = {
        "log_probabilities": logs.tolist(),
        "right": right,
        "accuracy": _is_right(logs, right),
        "by_characters": _is_right(logs / [len(answer) for answer in answers], right),
        "by_bytes": _is_right(logs / [len(answer.encode()) for answer in answers], right),
        "by_tokens": _is_right(logs / [one.tokens for one in said], right),
        "mass": float(chances[right].sum()),
        "confidence": float(chances.max()),
    }
    if bare is not None:
        alone = np.array([one.log_probability for one in bare])
        row |= {"bare": alone.tolist(), "unconditional": _is_right(logs - alone, right)}
    return row


def _is_right(scores: np.ndarray, right: Sequence[int]) -> float:
    """Return whether the best of the scores is a right one; of equal ones, the share of right ones."""
    best = np.flatnonzero(scores == scores.max())
    return float(np.isin(best, right).mean())


def judged_cloze(item: Cloze, said: Said) -> Row:
    """Return what the likelihood of a continuation comes to; its bytes are those without the space before it."""
    return {
        "accuracy": float(said.greedy),
        "log_probability": said.log_probability,
        "tokens": said.tokens,
        "bytes": len(item.continuation.encode("utf-8", "surrogatepass")),
    }


def judged_text(item: Passage, said: Sequence[Said]) -> Row:
    """Return what the likelihood of a whole text comes to, from that of its windows."""
    return {
        "log_probability": sum(one.log_probability for one in said),
        "tokens": sum(one.tokens for one in said),
        "bytes": len(item.text.encode("utf-8", "surrogatepass")),
        "words": len(re.split(r"\s+", item.text)),
    }


def judged_written(item: Written, text: str, take: str) -> Row:
    """Return what a written answer comes to: whether it is one of the right ones exactly, but for white space around
    it; and whether it is but for case, punctuation and articles (Rajpurkar et al. 2016)."""
    found = _last_number(text) if take == "number" else text.strip()
    exact = any(_same_number(found, answer) if take == "number" else found == answer for answer in item.answers)
    alike = exact or (take == "text" and _plain(found) in {_plain(answer) for answer in item.answers} - {""})
    return {"written": text, "answer": found, "accuracy": float(exact), "normalised": float(alike)}


def _last_number(text: str) -> str:
    found = re.findall(r"(?<![\d.])-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)", text)
    return found[-1].replace(",", "") if found else ""


def _same_number(a: str, b: str) -> bool:
    try:
        return float(a) == float(b.replace(",", ""))
    except ValueError:
        return a == b


def _plain(text: str) -> str:
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    words = [word for word in kept.split() if word not in ("a", "an", "the")]
    return " ".join(words or kept.split())  # the answer may be the letter A


SHARES = ("accuracy", "by_characters", "by_bytes", "by_tokens", "unconditional", "mass", "normalised")
"""Scores that are shares, in the order in which they are told."""


def scores(rows: Sequence[Row], chance: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return each score of a task with its interval, and what chance comes to where that is known.

    Args:
        rows: of each item, what was made of it.
        chance: of each score, by its name.
    """
    found = {name: _share(np.array([row[name] for row in rows])) for name in SHARES if name in rows[0]}
    if "log_probability" in rows[0]:
        logs, tokens = (np.array([row[name] for row in rows]) for name in ("log_probability", "tokens"))
        found["loss"] = ratio(-logs, tokens)
        if "bytes" in rows[0]:
            found["bits_per_byte"] = ratio(-logs, np.array([row["bytes"] for row in rows])).scaled(1 / math.log(2))
        if "words" in rows[0]:
            found["word_perplexity"] = _exponential(ratio(-logs, np.array([row["words"] for row in rows])))
    return {name: {**said.to_json(), "chance": chance.get(name)} for name, said in found.items()}


def _share(values: np.ndarray) -> Estimate:
    """Return the mean of shares. Of right and wrong alone it has Wilson's interval, which is of use for few items, and
    for none or all of them."""
    if np.isin(values, (0.0, 1.0)).all():
        return share(int(values.sum()), len(values))
    return mean(values).as_share()


def _exponential(said: Estimate) -> Estimate:
    """Return e to the power of an estimate, within the numbers that there are."""
    mean, low, high = (math.exp(min(value, 700.0)) for value in (said.mean, said.low, said.high))
    return Estimate(mean, low, high, said.n)


def chance_of(items: Sequence[Any], vocabulary: int) -> dict[str, float]:
    """Return what scores come to where every answer is as likely: of choices the share of right ones."""
    if isinstance(items[0], Choice):
        share = float(np.mean([len(item.right) / len(item.choices) for item in items]))
        return dict.fromkeys(SHARES, share)
    if isinstance(items[0], Cloze | Passage):
        return {"accuracy": 0.0, "loss": math.log(vocabulary)}
    return {"accuracy": 0.0, "normalised": 0.0}


def blind(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return what choosing blindly comes to on the items of some rows, and what always giving the same number of choice
    does, which a model may learn to do without reading the question; None where they have no choices."""
    if not rows or "log_probabilities" not in rows[0]:
        return None
    chance = float(np.mean([len(row["right"]) / len(row["log_probabilities"]) for row in rows]))
    return chance, Counter(number for row in rows for number in row["right"]).most_common(1)[0][1] / len(rows)


def macro_f1(rows: Sequence[Row], labels: int) -> float:
    """Return the mean over labels of the harmonic mean of precision and recall; a label that nothing has counts 0
    where it is given, and is left out where it is not."""
    given = np.array([int(np.argmax(row["log_probabilities"])) for row in rows])
    right = np.array([row["right"][0] for row in rows])
    found = []
    for label in range(labels):
        both = float(((given == label) & (right == label)).sum())
        either = float((given == label).sum() + (right == label).sum())
        if either:
            found.append(2 * both / either)
    return float(np.mean(found))


def calibration(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how confidence goes with being right: see `etude.evals.detection.calibration`. The confidence is the share
    of the likeliest answer in the probability of all answers."""
    confidence, right = (np.array([row[name] for row in rows]) for name in ("confidence", "accuracy"))
    return agreement(confidence, right, np.ones(len(rows)))
