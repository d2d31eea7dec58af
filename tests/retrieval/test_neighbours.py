from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from etude.cli.app import main
from etude.core.errors import DamagedError, Interrupted, UsageError
from etude.core.lab import Lab
from etude.retrieval import neighbours_work, prepared
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.exact import distances
from etude.retrieval.libraries import chunks_of, database_of, embedder_of
from etude.retrieval.recipes import Library, Neighbours
from etude.retrieval.shown import lines
from etude.text.chunks import Chunks
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.neighbours import Neighboured, NeighbourTable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte

M = 16
TEXT = Tokens(Fable(stories=40), Byte())
LIBRARY = Library(TEXT, chunk=M, embedder=Tfidf(dimension=24))
RECIPE = Neighbours(LIBRARY, k=3)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), quiet=True, threads=1)


@pytest.fixture(scope="module")
def run(lab):
    return lab.run(RECIPE)


def done(lab, recipe):
    needs = [*recipe.of.needs, recipe.text]
    return dict(zip(needs, lab.run_all(needs), strict=True))


def table(run, split):
    return NeighbourTable.open(run.file(f"{split}.neighbours.npy"), run.file(f"{split}.distances.npy"))


def by_hand(lab, recipe, split, banned=()):
    """Return the neighbours of a split by comparing every chunk with every chunk."""
    inputs = done(lab, recipe)
    library, embed = chunks_of(recipe.of, inputs), embedder_of(recipe.of, inputs)
    text = TextData.open(inputs[recipe.text])
    chunks = Chunks(text.store(split), recipe.chunk, text.tokenizer.end)
    keys = database_of(recipe.of, inputs).keys(0, len(library))
    numbers = np.full((len(chunks), recipe.k), -1)
    away = np.full((len(chunks), recipe.k), np.inf, np.float32)
    for c in range(len(chunks)):
        if chunks.starts[c] + recipe.chunk > chunks.stops[c]:
            continue
        own = split == "train" and recipe.text == recipe.of.data
        query = keys[[c]] if own else embed(*chunks.read(np.array([c])))
        far = distances(query, keys[None])[0]
        far[np.isin(library.document, list(banned))] = np.inf
        if own:
            far[library.document == chunks.document[c]] = np.inf
        order = np.lexsort((np.arange(len(far)), far))[: recipe.k]
        away[c], numbers[c] = far[order], np.where(np.isfinite(far[order]), order, -1)
    return numbers, away


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_neighbours_are_the_nearest_chunks_of_other_documents(lab, run, split):
    numbers, away = by_hand(lab, RECIPE, split)
    found = table(run, split)
    assert found.numbers.dtype == np.int64 and found.distances.dtype == np.float32
    assert np.allclose(found.distances, away, rtol=1e-4, atol=1e-6)
    same = found.numbers == numbers
    assert same.mean() > 0.99  # equally far but for rounding: an embedding may differ in its last bit with its batch
    if split == "train":
        assert same.all()


def test_the_result_counts_what_was_found(run):
    told = run.result["splits"]["train"]
    found = table(run, "train")
    whole = (found.numbers >= 0).any(1)
    assert told["chunks"] == len(found.numbers) and told["whole"] == whole.sum()
    assert told["short"] == told["empty"] == 0
    assert told["nearest"] == pytest.approx(found.distances[whole, 0].mean(), rel=1e-6)
    assert told["furthest"] == pytest.approx(found.distances[whole, 2].mean(), rel=1e-6)
    assert run.result["index"] == {"kind": "exact", "recall": 1.0}
    assert run.result["near_duplicates"]["documents"] == 0 and run.result["notices"] == []


def test_a_chunk_that_its_document_ends_early_has_no_neighbours(lab, run):
    text = TextData.open(lab.run(TEXT))
    chunks = Chunks(text.store("train"), M, text.tokenizer.end)
    shorter = chunks.stops - chunks.starts < M
    assert 0 < shorter.sum() < len(chunks)
    assert np.array_equal((table(run, "train").numbers == -1).all(1), shorter)


