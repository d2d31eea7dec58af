"""A decision tree as tensors: at each node a number is compared with a threshold, and each leaf names an expert."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

LEAF = -1
"""The feature of a node that asks nothing."""


class Tree(NamedTuple):
    """Nodes from the root, number 0. J is how many there are.

    Attributes:
        feature: [J] number of the feature that is compared; LEAF at a leaf.
        threshold: [J] up to and including which a token goes to the left.
        left: [J] the node on the left; 0 at a leaf.
        right: [J] the node on the right; 0 at a leaf.
        leaf: [J] number of the expert at a leaf; 0 elsewhere.
        tokens: [J] how many of the training split came to the node.
    """

    feature: Int[Tensor, " J"]
    threshold: Float[Tensor, " J"]
    left: Int[Tensor, " J"]
    right: Int[Tensor, " J"]
    leaf: Int[Tensor, " J"]
    tokens: Int[Tensor, " J"]


def node_of(tree: Tree, values: Float[Tensor, "*N A"]) -> Int[Tensor, "*N"]:
    """Return the leaf, as the number of its node, that each token comes to by the values of its features."""
    node = torch.zeros(values.shape[:-1], dtype=torch.long, device=values.device)
    while True:
        feature = tree.feature[node]
        asks = feature != LEAF
        if not asks.any():
            return node
        value = values.gather(-1, feature.clamp_min(0)[..., None]).squeeze(-1)
        below = torch.where(value <= tree.threshold[node], tree.left[node], tree.right[node])
        node = torch.where(asks, below, node)


def tree_of(nodes: Any, leaf: Int[Tensor, " J"]) -> Tree:
    """Return a tree that scikit-learn fitted. It decides as the original does, for features in float32: thresholds,
    which are float64 there, are rounded down.

    Args:
        nodes: the `tree_` of a classifier or a regressor.
        leaf: of each node the expert, if it is a leaf.
    """
    inner = torch.from_numpy(nodes.children_left.copy()) >= 0
    threshold = torch.from_numpy(nodes.threshold.copy())
    rounded = threshold.float()
    rounded = torch.where(rounded.double() > threshold, rounded.nextafter(torch.tensor(-torch.inf)), rounded)
    return Tree(
        torch.where(inner, torch.from_numpy(nodes.feature.copy()).long(), LEAF),
        torch.where(inner, rounded, 0.0),
        torch.from_numpy(nodes.children_left.copy()).clamp_min(0).long(),
        torch.from_numpy(nodes.children_right.copy()).clamp_min(0).long(),
        torch.where(inner, 0, leaf),
        torch.from_numpy(nodes.n_node_samples.copy()).long(),
    )


def merged(tree: Tree) -> Tree:
    """Return a tree that sends every token to the same expert, without the questions whose answer makes no
    difference."""
    rows: list[list[float]] = []

    def put(node: int) -> int:
        """Add a node and what is below it; return the expert where there is only one, else LEAF."""
        at = len(rows)
        feature, tokens = int(tree.feature[node]), int(tree.tokens[node])
        rows.append([LEAF, 0.0, 0, 0, int(tree.leaf[node]), tokens])
        if feature == LEAF:
            return int(tree.leaf[node])
        left = len(rows)
        one = put(int(tree.left[node]))
        right = len(rows)
        other = put(int(tree.right[node]))
        if one == other != LEAF:
            del rows[at + 1 :]
            rows[at][4] = one
            return one
        rows[at] = [feature, float(tree.threshold[node]), left, right, 0, tokens]
        return LEAF

    put(0)
    feature, threshold, left, right, leaf, tokens = zip(*rows, strict=True)
    whole = [torch.tensor(column, dtype=torch.long) for column in (feature, left, right, leaf, tokens)]
    return Tree(whole[0], torch.tensor(threshold), *whole[1:])
