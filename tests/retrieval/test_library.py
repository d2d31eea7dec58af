"""The recipe of a library and its run: what is embedded, what is added, what a kill leaves, and what is refused."""

from __future__ import annotations

import functools
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.core.done import Done
from etude.core.errors import DamagedError, UsageError
from etude.core.files import sha256_of
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.seeds import stream
from etude.models.architectures.decoder import Decoder
from etude.retrieval import work
from etude.retrieval.building import planned
from etude.retrieval.database import Database
from etude.retrieval.embedders.hidden import Hidden
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.libraries import FITTED, chunks_of, database_of, embedder_of
from etude.retrieval.manifest import MANIFEST, Manifest
from etude.retrieval.recipes import Library
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

TFIDF = Tfidf(dimension=16)
TEXT = Tokens(Fable(stories=60), BytePair(vocabulary=320))
MORE = Tokens(Fable(stories=40, seed=1), BytePair(vocabulary=320), like=TEXT)
BASE = Library(TEXT, 16, TFIDF)
ADDED = Library(MORE, 16, TFIDF, extends=BASE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("library") / "runs", quiet=True, threads=1)


def at_hand(lab: Lab, library: Library) -> Done:
    """Return the runs that a library needs, made where they are not."""
    done = Done()
    for needed in library.needs:
        done.add(needed.resolve(), lab.run(needed))
    return done


