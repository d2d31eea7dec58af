"""Classes of tokens that a person would name: the start of a word, a number, punctuation. A loss can be told for each.

The classes follow from how a token is written, so they are the same for every model that reads with a tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from etude.text.tokenizers.live import Tokenizer

CLASSES = ("word start", "word part", "number", "punctuation", "white space", "mark")
"""Names of the classes. A word starts with a space in most tokenizers; its later tokens, and words at the start of a
line, are parts. A mark is a token that stands for no text, as the end of a document."""


@dataclass(frozen=True, eq=False)
class TokenClasses:
    """Which class each token is of.

    Attributes:
        of: [V] numbers of classes.
        names: of the classes.
    """

    of: Int[np.ndarray, " V"]
    names: tuple[str, ...] = CLASSES


def token_classes(tokenizer: Tokenizer, vocabulary: int) -> TokenClasses:
    """Return the classes of a tokenizer's tokens.

    Args:
        tokenizer: what writes them.
        vocabulary: of the model; rows of a padded embedding, which are no tokens, are marks.
    """
    marks = {tokenizer.end, *tokenizer.specials.values()}
    found = np.full(vocabulary, CLASSES.index("mark"), np.int64)
    for token in range(min(vocabulary, tokenizer.vocabulary)):
        if token not in marks:
            found[token] = _class_of(tokenizer.piece(token))
    return TokenClasses(found)


def _class_of(piece: str) -> int:
    bare = piece.replace("\\n", " ").replace("\\t", " ").replace("\\r", " ")
    said = bare.strip()
    if not said:
        name = "white space"
    elif any(letter.isalpha() for letter in said) and not said.startswith("\\x"):
        name = "word start" if bare[:1] == " " else "word part"
    elif any(letter.isdigit() for letter in said) and not said.startswith("\\x"):
        name = "number"
    else:
        name = "punctuation"
    return CLASSES.index(name)
