"""Whether pairs are learned from counts, and joined in the order in which they were learned."""

import itertools
import string
from typing import Any

from etude.practice.exam import Exam

Pair = tuple[str, str]


def check(theirs: Any, exam: Exam) -> None:
    """Ask with small texts that each decide one rule, and then with a text of many words."""
    _first_pairs(theirs, exam)
    _joining(theirs, exam)
    for letters in (3, 5):
        alphabet = exam.random.sample(string.ascii_lowercase, letters)
        words = ["".join(exam.random.choices(alphabet, k=exam.random.randint(1, 9))) for _ in range(30)]
        want = _learned(words, 12)
        got = theirs.learn_merges(list(words), 12)
        exam.same([tuple(pair) for pair in got], want, f"learn_merges({words[:2]} and {len(words) - 2} more, 12)")
        for word in (*words[:6], "".join(exam.random.choices(alphabet, k=20)), alphabet[0].upper() + alphabet[1], ""):
            exam.same(theirs.encode(word, list(want)), _cut(word, want), f"encode({word!r}, {want})")
    exam.same(theirs.learn_merges([], 3), [], "learn_merges([], 3)")
    exam.same(theirs.learn_merges(["ab"], 0), [], "learn_merges(['ab'], 0)")


def _first_pairs(theirs: Any, exam: Exam) -> None:
    a, b, c, d, e, f = sorted(exam.random.sample(string.ascii_lowercase, 6))

    def asked(words: list[str], count: int, want: list[Pair], unless: dict[str, list[Pair]]) -> None:
        got = theirs.learn_merges(list(words), count)
        exam.ask(isinstance(got, list), f"learn_merges returns a {type(got).__name__}: give a list of pairs")
        exam.ask(
            all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in got),
            f"learn_merges({words}, {count}) is {got}: every entry has to be a pair of pieces",
        )
        got = [tuple(pair) for pair in got]
        exam.ask(
            len(got) < sum(map(len, words)),
            f"learn_merges({words}, {count}) joins {len(got)} pairs, more than boundaries between letters: after"
            " two pieces are joined, the reading has to go on behind both, so that no piece is used twice",
        )
        exam.same(got, want, f"learn_merges({words}, {count})", unless=unless)

    single = [e + a]
    asked(
        single,
        9,
        [(e, a)],
        {"it ends at pairs that stand at one place: it ends where no word has two pieces any more, or at `count`": []},
    )
    frequent = [a + b, c + d, a + b, c + d + e, a + b]
    asked(
        frequent,
        1,
        [(a, b)],
        {f"a word counts once for every time it stands in the text, and {a + b!r} stands there 3 times": [(c, d)]},
    )
    lined = [b + c + a, b + d + a, b + e + a, b + a, c + f, c + f]
    across = "the pair reaches across words: the last piece of one word and the first of the next are not neighbours"
    asked(lined, 1, [(c, f)], {across: [(a, b)]})
    tied = [b + f, e + a, a + d]
    asked(
        tied,
        1,
        [(a, d)],
        {
            "all three pairs stand at one place, and of equals the least as a tuple is joined, not the first that was"
            " met": [(b, f)],
            "all three pairs stand at one place, and of equals the least as a tuple is joined, not the greatest": [
                (e, a)
            ],
        },
    )
    asked(
        [b * 3, a + c],
        1,
        [(b, b)],
        {f"every place counts: {b * 3!r} has the pair at two places, which overlap": [(a, c)]},
    )
    asked(
        [b * 3],
        3,
        [(b, b), (b + b, b)],
        {"what was joined is not counted as one piece in the next step": [(b, b), (b, b)]},
    )
    asked([a + b, a + c, d], 9, [(a, b), (a, c)], {})


def _joining(theirs: Any, exam: Exam) -> None:
    a, b, c, d = exam.random.sample(string.ascii_lowercase, 4)

    def asked(word: str, merges: list[Pair], want: list[str], unless: dict[str, list[str]]) -> None:
        got = theirs.encode(word, list(merges))
        exam.ask(isinstance(got, list | tuple), f"encode returns a {type(got).__name__}: give a list of pieces")
        exam.same(list(got), want, f"encode({word!r}, {merges})", unless=unless)

    asked(a + b + c, [], [a, b, c], {})
    asked(
        a + a + a,
        [(a, a)],
        [a + a, a],
        {
            "after two pieces are joined, the reading goes on behind both: no piece is used twice": [a + a, a + a],
            "pairs are joined from left to right: the first two of three": [a, a + a],
        },
    )
    twice = a + b + c + a + b
    asked(twice, [(a, b)], [a + b, c, a + b], {"a pair is joined wherever it stands, not once": [a + b, c, a, b]})
    asked(
        a + b + c + d,
        [(a, b), (c, d), (b, c)],
        [a + b, c + d],
        {"the pairs are joined from the last that was learned to the first: begin with the first": [a, b + c, d]},
    )
    asked(
        a + b + c,
        [(b, c), (a, b)],
        [a, b + c],
        {
            "the longest piece from the left is taken: what counts is the order in which the pairs were learned": [
                a + b,
                c,
            ]
        },
    )
    asked(a + b + c, [(a, b), (a + b, c)], [a + b + c], {"joined pieces are not joined further": [a + b, c]})


def _learned(words: list[str], count: int) -> list[Pair]:
    """Learn by counting places in every word anew for each pair."""
    cut, merges = [list(word) for word in words], []
    for _ in range(count):
        pairs = sorted({pair for word in cut for pair in itertools.pairwise(word)})
        if not pairs:
            break
        counts = [sum(tuple(word[n : n + 2]) == pair for word in cut for n in range(len(word))) for pair in pairs]
        merges.append(pairs[counts.index(max(counts))])
        cut = [_cut("".join(word), merges) for word in words]
    return merges


def _cut(word: str, merges: list[Pair]) -> list[str]:
    """Cut by removing one boundary at a time, the leftmost that may go."""
    boundaries = list(range(len(word) + 1))
    for left, right in merges:
        n = 0
        while n + 2 < len(boundaries):
            first, middle, last = boundaries[n : n + 3]
            if (word[first:middle], word[middle:last]) == (left, right):
                boundaries.pop(n + 1)
            n += 1
    return [word[n:m] for n, m in itertools.pairwise(boundaries)]
