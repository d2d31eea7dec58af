"""Which tokens are hidden, and how: the rule's shares, and what is never touched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from etude.core.errors import UsageError
from etude.text.batches import IGNORE, Batch, Windows
from etude.text.framing import Frame, Texts
from etude.text.masking import Hiding, MaskedTexts, lowest
from etude.text.store import TokenStore
from etude.text.tokenizers.live import ByteTokenizer

TOKENIZER = ByteTokenizer(("mask", "first", "separator", "pad"))
END, MASK = TOKENIZER.end, TOKENIZER.specials["mask"]
SPECIAL = [END, *TOKENIZER.specials.values()]
Stored = Callable[..., TokenStore]


class Given:
    """Samples that a test gives."""

    vocabulary = TOKENIZER.vocabulary

    def __init__(self, inputs: np.ndarray, present: np.ndarray | None = None) -> None:
        self.inputs, self.context = inputs, inputs.shape[1]
        self.given = {} if present is None else {"present": present}

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        rows = np.asarray(indices)
        return Batch(self.inputs[rows], self.inputs[rows], {name: a[rows] for name, a in self.given.items()})


def letters(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, width))


def test_the_shares_are_those_of_the_paper() -> None:
    inputs = letters(2000, 100)
    batch = MaskedTexts(Given(inputs), TOKENIZER, Hiding()).batch(np.arange(2000))
    chosen = batch.targets != IGNORE
    assert (chosen.sum(1) == 15).all()
    assert (batch.targets[chosen] == inputs[chosen]).all() and (batch.inputs[~chosen] == inputs[~chosen]).all()
    masked, kept = batch.inputs == MASK, batch.inputs == inputs
    n = chosen.sum()
    assert stats.binomtest(int((chosen & masked).sum()), n, 0.8).pvalue > 1e-3
    # one in 256 of the random tokens is the very token that stood there
    assert stats.binomtest(int((chosen & kept).sum()), n, 0.1 + 0.1 / 256).pvalue > 1e-3
    drawn = batch.inputs[chosen & ~masked & ~kept]
    assert drawn.max() < 256 and stats.chisquare(np.bincount(drawn, minlength=256)).pvalue > 1e-3
    assert stats.chisquare(chosen.sum(0)).pvalue > 1e-3, "every place is as likely"


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 6), width=st.integers(1, 30), share=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
def test_special_tokens_and_padding_are_never_targets(rows: int, width: int, share: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    inputs = generator.integers(0, TOKENIZER.vocabulary, (rows, width))
    inputs[generator.random(inputs.shape) < 0.3] = END
    present = np.arange(width) < generator.integers(0, width + 1, (rows, 1))
    batch = MaskedTexts(Given(inputs, present), TOKENIZER, Hiding(share=share)).batch(np.arange(rows))
    may = present & ~np.isin(inputs, SPECIAL)
    chosen = batch.targets != IGNORE
    assert not (chosen & ~may).any() and (batch.inputs[~chosen] == inputs[~chosen]).all()
    count = may.sum(1)
    assert (chosen.sum(1) == np.minimum(np.maximum(np.rint(share * count), 1), count)).all()
    assert set(batch.inputs[chosen & (batch.inputs != inputs)].tolist()) <= {MASK, *range(256)}
    assert (batch.given["present"] == present).all()


def test_a_sample_and_a_draw_decide_it_whatever_else_is_in_the_batch() -> None:
    samples = MaskedTexts(Given(letters(20, 40)), TOKENIZER, Hiding())
    whole = samples.batch(np.arange(20), draw=3)
    part = samples.batch(np.array([11, 4]), draw=3)
    assert (part.inputs == whole.inputs[[11, 4]]).all() and (part.targets == whole.targets[[11, 4]]).all()
    for other in (
        samples.batch(np.arange(20), draw=4),
        MaskedTexts(samples.of, TOKENIZER, Hiding(), 1).batch(np.arange(20), 3),
    ):
        assert (other.targets != whole.targets).any(axis=1).all()


def test_windows_of_a_store_are_hidden_from(stored: Stored) -> None:
    store = stored([list(range(97, 107))] * 30, TOKENIZER)
    windows = Windows(store, 32, END)
    batch = MaskedTexts(windows, TOKENIZER, Hiding(share=0.5)).batch(np.arange(len(windows)))
    original = windows.batch(np.arange(len(windows))).inputs
    assert (batch.inputs[original == END] == END).all() and (batch.targets[original == END] == IGNORE).all()
    assert set(np.unique(batch.targets)) == {IGNORE, *range(97, 107)}


def test_a_text_of_its_own_is_hidden_from_and_its_frame_is_not(stored: Stored) -> None:
    texts = Texts(stored([[1, 2, 3], [4]], TOKENIZER), 8, Frame.of(TOKENIZER))
    batch = MaskedTexts(texts, TOKENIZER, Hiding(share=0.9, mask_share=1.0, random_share=0.0)).batch(np.arange(2))
    first, separator, pad = (TOKENIZER.specials[role] for role in ("first", "separator", "pad"))
    assert batch.inputs.tolist() == [
        [first, MASK, MASK, MASK, separator, pad, pad, pad],
        [first, MASK, separator, pad, pad, pad, pad, pad],
    ]
    assert batch.targets.tolist() == [[IGNORE, 1, 2, 3, *[IGNORE] * 4], [IGNORE, 4, *[IGNORE] * 6]]


def test_the_lowest_of_each_row() -> None:
    numbers = np.array([[0.5, np.inf, 0.1, 0.9], [np.inf] * 4, [np.inf, 0.3, np.inf, np.inf]])
    assert lowest(numbers, 0.6).tolist() == [[True, False, True, False], [False] * 4, [False, True, False, False]]
    assert not lowest(numbers[1:2], 0.6).any()


def test_a_tokenizer_without_a_mask() -> None:
    with pytest.raises(UsageError, match=r"stands for a hidden one: set --data\.tokenizer\.specials mask"):
        MaskedTexts(Given(letters(1, 4)), ByteTokenizer(), Hiding())
