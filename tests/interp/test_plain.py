"""Models made plain predict what they did, and their weights are what is promised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.interp.plain import centred_unembedding, centred_writing, folded_norms, folded_value_biases, plain
from etude.models.architectures.decoder import Decoder
from etude.models.cache import Cache
from etude.models.decoder_model import DecoderModel
from etude.models.outgoing import format_for
from etude.models.saved import load_model, save_model
from etude.nn.attention.sliding import Sliding
from etude.nn.look import look

V, T = 11, 8
TOKENS = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(0))

CASES: dict[str, dict[str, Any]] = {
    "gpt2": {"activation": "gelu-tanh", "tied": True},
    "sinusoids": {"positions": "sinusoidal", "scaled_embeddings": True, "tied": True},
    "no biases": {"biases": False},
    "rms": {"positions": "rotary", "norm": "rms", "biases": False, "gated": True},
    "rms, biases": {"norm": "rms", "tied": True},
    "no norm": {"norm": "none", "tied": True},
    "attention-only": {"feedforward": 0},
    "parallel, groups": {"parallel": True, "heads": 4, "kv_heads": 2, "positions": "rotary", "rotary_fraction": 0.5},
    "gated, one group": {"gated": True, "heads": 4, "kv_heads": 1},
    "mup": {"mup_base": 8, "tied": True},
    "a bias already": {"unembed_bias": True},
    "sliding": {"attention": Sliding(3)},
    "no layers": {"layers": 0},
}


def lively(**fields: Any) -> DecoderModel:
    """Build a model in which no weight is zero, or one, or like another."""
    shape = {"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "context": T, **fields}
    model, generator = Decoder(**shape).build(V), torch.Generator().manual_seed(1)
    size = (
        0.1 if fields.get("norm") == "none" else 0.3
    )  # without norms logits would be of hundreds, and so their errors
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
    assert isinstance(model, DecoderModel)
    return model.eval()


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def model(request: pytest.FixtureRequest) -> DecoderModel:
    return lively(**request.param)


def log_probabilities(model: DecoderModel) -> Tensor:
    with torch.no_grad():
        return model(TOKENS).log_softmax(-1)


STEPS: list[Callable[[DecoderModel], DecoderModel]] = [folded_norms, folded_value_biases, centred_unembedding, plain]


@pytest.mark.parametrize("change", STEPS, ids=lambda change: change.__name__)
def test_predictions_stay_and_so_does_the_original(model: DecoderModel, change: Any) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = change(model)
    storages = {value.untyped_storage().data_ptr() for value in [*made.parameters(), *model.parameters()]}
    assert len(storages) == len(list(made.parameters())) + len(list(model.parameters()))
    assert (log_probabilities(made) - log_probabilities(model)).abs().max() < 1e-5
    exact = log_probabilities(change(model.double())) - log_probabilities(model)
    assert exact.dtype == torch.float64 and exact.abs().max() < 1e-12
    model.float()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("case", [name for name in CASES if CASES[name].get("norm", "layer") == "layer"])
def test_centred_writing_leaves_a_stream_without_a_mean(case: str) -> None:
    model = lively(**CASES[case]).double()
    made = centred_writing(model)
    assert (log_probabilities(made) - log_probabilities(model)).abs().max() < 1e-12
    kinds = ("embed.out", "resid.post", "attn.out", "mlp.out")
    found = look(made, TOKENS, [site for site in made.sites() if site.part in kinds])
    assert len(found) == 1 + model.spec.layers * (2 if model.spec.attention_only else 3)
    if model.spec.positions != "sinusoidal":
        assert all(value.mean(-1).abs().max() < 1e-14 for value in found.values())
    assert made.unembed is not None, "the embedding has changed, so the two cannot be one"


@pytest.mark.parametrize("norm", ["rms", "none"])
def test_only_layer_norm_lets_writing_be_centred(norm: str) -> None:
    with pytest.raises(UsageError, match=f"norm = '{norm}' reads the mean of the stream"):
        centred_writing(lively(norm=norm))


@pytest.mark.parametrize("change", [*STEPS, centred_writing], ids=lambda change: change.__name__)
def test_norms_after_the_addition_are_refused(change: Any) -> None:
    with pytest.raises(UsageError, match="norm_at = 'post' norms the stream itself"):
        change(lively(norm_at="post"))


def test_folded_norms_divide_alone(model: DecoderModel) -> None:
    made = folded_norms(model)
    norms = {name: value for name, value in made.named_parameters() if name.rpartition(".")[2] in ("w", "b")}
    assert all((value == (1 if name.endswith("w") else 0)).all() for name, value in norms.items())
    assert len(norms) == sum(name.rpartition(".")[2] in ("w", "b") for name, _ in model.named_parameters())
    if model.spec.norm == "none":
        assert made.spec == model.spec
        assert all(torch.equal(value, made.state_dict()[name]) for name, value in model.state_dict().items())


def test_what_the_parts_read_is_the_same_after_folding(model: DecoderModel) -> None:
    made = folded_norms(model.double())
    kinds = ("attn.q", "attn.k", "attn.v", "attn.pattern", "mlp.pre", "mlp.gate", "resid.post", "logits")
    sites = [site for site in model.sites() if site.part in kinds]
    one, other = look(model, TOKENS, sites), look(made, TOKENS, sites)
    for site in sites:
        torch.testing.assert_close(one[site], other[site], rtol=1e-12, atol=1e-12)


def test_layer_norm_leaves_nothing_to_read_in_the_mean_of_a_weight() -> None:
    made = plain(lively())
    readers = ("W_Q", "W_K", "W_V", "W_in", "W_U")
    found = [value for name, value in made.named_parameters() if name.rpartition(".")[2] in readers]
    assert len(found) == 9
    assert all(value.mean(0).abs().max() < 1e-6 for value in found)


def test_values_have_no_bias_and_logits_no_mean(model: DecoderModel) -> None:
    made = plain(model)
    biases = [value for name, value in made.named_parameters() if name.endswith("b_V")]
    assert len(biases) == (model.spec.layers if model.spec.biases else 0)
    assert not any(value.any() for value in biases)
    with torch.no_grad():
        assert made(TOKENS).mean(-1).abs().max() < 1e-5
    kept = [value for name, value in folded_norms(model).named_parameters() if name.endswith("b_V")]
    assert all(value.any() for value in kept)


def test_making_plain_twice_changes_nothing_more(model: DecoderModel) -> None:
    once = plain(model.double())
    twice = plain(once)
    assert once.spec == twice.spec
    for name, value in once.state_dict().items():
        torch.testing.assert_close(twice.state_dict()[name], value, rtol=0, atol=1e-13)


def test_the_result_is_a_model_like_any_other(model: DecoderModel, tmp_path: Path) -> None:
    made = plain(model)
    assert sum(weight.numel() for weight in made.parameters()) == made.spec.parameters(V)
    assert (made.unembed is not None) and made.spec.unembed_bias == (Site("unembed.b_U") in made.sites())
    save_model(made, tmp_path)
    again = load_model(tmp_path)
    assert again.spec == made.spec and torch.equal(again(TOKENS), made(TOKENS))
    past, steps = Cache(T), []
    with torch.no_grad():
        for at in range(T):
            steps.append(made(TOKENS[:, at : at + 1], past=past))
    torch.testing.assert_close(torch.cat(steps, 1).log_softmax(-1), log_probabilities(model), rtol=1e-4, atol=1e-5)


def test_it_is_as_ready_to_train_as_the_original() -> None:
    model = lively(dropout=0.1).train()
    made = plain(model)
    assert made.training and not plain(model.eval()).training
    made(TOKENS).square().sum().backward()
    assert all(weight.grad is not None for weight in made.parameters())
    assert all(weight.grad is None for weight in model.parameters())


def test_an_unembedding_with_a_bias_has_no_format() -> None:
    for fields, target in (
        ({}, "GPT2LMHeadModel"),
        ({"positions": "rotary"}, "GPTNeoXForCausalLM"),
        ({"positions": "rotary", "norm": "rms", "biases": False, "gated": True}, "LlamaForCausalLM"),
    ):
        spec = lively(**fields).spec
        format_for(spec, V)
        with pytest.raises(UsageError, match=f"unembed_bias = yes cannot be a {target}, which has no"):
            format_for(Decoder(**{**vars(spec), "unembed_bias": True}), V)


def test_a_tied_unembedding_has_no_bias() -> None:
    with pytest.raises(UsageError, match="unembed_bias needs an unembedding that is its own"):
        Decoder(tied=True, unembed_bias=True)
