"""What matters, by three measures, each against a plain count of the same; and what is left when the rest goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from etude.compress.codec import Codec
from etude.compress.compressor import Compressor
from etude.compress.linear import as_matrix
from etude.compress.material import Material
from etude.compress.methods.base import Method
from etude.compress.methods.prune_heads import PruneHeads
from etude.compress.methods.prune_neurons import PruneNeurons
from etude.compress.methods.prune_weights import PruneWeights
from etude.compress.pruned import Masked, Sparse, kept_units
from etude.compress.recipes import Compress
from etude.compress.saliency import Ablations, Reader, Units, scores_of, scores_of_weight
from etude.compress.score import Host, harm
from etude.compress.work import material_of
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.recording import as_vectors
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples
from etude.train.recipes import Train

Split = tuple[Examples, np.ndarray]
HEADS, NEURONS, W_OUT = Site("L1.attn.z"), Site("L1.mlp.post"), Site("L0.mlp.W_out")
SCORED = 256


@pytest.fixture(scope="module")
def recorded(lab: Lab, trained: Train, model: Transformer) -> dict[Site, Material]:
    """The material that a compression is fitted to."""
    found = {}
    for site, method in ((HEADS, PruneHeads()), (NEURONS, PruneNeurons()), (W_OUT, PruneWeights())):
        recipe = Compress(trained, site, method, fit_tokens=1024)
        inputs = {one: lab.run(one) for one in recipe.plan({})}
        found[site] = material_of(recipe, site, cast(DecoderModel, model), inputs)
    return found


@pytest.fixture
def run(tmp_path: Path, trained: Train) -> Draft:
    return Draft(tmp_path / "fit.partial", trained.resolve())


def texts(material: Material) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets that scores are measured on, as one batch."""
    assert material.examples is not None
    batch = material.examples.batch(Reader.of(material, SCORED).windows)
    assert batch.inputs.size == SCORED
    return torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)


def mean_loss(model: Transformer, inputs: Tensor, targets: Tensor) -> float:
    return float(cross_entropy(model(inputs).flatten(0, 1).double(), targets.flatten(), ignore_index=IGNORE))


def units_at(recorded: dict[Site, Material], site: Site, to: str = "mean") -> Units:
    material = recorded[site]
    fill = material.values.mean(0) if to == "mean" else torch.zeros(material.values.shape[1])
    return Units(material, material.heads if site == HEADS else len(fill), fill)


def test_the_axes_of_heads_are_known(recorded: dict[Site, Material]) -> None:
    assert (recorded[HEADS].heads, recorded[NEURONS].heads) == (2, 1)


@pytest.mark.parametrize("site", [HEADS, NEURONS])
@pytest.mark.parametrize("to", ["mean", "zero"])
def test_magnitude_is_the_distance_from_what_stands_instead(
    site: Site, to: str, recorded: dict[Site, Material], run: Draft
) -> None:
    units = units_at(recorded, site, to)
    found = scores_of(units, "magnitude", SCORED, run)
    away = (units.material.values.double() - units.fill).numpy()
    width = away.shape[1] // units.count
    plain = [np.linalg.norm(away[:, u * width : (u + 1) * width]) / len(away) ** 0.5 for u in range(units.count)]
    np.testing.assert_allclose(found, plain, rtol=1e-6)


