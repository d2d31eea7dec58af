"""Cluster, then encapsulate: experts fitted to clusters of tokens, a tree that routes to them, and the experts fitted
again to what it routes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from torch import Tensor

from etude.compress.clustering import clustered, used
from etude.compress.codec import Text, nearest
from etude.compress.experts import Experts, Maps
from etude.compress.features import Features, all_features, text_of_rows, values_of
from etude.compress.linear import principal_directions
from etude.compress.low_rank import reduced_rank_regression
from etude.compress.material import Material
from etude.compress.tree import LEAF, Tree, merged, node_of, tree_of
from etude.core.errors import UsageError
from etude.core.seeds import stream
from etude.evals.token_classes import token_classes

FREQUENT = 20
"""How many tokens a tree can ask for by name."""

ROUNDS = 5
"""How often tokens, and then leaves, are given to the expert that fits them best."""

ITERATIONS = 30
"""Of Lloyd's algorithm."""

LEAST = 16
"""Tokens of the training split that a leaf holds at least."""

RIDGE = 1e-4
"""Penalty of an expert's squared coefficients, as a share of the mean variance of what it reads."""


class Pairs(NamedTuple):
    """What a component read and gave.

    Attributes:
        x: [N M].
        y: [N D].
    """

    x: Float[Tensor, "N M"]
    y: Float[Tensor, "N D"]


class Shape(NamedTuple):
    """How many experts there are, of which rank, behind a tree of which depth."""

    experts: int
    rank: int
    depth: int


def encapsulated(material: Material, shape: Shape, directions: int, seed: int) -> Experts:
    """Return the experts that stand for a component. Three trees are tried, and the one that loses least with its
    experts is returned: two tell apart clusters, begun by k-means over what the component reads (standardised) and over
    what it gives; the third is a regression tree of what it gives.

    Args:
        material: of the component, with the rows and the tokenizer.
        shape: of what is wanted.
        directions: how many principal directions of what is read can be asked about.
        seed: of k-means and of ties in the trees.

    Raises:
        UsageError: the material is of numbers alone.
    """
    pairs, text, features = _described(material, directions)
    asked = values_of(features, pairs.x, text)
    spread = pairs.x.std(0)
    standard = (pairs.x - pairs.x.mean(0)) / torch.where(spread > 0, spread, 1.0)
    trees = [regression_tree(pairs, asked, shape, stream(seed, "regression") % 2**32)]
    for name, begin in (("inputs", standard), ("outputs", pairs.y)):
        own = stream(seed, name) % 2**32
        clusters = nearest(begin, clustered(begin, shape.experts, ITERATIONS, own))
        trees.append(telling_tree(pairs, asked, refined(pairs, clusters, shape), shape, own))
    found = [_behind(settled(pairs, asked, tree, shape), pairs, asked, features, shape) for tree in trees]
    return min(found, key=lambda pair: pair[0])[1]


def _behind(tree: Tree, pairs: Pairs, asked: Tensor, features: Features, shape: Shape) -> tuple[float, Experts]:
    """Return the experts behind a tree, and their squared error."""
    labels = tree.leaf[node_of(tree, asked)]
    maps = fitted(pairs, labels, shape)
    used_of = used(labels, shape.experts)
    return float(own_errors(maps, pairs, labels).sum()), Experts(maps, *_asking(tree, features), used_of)


def _described(material: Material, directions: int) -> tuple[Pairs, Text, Features]:
    """Return what a component read and gave, the text, and all that a tree may ask of it."""
    inputs, rows, tokenizer, model = material.inputs, material.rows, material.tokenizer, material.model
    if inputs is None or rows is None or tokenizer is None or model is None:
        raise UsageError("experts are told apart by the text, and this material is of numbers alone: fit them to a run")
    text = text_of_rows(rows)
    classes = torch.from_numpy(token_classes(tokenizer, model.vocabulary).of).to(torch.uint8)
    centre, along, _ = principal_directions(inputs)
    features = all_features(text.tokens, classes, centre.float(), along[:, :directions].float(), FREQUENT)
    return Pairs(inputs.float(), material.values.float()), text, features


