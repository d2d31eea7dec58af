"""Whether the right positions are chosen, and each is read and labelled as drawn."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import shown
from etude.practice.exam import Exam

MASK, SPECIAL, VOCABULARY = 3, 4, 60
"""Tokens 0 to 3 are special, the last of them the mask."""


def check(theirs: Any, exam: Exam) -> None:
    """Ask with texts long enough that every case occurs, several shares and none, and special tokens alone."""
    for batch, length, share in ((4, 60, 0.15), (3, 50, 0.5), (2, 40, 1.0), (2, 7, 0.0)):
        _ask(theirs, exam, batch, length, share)
    _unsaid(theirs, exam)
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    u = exam.uniform(2, 5) * 0.1
    inputs, labels = _pair(exam, theirs.masked(tokens, tokens == 0, u, u, tokens + 9, MASK))
    exam.same(inputs, tokens, "what is read in a text of special tokens alone")
    exam.same(labels, torch.full_like(tokens, -100), "the labels of a text of special tokens alone")


def _pair(exam: Exam, got: Any) -> tuple[Tensor, Tensor]:
    exam.ask(
        isinstance(got, tuple | list) and len(got) == 2,
        "masked has to return two tensors: what is read, and the labels",
    )
    return got[0], got[1]


def _unsaid(theirs: Any, exam: Exam) -> None:
    """Ask with no share given, where chosen_u takes each hundredth and a half once."""
    u = ((exam.permutation(100) + 0.5) / 100).view(2, 50)
    tokens = exam.integers(VOCABULARY, 2, 50, low=SPECIAL)
    _, labels = _pair(exam, theirs.masked(tokens, tokens < SPECIAL, u, u, tokens, MASK))
    count = int((torch.as_tensor(labels) != -100).sum())
    exam.ask(count == 15, f"{count} of 100 positions are chosen where no share is given: the share is then 0.15")


def _ask(theirs: Any, exam: Exam, batch: int, length: int, share: float) -> None:
    tokens = exam.integers(VOCABULARY, batch, length, low=SPECIAL)
    tokens[:, 0], tokens[:, length // 2 :: 5] = 0, 1
    tokens[torch.arange(length) >= length - 1 - torch.arange(batch)[:, None]] = 2  # as padding, more in each text
    special = tokens < SPECIAL
    chosen_u, kind_u = exam.uniform(batch, length), exam.uniform(batch, length)
    other = (tokens + exam.integers(VOCABULARY - SPECIAL, batch, length, low=1) - SPECIAL) % (
        VOCABULARY - SPECIAL
    ) + SPECIAL
    _plant(tokens, chosen_u, kind_u, share)
    inputs, labels = _pair(exam, theirs.masked(tokens, special, chosen_u, kind_u, other, MASK, share))
    for got, what in ((inputs, "what is read"), (labels, "the labels")):
        exam.same(
            got if not isinstance(got, Tensor) else torch.zeros_like(got),
            torch.zeros_like(tokens),
            what,
        )
    chosen = (chosen_u < share) & ~special
    _labels(exam, labels, tokens, special, chosen, chosen_u, share, inputs)
    _inputs(exam, inputs, tokens, chosen, kind_u, other)


def _plant(tokens: Tensor, chosen_u: Tensor, kind_u: Tensor, share: float) -> None:
    """Have a special token drawn, a position of each kind chosen, one of each kind not, and draws on two bounds."""
    chosen_u[:, 0] = 0.5 * share
    kind_u[:, 0] = 0.1
    for n, kind in enumerate((0.4, 0.85, 0.95)):
        chosen_u[:, 1 + n] = 0.5 * share
        chosen_u[:, 4 + n if tokens.shape[1] > 10 else 1 + n] = min(1.0, 0.5 + 0.5 * share) if share < 1 else 0.5
        kind_u[:, 1 + n] = kind_u[:, 4 + n if tokens.shape[1] > 10 else 1 + n] = kind
    if share < 1:
        chosen_u[:, 7 if tokens.shape[1] > 10 else 4] = share
    if tokens.shape[1] > 10:
        chosen_u[:, 8], kind_u[:, 8] = 0.5 * share, 0.8


def _labels(
    exam: Exam,
    labels: Tensor,
    tokens: Tensor,
    special: Tensor,
    chosen: Tensor,
    chosen_u: Tensor,
    share: float,
    inputs: Tensor,
) -> None:
    drawn = chosen_u < share
    kept = chosen & (inputs == tokens)
    exam.ask(
        not bool((labels[special] != -100).any() and not (labels[~special & ~chosen] != -100).any()),
        "a special token is chosen: [CLS], [SEP] and padding are never predicted",
    )
    exam.same(
        labels,
        torch.where(chosen, tokens, -100),
        f"the labels, with share = {share}",
        unless={
            "every position has its token as a label: where none is chosen the label is -100": tokens,
            "the labels are what the model reads: they are the tokens as they were before": torch.where(
                chosen, inputs, -100
            ),
            "the labels elsewhere are 0, which is a token like any other: -100 is counted by no loss": torch.where(
                chosen, tokens, 0
            ),
            "a chosen token that is read as it was has no label: it is to be predicted too": torch.where(
                chosen & ~kept, tokens, -100
            ),
            "the positions that are not chosen have the labels, and those that are have none": torch.where(
                chosen, -100, tokens
            ),
            "a position is chosen where chosen_u is equal to share: it is chosen below": torch.where(
                (chosen_u <= share) & ~special, tokens, -100
            ),
            "positions are chosen where chosen_u is above share": torch.where((~drawn) & ~special, tokens, -100),
            "only the positions that are read as [MASK] have labels: all that are chosen have": torch.where(
                chosen & (inputs == MASK), tokens, -100
            ),
        },
        axes=("text", "position"),
    )


def _inputs(exam: Exam, inputs: Tensor, tokens: Tensor, chosen: Tensor, kind_u: Tensor, other: Tensor) -> None:
    changed = (inputs != tokens) & ~chosen
    if bool(changed.any()):
        row, column = changed.nonzero()[0].tolist()
        exam.ask(
            False,
            f"position {column} of text {row} is not chosen and is read as {shown(inputs[row, column])}, not as the"
            f" token {shown(tokens[row, column])} that stands there",
        )
    want = tokens.tolist()
    for row, column in chosen.nonzero().tolist():
        u = float(kind_u[row, column])
        want[row][column] = MASK if u < 0.8 else int(other[row, column]) if u < 0.9 else want[row][column]
    hidden = tokens.masked_fill(chosen, MASK)
    exam.same(
        inputs,
        torch.tensor(want),
        "what is read",
        unless={
            "every chosen token is read as [MASK]: a tenth is another token, and a tenth stays as it is": hidden,
            "the two tenths are exchanged: where 0.8 <= kind_u < 0.9 it is the token of `other`, above that its own": (
                torch.where(chosen & (kind_u >= 0.9), other, tokens.masked_fill(chosen & (kind_u < 0.8), MASK))
            ),
            "where kind_u is just 0.8 the mask is read: it is read below, and there the token of `other`": torch.where(
                chosen & (kind_u <= 0.8), MASK, torch.where(chosen & (kind_u < 0.9), other, tokens)
            ),
            "two tenths are another token and none stays as it was: from 0.9 on it is its own": torch.where(
                chosen & (kind_u >= 0.8), other, hidden
            ),
            "two tenths stay as they were: from 0.8 to 0.9 it is the token of `other`": tokens.masked_fill(
                chosen & (kind_u < 0.8), MASK
            ),
            "two tenths of those chosen are read as [MASK], and most as they were": torch.where(
                chosen & (kind_u >= 0.8), MASK, tokens
            ),
            "nothing is hidden: the model reads all that it is to predict": tokens,
        },
        axes=("text", "position"),
    )
