"""A model brought in as a run: what its recipe settles, what its run holds, and that instruments take it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

import etude
from etude.core.errors import DamagedError, UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.evals.recipes import Heads
from etude.models.architectures.decoder import Decoder
from etude.models.card import card
from etude.models.load import load, load_foreign
from etude.models.outgoing import export, format_for, weights_of
from etude.models.recipes import Imported
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.file import File
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.recipes import Train

SPEC = Decoder(layers=1, width=8, heads=2, feedforward=12, context=16, activation="gelu-tanh", tied=True)
DATA = Tokens(Fable(stories=40), File())


def hf_folder(folder: Path, vocabulary: int = 257, seed: int = 1) -> Path:
    folder.mkdir(parents=True)
    model = SPEC.build(vocabulary, seed)
    chosen, config = format_for(SPEC, vocabulary)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights_of(model, chosen), folder / "model.safetensors", {"format": "pt"})
    (folder / "LICENSE").write_text("MIT License\n")
    ByteTokenizer().save(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hf_folder(tmp_path / "theirs")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "runs", quiet=True)


def test_a_run_holds_what_every_models_run_holds(folder: Path, lab: Lab) -> None:
    run = lab.run(Imported(path=str(folder), data=DATA))
    assert {"model.safetensors", "model.json", "tokenizer.json", "tokenizer-kind.json"} <= run.files.keys()
    assert run.result["parameters"] == SPEC.parameters(257)
    assert (run.result["format"], run.result["class"], run.result["licence"]) == (
        "gpt2",
        "GPT2LMHeadModel",
        "MIT License",
    )
    assert run.result["architecture"] == SPEC.to_json() and run.result["remarks"] == []
    assert run.inputs == []  # the text is for those who look at it later
    model, tokenizer = load(run)
    wanted = SPEC.build(257, 1).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
    assert tokenizer.vocabulary == 257


def test_the_content_decides_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    first = Imported(path=str(folder), data=DATA).resolve()
    assert (len(first.sha256), first.positions, first.context) == (64, 16, 16)
    assert isinstance(first.text.tokenizer, File) and first.text.tokenizer.path == str(folder)
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert Imported(path=str(moved), data=DATA).resolve().id == first.id
    assert Imported(path=str(folder), data=DATA, dtype="bf16").resolve().id != first.id
    assert Imported(path=str(hf_folder(tmp_path / "other", seed=2)), data=DATA).resolve().id != first.id
    shutil.rmtree(folder)
    again = Recipe.from_json(first.to_json())
    assert again == first and again.resolve().id == first.id  # its run is found where the files are gone
    assert isinstance(again, Imported) and again.context == 16 and again.estimate().parameters == 0


def test_a_changed_model_is_noticed(folder: Path, lab: Lab) -> None:
    recipe = Imported(path=str(folder), data=DATA).resolve()
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.bias"] += 1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(DamagedError, match=f"has changed: its sha256 is .* and the recipe's is {recipe.sha256[:12]}"):
        lab.run(recipe)


def test_instruments_and_training_take_it(folder: Path, lab: Lab) -> None:
    brought = Imported(path=str(folder), data=DATA, positions=8)
    heads = lab.run(Heads(of=brought, sequences=2))
    assert len(heads.result["heads"]) == 2 and heads.inputs == [brought.resolve().id]
    wider = dataclasses.replace(brought, positions=0)
    schedule: dict[str, Any] = {"steps": 1, "batch": 2, "evaluate_tokens": 64, "evaluate_every": 0}
    trained = lab.run(Train(wider.resolve().text, SPEC, start=wider, **schedule))
    assert brought.resolve().id != wider.resolve().id
    before, after = load(lab.run(wider))[0].state_dict(), load(trained)[0].state_dict()
    assert 0 < max(float((before[name] - after[name]).abs().max()) for name in before) < 0.01


def test_weights_can_be_kept_in_half_precision(folder: Path, lab: Lab) -> None:
    model, _ = load(lab.run(Imported(path=str(folder), data=DATA, dtype="bf16")))
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_a_padded_embedding_is_said_and_a_short_one_refused(tmp_path: Path, lab: Lab) -> None:
    run = lab.run(Imported(path=str(hf_folder(tmp_path / "padded", 300)), data=DATA))
    assert run.result["remarks"] == ["the embedding has 300 rows for 257 tokens: the rest is padding"]
    short = str(hf_folder(tmp_path / "short", 200))
    with pytest.raises(UsageError, match="the tokenizer has 257 tokens and the embedding 200 rows"):
        lab.run(Imported(path=short, data=DATA))


def test_what_cannot_be(folder: Path) -> None:
    with pytest.raises(UsageError, match="imported needs to know what: --path FOLDER"):
        Imported(data=DATA).resolve()
    with pytest.raises(UsageError, match="reads with its own tokenizer, and bpe makes another"):
        Imported(path=str(folder), data=Tokens(tokenizer=BytePair()))
    with pytest.raises(UsageError, match="positions = 17 is more than the 16 that the model reads"):
        Imported(path=str(folder), data=DATA, positions=17).resolve()
    with pytest.raises(UsageError, match="positions = -1"):
        Imported(positions=-1)
    assert Imported(path=str(folder)).resolve().estimate().parameters == SPEC.parameters(257)


def test_a_card_says_where_a_training_came_from(lab: Lab) -> None:
    data = Tokens(Fable(stories=40), BytePair(vocabulary=300))
    run = lab.run(Train(data, SPEC, steps=2, batch=2, evaluate_tokens=64, evaluate_every=0))
    model, _ = etude.load(run)
    from etude.core.shelf import Shelf

    text = card(run, model.spec, model.vocabulary, Shelf(lab.root))
    loss = run.result["validation"]["loss"]
    assert f"| validation.loss | {loss['mean']:.4g} [{loss['low']:.4g}, {loss['high']:.4g}] |" in text
    assert "| untrained.loss | " in text and "| steps | 2 |" in text
    assert text.startswith("---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [etude]\n---\n")
    tokens = lab.run(data)
    assert f"(run {tokens.id}): {tokens.result['splits']['train']['tokens']:,} tokens" in text
    assert f"Licence: {tokens.result['licence']}" in text
    assert f"Etude version {run.provenance['code']['version']}, source {run.provenance['code']['source']}" in text
    assert Recipe.from_json(json.loads(text.partition("```json\n")[2].partition("```")[0])).id == run.id
    shutil.rmtree(tokens.path)
    assert "which is no longer here: its licence has to be looked up" in card(run, model.spec, 300, Shelf(lab.root))


def test_a_card_tells_no_folders_of_the_machine(folder: Path, lab: Lab, tmp_path: Path) -> None:
    run = lab.run(Imported(path=str(folder), data=DATA))
    from etude.core.shelf import Shelf

    text = card(run, SPEC, 257, Shelf(lab.root))
    assert str(tmp_path) not in text
    assert "Brought in from `theirs`" in text and "whose licence is: MIT License" in text


# out


def test_a_folder_with_something_in_it_is_written_to_only_when_forced(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = etude.load(folder)
    out = tmp_path / "deep" / "out"
    export(model, tokenizer, out, "one\n")
    names = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert {file.name for file in out.iterdir()} == names | {"tokenizer_config.json"}
    (out / "notes.txt").write_text("mine")
    (out / "model-00001-of-00002.safetensors").write_text("of another model")
    with pytest.raises(UsageError, match="holds something already: give another folder, or --force"):
        export(model, tokenizer, out, "two\n")
    assert (out / "README.md").read_text() == "one\n"
    export(model, tokenizer, out, "two\n", force=True)
    assert (out / "README.md").read_text() == "two\n"
    assert {file.name for file in out.iterdir()} == names | {"tokenizer_config.json", "notes.txt"}
    assert sorted(file.name for file in out.parent.iterdir()) == ["out"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="holds something already"):
        export(model, tokenizer, tmp_path / "file", "", force=True)


def test_a_model_that_no_format_has_leaves_no_folder(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, feedforward=0)
    with pytest.raises(UsageError, match=r"attention-only \(feedforward = 0\) cannot be a GPT2LMHeadModel"):
        export(spec.build(257), ByteTokenizer(), tmp_path / "out", "")
    assert list(tmp_path.iterdir()) == []


def test_special_tokens_and_precision_go_along(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer(("pad", "first"))
    config = export(SPEC.build(tokenizer.vocabulary), tokenizer, tmp_path, "", dtype="fp16")
    said = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (said["pad_token"], said["bos_token"], said["eos_token"]) == ("<|pad|>", "<|first|>", "<|endoftext|>")
    specials = tokenizer.specials
    assert (config["pad_token_id"], config["bos_token_id"], config["eos_token_id"]) == (
        specials["pad"], specials["first"], tokenizer.end
    )  # fmt: skip
    assert config["dtype"] == "float16"
    assert {value.dtype for value in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    assert etude.load(tmp_path)[1].specials == specials


def test_a_first_token_stands_before_what_the_ecosystem_reads_too(tmp_path: Path) -> None:
    lines = ["A fox ran to the mill.", "The mill was old."]
    for specials in ((), ("first",)):
        tokenizer = BytePair(vocabulary=280, specials=specials).build(lambda: iter(lines))
        model = Decoder(
            layers=1, width=8, heads=2, feedforward=16, context=16, activation="gelu-tanh", tied=True
        ).build(tokenizer.vocabulary)
        folder = tmp_path / ("with" if specials else "without")
        export(model, tokenizer, folder, "# A card\n")
        theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        lead = [tokenizer.specials["first"]] if specials else []
        assert theirs.encode("The fox.").ids == [*lead, *tokenizer.encode("The fox.")]
        assert theirs.decode(theirs.encode("The fox.").ids) == "The fox."
        again = load_foreign(folder)[1]
        assert again.encode("The fox.") == tokenizer.encode("The fox.") and again.specials == tokenizer.specials
