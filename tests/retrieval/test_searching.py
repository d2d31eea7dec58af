"""Writing with a library at hand: what is looked up while a text grows, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.retro import Retro
from etude.models.sampling import Sampling
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.libraries import chunks_of, database_of, embedder_of
from etude.retrieval.recipes import Consult, Library, Neighbours
from etude.retrieval.searching import Searcher
from etude.text.corpora.fable import Fable
from etude.text.corpora.facts import Facts
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.retrieval import Retrieval
from etude.train.recipes import Train

M = 8
DATA = Tokens(Facts(subjects=40, facts=2, lead=8), Byte())
LIBRARY = Library(DATA, chunk=M, embedder=Tfidf(dimension=6))
TRAIN = Train(
    data=DATA,
    model=Retro(layers=2, width=16, heads=2, feedforward=16, context=64, chunk=M, cross_from=0, cross_every=1),
    objective=Retrieval(Neighbours(LIBRARY, k=3), k=2),
    batch=4,
    steps=2,
    evaluate_tokens=256,
    precision="fp32",
)
ASKED = Consult(TRAIN, prompt="The name", k=2, sampling=Sampling(temperature=0, max_tokens=20))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def done(lab: Lab) -> dict[Recipe, Run]:
    return {recipe: lab.run(recipe) for recipe in LIBRARY.resolve().needs}


def test_each_whole_chunk_is_looked_up_once_and_brings_its_nearest(lab: Lab, done: dict[Recipe, Run]) -> None:
    run, library = lab.run(ASKED), LIBRARY.resolve()
    written = b"The name" + bytes(run.result["texts"][0]["ids"])
    looked_up = run.result["looked_up"]
    whole = [written[at : at + M] for at in range(0, len(written) - M, M)]  # the last token is never read
    assert [each["chunk"].encode("utf-8", "replace") for each in looked_up] == [
        chunk.decode("utf-8", "replace").encode() for chunk in whole
    ]
    keys, chunks, embedder = database_of(library, done), chunks_of(library, done), embedder_of(library, done)
    every = keys.keys(0, len(keys))
    for each, chunk in zip(looked_up, whole, strict=True):
        query = embedder(np.frombuffer(chunk, np.uint8)[None].astype(np.int64), np.ones((1, M), bool))
        away = np.square(every - query).sum(1)
        found = each["neighbours"]
        np.testing.assert_allclose([n["distance"] for n in found], np.sort(away)[:2], rtol=1e-4, atol=1e-6)
        tokens, present = chunks.read(np.array([n["number"] for n in found]), pieces=2)
        for near, row, there in zip(found, tokens, present, strict=True):
            assert near["text"].encode() == bytes(int(t) for t in row[there] if t < 256)


def test_a_searcher_keeps_the_order_of_texts_and_chunks(done: dict[Recipe, Run]) -> None:
    searcher = Searcher(LIBRARY.resolve(), done, 2)
    chunks = torch.randint(97, 123, (3, 2, M), generator=torch.Generator().manual_seed(0))
    together, present = searcher(chunks)
    assert together.shape == present.shape == (3, 2, 2, 2 * M)
    for row in range(3):
        for chunk in range(2):
            alone, there = searcher(chunks[row : row + 1, chunk : chunk + 1])
            assert torch.equal(alone[0, 0], together[row, chunk]) and torch.equal(there[0, 0], present[row, chunk])


def test_the_library_is_the_one_that_the_model_was_trained_with() -> None:
    assert ASKED.searched == LIBRARY
    other = Library(DATA, chunk=M, embedder=Tfidf(dimension=3))
    assert replace(ASKED, library=other).searched == other


def test_what_cannot_be_looked_up_is_refused(lab: Lab) -> None:
    plain = replace(TRAIN, model=Decoder(layers=1, width=16, heads=2, context=64), objective=Retrieval())
    with pytest.raises(UsageError, match="a decoder reads no library"):
        Consult(plain, library=LIBRARY)
    with pytest.raises(UsageError, match="trained without a library: name one with --library"):
        Consult(replace(TRAIN, objective=Retrieval()))
    with pytest.raises(UsageError, match="chunks have 16 tokens and the model's 8"):
        replace(ASKED, library=Library(DATA, chunk=16))
    with pytest.raises(UsageError, match="k = 0 is too small"):
        replace(ASKED, k=0)
    with pytest.raises(UsageError, match="k = 100000 neighbours of"):
        lab.run(replace(ASKED, k=100_000))
    foreign = Library(Tokens(Fable(stories=60), BytePair(vocabulary=300)), chunk=M, embedder=Tfidf(dimension=6))
    with pytest.raises(UsageError, match="the library is in other tokens than the model's"):
        lab.run(replace(ASKED, library=foreign))
