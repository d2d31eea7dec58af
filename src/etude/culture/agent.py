"""An agent: it reads what it sees, remembers, and says what it does, what it expects, and where the others are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from etude.culture.memories.base import Memory
from etude.culture.remembering import Kept
from etude.culture.routes import ACTIONS
from etude.nn.linear import linear, weight
from etude.nn.taps import Tap, Tappable


class Thought(NamedTuple):
    """What an agent makes of what it saw.

    Attributes:
        log_p: of each action.
        value: the discounted reward that it expects from here on.
        others: where it thinks each other player stands, relative to itself: rows and columns, as shares of the side.
        kept: what it remembers.
    """

    log_p: Float[Tensor, "B T A"]
    value: Float[Tensor, "B T"]
    others: Float[Tensor, "B T O"]
    kept: Kept


class Agent(Tappable):
    """One layer that reads, a memory, and three linear maps that read the memory (arXiv 2203.00715, section 3).

    Sites: `embed.out` [B T D], `memory.out` [B T D] with what the memory has within, `logits` [B T V] with the actions
    as vocabulary, `value` [B T 1].

    Args:
        seen: W, how many numbers it sees.
        width: D.
        memory: of which kind.
        others: how many other players there are.
        steps: of the longest episode.
    """

    def __init__(self, seen: int, width: int, memory: Memory, others: int, steps: int) -> None:
        super().__init__()
        self.embed = Embed(seen, width)
        self.memory = memory.build(width, steps)
        self.axes = {"W_act": "D V", "b_act": "V", "W_value": "D 1", "b_value": "1"}
        self.W_act, self.b_act = weight(width, ACTIONS), weight(ACTIONS)
        self.W_value, self.b_value = weight(width, 1), weight(1)
        self.W_others, self.b_others = weight(width, 2 * others), weight(2 * others)
        self.logits, self.value = Tap("B T V", V=ACTIONS), Tap("B T 1")

    def forward(self, seen: Float[Tensor, "B T W"], kept: Kept = None) -> Thought:
        x, kept = self.memory(self.embed(seen), kept)
        log_p = torch.log_softmax(self.logits(linear(x, self.W_act, self.b_act)), dim=-1)
        value = self.value(linear(x, self.W_value, self.b_value)).squeeze(-1)
        return Thought(log_p, value, linear(x, self.W_others, self.b_others), kept)

    def begin(self, draw: torch.Generator) -> None:
        """Draw the weights: orthogonal, small where an action is chosen, so that none is preferred at first."""
        for name, parameter in self.named_parameters():
            last = name.rpartition(".")[2]
            if last in ("w", "b") or last.startswith("b_"):
                nn.init.constant_(parameter, 1.0 if last == "w" else 0.0)
            elif "layers." in name:  # of a transformer
                nn.init.normal_(parameter, std=0.02 if last in ("W_O", "W_out") else 0.06, generator=draw)
            else:
                gain = {"W_act": 0.01, "W_seen": 2**0.5}.get(last, 1.0)
                nn.init.orthogonal_(parameter.data.mT if last == "W_seen" else parameter.data, gain, generator=draw)


class Embed(nn.Module):
    """relu(seen W + b). Site: `out` [B T D]."""

    def __init__(self, seen: int, width: int) -> None:
        super().__init__()
        self.axes = {"W_seen": "N D", "b_seen": "D"}
        self.W_seen, self.b_seen = weight(seen, width), weight(width)
        self.out = Tap("B T D", D=width)

    def forward(self, seen: Float[Tensor, "B T W"]) -> Float[Tensor, "B T D"]:
        return self.out(torch.relu(linear(seen, self.W_seen, self.b_seen)))
