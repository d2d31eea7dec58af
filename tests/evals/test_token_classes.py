"""Classes of tokens are what a person would say of how they are written."""

from __future__ import annotations

import numpy as np
import pytest

from etude.evals.token_classes import CLASSES, token_classes
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.live import ByteTokenizer


def named(letter: str) -> str:
    classes = token_classes(ByteTokenizer(), 257)
    return classes.names[int(classes.of[ByteTokenizer().encode(letter)[0]])]


@pytest.mark.parametrize(
    ("letter", "name"),
    [
        *(("a", "word part"), ("Z", "word part"), ("7", "number"), (",", "punctuation"), ("-", "punctuation")),
        *((" ", "white space"), ("\n", "white space"), ("\t", "white space"), ("é", "punctuation")),
    ],
)
def test_a_byte_is_of_its_class(letter: str, name: str) -> None:
    """A byte of a letter beyond ASCII is no letter by itself."""
    assert named(letter) == name


def test_a_word_starts_with_its_space() -> None:
    tokenizer = BytePair(vocabulary=400).build(lambda: iter(["the cat and the hat and 1999 and then, the end\n" * 50]))
    classes = token_classes(tokenizer, tokenizer.vocabulary)
    found = {tokenizer.piece(t): classes.names[int(classes.of[t])] for t in range(tokenizer.vocabulary)}
    assert found[" the"] == found[" and"] == "word start"
    assert found["t"] == "word part" and found["9"] == "number" and found[","] == "punctuation"
    learned = {piece: name for piece, name in found.items() if piece.startswith(" ") and piece.strip().isalpha()}
    assert len(learned) > 3 and set(learned.values()) == {"word start"}


def test_marks_and_rows_that_are_no_tokens_are_marks() -> None:
    tokenizer = ByteTokenizer()
    classes = token_classes(tokenizer, 300)
    assert classes.of.shape == (300,)
    assert set(classes.of[[tokenizer.end, *range(257, 300)]]) == {CLASSES.index("mark")}
    assert np.array_equal(classes.of[:250], token_classes(tokenizer, 250).of)
