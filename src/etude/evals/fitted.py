"""The items of a task as tokens that fit a model's context."""

from __future__ import annotations

from collections.abc import Sequence

from etude.core.errors import UsageError
from etude.evals.asking import Ask, ask_for, rolled
from etude.evals.items import Item, Passage, Written
from etude.evals.prompting import Asked, Prompter
from etude.evals.task_recipes import Evaluate
from etude.evals.tasks.exact_match import ExactMatch
from etude.text.tokenizers.live import Tokenizer


class Fitted:
    """The items that are asked, as tokens that fit a model's context.

    Attributes:
        items: those that are asked.
        asked: how each is put.
        requests: of each, groups of what is asked: its answers after the question, and where that is wanted without
            it; each window of a text; nothing where the model writes.
        prompts: of each, what the model goes on from where it writes.
        too_long: how many did not fit.
        spoiled: of each item that cannot be put to this model, why.

    Raises:
        UsageError: one does not fit, and that is refused; or none can be put.
    """

    def __init__(
        self, recipe: Evaluate, tokenizer: Tokenizer, context: int, prompter: Prompter, items: Sequence[Item]
    ) -> None:
        self.recipe, self.tokenizer, self.context = recipe, tokenizer, context
        self.items, self.asked = list[Item](), list[Asked]()
        self.requests, self.prompts = list[list[list[Ask]]](), list[tuple[int, ...]]()
        self.too_long, self.spoiled, longest = 0, list[str](), 0
        for item in items:
            try:
                asked = prompter.asked(item)
                requests, prompt = self._requests(item, asked), self._prompt(item, asked)
            except UsageError as error:
                self.spoiled.append(f"{item.where}: {str(error).removeprefix(f'{item.where}: ')}")
                continue
            read = [len(ask.tokens) - 1 for group in requests for ask in group]
            needed = max(read, default=len(prompt) + self._writes - 1)  # the last token that is written is never read
            if needed > context:
                self.too_long, longest = self.too_long + 1, max(longest, needed)
                answers = [len(ask.tokens) - ask.start for group in requests for ask in group]
                if recipe.too_long == "leave-out" or max(answers, default=0) > context:
                    continue  # half an answer is another answer
                requests = [[self._shortened(ask) for ask in group] for group in requests]
                prompt = prompt[-max(1, context + 1 - self._writes) :]
            self.items.append(item)
            self.asked.append(asked)
            self.requests.append(requests)
            self.prompts.append(prompt)
        if self.too_long and recipe.too_long == "refuse":
            raise UsageError(
                f"{self.too_long} of {len(items)} prompts do not fit the model's context of {context} tokens, the"
                f" longest takes {longest}: set --too-long shorten or leave-out, fewer --prompt.shots, or ask a model"
                " that reads more"
            )
        if not self.items and not self.too_long:
            raise UsageError(f"none of {len(items)} items can be put to this model: {self.spoiled[0]}")

    @property
    def _writes(self) -> int:
        """Tokens that an answer may take."""
        return self.recipe.task.max_tokens if isinstance(self.recipe.task, ExactMatch) else 0

    def _requests(self, item: Item, asked: Asked) -> list[list[Ask]]:
        if isinstance(item, Written):
            return []
        if isinstance(item, Passage):
            opening = self.tokenizer.specials.get("first", self.tokenizer.end)
            return [[ask] for ask in rolled(self.tokenizer.encode(item.text), self.context, opening)]
        opened = self.recipe.prompt.opened
        found = [[ask_for(self.tokenizer, context, answer, opened) for context, answer in asked.pairs()]]
        if self.recipe.bare:
            found.append([ask_for(self.tokenizer, "", answer, opened) for answer in asked.answers])
        return found

    def _prompt(self, item: Item, asked: Asked) -> tuple[int, ...]:
        if not isinstance(item, Written):
            return ()
        opening = self.tokenizer.specials.get("first")
        if opening is None and self.recipe.prompt.opened:
            opening = self.tokenizer.end
        return (*(() if opening is None else (opening,)), *self.tokenizer.encode(asked.contexts[0]))

    def _shortened(self, ask: Ask) -> Ask:
        """Return a request without its beginning."""
        gone = max(0, len(ask.tokens) - 1 - self.context)
        return Ask(ask.tokens[gone:], ask.start - gone)
