from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.text.pieces import mend, pieces
from etude.text.splits import SPLITS, check_split, fraction, split_of

parts = st.lists(st.sampled_from(["word", "x", " ", "\n", "  ", "\t", "\u3000", "\x1c", "é."])).map("".join)


@given(text=parts, size=st.integers(1, 6), longest=st.integers(6, 20))
def test_pieces_join_to_the_text_within_their_bounds(text: str, size: int, longest: int):
    found = list(pieces([text], size, longest))
    assert "".join(found) == text
    assert all(len(piece) <= longest for piece in found[:-1])
    assert all(len(piece) >= size for piece in found[:-1])


@given(stretches=st.lists(parts), size=st.integers(1, 6), longest=st.integers(6, 20))
def test_where_it_is_cut_does_not_depend_on_how_it_came(stretches: list[str], size: int, longest: int):
    assert list(pieces(stretches, size, longest)) == list(pieces(["".join(stretches)], size, longest))


@given(text=parts, size=st.integers(1, 6))
def test_a_cut_is_before_a_space_after_a_word(text: str, size: int):
    first, *others = pieces([text], size) if text else [""]
    for other in others:
        assert other[0] in " \n" and not first[-1].isspace()
        first = other


def test_a_text_without_spaces_is_cut_all_the_same():
    assert [len(piece) for piece in pieces(["x" * 25], size=4, longest=10)] == [10, 10, 5]


def test_surrogates_are_replaced_and_counted():
    assert mend("plain") == ("plain", 0)
    assert mend("é漢 \ufffd") == ("é漢 \ufffd", 0)
    text = b"a\xff\xfeb\xe2\x82".decode("utf-8", "surrogateescape")
    assert mend(text) == ("a\ufffd\ufffdb\ufffd\ufffd", 4)


def test_splits_by_hash_are_spread_and_stable():
    found = [split_of(fraction(f"document {n}")) for n in range(4000)]
    shares = [found.count(split) / len(found) for split in SPLITS]
    assert shares == pytest.approx([0.90, 0.05, 0.05], abs=0.012)
    assert fraction("etude") == fraction(b"etude") == GOLDEN
    assert 0 <= fraction("\ud800") < 1
    assert check_split("valid") == "valid"


GOLDEN = 0.9636234988361316
