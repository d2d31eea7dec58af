"""A component as a few readable experts: a shallow tree over named features says which one acts at a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.compress.codec import Codec, Cost, Text, entropy
from etude.compress.features import KINDS, TRUTHS, Features, values_of
from etude.compress.tree import LEAF, Tree, node_of
from etude.evals.token_classes import CLASSES
from etude.text.tokenizers.live import Tokenizer


class Maps(NamedTuple):
    """What the experts do: expert e gives `offset[e] + x @ down[e] @ up[e]`. With R = 0 each is a constant.

    Attributes:
        offset: [E D].
        down: [E M R].
        up: [E R D].
    """

    offset: Float[Tensor, "E D"]
    down: Float[Tensor, "E M R"]
    up: Float[Tensor, "E R D"]


class Experts(Codec):
    """Experts and the tree that routes to them. The code of a token is [1 + R]: the number of its expert, and the R
    numbers that this expert reads.

    Args:
        maps: the experts.
        tree: routes to them.
        features: what the tree asks.
        frequency: [E] how often each expert acts on the training split; sums to 1.
    """

    reads_text: ClassVar[bool] = True

    def __init__(self, maps: Maps, tree: Tree, features: Features, frequency: Float[Tensor, " E"]) -> None:
        super().__init__()
        for group in (maps, tree, features):
            for name, tensor in group._asdict().items():
                self.register_buffer(name, tensor.contiguous())
        self.register_buffer("frequency", frequency)

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> Experts:
        """Return the codec whose `state_dict` was saved."""
        maps, tree, features = ([tensors[name] for name in group._fields] for group in (Maps, Tree, Features))
        return Experts(Maps(*maps), Tree(*tree), Features(*features), tensors["frequency"])

    @property
    def maps(self) -> Maps:
        """What the experts do."""
        return Maps(*map(self.get_buffer, Maps._fields))

    @property
    def tree(self) -> Tree:
        """What routes to them."""
        return Tree(*map(self.get_buffer, Tree._fields))

    @property
    def features(self) -> Features:
        """What the tree asks."""
        return Features(*map(self.get_buffer, Features._fields))

    def route(self, x: Float[Tensor, "*N M"], text: Text) -> Int[Tensor, "*N"]:
        """Return the number of the expert that acts at each token."""
        return self.tree.leaf[node_of(self.tree, values_of(self.features, x, text))]

    def encode(self, x: Tensor, *text: Text) -> Tensor:
        (said,) = text
        expert = self.route(x, said)
        maps = self.maps
        # All experts read at once: a matrix for each token would take far more room than R numbers of every expert.
        every = torch.einsum("...m,emr->...er", x, maps.down)
        read = every.gather(-2, expert[..., None, None].expand(*expert.shape, 1, every.shape[-1])).squeeze(-2)
        return torch.cat((expert[..., None].to(x.dtype), read), -1)

    def decode(self, code: Tensor) -> Tensor:
        maps, expert = self.maps, code[..., 0].long()
        spread = torch.nn.functional.one_hot(expert, len(maps.offset))[..., None] * code[..., None, 1:]
        return maps.offset[expert] + torch.einsum("...er,erd->...d", spread, maps.up)

    @torch.no_grad()
    def measure_rate(self, x: Float[Tensor, "N M"], text: Text) -> None:
        """Take note of how often each expert acts."""
        acts = torch.bincount(self.route(x, text), minlength=len(self.get_buffer("frequency")))
        self.get_buffer("frequency").copy_(acts.double() / len(x))

    def cost(self) -> Cost:
        """Return R numbers and the entropy of the routing for each token; the products of one expert and of the
        directions; and what tree, features and experts hold, the classes of tokens in as many bits as they need."""
        bits = float(entropy(self.get_buffer("frequency")))
        maps, tree, features = self.maps, self.tree, self.features
        classes, rank = features.classes.numel(), maps.down.shape[2]
        asked = features.centre.numel() + features.directions.numel() + features.asked.numel()
        asks = sum(part.numel() for part in tree) - tree.tokens.numel()
        numbers = sum(part.numel() for part in maps) + asks + asked
        spent = 2.0 * (maps.down[0].numel() + maps.up[0].numel() + features.directions.numel())
        storage = 32.0 * numbers + (len(CLASSES) - 1).bit_length() * classes
        return Cost(rank or None, 32.0 * rank + bits, numbers + classes, spent, storage)


def question(features: Features, number: int, threshold: float, tokenizer: Tokenizer | None = None) -> str:
    """Return what a node asks, in words. Of what is true or false, "no" goes to the left; of a number, "yes" does."""
    kind, which = features.asked[number].tolist()
    name = KINDS[kind]
    if name == "position":
        return f"position <= {int(threshold)}"
    if name == "direction":
        return f"direction {which} <= {threshold:.3g}"
    if name.endswith("class"):
        return f"{name} is {CLASSES[which]}"
    return f"{name} is {which if tokenizer is None else repr(tokenizer.piece(which))}"


def chart_of(codec: Experts, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
    """Return the tree for a report: each node a dictionary with `tokens`, how many of the training split came there,
    and either `expert`, its number, and `rank`, 0 for a constant; or `asks`, a question, with the nodes `yes` and `no`.

    Args:
        codec: the experts.
        tokenizer: to show tokens; None leaves them as numbers.
    """
    tree, features = codec.tree, codec.features

    def node(at: int) -> dict[str, Any]:
        number, tokens = int(tree.feature[at]), int(tree.tokens[at])
        if number == LEAF:
            return {"tokens": tokens, "expert": int(tree.leaf[at]), "rank": codec.maps.down.shape[2]}
        left, right = node(int(tree.left[at])), node(int(tree.right[at]))
        truth = int(features.asked[number, 0]) < TRUTHS
        yes, no = (right, left) if truth else (left, right)
        asks = question(features, number, float(tree.threshold[at]), tokenizer)
        return {"tokens": tokens, "asks": asks, "yes": yes, "no": no}

    return node(0)


def flow_chart(codec: Experts, tokenizer: Tokenizer | None = None) -> str:
    """Return the tree as an indented text, with how many tokens of the training split go each way.

    Args:
        codec: the experts.
        tokenizer: to show tokens; None leaves them as numbers.
    """
    return "\n".join(_lines(chart_of(codec, tokenizer)))


def _lines(node: dict[str, Any]) -> list[str]:
    if "expert" in node:
        does = f"linear map of rank {node['rank']}" if node["rank"] else "constant"
        return [f"expert {node['expert']}: {does}"]
    found = [f"{node['asks']}?"]
    for answer in ("yes", "no"):
        first, *rest = _lines(node[answer])
        found += [f"  {answer} ({node[answer]['tokens']} tokens): {first}", *(f"    {line}" for line in rest)]
    return found
