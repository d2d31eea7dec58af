"""One layer of a transformer: each part reads the residual stream and adds what it found to it."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from etude.nn.taps import Tap

Part = Callable[[Tensor], Tensor]


def add_post_norm(x: Float[Tensor, "B T D"], part: Part, norm: Part, dropout: Part) -> Float[Tensor, "B T D"]:
    """Return norm(x + part(x)): post-norm, as in Vaswani et al. 2017, section 3.1."""
    return norm(x + dropout(part(x)))


def add_pre_norm(x: Float[Tensor, "B T D"], part: Part, norm: Part, dropout: Part) -> Float[Tensor, "B T D"]:
    """Return x + part(norm(x)): pre-norm, as in GPT-2 (Radford et al. 2019, section 2.3). The stream stays linear."""
    return x + dropout(part(norm(x)))


class Stream(nn.Module):
    """The residual stream's sites in one layer: `pre` and `post` it, and `mid` between attention and feed-forward."""

    def __init__(self, width: int, mid: bool) -> None:
        super().__init__()
        self.pre = Tap("B T D", D=width)
        if mid:
            self.mid = Tap("B T D", D=width)
        self.post = Tap("B T D", D=width)


class Block(nn.Module):
    """Attention, then feed-forward, each with its norm. Without a feed-forward the block has no trace of one.

    Args:
        width: of the residual stream.
        attention: any module from [B T D] to [B T D].
        feed_forward: the same, or None for an attention-only block.
        norm: makes one norm, or is None for a block without norms.
        post_norm: whether the norm comes after the addition, as in 2017, or before the part reads, as since GPT-2.
        dropout: chance that a number written to the stream is dropped while training.
    """

    def __init__(
        self,
        width: int,
        attention: nn.Module,
        feed_forward: nn.Module | None = None,
        norm: Callable[[], nn.Module] | None = None,
        post_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        make_norm = norm or nn.Identity
        self.resid = Stream(width, mid=feed_forward is not None)
        self.attn_norm, self.attn = make_norm(), attention
        if feed_forward is not None:
            self.mlp_norm = make_norm()
        self.mlp = feed_forward
        self.dropout = nn.Dropout(dropout)
        self._add = add_post_norm if post_norm else add_pre_norm

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        x = self.resid.pre(x)
        x = self._add(x, self.attn, self.attn_norm, self.dropout)
        if self.mlp is not None:
            x = self._add(self.resid.mid(x), self.mlp, self.mlp_norm, self.dropout)
        return self.resid.post(x)
