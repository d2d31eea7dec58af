"""Nothing that is shown acts on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.text.visible import visible

any_text = st.text(st.characters())  # lone surrogates too


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;evil\x07", r"\x1b[2J\x1b]0;evil\x07"),
        ("a\x9b31mb\x7f\x00\x08", r"a\x9b31mb\x7f\x00\x08"),
        ("one\r\ntwo\tthree", "one\\r\ntwo\tthree"),
        ("abc\u202egpj.exe\u2066", r"abc\u202egpj.exe\u2066"),
        ("\u2028\ufeff\u200b\U000e0041\ud800", r"\u2028\ufeff\u200b\U000e0041\ud800"),
        ("naïve, „Zitat“, 数学, 🙂, 👩\u200d🚀, می\u200cخواهم, [bold red]x[/]", None),
    ],
    ids=["escapes", "C1", "line ends", "directions", "hidden", "what is read stays"],
)
def test_what_acts_is_spelled(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)


@given(any_text, any_text)
def test_pieces_are_shown_as_the_whole(a: str, b: str) -> None:
    assert visible(a) + visible(b) == visible(a + b)


@given(any_text)
def test_only_line_ends_tabs_and_letters_come_out(text: str) -> None:
    assert all(c.isprintable() or c in "\n\t\u200c\u200d" or ord(c) > 0x9F for c in visible(text))
    assert not any(0x80 <= ord(c) <= 0x9F or c in "\u2028\u2029\u202e\u2067" for c in visible(text))
