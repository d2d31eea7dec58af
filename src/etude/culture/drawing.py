"""A walk as a picture: the world, the hidden order, who went where, and the scores.

Goals have a colour and a number, players a shape: the learner a disc, an expert a diamond, hollow while it is not seen.
"""

from __future__ import annotations

from itertools import groupby
from xml.sax.saxutils import escape

import numpy as np
from jaxtyping import Bool

from etude.culture.walk import Walk
from etude.report.colour import GROUND, INK, LESS, SERIES, SOFT, legible

CELL, MARGIN, TOP, ROW = 44, 16, 52, 24
EXPERT = SERIES[7]
PLACES = ((-0.26, 0.28), (0.26, -0.28), (0.26, 0.28), (-0.26, -0.28))
"""Where in a cell each player stands, as shares of it, so that all can be seen in one."""
FONT = "ui-sans-serif, system-ui, sans-serif"


def svg(walk: Walk) -> str:
    """Return a walk as it stands at its end, with the paths, as one SVG element."""
    players = len(walk.names)
    _, right, low = clock(walk)
    width, height = right + MARGIN, low + 36
    parts = [
        f'<rect class="ground" width="{width}" height="{height}" fill="{GROUND}"/>',
        *_order(walk),
        *_world(walk),
        *_paths(walk),
        *(part for player in reversed(range(players)) for part in _player(walk, player)),
        *_scores(walk, low - 14 - players * ROW),
        *_line_of_time(walk),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' font-family="{FONT}" font-size="13">{"".join(parts)}</svg>'
    )


def _order(walk: Walk) -> list[str]:
    """The hidden order as a row of goals; the last leads to the first again."""
    parts = [_text(MARGIN, 30, "order", SOFT, "soft")]
    x = MARGIN + 56
    for place, colour in enumerate([*walk.order, walk.order[0]]):
        again = place == len(walk.order)
        parts.append(_goal(x, 26, 11, colour, 0.45 if again else 1.0))
        if not again:
            arrow = f"M{x + 15} 26h10m-4 -4l4 4l-4 4"
            parts.append(f'<path class="line" d="{arrow}" fill="none" stroke="{SOFT}" stroke-width="1.4"/>')
        x += 40
    return parts


def _world(walk: Walk) -> list[str]:
    layout, size = walk.layout, walk.layout.size
    side = size * CELL
    parts = [f'<rect x="{MARGIN}" y="{TOP}" width="{side}" height="{side}" fill="{SOFT}" fill-opacity="0.07"/>']
    for n in range(size + 1):
        along = f"M{MARGIN} {TOP + n * CELL}h{side}M{MARGIN + n * CELL} {TOP}v{side}"
        parts.append(f'<path d="{along}" fill="none" stroke="{SOFT}" stroke-opacity="0.16"/>')
    for cell in range(size * size):
        x, y = _corner(walk, cell)
        if layout.walls[0, cell]:
            parts.append(
                f'<rect class="ink" x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{INK}" opacity="0.8"/>'
            )
        elif layout.slow[0, cell]:
            waves = "".join(f"M{x + 5} {y + down}q5.6 -6 11.3 0t11.3 0t11.3 0" for down in (14, 24, 34))
            parts.append(f'<path class="line" d="{waves}" fill="none" stroke="{SOFT}" stroke-opacity="0.55"/>')
    for colour in walk.order:
        x, y = _corner(walk, int(layout.goals[0, colour]))
        parts.append(_goal(x + CELL / 2, y + CELL / 2, 17, colour))
    return parts


def _paths(walk: Walk) -> list[str]:
    parts = []
    for player in reversed(range(len(walk.names))):
        cells = [cell for cell, _ in groupby(walk.cells[:, player].tolist())]
        if len(cells) > 1:
            points = " ".join(f"{x:.4g},{y:.4g}" for x, y in (place(walk, cell, player) for cell in cells))
            length, faint = len(cells) - 1, 0.75 if player == 0 else 0.45
            colour, kind = (INK, "line") if player == 0 else (EXPERT, "deep")
            parts.append(
                f'<polyline data-part="path{player}" class="{kind}" points="{points}" fill="none" stroke="{colour}"'
                f' stroke-opacity="{faint}" stroke-width="2" stroke-linejoin="round" stroke-linecap="butt"'
                f' pathLength="{length}" stroke-dasharray="{length} {length}"/>'
            )
    return parts


def _player(walk: Walk, player: int) -> list[str]:
    """A player where it ends. One that is seen no more is hollow; both faces are there, and one of them shows."""
    x, y = place(walk, int(walk.cells[-1, player]), player)
    if player == 0:
        shape = f'<circle r="7.5" fill="{INK}" stroke="{GROUND}" stroke-width="1.6"/>'
        return [f'<g data-part="player0" transform="translate({x:.4g} {y:.4g})">{shape}</g>']
    seen, faces = bool(walk.seen[-1]), []
    for face, kind, fill, shows in (("seen", "deep", EXPERT, seen), ("unseen", "deep hollow", GROUND, not seen)):
        edge = f'stroke="{EXPERT}" stroke-width="1.8" stroke-dasharray="{"4 0" if face == "seen" else "3 2"}"'
        faces.append(
            f'<path data-part="{face}{player}" class="{kind}" d="M0 -9.5L9.5 0L0 9.5L-9.5 0Z" fill="{fill}" {edge}'
            f' opacity="{int(shows)}"/>'
        )
    return [f'<g data-part="player{player}" transform="translate({x:.4g} {y:.4g})">{"".join(faces)}</g>']


