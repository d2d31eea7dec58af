"""Paths add up to the model's logits, each is the product of its matrices, and the planted path is found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.evals.behaviours import repeats
from etude.interp import expansion
from etude.interp.expansion import Expansion, expand, streams_by_path
from etude.models.architectures.decoder import Decoder
from etude.models.cache import Cache
from etude.models.decoder_model import DecoderModel
from etude.models.planted import CERTAIN, planted
from etude.nn.attention.sliding import Sliding
from etude.nn.look import look

V, T = 11, 8
TOKENS = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(0))

CASES: dict[str, dict[str, Any]] = {
    "layer norm": {},
    "three layers": {"layers": 3},
    "tied, scaled": {"tied": True, "scaled_embeddings": True, "positions": "sinusoidal"},
    "no biases": {"biases": False},
    "rms": {"norm": "rms"},
    "no norm": {"norm": "none", "biases": False},
    "no norm, biases": {"norm": "none"},
    "rotary, groups": {"positions": "rotary", "heads": 4, "kv_heads": 2},
    "parallel": {"parallel": True, "norm": "rms", "biases": False},
    "sliding": {"attention": Sliding(3)},
    "mup": {"mup_base": 8},
    "a bias of the unembedding": {"unembed_bias": True},
    "no layers": {"layers": 0},
}


def lively(**fields: Any) -> DecoderModel:
    """Build a model in which no weight is zero, or one, or like another."""
    shape = {"layers": 2, "width": 16, "heads": 2, "feedforward": 0, "context": T, **fields}
    model, generator = Decoder(**shape).build(V), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    assert isinstance(model, DecoderModel)
    return model.eval()


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def model(request: pytest.FixtureRequest) -> DecoderModel:
    return lively(**request.param)


def logits(model: DecoderModel) -> Tensor:
    with torch.no_grad():
        return model(TOKENS)


def test_the_paths_add_up_to_the_logits(model: DecoderModel) -> None:
    found = expand(model, TOKENS)
    spec = model.spec
    assert len(found.paths) == len(set(found.paths)) == (1 + spec.heads) ** spec.layers
    assert found.logits.shape == (len(found.paths), 3, T, V)
    torch.testing.assert_close(found.total(), logits(model), rtol=1e-5, atol=1e-4)
    exact = expand(model.double(), TOKENS)
    torch.testing.assert_close(exact.total(), logits(model), rtol=0, atol=1e-10)


def test_orders_add_up_too(model: DecoderModel) -> None:
    found = expand(model, TOKENS)
    orders = found.by_order()
    assert len(orders) == model.spec.layers + 1
    torch.testing.assert_close(orders.sum(0) + found.constants, found.total())
    torch.testing.assert_close(orders[0], found.logits[0])
    assert [len(path) for path in found.paths] == sorted(len(path) for path in found.paths)
    assert all(path == tuple(sorted(path)) for path in found.paths), "heads come in the order of their layers"


def test_the_logit_of_the_answers_alone(model: DecoderModel) -> None:
    whole, answers = expand(model, TOKENS), TOKENS.roll(-1, 1)
    part = expand(model, TOKENS, answers=answers)
    assert part.paths == whole.paths and part.logits.shape == (len(whole.paths), 3, T)
    chosen = answers[None, ..., None].expand(len(whole.paths), -1, -1, 1)
    torch.testing.assert_close(part.logits, whole.logits.gather(-1, chosen).squeeze(-1))
    torch.testing.assert_close(part.constants, whole.constants.gather(-1, answers[..., None]).squeeze(-1))
    torch.testing.assert_close(
        part.total(), logits(model).gather(-1, answers[..., None]).squeeze(-1), atol=1e-4, rtol=0
    )
    assert part.by_order().shape == (model.spec.layers + 1, 3, T)


def test_streams_are_what_the_unembedding_reads_of_each_path(model: DecoderModel) -> None:
    model = model.double()
    found, left = expand(model, TOKENS), streams_by_path(model, TOKENS)
    W_U, b_U = model.unembedding()
    W_U, b_U = W_U.detach(), 0 if b_U is None else b_U.detach()
    assert left.paths == found.paths and left.streams.shape == (len(found.paths), 3, T, model.spec.width)
    torch.testing.assert_close(left.streams @ W_U, found.logits)
    torch.testing.assert_close(left.by_order() @ W_U, found.by_order())
    torch.testing.assert_close(left.constant @ W_U + b_U, found.constants)
    with torch.no_grad():
        torch.testing.assert_close(left.streams.sum(0) + left.constant, model.hidden(TOKENS))


@pytest.mark.parametrize("fields", [{}, {"positions": "rotary", "norm": "rms"}], ids=str)
def test_no_path_leads_from_one_document_to_another(fields: dict[str, Any]) -> None:
    model = lively(**fields).double()
    documents = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]).expand(3, -1)
    apart = expand(model, TOKENS, documents=documents)
    with torch.no_grad():
        wanted = model(TOKENS, documents=documents)
    torch.testing.assert_close(apart.total(), wanted)
    assert (wanted - logits(model)).abs().max() > 0.1, "kept apart they are read otherwise"
    other = TOKENS.clone()
    other[:, :3] = (other[:, :3] + 1) % V
    later = (slice(None), slice(None), slice(3, None))
    torch.testing.assert_close(expand(model, other, documents=documents).logits[later], apart.logits[later])


def test_more_logits_than_can_be_held_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively()
    values = 9 * 3 * T * V
    monkeypatch.setattr(expansion, "MOST_VALUES", values)
    assert expand(model, TOKENS).logits.numel() == values
    monkeypatch.setattr(expansion, "MOST_VALUES", values - 1)
    with pytest.raises(UsageError, match=f"9 paths of 24 tokens have {values} logits, .*: give answers") as caught:
        expand(model, TOKENS)
    assert "\n" not in str(caught.value)
    assert expand(model, TOKENS, answers=TOKENS).logits.numel() == values // V
    assert len(streams_by_path(model, TOKENS).paths) == 9


def test_each_path_is_the_product_of_its_matrices() -> None:
    """Without norms and biases: patterns on the left of the stream, OV circuits on its right."""
    model = lively(layers=3, norm="none", biases=False).double()
    found = expand(model, TOKENS)
    seen = look(model, TOKENS, ["embed.out", "L*.attn.pattern"])
    for number, path in enumerate(found.paths):
        x = seen["embed.out"]
        for layer, head in path:
            attention: Any = model.layers[layer].attn
            x = seen[f"L{layer}.attn.pattern"][:, head] @ x @ (attention.W_V[:, head] @ attention.W_O[head])
        torch.testing.assert_close(found.logits[number], (x @ model.unembedding()[0]).detach())
    assert not found.constants.any()


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("gone", [(0, 1), (1, 0), (2, 1)])
def test_taking_a_head_out_of_the_frozen_model_takes_its_paths_out(norm: str, gone: tuple[int, int]) -> None:
    model = lively(layers=3, norm=norm, biases=False).double()
    layer, head = gone
    sites = [site for site in model.sites() if site.part in ("attn.pattern", "attn_norm.scale", "final_norm.scale")]
    seen = look(model, TOKENS, sites)

    def without(written: Tensor) -> Tensor:
        keep = torch.ones(model.spec.heads, 1, dtype=written.dtype)
        keep[head] = 0
        return written * keep

    frozen: dict[str, Any] = {site: lambda _, value=value: value.clone() for site, value in seen.items()}
    with torch.no_grad(), model.tapped(frozen), model.tapped({f"L{layer}.attn.head_out": without}):
        ablated = model(TOKENS)
    found = expand(model, TOKENS)
    through = torch.tensor([gone in path for path in found.paths])
    assert through.sum() == 9
    torch.testing.assert_close(logits(model) - ablated, found.logits[through].sum(0))


def test_constants_are_what_no_token_changes() -> None:
    """What is read without norms, patterns held: the logits of an embedding of zeros."""
    model = lively(norm="none").double()
    patterns = look(model, TOKENS, "L*.attn.pattern")
    frozen: dict[str, Any] = {site: lambda _, value=value: value.clone() for site, value in patterns.items()}
    with torch.no_grad(), model.tapped({**frozen, "embed.out": torch.zeros_like}):
        silent = model(TOKENS)
    torch.testing.assert_close(expand(model, TOKENS).constants, silent)
    assert silent.abs().max() > 0.1


@pytest.fixture(scope="module")
def induction() -> tuple[Tensor, Expansion]:
    tokens = torch.from_numpy(repeats(4, 24, 10, seed=0).tokens)
    return tokens, expand(planted(10, 24), tokens)


def test_the_planted_prediction_goes_through_the_induction_head_alone(induction: tuple[Tensor, Expansion]) -> None:
    tokens, found = induction
    largest = dict(zip(found.paths, found.logits.abs().amax((1, 2, 3)).tolist(), strict=True))
    assert largest.pop(((1, 0),)) == pytest.approx(CERTAIN)
    assert set(largest.values()) == {0.0} and not found.constants.any()
    answers = found.logits[found.paths.index(((1, 0),))][:, 12:-1].argmax(-1)
    assert torch.equal(answers, tokens[:, 13:]), "periods are 6 to 12, so from there on every answer is known"


def test_a_virtual_head_is_found() -> None:
    """Let the induction head read what the previous-token head wrote: its answer then comes by the path of both."""
    model = planted(10, 24)
    attention: Any = model.layers[1].attn
    with torch.no_grad():
        attention.W_V.copy_(attention.W_V.roll(10 + 24, 0))
    found = expand(model, torch.from_numpy(repeats(4, 24, 10, seed=0).tokens))
    largest = dict(zip(found.paths, found.logits.abs().amax((1, 2, 3)).tolist(), strict=True))
    assert largest.pop(((0, 0), (1, 0))) == pytest.approx(CERTAIN)
    assert set(largest.values()) == {0.0}
    assert found.by_order().abs().amax((1, 2, 3)).tolist() == pytest.approx([0, 0, CERTAIN])


def test_what_is_no_sum_over_paths_is_refused() -> None:
    with pytest.raises(UsageError, match="feedforward = 24: only attention-only models"):
        expand(lively(feedforward=24), TOKENS)
    with pytest.raises(UsageError, match="norm_at = 'post' divides the stream itself"):
        expand(lively(norm_at="post"), TOKENS)
    with pytest.raises(UsageError, match="3 layers of 4 heads have 125 paths, more than most = 124: raise it"):
        expand(lively(layers=3, heads=4), TOKENS, most=124)
    assert len(expand(lively(layers=3, heads=4), TOKENS, most=125).paths) == 125
    with pytest.raises(UsageError, match="a past has keys that no path begins at: leave past out"):
        expand(lively(), TOKENS, past=Cache(T))
    dropping = lively(dropout=0.1)
    assert len(expand(dropping, TOKENS).paths) == 9
    with pytest.raises(UsageError, match="dropout is on"):
        expand(dropping.train(), TOKENS)


def test_an_expansion_keeps_no_graph_and_changes_nothing() -> None:
    model = lively()
    before = logits(model)
    found = expand(model, TOKENS)
    assert not found.logits.requires_grad
    found.logits.zero_()
    assert torch.equal(logits(model), before) and model.watchers == 0