def test_the_result_counts_what_the_training_split_holds(lab: Lab):
    result = lab.run(BASE).result
    text = TextData.open(lab.run(TEXT))
    bounds = np.asarray(text.store("train").documents).astype(int)
    lengths = np.diff(bounds)  # the separator before instead of the one behind
    chunks = -(-lengths // 16)
    assert result["chunks"] == result["all_chunks"] == chunks.sum()
    assert result["documents"] == len(lengths)
    assert result["shorter"] == pytest.approx((lengths % 16 != 0).sum() / chunks.sum())
    assert (result["dimension"], result["shards"], result["embedder"]) == (16, 1, "tfidf")
    assert result["bytes"] == 128 + 4 * 16 * chunks.sum()
    assert result["timing"]["embed_seconds"] > 0


def test_a_library_is_read_back_with_its_chunks_and_its_embedder(lab: Lab):
    done = at_hand(lab, BASE)
    database, volumes, embedder = database_of(BASE, done), chunks_of(BASE, done), embedder_of(BASE, done)
    assert len(database) == len(volumes)
    numbers = np.array([0, 5, len(volumes) - 1])
    keys = np.concatenate([database.keys(n, n + 1) for n in numbers.tolist()])
    np.testing.assert_allclose(embedder(*volumes.read(numbers)), keys, atol=1e-6)


def test_text_that_is_added_is_embedded_alone_as_the_library_was_fitted(lab: Lab):
    base, added = lab.run(BASE), lab.run(ADDED)
    assert added.result["all_chunks"] == base.result["chunks"] + added.result["chunks"]
    assert sha256_of(added.path / FITTED) == sha256_of(base.path / FITTED)
    done = at_hand(lab, ADDED)
    database, volumes = database_of(ADDED, done), chunks_of(ADDED, done)
    assert len(database) == len(volumes) == added.result["all_chunks"]
    first = base.result["chunks"]
    np.testing.assert_array_equal(database.keys(0, first), database_of(BASE, at_hand(lab, BASE)).keys(0, first))
    alone = Manifest.read(added.path)
    assert alone.chunks == added.result["chunks"] and alone.fitted == Manifest.read(base.path).fitted
    keys = embedder_of(BASE, at_hand(lab, BASE))(*volumes.read(np.arange(first, len(volumes))))
    np.testing.assert_allclose(database.keys(first, len(volumes)), keys, atol=1e-6)


def test_a_library_that_was_extended_is_extended_again(lab: Lab):
    third = Library(Tokens(Fable(stories=30, seed=2), BytePair(vocabulary=320), like=TEXT), 16, TFIDF, extends=ADDED)
    assert third.volumes == (TEXT, MORE, third.data)
    run = lab.run(third)
    done = at_hand(lab, third)
    assert len(database_of(third, done)) == run.result["all_chunks"] == len(chunks_of(third, done))
    assert {r.kind for r in third.needs} == {"library", "tokens"} and len(third.needs) == 6


def test_a_model_embeds_the_text_that_it_was_trained_on(lab: Lab):
    model = Train(
        data=TEXT,
        model=Decoder(layers=1, width=16, heads=2, feedforward=32, context=32),
        batch=4,
        steps=2,
        evaluate_every=0,
        evaluate_tokens=64,
    )
    library = Library(TEXT, 16, Hidden(model))
    assert model in library.needs and model in tuple(library.plan({}))
    run = lab.run(library)
    assert lab.run(model).id in run.inputs
    assert run.result["dimension"] == 16


def test_what_cannot_be_embedded_is_refused_before_anything_is_made():
    for change, said in {
        "chunk": ({"chunk": 0}, "chunk = 0 is too small"),
        "openings": ({"data": replace(TEXT, openings=20)}, "openings = 20 are no whole documents"),
        "other chunk": ({"extends": Library(TEXT, 8, TFIDF), "data": MORE}, r"has 8: set --chunk 8"),
        "other size": ({"extends": Library(TEXT, 16), "data": MORE}, "give --embedder the same"),
        "other kind": ({"extends": Library(TEXT, 16, Hidden(Train(data=TEXT))), "data": MORE}, "embedder hidden of"),
        "the same": ({"extends": BASE}, "this text is in the library that is extended"),
    }.values():
        with pytest.raises(UsageError, match=said):
            replace(BASE, **change).resolve()


@pytest.mark.parametrize(
    "data", [Tokens(Fable(stories=40), BytePair(vocabulary=320)), Tokens(Fable(stories=60), Byte())]
)
def test_text_in_other_tokens_is_not_added(data: Tokens):
    with pytest.raises(UsageError, match=r"has other tokens: set --data.like to its data"):
        Library(data, 16, TFIDF, extends=BASE).resolve()


def test_a_library_whose_shard_is_gone_is_not_added_to(tmp_path: Path):
    lab = Lab(tmp_path / "runs", quiet=True, threads=1)
    base = lab.run(BASE)
    (base.path / "keys-00000.npy").unlink()
    with pytest.raises(DamagedError, match=r"keys-00000.npy' is missing: remove the library's run and make it again"):
        lab.run(ADDED)


def test_a_library_of_another_path_with_the_same_text_is_the_same(tmp_path: Path):
    def of(name: str) -> Library:
        path = tmp_path / name
        path.mkdir()
        rows = (json.dumps({"text": f"row {n}: a text about {n % 7}"}) for n in range(100))
        (path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
        return Library(Tokens(Files(path=str(path)), Byte()))

    assert of("one").resolve().id == of("two").resolve().id


def test_the_estimate_is_four_bytes_a_number_for_the_most_chunks_that_the_text_can_have():
    corpus = Fable().resolve()
    most = round(corpus.size("train") / 64) * 4 * 16
    assert Library(Tokens(corpus, Byte()), 64, TFIDF).estimate().disk_bytes == most > 0
    assert Library(Tokens(corpus, BytePair()), 32, TFIDF).estimate().disk_bytes == pytest.approx(most, rel=1e-3)


# kills

SHARD_OF = 16

CHILD = """
import functools, json, sys, time
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.retrieval import building, work

work.planned = functools.partial(work.planned, shard=16)
embedded = building.embedded
building.embedded = lambda *given: (time.sleep(0.02), embedded(*given))[1]  # long enough to be killed in
Lab(sys.argv[1], threads=1, quiet=True).run(Recipe.from_json(json.loads(sys.argv[2])))
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Library:
    texts = tmp_path / "texts"
    texts.mkdir()
    draw = random.Random(stream(0, "texts"))
    words = [f"word{n}" for n in range(200)]
    rows = (json.dumps({"text": " ".join(draw.choices(words, k=draw.randint(5, 80)))}) for _ in range(200))
    (texts / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    resolved = Library(Tokens(Files(path=str(texts)), Byte()), 64, TFIDF).resolve()
    assert isinstance(resolved, Library)
    return resolved


def unbroken(folder: Path, recipe: Library, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(work, "planned", functools.partial(planned, shard=SHARD_OF))
    return Lab(folder / "unbroken", quiet=True, threads=1).run(recipe)


def same(one: Run, other: Run) -> bool:
    """Return whether two runs hold the same files, hash for hash, apart from what the clock decides."""
    timed = {"result.json", "provenance.json"}
    found = [{name: entry for name, entry in run.files.items() if name not in timed} for run in (one, other)]
    return found[0] == found[1] and one.outcome == other.outcome


def test_a_library_that_is_stopped_again_and_again_ends_as_an_unbroken_one(
    tmp_path: Path, recipe: Library, monkeypatch: pytest.MonkeyPatch
):
    whole = unbroken(tmp_path, recipe, monkeypatch)
    assert whole.result["shards"] > 20
    lab, build, stops = Lab(tmp_path / "stopped", quiet=True, threads=1), work.build, random.Random(1)

    def stopping(folder: Path, chunks: Any, embedder: Any, plan: Manifest, progress: Any) -> Manifest:
        left = stops.randint(0, 9)

        def tell(done: int, total: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise RuntimeError("stopped")
            progress(done, total)

        return build(folder, chunks, embedder, plan, tell)

    monkeypatch.setattr(work, "build", stopping)
    fits = []
    monkeypatch.setattr(Tfidf, "fit", lambda self, *given, fit=Tfidf.fit: (fits.append(1), fit(self, *given))[1])
    for _ in range(5):
        with pytest.raises(RuntimeError, match="stopped"):
            lab.run(recipe)
    monkeypatch.setattr(work, "build", build)
    again = lab.run(recipe)
    assert same(whole, again)
    assert fits == [1]  # what was fitted before the first stop is what all shards have


@pytest.mark.kill
def test_killed_ten_times_at_random_moments_it_ends_hash_for_hash_as_an_unbroken_one(
    tmp_path: Path, recipe: Library, monkeypatch: pytest.MonkeyPatch
):
    whole = unbroken(tmp_path, recipe, monkeypatch)
    lab, moments = Lab(tmp_path / "killed", quiet=True, threads=1), random.Random(7)
    lab.run(recipe.data)
    partial = lab.root / f"{recipe.id}.partial"

    def made() -> int:
        if not (partial / MANIFEST).exists():
            return 0
        return sum(shard is not None for shard in Manifest.read(partial).shards)

    reached = []
    for _ in range(10):
        before = made()
        command = [sys.executable, "-c", CHILD, str(lab.root), json.dumps(recipe.to_json())]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 120
        wanted = before + moments.choice([0, 1, 2])
        while not partial.exists() or made() < wanted:
            assert time.monotonic() < end and process.poll() is None, "it did not begin"
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and lab.lookup(recipe) is None
        reached.append(made())
    assert reached == sorted(reached) and 0 < reached[-1] < whole.result["shards"]
    again = lab.run(recipe)
    assert same(whole, again)
    Database.open(again.path).verify()
    assert not list(again.path.glob(".*"))


def test_a_recipe_is_read_back_from_its_run(lab: Lab):
    run = lab.run(ADDED)
    assert run.recipe == ADDED.resolve() and Recipe.from_json(run.recipe_data).id == run.id
