"""Sites and the functions put there, on a toy model with one tap, one weight and a branch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.nn.look import look
from etude.nn.taps import Axis, Tap, Tappable


class Part(nn.Module):
    axes = {"W_in": "D F"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.W_in = nn.Parameter(torch.randn(3, 4))
        self.pre = Tap("B F", F=4)
        self.post = Tap("B F", F=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.post(self.pre(x @ self.W_in).relu())


class Toy(Tappable):
    """Two layers of which each reads the input; it breaks when asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = Tap("B D", D=3)
        self.layers = nn.ModuleList([Part(), Part()])
        self.breaks: type[BaseException] | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.float())
        if self.breaks is not None:
            raise self.breaks
        return sum((layer(x) for layer in self.layers), torch.zeros(()))


SITES = ["embed", "L0.W_in", "L0.pre", "L0.post", "L1.W_in", "L1.pre", "L1.post"]


@pytest.fixture
def model() -> Toy:
    return Toy()


@pytest.fixture
def x() -> Tensor:
    return torch.randint(-9, 9, (5, 3))


def is_clean(model: Toy) -> bool:
    hooks = [module._forward_hooks or module._forward_pre_hooks for module in model.modules()]
    return not any(hooks) and model.watchers == 0 and all(type(p) is nn.Parameter for p in model.parameters())


def test_sites_are_paths_with_shapes(model: Toy) -> None:
    assert list(model.sites()) == SITES
    assert model.sites("*.W_in")[Site("L1.W_in")] == (Axis("D", 3), Axis("F", 4))
    assert " ".join(map(str, model.sites("L0.pre")[Site("L0.pre")])) == "B F=4"
    with pytest.raises(UsageError, match=r"unknown site 'L7.pre': the model has 2 layers \(L0, L1\)"):
        model.sites("L7.pre")


def test_a_tap_knows_its_axes() -> None:
    assert Tap("B T 1").shape == (Axis("B", None), Axis("T", None), Axis("1", 1))
    with pytest.raises(UsageError, match="no axis 'Q'"):
        Tap("B Q")
    with pytest.raises(UsageError, match="no axis 'K'"):
        Tap("B T", K=3)


def test_a_function_replaces_what_passes(model: Toy, x: Tensor) -> None:
    clean, parts = model(x), [layer(x.float()) for layer in model.layers]
    with model.tapped({"L0.post": torch.zeros_like}):
        torch.testing.assert_close(model(x), parts[1])
    with model.tapped({"L*.post": lambda value: 2 * value}):
        torch.testing.assert_close(model(x), 2 * clean)
    with model.tapped({"L1.W_in": torch.zeros_like}):
        torch.testing.assert_close(model(x), parts[0])
    assert torch.equal(model(x), clean)
    assert is_clean(model)


@pytest.mark.parametrize("site", ["L0.pre", "L0.W_in"])
def test_contexts_compose_from_the_outside_in(model: Toy, x: Tensor, site: str) -> None:
    given: list[Tensor] = []

    def add(value: Tensor) -> Tensor:
        return value + 1

    def double(value: Tensor) -> Tensor:
        given.append(value)
        return 2 * value

    start = look(model, x, site)[Site(site)]
    with model.tapped({site: add}), model.tapped({site: double}):
        model(x)
        torch.testing.assert_close(look(model, x, site)[Site(site)], 2 * (start + 1))
    torch.testing.assert_close(given[0], start + 1)
    with model.tapped({site: add, site[:-1] + "?": double}):  # the same two at one site, in one context
        torch.testing.assert_close(look(model, x, site)[Site(site)], 2 * (start + 1))
    torch.testing.assert_close(look(model, x, site)[Site(site)], start)
    assert is_clean(model)


def test_a_weights_function_is_evaluated_in_each_call_and_gradients_flow(model: Toy, x: Tensor) -> None:
    scale = nn.Parameter(torch.ones(()))
    before = copy.deepcopy(model.state_dict())
    W = model.get_parameter("layers.0.W_in")
    with model.tapped({"L0.W_in": lambda W: W * scale}):
        for expected in (1.0, 3.0):
            scale.data.fill_(expected)
            torch.testing.assert_close(look(model, x, "L0.W_in")[Site("L0.W_in")], W * expected)
        model(x).sum().backward()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert scale.grad is not None and scale.grad != 0
    assert W.grad is not None and W.grad.any()
    assert is_clean(model)


