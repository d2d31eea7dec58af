"""The synthetic tasks: every answer right by another way of finding it, no question in two splits, and the floor."""

from __future__ import annotations

import collections
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.text.corpora._task import Task
from etude.text.corpora.brackets import Brackets, ways
from etude.text.corpora.copying import Copying
from etude.text.corpora.modular_addition import ModularAddition
from etude.text.corpora.repetition import Repetition
from etude.text.corpora.reversal import Reversal
from etude.text.corpora.sorting import Sorting
from etude.text.splits import SPLITS
from etude.text.tokenizers.live.byte import ByteTokenizer

DRAWN = (Copying, Reversal, Sorting, Repetition, Brackets)


def texts(corpus: Any, split: str) -> list[str]:
    return [document.text() for document in corpus.documents(split)]


def every(corpus: Any) -> Iterator[str]:
    return itertools.chain.from_iterable(texts(corpus, split) for split in SPLITS)


def small(cls: type[Task], **fields: Any) -> Task:
    return cls(problems=400, **fields)


# every answer, by a checker that does not know how it was made


def is_copy(text: str) -> bool:
    middle = len(text) // 2
    return text[: middle - 1] == text[middle + 2 :] and text[middle - 1 : middle + 2] == " > "


def is_reverse(text: str) -> bool:
    return text == text[::-1] and text.count(" > ") == 1


def is_sorted(text: str) -> bool:
    question, answer = ([int(word) for word in side.split()] for side in text.split(">"))
    steps = all(a <= b for a, b in itertools.pairwise(answer))
    return steps and collections.Counter(question) == collections.Counter(answer)


def is_repetition(text: str) -> bool:
    symbols = text.split(" ")
    period = symbols.index(symbols[0], 1)
    first = symbols[:period]
    return len(set(first)) == period and all(a == b for a, b in zip(symbols, symbols[period:], strict=False))


def is_balanced(text: str) -> bool:
    while text:  # take out pairs that touch until nothing is left
        shorter = text.replace("()", "").replace("[]", "").replace("{}", "").replace("<>", "")
        if shorter == text:
            return False
        text = shorter
    return True


CHECKERS = {
    Copying: is_copy,
    Reversal: is_reverse,
    Sorting: is_sorted,
    Repetition: is_repetition,
    Brackets: is_balanced,
}


@pytest.mark.parametrize("cls", DRAWN)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_answer_is_right(cls: type[Task], data: st.DataObject):
    symbols = data.draw(st.integers(2, cls.most_symbols))
    shortest = data.draw(st.integers(1, min(symbols, 6)))
    longest = data.draw(st.integers(shortest, min(symbols, 9) if cls is Repetition else 9))
    seed = data.draw(st.integers(0, 10**6))
    task = cls(seed=seed, problems=100, symbols=symbols, shortest=shortest, longest=longest)
    for number in range(30):
        assert CHECKERS[cls](task.problem(number).text)


def test_repetition_without_spaces_is_the_same_problems_letter_by_letter():
    spaced = Repetition(symbols=64, shortest=8, longest=15, total=31, problems=100)
    bare = replace(spaced, spaced=False)
    for number in range(100):
        assert bare.problem(number).text == spaced.problem(number).text.replace(" ", "")
        assert is_repetition(" ".join(bare.problem(number).text)) and len(bare.problem(number).text) == 31
    assert bare.entropy() == spaced.entropy() and bare.identity() != spaced.identity()


def test_the_checkers_see_what_is_wrong():
    assert not is_copy("a b > b a") and not is_reverse("a b > a b") and not is_sorted("2 1 > 2 1")
    assert not is_sorted("2 1 > 1 1") and not is_repetition("a b a c")
    assert not is_balanced("([)]") and not is_balanced("(")


@pytest.mark.parametrize("cls", DRAWN)
def test_no_question_is_in_two_splits(cls: type[Task]):
    task = cls(problems=4000, symbols=4, shortest=2, longest=4)  # few enough that each comes many times
    questions = {split: {problem.question for _, problem in task.drawn(split)} for split in SPLITS}
    other = cls(seed=1, problems=4000, symbols=4, shortest=2, longest=4)
    assert not questions["train"] & questions["valid"] | questions["train"] & questions["test"]
    assert not questions["valid"] & questions["test"]
    assert not {problem.question for _, problem in other.drawn("train")} & (questions["valid"] | questions["test"])


@pytest.mark.parametrize("cls", DRAWN)
def test_shares_seeds_and_more_problems(cls: type[Task]):
    counts = {split: len(texts(cls(problems=4000), split)) for split in SPLITS}
    assert sum(counts.values()) == 4000
    assert abs(counts["train"] - 3600) < 120 and abs(counts["valid"] - 200) < 60
    assert texts(small(cls), "train") != texts(small(cls, seed=1), "train")
    fewer = texts(small(cls), "train")
    assert texts(cls(problems=800), "train")[: len(fewer)] == fewer
    assert small(cls).identity() != small(cls, seed=1).identity()


# the floor


