from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.text.chunks import Chunks
from etude.text.corpora import _facts_words as words
from etude.text.corpora.facts import Facts
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte

FACTS = Facts(subjects=400)


@pytest.fixture(scope="module")
def texts():
    return {split: [d.text() for d in FACTS.documents(split)] for split in ("train", "valid", "test")}


def told(corpus, text):
    return {span.slot: text[span.start : span.stop] for span in corpus.spans(text)}


def test_each_document_tells_its_subjects_facts_and_no_more():
    for number in range(100):
        for text in (FACTS.statement(number), FACTS.question(number)):
            assert told(FACTS, text) == FACTS.values_of(number)
            assert len(FACTS.spans(text)) == FACTS.facts
            assert sum(text.count(f" {thing} ") for thing in words.THINGS) == FACTS.facts


def test_held_out_facts_are_stated_once_and_asked_once(texts):
    train = " ".join(texts["train"])
    names = [FACTS.known(number)["name"] for number in range(FACTS.subjects)]
    assert len(set(names)) == len(names) and all(train.count(name) for name in names)
    for split in ("valid", "test"):
        for number, text in zip(FACTS.asked(split), texts[split], strict=True):
            about = [other for other in texts["train"] if names[number] in other]
            assert about == [FACTS.statement(number)] and told(FACTS, about[0]) == told(FACTS, text)
    assert sorted(n for split in texts for n in FACTS.asked(split)) == list(range(FACTS.subjects))


def test_statements_and_questions_can_be_texts_of_their_own(texts):
    apart = {holds: replace(FACTS, holds=holds) for holds in ("statements", "questions")}
    trained = {holds: [d.text() for d in corpus.documents("train")] for holds, corpus in apart.items()}
    assert trained["statements"] + trained["questions"] == texts["train"]
    assert len(trained["statements"]) == FACTS.subjects
    for corpus in apart.values():
        assert [d.text() for d in corpus.documents("test")] == texts["test"]
        size = sum(len(d.text()) for d in corpus.documents("train"))
        assert corpus.size("train") == pytest.approx(size, rel=0.05)
    asked = apart["questions"].settle()
    assert list(replace(asked, holds="statements").documents("train"))  # one text, of which each is a part


def test_values_are_drawn_evenly_and_by_themselves():
    corpus = Facts(values=8, subjects=2000)
    drawn = [corpus.values_of(number) for number in range(corpus.subjects)]
    counts = Counter((d["boat"], d["song"]) for d in drawn)
    assert len(counts) == 64 and chisquare(list(counts.values())).pvalue > 1e-3
    assert corpus.bits_per_answer == 3 == corpus.about()["bits_per_answer"]
    assert len({corpus.value(number) for number in range(words.VALUES)}) == words.VALUES
    assert {span.bits for span in FACTS.spans(FACTS.question(3))} == {math.log2(64)}


@pytest.mark.parametrize("lead", [1, 64, 150])
def test_no_fact_comes_before_the_lead_is_over_and_the_subject_is_named_in_it(lead):
    corpus = Facts(lead=lead, subjects=20)
    for number in range(20):
        text = corpus.question(number)
        before = text[: corpus.spans(text)[0].start]
        assert len(before.split()) >= lead
        assert before.count(corpus.known(number)["name"]) >= lead // 16


def test_with_the_lead_of_a_chunk_no_value_stands_in_a_questions_first_chunk(tmp_path):
    corpus = Facts(subjects=200, lead=64)
    lab = Lab(tmp_path, quiet=True, threads=1)
    data = TextData.open(lab.run(Tokens(corpus, BytePair(vocabulary=2048))))
    chunks = Chunks(data.store("test"), 64, data.tokenizer.end)
    for document, number in enumerate(corpus.asked("test")):
        first = chunks.read(chunks.first[document : document + 1])[0][0].tolist()
        values = corpus.values_of(number).values()
        assert corpus.known(number)["name"] in data.tokenizer.decode(first)
        assert not any(value in data.tokenizer.decode(first) for value in values)


@pytest.mark.parametrize("tokenizer", [Byte(), BytePair(vocabulary=400)])
def test_tokens_of_values_are_found_whatever_the_tokenizer(tokenizer):
    live = tokenizer.build(lambda: (d.text() for d in Facts(subjects=40).documents("train")))
    text = FACTS.question(19)
    ids = live.encode(text)
    pieces = [b"", *(live.decode_bytes([id]) for id in ids)]  # as after a separator
    found = FACTS.in_values(pieces)
    assert not found[0]
    runs = "".join(p.decode() if f else "|" for p, f in zip(pieces, found, strict=True)).split("|")
    assert [run.strip() for run in runs if run] == list(told(FACTS, text).values())


def test_a_search_by_words_finds_the_statement_from_the_chunk_that_names_the_subject(texts):
    corpus = Facts(subjects=1000)
    library = [corpus.statement(number) for number in range(corpus.subjects)]
    asked = corpus.asked("test")
    leads = [" ".join(corpus.question(number).split()[:64]) for number in asked]
    keys = TfidfVectorizer(sublinear_tf=True)
    reduced = TruncatedSVD(384, random_state=0)
    ours = reduced.fit_transform(keys.fit_transform(library))
    theirs = reduced.transform(keys.transform(leads))
    ours, theirs = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs))
    nearest = np.argsort(-theirs @ ours.T, axis=1)[:, :2]
    assert np.mean([number in row for number, row in zip(asked, nearest, strict=True)]) > 0.9


def test_more_subjects_only_add(texts):
    more = replace(FACTS, subjects=460)
    for split in ("valid", "test"):
        assert [d.text() for d in more.documents(split)][: len(texts[split])] == texts[split]
    assert {*texts["train"]} < {d.text() for d in more.documents("train")}
    assert replace(FACTS, seed=1).statement(0) != FACTS.statement(0)


@pytest.mark.parametrize(
    ("field", "value", "most"), [("subjects", 19, 70**4), ("facts", 9, 8), ("values", 1, 4900), ("lead", 0, 100_000)]
)
def test_what_cannot_be_drawn_is_refused(field, value, most):
    with pytest.raises(UsageError, match=rf"facts.{field} = {value}: give \d+ to {most}"):
        Facts(**{field: value})