def test_a_model_that_retrieves_can_be_given_them(lab, run):
    inputs = done(lab, RECIPE)
    text = TextData.open(inputs[TEXT])
    library = chunks_of(LIBRARY, inputs)
    windows = Neighboured(text.store("train"), 4 * M, text.tokenizer.end, table(run, "train"), library, k=2)
    batch = windows.batch(np.arange(5))
    read, _ = library.read(table(run, "train").numbers[0, :2], pieces=2)
    assert np.array_equal(batch.given["neighbours"][0, 0], read)


def test_lists_find_nearly_the_same_and_the_recall_is_measured(lab, run):
    pytest.importorskip("faiss", exc_type=ImportError)
    listed = lab.run(replace(RECIPE, index="ivf", recall=0.95, splits=("train",)))
    said = listed.result["index"]
    assert said["kind"] == "ivf" and 0.95 <= said["recall"] <= 1 and 1 <= said["probes"] < said["lists"]
    found, true = table(listed, "train"), table(run, "train")
    near = found.distances <= true.distances[:, -1:]
    assert near[(true.numbers >= 0).any(1)].mean() > 0.93


def test_size_decides_between_exact_search_and_lists(lab, monkeypatch):
    pytest.importorskip("faiss", exc_type=ImportError)
    monkeypatch.setattr(prepared, "ABOVE", 100)
    assert lab.run(replace(RECIPE, k=2, splits=("valid",))).result["index"]["kind"] == "ivf"
    assert lab.run(replace(RECIPE, k=2, splits=("valid",), index="exact")).result["index"]["kind"] == "exact"


# other texts


