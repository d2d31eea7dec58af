"""Attention patterns: proper distributions over the past, and those that the model uses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import etude
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.interp.patterns import attention_patterns
from etude.interp.recipes import Patterns
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.transformer import Transformer
from etude.text.corpora.fable import Fable
from etude.text.corpora.multi30k import Multi30k
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.masked import Masked
from etude.train.objectives.sequence_to_sequence import SequenceToSequence
from etude.train.recipes import At, Train
from etude.train.schedule import Schedule

TRAIN = Train(
    data=Tokens(Fable(stories=60), Byte()),
    model=Decoder(layers=2, width=16, heads=2, feedforward=32, context=24, dropout=0.1),
    schedule=Schedule(peak=1e-2, warmup=2),
    batch=4,
    steps=10,
    evaluate_tokens=256,
    keep_every=5,
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("patterns"), threads=1, quiet=True)


Built = Callable[[str], Transformer]


@pytest.fixture
def built() -> Built:
    def build(positions: str) -> Transformer:
        spec = Decoder(layers=3, width=16, heads=4, context=12, feedforward=8, positions=positions)  # type: ignore[arg-type]
        model = spec.build(20, seed=3).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith(("W_Q", "W_K")):
                    weight.mul_(30)  # far from even
        return model

    return build


TOKENS = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("positions", ["learned", "rotary", "sinusoidal", "none"])
def test_rows_are_distributions_over_the_past(positions: str, built: Built):
    patterns = attention_patterns(built(positions), TOKENS)
    assert patterns.shape == (2, 3, 4, 9, 9)
    torch.testing.assert_close(patterns.sum(-1), torch.ones(2, 3, 4, 9))
    assert patterns.min() >= 0
    assert (patterns.triu(1) == 0).all()
    assert patterns[..., 8, :].max() > 0.2, "some head prefers somewhere"
    assert not patterns.requires_grad


def test_a_pattern_is_the_softmax_of_queries_and_keys(built: Built):
    model = built("learned")
    patterns = attention_patterns(model, TOKENS)
    for layer in range(3):
        seen = etude.look(model, TOKENS, [f"L{layer}.attn.q", f"L{layer}.attn.k"])
        q, k = seen[etude.Site(f"L{layer}.attn.q")].double(), seen[etude.Site(f"L{layer}.attn.k")].double()
        for b, h, t in [(0, 0, 0), (0, 1, 5), (1, 3, 8), (1, 2, 3)]:
            weights = [math.exp(float(q[b, t, h] @ k[b, s, h]) / math.sqrt(4)) for s in range(t + 1)]
            expected = torch.tensor(weights) / sum(weights)
            torch.testing.assert_close(patterns[b, layer, h, t, : t + 1], expected, rtol=1e-4, atol=1e-6)


def test_the_layers_come_in_order():
    model = Decoder(layers=12, width=4, heads=1, feedforward=0, context=4).build(5).eval()
    with model.tapped({f"L{n}.attn.pattern": lambda p, n=n: torch.full_like(p, n) for n in range(12)}):
        patterns = attention_patterns(model, torch.zeros(1, 3, dtype=torch.long))
    assert patterns[0, :, 0, 0, 0].tolist() == list(range(12))


def test_the_recipe(lab: Lab):
    text = "The fox, é\n"
    run = lab.run(Patterns(TRAIN, text))
    model, tokenizer = etude.load(lab.run(TRAIN))
    ids = tokenizer.encode(text)
    assert run.result["ids"] == ids
    assert run.result["tokens"] == [*"The fox, ", "\\xc3", "\\xa9", "\\n"]
    assert (run.result["layers"], run.result["heads"]) == (2, 2)
    saved = run.tensors("patterns.safetensors")["patterns"]
    assert saved.dtype == np.float32 and saved.shape == (2, 2, len(ids), len(ids))
    assert np.array_equal(saved, attention_patterns(model, torch.tensor([ids]))[0].numpy()), "dropout is off"


def test_of_a_step_of_a_training(lab: Lab):
    start, middle, end = (
        lab.run(Patterns(At(TRAIN, step), "A hen sat.")).tensors("patterns.safetensors")["patterns"]
        for step in (0, 5, 10)
    )
    assert not np.array_equal(start, middle) and not np.array_equal(middle, end)
    assert np.array_equal(end, lab.run(Patterns(TRAIN, "A hen sat.")).tensors("patterns.safetensors")["patterns"])


def test_a_text_of_one_token(lab: Lab):
    saved = lab.run(Patterns(TRAIN, "A")).tensors("patterns.safetensors")["patterns"]
    assert saved.tolist() == [[[[1.0]], [[1.0]]], [[[1.0]], [[1.0]]]]


def test_of_a_text_that_is_too_long_the_beginning_is_read(lab: Lab):
    whole, long = (lab.run(Patterns(TRAIN, text)) for text in ("x" * 24, "x" * 24 + "and"))
    assert (whole.result["cut"], long.result["cut"]) == (0, 3)
    assert long.result["ids"] == whole.result["ids"]
    one, other = (run.tensors("patterns.safetensors")["patterns"] for run in (whole, long))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_no_text(text: str):
    with pytest.raises(UsageError, match="the text is empty"):
        Patterns(TRAIN, text)


def test_a_text_that_is_no_text(lab: Lab):
    """What a shell hands over where the bytes are not UTF-8."""
    with pytest.raises(UsageError, match="not UTF-8"):
        Patterns(TRAIN, "caf\udce9")


ENCODER = Train(
    data=Tokens(Fable(stories=60), BytePair(vocabulary=300, specials=("mask", "first", "separator"))),
    model=Encoder(layers=2, width=16, heads=2, feedforward=32, context=12),
    objective=Masked(),
    steps=0,
    evaluate_tokens=256,
)
PAIRS = Train(
    data=Tokens(Multi30k(path=str(Path(__file__).parents[1] / "studies" / "made" / "pairs")), Byte()),
    model=EncoderDecoder(layers=2, encoder_layers=3, width=16, heads=2, feedforward=32, context=30),
    objective=SequenceToSequence(),
    steps=0,
    evaluate_tokens=0,
)


def test_an_encoder_reads_a_framed_text(lab: Lab):
    run = lab.run(Patterns(ENCODER, "The fox sat."))
    _, tokenizer = etude.load(lab.run(ENCODER))
    specials = tokenizer.specials
    assert run.result["ids"] == [specials["first"], *tokenizer.encode("The fox sat."), specials["separator"]]
    saved = run.tensors("patterns.safetensors")["patterns"]
    length = len(run.result["ids"])
    assert saved.shape == (2, 2, length, length) and run.result["cut"] == 0
    assert (saved > 0).all(), "every position sees the whole text"
    np.testing.assert_allclose(saved.sum(-1), 1, rtol=1e-5)


def test_of_a_text_too_long_for_an_encoder_the_frame_stays(lab: Lab):
    run = lab.run(Patterns(ENCODER, "The fox sat on a mat and the hen sat on the fox."))
    _, tokenizer = etude.load(lab.run(ENCODER))
    assert len(run.result["ids"]) == 12 and run.result["ids"][-1] == tokenizer.specials["separator"]
    assert run.result["cut"] == len(tokenizer.encode("The fox sat on a mat and the hen sat on the fox.")) - 10


def test_an_encoder_decoder_looks_at_its_source(lab: Lab):
    run = lab.run(Patterns(PAIRS, "Ein Hund.", source="A small dog."))
    saved = run.tensors("patterns.safetensors")
    T, S = len("Ein Hund.") + 1, len("A small dog.") + 1
    assert (len(run.result["tokens"]), len(run.result["source_tokens"])) == (T, S)
    assert saved["patterns"].shape == (2, 2, T, T)
    assert saved["cross"].shape == (2, 2, T, S)
    assert saved["encoder"].shape == (3, 2, S, S)
    for pattern in saved.values():
        np.testing.assert_allclose(pattern.sum(-1), 1, rtol=1e-5)
    assert (np.triu(saved["patterns"], 1) == 0).all() and (saved["cross"] > 0).all()
    assert run.result["ids"][0] == run.result["source_ids"][-1], "the separator begins the one and ends the other"


def test_cross_attention_is_the_softmax_of_queries_and_keys(lab: Lab):
    run = lab.run(Patterns(PAIRS, "Ein Hund.", source="A dog."))
    model, _ = etude.load(lab.run(PAIRS))
    seen = {}
    keep = {f"L1.cross.{name}": lambda x, name=name: seen.setdefault(name, x.clone()).clone() for name in "qk"}
    with torch.no_grad(), model.tapped(keep):
        model(torch.tensor([run.result["ids"]]), source=torch.tensor([run.result["source_ids"]]))
    fit = torch.einsum("bthk,bshk->bhts", seen["q"], seen["k"]) / math.sqrt(8)
    saved = run.tensors("patterns.safetensors")["cross"][1]
    np.testing.assert_allclose(saved, fit.softmax(-1)[0].numpy(), rtol=1e-5, atol=1e-6)


def test_a_source_where_there_is_none_and_none_where_there_should_be(lab: Lab):
    with pytest.raises(UsageError, match="an encoder-decoder reads a source and writes a text: give the source too"):
        lab.run(Patterns(PAIRS, "Ein Hund."))
    with pytest.raises(UsageError, match="an encoder reads one text: leave --source out"):
        lab.run(Patterns(ENCODER, "A dog.", source="A dog."))
