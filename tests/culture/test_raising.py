"""Raising: what an update learns from, that an agent gets better, and that one that was stopped goes on exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.culture.small import EARLY, MIXED, SETTING, played, small
from torch import Tensor

from etude.core.errors import DamagedError, Interrupted, UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.core.shelf import differences
from etude.culture import raising as module
from etude.culture.curriculum import Curriculum
from etude.culture.experts.slow import Slow
from etude.culture.improving import Clipped
from etude.culture.measuring import measure
from etude.culture.memories.transformer import Transformer
from etude.culture.raising import Raising, attention_loss, new_agent, trial_of
from etude.culture.randomisation import Randomise, Range
from etude.culture.recipes import Raise, Transmission
from etude.culture.rules.ppo import Ppo
from etude.culture.rules.v_mpo import VMpo
from etude.culture.setting import Setting
from etude.culture.work import AGENT, kept_name, load_agent
from etude.culture.worlds.open import Open
from etude.train.checkpoint import saved_steps


def lab(folder: Path) -> Lab:
    return Lab(folder, threads=1, quiet=True)


# What is learned from


def test_where_the_expert_is_counts_while_it_can_be_seen() -> None:
    draw = np.random.default_rng(0)
    thought, towards = (torch.tensor(draw.normal(size=(3, 5, 2)), dtype=torch.float32) for _ in range(2))
    seen = torch.tensor(draw.random((3, 5)) < 0.5, dtype=torch.float32)
    off = [
        abs(float(thought[b, t, 0] - towards[b, t, 0])) + abs(float(thought[b, t, 1] - towards[b, t, 1]))
        for b in range(3)
        for t in range(5)
        if seen[b, t]
    ]
    thought.requires_grad_()
    loss = attention_loss(thought, towards, seen)
    assert loss.item() == pytest.approx(np.mean(off))
    loss.backward()
    assert thought.grad is not None and torch.equal(thought.grad.abs().sum(-1) > 0, seen > 0)
    assert attention_loss(thought, towards, torch.zeros(3, 5)).item() == 0.0


class Noting(Clipped):
    """PPO's loss, which notes the advantages that it is given."""

    def __init__(self) -> None:
        super().__init__(0.2, 0.01)
        self.seen: list[Tensor] = []

    def forward(self, log_p: Tensor, before: Tensor, actions: Tensor, gains: Tensor) -> dict[str, Tensor]:
        self.seen.append(gains)
        return super().forward(log_p, before, actions, gains)


@pytest.mark.parametrize("pace", ["apart", "none"])
def test_advantages_are_of_what_was_paid_and_standardised_over_the_update(monkeypatch, pace: str) -> None:
    """Against returns summed up one by one, in an update whose steps all count alike (lambda = 1)."""
    rule = Ppo(decay=1.0, discount=0.8, minibatches=1, epochs=2)
    live = Raising(small(rule=rule, curriculum=replace(EARLY, first=0.3, earned=0.5, pace=pace)))
    live.improving = Noting()
    live.progress.seen, live.progress.unseen = 0.25, -1.0
    found = []
    play = module.play
    monkeypatch.setattr(module, "play", lambda *a, **k: found.append(play(*a, **k)) or found[-1])
    live.step(0)
    (episodes,) = found
    cost = {True: 0.65, False: 0.3} if pace == "apart" else {True: 1.0, False: 1.0}
    wanted = np.zeros((8, 9))
    for b in range(8):
        for t in range(9):
            total = 0.8 ** (9 - t) * float(episodes.after[b])
            for k in range(t, 9):
                entered = int(episodes.entered[b, k, 0])
                total += 0.8 ** (k - t) * (entered if entered >= 0 else -cost[bool(episodes.present[k, b])])
            wanted[b, t] = total - float(episodes.values[b, t])
    wanted = (wanted - wanted.mean()) / wanted.std()
    one, two = live.improving.seen
    order = np.lexsort(np.round(wanted, 4).T)
    np.testing.assert_allclose(one.numpy()[np.lexsort(np.round(one.numpy(), 4).T)], wanted[order], atol=1e-3)
    assert one.shape == (8, 9) and not torch.equal(one, two), "each epoch in an order of its own"
    assert one.mean().abs() < 1e-5 and (one.std(correction=0) - 1).abs() < 1e-4


def test_an_episode_is_learned_from_once_an_epoch() -> None:
    live = Raising(small(rule=Ppo(minibatches=4, epochs=3)))
    live.improving = Noting()
    live.step(0)
    assert [len(gains) for gains in live.improving.seen] == [2] * 12
    epochs = [torch.cat(live.improving.seen[at : at + 4]).sum(1).sort().values for at in (0, 4, 8)]
    assert torch.equal(epochs[0], epochs[1]) and torch.equal(epochs[0], epochs[2])


