"""A world as text: rows of cells, goals in colour with their numbers, and who stands where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etude.report.colour import SERIES, legible

if TYPE_CHECKING:
    from rich.text import Text

    from etude.culture.goal_cycle import GoalCycle

WALL, SLOW, FREE = "###", " ~ ", " · "


def board(game: GoalCycle, player: int) -> Text:
    """Return the first world of a game as one player has it before its eyes. Goals have the numbers of their colours,
    from 1; `@` is the player."""
    from rich.text import Text

    layout, size = game.layout, game.layout.size
    goals = {int(cell): colour for colour, cell in enumerate(layout.goals[0]) if cell >= 0}
    here = int(game.cells[0, player])
    drawn = Text("+" + "---" * size + "+\n")
    for row in range(size):
        drawn.append("|")
        for cell in range(row * size, (row + 1) * size):
            if cell in goals:
                number = str(goals[cell] + 1)
                face = f"@{number}".ljust(3) if cell == here else number.center(3)
                drawn.append(face, _style(goals[cell]))
            elif cell == here:
                drawn.append(f" @{'~' if layout.slow[0, cell] else ' '}", "bold")
            else:
                drawn.append(WALL if layout.walls[0, cell] else SLOW if layout.slow[0, cell] else FREE, "dim")
        drawn.append("|\n")
    return drawn.append("+" + "---" * size + "+")


def order(game: GoalCycle, player: int) -> Text:
    """Return the hidden order of the goals in a line, the one that counts next in brackets."""
    from rich.text import Text

    following, following_now = game.layout.following[0], int(game.next[0, player])
    first = colour = next(c for c, cell in enumerate(game.layout.goals[0]) if cell >= 0)
    drawn = Text("order ")
    while True:
        number = f"{colour + 1}"
        drawn.append(f"[{number}]" if colour == following_now else f" {number} ", _style(colour))
        colour = int(following[colour])
        if colour == first:
            return drawn.append(" and round again" + (", from any" if following_now < 0 else ""))
        drawn.append(" > ")


def _style(colour: int) -> str:
    ground = SERIES[colour % len(SERIES)]
    return f"bold {legible(ground)} on {ground}"
