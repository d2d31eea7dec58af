"""Paths: against whole runs with everything else held, against matrix algebra, and in a planted circuit."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.interp.metrics import LogitDifference, LogProbability, Loss
from etude.interp.patching import patch_map
from etude.interp.path_patching import Node, path_map, path_patch
from etude.models.architectures.decoder import Decoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import planted
from etude.nn.attention.sliding import Sliding
from etude.nn.taps import Edit

V, T, N = 13, 5, 2
KINDS = ("L*.attn.z", "L*.mlp.out")
METRIC = LogitDifference(torch.tensor([1, 2]), torch.tensor([3, 4]))

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"tied": True},
    "2017": {"norm_at": "post", "positions": "sinusoidal", "activation": "relu"},
    "llama": {
        "positions": "rotary",
        "norm": "rms",
        "kv_heads": 2,
        "gated": True,
        "activation": "silu",
        "biases": False,
    },
    "neox": {"positions": "rotary", "parallel": True, "attention": Sliding(window=3)},
    "attention-only": {"feedforward": 0},
}
PATHS: dict[str, tuple[Node, list[Node]]] = {
    "a head's keys": (Node("L0.attn.z", 3), [Node("L1.attn.k", 1)]),
    "over a layer": (Node("L0.attn.z", 0), [Node("L2.attn.q", 2)]),
    "all of a head": (Node("L0.attn.z", 1), [Node("L2.attn.z", 0)]),
    "two inputs in two layers": (Node("embed.out"), [Node("L1.attn.v", 0), Node("L1.attn.v", 1), Node("L2.attn.q")]),
    "all heads to the end": (Node("L1.attn.z"), [Node("logits")]),
    "embedding to the end": (Node("embed.out"), [Node("logits")]),
    "feed-forward to attention": (Node("L0.mlp.out"), [Node("L2.attn.v", 1)]),
    "attention to feed-forward": (Node("L0.attn.z", 2), [Node("L2.mlp.out")]),
    "within a layer": (Node("L1.attn.z", 2), [Node("L1.mlp.out"), Node("L2.mlp.out")]),
}


def lively(shape: dict[str, Any]) -> DecoderModel:
    """Build a model whose weights are large enough that every part matters, in double precision."""
    spec = Decoder(**{"layers": 3, "width": 16, "heads": 4, "feedforward": 24, "context": 8, **shape})
    model, generator = spec.build(V).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return cast(DecoderModel, model.double())


def pairs(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (N, T), generator=generator), torch.randint(V, (N, T), generator=generator)


def read(kept: dict[str, Tensor], site: str) -> Edit:
    def keep(value: Tensor) -> Tensor:
        kept[site] = value.clone()
        return value

    return keep


def exchange(new: Tensor, heads: list[int | None]) -> Edit:
    def put(value: Tensor) -> Tensor:
        value = value.clone()
        for head in heads:
            where = slice(None) if head is None else head
            value[:, :, where] = new[:, :, where]
        return value

    return put


@torch.no_grad()
def naive(
    model: DecoderModel, base: Tensor, source: Tensor, sender: Node, receivers: list[Node], through_mlps: bool
) -> Tensor:
    """Wang et al., appendix B, by whole runs: read both, hold all but the sender, then exchange the receivers."""
    held: dict[str, Tensor] = {}
    whole = model.spec.attention_only or through_mlps
    with model.tapped({s: read(held, s) for kind in KINDS[: 1 if whole else 2] for s in model.sites(kind)}):
        model(base)
    sent: dict[str, Tensor] = {}
    with model.tapped({sender.site: read(sent, sender.site)}):
        model(source)
    made: dict[str, Tensor] = {}
    holds = {site: exchange(value, [None]) for site, value in held.items() if site != sender.site}
    with (
        model.tapped({node.site: read(made, node.site) for node in receivers}),  # before what holds the same site
        model.tapped(holds),
        model.tapped({sender.site: exchange(sent[sender.site], [sender.head])}),
    ):
        model(base)
    if receivers[0].site == "logits":
        return made["logits"]
    with model.tapped({site: exchange(made[site], [r.head for r in receivers if r.site == site]) for site in made}):
        return model(base)


def passes(shape: dict[str, Any], name: str) -> bool:
    sender, receivers = PATHS[name]
    ends = " ".join([sender.site, *(node.site for node in receivers)])
    return not ("mlp" in ends and shape.get("feedforward") == 0) and not (
        name == "within a layer" and "parallel" in shape
    )


CASES = [(shape, path) for shape in SHAPES for path in PATHS if passes(SHAPES[shape], path)]


@pytest.mark.parametrize(("shape", "path"), CASES)
def test_a_path_is_what_whole_runs_give(shape: str, path: str) -> None:
    model, (clean, corrupted), (sender, receivers) = lively(SHAPES[shape]), pairs(), PATHS[path]
    noising = len(shape + path) % 2 == 0
    base, source = (clean, corrupted) if noising else (corrupted, clean)
    for through_mlps in (False,) if model.spec.attention_only else (False, True):
        found = path_patch(
            model, clean, corrupted, METRIC, sender, receivers, noising=noising, through_mlps=through_mlps
        )
        expected = METRIC(naive(model, base, source, sender, receivers, through_mlps))
        torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-9)
        assert (expected - METRIC(model(base))).abs().min() > 1e-6, "the path has to matter"


@pytest.mark.parametrize("shape", ["llama", "neox", "attention-only"])
@pytest.mark.parametrize("receiver", [Node("L2.attn.k", 1), Node("L1.mlp.out"), Node("logits")])
def test_a_map_is_its_paths_one_by_one(shape: str, receiver: Node) -> None:
    if shape == "attention-only" and receiver.site == "L1.mlp.out":
        return
    model, (clean, corrupted) = lively(SHAPES[shape]), pairs()
    found = path_map(model, clean, corrupted, METRIC, [receiver], at_once=25)
    assert found.values.shape == (3, 4, N)
    reached = 0
    for layer in range(3):
        for head in range(4):
            try:
                one = path_patch(model, clean, corrupted, METRIC, Node(f"L{layer}.attn.z", head), [receiver])
            except UsageError:
                assert torch.equal(found.values[layer, head], found.corrupted)
            else:
                reached += 1
                torch.testing.assert_close(found.values[layer, head], one.values)
    same_layer = receiver.site == "L1.mlp.out" and shape != "neox"
    assert reached == {"L2.attn.k": 8, "L1.mlp.out": 4 + 4 * same_layer, "logits": 12}[receiver.site]


def test_later_receivers_alone_hear_what_is_sent_between_them() -> None:
    model, (clean, corrupted) = lively({}), pairs()
    both = path_map(model, clean, corrupted, METRIC, [Node("L1.attn.q", 0), Node("L2.attn.v", 3)])
    late = path_map(model, clean, corrupted, METRIC, [Node("L2.attn.v", 3)])
    torch.testing.assert_close(both.values[1], late.values[1])
    assert not torch.isclose(both.values[0], late.values[0]).any()


@torch.no_grad()
def test_the_direct_path_to_keys_is_matrix_algebra() -> None:
    """Attention-only, two layers, no norm: the stream is a sum, and the keys are linear in it."""
    model, (clean, corrupted) = lively({"layers": 2, "feedforward": 0, "norm": "none", "biases": False}), pairs()
    metric = Loss(clean)
    weight = {name: model.get_parameter(f"layers.{name}") for name in ("0.attn.W_V", "0.attn.W_O")}
    W = {letter: model.get_parameter(f"layers.1.attn.W_{letter}") for letter in "QKVO"}
    E, P = model.get_parameter("embed.W_E"), model.get_parameter("embed.W_pos")[:T]
    patterns: dict[str, Tensor] = {}
    with model.tapped({"L0.attn.pattern": read(patterns, "L0.attn.pattern")}):
        heads = []
        for tokens in (clean, corrupted):
            model(tokens)
            values = torch.einsum("btd,dhk->bthk", E[tokens] + P, weight["0.attn.W_V"])
            z = torch.einsum("bhts,bshk->bthk", patterns["L0.attn.pattern"], values)
            heads.append(torch.einsum("bthk,hkd->bhtd", z, weight["0.attn.W_O"]))
    stream = E[corrupted] + P + heads[1].sum(1)  # before layer 1, in the base run
    sent = heads[0][:, 2] - heads[1][:, 2]
    q, k, v = (torch.einsum("btd,dhk->bhtk", stream, W[letter]) for letter in "QKV")
    k[:, 1] += sent @ W["K"][:, 1]  # one head's keys alone hear it
    scores = (q @ k.mT / 2).masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
    written = torch.einsum("bhtk,hkd->btd", scores.softmax(-1) @ v, W["O"])
    expected = metric((stream + written) @ model.get_parameter("unembed.W_U"))
    found = path_patch(model, clean, corrupted, metric, Node("L0.attn.z", 2), [Node("L1.attn.k", 1)])
    torch.testing.assert_close(found.values, expected)
    assert not torch.isclose(found.values, found.corrupted).any()


A, B, C, D, E = range(5)


def test_in_a_planted_circuit_one_head_tells_one_heads_keys() -> None:
    """What L0H0 writes at B, "A came before", is read by the keys of L1H0 and by nothing else."""
    model, metric = planted(8, 6), LogProbability(B)
    clean, corrupted = torch.tensor([[A, B, C, D, A]]), torch.tensor([[E, B, C, D, A]])
    whole = patch_map(model, clean, corrupted, metric, "head").recovered()
    keys = path_map(model, clean, corrupted, metric, [Node("L1.attn.k", 0)]).recovered()
    assert whole[0, 0] > 0.99
    torch.testing.assert_close(keys[0, 0], whole[0, 0])
    assert keys.flatten()[1:].abs().max() < 1e-4
    for node in (Node("L1.attn.q"), Node("L1.attn.v"), Node("L1.attn.k", 1), Node("L1.attn.z", 1), Node("logits")):
        others = path_map(model, clean, corrupted, metric, [node]).recovered()
        assert others[0].abs().max() < 1e-4, node


def test_a_path_that_nothing_can_take_is_refused() -> None:
    model, (clean, corrupted) = lively({"kv_heads": 2}), pairs()

    def ask(sender: Node, *receivers: Node, of: DecoderModel = model) -> None:
        path_patch(of, clean, corrupted, METRIC, sender, receivers)

    keys = Node("L1.attn.k")
    for sender, receivers, message in (
        (Node("L1.attn.z", 0), [keys], "L1.attn.k does not read L1.attn.z: a receiver comes behind the sender"),
        (Node("L2.mlp.out"), [Node("logits"), keys], "logits are behind every other receiver"),
        (Node("embed.out"), [], "goes nowhere"),
        (Node("L0.attn.k"), [keys], "L0.attn.k is no end of a path: it is one of embed.out, attn.z, mlp.out"),
        (Node("embed.out"), [Node("L1.resid.pre")], "L1.resid.pre is no end of a path: it is one of attn.q, attn.k"),
        (Node("L0.attn.z", 4), [keys], "head = 4 at L0.attn.z, which has 4: choose 0 to 3"),
        (Node("L0.attn.z", -1), [keys], "head = -1 at L0.attn.z"),
        (Node("embed.out"), [Node("L1.attn.k", 2)], "head = 2 at L1.attn.k, which has 2: choose 0 to 1"),
        (Node("L0.mlp.out", 1), [keys], "head = 1 at L0.mlp.out, which has no heads: leave head out"),
        (Node("embed.out"), [Node("L7.attn.k")], r"unknown site 'L7.attn.k': the model has 3 layers"),
        (Node("L*.attn.z"), [keys], r"'L\*.attn.z' is not a site"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            ask(sender, *receivers)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=r"does not read L1\.attn\.z"):
        ask(Node("L1.attn.z"), Node("L1.mlp.out"), of=lively(SHAPES["neox"]))
    with pytest.raises(UsageError, match=r"unknown site 'L0.mlp.out'"):
        ask(Node("L0.mlp.out"), keys, of=lively(SHAPES["attention-only"]))
    with pytest.raises(UsageError, match="no head sends anything"):
        path_map(lively({"layers": 0}), clean, corrupted, METRIC, [Node("logits")])
    with pytest.raises(UsageError, match="at_once = 0"):
        path_map(model, clean, corrupted, METRIC, [keys], at_once=0)
    with pytest.raises(UsageError, match="corrupted ones of"):
        path_patch(model, clean, corrupted[:1], METRIC, Node("embed.out"), [keys])
