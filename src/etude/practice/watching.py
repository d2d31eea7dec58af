"""The watcher: looks at the files again and again, checks what was saved, and says what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from etude.core.errors import BusyError, EtudeError
from etude.core.locks import held
from etude.practice.challenge import Challenge
from etude.practice.notebook import FOLDER
from etude.practice.practising import Practice, timed, told

EVERY = 0.4
"""Seconds between looks."""

QUESTIONS = (
    "What was hard? (a line, or Enter) ",
    "How sure are you that you know why it is right? (1 to 5) ",
    "Would you do it again unaided? (y/n) ",
)

Mark = tuple[int, int]
"""When a file was changed and how long it is."""


class Watcher:
    """Checks each file that is saved, until it is interrupted.

    Args:
        practice: where.
        say: prints a line.
        ask: puts a question and returns the answer; None where nobody can be asked.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        practice: Practice,
        say: Callable[[str], None] = print,
        ask: Callable[[str], str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.practice, self.say, self.ask, self.sleep = practice, say, ask, sleep
        self.marks = {each.name: self._mark(each) for each in practice.course}
        self.missed: dict[str, int] = {}
        self.current: Challenge | None = None

    def watch(self) -> None:
        """Watch until Ctrl-C, or until all is solved and nothing comes back.

        Raises:
            BusyError: another watcher is at work in this folder.
        """
        with alone(self.practice.folder):
            try:
                self.say("Watching. Save a file and it is checked; Ctrl-C ends.")
                for challenge in self.practice.changed():  # saved while nobody watched
                    self.say_check(challenge)
                if self.current is None:
                    self.turn_to_next()
                while True:
                    self.sleep(EVERY)
                    self.look()
            except KeyboardInterrupt:
                self.practice.notebook.add("left")
                raise

    def turn_to_next(self) -> None:
        """Say what comes next, and begin its time."""
        for name in self.practice.bring_back():
            self.marks[name] = self._mark(self.practice.course[name])
            self.say(f"{name} has come back blank: is it easier now? Your earlier answers are in {FOLDER}/kept.")
        self.current = self.practice.next()
        if self.current is None:
            self.say("All of it is solved. What was solved comes back after days; `etude practice portfolio` shows it.")
            return
        self.practice.open(self.current)
        low, high = self.current.minutes
        self.say("")
        self.say(f"Next: {self.current.title}. Write it in {self.current.file} and save; {low:g} to {high:g} minutes.")

    def look(self) -> None:
        """Check what was saved since the last look."""
        for challenge in self.practice.course:
            mark = self._mark(challenge)
            if mark == self.marks[challenge.name]:
                continue
            if mark is None:  # an editor may write a new file and move it here: wait a moment before saying so
                self.missed[challenge.name] = self.missed.get(challenge.name, 0) + 1
                if self.missed[challenge.name] < 3:
                    continue
            self.missed.pop(challenge.name, None)
            self.marks[challenge.name] = mark
            self.say_check(challenge)

    def say_check(self, challenge: Challenge) -> None:
        """Check one file and say what came of it."""
        was = self.practice.standings().get(challenge.name)
        again = bool(was and was.solved and not was.under_way)
        try:
            verdict = self.practice.check(challenge)
        except EtudeError as error:
            self.say(str(error))
            return
        mark = self._mark(challenge)  # before what stands there is looked at: a later save has another
        if challenge not in self.practice.changed():
            self.marks[challenge.name] = mark
        for line in told(challenge, verdict):
            self.say(line)
        if not verdict.passed:
            if verdict.outcome in ("wrong", "raised"):
                self.say(f"  (the same numbers again: etude practice check {challenge.name} --seed {verdict.seed})")
            return
        if again:
            return
        standing = self.practice.standings()[challenge.name]
        self.say(f"  {timed(challenge, standing.solved[-1])}")
        if standing.easier is not None:
            self.say(f"  {standing.easier:.2f} of the time of the first solving")
        if challenge.further:
            self.say(f"  the grown-up version: {challenge.further}")
        self._question(challenge)
        self.turn_to_next()

    def _question(self, challenge: Challenge) -> None:
        if self.ask is None:
            self.say(f"  three questions: etude practice answer {challenge.name} --hard ... --sure 1..5 --unaided")
            return
        try:
            hard = self.ask(QUESTIONS[0]).strip()
            sure = ""
            while sure not in {"1", "2", "3", "4", "5"}:
                sure = self.ask(QUESTIONS[1]).strip()
            unaided = ""
            while unaided[:1] not in {"y", "n"}:
                unaided = self.ask(QUESTIONS[2]).strip().lower()
        except EOFError:
            self.say(f"  later: etude practice answer {challenge.name} --sure 4")
            return
        self.practice.answer(challenge, hard, int(sure), unaided.startswith("y"))

    def _mark(self, challenge: Challenge) -> Mark | None:
        try:
            found = self.practice.desk.path(challenge).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder for one watcher.

    Raises:
        BusyError: another has it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder / FOLDER, "watcher", wait=False))
        except BusyError as error:
            who = str(error).partition(" by ")[2].partition(";")[0]
            place = folder.absolute().name
            raise BusyError(f"{place} is watched already, by {who}: save there, or end that with Ctrl-C") from None
        yield
