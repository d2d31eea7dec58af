"""Beam search: the best texts so far are kept side by side, and the best of all is given at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from etude.models.reading import Reader
from etude.models.sampling import Sampling
from etude.models.writing import Generated, Request, Writing
from etude.text.tokenizers.live import Tokenizer


def length_penalty(length: int, power: float) -> float:
    """Return ((5 + length) / 6)^power, which a text's log-probability is divided by (Wu et al. 2016, equation 14)."""
    return ((5 + length) / 6) ** power


class Search:
    """The beams of one prompt: those that go on, and the texts that have ended.

    A text that ended is scored by its log-probability over the length penalty, the end token counted in its length. The
    search is over when no beam can come to a better score than the best text has: a beam's log-probability only falls,
    and the penalty of the longest text is the kindest. So with as many beams as there are beginnings of any length
    the best text of all is found. With fewer, what is best may begin badly and be lost: more beams can then find a
    worse text than fewer, or than the greedy one, which one beam finds where the length penalty is 0.

    Args:
        beams: how many.
        power: of the length penalty.
        most: tokens of the longest text.
        end: the end token.
    """

    def __init__(self, beams: int, power: float, most: int, end: int) -> None:
        self.beams, self.power, self.most, self.end = beams, power, most, end
        self.live: list[tuple[tuple[int, ...], tuple[float, ...]]] = [((), ())]
        self.ended: list[tuple[float, tuple[int, ...], tuple[float, ...]]] = []
        self.totals = [0.0]

    @property
    def over(self) -> bool:
        """Whether nothing better can come."""
        if not self.live:
            return True
        if not self.ended:
            return False
        return self.ended[0][0] >= max(self.totals) / length_penalty(self.most, self.power)

    def grow(self, candidates: Sequence[tuple[float, int, int, float]]) -> list[tuple[int, int]]:
        """Take the best candidates, best first, and return the beams that go on: which one each continues, and by which
        token.

        Args:
            candidates: log-probability of the whole text, the beam it continues, its new token, and that token's
                log-probability. Twice as many as there are beams are enough: only one of each beam's ends.
        """
        chosen: list[tuple[int, int]] = []
        live, totals = [], []
        for total, beam, token, value in candidates:
            if total == -math.inf or len(chosen) == self.beams:
                break
            ids, values = (*self.live[beam][0], token), (*self.live[beam][1], value)
            if token == self.end or len(ids) == self.most:
                self._end(total, ids, values)
            else:
                chosen.append((beam, token))
                live.append((ids, values))
                totals.append(total)
        self.live, self.totals = live, totals
        return chosen

    def _end(self, total: float, ids: tuple[int, ...], values: tuple[float, ...]) -> None:
        score = total / length_penalty(len(ids), self.power)
        self.ended.append((score, ids, values))
        self.ended.sort(key=lambda found: -found[0])
        del self.ended[self.beams :]


@torch.inference_mode()
def beam_search(
    reader: Reader, requests: Sequence[Request], tokenizer: Tokenizer, sampling: Sampling
) -> list[list[Generated]]:
    """Return the best texts found for each prompt, best first, as many as there are beams or fewer.

    Args:
        reader: of the prompts, which has not begun.
        requests: what is asked for, each by the row of its prompt.
        tokenizer: of the model.
        sampling: beams, length penalty; nothing else of it acts.
    """
    W = sampling.beams
    searches = [Search(W, sampling.length_penalty, request.most, tokenizer.end) for request in requests]
    active = searches
    scores = reader.begin([request.before for request in requests]).log_softmax(-1)  # [N, V]
    totals = torch.zeros(len(active), 1, device=reader.device)
    while True:
        chosen = _grow(active, scores, totals, W)
        left = [n for n, search in enumerate(active) if not search.over]
        if not left:
            break
        width = totals.shape[1]
        rows, tokens, totals = _next(left, chosen, active, width, W, reader.device)
        reader.select(rows, sources=width != W or len(left) < len(active))
        active = [active[n] for n in left]
        scores = reader.go_on(tokens).log_softmax(-1)
    return [_texts(search, request, tokenizer, sampling) for search, request in zip(searches, requests, strict=True)]


def _grow(active: list[Search], scores: Tensor, totals: Tensor, beams: int) -> list[list[tuple[int, int]]]:
    """Let each search take its best candidates; return what goes on of each."""
    V, (N, width) = scores.shape[-1], totals.shape
    whole = (totals[:, :, None] + scores.view(N, width, V)).flatten(1)
    best = whole.topk(min(2 * beams, whole.shape[1]), dim=1)
    values = scores.view(N, -1).gather(1, best.indices).tolist()
    chosen = []
    for n, search in enumerate(active):
        places = best.indices[n].tolist()
        found = zip(best.values[n].tolist(), (p // V for p in places), (p % V for p in places), values[n], strict=True)
        chosen.append(search.grow(list(found)))
    return chosen


def _next(
    left: list[int], chosen: list[list[tuple[int, int]]], active: list[Search], width: int, beams: int, device: object
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that the next step continues, their tokens, and the log-probabilities so far [N W]. A search with
    fewer beams than room repeats its first with a log-probability of -inf, from which nothing is taken."""
    rows, tokens, totals = [], [], []
    for n in left:
        missing = beams - len(chosen[n])
        picked = chosen[n] + [chosen[n][0]] * missing
        rows += [n * width + beam for beam, _ in picked]
        tokens += [token for _, token in picked]
        totals.append(active[n].totals + [-math.inf] * missing)
    make = {"device": device}
    return torch.tensor(rows, **make), torch.tensor(tokens, **make), torch.tensor(totals, **make)  # type: ignore[arg-type]


def _texts(search: Search, request: Request, tokenizer: Tokenizer, sampling: Sampling) -> list[Generated]:
    """Return what a search found, best first."""
    found = []
    for _, ids, values in search.ended:
        text = Writing(request, tokenizer, sampling)
        for token, value in zip(ids, values, strict=True):
            text.take(token, value)
        found.append(text.result())
    return found
