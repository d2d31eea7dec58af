"""Byte-pair encoding: a vocabulary of pieces, learned from text."""

from collections import Counter
from itertools import pairwise


def learn_merges(words: list[str], count: int) -> list[tuple[str, str]]:
    """Learn which pieces to join (Sennrich et al. 2016, section 3.2).

    Every word starts as its characters. At each step the pair of neighbouring pieces that stands at most places in all
    words becomes one piece, wherever it stands, read from left to right: of the pieces x, x, x the first two join.

    Args:
        words: the text. A word that stands in it three times counts three times. Pairs never reach across words. Every
            place counts: the pieces x, x, x hold the pair (x, x) at two places.
        count: the most pairs to learn. It ends before, where no word has two pieces any more.

    Returns:
        The pairs in the order in which they were joined. Of pairs at equally many places the one that is least as a
        tuple of strings is joined, as in ("a", "z") before ("b", "a").
    """
    raise NotImplementedError


def encode(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Cut a word into pieces: from its characters, join each pair of `merges` in turn, from the first to the last.

    Args:
        word: any word, also one that was not learned from, or the empty one.
        merges: pairs, each of which is joined wherever it stands, from left to right, before the next one's turn.

    Returns:
        The pieces, which put together are the word.
    """
    raise NotImplementedError
