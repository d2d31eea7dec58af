"""`etude play`: a person plays GoalCycle at the keyboard, and what was done is kept to be played back."""

from __future__ import annotations

import inspect
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.exceptions import UnknownOptionError

from etude.cli.complaints import remark
from etude.cli.describe import paragraphs
from etude.cli.fields import no_recipe
from etude.cli.leaves import Asked, grow, name_of, parameters, scan
from etude.cli.subject import app_named, options_of, unknown_flag, with_dashes
from etude.core.errors import UsageError
from etude.culture.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from etude.cli.keys import Key
    from etude.culture.goal_cycle import GoalCycle

command = App("play", help_flags=[], version_flags=[])

FILE = Annotated[str, Parameter(help="where what is played is kept; without it nothing is.")]


@command.default
def _play(*words: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    branch = grow(Setting, None, Asked(scan(words), no_recipe))
    options, paths = options_of(play), {name_of(field.path): field.path for field in branch.leaves()}
    file = inspect.Parameter("file", inspect.Parameter.POSITIONAL_ONLY, annotation=FILE, default="")

    def act(file: str = "", /, **given: Any) -> None:
        setting = branch.build({paths[key]: value for key, value in given.items() if key in paths})
        assert isinstance(setting, Setting)
        play(file, setting, **{key: value for key, value in given.items() if key not in paths})

    act.__annotations__ = {}
    act.__signature__ = inspect.Signature([file, *options.values(), *parameters(branch, no_recipe)])
    app = app_named("etude play", paragraphs(play.__doc__ or ""))
    app.default(act)
    try:
        app([with_dashes(word) for word in words], exit_on_error=False, print_error=False)
    except UnknownOptionError as error:
        flag = error.token.keyword or error.token.value
        raise unknown_flag(flag, branch, options, "etude play") from None


def play(
    file: str,
    setting: Setting,
    /,
    *,
    episodes: Annotated[int, Parameter(name="--episodes", help="how many are played.")] = 3,
    learner: Annotated[
        bool,
        Parameter(name="--learner", negative=(), show_default=False, help="hide the order: play as an agent alone."),
    ] = False,
    seed: Annotated[int, Parameter(name="--seed", help="of the worlds.")] = 0,
    who: Annotated[str, Parameter(name="--who", help="a name that the file keeps.")] = "",
) -> None:
    """Play GoalCycle: arrows or w, a, s, d go, the space bar stays, q leaves and keeps the episodes that are over.

    The goals are to be entered in a hidden order, round and round; any may be the first. The right one counts 1 and a
    wrong one -1. You are the expert, and are told the order; with --learner you are not. The file is an expert
    afterwards: `--expert replayed --expert.file FILE`. Where standard input is no terminal, each letter of a line is a
    key.
    """
    if episodes < 1:
        raise UsageError(f"--episodes {episodes} is none: give 1 or more")
    path = _new(file)
    from etude.cli.keys import pressed

    games = _games(setting, episodes, seed)
    player, kept = 1, []
    with pressed() as keys:
        table = _Table(setting, player, shows_order=not learner)
        try:
            for number, game in enumerate(games):
                actions = table.episode(game, keys, f"episode {number + 1} of {episodes}")
                if actions is None:
                    break
                kept.append(actions)
                if number + 1 < episodes and not table.goes_on(keys):
                    break
        except KeyboardInterrupt:
            remark("")
    table.end(len(kept), episodes)
    if path is None:
        return
    if not kept:
        remark(f"no episode is over, and {path} was not written")
        return
    import numpy as np

    from etude.culture.layout import joined
    from etude.culture.recording import Recording

    when = datetime.now(UTC).isoformat(timespec="seconds")
    layout = joined([game.layout for game in games[: len(kept)]])
    Recording(layout, player, np.array(kept), who, when).save(path)
    remark(f"kept in {path}; it plays again as --expert replayed --expert.file {path}")


def _new(file: str) -> Path | None:
    """Return the path of a file that can be written, or None where none is wanted."""
    if not file:
        return None
    path = Path(file)
    if path.exists():
        raise UsageError(f"{file} exists already: name another file, or remove it")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}: make it, or name another file")
    return path


def _games(setting: Setting, episodes: int, seed: int) -> list[GoalCycle]:
    import numpy as np

    from etude.core.seeds import stream
    from etude.culture.goal_cycle import GoalCycle

    layout = setting.draw(episodes, np.random.default_rng(stream(seed, "play")))
    return [GoalCycle(layout[number : number + 1]) for number in range(episodes)]


class _Table:
    """Where a game is shown and played."""

    def __init__(self, setting: Setting, player: int, *, shows_order: bool) -> None:
        from rich.console import Console

        self.setting, self.player, self.shows_order = setting, player, shows_order
        self.console: Console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.clears = self.console.is_terminal and not self.console.is_dumb_terminal and sys.stdin.isatty()
        self.scores: list[int] = []

    def episode(self, game: GoalCycle, keys: Iterator[Key], title: str) -> list[int] | None:
        """Play one episode to its end and return what was done, or None where the person left before it."""
        import numpy as np

        from etude.cli.keys import QUIT

        score, actions, counted = 0, [], 0
        self._show(game, title, score, counted)
        while len(actions) < self.setting.steps:
            key = next(keys, QUIT)
            if key == QUIT:
                return None
            if not isinstance(key, int):
                continue
            both = np.zeros(game.cells.shape, np.int64)
            both[0, self.player] = key
            counted = int(game.step(both)[0, self.player])
            score += counted
            actions.append(key)
            self._show(game, title, score, counted)
        self.scores.append(score)
        return actions

    def goes_on(self, keys: Iterator[Key]) -> bool:
        """Wait for a key before the next episode, where a person presses them."""
        from etude.cli.keys import QUIT

        if not sys.stdin.isatty():
            return True
        self.console.print("that was the episode; any key goes on, q leaves", markup=False)
        return next(keys, QUIT) != QUIT

    def end(self, done: int, asked: int) -> None:
        """Say how it went."""
        each = ", ".join(map(str, self.scores)) or "none"
        self.console.print(f"{done} of {asked} episodes, scores: {each}", markup=False)

    def _show(self, game: GoalCycle, title: str, score: int, counted: int) -> None:
        from etude.cli.board import board, order

        if self.clears:
            self.console.clear()
        self.console.print(board(game, self.player))
        if self.shows_order:
            self.console.print(order(game, self.player))
        change = f" ({counted:+d})" if counted else ""
        left = self.setting.steps - game.steps
        self.console.print(f"{title}, score {score}{change}, {left} steps left", markup=False)
