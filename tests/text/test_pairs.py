"""Pairs of texts: what is read, what is written, and that no token is taken for padding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.text.batches import IGNORE
from etude.text.pairs import Pairs, chosen_sides
from etude.text.store import TokenStore
from etude.text.tokenizers.live import ByteTokenizer

TOKENIZER = ByteTokenizer()
END = TOKENIZER.end
DOCUMENTS = [[1, 2], [11, 12, 13], [3, END, 4], [14], list(range(20)), [15], [5], [16, 17, 18, 19]]
SIDES = ("en", "de")
Stored = Callable[..., TokenStore]


def test_a_pair_is_a_source_and_a_target_behind_the_separator(stored: Stored) -> None:
    pairs = Pairs(stored(DOCUMENTS, TOKENIZER, sides=SIDES), 5, END)
    assert (len(pairs), pairs.left_out, pairs.context) == (3, 1, 5)
    batch = pairs.batch(np.arange(3))
    assert batch.given["source"].tolist() == [[1, 2, END, END, END], [3, END, 4, END, END], [5, END, END, END, END]]
    assert batch.given["source_present"].sum(1).tolist() == [3, 4, 2]
    assert batch.inputs.tolist() == [[END, 11, 12, 13, END], [END, 14, END, END, END], [END, 16, 17, 18, 19]]
    no = IGNORE
    assert batch.targets.tolist() == [[11, 12, 13, END, no], [14, END, no, no, no], [16, 17, 18, 19, END]]


def test_either_side_can_be_read(stored: Stored) -> None:
    store = stored(DOCUMENTS, TOKENIZER, sides=SIDES)
    one, other = Pairs(store, 30, END), Pairs(store, 30, END, source="de", target="en")
    there, back = one.batch(np.arange(4)), other.batch(np.arange(4))
    assert (np.where(there.given["source_present"], there.given["source"], IGNORE) == back.targets).all()
    assert (np.where(back.given["source_present"], back.given["source"], IGNORE) == there.targets).all()


def test_one_side_of_several() -> None:
    sides = ("en", "de", "fr")
    assert chosen_sides(sides, "", "") == ("en", "de")
    assert chosen_sides(sides, "de", "") == ("de", "en")
    assert chosen_sides(sides, "", "en") == ("de", "en")
    assert chosen_sides(sides, "fr", "de") == ("fr", "de")
    with pytest.raises(UsageError, match=r"unknown side 'es': .*There are: de, en, fr"):
        chosen_sides(sides, "es", "")
    with pytest.raises(UsageError, match="both sides are 'en'"):
        chosen_sides(sides, "en", "en")


def test_what_holds_no_pairs(stored: Stored) -> None:
    with pytest.raises(UsageError, match=r"no pair fits a context of 2: the longer side of the shortest has 4 tokens"):
        Pairs(stored(DOCUMENTS, TOKENIZER, sides=SIDES), 2, END)
    with pytest.raises(UsageError, match="corpus with sides, such as multi30k"):
        Pairs(stored(DOCUMENTS, TOKENIZER), 8, END)
