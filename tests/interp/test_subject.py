"""What instruments look at: widened where it is narrow, and told what it cannot read in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import etude
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.seeds import stream
from etude.evals.behaviours import head_scores, repeats
from etude.evals.recipes import Heads
from etude.interp.attribution import attribute
from etude.interp.patterns import attention_patterns
from etude.interp.recipes import Attribute, HeadCircuits, Lens, PatchMap, Patterns
from etude.interp.subject import Subject, subject
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.outgoing import format_for, weights_of
from etude.models.recipes import Imported
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.file import File
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.objectives.masked import Masked
from etude.train.recipes import Train


def brought(folder: Path, dtype: str = "bf16", vocabulary: int = 257) -> Imported:
    """A small GPT-2 of drawn weights that reads bytes; a vocabulary over 257 is padding."""
    spec = Decoder(layers=2, width=16, heads=2, feedforward=32, context=16, activation="gelu-tanh", tied=True)
    model = spec.build(vocabulary, seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(weight))))
    chosen, config = format_for(spec, vocabulary)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights_of(model, chosen), folder / "model.safetensors", {"format": "pt"})
    ByteTokenizer().save(folder)
    return Imported(path=str(folder), dtype=dtype, data=Tokens(Fable(stories=40), File()))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return brought(tmp_path_factory.mktemp("bf16"))


def test_a_model_in_bf16_is_widened_which_is_said(lab: Lab, narrow: Imported):
    run = lab.run(narrow)
    kept, _ = etude.load(run)
    on = subject(run)
    assert next(kept.parameters()).dtype == torch.bfloat16
    assert {weight.dtype for weight in on.model.parameters()} == {torch.float32}
    assert all(torch.equal(a.float(), b) for a, b in zip(kept.parameters(), on.model.parameters(), strict=True))
    assert on.notices == (f"the weights of {run.id} are bfloat16; it was looked at in float32",)
    assert not on.model.training


def test_of_a_model_in_fp32_nothing_is_said(lab: Lab, tmp_path: Path):
    assert subject(lab.run(brought(tmp_path, "fp32"))).notices == ()


@pytest.mark.parametrize(
    "asked",
    [
        lambda of: Patterns(of, "A dog"),
        lambda of: Lens(of, "A dog"),
        lambda of: Attribute(of, "A dog"),
        lambda of: PatchMap(of, "A dog", "A cat", "x", "y"),
        lambda of: HeadCircuits(of, draws=1),
    ],
)
def test_every_instrument_passes_on_what_is_said(asked: Callable[[Imported], Recipe], lab: Lab, narrow: Imported):
    assert any("looked at in float32" in said for said in lab.run(asked(narrow)).result["notices"])


def test_numbers_of_a_model_in_bf16_are_those_of_its_widened_weights(lab: Lab, narrow: Imported):
    model = subject(lab.run(narrow)).model
    text = torch.tensor([list(b"A dog")])
    found = lab.run(Attribute(narrow, "A dog", token="x"))
    wide = attribute(model, text, token=ord("x"), versus="mean")
    assert found.result["logit"] == pytest.approx(float(wide.logit), rel=1e-6)
    seen = lab.run(Patterns(narrow, "A dog")).tensors("patterns.safetensors")["patterns"]
    assert np.array_equal(seen, attention_patterns(model, text)[0].numpy())
    heads = lab.run(Heads(narrow, sequences=4)).result
    drawn = repeats(4, 16, 257, stream(0, "repeats"))
    assert heads["fresh_loss"]["mean"] == pytest.approx(head_scores(model, drawn).fresh_loss.mean(), rel=1e-9)


def test_a_row_of_a_padded_embedding_that_is_predicted_is_named_by_its_number(lab: Lab, tmp_path: Path):
    padded = brought(tmp_path, "fp32", vocabulary=300)
    run = lab.run(Lens(padded, "A dog", top=300))
    assert run.result["pieces"]["299"] == "[299]" and run.result["pieces"]["97"] == "a"
    assert subject(lab.run(padded)).pieces([97, 256, 257]) == ["a", "<|endoftext|>", "[257]"]


@pytest.fixture(scope="module")
def on(lab: Lab, narrow: Imported) -> Subject:
    return subject(lab.run(narrow))


def test_a_text_becomes_its_tokens(on: Subject):
    assert on.tokens("A dög") == list("A dög".encode())
    assert on.tokens("x" * 16) == [120] * 16


def test_a_text_that_cannot_be_read(on: Subject):
    with pytest.raises(UsageError, match=r"^the clean prompt has 19 tokens, and the model reads 16: shorten it by 3$"):
        on.tokens("x" * 19, "clean prompt")
    with pytest.raises(UsageError, match=r"^the text is empty: give one of at least a token$"):
        on.tokens("")


def test_positions_are_counted_from_either_end(on: Subject):
    assert [on.place(at, 5) for at in (0, 4, -1, -5)] == [0, 4, 4, 0]
    for at in (5, -6):
        with pytest.raises(UsageError, match=rf"^position {at} is outside a text of 5 tokens \(0 to 4\)$"):
            on.place(at, 5)


def test_a_token_is_named_by_how_it_is_written(on: Subject):
    assert on.token("a") == 97 and on.token(" ") == 32 and on.token("\n") == 10
    assert on.token("\\xff") == 255 and on.token("<|endoftext|>") == 256, "as the page prints it"


@pytest.mark.parametrize(("word", "cut"), [("ab", "'a' + 'b'"), ("ö", r"'\\xc3' + '\\xb6'"), ("", "nothing")])
def test_a_word_of_several_tokens_or_none_is_refused_with_how_it_is_cut(on: Subject, word: str, cut: str):
    with pytest.raises(UsageError) as caught:
        on.token(word)
    assert str(caught.value) == f"'{word}' is {cut} to this tokenizer, and one token is needed: choose another word"


def test_with_words_for_tokens_a_word_is_found_with_or_without_its_space(lab: Lab):
    data = Tokens(Fable(stories=60), BytePair(vocabulary=400))
    shape = Decoder(layers=1, width=8, heads=1, feedforward=0, context=8)
    on = subject(lab.run(Train(data=data, model=shape, steps=0, evaluate_tokens=0)))
    every = {on.piece(i): i for i in range(on.tokenizer.vocabulary)}
    spaced = next(piece for piece in every if piece.startswith(" ") and len(piece) > 3)
    assert on.token(spaced) == every[spaced]
    with pytest.raises(UsageError, match="one token is needed"):
        on.token(f"{spaced}{spaced}")


def test_an_encoder_is_no_decoder(lab: Lab):
    data = Tokens(Fable(stories=60), BytePair(vocabulary=300, specials=("mask", "first", "separator")))
    shape = Encoder(layers=1, width=8, heads=1, feedforward=8, context=8)
    on = subject(lab.run(Train(data=data, model=shape, objective=Masked(), steps=0, evaluate_tokens=256)))
    with pytest.raises(UsageError, match="this instrument reads decoders, and the model is an encoder"):
        _ = on.decoder