def refined(pairs: Pairs, labels: Int[Tensor, " N"], shape: Shape) -> Int[Tensor, " N"]:
    """Return clusters after each token was given, a few times, to the expert that fits it best."""
    for _ in range(ROUNDS):
        labels = errors(fitted(pairs, labels, shape), pairs).argmin(1)
    return labels


def regression_tree(pairs: Pairs, asked: Float[Tensor, "N A"], shape: Shape, seed: int) -> Tree:
    """Return a tree with a leaf for each expert, whose questions take most from the variance of what is given."""
    found = DecisionTreeRegressor(
        max_leaf_nodes=max(2, shape.experts),  # scikit-learn knows no tree of one leaf
        max_depth=shape.depth,
        min_samples_leaf=min(LEAST, len(asked)),
        random_state=seed,
    )
    nodes = found.fit(asked.numpy(), pairs.y.numpy()).tree_
    number = torch.from_numpy(nodes.children_left < 0).cumsum(0) - 1
    return tree_of(nodes, number.clamp_max(shape.experts - 1))


def telling_tree(pairs: Pairs, asked: Float[Tensor, "N A"], labels: Int[Tensor, " N"], shape: Shape, seed: int) -> Tree:
    """Return a tree that foretells clusters, a token weighed by what is lost where its cluster is not known."""
    lost = errors(fitted(pairs, labels, shape), pairs)
    stake = lost.mean(1) - lost.amin(1)
    weight = stake + max(1e-3 * float(stake.mean()), 1e-12)  # those without a stake still count for a little
    found = DecisionTreeClassifier(max_depth=shape.depth, min_samples_leaf=min(LEAST, len(asked)), random_state=seed)
    found.fit(asked.numpy(), labels.numpy(), weight.numpy())
    return tree_of(found.tree_, torch.from_numpy(found.classes_[found.tree_.value[:, 0].argmax(1)]))


def settled(pairs: Pairs, asked: Float[Tensor, "N A"], tree: Tree, shape: Shape) -> Tree:
    """Return a tree after each leaf was given, a few times, to the expert that fits it best, without the questions that
    then make no difference."""
    node = node_of(tree, asked)
    for _ in range(ROUNDS):
        lost = errors(fitted(pairs, tree.leaf[node], shape), pairs)
        each = torch.zeros(len(tree.leaf), shape.experts, dtype=lost.dtype).index_add(0, node, lost)
        tree = tree._replace(leaf=torch.where(tree.feature == LEAF, each.argmin(1), 0))
    return merged(tree)


def fitted(pairs: Pairs, labels: Int[Tensor, " N"], shape: Shape) -> Maps:
    """Return experts, each the nearest to its tokens in the mean square. One that has none gives the mean of all."""
    (m, d), mean = (pairs.x.shape[1], pairs.y.shape[1]), pairs.y.mean(0)
    experts, rank, _ = shape
    maps = Maps(mean.repeat(experts, 1), torch.zeros(experts, m, rank), torch.zeros(experts, rank, d))
    for number in labels.unique().tolist():
        own = labels == number
        if rank:
            x0, y0, down, up = reduced_rank_regression(pairs.x[own], pairs.y[own], rank, RIDGE)
            maps.offset[number], maps.down[number], maps.up[number] = y0 - x0 @ down @ up, down, up
        else:
            maps.offset[number] = pairs.y[own].mean(0, dtype=torch.float64)
    return maps


def errors(maps: Maps, pairs: Pairs) -> Float64[Tensor, "N E"]:
    """Return the squared error of every expert at every token."""
    each = [(pairs.y - offset - pairs.x @ down @ up).square().sum(1) for offset, down, up in zip(*maps, strict=True)]
    return torch.stack(each, 1).double()


def own_errors(maps: Maps, pairs: Pairs, labels: Int[Tensor, " N"]) -> Float64[Tensor, " N"]:
    """Return the squared error of each token's own expert."""
    return errors(maps, pairs).gather(1, labels[:, None])[:, 0]


def _asking(tree: Tree, features: Features) -> tuple[Tree, Features]:
    """Return a tree with those features alone that it asks about."""
    used, number = tree.feature[tree.feature != LEAF].unique(return_inverse=True)
    return tree._replace(feature=tree.feature.masked_scatter(tree.feature != LEAF, number)), features.only(used)
