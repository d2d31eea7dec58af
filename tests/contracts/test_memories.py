"""What every memory of an agent owes, asked of each file in the family's folder."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.family import Family, member
from etude.core.site import Site
from etude.culture.agent import Agent
from etude.culture.memories.base import Memory

FAMILY = Family("culture/memories")
ARGUMENTS: dict[str, dict[str, Any]] = {"transformer": {"layers": 2, "heads": 2}}
"""How a test makes one of a member; those left out need nothing."""

FORGETS = {"without"}
B, T, D = 3, 11, 8


@pytest.fixture(params=FAMILY.names())
def spec(request: pytest.FixtureRequest) -> Memory:
    return cast(Memory, FAMILY.member(request.param)(**ARGUMENTS.get(request.param, {})))


def agent_with(spec: Memory, seed: int = 0, width: int = D) -> Agent:
    agent = Agent(5, width, spec, others=1, steps=T)
    agent.begin(torch.Generator().manual_seed(seed))
    for name, parameter in agent.named_parameters():  # biases too, so that a test would see one that is misplaced
        if name.startswith("memory.") and "b_" in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    return agent


def text(seed: int = 0) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def in_stretches(agent: Agent, x: Tensor, lengths: list[int]) -> Tensor:
    kept, found = None, []
    with torch.no_grad():
        for part in x.split(lengths, dim=1):
            y, kept = agent.memory(part, kept)
            found.append(y)
    return torch.cat(found, dim=1)


def test_the_family_has_its_members() -> None:
    assert FAMILY.names() == ["gru", "lstm", "transformer", "without"]
    assert FAMILY.base() is Memory


def test_reading_whole_is_reading_step_by_step(spec: Memory) -> None:
    """With gradients, as it is learned from, and without, as it is acted by; in stretches of other lengths too."""
    agent, x = agent_with(spec), text()
    whole, _ = agent.memory(x.clone().requires_grad_(), None)
    assert whole.shape == (B, T, D) and torch.isfinite(whole).all()
    with torch.no_grad():
        torch.testing.assert_close(agent.memory(x, None)[0], whole)
    for lengths in ([1] * T, [4, 1, 6], [2, 9]):
        torch.testing.assert_close(in_stretches(agent, x, lengths), whole)


def test_nothing_comes_from_later_steps_or_from_other_episodes(spec: Memory) -> None:
    agent, x = agent_with(spec), text()
    other = x.clone()
    other[0, 6, 0] += 1.0
    with torch.no_grad():
        before, after = agent.memory(x, None)[0], agent.memory(other, None)[0]
    torch.testing.assert_close(before[0, :6], after[0, :6])
    torch.testing.assert_close(before[1:], after[1:])
    assert not torch.allclose(before[0, 6], after[0, 6])
    remembered = not torch.allclose(before[0, 7:], after[0, 7:])
    assert remembered == (spec.name not in FORGETS)


def test_what_was_kept_may_be_forgotten(spec: Memory) -> None:
    agent, x = agent_with(spec), text()
    with torch.no_grad():
        _, kept = agent.memory(x[:, :5], None)
        afresh, _ = agent.memory(x[:, 5:], None)
        torch.testing.assert_close(agent.memory(x, None)[0][:, 5:], agent.memory(x[:, 5:], kept)[0])
    whole = in_stretches(agent, x, [T])
    assert torch.allclose(whole[:, 5:], afresh) == (spec.name in FORGETS)


def test_gradients_reach_every_weight_through_all_steps(spec: Memory) -> None:
    agent, x = agent_with(spec), text().requires_grad_()
    y, _ = agent.memory(x, None)
    y[:, -1].square().sum().backward()
    for name, parameter in agent.memory.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert x.grad is not None
    assert bool(x.grad[:, 0].abs().sum() > 0) == (spec.name not in FORGETS)


def test_weights_are_drawn_from_the_seed_alone(spec: Memory) -> None:
    one, same, other = (dict(agent_with(spec, seed).named_parameters()) for seed in (0, 0, 1))
    for name, weight in one.items():
        assert torch.equal(weight, same[name]) and torch.isfinite(weight).all(), name
        if "b_" not in name and not name.endswith((".w", ".b")):
            assert not torch.allclose(weight, other[name]), name


def test_weights_written_and_read_make_the_same_memory(spec: Memory) -> None:
    agent, other = agent_with(spec), agent_with(spec, seed=1)
    other.load_state_dict(agent.state_dict())
    assert torch.equal(in_stretches(agent, text(), [T]), in_stretches(other, text(), [T]))


def test_its_output_is_a_site(spec: Memory) -> None:
    agent = agent_with(spec)
    sites = agent.sites("memory.*")
    assert "memory.out" in sites and [axis.name for axis in sites[Site("memory.out")]] == ["B", "T", "D"]
    for site, shape in agent.sites().items():
        assert site.is_weight or all(axis.name for axis in shape), site
    seen = torch.randn(B, T, 5)
    with torch.no_grad(), agent.tapped({"memory.out": torch.zeros_like}):
        thought = agent(seen)
    assert torch.allclose(thought.log_p.exp(), torch.full((B, T, 5), 0.2)) and not thought.value.any()


def wide(width: int) -> Any:
    return cast(Memory, member("culture/memories", "transformer", heads=4)).build(width, T)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: wide(12), "width = 12 is not 4 heads of an even width"),
        (
            lambda: member("culture/memories", "transformer", layers=0),
            "layers = 0, heads = 4, feedforward = 2: give 1 or more",
        ),
        (lambda: FAMILY.member("gro"), "unknown"),
    ],
)
def test_what_cannot_be_is_refused(build: Any, words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        build()