def _scores(walk: Walk, y: int) -> list[str]:
    """Each player's score, as a strip of numbers behind a window of one."""
    parts = []
    for player, name in enumerate(walk.names):
        middle = y + player * ROW + ROW / 2
        shown, x = list(enumerate(strip(walk, player))), MARGIN + 8
        if player == 0:
            parts.append(f'<circle cx="{x}" cy="{middle}" r="6.5" fill="{INK}" stroke="{GROUND}" stroke-width="1.4"/>')
        else:
            parts.append(f'<path class="deep" d="M{x} {middle - 8}l8 8l-8 8l-8 -8Z" fill="{EXPERT}"/>')
        parts.append(_text(MARGIN + 26, middle + 4.5, name, INK, "ink"))
        numbers = "".join(_text(0, n * ROW + 17, f"{score}".replace("-", "−"), INK, "ink") for n, (_, score) in shown)
        last = -(len(shown) - 1) * ROW
        parts.append(
            f'<svg x="{MARGIN + 120}" y="{middle - ROW / 2}" width="40" height="{ROW}" viewBox="0 0 40 {ROW}">'
            f'<g data-part="score{player}" transform="translate(0 {last})">{numbers}</g></svg>'
        )
    return parts


def clock(walk: Walk) -> tuple[int, int, int]:
    """Return where the line of time begins, where it ends, and how far down it is."""
    side, rows = walk.layout.size * CELL, len(walk.names) * ROW
    return MARGIN, MARGIN + max(side, 260), TOP + side + MARGIN + rows + 14


def _line_of_time(walk: Walk) -> list[str]:
    """The steps from left to right: a bar while the others are seen, a tick up for a right goal of the first player and
    one down for a wrong one, and where the others leave."""
    _, right, y = clock(walk)
    width = right - MARGIN
    step = width / len(walk.seen)
    parts = [f'<path class="line" d="M{MARGIN} {y}h{width}" stroke="{SOFT}" stroke-width="1"/>']
    if len(walk.names) > 1:
        for begin, end in stretches(walk.seen):
            box = f'x="{MARGIN + begin * step:.5g}" y="{y - 2}" width="{(end - begin) * step:.5g}" height="4"'
            parts.append(f'<rect class="deep" {box} fill="{EXPERT}"/>')
    for at in np.flatnonzero(walk.entered[:, 0]):
        long, colour = (-9, SERIES[2]) if walk.entered[at, 0] > 0 else (9, LESS)
        parts.append(f'<path d="M{MARGIN + (at + 1) * step:.5g} {y}v{long}" stroke="{colour}" stroke-width="2"/>')
    if walk.leaves is not None and len(walk.names) > 1:
        x = MARGIN + walk.leaves * step
        mark = f'd="M{x:.5g} {y - 11}v22" stroke="{EXPERT}" stroke-width="1.4" stroke-dasharray="2 2"'
        parts.append(f'<path class="deep" {mark}/>')
        face = f'fill="{SOFT}" font-size="11" text-anchor="{"end" if x > width / 2 else "start"}"'
        words = f"{escape(walk.names[1])} {'leaves' if walk.leaves else 'is never seen'}"
        parts.append(f'<text class="soft" x="{x:.5g}" y="{y + 20}" {face}>{words}</text>')
    head = f'<circle class="ink" r="4" fill="{INK}"/>'
    return [*parts, f'<g data-part="now" transform="translate({MARGIN + width:.5g} {y})">{head}</g>']


def strip(walk: Walk, player: int) -> list[tuple[int, int]]:
    """Return the scores one after another, each with the step after which it held first."""
    scores = walk.scores[:, player]
    changes = np.flatnonzero(np.diff(scores)) + 1
    return [(int(at), int(scores[at])) for at in (0, *changes)]


def stretches(seen: Bool[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """Return where each stretch that is seen begins and ends, the end not in it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def _corner(walk: Walk, cell: int) -> tuple[int, int]:
    row, column = divmod(cell, walk.layout.size)
    return MARGIN + column * CELL, TOP + row * CELL


def place(walk: Walk, cell: int, player: int) -> tuple[float, float]:
    """Return where a player is drawn that stands in a cell."""
    x, y = _corner(walk, cell)
    right, down = PLACES[player % len(PLACES)]
    return x + CELL * (0.5 + right), y + CELL * (0.5 + down)


def _goal(x: float, y: float, radius: float, colour: int, opacity: float = 1.0) -> str:
    ground = SERIES[colour % len(SERIES)]
    disc = f'<circle cx="{x:.4g}" cy="{y:.4g}" r="{radius}" fill="{ground}"/>'
    face = f'fill="{legible(ground)}" font-weight="700" text-anchor="middle"'
    number = f'<text x="{x:.4g}" y="{y + 4.6:.4g}" {face}>{colour + 1}</text>'
    return f'<g opacity="{opacity:g}">{disc}{number}</g>'


def _text(x: float, y: float, words: str, colour: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.4g}" y="{y:.4g}" fill="{colour}">{escape(words)}</text>'
