from __future__ import annotations

import json
import random
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pytest

from etude.core.errors import Interrupted, UsageError
from etude.core.lab import Lab
from etude.evals.item_masks import ItemMask
from etude.evals.recipes import BitsPerByte
from etude.models.architectures.decoder import Decoder
from etude.models.recipes import OnText
from etude.retrieval import leakage, leakage_work
from etude.retrieval.leakage import LongestRuns
from etude.retrieval.leakage_curves import sums_within
from etude.retrieval.leakage_work import histogram
from etude.retrieval.recipes import FileLosses, Overlap
from etude.text.chunks import Chunks
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.corpora.wikitext import Wikitext
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

FABLES = Tokens(Fable(stories=60), Byte())
WORDS = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in ("n", "rt", "st", "lo", "mi", "ka")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), quiet=True, threads=1)


def drawn(seed, words):
    """Return a text of so many words, drawn alike and by themselves."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def as_lines(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


def run_of(chunk, text):
    """Return the longest run of tokens that a chunk shares with a text, as difflib finds it."""
    return SequenceMatcher(None, chunk, text, autojunk=False).find_longest_match().size


def check_planted(lab, recipe, planted, least=16):
    """Assert that each planted chunk has a run at least as long as the one in the document it was planted in.

    Args:
        lab: that makes the run.
        recipe: the search.
        planted: pairs of a chunk's number and a training document's.
        least: pairs whose run has fewer tokens are left out.

    Returns:
        how many were long enough.
    """
    run = lab.run(recipe)
    data = TextData.open(lab.run(recipe.against))
    tested = TextData.open(lab.run(recipe.tested or recipe.against)).store(recipe.split)
    ours = Chunks(tested, recipe.chunk, data.tokenizer.end)
    training = data.store("train")
    held, counted = run.tensors("runs.safetensors"), 0
    for number, document in planted:
        low, high = training.documents[document : document + 2].astype(int).tolist()
        (tokens, there) = (part[0] for part in ours.read(np.array([number])))
        wanted = run_of(tokens[there].tolist(), [data.tokenizer.end, *training.tokens[low : high - 1].tolist()])
        if wanted >= least:
            assert held["length"][number] >= wanted
            assert wanted / there.sum() < recipe.threshold or number in {row["chunk"] for row in run.result["leaked"]}
            counted += 1
    return counted


def test_every_planted_span_is_found_unaligned_and_in_whole_documents(tmp_path, lab):
    evaluation = [drawn(f"e{n}", 300) for n in range(12)]
    training = [drawn(f"t{n}", 400) for n in range(30)]
    training[5:5] = evaluation[:2]  # whole documents
    places = {}
    for number, text in enumerate(evaluation[2:], 2):
        words, into = text.split(), training[2 * number + 5].split()
        start = 17 * number % 200
        into[3 * number : 3 * number] = words[start : start + 40]
        training[2 * number + 5] = " ".join(into)
        places[number] = 2 * number + 5
    (tmp_path / "text").mkdir()
    for name, texts in {"train": training, "valid": ["nothing", "here"], "test": evaluation}.items():
        as_lines(tmp_path / "text" / f"{name}.jsonl", texts)
    recipe = Overlap(Tokens(Files(path=str(tmp_path / "text")), BytePair(vocabulary=400)), shown=3, chunk=32)
    data = TextData.open(lab.run(recipe.against))
    chunks = Chunks(data.store("test"), 32, data.tokenizer.end)
    pairs = [(n, 5 + int(d)) for n, d in enumerate(chunks.document) if d < 2]
    pairs += [(n, places[int(d)]) for n, d in enumerate(chunks.document) if d >= 2]
    assert check_planted(lab, recipe, pairs) > 30
    result = lab.run(recipe).result
    whole = [row for row in result["leaked"] if row["of"] < 2]
    assert [row["chunk"] for row in whole] and all(row["r"] == 1 for row in whole)
    assert {(row["of"], row["document"]) for row in whole} == {(0, 5), (1, 6)}
    assert [row["r"] for row in result["leaked"]] == sorted((row["r"] for row in result["leaked"]), reverse=True)
    for row in result["shown"]:
        assert row["evaluation"][1] == row["training"][1] != ""


def test_words_stand_as_they_do_in_both_texts(lab):
    result = lab.run(Overlap(FABLES, shown=5)).result
    texts = [document.text() for document in FABLES.corpus.documents("train")]
    held = {row["chunk"]: row for row in result["leaked"]}
    assert len(result["shown"]) == 5
    for row in result["shown"]:
        found = held[row["chunk"]]
        there = texts[found["document"]]
        assert row["training"][1] == there[max(0, found["offset"] - 1) : found["offset"] - 1 + found["tokens"]]
        assert "".join(row["training"]) in there and there.startswith(row["opening"])


def test_a_file_is_read_whole_and_found_as_the_same_split_is(tmp_path, lab):
    valid = [document.text() for document in FABLES.corpus.documents("valid")]
    as_lines(tmp_path / "valid.jsonl", valid)
    of_file = lab.run(Overlap(FABLES, file=Files(path=str(tmp_path / "valid.jsonl"))))
    of_split = lab.run(Overlap(FABLES, split="valid"))
    assert of_file.result["documents"] == len(valid)
    assert of_file.result["leaked"] == of_split.result["leaked"]
    (tmp_path / "one.txt").write_text(valid[0], encoding="utf-8")
    alone = lab.run(Overlap(FABLES, file=Files(path=str(tmp_path / "one.txt")))).result
    assert alone["leaked"] == [row for row in of_split.result["leaked"] if row["of"] == 0]


def test_a_search_that_was_broken_off_goes_on_and_ends_as_an_unbroken_one(tmp_path, lab, monkeypatch):
    recipe = Overlap(FABLES)
    unbroken = lab.run(recipe)
    monkeypatch.setattr(leakage, "ROOM", 64 * 1000)
    monkeypatch.setattr(leakage_work, "MARK_EVERY", 0.0)
    step, taken = LongestRuns.step, []

    def stopping(self):
        taken.append(self.done)
        if len(taken) == 9:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(LongestRuns, "step", stopping)
    other = Lab(tmp_path / "runs", quiet=True, threads=1)
    with pytest.raises(Interrupted):
        other.run(recipe)
    again = other.run(recipe)
    assert taken[8] == taken[9] == 8000  # the block that was broken off is the first that is taken again
    for name in ("runs.safetensors", "recipe.json"):
        assert again.files[name] == unbroken.files[name]
    assert again.outcome == unbroken.outcome


@pytest.fixture(scope="module")
def model():
    shape = Decoder(layers=1, width=16, heads=2, feedforward=16, context=48)
    return Train(data=FABLES, model=shape, batch=4, steps=3, evaluate_tokens=96, precision="fp32")


def test_losses_of_a_file_are_those_of_the_same_text_as_a_split(tmp_path, lab, model):
    for name in ("train", "valid", "test"):
        as_lines(tmp_path / f"{name}.jsonl", [f"A {name} of {n} birds." * (n + 1) for n in range(5)])
    split = lab.run(BitsPerByte(OnText(model, Files(path=str(tmp_path))), "test"))
    file = Files(path=str(tmp_path / "test.jsonl"))
    found = lab.run(FileLosses(model, Overlap(FABLES, file=file)))
    held = [run.tensors("losses.safetensors")["losses"] for run in (split, found)]
    assert np.array_equal(*held) and found.result["tokens"] == len(held[0])


def test_chunks_take_the_loss_of_each_token_once_but_for_the_separators(lab, model):
    losses = lab.run(BitsPerByte(model, "test")).tensors("losses.safetensors")["losses"]
    held = lab.run(Overlap(FABLES, chunk=24)).tensors("runs.safetensors")
    store = TextData.open(lab.run(FABLES)).store("test")
    sums = sums_within(losses, held["first"], held["stop"])
    ends = store.documents[1:].astype(int) - 1
    assert sums.sum() == pytest.approx(losses.sum(dtype=np.float64) - losses[ends].sum(dtype=np.float64))
    assert held["bytes"].sum() == store.bytes
    assert np.array_equal(np.bincount(held["of"], held["bytes"]), np.diff(store.documents.astype(int)) - 1)


def test_a_histogram_counts_each_chunk_once():
    r = np.array([0, 0, 0.05, 0.125, 0.126, 0.875, 0.999, 1.0, 1.0])
    rows = histogram(r)
    assert [row["chunks"] for row in rows] == [2, 2, 1, 0, 0, 0, 0, 1, 1, 2]
    assert rows[0]["to"] == 0 and rows[-1]["to"] == 1 and sum(row["chunks"] for row in rows) == len(r)


def test_what_cannot_be_searched_is_refused(tmp_path, lab, model):
    file = Files(path=str(tmp_path / "a.txt"))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"split": "train"}, "the train split is what is searched"),
        ({"threshold": 0.0}, "threshold = 0: give a share of a chunk"),
        ({"least": 65}, "least = 65 tokens of a chunk of 64: give 1 to 64"),
        ({"tested": FABLES, "file": file}, "a file or a split of a corpus"),
    ]
    for fields, words in wrong:
        with pytest.raises(UsageError, match=words):
            Overlap(FABLES, **fields)
    with pytest.raises(UsageError, match="score the model on it with bits-per-byte"):
        FileLosses(model, Overlap(FABLES))
    with pytest.raises(UsageError, match="in other tokens than the model's"):
        FileLosses(model, Overlap(Tokens(Fable(stories=60)), file=file))
    (tmp_path / "a.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(UsageError, match="holds no text"):
        lab.run(Overlap(FABLES, file=file))


@pytest.mark.slow
def test_what_is_planted_in_wikitext_is_found(shared, tmp_path, lab):
    """5% of the chunks of the test split, as spans at any word of a training article, and some as whole articles."""
    corpus = Wikitext(path=str(shared / "wikitext-2"))
    plain = Tokens(corpus)
    data = TextData.open(lab.run(plain))
    chunks = Chunks(data.store("test"), 64, data.tokenizer.end)
    texts = {split: [d.text() for d in corpus.documents(split)] for split in ("train", "valid", "test")}
    pick = random.Random(0)
    whole = pick.sample(range(len(texts["test"])), 3)
    planted = [(n, len(texts["train"]) + whole.index(int(d))) for n, d in enumerate(chunks.document) if d in whole]
    alone = [n for n, d in enumerate(chunks.document) if d not in whole]
    for number in pick.sample(alone, max(0, round(0.05 * len(chunks)) - len(planted)) + 100):
        tokens, there = (part[0] for part in chunks.read(np.array([number])))
        kept = [token for token in tokens[there].tolist() if token != data.tokenizer.end]
        words = data.tokenizer.decode(kept).split(" ")[1:-1]
        target = pick.randrange(len(texts["train"]))
        into = texts["train"][target].split(" ")
        at = pick.randrange(len(into))
        texts["train"][target] = " ".join([*into[:at], *words, *into[at:]])
        planted.append((number, target))
    texts["train"] += [texts["test"][n] for n in whole]
    (tmp_path / "planted").mkdir()
    for split, each in texts.items():
        as_lines(tmp_path / "planted" / f"{split}.jsonl", each)
    recipe = Overlap(Tokens(Files(path=str(tmp_path / "planted")), like=plain))
    assert len(planted) >= 0.05 * len(chunks)
    assert check_planted(lab, recipe, planted) > 0.9 * len(planted)


def test_a_file_of_items_gets_a_mask_of_the_rows_that_leaked(lab, tmp_path):
    """Rows count as the file has them, those without text too; and what is written is what evaluations read."""
    data = TextData.open(lab.run(FABLES))
    store = data.store("train")
    copied = data.tokenizer.decode(store.tokens[20:120].tolist())
    as_lines(tmp_path / "items.jsonl", [drawn(1, 30), "", copied, drawn(2, 30), f"{drawn(3, 4)} {copied}"])
    run = lab.run(Overlap(FABLES, file=Files(path=str(tmp_path / "items.jsonl"))))
    mask = ItemMask(str(run.file("mask.json"))).resolve()
    assert mask.masked() == {"items.jsonl": {3, 5}}
    as_lines(tmp_path / "items.jsonl", [drawn(1, 30), drawn(2, 30)])
    clean = lab.run(Overlap(FABLES, file=Files(path=str(tmp_path / "items.jsonl"))))
    assert ItemMask(str(clean.file("mask.json"))).masked() == {}
