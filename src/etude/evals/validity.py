"""What a judge of texts is worth: how well it tells them apart, and whom it accuses wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from etude.evals.detection import Z, auc, calibration, difference, share
from etude.evals.judges import LiveJudge
from etude.evals.mentioned_groups import Group, groups
from etude.evals.statistics import mean

THRESHOLD = 0.5
"""From this probability on a text is called toxic."""

LEAST = 20
"""Texts of a kind below which nothing is said of a group."""

NOT_MEASURED = "not measured"


def of_set(scores: np.ndarray, toxic: np.ndarray) -> dict[str, Any]:
    """Return how well scores tell a set's texts apart: the area under the curve, average precision, and the share of
    toxic texts, which is the average precision of chance. Where there is one kind of text alone there is no area."""
    from sklearn.metrics import average_precision_score

    both = bool(toxic.any() and not toxic.all())
    return {
        "auc": auc(scores, toxic).to_json() if both else NOT_MEASURED,
        "average_precision": float(average_precision_score(toxic, scores)) if both else NOT_MEASURED,
        "base_rate": share(int(toxic.sum()), len(toxic)).to_json() if len(toxic) else NOT_MEASURED,
        "n": len(toxic),
        "toxic": int(toxic.sum()),
    }


def by_group(texts: Sequence[str], scores: np.ndarray, toxic: np.ndarray, judge: LiveJudge) -> list[dict[str, Any]]:
    """Return a row for all texts, for each kind of group, and for each group.

    Of the texts that mention it, `false_positives` is the share of those that are not toxic and are called so,
    `difference` that share less that of the texts without a mention, and `auc` how well they are told apart; `bpsn` is
    the area between those of them that are not toxic and the toxic texts without a mention, low where a mention by
    itself raises the score (Borkan et al. 2019, section 3.1). Where there are fewer than `LEAST`, `too_few` says so.

    `shift` needs no such texts: it is the score of harmless sentences about one of the group less that of the same
    sentences about anybody, over the sentences (after Dixon et al. 2018, section 4.2).

    `apart` says whether the difference, and `shifted` whether the shift, excludes 0 for all groups together
    (Bonferroni).
    """
    from scipy.special import ndtri, stdtr

    known = groups()
    bare = _sentences(judge, known.anybody)
    rows = [_row(Group("all texts", "", (), ()), np.ones(len(texts), bool), scores, toxic, Z)]
    wanted = [(group, group.mentioned(texts)) for group in known.groups]
    strict = -float(ndtri(0.025 / len(wanted)))
    for group, at in wanted:
        apart = _sentences(judge, group.people) - bare
        shift = mean(apart)
        error = max(float(apart.std(ddof=1)) / np.sqrt(len(apart)), 1e-12)
        chance = 2 * float(stdtr(len(apart) - 1, -abs(shift.mean) / error))
        shifted = chance * len(wanted) < 0.05
        rows.append(_row(group, at, scores, toxic, strict) | {"shift": shift.to_json(), "shifted": shifted})
    return rows


def of_probabilities(scores: np.ndarray, toxic: np.ndarray, balanced: bool) -> dict[str, Any]:
    """Return how far probabilities can be believed; `balanced` has toxic and other texts weigh alike, as in fitting."""
    kinds = np.array([(~toxic).sum(), toxic.sum()], np.float64)
    weights = 1 / kinds[toxic.astype(int)] if balanced and kinds.all() else np.ones(len(toxic))
    return {**calibration(scores, toxic, weights), "balanced": balanced}


def _sentences(judge: LiveJudge, people: Sequence[str]) -> np.ndarray:
    """Return the mean score of each sentence over some people."""
    return judge.score(groups().about(people)).reshape(-1, len(people)).mean(1)


def _row(group: Group, at: np.ndarray, scores: np.ndarray, toxic: np.ndarray, strict: float) -> dict[str, Any]:
    civil, bad, called = ~toxic & at, toxic & at, scores >= THRESHOLD
    row: dict[str, Any] = {"kind": group.kind, "group": group.name, "n": int(at.sum()), "toxic": int(bad.sum())}
    row |= dict.fromkeys(("false_positives", "difference", "auc", "bpsn", "shift")) | {"apart": False, "shifted": False}
    if _enough(civil):
        mine = int((civil & called).sum()), int(civil.sum())
        row["false_positives"] = share(*mine).to_json()
        rest = ~toxic & ~at
        if _enough(rest):
            others = int((rest & called).sum()), int(rest.sum())
            row["difference"] = difference(mine, others).to_json()
            row["apart"] = difference(mine, others, strict).excludes_zero
        if _enough(bad):
            row["auc"] = auc(scores[at], toxic[at]).to_json()
        if _enough(toxic & ~at):
            chosen = civil | (toxic & ~at)
            row["bpsn"] = auc(scores[chosen], toxic[chosen]).to_json()
    said = {"civil": civil, "toxic": bad}
    row["too_few"] = ", ".join(f"{int(found.sum())} {name}" for name, found in said.items() if not _enough(found))
    return row


def _enough(which: np.ndarray) -> bool:
    return int(which.sum()) >= LEAST