def test_the_expert_is_there_until_the_learner_follows_it(monkeypatch) -> None:
    shown = []
    play = module.play
    monkeypatch.setattr(module, "play", lambda *a, **k: shown.append(a[4]) or play(*a, **k))
    live = Raising(small(curriculum=Curriculum(absent_from=0.9)))
    live.step(0)
    live.progress.alone = True
    live.step(1)
    assert shown[0].all() and not shown[1].all()


def test_what_is_logged_are_shares_of_an_episode() -> None:
    live = Raising(small())
    row = live.step(0)
    assert set(row) >= {"loss", "value", "attention", "entropy", "score", "expert", "price_seen", "price_unseen"}
    assert row["price_seen"] == row["price_unseen"] == pytest.approx(0.2)
    assert 0 < row["expert"] <= 9 and abs(row["score"]) <= 9


def test_without_its_loss_the_agent_does_not_learn_where_the_expert_is() -> None:
    live = Raising(small(attention=0.0))
    before = live.agent.W_others.clone()
    live.step(0)
    assert torch.equal(live.agent.W_others, before)
    live = Raising(small())
    live.step(0)
    assert not torch.equal(live.agent.W_others, before)


def test_a_raising_makes_an_agent_better() -> None:
    recipe = small(
        setting=Setting(Open(size=3), goals=2, steps=12), width=16, worlds=64, rule=Ppo(minibatches=4, rate=1e-2)
    )
    live, layout = Raising(replace(recipe, updates=40)), trial_of(recipe, 128, "a test")
    before = measure(live.agent, recipe, layout, np.random.default_rng(0))
    told = [live.step(number)["attention"] for number in range(40)]
    after = measure(live.agent, recipe, layout, np.random.default_rng(0))
    gained = after.full - before.full
    assert gained.mean() - 4 * gained.std() / np.sqrt(128) > 0.5
    assert np.mean(told[-5:]) < 0.7 * np.mean(told[:5])


# What is made, and read


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return lab(tmp_path_factory.mktemp("whole")).run(small(keep_every=2, rule=Ppo(minibatches=2, fall=0)))


def test_what_a_run_tells(whole: Run) -> None:
    result = whole.result
    assert result["updates"] == 4 and result["environment_steps"] == 4 * 8 * 9
    assert set(result["evaluation"]) >= {"full", "half", "solo", "transmission", "recalled", "forgot", "solo_late"}
    assert [row["step"] for row in whole.record] == [0, 1, 2, 3, 4]
    assert [row["step"] for row in whole.record if "full" in row] == [0, 2, 4]
    agent = load_agent(whole)
    assert sum(p.numel() for p in agent.parameters()) == result["parameters"]
    assert not any(p.requires_grad for p in agent.parameters())
    found = played(cast(Raise, whole.recipe), agent)
    assert torch.isfinite(found.log_p).all()


def test_an_agent_that_was_kept_is_that_of_fewer_updates(whole: Run, tmp_path: Path) -> None:
    recipe = cast(Raise, whole.recipe)
    shorter = lab(tmp_path).run(replace(recipe, updates=2, keep_every=0))
    assert same(load_agent(whole, 2), load_agent(shorter))
    assert same(load_agent(whole, 4), load_agent(whole)) and not same(load_agent(whole, 2), load_agent(whole))
    none = lab(tmp_path).run(replace(recipe, updates=0, keep_every=0))
    assert same(load_agent(none), new_agent(recipe))


def same(one: Any, other: Any) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("update", [1, 6, -2, 3])
def test_an_agent_that_was_not_kept_is_refused(whole: Run, update: int) -> None:
    words = f"^update = {update}: an agent is kept every 2 of 4 updates"
    with pytest.raises(UsageError, match=words):
        load_agent(whole, update)
    assert isinstance(whole.recipe, Raise)
    with pytest.raises(UsageError, match=words):  # before anything is raised
        Transmission(whole.recipe, update=update)


def test_another_kind_of_run_has_no_agent(whole: Run, tmp_path: Path) -> None:
    from etude.text.corpora.fable import Fable
    from etude.text.recipes import Tokens
    from etude.text.tokenizers.byte import Byte

    run = lab(tmp_path).run(Tokens(Fable(stories=20), Byte()))
    with pytest.raises(UsageError, match=f"^{run.id} is no agent that was raised: give a run of the kind raise$"):
        load_agent(run)


class Other(Run):
    """A run whose agent's file is another one."""

    def __init__(self, of: Run, file: Path) -> None:
        super().__init__(of.path)
        self._other = file

    def file(self, name: str) -> Path:
        return self._other if name == AGENT else super().file(name)