def stories(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return Files(path=str(path))


WORDS = "river stone apple window letter garden winter silver music table orange bridge candle forest".split()  # noqa: SIM905


def story(seed, words=60):
    random = np.random.default_rng(seed)
    return " ".join(random.choice(WORDS, size=words))


def test_another_text_finds_all_of_the_library_and_its_own_held_out_documents_are_left_out_of_it(lab, tmp_path):
    other = Tokens(Fable(stories=30, seed=5), Byte())
    recipe = Neighbours(LIBRARY, other, k=3)
    found = lab.run(recipe)
    for split in ("train", "test"):
        assert np.allclose(table(found, split).distances, by_hand(lab, recipe, split)[1], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def leaking(lab, tmp_path_factory):
    """A text, of whose training documents one is nearly one of its test split, and which one that is."""
    folder = tmp_path_factory.mktemp("leaking")
    for name, seeds in (("train", range(12)), ("valid", (20, 21)), ("test", (30, 31))):
        texts = [story(seed) for seed in seeds]
        if name == "train":
            texts[7] = story(31)[:-4] + "xyz!"
        stories(folder / f"{name}.jsonl", texts)
    return Tokens(Files(path=str(folder)), Byte())


def test_near_duplicates_of_held_out_documents_are_found_by_nobody(lab, leaking):
    library = Library(leaking, chunk=M, embedder=Tfidf(dimension=24))
    open_to_all = lab.run(Neighbours(library, k=3, near_duplicates=0.0))
    kept_out = lab.run(Neighbours(library, k=3))
    volumes = chunks_of(library, done(lab, Neighbours(library)))
    told = kept_out.result["near_duplicates"]
    assert told["documents"] == 1 and told["chunks"] == (volumes.document == 7).sum()
    assert told["first"][0] | {"alike": 0} == {"document": 7, "of": 3, "alike": 0}  # two of valid, then those of test
    assert "one document is nearly in the validation or test split" in kept_out.result["notices"][0]
    for split in ("train", "valid", "test"):
        numbers = table(kept_out, split).numbers
        assert 7 not in volumes.document[numbers[numbers >= 0]]
        assert np.array_equal(numbers, by_hand(lab, Neighbours(library, k=3), split, banned=[7])[0])
    numbers = table(open_to_all, "test").numbers
    assert 7 in volumes.document[numbers[numbers >= 0]]


def test_a_library_of_one_document_has_no_neighbours_for_it_and_says_so(tmp_path):
    for name, seeds in (("train", (1,)), ("valid", (2,)), ("test", (3,))):
        stories(tmp_path / f"{name}.jsonl", [story(seed) for seed in seeds])
    text = Tokens(Files(path=str(tmp_path)), Byte())
    recipe = Neighbours(Library(text, chunk=M, embedder=Tfidf(dimension=8)), k=500)
    run = Lab(tmp_path / "runs", quiet=True, threads=1).run(recipe)
    told = run.result
    assert told["splits"]["train"]["empty"] == told["splits"]["train"]["whole"] > 0
    assert (table(run, "train").numbers == -1).all() and told["splits"]["train"]["nearest"] is None
    assert any("train: no chunk has a neighbour" in words and "(1)" in words for words in told["notices"])
    assert any("valid:" in words and "fewer neighbours than were asked for" in words for words in told["notices"])
    assert table(run, "valid").k == 500


def test_a_library_that_was_extended_knows_its_own_documents_in_each_volume(lab):
    added = Tokens(Fable(stories=30, seed=9), Byte())
    grown = Library(added, chunk=M, embedder=Tfidf(dimension=24), extends=LIBRARY)
    recipe = Neighbours(grown, k=3, splits=("train",), near_duplicates=0.0)
    volumes, found = chunks_of(grown, done(lab, recipe)), table(lab.run(recipe), "train").numbers
    before = len(volumes.parts[0])
    own = volumes.document[before:][:, None]
    assert ((volumes.document[found] != own) | (found < 0)).all()
    assert (found[found >= 0] < before).any() and (found >= before).any()
    older = table(lab.run(replace(recipe, data=TEXT)), "train").numbers  # the first volume's text, in the whole library
    assert ((volumes.document[older] != volumes.document[:before][:, None]) | (older < 0)).all()
    assert (older >= before).any()


# going on, and what is damaged


def same_files(one, other):
    names = [name for name in one.files if name not in ("provenance.json", "result.json")]
    return len(names) > 6 and all(one.files[name] == other.files[name] for name in names)


def test_a_stopped_search_goes_on_at_its_block_and_ends_as_an_unbroken_one(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours_work, "AT_ONCE", 300)
    recipe, searched, of = replace(RECIPE, k=5), [], neighbours_work.Search.of
    whole, own = lab.run(recipe), Lab(tmp_path / "runs", quiet=True, threads=1)

    def stopping(self, split, numbers):
        if len(searched) == 2:
            raise KeyboardInterrupt
        searched.append(len(numbers))
        return of(self, split, numbers)

    monkeypatch.setattr(neighbours_work.Search, "of", stopping)
    with pytest.raises(Interrupted):
        own.run(recipe)
    monkeypatch.setattr(neighbours_work.Search, "of", lambda *given: (searched.append(0), of(*given))[1])
    assert same_files(own.run(recipe), whole)
    assert len(searched) == sum(-(-whole.result["splits"][split]["whole"] // 300) for split in recipe.splits) > 3


KILLED = """
import sys
from pathlib import Path
from etude.core.lab import Lab
from etude.core.shelf import recipe_from_file
from etude.retrieval import neighbours_work
neighbours_work.AT_ONCE = 40
folder = Path(sys.argv[1])
Lab(folder / "runs", quiet=True, threads=1).run(recipe_from_file(folder / "recipe.json"))
"""


@pytest.mark.kill
def test_killed_again_and_again_it_comes_to_the_same_files(lab, tmp_path, monkeypatch):
    pytest.importorskip("faiss", exc_type=ImportError)
    monkeypatch.setattr(neighbours_work, "AT_ONCE", 40)
    recipe = replace(RECIPE, index="ivf", k=4)
    whole = lab.run(recipe)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.resolve().to_json()), encoding="utf-8")
    random, killed = np.random.default_rng(0), 0
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=random.uniform(1.5, 6))
        process.kill()
        killed += process.wait() != 0
    assert killed
    assert same_files(Lab(tmp_path / "runs", quiet=True, threads=1).run(recipe), whole)


def test_a_changed_shard_of_the_library_is_refused(tmp_path):
    lab = Lab(tmp_path / "runs", quiet=True, threads=1)
    shard = lab.run(LIBRARY).path / "keys-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(bytes(data))
    with pytest.raises(DamagedError, match=r"keys-00000"):
        lab.run(RECIPE)


def test_a_text_in_other_tokens_than_the_library_is_refused():
    other = Tokens(Fable(stories=30, seed=5), BytePair(vocabulary=300))
    with pytest.raises(UsageError, match=r"set --data\.like to the library's data"):
        Neighbours(LIBRARY, other)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"k": 0}, "k = 0 neighbours are none"),
        ({"splits": ()}, "splits = none: give one or more of train, valid, test, once"),
        ({"splits": ("train", "train")}, "give one or more of"),
        ({"recall": 0.0}, "recall = 0: give a share"),
        ({"near_duplicates": 0.05}, "give a Jaccard similarity"),
        ({"show": 65}, "show = 65: 64 chunks are kept in words, so give 0 to 64"),
        ({"data": replace(TEXT, openings=20)}, "openings = 20 are no whole documents"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fields, words):
    with pytest.raises(UsageError) as caught:
        replace(RECIPE, **fields)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_shown_does_not_enter_the_fingerprint_and_the_recall_does():
    assert replace(RECIPE, show=10).resolve().id == RECIPE.resolve().id
    assert replace(RECIPE, recall=0.9).resolve().id != RECIPE.resolve().id


