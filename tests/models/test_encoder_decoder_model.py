"""The encoder–decoder: `torch.nn.Transformer` on the same weights, what each side sees, and its sites."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.encoder_decoder_model import EncoderDecoderModel

V, B, S, T, D = 23, 3, 7, 6, 16
SMALL: dict[str, Any] = {"layers": 2, "width": D, "heads": 4, "feedforward": 24, "context": 9}
OLD: dict[str, Any] = {"norm_at": "post", "positions": "sinusoidal", "activation": "relu", "scaled_embeddings": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "2017": {**OLD, "tied": True},
    "modern": {"positions": "rotary", "norm": "rms", "gated": True, "kv_heads": 2, "encoder_layers": 1},
}


def lively(**fields: Any) -> EncoderDecoderModel:
    model = cast(EncoderDecoderModel, EncoderDecoder(**{**SMALL, **fields}).build(V))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model.eval()


@pytest.fixture(params=VARIANTS.values(), ids=list(VARIANTS))
def model(request: pytest.FixtureRequest) -> EncoderDecoderModel:
    return lively(**request.param)


def texts() -> tuple[Tensor, Tensor, Tensor]:
    """Return source, which of it is text, and target."""
    generator = torch.Generator().manual_seed(1)
    source, target = (torch.randint(V, (B, length), generator=generator) for length in (S, T))
    return source, torch.arange(S) < torch.tensor([[7], [4], [1]]), target


@pytest.mark.parametrize("norm_at", ["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_equals_torchs_transformer(norm_at: Any, activation: Any) -> None:
    ours, (source, present, target) = lively(norm_at=norm_at, activation=activation, encoder_layers=3), texts()
    theirs = torchs(ours, norm_at == "pre", activation)
    hidden = nn.Transformer.generate_square_subsequent_mask(T)
    expected = theirs(
        ours.embed(source),
        ours.embed(target),
        tgt_mask=hidden,
        src_key_padding_mask=~present,
        memory_key_padding_mask=~present,
        tgt_is_causal=True,
    )
    found = ours.hidden(target, source=source, source_present=present)
    assert (found - expected).abs().max() < 1e-5
    W, _ = ours.unembedding()
    torch.testing.assert_close(ours(target, source=source, source_present=present), expected @ W, rtol=1e-4, atol=1e-4)
    patterns: dict[str, Tensor] = {}
    with ours.tapped(
        {"*attn.pattern": lambda x: x.clone(), "L1.cross.pattern": lambda x: patterns.setdefault("", x.clone())}
    ):
        torch.testing.assert_close(ours.hidden(target, source=source, source_present=present), found)
    assert not patterns[""][1, :, :, 4:].any() and not patterns[""][2, :, :, 1:].any()


def torchs(ours: EncoderDecoderModel, pre: bool, activation: str) -> nn.Transformer:
    """Return PyTorch's model with the same weights. It ends both of its stacks in a norm, which pre-norm needs and the
    paper's post-norm has not, so its stacks are made here."""
    options: dict[str, Any] = {"dropout": 0.0, "activation": activation, "batch_first": True, "norm_first": pre}
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(D, 4, 24, **options), 3, nn.LayerNorm(D) if pre else None, enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(D, 4, 24, **options), 2, nn.LayerNorm(D) if pre else None
    )
    theirs = nn.Transformer(D, 4, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
    for mine, other in zip(ours.encoder.layers, encoder.layers, strict=True):
        copy_block(mine, other, ["attn_norm", "mlp_norm"])
    for mine, other in zip(ours.layers, decoder.layers, strict=True):
        copy_block(mine, other, ["attn_norm", "cross_norm", "mlp_norm"])
        copy_attention(cast(Any, mine).cross, cast(Any, other).multihead_attn)
    if pre:
        copy_norm(ours.encoder.final_norm, encoder.norm)
        copy_norm(ours.final_norm, decoder.norm)
    return theirs.eval()


@torch.no_grad()
def copy_block(ours: Any, theirs: Any, norms: list[str]) -> None:
    copy_attention(ours.attn, theirs.self_attn)
    for part, W, b in ((theirs.linear1, "W_in", "b_in"), (theirs.linear2, "W_out", "b_out")):
        part.weight.copy_(getattr(ours.mlp, W).T)
        part.bias.copy_(getattr(ours.mlp, b))
    for number, name in enumerate(norms, 1):
        copy_norm(getattr(ours, name), getattr(theirs, f"norm{number}"))


@torch.no_grad()
def copy_attention(ours: Any, theirs: Any) -> None:
    theirs.in_proj_weight.copy_(torch.cat([W.flatten(1).T for W in (ours.W_Q, ours.W_K, ours.W_V)]))
    theirs.in_proj_bias.copy_(torch.cat([b.flatten() for b in (ours.b_Q, ours.b_K, ours.b_V)]))
    theirs.out_proj.weight.copy_(ours.W_O.flatten(0, 1).T)
    theirs.out_proj.bias.copy_(ours.b_O)


@torch.no_grad()
def copy_norm(ours: Any, theirs: Any) -> None:
    theirs.weight.copy_(ours.w)
    theirs.bias.copy_(ours.b)


def test_the_target_sees_its_past_and_all_of_the_source(model: EncoderDecoderModel) -> None:
    source, _, target = texts()
    before = model(target, source=source)
    changed = target.clone()
    changed[:, 3:] = (target[:, 3:] + 1) % V
    torch.testing.assert_close(model(changed, source=source)[:, :3], before[:, :3], rtol=0, atol=1e-6)
    for place in range(S):
        other = source.clone()
        other[:, place] = (source[:, place] + 1) % V
        assert (model(target, source=other) != before).any(dim=-1).all()


def test_padding_of_the_source_changes_nothing(model: EncoderDecoderModel) -> None:
    source, present, target = texts()
    whole = model(target, source=source, source_present=present)
    other = torch.where(present, source, (source + 5) % V)
    torch.testing.assert_close(model(target, source=other, source_present=present), whole)
    for row, length in enumerate((7, 4, 1)):
        alone = model(target[row : row + 1], source=source[row : row + 1, :length])[0]
        torch.testing.assert_close(whole[row], alone, rtol=1e-4, atol=1e-5)


def test_what_was_encoded_once_can_be_given_again(model: EncoderDecoderModel) -> None:
    source, present, target = texts()
    memory = model.encode(source, present)
    again = model(target, memory=memory, source_present=present)
    assert torch.equal(again, model(target, source=source, source_present=present))
    with pytest.raises(UsageError, match="needs the text that it reads: call it with source= or memory="):
        model(target)


def test_both_stacks_have_sites_and_a_glob_of_layers_means_the_decoder() -> None:
    model, (source, present, target) = lively(encoder_layers=3), texts()
    assert list(model.sites("L*.attn.pattern")) == ["L0.attn.pattern", "L1.attn.pattern"]
    assert list(model.sites("encoder.L*.attn.pattern")) == [f"encoder.L{n}.attn.pattern" for n in range(3)]
    assert list(model.sites("L*.cross.pattern")) == ["L0.cross.pattern", "L1.cross.pattern"]
    assert Site("encoder.L2.mlp.W_in") in model.sites() and Site("encoder.final_norm.out") in model.sites()
    with pytest.raises(UsageError, match=r"its encoder has 3 layers \(L0, L1, L2\)"):
        model.sites("encoder.L9.attn.pattern")
    with pytest.raises(UsageError, match=r"the model has 2 layers \(L0, L1\)"):
        model.sites("L2.attn.pattern")
    seen: dict[str, Tensor] = {}
    edits = {
        site: lambda x, site=site: seen.setdefault(site, x.clone()) for site in ("encoder.L1.attn.pattern", "memory")
    }
    plain = model(target, source=source, source_present=present)
    with model.tapped(edits):
        torch.testing.assert_close(model(target, source=source, source_present=present), plain)
    assert seen["encoder.L1.attn.pattern"].shape == (B, 4, S, S) and seen["memory"].shape == (B, S, D)
    with model.tapped({"encoder.L1.mlp.W_out": torch.zeros_like}):
        assert not torch.allclose(model(target, source=source, source_present=present), plain)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(UsageError, match="parallel blocks have no place between their parts for cross-attention"):
        EncoderDecoder(parallel=True)
    with pytest.raises(UsageError, match="encoder_layers = -1: give 0"):
        EncoderDecoder(encoder_layers=-1)
