"""Evaluation against lm-evaluation-harness: the scores that its own Hugging Face path gave (`make oracles`), and, where
it is installed, models from here inside it."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.evaluating import items_of
from etude.evals.lm_eval import Answers, sampling_of
from etude.evals.task_recipes import Evaluate
from etude.evals.tasks.cloze import Cloze
from etude.evals.tasks.exact_match import ExactMatch
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.evals.tasks.perplexity import Perplexity
from etude.models.recipes import Imported
from etude.models.sampling import Sampling

FIXTURES = Path(__file__).parent / "fixtures" / "lm_eval"
MODELS = ("gpt2", "llama")
GREATEST = 1e-6
CLOSE = 1e-4
CONTEXT, NEW = 64, 12
TASKS: dict[str, tuple[type[Any], dict[str, Any], dict[str, Any]]] = {
    "lengths": (MultipleChoice, {}, {"bare": True}),
    "shots": (MultipleChoice, {}, {"too_long": "shorten"}),
    "long": (MultipleChoice, {}, {"too_long": "shorten"}),
    "winograd": (MultipleChoice, {}, {}),
    "cloze": (Cloze, {}, {}),
    "passages": (Perplexity, {}, {}),
    "written": (ExactMatch, {"max_tokens": NEW}, {}),
}
NAMES = {
    "acc": "accuracy", "acc_norm": "by_characters", "acc_bytes": "by_bytes", "acc_mutual_info": "unconditional",
    "exact_match": "accuracy", "word_perplexity": "word_perplexity", "bits_per_byte": "bits_per_byte",
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def answers(model: str) -> dict[str, Any]:
    return json.loads((FIXTURES / f"{model}.json").read_text(encoding="utf-8"))


def evaluated(lab: Lab, model: str, name: str) -> Run:
    task, fields, how = TASKS[name]
    task = task(path=str(FIXTURES / "items" / f"{name}.jsonl"), **fields)
    return lab.run(Evaluate(Imported(path=str(FIXTURES / model)), task, **how))


def scores_of(run: Run) -> dict[str, float]:
    """Return our scores under the harness's names."""
    rows, scores = items_of(run), {name: score["mean"] for name, score in run.result["scores"].items()}
    found = {theirs: scores[ours] for theirs, ours in NAMES.items() if ours in scores}
    if "bits_per_byte" in found:
        found["byte_perplexity"] = 2 ** found["bits_per_byte"]
    if "tokens" in rows[0] and "words" not in rows[0]:
        found["perplexity"] = math.exp(-sum(row["log_probability"] for row in rows) / len(rows))
    return found


def said_to(row: dict[str, Any]) -> list[Any]:
    """Return what was said to one item as the harness has it, apart from whether a text would be written."""
    if "log_probabilities" in row:
        return [*row["log_probabilities"], *row.get("bare", [])]
    return [row["answer"]] if "answer" in row else [row["log_probability"]]


def bare(said: list[Any]) -> list[Any]:
    """Leave out what the harness says beside a log-likelihood: whether the text would be written."""
    return [one[0] if isinstance(one, list | tuple) else one for one in said]


def assert_alike(ours: list[list[Any]], theirs: list[list[Any]]) -> None:
    assert len(ours) == len(theirs) > 5
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == (other if isinstance(other[0], str) else pytest.approx(other, rel=CLOSE, abs=1e-6))


def test_both_have_every_task() -> None:
    for model in MODELS:
        found = answers(model)["tasks"]
        assert found.keys() == TASKS.keys()
        assert 0 < found["written"]["scores"]["exact_match"] < 1  # some of the texts are right, and some are wrong
        assert len({found["lengths"]["scores"][name] for name in ("acc", "acc_norm", "acc_mutual_info")}) > 1


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("model", MODELS)
def test_our_scores_are_theirs(lab: Lab, model: str, name: str) -> None:
    told, run = answers(model), evaluated(lab, model, name)
    theirs, ours = told["tasks"][name], scores_of(run)
    worst = max(abs(ours[key] - value) / max(1, abs(value)) for key, value in theirs["scores"].items())
    print(f"{told['oracle']}: {model}, {name}: greatest difference of {len(theirs['scores'])} scores {worst:.1e}")
    assert {key: ours[key] for key in theirs["scores"]} == pytest.approx(theirs["scores"], rel=GREATEST, abs=GREATEST)
    assert_alike([said_to(row) for row in items_of(run)], [bare(said) for said in theirs["said"]])


def test_some_prompts_were_shortened_and_some_texts_rolled_over(lab: Lab) -> None:
    assert evaluated(lab, "gpt2", "long").result["too_long"] > 5
    rows = items_of(evaluated(lab, "gpt2", "passages"))
    assert max(row["tokens"] for row in rows) > 2 * CONTEXT and min(row["tokens"] for row in rows) < 3


# what answers the harness, without it


class Asked(NamedTuple):
    """One question as the harness puts it."""

    args: tuple[Any, ...]
    task_name: str | None = None
    doc_id: int | None = None


