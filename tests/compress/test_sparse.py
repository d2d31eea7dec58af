"""Sparse codecs: what they keep against a brute-force computation, what they learn against planted directions."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import Tensor

from etude.compress import fitting
from etude.compress.compressor import Compressor
from etude.compress.explained import Explained
from etude.compress.fitting import FitStepper, Steps
from etude.compress.material import Material
from etude.compress.methods.relu_sae import ReluSae
from etude.compress.methods.topk_sae import TopkSae
from etude.compress.methods.transcoder import Transcoder
from etude.compress.recipes import Compress
from etude.compress.rounded import Rounded
from etude.compress.sparse import Sparse, keep_greatest, support_bits
from etude.compress.sparse_training import BETA2, FALL, START, Choices, LearnSparse, standardised, start, train_sparse
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.recipes import Record
from etude.train.loop import advance
from etude.train.recipes import Train


@pytest.fixture
def draft(tmp_path: Path, trained: Train) -> Draft:
    return Draft(tmp_path / "fit.partial", Record(trained, "L0.attn.out").resolve())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(n: int = 3000, width: int = 12, features: int = 16, active: int = 2) -> tuple[Tensor, Tensor]:
    """Return rows that are each a positive sum of `active` of some directions, far from zero, and the directions."""
    directions = torch.nn.functional.normalize(drawn(features, width, seed=1), dim=1)
    draw = torch.Generator().manual_seed(2)
    where = torch.rand(n, features, generator=draw).argsort(1)[:, :active]
    code = torch.zeros(n, features).scatter(1, where, 1 + torch.rand(n, active, generator=draw))
    return code @ directions + 3, directions


def share(x: Tensor, y: Tensor) -> float:
    explained = Explained()
    explained.add(x, y.detach())
    assert explained.share is not None
    return explained.share


def random_codec(k: int, width: int = 6, features: int = 10, written: int = 5) -> Sparse:
    codec = Sparse(width, features, written, k)
    with torch.no_grad():
        for seed, tensor in enumerate((*codec.parameters(), codec.get_buffer("centre"))):
            tensor.copy_(drawn(*tensor.shape, seed=seed))
    return codec.requires_grad_(False)


# The codec


@given(st.integers(0, 9), st.integers(0, 1000))
def test_the_greatest_are_kept_and_none_under_zero(k: int, seed: int) -> None:
    pre = drawn(7, 8, seed=seed)
    found = keep_greatest(pre, k)
    for row, kept in zip(pre.tolist(), found.tolist(), strict=True):
        among = sorted(row, reverse=True)[: k or 8]
        assert kept == [value if value in among and value > 0 else 0.0 for value in row]


@pytest.mark.parametrize("k", [0, 3])
def test_the_codec_is_its_formula(k: int) -> None:
    codec, x = random_codec(k), drawn(2, 4, 6, seed=9)
    pre = (x - codec.get_buffer("centre")) @ codec.W_enc + codec.b_enc
    code = keep_greatest(pre, k)
    torch.testing.assert_close(codec.encode(x), code)
    torch.testing.assert_close(codec(x), code @ codec.W_dec + codec.b_dec)
    assert codec(x).shape == (2, 4, 5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_bits_of_the_support_are_binary_entropies(rates: list[float]) -> None:
    expected = sum(entropy([p, 1 - p], base=2) for p in rates)
    assert support_bits(torch.tensor(rates, dtype=torch.float64)) == pytest.approx(expected, abs=1e-9)


def test_the_cost_counts_what_fires() -> None:
    codec, x = random_codec(3), drawn(500, 6, seed=3)
    codec.measure_rate(x)
    code, cost = codec.encode(x), codec.cost()
    fired = (code != 0).double()
    assert codec.active == pytest.approx(float(fired.sum(1).mean()), rel=1e-6)
    assert codec.dead == int((fired.sum(0) == 0).sum())
    assert cost.dimensions == codec.active
    assert cost.bits == pytest.approx(32 * codec.active + support_bits(fired.mean(0)), rel=1e-6)
    assert cost.parameters == 6 * 10 + 10 + 10 * 5 + 5
    assert cost.flops == pytest.approx(2 * (6 * 10 + codec.active * 5))


def test_a_latent_that_always_or_never_fires_takes_no_bits_to_name() -> None:
    assert support_bits(torch.tensor([0.0, 1.0, 0.0]).double()) == 0
    assert support_bits(torch.full((7,), 0.5).double()) == pytest.approx(7)


def test_zeros_stay_zeros_in_fewer_bits_and_only_numbers_grow_cheaper() -> None:
    codec, x = random_codec(3), drawn(400, 6, seed=3)
    codec.measure_rate(x)
    rounded = Rounded.fitted(codec, codec.encode(x), 4)
    assert torch.equal(rounded.encode(x)[codec.encode(x) == 0], torch.zeros(int((codec.encode(x) == 0).sum())))
    whole, few = codec.cost().bits, rounded.cost().bits
    assert whole is not None and few is not None
    assert whole - few == pytest.approx(28 * codec.active)


# Training


def test_planted_directions_are_found(draft: Draft) -> None:
    data, directions = planted()
    codec = TopkSae(k=2, features=32, revive=2000, steps=600, batch=256, rate=2e-2).fit(Material(data), 0, draft)
    assert isinstance(codec, Sparse)
    assert share(data, codec(data)) > 0.93
    assert (directions @ codec.W_dec.T).amax(1).min() > 0.95  # of each, the cosine with the nearest row
    assert codec.active <= 2 + 1e-9


def test_the_k_greatest_explain_more_the_more_there_are(draft: Draft) -> None:
    data, found = drawn(1000, 8) @ drawn(8, 8, seed=1), []
    for k in (1, 2, 4):
        run = Draft(draft.path / str(k), draft.recipe)
        codec = TopkSae(k=k, features=32, steps=200, batch=256).fit(Material(data), 0, run)
        found.append(share(data, codec(data)))
        assert int((codec.encode(data) > 0).sum(1).max()) <= k
    assert found == sorted(found) and found[2] > found[0] + 0.1


def test_a_greater_penalty_leaves_fewer_latents_on(draft: Draft) -> None:
    data, _ = planted(1000)
    on = []
    for penalty in (0.0, 0.1, 1.0):
        run = Draft(draft.path / str(penalty), draft.recipe)
        codec = ReluSae(features=24, penalty=penalty, steps=200, batch=256, rate=5e-3).fit(Material(data), 0, run)
        assert isinstance(codec, Sparse)
        on.append(codec.active)
    assert on[0] > on[1] > on[2]


def test_a_transcoder_writes_the_output_from_the_input(draft: Draft) -> None:
    x = drawn(2000, 6)
    y = (x @ drawn(6, 12, seed=1)).relu() @ drawn(12, 9, seed=2) + 4
    method = Transcoder(k=6, features=48, steps=600, batch=256, rate=5e-3)
    codec = method.fit(Material(y, Site("L0.mlp.out"), x), 0, draft)
    assert codec(x).shape == y.shape
    assert share(y, codec(x)) > 0.85
    with pytest.raises(UsageError, match=r"^transcoder has nothing to read at L0\.mlp\.out"):
        method.fit(Material(y, Site("L0.mlp.out")), 0, draft)


@pytest.mark.parametrize("tied", [True, False])
def test_the_encoder_begins_short_and_the_decoder_with_norm_1(tied: bool) -> None:
    codec = Sparse(12, 20, 12, 3)
    start(codec, torch.Generator().manual_seed(0), tied=tied)
    torch.testing.assert_close(codec.W_dec.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(codec.W_enc.norm(dim=0), torch.full((20,), START))
    along = (codec.W_enc.T * codec.W_dec).sum(1) / START
    assert bool((along > 0.999).all()) if tied else bool((along.abs() < 0.95).all())


@pytest.mark.parametrize(
    ("fall", "expected"),
    [(1.0, [1 / 50, 0.75, 0.5, 0.25]), (0.5, [1 / 50, 1.0, 1.0, 0.75])],  # (1 + cos 60°) / 2 is three quarters
)
def test_the_rate_stays_until_it_falls_along_half_a_cosine(fall: float, expected: list[float]) -> None:
    x = drawn(50, 12)
    stepper = FitStepper(LearnSparse(Sparse(12, 20, 12, 3), 0.0, 9), Steps(1200, 8, 2.0, fall, 0.5), x, x, 0)
    found = []
    for number in (0, 400, 600, 800):
        stepper._set_rate(number)
        found.append(stepper.optimiser.param_groups[0]["lr"] / 2.0)
    assert found == pytest.approx(expected)
    assert stepper.optimiser.param_groups[0]["betas"] == (0.9, 0.5)


def test_a_sparse_codec_is_trained_by_steps_whose_rate_falls_late(
    draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Steps] = []
    whole = FitStepper._set_rate

    def note(self: FitStepper, number: int) -> None:
        seen.append(self.steps)
        whole(self, number)

    monkeypatch.setattr(FitStepper, "_set_rate", note)
    TopkSae(k=2, features=24, steps=1, batch=32).fit(Material(planted(100)[0]), 0, draft)
    assert seen == [Steps(1, 32, TopkSae.rate, FALL, BETA2)]


@pytest.mark.parametrize("k", [0, 4])
def test_rows_of_the_decoder_have_norm_1_and_gradients_do_not_push_against_it(k: int) -> None:
    data, _ = planted(600)
    x, _, _ = standardised(data)
    codec = Sparse(12, 20, 12, k)
    start(codec, torch.Generator().manual_seed(0), tied=True)
    stepper = FitStepper(LearnSparse(codec, penalty=0.1, revive=10**9), Steps(50, 64, 1e-2), x, x, 0)
    for number in range(10):
        before = codec.W_dec.detach().clone()
        stepper.step(number)
        assert codec.W_dec.grad is not None
        assert (codec.W_dec.grad * before).sum(1).abs().max() < 1e-6 < codec.W_dec.grad.norm()
        torch.testing.assert_close(codec.W_dec.norm(dim=1), torch.ones(20))


def test_the_loss_is_the_share_that_is_lost_and_the_penalty() -> None:
    data, _ = planted(600)
    x, _, _ = standardised(data)
    codec = Sparse(12, 20, 12, 0)
    start(codec, torch.Generator().manual_seed(0), tied=True)
    losses = LearnSparse(codec, penalty=0.3, revive=10**9)(x, x, torch.Generator())
    code = codec.encode(x)
    assert losses["lost"].item() == pytest.approx(1 - share(x, codec(x)), rel=1e-4)
    assert losses["loss"].item() == pytest.approx(losses["lost"].item() + 0.3 * code.sum(1).mean().item() / 12**0.5)
    assert losses["active"].item() == pytest.approx((code > 0).sum(1).double().mean().item())


def test_gradients_are_those_of_the_product_with_all_latents() -> None:
    x, _, _ = standardised(planted(200)[0])
    codec = Sparse(12, 20, 12, 3)
    start(codec, torch.Generator().manual_seed(0), tied=True)
    expected = torch.autograd.grad(((codec(x) - x) ** 2).mean(), list(codec.parameters()))
    losses = LearnSparse(codec, penalty=0.0, revive=10**9)(x, x, torch.Generator())
    found = torch.autograd.grad(losses["loss"], list(codec.parameters()))
    for wanted, grad in zip(expected, found, strict=True):
        torch.testing.assert_close(grad, wanted)
        assert grad.abs().sum() > 0


def test_dead_latents_are_asked_to_make_what_is_missing() -> None:
    """The auxiliary term by its formula, with the latents that have been silent for long."""
    data, _ = planted(200)
    x, _, _ = standardised(data)
    codec = Sparse(12, 30, 12, 2)
    start(codec, torch.Generator().manual_seed(0), tied=True)
    with torch.no_grad():
        codec.b_enc[20:] = -1.0
    objective = LearnSparse(codec, penalty=0.0, revive=250)
    first, second = (objective(x, x, torch.Generator()) for _ in range(2))
    assert first["dead"] == 0 and first["loss"] == first["lost"]
    assert 10 <= second["dead"].item() < 30
    dead = objective.get_buffer("silent") >= 250
    error = x - codec(x)
    pre = codec.pre(x).masked_fill(~dead, -math.inf)
    values, where = pre.topk(6, dim=1)
    made = torch.zeros_like(pre).scatter(1, where, values) @ codec.W_dec
    missed = ((error - made) ** 2).sum() / (error**2).sum()
    assert second["loss"].item() == pytest.approx((second["lost"] + missed / 32).item(), rel=1e-4)
    second["loss"].backward()
    assert codec.W_enc.grad is not None and codec.W_enc.grad[:, 20:].abs().sum() > 0


def test_dead_latents_come_back() -> None:
    data, _ = planted()
    x, _, _ = standardised(data)
    left = {}
    for revive in (1500, 10**9):
        codec = Sparse(12, 24, 12, 2)
        start(codec, torch.Generator().manual_seed(0), tied=True)
        with torch.no_grad():
            codec.b_enc[8:] = -8.0
        stepper = FitStepper(LearnSparse(codec, penalty=0.0, revive=revive), Steps(400, 256, 1e-2), x, x, 0)
        for number in range(400):
            stepper.step(number)
        codec.measure_rate(x)
        left[revive] = codec.dead
    assert left[1500] < 12 and left[10**9] == 16


def test_what_is_told_is_of_the_data(draft: Draft) -> None:
    data = planted()[0]
    codec = TopkSae(k=2, features=40, steps=30, batch=64).fit(Material(data), 0, draft)
    assert isinstance(codec, Sparse)
    told, fired = draft.rows()[-1], codec.encode(data) > 0
    assert told["features"] == 40
    assert told["dead_fitted"] == codec.dead == int((~fired.any(0)).sum())
    assert told["active_fitted"] == pytest.approx(float(fired.double().sum(1).mean()), rel=1e-4)
    assert told["explained_fitted"] == pytest.approx(share(data, codec(data)), abs=1e-4)


def test_the_result_says_how_many_latents_are_dead(lab: Lab, trained: Train) -> None:
    method = TopkSae(k=2, features=64, steps=20, batch=64)
    run = lab.run(Compress(trained, "L0.mlp.out", method, fit_tokens=640, evaluate_tokens=320, sequences=0))
    told, cost = run.result["training"], run.result["cost"]
    assert told["features"] == 64 and 0 <= told["dead_fitted"] <= 62
    assert 0 < cost["dimensions"] <= 2 + 1e-9 and cost["dimensions"] == pytest.approx(told["active_fitted"])


def test_a_saved_codec_stands_in_the_model_as_the_fitted_one_did(lab: Lab, trained: Train) -> None:
    """With both at their places: the transcoder reads the input of the component that it stands for."""
    from etude.compress.saved import load_compressor
    from etude.models.load import load

    method = Transcoder(k=3, features=32, steps=20, batch=64)
    run = lab.run(Compress(trained, "L1.mlp.out", method, fit_tokens=640, evaluate_tokens=320, sequences=0))
    compressor: Compressor = load_compressor(run)
    (part,) = compressor.parts.values()
    assert part.reads is not None and part.reads == "L1.mlp_norm.out"
    model, tokens = load(lab.run(trained))[0], torch.randint(0, 200, (2, 16))
    with compressor.placed(model):
        seen = model(tokens)
    torch.testing.assert_close(compressor.installed(model)(tokens), seen)
    assert not torch.allclose(seen, model(tokens))


def test_units_of_the_data_do_not_matter(draft: Draft) -> None:
    data, _ = planted(800)
    shares = []
    for scale, shift in ((1.0, 0.0), (1e-3, 0.0), (1.0, 50.0)):
        run = Draft(draft.path / f"{scale}-{shift}", draft.recipe)
        moved = scale * data + shift
        codec = train_sparse(moved, moved, Choices(24, k=2), Steps(60, 128, 1e-2), 0, run)
        shares.append(share(moved, codec(moved)))
        torch.testing.assert_close(codec.W_dec.norm(dim=1), torch.ones(24))
    assert shares == pytest.approx([shares[0]] * 3, abs=0.02)


def test_data_without_variance_are_their_mean(draft: Draft) -> None:
    data = torch.full((100, 6), 3.0)
    codec = TopkSae(k=1, features=8, steps=5, batch=32).fit(Material(data), 0, draft)
    torch.testing.assert_close(codec(data), data, atol=0.2, rtol=0)


def test_resuming_is_exact(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    data, method = planted(500)[0], TopkSae(k=2, features=24, revive=300, steps=30, batch=64)
    whole = method.fit(Material(data), 0, draft)
    monkeypatch.setattr(fitting, "advance", partial(advance, save_seconds=0.0))
    broken, taken, step = Draft(draft.path.with_name("broken.partial"), draft.recipe), [], FitStepper.step

    def dies(self: FitStepper, number: int) -> dict[str, float]:
        taken.append(number)
        if taken.count(17) == 1 and number == 17:
            raise MemoryError("planted")
        return step(self, number)

    monkeypatch.setattr(FitStepper, "step", dies)
    with pytest.raises(MemoryError, match="planted"):
        method.fit(Material(data), 0, broken)
    resumed = method.fit(Material(data), 0, Draft(broken.path, broken.recipe))
    assert 0 < taken[18] <= 17 and taken[-1] == 29
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopkSae(k=0), "topk-sae.k = 0 is too small"),
        (lambda: TopkSae(features=-1), "topk-sae.features = -1 is too small"),
        (lambda: ReluSae(penalty=-0.5), "relu-sae.penalty = -0.5 is too small"),
        (lambda: Transcoder(revive=0), "transcoder.revive = 0 is too small"),
    ],
)
def test_impossible_choices_are_one_line(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_more_latents_kept_than_there_are_is_refused(draft: Draft) -> None:
    with pytest.raises(UsageError, match=r"^topk-sae.k = 25 does not fit: there are 24 latents; choose 1 to 24$"):
        TopkSae(k=25, features=24).fit(Material(planted(100)[0]), 0, draft)
