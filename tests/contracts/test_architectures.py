"""What every architecture owes, asked of each file in the family's folder: it counts itself, builds itself, is read,
saved and trained alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.site import Site
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.architectures.retro import Retro
from etude.models.saved import load_model, save_model
from etude.models.transformer import Transformer
from etude.nn.attention.banded import Banded
from etude.nn.attention.sliding import Sliding
from etude.nn.look import look
from etude.text.batches import IGNORE
from etude.train.losses import summed

FAMILY = Family("models/architectures")
V, B, K = 23, 3, 2
SMALL: dict[str, Any] = {"layers": 2, "width": 16, "heads": 4, "feedforward": 24, "context": 8}
MODERN: dict[str, Any] = {"positions": "rotary", "norm": "rms", "biases": False, "gated": True, "activation": "silu"}
OLD: dict[str, Any] = {"positions": "sinusoidal", "norm_at": "post", "activation": "relu", "scaled_embeddings": True}
BERT: dict[str, Any] = {"norm_at": "post", "segments": 2, "norm_embeddings": True, "head": "bert", "pooling": "first"}

READING: dict[str, Any] = {"chunk": 4, "cross_from": 0, "cross_every": 1}
LATE: dict[str, Any] = SMALL | READING | {"cross_from": 1}

CASES: dict[str, Architecture] = {
    "decoder": Decoder(**SMALL),
    "decoder, modern": Decoder(**SMALL, **MODERN, kv_heads=2, tied=True),
    "decoder, mup": Decoder(**SMALL, mup_base=8),
    "decoder, a bias at the end": Decoder(**SMALL, unembed_bias=True),
    "encoder": Encoder(**SMALL),
    "encoder, modern": Encoder(**SMALL, **MODERN, kv_heads=1, parallel=True, attention=Sliding(window=2)),
    "encoder, bert": Encoder(**SMALL, **BERT, tied=True),
    "encoder, bert, untied": Encoder(**SMALL, **BERT),
    "encoder, next sentence": Encoder(**SMALL, **BERT, tied=True, next_sentence=True),
    "encoder, no biases": Encoder(**SMALL, head="bert", biases=False, norm="none", positions="none"),
    "encoder, mup": Encoder(**SMALL, mup_base=8, dropout=0.1),
    "classifier": Encoder(**SMALL, classes=3, dropout=0.1),
    "classifier, bert": Encoder(**SMALL, **BERT, classes=2),
    "classifier, attention-only": Encoder(**{**SMALL, "feedforward": 0}, classes=3, attention=Banded(window=3)),
    "encoder-decoder": EncoderDecoder(**SMALL),
    "encoder-decoder, 2017": EncoderDecoder(**SMALL, **OLD, tied=True, dropout=0.1),
    "encoder-decoder, deep encoder": EncoderDecoder(**SMALL, **MODERN, encoder_layers=3, kv_heads=2),
    "encoder-decoder, sliding": EncoderDecoder(**SMALL, encoder_layers=1, attention=Sliding(window=3)),
    "encoder-decoder, attention-only": EncoderDecoder(**{**SMALL, "feedforward": 0, "layers": 1}, mup_base=8),
    "retro": Retro(**SMALL, **READING),
    "retro, modern": Retro(**SMALL, **MODERN, **READING, kv_heads=2, tied=True, encoder_width=16, encoder_layers=1),
    "retro, learned positions": Retro(**LATE, positions="learned", conditioned=False),
    "retro, attention-only": Retro(**{**SMALL, "feedforward": 0}, **READING, encoder_width=4, dropout=0.1),
}


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def spec(request: pytest.FixtureRequest) -> Architecture:
    return request.param


def text(spec: Architecture, length: int = 8, seed: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
    """Return tokens, and what else the architecture is given."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(V, (B, length), generator=generator)
    given: dict[str, Tensor] = {}
    if isinstance(spec, EncoderDecoder):
        given["source"] = torch.randint(V, (B, length), generator=generator)
    elif isinstance(spec, Encoder) and spec.segments:
        given["segments"] = (torch.arange(length) > length // 2).long().expand(B, length)
    elif isinstance(spec, Retro):
        given["neighbours"] = torch.randint(V, (B, length // spec.chunk, K, spec.length), generator=generator)
        if not given["neighbours"].numel():
            given = {}
    return tokens, given


def targets(spec: Architecture, tokens: Tensor) -> Tensor:
    if isinstance(spec, Encoder) and spec.classes:
        return torch.arange(len(tokens)) % spec.classes
    wanted = tokens.roll(-1, 1)
    wanted[0, 3:] = IGNORE
    return wanted


def lively(spec: Architecture) -> Transformer:
    """Build a model whose weights are large enough that every part matters."""
    model, generator = spec.build(V), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def gradients(model: Transformer, loss: Tensor) -> dict[str, Tensor]:
    names, weights = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return {name: torch.zeros(0) if g is None else g for name, g in zip(names, found, strict=True)}


def test_the_family_has_its_members() -> None:
    assert FAMILY.base() is Architecture
    assert {spec.name for spec in CASES.values()} == set(FAMILY.names())


def test_a_spec_is_plain_data_that_reads_back_equal(spec: Architecture) -> None:
    again = Architecture.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec and again.fingerprint() == spec.fingerprint()


def test_parameters_by_arithmetic(spec: Architecture) -> None:
    with torch.device("meta"):
        assert sum(weight.numel() for weight in spec.build(V).parameters()) == spec.parameters(V)


@pytest.mark.parametrize("length", [2, 8])
def test_flops_are_those_of_the_matrix_products(spec: Architecture, length: int) -> None:
    model, (tokens, given) = spec.build(V).eval(), text(spec, length)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens, **given)
    a_text = 0  # what reads one vector a text is none of a position's
    if isinstance(spec, Encoder) and spec.classes:
        a_text = 2 * spec.width * (spec.classes + (spec.width if spec.head == "bert" else 0))
    read = spec.retrieval_flops(K) if isinstance(spec, Retro) and given else 0
    assert counter.get_total_flops() == B * ((spec.flops_per_token(V, length) + read) * length + a_text)


def test_the_seed_alone_decides_the_starting_weights(spec: Architecture) -> None:
    state = torch.get_rng_state()
    first, second, other = (spec.build(V, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if ".W_" in name)


def test_reads_back_from_disk_bit_for_bit(spec: Architecture, tmp_path: Path) -> None:
    model, (tokens, given) = lively(spec).eval(), text(spec)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert (again.spec, again.vocabulary, again.training) == (spec, V, False)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(tokens, **given), again(tokens, **given))


def test_sites_are_known_before_anything_runs_and_watching_changes_nothing(spec: Architecture) -> None:
    model, (tokens, given) = lively(spec).eval(), text(spec)
    plain, seen = model(tokens, **given), dict[Site, Tensor]()

    def note(site: Site) -> Any:
        return lambda value: seen.update({site: value.clone()}) or value.clone()

    known = model.sites()
    with model.tapped({site: note(site) for site in known}):
        torch.testing.assert_close(model(tokens, **given), plain, rtol=1e-5, atol=1e-4)
    sizes = {"B": B, "T": 8, "S": 8, "U": 2, "J": K}
    unread = {site for site in known if site.startswith(("pool.", "follows."))} - seen.keys()
    assert not unread or getattr(spec, "next_sentence", False), "the head that no score of a token needs"
    for site in known.keys() - unread:
        mine = sizes
        if isinstance(spec, Retro) and site.startswith(("encoder.L", "encoder.final")):
            shared = site.endswith((".cross.k", ".cross.k_rot", ".cross.v"))  # made once for a chunk's neighbours
            mine = sizes | {"B": B * 2 * (1 if shared else K), "S": 4 if ".cross." in site else 8}
        assert seen[site].shape == tuple(mine[a.name] if a.size is None else a.size for a in known[site]), site
        assert Site.of(site.path) == site
    assert all(model.get_parameter(site.path) is not None for site in known if site.is_weight)


def test_every_parameter_learns(spec: Architecture) -> None:
    model, (tokens, given) = lively(spec), text(spec)
    for name, gradient in gradients(model, summed(model, tokens, targets(spec, tokens), given).loss).items():
        if name.startswith(("pool.", "follows.")) and not getattr(spec, "classes", 0):
            continue  # the next-sentence head, which the loss of tokens does not reach
        assert gradient.isfinite().all(), name
        # Without rotation a key's bias adds the same to all scores of a row, which the softmax does not see.
        assert gradient.any() or (name.endswith("b_K") and spec.positions != "rotary"), name


def test_chunked_and_whole_losses_agree(spec: Architecture) -> None:
    model, (tokens, given) = lively(spec).eval(), text(spec)
    wanted = targets(spec, tokens)
    for smoothing in (0.0, 0.1):
        whole, chunked = (
            summed(model, tokens, wanted, given, smoothing, chunked=chunked, count_right=True)
            for chunked in (False, True)
        )
        torch.testing.assert_close(chunked.loss, whole.loss)
        assert chunked.right == whole.right
        found, expected = gradients(model, chunked.loss), gradients(model, whole.loss)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4)


def test_recomputing_gives_the_same_gradients(spec: Architecture) -> None:
    model, (tokens, given) = lively(spec), text(spec)
    found = []
    for model.recompute in (False, True):
        torch.manual_seed(5)
        found.append(gradients(model, summed(model, tokens, targets(spec, tokens), given).loss))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_looking_reads_what_the_text_alone_gives(spec: Architecture) -> None:
    model, (tokens, given) = lively(spec).eval(), text(spec)
    if "source" in given:
        with pytest.raises(UsageError, match="an encoder-decoder needs the text that it reads"):
            look(model, tokens, "logits")
        return
    torch.testing.assert_close(look(model, tokens, "logits")["logits"], model(tokens))


@pytest.mark.parametrize("name", FAMILY.names())
def test_at_its_base_width_mup_is_the_standard(name: str) -> None:
    spec = next(case for case in CASES.values() if case.name == name)
    if isinstance(spec, Retro):
        with pytest.raises(UsageError, match="set mup_base to 0"):
            replace(spec, mup_base=spec.width)
        return
    standard, same = spec.build(V, seed=2), replace(spec, mup_base=spec.width).build(V, seed=2)
    tokens, given = text(spec)
    assert all(torch.equal(a, b) for a, b in zip(standard.parameters(), same.parameters(), strict=True))
    assert torch.equal(standard.eval()(tokens, **given), same.eval()(tokens, **given))
