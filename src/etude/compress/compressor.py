"""Codecs at their sites: put into a model for a while, or for good; what they cost there; saved and opened again."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from etude.compress.codec import Codec, Cost, Text
from etude.compress.linear import as_matrix
from etude.compress.methods.base import Method
from etude.core.errors import UsageError
from etude.core.site import Site
from etude.evals.recording import as_vectors
from etude.models.transformer import Transformer
from etude.nn.taps import Edit, Tap

Observe = Callable[[Site, Tensor, Tensor], None]
"""Told, at each site, what was there and what stands in its place."""

Model = TypeVar("Model", bound=Transformer)


@dataclass(frozen=True, eq=False)
class Part:
    """A codec and what it reads.

    Attributes:
        codec: what stands at the site.
        reads: the activation that it reads in place of the one at its site; None for that one itself.
        method: what fitted it, which alone can make it again from its tensors.
        precision: bits that each number of its code is held in.
    """

    codec: Codec
    reads: Site | None = None
    method: Method | None = None
    precision: int = 32


@dataclass(frozen=True, eq=False)
class Compressor:
    """Codecs at the sites of a model.

    Attributes:
        parts: by site.
        model: SHA-256 of the weights of the model that they were fitted to (`weights_of`), or empty where any will do.
    """

    parts: Mapping[Site, Part]
    model: str = ""

    @staticmethod
    def of(site: str, codec: Codec, reads: str | None = None) -> Compressor:
        """Return one codec at one site."""
        return Compressor({Site(site): Part(codec, None if reads is None else Site(reads))})

    @contextmanager
    def placed(self, model: Transformer, observe: Observe | None = None) -> Iterator[None]:
        """Have the codecs stand in a model while the context is open. Gradients flow to what they hold.

        Args:
            model: with these sites.
            observe: told what passes at each site.

        Raises:
            UsageError: the model is another one than they were fitted to, or has no such site.
        """
        self.require(model)
        with self.standing(model, observe):
            yield

    @contextmanager
    def standing(self, model: Transformer, observe: Observe | None = None) -> Iterator[None]:
        """Do as `placed`, in a model that `require` was asked of before: it reads all weights."""
        text = _Text()
        with ExitStack() as undo:
            if text.is_read_by(self.parts):
                undo.callback(text.follow(model))
            undo.enter_context(model.tapped(self.edits(text, observe)))
            yield

    def installed(self, model: Model) -> Model:
        """Return a copy of a model in which the codecs stand for good. Weights are replaced; at activations the codecs
        stay, so what looks at the copy's sites sees what they leave.

        Raises:
            UsageError: as for `placed`.
        """
        self.require(model)
        made, text = copy.deepcopy(model), _Text()
        if text.is_read_by(self.parts):
            text.follow(made)
        places = made.places()
        for site, edit in self.edits(text).items():
            place = places[Site(site)]
            if isinstance(place, Tap):
                place.register_forward_hook(lambda tap, args, value, edit=edit: edit(value))
                made.watchers += 1
            else:
                with torch.no_grad():
                    place.owner.get_parameter(place.name).copy_(edit(place.owner.get_parameter(place.name)))
        return made

    def edits(self, text: _Text, observe: Observe | None = None) -> dict[str, Edit]:
        """Return what is put at each site, for `model.tapped`. What a codec reads is read as the model would: behind
        what another codec leaves there."""
        found: dict[str, Edit] = {}
        keeping: dict[str, Edit] = {}
        for site, part in self.parts.items():
            if site.is_weight:
                found[site] = _weight_edit(site, part.codec, observe)
                continue
            held: list[Tensor] = []
            if part.reads is not None:
                keeping[part.reads] = _chained(keeping.get(part.reads), _keeping(held))
            found[site] = _activation_edit(site, part, held, text, observe)
        for site, keep in keeping.items():
            found[site] = _chained(found.get(site), keep)
        return found

    def require(self, model: Transformer) -> None:
        """Raise UsageError where a model is not the one that the codecs were fitted to, or lacks one of the sites."""
        places = model.places()
        for site in self.parts:
            if site not in places:
                raise UsageError(f"the model has no site {site}, where this compressor stands: give the model it is of")
        found = weights_of(model) if self.model else ""
        if found != self.model:
            raise UsageError(
                f"this compressor belongs to a model whose weights are {self.model[:12]}, and these are {found[:12]}:"
                " give that model, or compress this one"
            )

    def cost(self) -> Cost:
        """Return the sum of the parts' costs."""
        return total([part.codec.cost() for part in self.parts.values()])