# in words


def test_a_run_that_is_done_shows_as_many_chunks_as_are_asked_for_beside_their_neighbours(lab, run, capsys):
    folder = str(lab.root)
    assert main(["run", "neighbours", "--runs", folder, *FLAGS, "--k", "3", "--show", "2"]) == 0
    out = capsys.readouterr()
    assert "is done already" in out.err
    assert sum("1. distance" in line for line in out.out.splitlines()) == 2
    assert main(["run", "neighbours", "--runs", folder, *FLAGS, "--k", "3"]) == 0
    assert "distance" not in capsys.readouterr().out


LIBRARY_FLAGS = ["--of", "library", "--of.data.corpus", "fable", "--of.data.corpus.stories", "40", "--of.chunk", "16"]
FLAGS = [*LIBRARY_FLAGS, "--of.data.tokenizer", "byte", "--of.embedder", "tfidf", "--of.embedder.dimension", "24"]


def test_the_words_shown_are_those_of_the_chunk_and_of_its_neighbours(lab, run):
    examples = json.loads(run.file("examples.json").read_text())
    assert len(examples) == 64 and {example["split"] for example in examples} == {"train", "valid", "test"}
    inputs = done(lab, RECIPE)
    library, text = chunks_of(LIBRARY, inputs), TextData.open(inputs[TEXT])
    for example in examples[::9]:
        found = table(run, example["split"])
        shown = example["neighbours"]
        assert [n["chunk"] for n in shown] == found.numbers[example["chunk"], :3].tolist()
        assert [n["distance"] for n in shown] == pytest.approx(found.distances[example["chunk"], :3].tolist(), abs=1e-5)
        tokens, there = library.read(np.array([shown[0]["chunk"]]), pieces=2)
        words = text.tokenizer.decode([t for t in tokens[there].tolist() if t != text.tokenizer.end])
        assert shown[0]["text"] + shown[0]["continuation"] == words
    assert max(len(line) for line in lines(examples, 10, width=80)) <= 80


def test_no_neighbours_to_show_is_said():
    assert list(lines([], 3)) == ["no chunk has a neighbour to show"]
    assert list(lines([], 0)) == []