class Answering(Answers):
    """Stands on its own, where the harness's base class would keep what was answered."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.cache_hook, self.kept = self, list[tuple[str, Any, Any]]()

    def add_partial(self, kind: str, args: Any, answer: Any) -> None:
        self.kept.append((kind, args, answer))


@pytest.fixture(scope="module")
def gpt2() -> Answering:
    return Answering(run=str(FIXTURES / "gpt2"), device="cuda:0", batch_size=1)


def test_items_and_single_questions_are_answered_alike(gpt2: Answering) -> None:
    rows = [json.loads(line) for line in (FIXTURES / "items" / "long.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [(n, (row["query"], f" {choice}")) for n, row in enumerate(rows) for choice in row["choices"]]
    theirs = [one for said in answers("gpt2")["tasks"]["long"]["said"] for one in said]
    for requests in ([Asked(args, "t", n) for n, args in asked], [Asked(args) for _, args in asked]):
        found = gpt2.loglikelihood(requests)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in theirs]
        assert [log for log, _ in found] == pytest.approx([log for log, _ in theirs], rel=CLOSE, abs=1e-6)
        assert {(kind, args): answer for kind, args, answer in gpt2.kept} == {
            ("loglikelihood", request.args): answer for request, answer in zip(requests, found, strict=True)
        }
        gpt2.kept.clear()


def test_white_space_at_the_end_of_a_question_is_the_answers(gpt2: Answering) -> None:
    told = gpt2.loglikelihood([Asked(("The fox \n ", "eats")), Asked(("The fox", " \n eats")), Asked((" ", "a"))])
    assert told[0] == told[1] and told[2] == gpt2.loglikelihood([Asked(("", " a"))])[0]


def test_texts_are_written_by_their_own_settings(gpt2: Answering) -> None:
    context, most = "The fox eats", {"max_gen_toks": 20}
    whole, line, short = gpt2.generate_until(
        [
            Asked((context, {**most, "until": []})),
            Asked((context, {**most, "until": "\n"})),
            Asked((context, {"max_new_tokens": 2, "until": ["", "\n"], "do_sample": False, "temperature": 2.0})),
        ]
    )
    assert line == whole.partition("\n")[0] != whole and line.startswith(short) and short
    drawn = {**most, "do_sample": True, "temperature": 5.0, "until": []}
    assert len(set(gpt2.generate_until([Asked((context, drawn))] * 3))) == 3
    long = gpt2.generate_until([Asked(("The fox eats plums.\n" * 30, {**most, "until": ["\n"]}))])
    tokens = gpt2.tokenizer.encode("The fox eats plums.\n" * 30)[-(CONTEXT - 20) :]
    assert long == gpt2.generate_until([Asked((gpt2.tokenizer.decode(tokens), {**most, "until": ["\n"]}))])


def test_settings_of_a_generation_are_read_as_theirs() -> None:
    assert sampling_of({"until": "\n", "max_tokens": 5}) == Sampling(temperature=0, max_tokens=5, stop=("\n",))
    assert sampling_of({"do_sample": True, "top_k": 3}) == Sampling(temperature=1, max_tokens=256, top_k=3)
    assert sampling_of({"do_sample": False, "temperature": 0.7}).greedy and not sampling_of({"temperature": 0.7}).greedy
    with pytest.raises(UsageError, match="unknown setting of a generation: 'num_beams'"):
        sampling_of({"num_beams": 4})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give --model_args run=RUN"),
        ({"run": "x", "pretrained": "y"}, "unknown model argument 'pretrained'.* at_once, precision, run"),
        ({"run": "x", "precision": "fp16"}, "'fp16' is not one that models are asked in: fp32, bf16"),
        ({"run": "no-such-run"}, "no-such-run"),
    ],
)
def test_what_cannot_be_is_said(arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ETUDE_RUNS", str(tmp_path))
    with pytest.raises(UsageError, match=message):
        Answers(**arguments)


def test_what_does_not_fit_is_said(gpt2: Answering) -> None:
    with pytest.raises(UsageError, match=r"takes \d+ tokens and the model reads 64: leave the item out"):
        gpt2.loglikelihood([Asked(("a", " b" * 70))])
    with pytest.raises(
        UsageError, match="up to 256 tokens are to be written and the model reads 64: give --gen_kwargs"
    ):
        gpt2.generate_until([Asked(("a", {}))])


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="lm-eval is installed")
def test_that_it_is_not_installed_is_said_in_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "etude.evals.lm_eval", "run"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "pip install 'etude[lm-eval]'" in done.stderr


# inside it


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: make oracles makes an environment that has it")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import make_lm_eval

    yield make_lm_eval
    sys.modules.pop("make_lm_eval", None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", MODELS)
def test_a_model_from_here_runs_in_the_harness_by_name(maker: Any, model: str, tmp_path: Path) -> None:
    from etude.evals.lm_eval import register

    assert issubclass(register(), Answers)
    names = maker.tasks(FIXTURES / "items", tmp_path)
    found, theirs = maker.scored("etude", {"run": str(FIXTURES / model)}, names, tmp_path), answers(model)["tasks"]
    assert found.keys() == theirs.keys()
    for name, told in found.items():
        assert told["scores"] == pytest.approx(theirs[name]["scores"], rel=GREATEST, abs=GREATEST)
        if name != "written":
            assert_alike([bare(said) for said in told["said"]], [bare(said) for said in theirs[name]["said"]])
        else:
            assert told["said"] == theirs[name]["said"]


def test_its_command_takes_models_from_here(maker: Any, tmp_path: Path) -> None:
    maker.tasks(FIXTURES / "items", tmp_path / "tasks")
    words = ["run", "--model", "etude", "--model_args", f"run={FIXTURES / 'gpt2'}", "--tasks", "local_lengths",
             "--include_path", str(tmp_path / "tasks"), "--output_path", str(tmp_path / "out")]  # fmt: skip
    command = [sys.executable, "-m", "etude.evals.lm_eval", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").rglob("results_*.json")
    scores = json.loads(path.read_text())["results"]["local_lengths"]
    theirs = answers("gpt2")["tasks"]["lengths"]["scores"]
    assert {name: scores[f"{name},none"] for name in theirs} == pytest.approx(theirs, abs=GREATEST)
    command[command.index(words[4])] = "run=no-such-run"
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "no-such-run" in done.stderr.splitlines()[-1]