@pytest.mark.parametrize("site", [HEADS, NEURONS])
@pytest.mark.parametrize("to", ["mean", "zero"])
def test_the_gradient_score_by_hand(
    site: Site, to: str, recorded: dict[Site, Material], model: Transformer, run: Draft
) -> None:
    units = units_at(recorded, site, to)
    inputs, targets = texts(units.material)
    seen = look(model, inputs, [site, "logits"], grad=True)
    loss = cross_entropy(seen["logits"].flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    (slope,) = torch.autograd.grad(loss, seen[site])
    away = as_vectors(site, seen[site]).detach() - units.fill
    products = (away * as_vectors(site, slope)).reshape(SCORED, units.count, -1)
    plain = [sum(abs(float(token.sum())) for token in products[:, u]) / SCORED for u in range(units.count)]
    np.testing.assert_allclose(scores_of(units, "gradient", SCORED, run), plain, rtol=1e-4)


@pytest.mark.parametrize("site", [HEADS, NEURONS])
@pytest.mark.parametrize("to", ["mean", "zero"])
def test_an_ablation_score_is_the_rise_of_the_whole_models_loss(
    site: Site, to: str, recorded: dict[Site, Material], model: Transformer, run: Draft
) -> None:
    units = units_at(recorded, site, to)
    inputs, targets = texts(units.material)
    width, plain = len(units.fill) // units.count, []
    with torch.no_grad():
        clean = mean_loss(model, inputs, targets)
        for unit in range(units.count):

            def without(value: Tensor, unit: int = unit) -> Tensor:
                flat = value.flatten(2).clone()
                flat[..., unit * width : (unit + 1) * width] = units.fill[unit * width : (unit + 1) * width]
                return flat.view_as(value)

            with model.tapped({site: without}):
                plain.append(mean_loss(model, inputs, targets) - clean)
    found = scores_of(units, "ablation", SCORED, run)
    np.testing.assert_allclose(found, plain, rtol=1e-3, atol=1e-6)
    assert float(found.max()) > 1e-3  # so that something was measured


def test_ablations_go_on_where_they_were_stopped(recorded: dict[Site, Material], tmp_path: Path) -> None:
    units = units_at(recorded, NEURONS)
    reader = Reader.of(units.material, SCORED)
    whole, first, second = (Ablations(units, reader) for _ in range(3))
    for number in range(6):
        whole.step(number)
        (first if number < 3 else second).step(number)
        if number == 2:
            second.load(first.state())
    assert torch.equal(whole.rise, second.rise) and bool(whole.rise[:6].all())


def test_the_gradient_score_of_a_weight_by_hand(recorded: dict[Site, Material], model: Transformer) -> None:
    material = recorded[W_OUT]
    inputs, targets = texts(material)
    weight = model.get_parameter(W_OUT.path)
    (slope,) = torch.autograd.grad(
        cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE), [weight]
    )
    plain = (weight * slope).abs().detach()
    found = scores_of_weight(material, "gradient", SCORED)
    np.testing.assert_allclose(found, as_matrix(W_OUT, plain), rtol=1e-3, atol=1e-9)
    assert model.get_parameter(W_OUT.path).grad is None


def test_scoring_leaves_the_model_as_it_was(recorded: dict[Site, Material], model: Transformer, run: Draft) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for by in ("gradient", "ablation"):
        scores_of(units_at(recorded, HEADS), by, SCORED, run)
    scores_of_weight(recorded[W_OUT], "gradient", SCORED)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.watchers == 0 and all(weight.grad is None for weight in model.parameters())


def test_a_unit_that_is_planted_to_matter_is_kept(recorded: dict[Site, Material], run: Draft) -> None:
    values = torch.full((64, 6), 0.25)
    values[:, 4] = torch.linspace(-1, 1, 64)
    codec = PruneNeurons(keep=17, by="magnitude").fit(Material(values), 0, run)
    assert codec.get_buffer("kept").tolist() == [4]
    assert torch.equal(codec(values), values)


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=40), st.integers(1, 100), st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_what_a_smaller_size_keeps_a_larger_one_keeps_too(scores: list[float], one: int, other: int) -> None:
    found = torch.tensor(scores)
    small, large = (kept_units(found, percent).tolist() for percent in sorted((one, other)))
    assert set(small) <= set(large) and small == sorted(small)
    left = [score for unit, score in enumerate(scores) if unit not in small]
    assert not left or min(scores[unit] for unit in small) >= max(left)
    assert len(kept_units(found, 100)) == len(scores)


@pytest.mark.parametrize(
    "method", [PruneHeads(100), PruneNeurons(100, by="magnitude"), PruneNeurons(100), PruneWeights(100)]
)
def test_keeping_all_changes_nothing(
    method: Method, recorded: dict[Site, Material], model: Transformer, held_out: Split, run: Draft
) -> None:
    sites = {"prune-heads": HEADS, "prune-neurons": NEURONS, "prune-weights": W_OUT}
    site = sites[method.name]
    codec = method.fit(recorded[site], 0, run)
    assert torch.equal(codec(recorded[site].values), recorded[site].values)
    told = harm(Host(model, *held_out), Compressor.of(site, codec)).to_json()
    assert told["increase"]["mean"] == 0 and told["explained"] == 1


def test_a_pruned_head_passes_its_mean_and_a_kept_one_itself(recorded: dict[Site, Material], run: Draft) -> None:
    values = recorded[HEADS].values
    codec = PruneHeads(50, score_tokens=SCORED).fit(recorded[HEADS], 0, run)
    left = codec(values).unflatten(1, (2, -1))
    kept = int(codec.get_buffer("kept")[0]) // 8
    assert torch.equal(left[:, kept], values.unflatten(1, (2, -1))[:, kept])
    torch.testing.assert_close(left[:, 1 - kept], values.mean(0).view(2, -1)[1 - kept].expand(len(values), -1))


