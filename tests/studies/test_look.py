"""The look at one text: on the planted circuit, whose answer is known, and on every shape of model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.outgoing import format_for, weights_of
from etude.models.recipes import Imported, Planted, shape_in
from etude.nn.attention.banded import Banded
from etude.nn.attention.sliding import Sliding
from etude.report.blocks import Section, walk
from etude.studies.look import Look
from etude.text.corpora.fable import Fable
from etude.text.corpora.multi30k import Multi30k
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.file import File
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.objectives.masked import Masked
from etude.train.objectives.sequence_to_sequence import SequenceToSequence
from etude.train.recipes import Train

PAIRS = Path(__file__).parent / "made" / "pairs"
DATA = Tokens(Fable(stories=40), Byte())
TEXT = "abcdefabcd"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def untrained(**shape: Any) -> Train:
    given = {"layers": 2, "width": 16, "heads": 2, "feedforward": 32, "context": 24, **shape}
    return Train(data=DATA, model=Decoder(**given), batch=4, steps=0, evaluate_tokens=256, precision="fp32")


def said(run: Run) -> dict[str, str]:
    return {finding["text"]: finding["strength"] for finding in run.result["findings"]}


def done_of(lab: Lab, run: Run) -> Done:
    done = Done()
    for name in run.inputs:
        found = Run(lab.root / name)
        done.add(found.recipe, found)
    return done


def sections(study: Look, done: Done) -> list[str]:
    return [node.title for node in walk(study.tell(done)) if isinstance(node, Section)]


EVERY = ["What each layer would predict", "Where each head looks", "What wrote the prediction"]


def test_of_the_planted_circuit_the_page_says_what_is_true(lab: Lab):
    study = Look(Planted(length=24, data=DATA), TEXT, sequences=16)
    run = lab.run(study)
    found = said(run)
    wrote, settled, *heads = found
    assert "After “d” at position 9 the logit of “e” is 19.9" in wrote
    assert "the part that raises it most is L1H0, by 19.9" in wrote
    assert "The lens before layer 1 names the model's likeliest token at 0% of the positions" in settled
    assert [(line.partition(" ")[0], found[line]) for line in heads] == [
        ("L0H0", "clear"),  # the token before
        ("No", "none"),  # the last occurrence of the present token
        ("L1H0", "clear"),  # the token after that
        ("No", "none"),  # the first token
    ]
    assert sections(study, done_of(lab, run)) == [*EVERY, "What the heads do elsewhere"]
    page = run.file("report.html").read_text(encoding="utf-8")
    assert all(f'id="run-{name}"' in page for name in run.inputs)
    assert "These findings are of one text: they hold of it exactly, and say nothing of others." in page
    assert "Those of the heads are of random tokens." in page


def test_heads_are_compared_with_what_their_own_layer_sees(lab: Lab):
    """Of an untrained model whose layers see 2 positions, half of the attention to the token before is even."""
    study = Look(untrained(attention=Sliding(window=2)), "The fox sat.", sequences=8)
    run = lab.run(study)
    before = next(line for line in said(run) if "the token before" in line)
    assert before.startswith("No head stands out") and "even attention would give 0.500" in before
    banded = lab.run(Look(untrained(attention=Banded(window=2)), "The fox sat.", sequences=8))
    page = banded.file("report.html").read_text(encoding="utf-8")
    assert "as far as its layer sees" in page and "as far as its layer sees" not in run.file("report.html").read_text(
        encoding="utf-8"
    )


def test_numbers_are_those_of_the_runs(lab: Lab):
    study = Look(untrained(), "The fox sat.", sequences=4)
    told = lab.run(study).result
    for name, recipe in (("lens", study.lens), ("attribution", study.attribution), ("heads", study.heads)):
        run = lab.run(recipe)
        assert told[name]["run"] == run.id
        assert all(told[name][key] == run.result[key] for key in told[name] if key != "run")
    assert told["patterns"] == lab.run(study.patterns).id


def test_of_an_untrained_model_nothing_is_claimed_of_the_heads(lab: Lab):
    found = said(lab.run(Look(untrained(), "The fox sat.", sequences=16)))
    heads = {line: strength for line, strength in found.items() if "even attention" in line}
    assert len(heads) == 4 and set(heads.values()) == {"none"}
    assert all(line.startswith("No head stands out in attending to ") for line in heads)


def test_one_sequence_says_nothing_of_heads(lab: Lab):
    found = said(lab.run(Look(Planted(length=24, data=DATA), TEXT, sequences=1)))
    assert [strength for line, strength in found.items() if "even attention" in line] == ["none"] * 4


SHAPES: dict[str, dict[str, Any]] = {
    "one head": {"layers": 1, "heads": 1},
    "no norm": {"norm": "none", "biases": False},
    "attention-only": {"feedforward": 0},
    "grouped, rotary, tied": {"heads": 4, "kv_heads": 2, "positions": "rotary", "norm": "rms", "tied": True},
    "parallel": {"parallel": True, "positions": "none"},
    "many heads": {"layers": 2, "heads": 8},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_every_shape_of_decoder_has_its_page(shape: dict[str, Any], lab: Lab):
    study = Look(untrained(**shape), "The fox sat.", sequences=4)
    run = lab.run(study)
    assert sections(study, done_of(lab, run)) == [*EVERY, "What the heads do elsewhere"]
    assert run.result["attribution"]["total"] == pytest.approx(run.result["attribution"]["logit"], abs=1e-5)
    if study.of.shape is not None and study.of.shape.layers == 1:
        (line,) = [line for line in said(run) if line.startswith("The lens")]
        assert line.count("before layer 0") == 1, "one layer is not compared with itself"


def test_a_model_without_layers_has_no_attention_and_a_prediction(lab: Lab):
    study = Look(untrained(layers=0), "The fox sat.", sequences=4)
    run = lab.run(study)
    assert list(said(run).values()) == ["clear"], "of the prediction alone"
    assert "The model has no layers, and so no attention." in run.file("report.html").read_text(encoding="utf-8")


def test_of_a_post_norm_model_no_parts_are_told(lab: Lab):
    study = Look(untrained(norm_at="post"), "The fox sat.", sequences=0)
    run = lab.run(study)
    assert sections(study, done_of(lab, run)) == EVERY[:2] and "attribution" not in run.result


def test_a_text_of_one_token_has_nothing_that_comes_next(lab: Lab):
    run = lab.run(Look(untrained(), "A", sequences=0))
    assert run.result["lens"]["loss"] is None
    assert "The text is one token long: nothing comes next." in run.file("report.html").read_text(encoding="utf-8")


def test_a_tuned_lens_is_told_as_one(lab: Lab):
    run = lab.run(Look(untrained(), "The fox sat.", tuned=2, sequences=0))
    page = run.file("report.html").read_text(encoding="utf-8")
    assert "tuned lens: an affine map for each layer was trained so" in page and "(logit lens:" not in page


ENCODER = Train(
    data=Tokens(Fable(stories=60), BytePair(vocabulary=300, specials=("mask", "first", "separator"))),
    model=Encoder(layers=1, width=8, heads=2, feedforward=8, context=12),
    objective=Masked(),
    steps=0,
    evaluate_tokens=256,
)
TRANSLATOR = Train(
    data=Tokens(Multi30k(path=str(PAIRS)), Byte()),
    model=EncoderDecoder(layers=1, encoder_layers=2, width=8, heads=2, feedforward=8, context=30),
    objective=SequenceToSequence(),
    steps=0,
    evaluate_tokens=0,
)


@pytest.mark.parametrize(
    ("study", "pictures"),
    [
        (Look(ENCODER, "The fox sat on a mat and saw a hen."), 1),
        (Look(TRANSLATOR, "Ein Hund.", "A dog."), 2),
    ],
    ids=["encoder", "encoder-decoder"],
)
def test_of_other_models_the_attention_alone_is_shown(study: Look, pictures: int, lab: Lab):
    assert [recipe.kind for recipe in study.plan({})] == ["train", "patterns"]
    run = lab.run(study)
    assert run.result["findings"] == [] and set(run.result) - {"timing"} == {"text", "patterns", "findings"}
    report = study.tell(done_of(lab, run))
    assert [node.title for node in walk(report) if isinstance(node, Section)] == ["Where each head looks"]
    assert sum(type(node).__name__ == "Attention" for node in walk(report)) == pictures


def brought(folder: Path, spec: Architecture, vocabulary: int) -> Path:
    """Write a model of drawn weights as another library would have."""
    folder.mkdir()
    chosen, config = format_for(spec, vocabulary)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights_of(spec.build(vocabulary, seed=1), chosen), folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_model_in_bf16_is_looked_at_in_fp32_and_the_page_says_so(lab: Lab, tmp_path: Path):
    spec = Decoder(layers=1, width=8, heads=2, feedforward=16, context=24, activation="gelu-tanh", tied=True)
    folder = brought(tmp_path / "gpt2", spec, 257)
    ByteTokenizer().save(folder)
    of = Imported(path=str(folder), dtype="bf16", data=Tokens(Fable(stories=40), File()))
    page = lab.run(Look(of, "The fox sat.", sequences=4)).file("report.html").read_text(encoding="utf-8")
    assert "are bfloat16; it was looked at in float32." in page


def test_the_page_of_a_model_whose_files_are_gone_is_told_again_as_it_was(lab: Lab, tmp_path: Path):
    """That it is an encoder is then known from its run alone."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    bert: dict[str, Any] = {"norm_at": "post", "head": "bert", "norm_embeddings": True, "tied": True, "segments": 2}
    spec = Encoder(layers=1, width=8, heads=2, feedforward=12, context=16, pooling="first", next_sentence=True, **bert)
    folder = brought(tmp_path / "bert", spec, len(words))
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    study = Look(Imported(path=str(folder), data=Tokens(Fable(stories=40), File())), "a dog").resolve()
    run = lab.run(study)
    done = done_of(lab, run)
    shutil.rmtree(folder)
    assert study.of.shape is None and isinstance(shape_in(done, study.of), Encoder)
    assert sections(study, done) == ["Where each head looks"]
    assert study.answer(done) == run.outcome


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": " "}, "the text is empty"),
        ({"sequences": -1}, "sequences = -1: give 0 for no scores"),
    ],
)
def test_what_makes_no_sense(fields: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words) as caught:
        Look(**{"of": untrained(), "text": TEXT, **fields})
    assert "\n" not in str(caught.value)


def test_a_text_that_does_not_fit_is_refused(lab: Lab):
    with pytest.raises(UsageError, match="the text has 25 tokens, and the model reads 24: shorten it by 1"):
        lab.run(Look(untrained(), "x" * 25))
