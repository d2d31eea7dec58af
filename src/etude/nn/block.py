"""One layer of a transformer: each part reads the residual stream and adds what it found to it."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from etude.nn.taps import Tap
from etude.nn.view import PLAIN, View

Part = Callable[[Tensor], Tensor]


def add_post_norm(x: Float[Tensor, "B T D"], part: Part, norm: Part, dropout: Part) -> Float[Tensor, "B T D"]:
    """Return norm(x + part(x)): post-norm, as in Vaswani et al. 2017, section 3.1."""
    return norm(x + dropout(part(x)))


def add_pre_norm(x: Float[Tensor, "B T D"], part: Part, norm: Part, dropout: Part) -> Float[Tensor, "B T D"]:
    """Return x + part(norm(x)): pre-norm, as in GPT-2 (Radford et al. 2019, section 2.3). The stream stays linear."""
    return x + dropout(part(norm(x)))


def unchanged(x: Tensor) -> Tensor:
    """Stand for a dropout that drops nothing: even the call of a module that does nothing takes a small model long."""
    return x


class Stream(nn.Module):
    """The residual stream's sites in one layer: `pre` and `post` it, `mid` before the feed-forward and `cross` before
    the cross-attention, where the layer has them and they do not read what attention reads."""

    def __init__(self, width: int, cross: bool, mid: bool) -> None:
        super().__init__()
        self.pre = Tap("B T D", D=width)
        if cross:
            self.cross = Tap("B T D", D=width)
        if mid:
            self.mid = Tap("B T D", D=width)
        self.post = Tap("B T D", D=width)


class Block(nn.Module):
    """Attention, then cross-attention, then feed-forward, each with its norm. What a block does not have leaves no
    trace in it.

    Args:
        width: of the residual stream.
        attention: any module from [B T D] and a view to [B T D].
        feed_forward: from [B T D] to [B T D], or None for an attention-only block.
        norm: makes one norm, or is None for a block without norms.
        post_norm: whether the norm comes after the addition, as in 2017, or before the part reads, as since GPT-2.
        dropout: chance that a number written to the stream is dropped while training.
        cross: attention that reads the view's source, in a decoder that has an encoder.
        parallel: whether attention and feed-forward read the same stream, each through its norm, and are added
            together (GPT-NeoX, Black et al. 2022, section 2.1). Pre-norm alone.
    """

    def __init__(
        self,
        width: int,
        attention: nn.Module,
        feed_forward: nn.Module | None = None,
        norm: Callable[[], nn.Module] | None = None,
        post_norm: bool = False,
        dropout: float = 0.0,
        cross: nn.Module | None = None,
        parallel: bool = False,
    ) -> None:
        super().__init__()
        make_norm = norm or nn.Identity
        self.parallel = parallel and feed_forward is not None
        self.resid = Stream(width, cross is not None, mid=feed_forward is not None and not self.parallel)
        self.attn_norm, self.attn = make_norm(), attention
        if cross is not None:
            self.cross_norm = make_norm()
        self.cross = cross
        if feed_forward is not None:
            self.mlp_norm = make_norm()
        self.mlp = feed_forward
        self.dropout = nn.Dropout(dropout) if dropout else unchanged
        self._add = add_post_norm if post_norm else add_pre_norm

    def forward(self, x: Float[Tensor, "B T D"], view: View = PLAIN) -> Float[Tensor, "B T D"]:
        if self.parallel and self.mlp is not None:
            x = self.resid.pre(x)
            attended = self.dropout(self.attn(self.attn_norm(x), view))
            return self.resid.post(x + attended + self.dropout(self.mlp(self.mlp_norm(x))))
        return self.from_cross(self.to_cross(x, view), view)

    def to_cross(self, x: Float[Tensor, "B T D"], view: View = PLAIN) -> Float[Tensor, "B T D"]:
        """Return the stream after attention: the first half of a block that is not parallel."""
        return self._add(self.resid.pre(x), lambda y: self.attn(y, view), self.attn_norm, self.dropout)

    def from_cross(self, x: Float[Tensor, "B T D"], view: View = PLAIN) -> Float[Tensor, "B T D"]:
        """Return what the block makes of the stream after attention: cross-attention and feed-forward."""
        if self.cross is not None and view.crossing:
            cross = self.cross
            x = self._add(self.resid.cross(x), lambda y: cross(y, view), self.cross_norm, self.dropout)
        if self.mlp is not None:
            x = self._add(self.resid.mid(x), self.mlp, self.mlp_norm, self.dropout)
        return self.resid.post(x)