def test_an_agent_of_another_view_is_told_apart(whole: Run, tmp_path: Path) -> None:
    wider = new_agent(small(setting=replace(SETTING, goals=3))).state_dict()
    save_file(wider, tmp_path / "wider.safetensors")
    with pytest.raises(DamagedError, match=r"is no agent of its recipe: embed.W_seen is \[24, 8\] there and \[19, 8\]"):
        load_agent(Other(whole, tmp_path / "wider.safetensors"))
    remembering = new_agent(small(memory=Transformer(heads=2))).state_dict()
    save_file(remembering, tmp_path / "other.safetensors")
    with pytest.raises(DamagedError, match=r"memory.W_in is missing there and \[24, 8\] here"):
        load_agent(Other(whole, tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"worlds": 0}, "worlds = 0, updates = 4"),
        ({"updates": -1}, "worlds = 8, updates = -1"),
        ({"evaluate_worlds": 1}, "worlds = 8, .* evaluate_worlds = 1"),
        ({"attention": -0.1}, ".* attention = -0.1: give"),
        ({"ranks": 0}, "worlds = 8 cannot be shared out over 0 processes in 2 minibatches each"),
        ({"ranks": 3}, "worlds = 8 cannot be shared out over 3 processes in 2 minibatches each: give a multiple"),
        ({"ranks": 1, "worlds": 7}, "worlds = 7 cannot be shared out over 1 processes in 2 minibatches each"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        small(**fields)


def test_worlds_that_cannot_be_shared_out_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^worlds = 9 cannot be shared out over 1 processes"):
        lab(tmp_path).run(small(worlds=9))
    assert not list(tmp_path.glob("raise-*"))


def test_more_processes_than_were_started_are_refused(tmp_path: Path) -> None:
    recipe = small(ranks=2)
    with pytest.raises(UsageError, match=f"^{recipe.id} draws its worlds in 2 processes and 1 were started: start it"):
        lab(tmp_path).run(recipe)
    assert lab(tmp_path).run(replace(recipe, updates=0, keep_every=0)).result["updates"] == 0


# What was stopped goes on

RANDOMISED: dict[str, Any] = {
    "expert": Slow(wait=0.5),
    "randomise": Randomise(ranges=(Range("expert.wait", 0.5, 0.0, 0.2),), every=1, worlds=4, expand=-9, contract=-9),
}
WAYS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "randomised": RANDOMISED,
    "v-mpo, transformer": {"rule": VMpo(minibatches=2), "memory": Transformer(heads=2)},
    "later absent": {"curriculum": Curriculum(absent_from=0.01, memory=1)},
}


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[int]]]:
    """A person's Ctrl-C in the middle of an update; what it is called with is the update, and it notes those made."""
    step = Raising.step

    def stop_at(update: int) -> list[int]:
        made: list[int] = []

        def stepping(self: Raising, number: int) -> dict[str, Any]:
            made.append(number)
            if number == update:
                os.kill(os.getpid(), signal.SIGINT)
            return step(self, number)

        monkeypatch.setattr(Raising, "step", stepping)
        return made

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield stop_at
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("way", WAYS)
def test_one_that_was_stopped_ends_as_one_that_was_not(way: str, tmp_path: Path, stopping) -> None:
    recipe = small(updates=5, keep_every=2, **WAYS[way])
    unbroken = lab(tmp_path / "unbroken").run(recipe)
    for update, wanted in ((1, [0, 1]), (3, [2, 3])):
        made = stopping(update)
        with pytest.raises(Interrupted, match=f"stopped after step {update + 1} of 5"):
            lab(tmp_path / "broken").run(recipe)
        assert made == wanted
    made = stopping(-1)
    broken = lab(tmp_path / "broken").run(recipe)
    assert made == [4]
    assert differences(unbroken, broken) == {}
    assert unbroken.file(AGENT).read_bytes() == broken.file(AGENT).read_bytes()
    assert unbroken.file(kept_name(4)).read_bytes() == broken.file(kept_name(4)).read_bytes()
    if way == "randomised":
        assert unbroken.result["boundaries"] == {"expert.wait": 0.0}


CHILD = """
import functools, json, sys
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.culture import work

work.advance = functools.partial(work.advance, save_seconds=0.0)
Lab(sys.argv[1], threads=1, quiet=True).run(Recipe.from_json(json.loads(sys.argv[2])))
"""


@pytest.mark.kill
def test_one_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    recipe = small(updates=40, worlds=32, evaluate_every=10, keep_every=20, presence=MIXED, **RANDOMISED).resolve()
    unbroken = lab(tmp_path / "unbroken").run(recipe)
    scratch = tmp_path / "broken" / f"{recipe.id}.partial" / "scratch"
    command = [sys.executable, "-c", CHILD, str(tmp_path / "broken"), json.dumps(recipe.to_json())]
    for after in (2, 15):
        process = subprocess.Popen(command)
        end = time.monotonic() + 120
        while not any(taken > after for taken in saved_steps(scratch)):
            assert time.monotonic() < end and process.poll() is None, "no checkpoint came"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 0 < max(saved_steps(scratch)) < 40, "it ended before it was killed"
    broken = lab(tmp_path / "broken").run(recipe)
    assert differences(unbroken, broken) == {}
