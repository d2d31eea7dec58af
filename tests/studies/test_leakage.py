from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from etude.cli.app import main
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals.recipes import BitsPerByte
from etude.models.architectures.decoder import Decoder
from etude.models.recipes import OnText
from etude.report.blocks import Chart, Finding, Strong, Table, Text, walk
from etude.studies.leakage import Leakage
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

LEAKED = "The lamp that Orla mended hangs by the third window of the old mill, and nobody may touch it. "


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A training text of fifty documents, one of which has the leaked sentence in its middle."""
    folder = tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 50), ("valid", 3), ("test", 3)):
        rows = [f"Of {split} bird {n} it is told that it flew {n * n} miles. " * 3 for n in range(count)]
        if split == "train":
            rows[31] = rows[31] + LEAKED + rows[31]
        lines = "".join(json.dumps({"text": row}) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "mine.txt"
    path.write_text("Here is something of my own, which was written today.\n" + LEAKED + "And here is more.\n")
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), quiet=True, threads=1)


def page_of(lab, study):
    study = study.resolve()
    run = lab.run(study)
    done = {recipe.resolve(): lab.run(recipe.resolve()) for recipe in study.plan({})}
    return run, study.tell(done)


def words_in(node):
    return " ".join(part if isinstance(part, str) else getattr(part, "text", "") or part.shown for part in node.parts)


def test_one_command_says_whether_a_file_leaked_and_where(corpus, tested, tmp_path, capsys):
    words = ["--against", "files", "--against.path", str(corpus), "--tokenizer", "byte", "--chunk", "48"]
    code = main(["run", "leakage", "--eval", str(tested), *words, "--runs", str(tmp_path), "--quiet", "--json"])
    result = json.loads(capsys.readouterr().out)["result"]
    assert code == 0
    assert result["chunks"] == math.ceil((1 + len(tested.read_text())) / 48)
    assert [row["share"]["mean"] for row in result["curve"]][-1] == 1
    assert {row["document"] for row in result["leaked"]} == {31}
    assert result["leaked"][0]["r"] == max(row["r"] for row in result["leaked"]) >= 0.9
    text = json.loads((corpus / "train.jsonl").read_text().splitlines()[31])["text"]
    for row in result["leaked"]:
        start = 48 * row["chunk"] + row["start"] - 1
        shared = tested.read_text()[start : start + row["tokens"]]
        assert text[row["offset"] - 1 :].startswith(shared) and shared in LEAKED
    assert result["findings"][0]["strength"] == "clear"


def test_the_page_shows_the_worst_side_by_side(corpus, tested, lab):
    study = Leakage(str(tested), Files(path=str(corpus)), tokenizer=Byte(), chunk=48, shown=1)
    run, page = page_of(lab, study)
    table = next(s for s in page.sections if s.title == "The worst, side by side").blocks[0]
    assert isinstance(table, Table) and len(table.rows) == 1
    ours, theirs = (cell for cell in table.rows[0] if isinstance(cell, Text))
    bold = [[part.text for part in cell.parts if isinstance(part, Strong)] for cell in (ours, theirs)]
    assert bold[0] == bold[1] and bold[0][0] in LEAKED
    assert "document 31" in words_in(theirs) and len(run.result["leaked"]) > 1
    more = [words_in(node) for node in walk(page) if isinstance(node, Text) and "more chunks leaked" in words_in(node)]
    assert more == [
        f"{len(run.result['leaked']) - 1}  more chunks leaked; every one is listed under  leaked  in the result."
    ]
    assert sum(isinstance(node, Chart) for node in walk(page)) == 2


def test_a_text_of_ones_own_words_has_not_leaked_and_the_page_says_so(corpus, lab, tmp_path):
    (tmp_path / "own.txt").write_text("Quite unheard of: jazz quiz, vexing fjords.")
    study = Leakage(str(tmp_path / "own.txt"), Files(path=str(corpus)), tokenizer=Byte())
    run, page = page_of(lab, study)
    found = [node for node in walk(page) if isinstance(node, Finding)]
    assert [f.strength for f in found] == ["none"] and run.result["leaked"] == []
    assert "None of 1 chunks" in run.result["findings"][0]["text"]
    assert "The worst, side by side" not in {section.title for section in page.sections}


@pytest.fixture(scope="module")
def model():
    return Train(
        data=Tokens(Fable(stories=60), Byte()),
        model=Decoder(layers=1, width=16, heads=2, feedforward=16, context=48),
        batch=4,
        steps=3,
        evaluate_tokens=96,
        precision="fp32",
    )


def test_a_models_curve_ends_at_its_bits_per_byte_on_all_chunks(lab, model):
    run, page = page_of(lab, Leakage(of=model))
    held = lab.run(BitsPerByte(model, "test"))
    losses = held.tensors("losses.safetensors")["losses"].astype(np.float64)
    store = TextData.open(lab.run(model.data)).store("test")
    losses[store.documents[1:].astype(int) - 1] = 0  # the separators, which are in no chunk
    ends = run.result["curve"][-1]
    assert ends["alpha"] == 1 and ends["bits_per_byte"]["mean"] == pytest.approx(
        losses.sum() / math.log(2) / store.bytes
    )
    counts = [row["chunks"] for row in run.result["curve"]]
    assert counts == sorted(counts) and counts[-1] == run.result["chunks"] and 0 < counts[4] < counts[-1]
    assert "The model on chunks by what they share" in {section.title for section in page.sections}
    r = np.array([row["r"] for row in run.result["leaked"]])
    assert len(r) and run.result["flattered"]["low"] < run.result["flattered"]["mean"]
    assert any("Without the chunks that leaked" in f["text"] for f in run.result["findings"])


def test_a_model_is_asked_in_its_own_tokens_whatever_is_searched(tested, model):
    against = Fable(stories=100, seed=1)
    study = Leakage(of=model, against=against)
    assert study.overlap.against == OnText(model, against).text
    assert study.losses == BitsPerByte(OnText(model, against), "test")
    other = Leakage(of=model, corpus=against, split="valid")
    assert other.overlap.against == model.data and other.overlap.tested == OnText(model, against).text
    of_file = Leakage(str(tested), of=model)
    assert of_file.losses is not None and of_file.losses.kind == "file-losses"
    assert of_file.overlap.file == Files(path=str(tested))


def test_where_the_file_lies_does_not_enter_and_what_it_says_does(corpus, tested, tmp_path):
    study = Leakage(str(tested), Files(path=str(corpus))).resolve()
    shutil.copy(tested, tmp_path / "moved.txt")
    moved = Leakage(str(tmp_path / "moved.txt"), Files(path=str(corpus))).resolve()
    assert moved.id == study.id
    (tmp_path / "moved.txt").write_text("else")
    assert Leakage(str(tmp_path / "moved.txt"), Files(path=str(corpus))).resolve().id != study.id
    assert Leakage(against=Files(path=str(corpus))).resolve().id != study.id


def test_what_cannot_be_asked_is_refused_in_one_line(model, tested, tmp_path):
    with pytest.raises(UsageError, match="there is nothing to search: give the training text with --against CORPUS"):
        Leakage(str(tested))
    with pytest.raises(UsageError, match=r"alphas = 0.5, 0.25, 1: give rising shares"):
        Leakage(against=Fable(), alphas=(0.5, 0.25, 1.0))
    with pytest.raises(UsageError, match=r"alphas = 0.5: give rising shares from 0 on, the last 1"):
        Leakage(against=Fable(), alphas=(0.5,))
    with pytest.raises(UsageError, match="k = 2 neighbours are those of the model's own text"):
        Leakage(str(tested), of=model, k=2)
    with pytest.raises(UsageError, match="a file or a split of a corpus: give one of them"):
        Leakage(str(tested), against=Fable(), corpus=Fable(seed=1))
    with pytest.raises(UsageError, match=r"no file or folder '.*none.txt': give the evaluation text with --eval FILE"):
        Leakage(str(tmp_path / "none.txt"), Fable()).resolve()
