"""Documents as samples of their own: framed, cut, padded, labelled."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.text.batches import IGNORE
from etude.text.framing import Frame, Texts, gathered, text_lengths
from etude.text.store import TokenStore
from etude.text.tokenizers.live import ByteTokenizer

TOKENIZER = ByteTokenizer(("mask", "first", "separator", "pad"))
PLAIN = ByteTokenizer()
FRAME = Frame.of(TOKENIZER)
Stored = Callable[..., TokenStore]


def test_a_text_stands_between_its_frame(stored: Stored) -> None:
    texts = Texts(stored([[1, 2], [3, 4, 5, 6, 7]], TOKENIZER, labels=[1, 0], classes=("a", "b")), 6, FRAME)
    batch = texts.batch(np.array([0, 1, 0]))
    first, separator, pad = FRAME.first, FRAME.separator, FRAME.pad
    short, long = [first, 1, 2, separator, pad, pad], [first, 3, 4, 5, 6, separator]
    assert batch.inputs.tolist() == [short, long, short]
    assert batch.given["present"].tolist() == [[True] * 4 + [False] * 2, [True] * 6, [True] * 4 + [False] * 2]
    assert batch.targets.tolist() == [1, 0, 1] and batch.targets.dtype == batch.inputs.dtype == np.int64
    assert (len(texts), texts.context, texts.vocabulary, texts.cut) == (2, 6, 261, 1)


def test_the_separator_stands_in_where_a_tokenizer_has_no_frame(stored: Stored) -> None:
    end = PLAIN.end
    assert Frame.of(PLAIN) == Frame(end, end, end)
    batch = Texts(stored([[1, end, 2]], PLAIN), 7, Frame.of(PLAIN)).batch(np.array([0]))
    assert batch.inputs.tolist() == [[end, 1, end, 2, end, end, end]]
    assert batch.given["present"].sum() == 5, "padding is told by lengths: the same id in the text is no padding"
    assert batch.targets.tolist() == [IGNORE]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(st.lists(st.integers(0, 256), min_size=1, max_size=9), min_size=1, max_size=6),
    context=st.integers(3, 12),
    openings=st.sampled_from([0, 9]),
)
def test_every_text_comes_back(stored: Stored, documents: list[list[int]], context: int, openings: int) -> None:
    store = stored(documents, TOKENIZER, openings=openings)
    assert text_lengths(store).tolist() == [len(document) for document in documents]
    batch = Texts(store, context, FRAME).batch(np.arange(len(documents)))
    for row, present, document in zip(batch.inputs, batch.given["present"], documents, strict=True):
        assert row[present].tolist() == [FRAME.first, *document[: context - 2], FRAME.separator]
        assert (row[~present] == FRAME.pad).all()


def test_stretches_side_by_side() -> None:
    found, there = gathered(np.arange(10, 20, dtype=np.uint16), np.array([7, 0]), np.array([3, 1]), 4)
    assert there.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert found[there].tolist() == [17, 18, 19, 10] and found.dtype == np.int64


def test_no_room(stored: Stored) -> None:
    with pytest.raises(UsageError, match="a context of 2 has no room for a text between two special tokens: give 3"):
        Texts(stored([[1]], TOKENIZER), 2, FRAME)


def test_a_label_out_of_range_is_named_with_its_document(stored: Stored) -> None:
    good: Any = stored([[1], [2], [3]], TOKENIZER, labels=[0, 1, 1], classes=("no", "yes"))
    held = {name: getattr(good, name) for name in ("path", "classes", "vocabulary", "openings", "tokens", "documents")}
    damaged = SimpleNamespace(labels=np.array([0, 7, 1]), **held)
    with pytest.raises(UsageError, match=r"document 1 of train.tokens has the label 7, .* 0 to 1 \(no, yes\)"):
        Texts(cast(TokenStore, damaged), 4, FRAME)
