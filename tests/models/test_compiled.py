"""Compiled models: sites leave the graph as it is, and a tap takes effect, put there before compiling or after."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import Unsupported

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.models.architectures.decoder import Decoder
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.nn.taps import Tap

SPEC = Decoder(layers=2, width=16, heads=2, feedforward=24, context=8)
TOKENS = torch.randint(11, (2, 8), generator=torch.Generator().manual_seed(0))


class Graphs(list[list[tuple[str, str]]]):
    """A backend that keeps each graph it is given as a list of its nodes, and runs it as it is."""

    def __call__(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        self.append([(node.op, str(node.target)) for node in graph.graph.nodes])
        return graph.forward


class Nothing:
    """Stands where a tap stood, and is no module."""

    watched = False

    def __call__(self, x: Tensor) -> Tensor:
        return x


def without_taps(model: Transformer) -> Transformer:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Tap):
                delattr(module, name)
                object.__setattr__(module, name, Nothing())
    return model


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled_by(graphs: Graphs, model: Transformer) -> Any:
    return torch.compile(model, backend=graphs, fullgraph=True)


def test_the_graph_is_that_of_the_model_without_sites(spec: Decoder) -> None:
    graphs = Graphs()
    spec = dataclasses.replace(spec, layers=min(spec.layers, 1))
    with_taps, without = spec.build(11).eval(), without_taps(spec.build(11).eval())
    tokens = TOKENS[:, : spec.context]
    seen = compiled_by(graphs, with_taps)(tokens), compiled_by(graphs, without)(tokens)
    assert torch.equal(*seen)
    assert len(graphs) == 2
    print(f"{len(graphs[0])} nodes with sites, {len(graphs[1])} without")
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize("recompute", [False, True])
def test_training_is_one_graph(recompute: bool) -> None:
    graphs, model = Graphs(), dataclasses.replace(SPEC, dropout=0.1).build(11)
    model.recompute = recompute
    compiled_by(graphs, model)(TOKENS).sum().backward()
    assert len(graphs) == 1


def in_a_wrapper(model: Transformer, graphs: Graphs) -> Any:
    return compiled_by(graphs, model)


def in_place(model: Transformer, graphs: Graphs) -> Any:
    model.compile(backend=graphs, fullgraph=True)
    return model


EDITS = {
    "activation": {"L0.mlp.out": torch.zeros_like},
    "pattern": {"L*.attn.pattern": torch.zeros_like},
    "weight": {"L1.attn.W_V": torch.zeros_like},
    "last": {"logits": lambda value: value + 1},
}
every_edit = pytest.mark.parametrize("edits", EDITS.values(), ids=EDITS.keys())
every_way = pytest.mark.parametrize("compile_", [in_a_wrapper, in_place])


def expected(edits: Any) -> tuple[Tensor, Tensor]:
    model = SPEC.build(11).eval()
    with model.tapped(edits):
        tapped = model(TOKENS)
    plain = model(TOKENS)
    assert not torch.allclose(plain, tapped)
    return plain, tapped


@every_way
@every_edit
def test_a_tap_after_compiling_takes_effect(compile_: Callable[..., Any], edits: Any) -> None:
    plain, tapped = expected(edits)
    graphs, model = Graphs(), SPEC.build(11).eval()
    compiled = compile_(model, graphs)
    torch.testing.assert_close(compiled(TOKENS), plain)
    for _ in range(12):  # more often than dynamo would compile anew
        with compiled.tapped(edits):
            torch.testing.assert_close(compiled(TOKENS), tapped)
        torch.testing.assert_close(compiled(TOKENS), plain)
    assert len(graphs) == 1


@every_way
@every_edit
def test_a_tap_before_compiling_takes_effect_and_goes(compile_: Callable[..., Any], edits: Any) -> None:
    plain, tapped = expected(edits)
    graphs, model = Graphs(), SPEC.build(11).eval()
    with model.tapped(edits):
        compiled = compile_(model, graphs)
        torch.testing.assert_close(compiled(TOKENS), tapped)
    assert len(graphs) == 0
    torch.testing.assert_close(compiled(TOKENS), plain)
    assert len(graphs) == 1


@every_way
def test_looking_at_a_compiled_model(compile_: Callable[..., Any]) -> None:
    graphs, model = Graphs(), SPEC.build(11).eval()
    expected = look(model, TOKENS, "*")
    compiled = compile_(model, graphs)
    for _ in range(2):
        seen = look(compiled, TOKENS, "*")
        assert list(seen) == list(expected)
        assert all(torch.equal(seen[site], expected[site]) for site in seen)
        torch.testing.assert_close(compiled(TOKENS), expected[Site("logits")])
    assert len(graphs) == 1


@every_way
def test_a_text_too_long_is_refused_when_compiled(compile_: Callable[..., Any]) -> None:
    compiled = compile_(SPEC.build(11), Graphs())
    with pytest.raises((UsageError, Unsupported), match="longer than the model's context of 8"):
        compiled(torch.zeros(1, 9, dtype=torch.long))
