"""Whether a prompt has its parts in order, and gives no answer away: it is read line by line."""

from typing import Any

from etude.practice.exam import Exam

WORDS = (
    "river",
    "lamp",
    "north",
    "seven",
    "copper",
    "violin",
    "harbour",
    "Tuesday",
    "maple",
    "glacier",
    "ivory",
    "zinc",
)


def check(theirs: Any, exam: Exam) -> None:
    """Ask with and without a task, with few and many examples, and with the question among them."""
    words = exam.random.sample(WORDS, len(WORDS))
    examples = [(f"What comes after {word}?", f"{exam.random.randint(100, 999)} {word}s") for word in words[:6]]
    question, task = f"What comes after {words[7]}?", f"Answer the {words[8]} questions."
    for count in (2, 4, 0):
        _read(theirs, exam, task, examples, question, count)
    _read(theirs, exam, "", examples, question, 2)
    _read(theirs, exam, "", [], question, 3)
    _read(theirs, exam, task, examples, question, 20)
    at = exam.random.randint(0, 2)
    for same in (question, question.upper(), f"  {question} "):
        among = [*examples[:at], (same, "the answer that is sought"), *examples[at:]]
        _read(theirs, exam, task, among, question, 3)
    _read(theirs, exam, task, [*examples[:at], (question, "the answer that is sought")], f" {question.upper()} ", 3)
    _read(theirs, exam, task, [(question, "yes")], question, 1)


def _read(theirs: Any, exam: Exam, task: str, examples: list[tuple[str, str]], question: str, count: int) -> None:
    given = list(examples)
    got = theirs.few_shot_prompt(task, given, question, count)
    exam.ask(isinstance(got, str), f"few_shot_prompt returns a {type(got).__name__}: give a text")
    exam.ask(given == examples, "the list of examples is changed: leave it as it was given")
    told = f"\nThe prompt was {got!r}"
    lines = got.split("\n")
    _no_leak(exam, examples, question, lines, told)
    exam.ask(
        not got.endswith("Answer: "),
        "the prompt ends with a space after `Answer:`. Tokenizers put the space with the word that follows, so that the"
        f" model would have to begin in the middle of a token{told}",
    )
    exam.ask(
        not got.endswith("\n"),
        f"the prompt ends with a line break: it ends with `Answer:`, and the model goes on{told}",
    )
    exam.ask(
        lines[-1].rstrip() == "Answer:",
        f"the prompt ends with {lines[-1]!r}, not with `Answer:`: what is asked is open{told}",
    )
    exam.ask(
        len(lines) > 1 and lines[-2] == f"Question: {question}",
        f"the line before the last is {lines[-2] if len(lines) > 1 else ''!r}: it should have the question that is"
        f" asked, 'Question: {question}'{told}",
    )
    exam.ask(
        not got.startswith("\n") or bool(task),
        f"the prompt begins with a blank line: where the task is empty, there is no such part{told}",
    )
    exam.ask(got.startswith(task), f"the prompt does not begin with the task, {task!r}{told}")
    exam.ask(
        not task or got.count(task) == 1,
        f"the task stands there {got.count(task)} times: once, before the examples{told}",
    )
    _examples(exam, examples, question, lines, count, told)
    parts = [task] * bool(task)
    for q, a in [each for each in examples if not _same(each[0], question)][:count]:
        parts += ["Question: " + q + "\nAnswer: " + a]
    parts += ["Question: " + question + "\nAnswer:"]
    exam.ask(
        got == "\n\n".join(parts) or got != "\n".join(parts),
        f"between two parts there is a line break, and no blank line: an example's end is not to be seen{told}",
    )
    exam.same(got, "\n\n".join(parts), "your prompt")


def _same(one: str, other: str) -> bool:
    return one.strip().lower() == other.strip().lower()


def _no_leak(exam: Exam, examples: list[tuple[str, str]], question: str, lines: list[str], told: str) -> None:
    """Ask that the question's own example is not there, under any spelling."""
    for q, a in examples:
        shown = f"Question: {q}" in lines[:-2] or f"Answer: {a}" in lines
        if _same(q, question) and shown:
            spelled = f" (it is spelled {q!r} there: capitals and blanks do not make it another)"
            if question != question.strip():
                spelled = " (the blanks at the ends of the question that is asked do not make it another)"
            spelled = "" if q == question else spelled
            exam.ask(False, f"the question that is asked is among the examples, with its answer{spelled}{told}")


def _examples(
    exam: Exam, examples: list[tuple[str, str]], question: str, lines: list[str], count: int, told: str
) -> None:
    """Ask which examples stand there, in which order."""
    may = [each for each in examples if not _same(each[0], question)]
    want = [q for q, _ in may[:count]]
    found = [line.removeprefix("Question: ") for line in lines[:-2] if line.startswith("Question: ")]
    answers = [line.removeprefix("Answer: ") for line in lines[:-1] if line.startswith("Answer: ")]
    exam.ask(
        found != want[:-1] or len(may) == len(examples) or not want,
        f"{len(found)} of {len(want)} examples stand there: one was left out, and no other taken in its place{told}",
    )
    exam.ask(
        len(found) == len(want),
        f"the number of examples is {len(found)} and should be {len(want)}: count is {count}, and {len(may)} may"
        f" stand{told}",
    )
    exam.ask(
        found == want or found != want[::-1],
        f"the examples are in the reverse order: they stand in the order in which they are given{told}",
    )
    exam.ask(
        sorted(found) != sorted(q for q, _ in may[-count:]) or found == want or count == 0,
        f"the last {count} examples are taken: the first {count} that may stand are{told}",
    )
    exam.same(found, want, "the questions of the examples")
    exam.same(answers, [a for _, a in may[:count]], "the answers of the examples")
