"""The grammar against enumeration, which knows nothing of how entropies and readings are computed."""

from __future__ import annotations

import math
import statistics

import pytest

from etude.core.errors import UsageError
from etude.text.corpora.fable import Fable
from etude.text.grammar import ANY, Grammar, Pick, even, follows, free, zipf

TINY = Grammar(
    "{who} saw {what}.{then} {who} {verb}{again}.",
    (
        free("who", zipf("Ann", "Ben", "Anna")),
        free("what", even("a cat", "a cat and a dog")),
        Pick("verb", {"Ben": {"ran": 0.25, "sat": 0.75}, ANY: even("ran", "hid")}, "who"),
        Pick("then", {ANY: {"": 0.5, " It fled.": 0.5}}),
        Pick("again", {"": {"": 1.0}, ANY: {" away": 0.9, " fast": 0.1}}, "then"),
        follows("unseen", "who", {"Ann": "1", "Ben": "2", "Anna": "3"}),
    ),
)


def test_enumerated_probabilities_sum_to_one_and_no_two_texts_are_equal():
    found = list(TINY.enumerate())
    texts = [text for text, _ in found]
    assert len(texts) == len(set(texts)) == 3 * 2 * 2 * 3
    assert math.fsum(p for _, p in found) == pytest.approx(1)


SEEN = Grammar(TINY.template, TINY.picks[:-1])


def test_a_text_is_read_back_with_its_probability():
    for text, p in SEEN.enumerate():
        assert SEEN.render(SEEN.choices(text)) == text
        assert SEEN.log_probability(text) == pytest.approx(math.log(p))
        assert sum(span.bits for span in SEEN.spans(text)) == pytest.approx(-math.log2(p))


def test_entropy_and_length_are_those_of_the_enumeration():
    found = list(SEEN.enumerate())
    assert SEEN.entropy() == pytest.approx(-math.fsum(p * math.log2(p) for _, p in found))
    assert SEEN.mean_bytes() == pytest.approx(math.fsum(p * len(text.encode()) for text, p in found))


def test_draws_follow_the_probabilities():
    drawn = [SEEN.draw(f"{n}") for n in range(4000)]
    for text, p in SEEN.enumerate():
        assert drawn.count(text) / len(drawn) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / len(drawn)))


def test_what_cannot_be_has_no_probability():
    assert SEEN.log_probability("Ann saw a cat. Ben hid.") == -math.inf  # the name must return
    assert SEEN.log_probability("Ben saw a cat. Ben hid.") == -math.inf  # Ben never hides
    with pytest.raises(UsageError, match="not a text of this grammar: 'nothing'"):
        SEEN.choices("nothing")


def test_spans_point_at_the_words():
    text = "Ben saw a cat. It fled. Ben ran away."
    spans = SEEN.spans(text)
    assert [(text[s.start : s.stop], s.slot) for s in spans] == [
        ("Ben", "who"), ("a cat", "what"), (" It fled.", "then"), ("Ben", "who"), ("ran", "verb"), (" away", "again"),
    ]  # fmt: skip
    assert [round(s.bits, 3) for s in spans if s.slot == "who"] == [1.874, 0.0]


FABLE = Fable(stories=3000)
STORIES = [FABLE.story(number) for number in range(FABLE.stories)]


def test_stories_are_read_back():
    for story in STORIES[:300]:
        drawn = FABLE.grammar.choices(story)
        assert FABLE.grammar.render(drawn) == story
        assert -FABLE.log_probability(story) / math.log(2) == pytest.approx(sum(s.bits for s in FABLE.spans(story)))


def test_the_tables_are_distributions():
    for pick in FABLE.grammar.picks:
        for table in pick.tables.values():
            assert math.fsum(table.values()) == pytest.approx(1)


def test_the_mean_surprise_of_stories_is_the_entropy_within_its_interval():
    bits = [-FABLE.log_probability(story) / math.log(2) for story in STORIES]
    error = statistics.stdev(bits) / math.sqrt(len(bits))
    assert abs(statistics.fmean(bits) - FABLE.grammar.entropy()) < 3.5 * error
    lengths = [len(story.encode()) for story in STORIES]
    error = statistics.stdev(lengths) / math.sqrt(len(lengths))
    assert abs(statistics.fmean(lengths) - FABLE.grammar.mean_bytes()) < 3.5 * error


def test_true_bits_per_byte_of_a_split():
    valid = [document.text() for document in FABLE.documents("valid")]
    bits = -sum(map(FABLE.log_probability, valid)) / math.log(2)
    assert FABLE.true_bits_per_byte("valid") == pytest.approx(bits / sum(len(text.encode()) for text in valid))
    assert FABLE.true_bits_per_byte("train") == pytest.approx(FABLE.about()["bits_per_byte"], rel=0.03)


def test_the_planted_regularities_hold():
    slots = {pick.slot for pick in FABLE.grammar.picks}
    for regularity in FABLE.regularities:
        assert set(regularity.slots) <= slots and regularity.description
    for story in STORIES[:200]:
        spans = [(story[s.start : s.stop], s) for s in FABLE.spans(story)]
        repeated = [s for n, (_, s) in enumerate(spans) if s.slot in {t.slot for _, t in spans[:n]}]
        assert repeated and all(s.bits == 0 for s in repeated)
        assert all(s.bits == 0 for _, s in spans if s.slot in ("sound", "cry", "back", "pronoun", "Pronoun"))
        assert all(line.count('"') % 2 == 0 for line in story.splitlines())
        out, back = (next(words for words, s in spans if s.slot == slot) for slot in ("path", "back"))
        assert out.replace(" and ", ", ").split(", ") == back.replace(" and ", ", ").split(", ")[::-1]


def test_more_stories_only_add():
    fewer, more = (
        [d.text() for d in Fable(stories=n).documents("valid")] for n in (100, 200)
    )  # each story's split is its number's
    assert more[: len(fewer)] == fewer
    assert Fable(seed=1).story(0) != Fable(seed=2).story(0)


def test_too_few_stories():
    with pytest.raises(UsageError, match=r"fable.stories = 19 .* at least 20"):
        Fable(stories=19)
