"""Byte-pair encoding: a vocabulary of pieces, learned from text."""

from collections import Counter
from itertools import pairwise


def learn_merges(words: list[str], count: int) -> list[tuple[str, str]]:
    """Join the most frequent pair of neighbouring pieces, again and again, and return the pairs."""
    pieces = [list(word) for word in words]
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        places = Counter(pair for word in pieces for pair in pairwise(word))
        if not places:
            break
        best = min(places, key=lambda pair: (-places[pair], pair))
        pieces = [join(word, best) for word in pieces]
        merges.append(best)
    return merges


def encode(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Join the pairs in their order, and return the word's pieces."""
    pieces = list(word)
    for pair in merges:
        pieces = join(pieces, pair)
    return pieces


def join(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """Return the pieces with a pair joined wherever it stands, from left to right."""
    joined, at = [], 0
    while at < len(pieces):
        width = 2 if tuple(pieces[at : at + 2]) == pair else 1
        joined.append("".join(pieces[at : at + width]))
        at += width
    return joined
