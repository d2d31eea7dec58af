"""Words to values and back."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.core.spec import Spec
from etude.core.values import read, settable, written


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3", int, 3),
        ("-3", int, -3),
        ("2e6", int, 2_000_000),
        ("2_000", int, 2000),
        ("1e-3", float, 0.001),
        ("3", float, 3.0),
        ("a b", str, "a b"),
        ("none", int | None, None),
        ("7", int | None, 7),
        ("none", str, "none"),
        ("relu", Literal["relu", "gelu"], "relu"),
        ("2", Literal[1, 2], 2),
        ("none", Literal["a"] | None, None),
        ("auto", int | Literal["auto"], "auto"),
        ("12", int | Literal["auto"], 12),
        ("12", str | int, 12),
        ("no", bool | None, False),
        ("1, 5,10", tuple[int, ...], (1, 5, 10)),
        ("", tuple[int, ...], ()),
        ("0.9,3", tuple[float, int], (0.9, 3)),
        ("a, b", tuple[str, ...], ("a", "b")),
        ("", tuple[str, ...], ()),
        ("[]", tuple[str, ...], ()),
        ('[",", " a", "\\n"]', tuple[str, ...], (",", " a", "\n")),
        ('["a, b"]', tuple[str, ...] | None, ("a, b",)),
        ("\n", tuple[str, ...], ("\n",)),
        ("\nYou:,[INST]", tuple[str, ...], ("\nYou:", "[INST]")),
    ],
)
def test_words_become_values(text, hint, value):
    found = read(text, hint, "--x")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "message"),
    [
        ("1.5", int, "--x '1.5' is not a whole number"),
        ("ten", float, "--x 'ten' is not a number"),
        ("nan", int, "--x 'nan' is not a whole number"),
        ("1e400", int, "is not a whole number"),
        ("rleu", Literal["relu", "gelu"], "unknown --x 'rleu': did you mean 'relu'? There are: gelu, relu."),
        ("maybe", bool, "--x 'maybe' is not yes or no"),
        ("1,2,3", tuple[int, int], "--x needs 2 values, and 3 were given"),
        ("1,b", tuple[int, ...], "--x 'b' is not a whole number"),
        (",", tuple[str, ...], """--x ',' has no text beside its commas: as a JSON list, [","]"""),
        (" ", tuple[str, ...], """--x ' ' has no text beside its commas: as a JSON list, [" "]"""),
        ('["a"', tuple[str, ...], """--x '["a"' is no JSON list"""),
        ('["a", 1]', tuple[str, ...], "is a JSON list of more than texts"),
        ('["a","b"]', tuple[str], "--x needs 1 values, and 2 were given"),
    ],
)
def test_other_words_are_refused(text, hint, message):
    with pytest.raises(UsageError) as caught:
        read(text, hint, "--x")
    assert message in str(caught.value)


def test_what_can_be_spelled():
    assert settable(int | None) and settable(tuple[float, ...]) and settable(Literal["a"])
    assert not settable(Spec) and not settable(tuple[tuple[int, ...], ...]) and not settable(dict)


@given(st.one_of(
    st.tuples(st.integers(), st.just(int)),
    st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.just(float)),
    st.tuples(st.booleans(), st.just(bool)),
    st.tuples(st.text(), st.just(str)),
    st.tuples(st.none() | st.integers(), st.just(int | None)),
    st.tuples(st.lists(st.integers()).map(tuple), st.just(tuple[int, ...])),
    st.tuples(st.lists(st.text() | st.sampled_from([",", " ", "[]", '["', "\n"])).map(tuple), st.just(tuple[str, ...])),
))  # fmt: skip
def test_what_is_written_reads_back(case):
    value, hint = case
    assert read(written(value), hint, "--x") == value
