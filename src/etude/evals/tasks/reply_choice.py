"""DailyDialog++: which reply goes with a dialogue, and which only seems to (Sai et al. 2020)?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from etude.core.errors import UsageError
from etude.evals.items import Choice
from etude.evals.tasks._rows import Row
from etude.evals.tasks.base import Measure, Task
from etude.text.dialogues import MARKS, before_reply, in_drawn_order, laid_out
from etude.text.splits import fraction


@dataclass(frozen=True)
class ReplyChoice(Task):
    """Rows of DailyDialog++: a dialogue, a good reply and the five bad ones. Which of the five good replies it is, and
    at which place it stands, a hash of the dialogue decides. Where the reply would be the user's, the first turn is
    left out.

    Attributes:
        against: the bad replies: `random`, said in another dialogue, or `adversarial`, written to share words with this
            one.
        before: what stands before each dialogue, with the white space that parts them.
    """

    measure: ClassVar[Measure] = "choice"

    against: Literal["random", "adversarial"] = "random"
    before: str = ""

    def item(self, row: Row) -> Choice:
        context, good = row.texts("context"), row.texts("positive_responses")
        if not any(text.strip() for text in good):
            raise UsageError(f"{row.where}: positive_responses holds no reply")
        bad = [text.strip() for text in row.texts(f"{self.against}_negative_responses")]
        key = "\n".join(context)
        place = int(fraction(f"place\n{key}") * (len(bad) + 1))
        reply = [text.strip() for text in in_drawn_order(good, key)[:1]]
        question = f"{laid_out(before_reply(context))}\n{MARKS.model}"
        choices = (*bad[:place], *reply, *bad[place:])
        return Choice(row.where, row.number, "", self.before + question, choices, (place,))

    @classmethod
    def fits(cls, row: Row) -> bool:
        return row.has("context", "positive_responses", "random_negative_responses")
