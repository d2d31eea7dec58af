"""Sites in a model: identity modules where activations pass, and the functions that are put there.

A tap costs one call that returns its argument, and nothing in a compiled graph. Reading, ablating, patching, steering
and compressing are all one operation: a function put at a site (`tapped`), which PyTorch's own forward hooks run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.core.site import Site, match
from etude.nn import AXES

Edit = Callable[[Tensor], Tensor]
"""What may be put at a site: it returns a new tensor of the same shape and dtype."""


class Axis(NamedTuple):
    """One axis of a site: its letter, and its size where the model decides it (None: the text decides)."""

    name: str
    size: int | None

    def __str__(self) -> str:
        return self.name if self.size is None or self.name == "1" else f"{self.name}={self.size}"


Shape = tuple[Axis, ...]


class Tap(nn.Module):
    """An activation's site: it returns what it is given, and is named by its path in the model.

    Args:
        axes: letters of `etude.nn.AXES`, as in `B T D`; `1` is an axis kept with size one.
        sizes: the sizes that the model decides, by letter.
    """

    def __init__(self, axes: str, **sizes: int) -> None:
        super().__init__()
        unknown = set(axes.split()) - {*AXES, "1"} | sizes.keys() - set(axes.split())
        if unknown:
            raise UsageError(f"a tap of axes {axes!r} has no axis {min(unknown)!r}; there are: {', '.join(AXES)}")
        self.axes = axes
        self.shape: Shape = tuple(Axis(a, 1 if a == "1" else sizes.get(a)) for a in axes.split())

    @property
    def watched(self) -> bool:
        """Whether anybody reads or writes here. Parts ask this before they make what only a watcher needs."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the activation; what `nn.Module` does around a forward pass is done only where somebody watches."""
        return super().__call__(x) if self.watched else x

    def forward(self, x: Tensor) -> Tensor:
        return x

    def extra_repr(self) -> str:
        return " ".join(map(str, self.shape))


class Weight(NamedTuple):
    """A parameter's site: the module that holds it and its name there."""

    owner: nn.Module
    name: str

    @property
    def shape(self) -> Shape:
        sizes = self.owner.get_parameter(self.name).shape
        letters = getattr(self.owner, "axes", {}).get(self.name, "").split() or [""] * len(sizes)
        return tuple(map(Axis, letters, sizes))


Place = Tap | Weight


class Tappable(nn.Module):
    """A model with sites: every `Tap` and every parameter in it, named by their paths. Models derive from this.

    Taps belong to the model, not to a thread: a model that is tapped in one thread is tapped in all.

    Attributes:
        watchers: how many functions are put at sites now. A model that would recompute activations during the backward
            pass keeps them instead while this is not 0: each site is then seen once, and the gradient is that of what
            was seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watchers = 0

    def places(self) -> dict[Site, Place]:
        """Return where each site is: weights first within each module, then its submodules in order."""
        return dict(_places(self, ""))

    def sites(self, glob: str | None = None) -> dict[Site, Shape]:
        """Return what can be looked at and its shape, without running the model.

        Raises:
            UsageError: the glob matches nothing.
        """
        places = self.places()
        chosen = places if glob is None else match(glob, places)
        return {site: places[site].shape for site in chosen}

    @contextmanager
    def tapped(self, edits: Mapping[str, Edit]) -> Iterator[None]:
        """Put functions at sites while the context is open.

        Every call of the model then runs eagerly, also when it has been compiled, and gives each site's value to its
        function and goes on with what that returns. At a weight the function is evaluated anew in each call, so
        gradients flow to the parameter and to what the function holds. Contexts nest: the inner function gets what the
        outer one returned. However the context ends, the model is as it was.

        Args:
            edits: functions by site or glob. Those of one site are applied in the order given.

        Raises:
            UsageError: a glob matches nothing; or, when the model is called, a function changed its argument in place
                or returned another shape or dtype.
        """
        places = self.places()
        chosen = [(site, edit) for glob, edit in edits.items() for site in match(glob, places)]
        with put_at(self, [(site, places[site], edit) for site, edit in chosen]):
            yield


_site_of = lru_cache(maxsize=8192)(Site.of)
"""The address of a path. Kept, because checking its form for every site takes longer than the rest of a look."""


def _places(module: nn.Module, prefix: str) -> Iterator[tuple[Site, Place]]:
    for name, weight in module._parameters.items():
        if weight is not None:
            yield _site_of(prefix + name), Weight(module, name)
    for name, child in module._modules.items():
        if isinstance(child, Tap):
            yield _site_of(prefix + name), child
        elif child is not None:
            yield from _places(child, f"{prefix}{name}.")


@contextmanager
def put_at(model: Tappable, edits: list[tuple[Site, Place, Edit]]) -> Iterator[None]:
    """Put each function at its place while the context is open: `tapped`, once the places are known."""
    with ExitStack() as undo:
        # Compiled code does not notice a hook that is added after compiling, so no compiled code runs in here.
        undo.enter_context(torch.compiler.set_stance("force_eager"))
        model.watchers += len(edits)
        undo.callback(_forget, model, len(edits))
        for site, place, edit in edits:
            apply = partial(_applied, site, edit)
            if isinstance(place, Tap):
                undo.callback(place.register_forward_hook(partial(_at_tap, apply)).remove)
            else:
                undo.enter_context(_replaced(model, place, apply))
        yield


def _forget(model: Tappable, count: int) -> None:
    model.watchers -= count


def _at_tap(apply: Edit, tap: nn.Module, args: Any, value: Tensor) -> Tensor:
    return apply(value)


@contextmanager
def _replaced(model: nn.Module, weight: Weight, apply: Edit) -> Iterator[None]:
    """Let each call of the model find `apply(parameter)` where the parameter stands.

    `torch.func.functional_call` does the same for a call that it makes itself. Here the caller makes the calls, so the
    exchange happens around each of them: before the model's forward, and back after it, whether it returns or raises.
    Between calls the parameter is in its place, so optimisers and `state_dict` never see another.
    """
    held: dict[str, Any] = weight.owner._parameters
    name = weight.name
    original: list[nn.Parameter] = []

    def put(*_: Any) -> None:
        value = held[name]
        held[name] = apply(value)  # a tensor with a history serves a forward as well as a parameter
        original.append(value)

    def restore(*_: Any) -> None:
        if original:
            held[name] = original.pop()

    before = model.register_forward_pre_hook(put)
    # First of the hooks, so that nested exchanges are undone from the inside out.
    after = model.register_forward_hook(restore, prepend=True, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()
        restore()  # for an interrupt, which does not run forward hooks


def _applied(site: Site, edit: Edit, value: Tensor) -> Tensor:
    """Return `edit(value)` after checking that it kept its promises."""
    before = None if value.is_inference() else value._version
    new = edit(value)
    if before is not None and value._version != before:
        raise UsageError(f"the function at {site} changed its argument in place: return a new tensor instead")
    if not isinstance(new, Tensor) or new.shape != value.shape or new.dtype != value.dtype:
        raise UsageError(f"the function at {site} must return {_form(value)}, it returned {_form(new)}")
    return new


def _form(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} [{', '.join(map(str, value.shape))}]"
