"""Experts behind a tree: planted trees are found again, the tensors decide as scikit-learn does, and the
chart says what is done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from torch import Tensor

from etude.compress import encapsulate
from etude.compress.codec import Text
from etude.compress.encapsulate import Pairs, Shape
from etude.compress.experts import Experts, Maps, chart_of, flow_chart
from etude.compress.explained import Explained
from etude.compress.features import KINDS, Features, all_features, text_of_rows, values_of
from etude.compress.material import Material
from etude.compress.methods import experts
from etude.compress.recipes import Compress
from etude.compress.saved import load_compressor
from etude.compress.tree import LEAF, Tree, merged, node_of, tree_of
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.recording import Rows
from etude.evals.token_classes import CLASSES, token_classes
from etude.models.transformer import Transformer
from etude.text.batches import Examples
from etude.text.data import TextData
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.recipes import Train

BYTES = ByteTokenizer()
OUT = Site("L0.mlp.out")


@pytest.fixture
def run(tmp_path: Path, trained: Train) -> Draft:
    return Draft(tmp_path / "fit.partial", trained.resolve())


@pytest.fixture(scope="module")
def rows(text: TextData, trained: Train) -> Rows:
    """Windows of a real text, in order."""
    windows = np.arange(80)
    tokens = torch.from_numpy(text.examples("train", trained.context).batch(windows).inputs).int()
    window, position = torch.meshgrid(torch.arange(80), torch.arange(tokens.shape[1]), indexing="ij")
    return Rows(tokens.flatten(), window.flatten().int(), position.flatten().int())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(rows: Rows, model: Transformer, inputs: Tensor, values: Tensor) -> Material:
    return Material(values, OUT, inputs, rows, model=model, tokenizer=BYTES)


def share(codec: Experts, material: Material) -> float:
    assert material.rows is not None and material.inputs is not None
    explained = Explained()
    explained.add(material.values, codec(material.inputs, text_of_rows(material.rows)))
    assert explained.share is not None
    return explained.share


def fitted(method: experts.Experts, material: Material, run: Draft, seed: int = 0) -> Experts:
    codec = method.fit(material, seed, run)
    assert isinstance(codec, Experts)
    return codec


def asked_in(chart: str) -> set[str]:
    """Return the questions of a chart."""
    return set(re.findall(r"(?:^|: )([^:\n]+)\?$", chart, re.MULTILINE))


# Planted components


def test_a_planted_tree_of_constants_is_found_again(rows: Rows, model: Transformer, run: Draft) -> None:
    text = text_of_rows(rows)
    after_space, early = text.before == ord(" "), text.position <= 7
    leaf = torch.where(after_space, 0, torch.where(early, 1, 2))
    values = 3 * noise(3, 5)[leaf] + 0.01 * noise(len(leaf), 5, seed=1)
    material = planted(rows, model, noise(len(leaf), 6, seed=2), values)
    codec = fitted(experts.Experts(experts=3, depth=2), material, run)
    assert share(codec, material) > 0.999
    chart = flow_chart(codec, BYTES)
    assert asked_in(chart) == {"previous token is ' '", "position <= 7"}
    said = chart_of(codec, BYTES)
    assert said["asks"] == "previous token is ' '"
    assert (said["yes"]["tokens"], said["no"]["tokens"]) == (int(after_space.sum()), int((~after_space).sum()))
    assert said["no"]["yes"]["tokens"] == int((~after_space & early).sum())
    for number in range(3):
        acts = codec.route(cast(Tensor, material.inputs), text) == number
        torch.testing.assert_close(codec.maps.offset[number], values[acts].mean(0), atol=1e-5, rtol=1e-5)


def test_a_planted_tree_of_linear_maps_is_found_again(rows: Rows, model: Transformer, run: Draft) -> None:
    classes = torch.from_numpy(token_classes(BYTES, 257).of)[rows.tokens.long()]
    vowel = rows.tokens == ord("e")
    leaf = torch.where(vowel, 0, torch.where(classes == CLASSES.index("white space"), 1, 2))
    # What a component reads says which token it is of, as a stream does.
    inputs = noise(len(leaf), 6) + 4 * noise(3, 6, seed=3)[leaf]
    maps = noise(3, 6, 2, seed=4) @ noise(3, 2, 5, seed=5)
    values = torch.einsum("nm,nmd->nd", inputs, maps[leaf]) + 2 * noise(3, 5, seed=6)[leaf]
    material = planted(rows, model, inputs, values)
    codec = fitted(experts.Experts(experts=3, rank=2, depth=2, directions=0), material, run)
    assert share(codec, material) > 0.9999
    assert asked_in(flow_chart(codec, BYTES)) == {"token is 'e'", "token class is white space"} or (
        asked_in(flow_chart(codec, BYTES)) == {"token is 'e'", "token is ' '"}  # the one white space of this text
    )
    assert share(fitted(experts.Experts(experts=3, rank=1, depth=2), material, run), material) < 0.99


def test_a_planted_direction_is_asked_about(rows: Rows, model: Transformer, run: Draft) -> None:
    inputs = noise(len(rows.tokens), 6)
    inputs[:, 2] *= 10  # so that this axis is the first principal direction
    values = torch.where(inputs[:, 2:3] > 3, 1.0, -1.0).expand(-1, 4) + 0.01 * noise(len(inputs), 4, seed=1)
    material = planted(rows, model, inputs, values)
    codec = fitted(experts.Experts(experts=2, depth=1), material, run)
    said = chart_of(codec)
    threshold = float(re.fullmatch(r"direction 0 <= (\S+)", said["asks"])[1])  # pyright: ignore[reportOptionalSubscript]
    # The sign and the centre of a direction are the codec's: what it comes to is compared.
    assert share(codec, material) > 0.999 and abs(abs(threshold) - 3) < 0.5
    assert codec.features.directions.shape == (6, 1) and codec.features.classes.numel() == 0


def test_nothing_to_tell_apart_is_one_expert(rows: Rows, model: Transformer, run: Draft) -> None:
    material = planted(rows, model, noise(len(rows.tokens), 6), torch.ones(len(rows.tokens), 4))
    codec = fitted(experts.Experts(experts=4), material, run)
    assert flow_chart(codec) == f"expert {chart_of(codec)['expert']}: constant"
    assert codec.cost().bits == 0
    torch.testing.assert_close(codec(noise(7, 6), Text(*(torch.zeros(7).long(),) * 3)), torch.ones(7, 4))


# The chart


def by_hand() -> Experts:
    """Position up to 3: expert 1; else expert 0 where the token before is `e`, and 2 where it is not."""
    tree = Tree(
        torch.tensor([0, LEAF, 1, LEAF, LEAF]),
        torch.tensor([3.5, 0.0, 0.5, 0.0, 0.0]),
        torch.tensor([1, 0, 3, 0, 0]),
        torch.tensor([2, 0, 4, 0, 0]),
        torch.tensor([0, 1, 0, 2, 0]),
        torch.tensor([100, 40, 60, 45, 15]),
    )
    asked = torch.tensor([[KINDS.index("position"), 0], [KINDS.index("previous token"), ord("e")]])
    features = Features(asked, torch.zeros(0, dtype=torch.uint8), torch.zeros(0), torch.zeros(4, 0))
    maps = Maps(noise(3, 2), noise(3, 4, 1), noise(3, 1, 2))
    return Experts(maps, tree, features, torch.tensor([0.15, 0.4, 0.45]))


def test_the_chart_reads_as_a_person_would_say_it() -> None:
    assert flow_chart(by_hand(), BYTES).splitlines() == [
        "position <= 3?",
        "  yes (40 tokens): expert 1: linear map of rank 1",
        "  no (60 tokens): previous token is 'e'?",
        "      yes (15 tokens): expert 0: linear map of rank 1",
        "      no (45 tokens): expert 2: linear map of rank 1",
    ]
    assert "previous token is 101?" in flow_chart(by_hand())


def test_the_code_is_the_expert_and_what_it_reads() -> None:
    codec = by_hand()
    text = Text.of(torch.tensor([[5, 101, 6, 101, 6, 6, 101]]))
    x = noise(1, 7, 4)
    code = codec.encode(x, text)
    assert code.shape == (1, 7, 2) and code[0, :, 0].tolist() == [1, 1, 1, 1, 0, 2, 2]
    for at, number in enumerate(code[0, :, 0].long().tolist()):
        read = x[0, at] @ codec.maps.down[number]
        torch.testing.assert_close(code[0, at, 1:], read)
        torch.testing.assert_close(codec(x, text)[0, at], codec.maps.offset[number] + read @ codec.maps.up[number])
    assert torch.equal(codec.decode(code), codec(x, text))


def test_the_cost_by_hand() -> None:
    cost = by_hand().cost()
    entropy = -sum(p * np.log2(p) for p in (0.15, 0.4, 0.45))
    assert cost.dimensions == 1 and cost.bits == pytest.approx(32 + entropy, rel=1e-6)
    # Experts 3 · (2 + 4 + 2), the tree's 5 nodes of 5 numbers, two questions of two.
    assert cost.parameters == 24 + 25 + 4 and cost.storage == 32 * cost.parameters
    assert cost.flops == 2 * (4 + 2)


def test_classes_are_stored_in_the_bits_that_they_need(rows: Rows, model: Transformer, run: Draft) -> None:
    classes = torch.from_numpy(token_classes(BYTES, 257).of)[rows.tokens.long()]
    values = noise(len(CLASSES), 4)[classes]
    codec = fitted(
        experts.Experts(experts=3, depth=2, directions=0), planted(rows, model, noise(len(values), 6), values), run
    )
    assert codec.features.classes.dtype == torch.uint8 and codec.features.classes.shape == (257,)
    cost = codec.cost()
    assert cost.storage == 32 * (cost.parameters - 257) + 3 * 257 and cost.dimensions is None


# Features


def test_each_feature_by_hand() -> None:
    tokens = torch.tensor([[7, 8, 7], [8, 8, 9]])
    classes = torch.zeros(10, dtype=torch.uint8)
    classes[8] = 3
    x = noise(2, 3, 2)
    asked = torch.tensor([[0, 3], [1, 0], [2, 7], [3, 8], [4, 0], [5, 1]])
    features = Features(asked, classes, torch.ones(2), torch.eye(2))
    found = values_of(features, x, Text.of(tokens))
    assert found.shape == (2, 3, 6)
    assert found[..., 0].tolist() == [[0, 1, 0], [1, 1, 0]]
    assert found[..., 1].tolist() == [[0, 1, 0], [0, 0, 0]]  # the first token has none before it
    assert found[..., 2].tolist() == [[1, 0, 1], [0, 0, 0]]
    assert found[..., 3].tolist() == [[0, 0, 1], [0, 1, 1]]
    assert found[..., 4].tolist() == [[0, 1, 2], [0, 1, 2]]
    torch.testing.assert_close(found[..., 5], x[..., 1] - 1)


def test_some_features_are_worth_what_they_were_among_all(rows: Rows) -> None:
    x, text = noise(len(rows.tokens), 5), text_of_rows(rows)
    classes = torch.from_numpy(token_classes(BYTES, 257).of).to(torch.uint8)
    every = all_features(rows.tokens, classes, x.mean(0), torch.linalg.qr(noise(5, 5))[0], 4)
    whole = values_of(every, x, text)
    assert whole.shape[1] == 2 * len(CLASSES) + 2 * 4 + 1 + 5
    for wanted in ([0, 7, 13], [20, 22], [24, 21, 20], [20], []):
        some = every.only(torch.tensor(wanted, dtype=torch.long))
        torch.testing.assert_close(values_of(some, x, text), whole[:, wanted])
    counts = np.bincount(rows.tokens)
    named = every.asked[every.asked[:, 0] == KINDS.index("token"), 1].tolist()
    assert sorted(counts[named], reverse=True) == sorted(counts, reverse=True)[:4]


def test_a_windows_first_token_has_none_before_it(rows: Rows) -> None:
    text = text_of_rows(rows)
    plain = Text.of(rows.tokens.view(80, -1).long())
    assert all(torch.equal(mine, theirs.flatten()) for mine, theirs in zip(text, plain, strict=True))
    torn = Rows(*(column[1:] for column in rows))  # a recording that begins in the middle of a window
    assert text_of_rows(torn).before[0] == -1


# Trees


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_the_tensors_decide_as_scikit_learn_does(seed: int, depth: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    data = draw.normal(size=(200, 4)).astype(np.float32)
    data[:, 0] = np.round(data[:, 0])  # ties, and thresholds that fall on values
    labels = draw.integers(0, classes, 200) + 3 * (data[:, 1] > 0)
    fitted = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(data, labels)
    tree = tree_of(fitted.tree_, torch.from_numpy(fitted.classes_[fitted.tree_.value[:, 0].argmax(1)]))
    thresholds = tree.threshold[tree.feature != LEAF].numpy()
    asked = np.concatenate([data, np.repeat(thresholds[:, None], 4, 1), draw.normal(size=(50, 4)).astype(np.float32)])
    said = torch.from_numpy(fitted.predict(asked))
    for one in (tree, merged(tree)):
        assert torch.equal(one.leaf[node_of(one, torch.from_numpy(asked))], said)
    counted = torch.bincount(node_of(tree, torch.from_numpy(data)), minlength=len(tree.leaf))
    assert torch.equal(counted[tree.feature == LEAF], tree.tokens[tree.feature == LEAF])


def test_questions_without_a_difference_are_left_out() -> None:
    """A root whose right side asks twice and comes to one expert, and a left side that differs."""
    tree = Tree(
        torch.tensor([0, LEAF, 1, LEAF, 2, LEAF, LEAF]),
        torch.tensor([0.5, 0, 1.5, 0, 2.5, 0, 0]),
        torch.tensor([1, 0, 3, 0, 5, 0, 0]),
        torch.tensor([2, 0, 4, 0, 6, 0, 0]),
        torch.tensor([0, 1, 0, 2, 0, 2, 2]),
        torch.tensor([9, 3, 6, 1, 5, 2, 3]),
    )
    smaller = merged(tree)
    assert smaller.feature.tolist() == [0, LEAF, LEAF] and smaller.leaf.tolist() == [0, 1, 2]
    assert smaller.tokens.tolist() == [9, 3, 6]
    assert merged(tree._replace(leaf=torch.full_like(tree.leaf, 4))).leaf.tolist() == [4]


def test_a_tree_is_walked_whatever_the_axes() -> None:
    tree, values = by_hand().tree, torch.tensor([[[2.0, 1.0], [9.0, 1.0]], [[9.0, 0.0], [3.0, 0.0]]])
    assert tree.leaf[node_of(tree, values)].tolist() == [[1, 0], [2, 1]]
    assert tree.leaf[node_of(tree, values[1, 0])].item() == 2


# Fitting


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_experts_fit_their_tokens_best(rank: int) -> None:
    """No other expert, and no small change of one, has a smaller error on its own tokens."""
    pairs = Pairs(noise(120, 4), noise(120, 5, seed=1))
    labels = torch.arange(120) % 2
    maps = encapsulate.fitted(pairs, labels, Shape(3, rank, 2))
    found = encapsulate.errors(maps, pairs)
    assert found[labels == 0].sum(0).argmin() == 0 and found[labels == 1].sum(0).argmin() == 1
    own = float(found.gather(1, labels[:, None]).sum())
    for seed in range(5):
        moved = Maps(*(part + 0.05 * noise(*part.shape, seed=seed) for part in maps))
        assert float(encapsulate.errors(moved, pairs).gather(1, labels[:, None]).sum()) > own
    torch.testing.assert_close(maps.offset[2], pairs.y.mean(0))  # of an expert without tokens


def test_refining_and_settling_never_raise_the_error(rows: Rows) -> None:
    pairs = Pairs(noise(len(rows.tokens), 4), noise(len(rows.tokens), 5, seed=1) + (rows.tokens[:, None] % 5))
    shape = Shape(4, 0, 3)
    labels = torch.randint(4, (len(pairs.x),), generator=torch.Generator().manual_seed(0))

    def lost(labels: Tensor) -> float:
        return float(encapsulate.own_errors(encapsulate.fitted(pairs, labels, shape), pairs, labels).sum())

    refined = encapsulate.refined(pairs, labels, shape)
    assert lost(refined) < lost(labels)
    asked = torch.stack([(rows.tokens % 5 == n).float() for n in range(5)], 1)
    tree = encapsulate.telling_tree(pairs, asked, refined, shape, 0)
    settled = encapsulate.settled(pairs, asked, tree, shape)
    given = [lost(one.leaf[node_of(one, asked)]) for one in (tree, settled)]
    assert lost(refined) <= given[1] <= given[0] < lost(torch.zeros_like(labels))


def test_constants_are_no_worse_than_a_regression_tree(rows: Rows, model: Transformer, run: Draft) -> None:
    x = noise(len(rows.tokens), 6)
    values = x[:, :4].sign() + 0.1 * (rows.tokens[:, None] % 7) * noise(1, 4, seed=1)
    material = planted(rows, model, x, values)
    codec = fitted(experts.Experts(experts=6, depth=4), material, run)
    _, text, features = encapsulate._described(material, 8)
    asked = values_of(features, x, text).numpy()
    plain = DecisionTreeRegressor(max_leaf_nodes=6, max_depth=4, min_samples_leaf=16, random_state=0).fit(asked, values)
    explained = Explained()
    explained.add(values, torch.from_numpy(plain.predict(asked)))
    assert explained.share is not None and share(codec, material) >= explained.share - 1e-6 > 0.05


def test_material_without_a_text_is_refused(run: Draft) -> None:
    with pytest.raises(UsageError, match="told apart by the text"):
        experts.Experts(2).fit(Material(noise(30, 4), OUT, noise(30, 3)), 0, run)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"rank": -1}, "rank -1"),
        ({"directions": -1}, "directions -1"),
        ({"depth": 0}, "depth 0"),
        ({"experts": 9, "depth": 3}, r"experts = 9 does not fit: a tree of depth 3 has 8 leaves; choose 1 to 8"),
    ],
)
def test_impossible_choices_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        experts.Experts(**choices)


def test_a_rank_over_the_width_is_refused(rows: Rows, model: Transformer, run: Draft) -> None:
    material = planted(rows, model, noise(len(rows.tokens), 6), noise(len(rows.tokens), 4))
    with pytest.raises(UsageError, match=r"experts.rank = 5 does not fit: there are 4"):
        experts.Experts(2, rank=5).fit(material, 0, run)


# In a model


def test_more_experts_and_ranks_explain_more_of_a_real_component(
    lab: Lab, trained: Train, held_out: tuple[Examples, np.ndarray]
) -> None:
    found: dict[tuple[int, int], Any] = {}
    for choice in ((1, 0), (8, 0), (8, 4)):
        recipe = Compress(trained, OUT, experts.Experts(choice[0], choice[1]), fit_tokens=2048, evaluate_tokens=1024)
        found[choice] = lab.run(recipe)
    kept = {choice: run.result["harm"]["explained"] for choice, run in found.items()}
    assert abs(kept[1, 0]) < 0.01  # one constant is the mean
    assert 0.3 < kept[8, 0] < kept[8, 4]
    (part,) = load_compressor(found[8, 0]).parts.values()
    assert isinstance(part.codec, Experts)
    chart = chart_of(part.codec, BYTES)
    assert chart["tokens"] == 2048 and chart["tokens"] == chart["yes"]["tokens"] + chart["no"]["tokens"]
    assert part.reads == "L0.mlp_norm.out"
