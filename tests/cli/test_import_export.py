"""`etude import` and `etude export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import etude as house
from etude.models.architectures.decoder import Decoder
from etude.models.outgoing import format_for, weights_of
from etude.text.tokenizers.live import ByteTokenizer

SPEC = Decoder(layers=1, width=8, heads=2, feedforward=12, context=16, activation="gelu-tanh", tied=True)


@pytest.fixture
def folder(here: Path) -> Path:
    place = here / "theirs"
    place.mkdir()
    chosen, config = format_for(SPEC, 257)
    (place / "config.json").write_text(json.dumps(config))
    (place / "README.md").write_text("---\nlicense: mit\n---\n")
    save_file(weights_of(SPEC.build(257, 1), chosen), place / "model.safetensors", {"format": "pt"})
    ByteTokenizer().save(place)
    return place


def test_in_and_out(etude, folder: Path, here: Path):
    answer = etude("import", "theirs", "--name", "mine", "--quiet")
    assert (answer.code, answer.err) == (0, "")
    run = answer.last.removeprefix("runs/")
    told = dict(line.split(None, 1) for line in answer.out.splitlines()[:-1])
    assert told["run"] == run and told["format"] == "gpt2 (GPT2LMHeadModel)" and told["licence"] == "mit"
    assert told["parameters"] == f"{SPEC.parameters(257):,}"
    assert told["architecture"] == "decoder: 1 layers, width 8, 2 heads, context 16"
    assert etude("import", folder).err.startswith(f"{run} is there already")
    assert etude("import", folder, "--json").json["id"] == run
    assert f"etude run imported --path {folder.name}" in etude("show", "mine").out

    out = etude("export", "mine", "--to", "hf", "out")
    assert out.out.splitlines() == [f"{run} as GPT2LMHeadModel: {SPEC.parameters(257):,} parameters in float32", "out"]
    again = etude("export", "mine", "out")
    assert (again.code, again.err) == (
        2, f"etude: '{here / 'out'}' holds something already: give another folder, or --force to write over it\n"
    )  # fmt: skip
    forced = etude("export", "mine", "out", "--force", "--dtype", "bf16", "--json").json
    assert forced == {"run": run, "folder": "out", "class": "GPT2LMHeadModel",
                      "parameters": SPEC.parameters(257), "dtype": "bfloat16"}  # fmt: skip
    assert house.load(here / "out")[0].spec == SPEC


def test_weights_of_any_precision_go_out_as_they_came(etude, folder: Path, here: Path):
    file = folder / "model.safetensors"
    save_file({name: weight.double() for name, weight in load_file(file).items()}, file, {"format": "pt"})
    assert etude("import", "theirs", "--dtype", "file", "--name", "wide", "--quiet").code == 0
    assert etude("export", "wide", "out").out.splitlines()[0].endswith("in float64")
    assert json.loads((here / "out" / "config.json").read_text())["dtype"] == "float64"


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (
            "import none",
            2,
            "nothing at 'none': give a folder with config.json and model.safetensors, a .bin of llama2.c,",
        ),
        ("import", 2, "PATH is missing. See: etude import --help"),
        ("import theirs --dtype fp8", 2, 'Invalid value "fp8" for --dtype'),
        ("import theirs --name 1x", 2, "'1x' cannot name a run"),
        ("export none out", 2, "unknown run 'none'"),
        ("export", 2, "RUN is missing. See: etude export --help"),
        ("export a out --to onnx", 2, 'Invalid value "onnx" for --to'),
    ],
)
def test_wrong_use(etude, folder: Path, words: str, code: int, line: str):
    answer = etude(*words.split())
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(f"etude: {line}") and answer.err.count("\n") == 1


def test_a_run_without_a_model(etude, here: Path):
    run = etude("run", "tokens", "--corpus", "fable", "--corpus.stories", "40", "--tokenizer", "byte", "--quiet").last
    answer = etude("export", run.removeprefix("runs/"), "out")
    assert answer.code == 2 and "no model.safetensors in" in answer.err
    assert not (here / "out").exists()
