"""The agent: its memories against PyTorch's own modules, what it is asked, and its sites while it plays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.culture.small import played, small
from torch import nn

from etude.core.errors import UsageError
from etude.culture.agent import Agent
from etude.culture.memories.gru import Gru
from etude.culture.memories.lstm import Lstm
from etude.culture.memories.transformer import Transformer
from etude.culture.memories.without import Without
from etude.culture.raising import new_agent
from etude.culture.setting import Setting
from etude.culture.views.local import Local

MEMORIES = [Gru(), Lstm(), Transformer(heads=2), Without()]
every_memory = pytest.mark.parametrize("memory", MEMORIES, ids=lambda memory: memory.name)


@pytest.mark.parametrize(("memory", "theirs"), [(Gru(), nn.GRU), (Lstm(), nn.LSTM)], ids=["gru", "lstm"])
def test_it_is_pytorchs_with_the_same_weights(memory, theirs) -> None:
    layer, other, x = memory.build(6, steps=9), theirs(6, 6, batch_first=True), torch.randn(4, 9, 6)
    names = {"W_in": "weight_ih_l0", "W_back": "weight_hh_l0", "b_in": "bias_ih_l0", "b_back": "bias_hh_l0"}
    assert {name for name, _ in layer.named_parameters()} == set(names)
    layer.load_state_dict({ours: other.state_dict()[name] for ours, name in names.items()})
    torch.testing.assert_close(layer(x, None)[0], other(x)[0])
    _, kept = layer(x[:, :4], None)
    _, state = other(x[:, :4])
    torch.testing.assert_close(layer(x[:, 4:], kept)[0], other(x[:, 4:], state)[0])


@every_memory
def test_what_it_thought_while_playing_it_thinks_again_of_the_whole_episode(memory) -> None:
    """So PPO's ratio is 1 before the first step, and its clip lets the gradient of the policy through."""
    recipe = small(memory=memory)
    agent = new_agent(recipe)
    episodes = played(recipe, agent)
    thought = agent(episodes.seen)
    torch.testing.assert_close(thought.log_p, episodes.log_p)
    torch.testing.assert_close(thought.value, episodes.values)
    torch.testing.assert_close(thought.log_p.exp().sum(-1), torch.ones(8, 9))
    told = recipe.rule.build()(thought.log_p, episodes.log_p, episodes.actions, torch.randn(8, 9))
    assert torch.isfinite(told["loss"])


@every_memory
def test_a_function_at_its_memory_acts_while_it_plays(memory) -> None:
    recipe = small(memory=memory)
    agent = new_agent(recipe)
    before = played(recipe, agent)
    with agent.tapped({"memory.out": torch.zeros_like}):
        blank = played(recipe, agent)
    assert torch.allclose(blank.log_p.exp(), torch.full((8, 9, 5), 0.2)) and not blank.values.any()
    after = played(recipe, agent)
    assert torch.equal(after.log_p, before.log_p) and torch.equal(after.actions, before.actions)


@every_memory
def test_what_is_put_at_the_memory_is_not_what_it_keeps(memory) -> None:
    """A unit that is fixed for one step is as it was in the next: what it kept was not touched."""
    recipe, calls = small(memory=memory), []
    agent = new_agent(recipe)
    seen = played(recipe, agent).seen

    def once(x: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        return torch.zeros_like(x) if len(calls) == 3 else x

    def stepped() -> torch.Tensor:
        kept, found = None, []
        for t in range(seen.shape[1]):
            thought = agent(seen[:, t : t + 1], kept)
            kept = thought.kept
            found.append(thought.log_p)
        return torch.cat(found, dim=1)

    with torch.no_grad():
        plain = stepped()
        with agent.tapped({"memory.out": once}):
            broken = stepped()
    differs = (plain != broken).flatten(2).any(-1).any(0)
    assert differs.tolist() == [t == 2 for t in range(seen.shape[1])]


def test_untrained_it_prefers_no_action() -> None:
    for memory in MEMORIES:
        episodes = played(small(memory=memory))
        assert (episodes.log_p.exp() - 0.2).abs().max() < 0.05, memory.name


def test_its_weights_come_from_the_seed() -> None:
    one, same, other = (new_agent(small(seed=seed)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert all(not torch.equal(one[name], other[name]) for name in one if "W_" in name)
    assert not any(one[name].any() for name in one if name.rpartition(".")[2].startswith("b_"))


def test_what_reads_the_world_is_orthogonal() -> None:
    agent = Agent(24, 16, Gru(), others=1, steps=4)
    agent.begin(torch.Generator().manual_seed(0))
    weights = agent.embed.W_seen.detach()
    torch.testing.assert_close(weights.T @ weights, 2 * torch.eye(16), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"setting": Setting(goals=4)},
            "the agent sees 19 numbers and the view compact shows 29 of 4 colours: give it",
        ),
        ({"view": Local(radius=1)}, "the agent sees 19 numbers and the view local shows 46 of 2 colours: give it"),
    ],
)
def test_other_worlds_than_it_can_see_are_refused(fields, words) -> None:
    agent = new_agent(small())
    with pytest.raises(UsageError, match=f"^{words}"):
        played(small(**fields), agent)


def test_a_width_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(UsageError, match="width = 10 is not 4 heads of an even width"):
        new_agent(small(memory=Transformer(), width=10))


def test_the_likeliest_action_is_taken_where_that_is_asked() -> None:
    episodes = played(small(), greedy=True)
    np.testing.assert_array_equal(episodes.actions, episodes.log_p.argmax(-1))
