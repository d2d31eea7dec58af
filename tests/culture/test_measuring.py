"""Episodes and scores: what is kept of a play is what happened, and ways of playing share what they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.culture.small import SETTING, played, small

from etude.core.errors import UsageError
from etude.culture.experts.slow import Slow
from etude.culture.goal_cycle import GoalCycle
from etude.culture.measuring import Measured, distance, measure, scores, shown
from etude.culture.memories.gru import Gru
from etude.culture.memories.transformer import Transformer
from etude.culture.memories.without import Without
from etude.culture.presence import HALF, NONE
from etude.culture.raising import new_agent, trial_of
from etude.culture.routes import moves
from etude.culture.setting import Setting

LIVELY = small(setting=replace(SETTING, steps=20), expert=Slow(wait=0.3))


def measured(recipe=LIVELY, worlds: int = 30, seed: int = 0) -> Measured:
    return measure(new_agent(recipe), recipe, trial_of(recipe, worlds, "a test"), np.random.default_rng(seed))


def test_an_episode_is_what_the_game_does() -> None:
    """The actions that were kept, played again in a game of their own; the expert's are read from where it went."""
    episodes = played(LIVELY)
    game, to = GoalCycle(episodes.layout), moves(episodes.layout.size)
    for t in range(20):
        assert np.array_equal(game.cells, episodes.cells[:, t])
        shown = np.stack([np.ones(8, bool), episodes.present[t]], axis=1)
        np.testing.assert_array_equal(LIVELY.view.see(game, 0, shown), episodes.seen[:, t])
        theirs = (to[:, game.cells[:, 1]] == episodes.cells[:, t + 1, 1]).argmax(0)
        game.step(np.stack([episodes.actions[:, t].numpy(), theirs], axis=1))
        assert np.array_equal(game.entered, episodes.entered[:, t])
    assert np.array_equal(game.cells, episodes.cells[:, 20])


def test_actions_are_drawn_as_often_as_the_policy_says() -> None:
    recipe, agent = small(), new_agent(small())
    agent.b_act.data = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])
    agent.W_act.data.zero_()
    counts = torch.bincount(played(recipe, agent, worlds=3000).actions.flatten(), minlength=5) / 27_000
    torch.testing.assert_close(counts, agent.b_act.data.softmax(0), atol=0.01, rtol=0)


def test_where_the_expert_is_from_where_the_agent_stands() -> None:
    episodes = played(LIVELY)
    towards = episodes.towards_expert
    for b in range(8):
        for t in range(20):
            mine, theirs = (divmod(int(cell), 3) for cell in episodes.cells[b, t])
            assert towards[b, t].tolist() == [(theirs[0] - mine[0]) / 2, (theirs[1] - mine[1]) / 2]


def test_scores_are_sums_of_what_was_entered() -> None:
    episodes = played(LIVELY)
    entered = episodes.entered.astype(int)
    for player in (0, 1):
        np.testing.assert_array_equal(scores(episodes, player), entered[:, :, player].sum(1))
    np.testing.assert_array_equal(scores(episodes, since=7), entered[:, 7:, 0].sum(1))
    early = [sum(entered[b, t, 0] for t in range(7)) for b in range(8)]
    np.testing.assert_array_equal(early + scores(episodes, since=7), scores(episodes))
    rows = np.abs(episodes.cells[..., 0] // 3 - episodes.cells[..., 1] // 3)
    columns = np.abs(episodes.cells[..., 0] % 3 - episodes.cells[..., 1] % 3)
    np.testing.assert_allclose(distance(episodes), (rows + columns)[:, 1:].mean(1))


def test_the_expert_plays_on_where_nobody_sees_it() -> None:
    found = [played(replace(LIVELY, presence=presence)) for presence in (NONE, HALF)]
    assert not found[0].present.any()
    assert scores(found[0], player=1).mean() > 1


def test_ways_of_playing_share_what_they_should() -> None:
    found = measured()
    np.testing.assert_array_equal(found.full - found.full_late, found.half - found.recalled)  # seen by both
    for name, late in (("half", found.recalled), ("forgot", found.forgot)):
        assert found.curves[name][10:].sum() == pytest.approx(late.mean())
    np.testing.assert_array_equal(found.curves["half"][:10], found.curves["forgot"][:10])
    np.testing.assert_array_equal(found.curves["half"][:10], found.curves["full"][:10])
    assert found.curves["solo"].sum() == pytest.approx(found.solo.mean())
    assert found.parts.expert == found.expert.mean() > 0
    assert {each.shape for each in found.arrays.values()} == {(30,)} and len(found.arrays) == 9


@pytest.mark.parametrize("memory", [Gru(), Transformer(heads=2), Without()], ids=lambda memory: memory.name)
def test_who_forgets_is_the_same_before_and_as_at_the_start_after(memory) -> None:
    recipe = replace(LIVELY, memory=memory, presence=HALF)
    agent = new_agent(recipe)
    agent.W_act.data *= 100
    kept, robbed = played(recipe, agent), played(recipe, agent, forget_at=10)
    for one, other in ((kept.log_p, robbed.log_p), (kept.seen, robbed.seen)):
        assert torch.equal(one[:, :10], other[:, :10])
    assert torch.equal(kept.seen[:, 10], robbed.seen[:, 10])
    torch.testing.assert_close(robbed.log_p[:, 10:], agent(robbed.seen[:, 10:]).log_p)
    assert torch.equal(kept.log_p, robbed.log_p) == (memory == Without())


def test_without_memory_there_is_nothing_to_forget() -> None:
    found = measured(replace(LIVELY, memory=Without()))
    np.testing.assert_array_equal(found.recalled, found.forgot)


def test_a_measurement_is_of_the_worlds_and_the_draw() -> None:
    one, same, other = measured(), measured(), measured(seed=1)
    assert all(np.array_equal(one.arrays[name], same.arrays[name]) for name in one.arrays)
    assert not np.array_equal(one.full, other.full)


def test_the_world_that_is_shown_is_one_of_them() -> None:
    episodes = played(replace(LIVELY, presence=HALF))
    first = shown(episodes)
    assert first["cells"].shape == (21, 2) and first["entered"].shape == (20, 2)
    assert first["present"].tolist() == [True] * 10 + [False] * 10
    assert np.array_equal(first["goals"], episodes.layout.goals[0]) and first["size"].tolist() == [3]


def test_an_episode_has_a_step() -> None:
    with pytest.raises(UsageError, match=r"^steps = 0: an episode has 1 step or more$"):
        Setting(steps=0)
    single = measured(small(setting=replace(SETTING, steps=1)))
    assert np.array_equal(single.half, single.recalled), "half of one step is none"
