"""The effect of an edit beside its placebos, on a circuit of which every direction's use is known.

In the planted model the stream holds the token (V), its position (T), the token before (V, written by L0H0 and read by
L1H0's keys), the prediction (V, all that the unembedding reads), and what is left over.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.core.errors import UsageError
from etude.evals.behaviours import repeats
from etude.interp.directions import ablated_direction, steered
from etude.interp.metrics import LogitDifference, LogProbability, Loss, Metric
from etude.interp.steering import EditOf, compared, dose_response, p_among, random_like, rank_among
from etude.models.architectures.decoder import Decoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import CERTAIN, planted
from etude.nn.look import look

V, T = 8, 12
WIDTH = 3 * V + T
TEXTS = torch.from_numpy(repeats(6, T, V, seed=0).tokens)
PERIODS = repeats(6, T, V, seed=0).period
ANSWERS = TEXTS[torch.arange(6), torch.from_numpy(T - PERIODS)]


def part(start: int, count: int) -> Tensor:
    return torch.eye(WIDTH)[start : start + count]


TOKEN_BEFORE, ANSWER = part(V + T, V), part(2 * V + T, V)
ONE = LogitDifference(0)


@pytest.fixture(scope="module")
def model() -> DecoderModel:
    return planted(V, T)


@pytest.mark.parametrize("site", ["L0.resid.post", "L1.resid.pre"])
def test_without_the_token_before_repeats_are_not_predicted_and_a_random_subspace_matters_less(site: str):
    """A wide stream, of which the subspace is a sixth."""
    V, T = 32, 96
    drawn = repeats(12, 16, V, seed=0)
    tokens = torch.from_numpy(drawn.tokens)
    metric = LogProbability(tokens[torch.arange(12), torch.from_numpy(16 - drawn.period)])
    token_before = torch.eye(3 * V + T)[V + T : 2 * V + T]
    found = compared(planted(V, T), tokens, site, ablated_direction, token_before, metric, placebos=19)
    assert found.without.min() > -1e-3
    assert found.effect.high < -2.0
    assert found.placebo_effects.min() > -1e-3
    assert found.factors.min() > 1.2 and found.matched_effects.median() > -0.1
    assert found.p == found.p_matched == 1 / 20


def test_what_nothing_reads_has_no_effect_and_ranks_last(model: DecoderModel):
    # Behind the last layer the unembedding reads the prediction alone.
    found = compared(model, TEXTS, "L1.resid.post", ablated_direction, TOKEN_BEFORE, LogitDifference(ANSWERS))
    assert found.effect.mean == 0 and found.p == 1 and found.p_matched == 1
    assert found.placebo_effects.abs().max() > 0.1
    found = compared(model, TEXTS, "L1.resid.post", lambda d: steered(d, 5.0), TOKEN_BEFORE[0], LogitDifference(0))
    assert found.effect.mean == 0 and found.p == 1


def test_steering_along_an_unembedding_direction_is_read_linearly(model: DecoderModel):
    token, strengths = 3, (-2.0, 0.0, 0.5, 4.0)
    direction = model.unembedding()[0][:, token].detach() / CERTAIN
    found = dose_response(model, TEXTS, "L1.resid.post", direction, LogitDifference(token), strengths, placebos=50)
    expected = torch.tensor(strengths, dtype=torch.float64)[:, None] * CERTAIN
    torch.testing.assert_close(found.changes, expected.expand(4, len(TEXTS)), atol=1e-4, rtol=1e-5)
    # A random direction is read by its component along this one: mean 0, deviation 1/√D.
    for strength, placebo, estimate in zip(strengths, found.placebo_changes, found.placebos, strict=True):
        assert estimate.n == 50 and estimate.low <= 0 <= estimate.high
        deviation = abs(strength) * CERTAIN / math.sqrt(WIDTH)
        assert float(placebo.square().mean().sqrt()) == pytest.approx(deviation, rel=0.3)
    assert found.p == [1 / 51, 1.0, 1 / 51, 1 / 51]


def test_only_the_steered_position_changes(model: DecoderModel):
    direction = model.unembedding()[0][:, 3].detach()
    here, before = (LogitDifference(3, position=at) for at in (-1, -2))
    for metric, changed in ((here, False), (before, True)):
        found = dose_response(model, TEXTS, "L1.resid.post", direction, metric, [1.0], positions=-2, placebos=2)
        assert bool(found.changes.all()) == changed and bool(found.changes.any()) == changed


def test_every_value_is_that_of_a_model_edited_by_hand():
    model = Decoder(layers=2, width=16, heads=2, context=T, feedforward=16).build(V, seed=0).eval()
    directions = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    metric = Loss(TEXTS)
    found = compared(model, TEXTS, "L0.mlp.out", ablated_direction, directions, metric, placebos=3, seed=5)

    def changed(span: Tensor, factor: float) -> tuple[Tensor, float]:
        basis = torch.linalg.svd(span, full_matrices=False)[2]
        sizes: list[float] = []

        def edit(x: Tensor) -> Tensor:
            removed = torch.einsum("btd,rd,re->bte", x, basis, basis)
            sizes.append(float(removed.square().sum()))
            return x - factor * removed

        with torch.no_grad(), model.tapped({"L0.mlp.out": edit}):
            return metric(model(TEXTS)).double(), sizes[0]

    value, moved = changed(directions, 1.0)
    torch.testing.assert_close(found.edited, value, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.without, changed(directions, 0.0)[0], atol=1e-5, rtol=0)
    for i, other in enumerate(random_like(directions, 3, seed=5)):
        value, size = changed(other, 1.0)
        torch.testing.assert_close(found.placebos[i], value, atol=1e-5, rtol=0)
        assert found.factors[i].item() == pytest.approx(math.sqrt(moved / size), rel=1e-4)
        torch.testing.assert_close(found.matched[i], changed(other, found.factors[i].item())[0], atol=1e-5, rtol=0)
    assert found.effect.mean == pytest.approx((found.edited - found.without).mean().item())
    assert found.effect.n == len(TEXTS)


def test_an_ablation_of_what_is_large_is_no_more_than_its_size_when_nothing_else_is_special():
    # Each coordinate of the stream is read alike, and one is a hundred times as large as the others.
    model = Decoder(layers=1, width=16, heads=1, feedforward=0, norm="none", context=4).build(16, seed=0).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.get_parameter("embed.W_E").copy_(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)))
        model.get_parameter("embed.W_E")[:, 0] = 100.0
        model.get_parameter("unembed.W_U").fill_(1.0)
    tokens = torch.arange(16).view(4, 4)
    metric = LogitDifference(0)
    found = compared(model, tokens, "L0.resid.post", ablated_direction, torch.eye(16)[0], metric, placebos=39)
    assert found.effect.mean == pytest.approx(-100, rel=1e-4)
    assert found.factors.median() > 2
    # The placebo that removes as much of something else does about as much.
    assert found.p_matched > 0.05


def test_for_steering_both_kinds_of_placebo_are_one(model: DecoderModel):
    direction = model.unembedding()[0][:, 3].detach()
    found = compared(model, TEXTS, "L0.resid.post", lambda d: steered(d, 0.3), direction, Loss(TEXTS), placebos=4)
    torch.testing.assert_close(found.factors, torch.ones(4, dtype=torch.float64), atol=1e-4, rtol=0)
    assert torch.equal(found.placebos, found.matched) and found.p == found.p_matched


def test_a_glob_edits_all_its_sites(model: DecoderModel):
    both = compared(model, TEXTS, "L?.resid.pre", ablated_direction, TOKEN_BEFORE, LogProbability(ANSWERS), placebos=2)
    edit = ablated_direction(TOKEN_BEFORE)
    with torch.no_grad(), model.tapped({"L0.resid.pre": edit, "L1.resid.pre": edit}):
        expected = LogProbability(ANSWERS)(model(TEXTS)).double()
    torch.testing.assert_close(both.edited, expected)


def test_comparing_leaves_the_model_alone_and_comes_out_the_same_again(model: DecoderModel):
    before = look(model, TEXTS, "logits")["logits"]
    one, again, other = (
        compared(model, TEXTS, "L0.resid.post", ablated_direction, ANSWER, Loss(TEXTS), placebos=3, seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(one.placebos, again.placebos) and not torch.equal(one.placebos, other.placebos)
    assert torch.equal(look(model, TEXTS, "logits")["logits"], before)


def test_a_metric_of_one_number_for_all_texts(model: DecoderModel):
    found = compared(model, TEXTS, "L0.resid.post", ablated_direction, TOKEN_BEFORE, lambda x: x.max(), placebos=2)
    assert found.without.shape == (1,) and found.effect.n == 1 and found.placebos.shape == (2, 1)


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(0, 3), width=st.integers(2, 8), count=st.integers(1, 4), seed=st.integers(0, 2**40))
def test_random_directions_have_the_norms_of_those_they_stand_for(rows: int, width: int, count: int, seed: int):
    shape = (rows, width) if rows else (width,)
    directions = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 10
    found = random_like(directions, count, seed)
    assert len(found) == count
    for one in found:
        assert one.shape == directions.shape and one.dtype == directions.dtype
        torch.testing.assert_close(one.norm(dim=-1), directions.norm(dim=-1))


def test_random_directions_are_uniform():
    drawn = torch.stack(random_like(torch.eye(4)[0], 4000, seed=0))
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(drawn.mT @ drawn / 4000, np.eye(4) / 4, atol=0.02)


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12), st.integers(-5, 5))
def test_the_rank_counts_placebos_at_least_as_large(placebos: list[int], effect: int):
    at_least = len([one for one in placebos if abs(one) >= abs(effect)])
    values = torch.tensor(placebos, dtype=torch.float64)
    assert rank_among(float(effect), values) == at_least + 1
    assert p_among(float(effect), values) == (at_least + 1) / (len(placebos) + 1)


def test_p_is_uniform_when_the_direction_is_a_random_one(model: DecoderModel):
    ps = []
    for seed in range(40):
        (direction,) = random_like(torch.ones(WIDTH), 1, seed=1000 + seed)
        edit_of = lambda d: steered(d, 3.0)  # noqa: E731
        ps.append(compared(model, TEXTS, "L1.resid.post", edit_of, direction, LogitDifference(1), 9, seed).p)
    assert {round(10 * p) for p in ps} <= set(range(1, 11))
    assert 0.35 < np.mean(ps) < 0.75 and min(ps) <= 0.2 and max(ps) >= 0.9


def test_what_cannot_be_compared(model: DecoderModel):
    def comparing(direction: Tensor, metric: Metric = ONE, placebos: int = 2, edit_of: EditOf = ablated_direction):
        return compared(model, TEXTS, "L0.resid.post", edit_of, direction, metric, placebos)

    one = torch.eye(WIDTH)[0]
    with pytest.raises(UsageError, match="placebos = 0"):
        comparing(one, placebos=0)
    with pytest.raises(UsageError, match="norm 0"):
        comparing(0 * one, edit_of=steered)
    with pytest.raises(UsageError, match=r"width 3 do not fit an activation of \[6, 12, 36\]"):
        comparing(torch.ones(3))
    with pytest.raises(UsageError, match="not finite"):
        comparing(one, metric=lambda logits: logits.sum() * math.nan)
    with pytest.raises(UsageError, match=r"a placebo changes nothing at L0\.resid\.post"):
        comparing(one, edit_of=lambda d: steered(d, 1.0 if d is one else 0.0))
    with pytest.raises(UsageError, match="strengths"):
        dose_response(model, TEXTS, "L0.resid.post", one, LogitDifference(0), ())


def test_a_model_that_drops_out_is_refused():
    model = Decoder(layers=1, width=8, heads=2, feedforward=16, context=8, dropout=0.5).build(11).train()
    with pytest.raises(UsageError, match="drops out a share of"):
        dose_response(
            model, torch.zeros(1, 4, dtype=torch.long), "L0.resid.post", torch.ones(8), LogitDifference(1), [1.0]
        )