@pytest.mark.parametrize("cls", DRAWN)
def test_bits_are_those_of_the_distribution(cls: type[Task]):
    """Drawn often enough, each question comes as often as its bits say, and all that there are come."""
    task = cls(problems=100, symbols=3, shortest=1, longest=2)
    drawn = [task.problem(number) for number in range(20_000)]
    bits = {problem.text: problem.bits for problem in drawn}
    assert sum(2**-b for b in bits.values()) == pytest.approx(1, abs=1e-12)  # none is missing and none counted twice
    found = collections.Counter(problem.text for problem in drawn)
    for text, b in bits.items():
        expected = 20_000 * 2**-b
        assert abs(found[text] - expected) < 5 * math.sqrt(expected)
    assert task.entropy() == pytest.approx(sum(b * 2**-b for b in bits.values()), abs=1e-12)
    assert task.about()["bits_per_document"] == round(task.entropy(), 6)


def test_floors_by_hand():
    assert Copying(symbols=2, shortest=8, longest=8).entropy() == 8
    assert Reversal(symbols=4, shortest=3, longest=4).entropy() == 1 + (6 + 8) / 2
    assert Repetition(symbols=4, shortest=2, longest=2).entropy() == math.log2(12)
    assert Brackets(symbols=1, shortest=4, longest=4).entropy() == math.log2(14)
    assert ModularAddition().entropy() == 2 * math.log2(97)


@pytest.mark.parametrize("cls", DRAWN)
def test_true_bits_per_byte(cls: type[Task]):
    task = cls(problems=2000)
    found = texts(task, "train")
    near = task.entropy() * len(found) / sum(len(text) for text in found)
    assert task.true_bits_per_byte("train") == pytest.approx(near, rel=0.03)


def test_balanced_strings_are_counted_as_they_are():
    for left in range(11):
        for depth in range(left + 2):
            brute = sum(closes(depth, moves) for moves in itertools.product((1, -1), repeat=left))
            assert ways(depth, left) == brute, (depth, left)


def closes(depth: int, moves: tuple[int, ...]) -> bool:
    depths = list(itertools.accumulate(moves, initial=depth))
    return min(depths) >= 0 and depths[-1] == 0


def test_periods_are_as_likely():
    found = collections.Counter(len(p.question.split()) for _, p in Repetition(problems=6000).drawn("train"))
    assert set(found) == set(range(4, 13)) and max(found.values()) < 1.3 * min(found.values())


# modular addition


def test_every_sum_stands_once():
    task = ModularAddition(modulus=23, fraction=0.4)
    found = list(every(task))
    assert len(found) == len(set(found)) == 23 * 23
    for text in found:
        left, right, result = (int(word) for word in text.replace("+", " ").replace("=", " ").split())
        assert result in range(23) and (left + right - result) % 23 == 0
    counts = [len(texts(task, split)) for split in SPLITS]
    assert counts == [212, 159, 158]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.floats(0.05, 0.95), st.integers(0, 99))
def test_sums_are_divided_without_rest(modulus: int, fraction: float, seed: int):
    learned = round(fraction * modulus**2)
    if learned < 1 or modulus**2 - learned < 2:
        with pytest.raises(UsageError, match="leave a split empty"):
            ModularAddition(modulus=modulus, fraction=fraction, seed=seed)
        return
    task = ModularAddition(modulus=modulus, fraction=fraction, seed=seed)
    splits = [list(task.sums(split)) for split in SPLITS]
    assert all(splits) and len(set().union(*splits)) == sum(map(len, splits)) == modulus**2
    assert len(splits[0]) == round(fraction * modulus**2) and len(splits[1]) - len(splits[2]) in (0, 1)


def test_seeds_choose_other_sums():
    first, second = (set(ModularAddition(seed=seed).sums("train")) for seed in (0, 1))
    shared = len(first & second) / len(first)
    assert 0.45 < shared < 0.55


# what a person meets


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("copying", {"symbols": 27}, "copying.symbols = 27: give 1 to 26"),
        ("sorting", {"symbols": 1001}, "sorting.symbols = 1001: give 1 to 1000"),
        ("brackets", {"symbols": 5}, "brackets.symbols = 5: give 1 to 4"),
        ("reversal", {"shortest": 5, "longest": 4}, "reversal.shortest = 5 and longest = 4: give 1 or more"),
        ("copying", {"problems": 9}, "copying.problems = 9 may leave a split empty: give at least 100"),
        ("repetition", {"symbols": 8}, "longest = 12 is more than symbols = 8: the letters of a round differ"),
        ("repetition", {"total": 12}, "total = 12 leaves no letter to repeat: give more than longest = 12"),
        ("modular-addition", {"modulus": 1}, "modular-addition.modulus = 1 and fraction = 0.5 leave a split empty"),
        ("modular-addition", {"fraction": 1.0}, "fraction = 1 leave a split empty or are out of bounds"),
    ],
)
def test_what_cannot_be_is_said(name: str, fields: dict[str, Any], message: str):
    with pytest.raises(UsageError) as caught:
        Family("text/corpora").member(name)(**fields)
    assert message in str(caught.value)


def test_too_few_questions_are_said():
    task = Copying(symbols=1, shortest=1, longest=1)
    with pytest.raises(UsageError, match="split of copying is empty: there are too few different questions"):
        list(every(task))


@pytest.mark.parametrize("name", ["copying", "reversal", "sorting", "repetition", "brackets", "modular-addition"])
def test_a_byte_tokenizer_reads_them(name: str):
    corpus = cast(Any, Family("text/corpora").member(name)())
    text = next(corpus.documents("valid")).text()
    assert text.isascii() and "\n" not in text
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    settled = corpus.resolve()
    assert type(settled).from_json(json.loads(json.dumps(settled.to_json()))) == settled
