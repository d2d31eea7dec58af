"""`etude chat`: talks with a model, at the terminal or for programs."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.exceptions import UnknownOptionError

from etude.chat.choices import Choices
from etude.chat.prompts.base import Prompt
from etude.chat.prompts.none import Nothing
from etude.chat.prompts.story import Story
from etude.cli.complaints import remark
from etude.cli.console import RunsFolder
from etude.cli.describe import paragraphs
from etude.cli.fields import no_recipe
from etude.cli.leaves import Asked, grow, name_of, parameters, scan
from etude.cli.subject import app_named, options_of, unknown_flag, with_dashes
from etude.core.errors import EtudeError, UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.core.shelf import Shelf
from etude.train.objectives.dialogue import Dialogue

if TYPE_CHECKING:
    from etude.models.transformer import Transformer
    from etude.text.tokenizers.live import Tokenizer

command = App("chat", help_flags=[], version_flags=[])


@command.default
def _chat(*words: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    said = scan(words)
    branch = grow(Choices, None, Asked(said, no_recipe))
    options, paths = options_of(chat), {name_of(field.path): field.path for field in branch.leaves()}
    run = inspect.Parameter("run", inspect.Parameter.POSITIONAL_ONLY, annotation=RUN)

    def act(word: Any, /, **given: Any) -> None:
        choices = branch.build({paths[key]: value for key, value in given.items() if key in paths})
        assert isinstance(choices, Choices)
        chosen = any(path[0] == "prompt" for path in said)
        chat(word, choices, chosen, **{key: value for key, value in given.items() if key not in paths})

    act.__annotations__ = {}
    act.__signature__ = inspect.Signature([run, *options.values(), *parameters(branch, no_recipe)])
    app = app_named("etude chat", paragraphs(chat.__doc__ or ""))
    app.default(act)
    try:
        app([with_dashes(word) for word in words], exit_on_error=False, print_error=False)
    except UnknownOptionError as error:
        flag = error.token.keyword or error.token.value
        raise unknown_flag(flag, branch, options, "etude chat") from None


RUN = Annotated[str, Parameter(help="a run that holds a model, by id or name, or a folder with a model.")]


def chat(
    run: str,
    choices: Choices,
    chosen: bool,
    /,
    *,
    story: Annotated[
        bool,
        Parameter(name="--story", negative=(), show_default=False, help="interactive fiction: as --prompt story."),
    ] = False,
    look: Annotated[
        bool,
        Parameter(
            name="--look", negative=(), show_default=False, help="after each reply, lens and attention of its end."
        ),
    ] = False,
    load: Annotated[Path | None, Parameter(name="--load", help="a saved conversation to go on with.")] = None,
    serve: Annotated[
        int | None,
        Parameter(name="--serve", help="answer programs on this port of 127.0.0.1, as OpenAI's endpoint does."),
    ] = None,
    runs: RunsFolder = None,
) -> None:
    """Talk with a model: at a terminal, or with a line on standard input for each turn. `/help` in the conversation
    lists what else there is: /regenerate, /undo, /save, /load, /set, /look. Ctrl-C stops a reply, and the end of input
    leaves.

    Without --prompt, a model that was trained on dialogues reads no prompt, and any other the longest of `long` and
    `short` that leaves half of its context free.
    """
    if story and chosen and not choices.prompt.story:
        raise UsageError(f"--story and --prompt {choices.prompt.name} exclude each other: leave one out")
    if serve is not None and (look or load is not None):
        raise UsageError(f"--serve begins no conversation of its own: leave {'--look' if look else '--load'} out")
    from etude.chat.session import Session  # with PyTorch, not needed for help
    from etude.cli.conversation import Conversation

    name, model, tokenizer, recorded = _opened(run, runs)
    if chosen:
        prompt = choices.prompt
    else:
        prompt = Story() if story else recorded or _fitting(tokenizer, model.spec.context)
    session = Session(model, tokenizer, prompt, choices.sampling)
    if load is not None:
        session.restore(load)
    if serve is not None:
        _serve(session, name, serve)
        return
    talk = Conversation(session, look=look)
    remark(f"{name}, prompt {session.prompt.name}; /help lists what else can be typed")
    if load is not None:
        talk.show()
    talk.go_on()


def _opened(word: str, runs: Path | None) -> tuple[str, Transformer, Tokenizer, Prompt | None]:
    """Return a model's name, itself, its tokenizer, and the prompt that its training asks for, if it does."""
    from etude.models.load import load

    shelf = Shelf(Lab(runs).root)
    try:
        run = shelf.find(word)
    except UsageError:
        if not Path(word).exists():
            raise
        model, tokenizer = load(word)
        return Path(word).resolve().name, model, tokenizer, None
    return run.id, *load(run), _trained_prompt(run)


def _trained_prompt(run: Run) -> Prompt | None:
    """Return the empty prompt, with the marks of the dialogues that a run was trained on; None where it was not."""
    try:
        recipe: Any = run.recipe
    except EtudeError:  # of a class that has changed since
        return None
    while hasattr(recipe, "of"):
        recipe = recipe.of
    objective = getattr(recipe, "objective", None)
    if not isinstance(objective, Dialogue):
        return None
    return Nothing(user_mark=objective.user_mark, model_mark=objective.model_mark, one_line=True)


def _fitting(tokenizer: Tokenizer, context: int) -> Prompt:
    from etude.chat.room import prompt_for

    return prompt_for(tokenizer, context)


def _serve(session: Any, name: str, port: int) -> None:
    from etude.chat.endpoint import Endpoint

    with Endpoint(session, name, port) as endpoint:
        remark(f"{name}, prompt {session.prompt.name}, answers at {endpoint.address}; Ctrl-C ends it")
        try:
            endpoint.serve()
        except KeyboardInterrupt:
            remark("")
