"""One training step: the gradient, in parts or at once, clipped, at the schedule's rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from etude.models.transformer import Transformer
from etude.text.batches import IGNORE, Batch
from etude.train.recipes import Train
from etude.train.schedule import Schedule
from etude.train.trainer import Trainer

V, T = 11, 6


class Ragged:
    """Random samples of random length, so that no two parts of a batch have equally many targets."""

    context, vocabulary = T, V

    def __len__(self) -> int:
        return 40

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        tokens = np.stack([np.random.default_rng(i).integers(0, V, T + 1) for i in indices])
        length = 1 + indices % T
        return Batch(tokens[:, :-1], np.where(np.arange(T) < length[:, None], tokens[:, 1:], IGNORE))


Make = Callable[..., tuple[Trainer, Transformer]]


@pytest.fixture
def make(tiny: Callable[..., Train]) -> Make:
    def make(model: dict | None = None, **fields: object) -> tuple[Trainer, Transformer]:
        recipe = tiny(model={"context": T, **(model or {})}, **{"batch": 8, "clip": 0.0, **fields})
        live = recipe.model.build(V, seed=1)
        return Trainer(recipe, live, Ragged(), flops_per_token=100.0), live

    return make


def gradients(model: Transformer) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_give_the_gradient_of_the_whole(parts: int, make: Make):
    (whole, a), (split, b) = make(), make(accumulate=parts)
    one, other = whole.step(0), split.step(0)
    assert one == pytest.approx(other, rel=1e-5)
    for name, gradient in gradients(a).items():
        torch.testing.assert_close(gradient, gradients(b)[name], rtol=1e-4, atol=1e-7)


def test_the_loss_is_the_mean_over_what_is_predicted(make: Make):
    trainer, model = make()
    batch = trainer.batch(0)
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    logp = model(inputs).log_softmax(-1).detach()
    wanted = [-logp[b, t, targets[b, t]] for b in range(8) for t in range(T) if targets[b, t] != IGNORE]
    right = [logp[b, t].argmax() == targets[b, t] for b in range(8) for t in range(T) if targets[b, t] != IGNORE]
    row = trainer.step(0)
    assert row["loss"] == pytest.approx(float(torch.stack(wanted).mean()), rel=1e-5)
    assert row["accuracy"] == pytest.approx(float(torch.stack(right).float().mean()))
    assert row["flops"] == 3 * 100.0 * 8 * T
    assert trainer.step(1)["flops"] == 2 * row["flops"]


def test_clipping(make: Make):
    (free, a), (held, b) = make(), make(clip=0.01)
    norm = free.step(0)["gradient_norm"]
    assert norm > 0.02
    assert held.step(0)["gradient_norm"] == pytest.approx(norm), "the record has the norm before clipping"
    assert torch.stack([g.norm() for g in gradients(b).values()]).norm().item() == pytest.approx(0.01, rel=1e-3)
    for name, gradient in gradients(a).items():
        torch.testing.assert_close(gradient * 0.01 / norm, gradients(b)[name], rtol=1e-3, atol=1e-8)


def test_the_rate_is_the_schedules(make: Make):
    schedule = Schedule("noam", peak=2.0, warmup=3)
    trainer, _ = make(schedule=schedule)
    rates = [trainer.step(number)["learning_rate"] for number in range(5)]
    assert rates == [schedule.rate(number, 12, width=16) for number in range(5)]
    assert {group["lr"] for group in trainer.optimiser.param_groups} == {rates[-1]}


def test_what_is_not_finite_leaves_the_weights_alone(make: Make):
    trainer, model = make()
    trainer.step(0)
    with torch.no_grad():
        model.get_parameter("layers.0.attn.W_V")[0, 0, 0] = torch.nan
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    assert np.isnan(trainer.step(1)["loss"])
    assert all(torch.equal(weight.nan_to_num(), before[name].nan_to_num()) for name, weight in model.named_parameters())


def test_dropout_follows_from_the_step_alone(make: Make):
    (a, _), (b, _) = make(model={"dropout": 0.3}), make(model={"dropout": 0.3})
    first = a.step(0)
    torch.rand(5)  # somebody else draws
    assert b.step(0) == first
    assert a.step(1) == b.step(1)


def test_every_step_drops_anew(make: Make, monkeypatch: pytest.MonkeyPatch):
    trainer, _ = make(model={"dropout": 0.3}, schedule=Schedule(peak=1e-30, warmup=0))
    same = trainer.batch(0)
    monkeypatch.setattr(trainer, "batch", lambda number: same)
    assert len({trainer.step(number)["loss"] for number in range(4)}) == 4
    assert trainer.step(2) == trainer.step(2)


def test_bf16_is_close_and_keeps_its_weights_whole(make: Make):
    (exact, a), (rough, b) = make(), make(precision="bf16")
    one, other = exact.step(0), rough.step(0)
    assert other["loss"] == pytest.approx(one["loss"], rel=2e-2)
    assert other["loss"] != one["loss"]
    assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=5e-2)
    assert {weight.dtype for weight in b.parameters()} == {torch.float32}
    for name, gradient in gradients(a).items():
        cosine = torch.cosine_similarity(gradient.flatten(), gradients(b)[name].flatten(), dim=0)
        assert cosine > 0.98 or gradient.norm() < 1e-6, name


def test_recomputing_changes_nothing(make: Make):
    (plain, a), (thrifty, b) = make(model={"dropout": 0.2}), make(model={"dropout": 0.2})
    b.recompute = True
    for number in range(3):
        assert plain.step(number) == pytest.approx(thrifty.step(number), rel=1e-6)
    for one, other in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_every_sample_comes_once_in_an_epoch(make: Make):
    trainer, _ = make(batch=7)
    taken = np.concatenate([trainer.sampler.indices(step) for step in range(40)])  # 280 samples: 7 epochs of 40
    assert all(sorted(epoch) == list(range(40)) for epoch in taken.reshape(7, 40).tolist())
    assert taken[:40].tolist() != taken[40:80].tolist()
