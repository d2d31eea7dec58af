"""Whether positions read the neighbours of chunks that are complete, and come back to where they were."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask about texts whose last chunk is complete or not, shorter than a chunk, and about chunks of one position."""
    size = exam.random.randint(3, 5)
    more = exam.random.randint(1, size - 2)
    for positions, m in ((3 * size + more, size), (3 * size, size), (size, size), (size - 1, size), (1, 2), (4, 1)):
        _reads(theirs, positions, m, exam)
    for positions, m in ((3 * size + more, size), (3 * size, size), (3 * size - 1, size), (size, size), (4, 1)):
        _divides(theirs, positions, m, exam)
        _joins(theirs, positions, m, exam)
    for positions in (size - 1, 1):
        _divides(theirs, positions, size, exam)
        _joins(theirs, positions, size, exam)
    x = exam.normal(2, 2 * size + 1, 3)
    exam.gradients(
        lambda x: theirs.join(theirs.divide(x, size), x.shape[1]),
        lambda x: torch.cat([torch.zeros_like(x[:, : size - 1]), x[:, size - 1 :]], dim=1),
        {"x": x},
        "what you divide and join again",
    )


def _lots(positions: int, m: int) -> list[list[int]]:
    """Return, by going through the chunks of a text, the positions that read each one's neighbours."""
    found = []
    for chunk in range(positions // m):
        last = chunk * m + m - 1
        found.append([t for t in range(last, last + m) if t < positions])
    return found


def _reads(theirs: Any, T: int, m: int, exam: Exam) -> None:
    want = [-1] * T
    for chunk, readers in enumerate(_lots(T, m)):
        for t in readers:
            want[t] = chunk
    t = torch.arange(T)
    right = torch.tensor(want)
    exam.same(
        theirs.chunk_read(T, m),
        right,
        f"your chunk for each of {T} positions, in chunks of {m},",
        unless={
            "each position reads the neighbours of its own chunk, which were found by tokens in its future": t // m,
            "each position reads the chunk before its own: the last one of a chunk may already read its chunk's own": (
                t // m - 1
            ),
            "every position reads one chunk too far: the last position of chunk u reads the neighbours of chunk u": (
                (t + 1) // m
            ),
            "the first m - 1 positions read nothing, which is -1: no chunk is complete yet": right.clamp(min=0),
            "the last position of a chunk does read, the chunk's own neighbours, and one position is late here": (
                torch.cat([torch.tensor([-1]), right[:-1]])
            ),
            "the shift goes the wrong way: m - 1 is taken from the position, not added to it": (t + m - 1) // m,
        },
        axes=("position",),
    )


def _laid(x: Tensor, m: int, lots: list[list[int]]) -> Tensor:
    """Return positions in lots of m, with zeros where one is not full."""
    out = x.new_zeros(x.shape[0], len(lots), m, x.shape[2])
    for u, readers in enumerate(lots):
        for place, t in enumerate(readers):
            out[:, u, place] = x[:, t]
    return out


def _divides(theirs: Any, T: int, m: int, exam: Exam) -> None:
    x = exam.normal(exam.random.choice((1, 2)), T, 3)
    got, want = theirs.divide(x, m), _laid(x, m, _lots(T, m))
    what = f"what you divide, with T = {T} and m = {m},"
    axes = ("batch", "chunk", "place", "width")
    exam.shaped(got, want.shape, what, axes)
    U, front, full = want.shape[1], max(m - 1, 0), max(want.shape[1] * m - (T - m + 1), 0)

    def laid(starts: int, before: int = 0) -> Tensor:
        """Return the positions from one on, after some zeros, in lots."""
        flat = torch.cat([x.new_zeros(x.shape[0], before, 3), x[:, starts:], x.new_zeros(x.shape[0], 2 * m, 3)], 1)
        return flat[:, : U * m].reshape(want.shape)

    turned = laid(front).flatten(1, 2).reshape(x.shape[0], m, U, 3).transpose(1, 2)
    exam.same(
        got,
        want,
        what,
        unless={
            "position 0 is in what you divide: the first m - 1 positions read nothing, and are left out": laid(0),
            "m positions are left out at the front, and m - 1 read nothing: the last of chunk 0 reads its neighbours": (
                laid(m)
            ),
            "the zeros stand at the front: the last of the U is the one that may not be full": laid(front, full),
            "neighbouring positions are spread over all chunks: [:, u] has m that follow one another": turned,
        },
        axes=axes,
    )


def _joins(theirs: Any, T: int, m: int, exam: Exam) -> None:
    x = exam.normal(exam.random.choice((1, 2)), T, 3)
    lots = _lots(T, m)
    y = exam.normal(x.shape[0], len(lots), m, 3)
    want = torch.zeros_like(x)
    for u, readers in enumerate(lots):
        for place, t in enumerate(readers):
            want[:, t] = y[:, u, place]
    got = theirs.join(y, T)
    what = f"what you join, with T = {T} and m = {m},"
    axes = ("batch", "position", "width")
    exam.shaped(got, want.shape, what, axes)
    flat = torch.cat([y.flatten(1, 2), torch.zeros(x.shape[0], T + m, 3)], dim=1)
    exam.same(
        got,
        want,
        what,
        unless={
            "what the lots hold begins at position 0: the first m - 1 positions read nothing, and have zeros": (
                flat[:, :T]
            ),
            "what the lots hold begins at position m, and should at m - 1": (
                torch.cat([torch.zeros(x.shape[0], m, 3), flat], dim=1)[:, :T]
            ),
            "what the lots hold is moved to the end of the text: a lot that is not full ends with entries to drop": (
                torch.cat([torch.zeros(x.shape[0], T, 3), y.flatten(1, 2)], dim=1)[:, -T:]
            ),
            "the places inside a lot stand for the lots themselves: [:, u] has m positions that follow one another": (
                torch.cat([torch.zeros(x.shape[0], m - 1, 3), y.transpose(1, 2).flatten(1, 2)], dim=1)[:, :T]
            ),
        },
        axes=axes,
    )