def test_the_head_that_is_kept_is_the_one_that_hurts_more(recorded: dict[Site, Material], run: Draft) -> None:
    scores = scores_of(units_at(recorded, HEADS), "ablation", SCORED, run)
    assert scores[0] != scores[1]
    codec = PruneHeads(50, score_tokens=SCORED).fit(recorded[HEADS], 0, run)
    assert int(codec.get_buffer("kept")[0]) // 8 == int(scores.argmax())


@pytest.mark.parametrize(("to", "held"), [("mean", 24), ("zero", 0)])
def test_a_mask_costs_what_passes_and_the_constants(
    to: Any, held: int, recorded: dict[Site, Material], run: Draft
) -> None:
    codec = PruneNeurons(25, "magnitude", to).fit(recorded[NEURONS], 0, run)
    cost = codec.cost()
    assert (cost.dimensions, cost.bits, cost.parameters, cost.flops) == (8, 256, held, 0)
    assert cost.storage == 32 * held + 32  # and a bit for each of the 32 neurons
    assert codec.encode(recorded[NEURONS].values).shape[1] == 8


def test_heads_are_named_by_a_bit_each(recorded: dict[Site, Material], run: Draft) -> None:
    cost = PruneHeads(50, "magnitude", "zero").fit(recorded[HEADS], 0, run).cost()
    assert (cost.dimensions, cost.parameters, cost.storage) == (8, 0, 2)


def test_the_smallest_numbers_of_a_weight_go_first(recorded: dict[Site, Material], run: Draft) -> None:
    weight = recorded[W_OUT].values
    codec = PruneWeights(30).fit(recorded[W_OUT], 0, run)
    left = codec(weight)
    kept = left != 0
    assert int(kept.sum()) == round(0.3 * weight.numel()) and torch.equal(left[kept], weight[kept])
    assert weight[kept].abs().min() >= weight[~kept].abs().max()
    cost = codec.cost()
    assert (cost.dimensions, cost.bits, cost.parameters) == (None, None, int(kept.sum()))
    assert cost.storage == 32 * int(kept.sum()) + weight.numel()


def test_a_sparse_matrix_holds_a_zero_that_was_kept() -> None:
    matrix = torch.tensor([[0.0, 2.0], [3.0, 4.0]])
    codec = Sparse.keeping(torch.tensor([0, 3]), matrix)
    assert codec(matrix).tolist() == [[0.0, 0.0], [0.0, 4.0]] and codec.cost().parameters == 2


def test_a_mask_is_read_from_its_tensors() -> None:
    codec = Masked.keeping(torch.tensor([1]), torch.arange(6.0), 3)
    x = torch.randn(4, 6)
    again: Codec = PruneHeads().codec(codec.state_dict())
    assert torch.equal(again(x), codec(x)) and again.cost() == codec.cost()
    assert codec(x)[0].tolist() == [0.0, 1.0, *x[0, 2:4].tolist(), 4.0, 5.0]


@pytest.mark.parametrize("keep", [0, 101])
@pytest.mark.parametrize("kind", [PruneHeads, PruneNeurons, PruneWeights])
def test_an_impossible_percentage_is_refused(kind: type[Any], keep: int) -> None:
    with pytest.raises(UsageError, match=rf"keep = {keep}"):
        kind(keep=keep)


def test_weights_have_no_ablations() -> None:
    with pytest.raises(UsageError, match="ablation"):
        PruneWeights(by=cast(Any, "ablation"))


def test_heads_are_pruned_where_they_are_apart(recorded: dict[Site, Material], run: Draft) -> None:
    with pytest.raises(UsageError, match=r"heads are apart and L1\.mlp\.post is not .*; choose L0\.attn\.z"):
        PruneHeads().fit(recorded[NEURONS], 0, run)


@pytest.mark.parametrize(
    "method", [PruneNeurons(by="gradient"), PruneNeurons(by="ablation"), PruneWeights(50, "gradient")]
)
def test_a_measure_that_asks_a_model_says_so_where_there_is_none(method: Method, run: Draft) -> None:
    with pytest.raises(UsageError, match=r"asks a model, and none was given: choose by = magnitude"):
        method.fit(Material(torch.randn(20, 4), NEURONS), 0, run)


@pytest.mark.parametrize(
    ("method", "attention", "feedforward"),
    [
        (PruneHeads(), "L2.attn.z", None),
        (PruneNeurons(), None, "L2.mlp.post"),
        (PruneWeights(), "L2.attn.W_O", "L2.mlp.W_out"),
    ],
)
def test_a_component_is_pruned_at_its_own_place(method: Method, attention: str | None, feedforward: str | None) -> None:
    assert method.at(Site("L2.attn.out")) == attention and method.at(Site("L2.mlp.out")) == feedforward