BAD = {
    "shape": (
        lambda value: value[:1],
        r"the function at {site} must return float32 \[\d, 4\], it returned float32 \[1, 4\]",
    ),
    "dtype": (lambda value: value.double(), r"the function at {site} must return float32 .* returned float64"),
    "nothing": (lambda value: None, r"the function at {site} must return .* returned NoneType"),
    "in place": (lambda value: value.mul_(2), r"the function at {site} changed its argument in place"),
}


@pytest.mark.parametrize("site", ["L1.post", "L1.W_in"])
@pytest.mark.parametrize(("function", "message"), BAD.values(), ids=BAD.keys())
def test_a_broken_promise_names_the_site(model: Toy, x: Tensor, site: str, function: Any, message: str) -> None:
    expected = pytest.raises(UsageError, match=message.format(site=site))
    with torch.no_grad(), expected, model.tapped({site: function}):
        model(x)
    assert is_clean(model)


@pytest.mark.parametrize("breaks", [ValueError, KeyboardInterrupt])
def test_whatever_ends_a_context_the_model_is_as_it_was(model: Toy, x: Tensor, breaks: type[BaseException]) -> None:
    clean = model(x)
    edits = {"L0.W_in": torch.zeros_like, "L0.pre": torch.zeros_like}
    model.breaks = breaks
    with pytest.raises(breaks), model.tapped(edits), model.tapped(edits):
        model(x)
    model.breaks = None
    assert is_clean(model)
    assert torch.equal(model(x), clean)


def test_a_failed_call_inside_a_context_leaves_the_weights_for_the_next(model: Toy, x: Tensor) -> None:
    clean = model(x)
    with model.tapped({"*.W_in": lambda W: 2 * W}):
        model.breaks = ValueError
        with pytest.raises(ValueError):
            model(x)
        model.breaks = None
        assert all(type(p) is nn.Parameter for p in model.parameters())
        torch.testing.assert_close(model(x), 2 * clean)


def test_a_glob_that_matches_nothing_changes_nothing(model: Toy, x: Tensor) -> None:
    for glob in ("L0.prex", "*.attn.*"):
        with pytest.raises(UsageError, match="unknown site"), model.tapped({"L0.pre": torch.zeros_like, glob: abs}):
            model(x)
        with pytest.raises(UsageError, match="unknown site"):
            look(model, x, glob)
    assert is_clean(model)


@pytest.mark.parametrize("grad", [False, True])
def test_what_a_look_returns_is_nobody_elses(model: Toy, x: Tensor, grad: bool) -> None:
    clean, start = model(x), x.clone()
    seen = look(model, x, "*", grad=grad)
    assert list(seen) == SITES
    storages = {value.untyped_storage().data_ptr() for value in [*seen.values(), *model.parameters(), x]}
    assert len(storages) == len(SITES) + len(list(model.parameters())) + 1
    with torch.no_grad():
        for value in seen.values():
            value.fill_(7)
    assert torch.equal(model(x), clean)
    assert torch.equal(x, start)
    assert is_clean(model)


def test_only_the_named_sites_come_back_in_the_models_order(model: Toy, x: Tensor) -> None:
    assert list(look(model, x, ["L1.post", "L0.W_in", "L1.p*"])) == ["L0.W_in", "L1.pre", "L1.post"]


def test_gradients_at_sites(model: Toy, x: Tensor) -> None:
    assert not any(value.requires_grad for value in look(model, x, "*").values())
    seen = look(model, x, "*", grad=True)
    total = seen[Site("L0.post")].sum() + 2 * seen[Site("L1.post")].sum()
    at_post, at_pre, at_W = torch.autograd.grad(total, [seen[Site(f"L1.{s}")] for s in ("post", "pre", "W_in")])
    torch.testing.assert_close(at_post, torch.full((5, 4), 2.0))
    torch.testing.assert_close(at_pre, 2.0 * (seen[Site("L1.pre")] > 0))
    torch.testing.assert_close(at_W, x.T.float() @ at_pre)


def test_a_model_without_sites_is_refused() -> None:
    with pytest.raises(UsageError, match="Linear has no sites"):
        look(nn.Linear(2, 2), torch.zeros(1, 2, dtype=torch.long), "*")
