"""Whether the stream is the sum of what was written, and its end is divided among the writers."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close, shown
from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask of several layers, of one and of none, then for shares and their gradient."""
    L, T = exam.sizes(2, least=3, most=6)
    D = L + T + 3
    for layers, positions in ((L, T), (1, 1), (0, T)):
        given = _writes(exam, layers, positions, D)
        embedding, attention, feed_forward = given
        got = theirs.residual_stream(*given)
        exam.ask(
            not isinstance(got, Tensor) or got.shape != (layers, positions, D),
            f"the stream has {layers} entries for {layers} layers: it is before each layer and after the last, so one"
            " is missing (is the embedding, x_0, there?)",
        )
        exam.shaped(got, (layers + 1, positions, D), "your stream", axes=("L + 1", "T", "D"))
        want = _stream(*given)
        both = attention + feed_forward
        nothing = torch.zeros_like(embedding)[None]
        unless = {
            "the embedding is missing in the sum: the stream begins with it and carries it to the end": torch.cat(
                (nothing, both.cumsum(0))
            ),
            "each entry is what one layer wrote alone: the stream keeps all that was written before": torch.cat(
                (embedding[None], both)
            ),
            "each layer is added to the embedding alone: it adds to what the layers before left": (
                embedding + torch.cat((nothing, both))
            ),
            "what the feed-forward networks write is missing in the sum": _stream(embedding, attention, both * 0),
            "what attention writes is missing in the sum": _stream(embedding, both * 0, feed_forward),
            "the sum runs over positions: nothing moves between positions here, the sum runs over layers": torch.cat(
                (embedding[None], both)
            ).cumsum(1),
        }
        exam.same(got, want, "your stream", unless=unless, axes=("entry", "position", "d"))
    exam.gradients(theirs.residual_stream, _stream, _named(_writes(exam, L, T, D)), "your stream")
    for layers, positions in ((L, T), (2, 1), (0, T)):
        given = _writes(exam, layers, positions, D)
        got = theirs.shares(*given)
        exam.shaped(got, (1 + 2 * layers, positions), "your table of shares", axes=("1 + 2 L", "T"))
        want = _shares(*given)
        exam.same(
            got,
            want,
            "your table of shares",
            unless=_mistakes(given, got),
            axes=("component", "position"),
            tolerance=1e-3,
        )
    exam.gradients(theirs.shares, _shares, _named(_writes(exam, 2, T, D)), "your table of shares")


def _writes(exam: Exam, layers: int, positions: int, D: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return an embedding and writes that together leave a stream well away from 0."""
    embedding = exam.normal(positions, D) + 1.5
    return embedding, exam.normal(layers, positions, D, scale=0.5), exam.normal(layers, positions, D, scale=0.5) + 0.2


def _named(given: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    return dict(zip(("the embedding", "attention", "feed_forward"), given, strict=True))


def _stream(embedding: Tensor, attention: Tensor, feed_forward: Tensor) -> Tensor:
    """Return the stream, added up layer by layer."""
    x = [embedding]
    for a, f in zip(attention, feed_forward, strict=True):
        x.append(x[-1] + a + f)
    return torch.stack(x)


def _components(embedding: Tensor, attention: Tensor, feed_forward: Tensor) -> list[Tensor]:
    layers = [each for pair in zip(attention, feed_forward, strict=True) for each in pair]
    return [embedding, *layers]


def _shares(embedding: Tensor, attention: Tensor, feed_forward: Tensor) -> Tensor:
    """Return the shares, one component and one position at a time."""
    parts, end = _components(embedding, attention, feed_forward), _stream(embedding, attention, feed_forward)[-1]
    return torch.stack([torch.stack([c.dot(x) / x.dot(x) for c, x in zip(part, end, strict=True)]) for part in parts])


def _mistakes(given: tuple[Tensor, Tensor, Tensor], got: Tensor) -> dict[str, Tensor]:
    """Return what known mistakes give for the shares, by what is said of them."""
    parts, right = torch.stack(_components(*given)), _shares(*given)
    end = parts.sum(0)
    size, whole = parts.norm(dim=-1), end.norm(dim=-1)
    grouped = torch.cat((right[:1], right[1::2], right[2::2]))
    said = {
        "the components are in another order: attention and feed-forward take turns, layer by layer, as they are"
        " written": grouped,
        "the shares compare norms: a component that points against the sum, or across it, counts in full. Take inner"
        " products with x_L": size / size.sum(0),
        "the shares are norms over the norm of x_L: a component that points across the sum adds nothing along it": size
        / whole,
        "the shares are squared norms over that of x_L: these add up to 1 only if the components are perpendicular": (
            size / whole
        )
        ** 2,
        "the shares are divided by |x_L|, not by its square: they add up to |x_L|": right * whole,
        "the shares are cosines: divided by the component's own length too, they do not add up to 1": (
            right * whole / size
        ),
    }
    total = got.sum(0)
    if not close(total, torch.ones_like(total), 1e-3):
        said[f"the shares at position 0 add up to {shown(total[0])}, and should add up to 1"] = got
    return said