def total(costs: list[Cost]) -> Cost:
    """Return what several codes take together: of dimensions, and of bits, the sum over those that have any."""
    if len(costs) == 1:
        return costs[0]
    dimensions = [cost.dimensions for cost in costs if cost.dimensions is not None]
    bits = [cost.bits for cost in costs if cost.bits is not None]
    return Cost(
        sum(dimensions) if dimensions else None,
        sum(bits) if bits else None,
        sum(cost.parameters for cost in costs),
        sum((cost.flops for cost in costs), 0.0),
        sum((cost.to_json()["storage"] for cost in costs), 0.0),
    )


def weights_of(model: nn.Module) -> str:
    """Return the SHA-256 of a model's parameters, by name. Half precision is read in fp32, which holds it exactly: a
    model is itself in both."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        held = weight.detach().float() if weight.dtype in (torch.bfloat16, torch.float16) else weight.detach()
        digest.update(f"{name} {held.dtype} {list(held.shape)}\n".encode())
        digest.update(held.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def text_of(tokens: Int[Tensor, "B T"], given: Mapping[str, Any]) -> Text:
    """Return what is known of the tokens of a model's call: with a past, the first follows the last that was read; and
    where there is padding before a token, there is no token before it.

    Args:
        tokens: the texts.
        given: what else the model is called with: `past`, `positions` and `present` count.
    """
    past, positions, present = (given.get(name) for name in ("past", "positions", "present"))
    text = Text.of(tokens, 0 if past is None else past.length)
    before = text.before
    if past is not None and past.last is not None:
        before = torch.cat((past.last, before[:, 1:]), 1)
    if present is not None:
        there = torch.nn.functional.pad(present, (1, 0))[:, -tokens.shape[1] - 1 : -1]
        before = before.masked_fill(~there, -1)
    return Text(tokens, before, text.position if positions is None else positions)


class _Text:
    """The tokens that a model was last called with."""

    def __init__(self) -> None:
        self.now: tuple[Text, ...] = ()

    @staticmethod
    def is_read_by(parts: Mapping[Site, Part]) -> bool:
        return any(part.codec.reads_text for part in parts.values())

    def follow(self, model: nn.Module) -> Callable[[], None]:
        """Take note of the tokens of every call from now on; returns what ends that."""

        def note(module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            self.now = (text_of(args[0] if args else given["tokens"], given),)

        return model.register_forward_pre_hook(note, with_kwargs=True).remove


def _keeping(held: list[Tensor]) -> Edit:
    def keep(value: Tensor) -> Tensor:
        held[:] = [value]
        return value

    return keep


def _chained(first: Edit | None, then: Edit) -> Edit:
    return then if first is None else lambda value: then(first(value))


def _activation_edit(site: Site, part: Part, held: list[Tensor], text: _Text, observe: Observe | None) -> Edit:
    codec = part.codec

    def edit(value: Tensor) -> Tensor:
        x = as_vectors(site, value)
        read = x if part.reads is None else as_vectors(part.reads, held.pop())
        y = codec(read, *text.now) if codec.reads_text else codec(read)
        if observe is not None:
            observe(site, x, y)
        return y.reshape(value.shape).to(value.dtype)

    return edit


def _weight_edit(site: Site, codec: Codec, observe: Observe | None) -> Edit:
    def edit(weight: Tensor) -> Tensor:
        matrix = as_matrix(site, weight)
        smaller = cast(Tensor, codec(matrix))
        if observe is not None:
            observe(site, matrix, smaller)
        return smaller.reshape(weight.shape)

    return edit
