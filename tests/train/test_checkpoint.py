"""A checkpoint holds everything, bit for bit, and says so when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from etude.core.errors import DamagedError
from etude.train.checkpoint import KEPT, State, latest, load_state, save_state, saved_steps


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


def stepped(steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = network()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        module(torch.randn(8, 3)).square().sum().backward()
        optimiser.step()
    return module, optimiser


def test_values_and_tensors_come_back(tmp_path: Path):
    strided = torch.arange(12.0).view(3, 4).T
    state = State(
        {"x": strided, "n": torch.tensor(7), "b": torch.tensor([1, 255], dtype=torch.uint8)}, {"row": {"loss": 0.1}}
    )
    path = save_state(tmp_path, 3, state)
    found = load_state(path)
    assert found.values == state.values
    assert all(torch.equal(found.tensors[name], value) for name, value in state.tensors.items())
    assert found.tensors["b"].dtype == torch.uint8
    assert latest(tmp_path, say=pytest.fail) is not None


def test_module_buffers_and_optimiser_come_back_bit_for_bit(tmp_path: Path):
    module, optimiser = stepped(3)
    path = save_state(tmp_path, 3, State.of(optimiser, net=module))
    fresh = network()
    other = torch.optim.AdamW(fresh.parameters(), lr=1e-2)
    load_state(path).load_into(other, net=fresh)
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), fresh.state_dict().values(), strict=True)
    )
    ours, theirs = optimiser.state_dict()["state"], other.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[i][name], theirs[i][name]) for i in ours for name in ours[i])


def test_only_the_newest_stay(tmp_path: Path):
    for step in (1, 5, 1000, 20):
        save_state(tmp_path, step, State({"x": torch.zeros(1)}))
    assert saved_steps(tmp_path) == [20, 1000]
    assert len(list(tmp_path.iterdir())) == 2 * KEPT
    found = latest(tmp_path, say=pytest.fail)
    assert found is not None and found[0] == 1000


def test_none_is_none(tmp_path: Path):
    assert saved_steps(tmp_path) == []
    assert latest(tmp_path, say=pytest.fail) is None


def test_a_flipped_bit_is_named(tmp_path: Path):
    path = save_state(tmp_path, 2, State({"x": torch.zeros(100)}))
    data = bytearray(path.read_bytes())
    data[-7] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedError, match=r"checkpoint-000000002\.safetensors is damaged"):
        load_state(path)
