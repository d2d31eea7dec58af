"""What a learner is told: of differences, of forbidden calls, of broken files, and of what breaks out."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import EtudeError, UsageError
from etude.practice.challenge import Challenge, Course
from etude.practice.differences import close, difference
from etude.practice.exam import Exam, Wrong
from etude.practice.forbidden import forbidden_uses
from etude.practice.judging import MOST_PRINTED, judge
from etude.practice.sandbox import judged
from etude.practice.verdict import Verdict

HEAD = "import os, sys, torch\ndef softmax(x):\n    "


@pytest.fixture(scope="module")
def softmax() -> Challenge:
    return Course.load()["softmax"]


# Words for differences


@pytest.mark.parametrize(
    ("got", "want", "said"),
    [
        (torch.ones(2), torch.ones(2), ""),
        (torch.ones(2, 3), torch.ones(3, 2), "x has shape [2, 3]; it should be [3, 2] (row by column)"),
        (torch.ones(2).bool(), torch.ones(2), "x holds whole numbers or truth values (bool); it should hold real"),
        (torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 5.0]]), "at row 0, column 1 it is 2 and should be 5"),
        (torch.tensor([float("nan")]), torch.tensor([1.0]), "x is nan at [0], and should be 1"),
        (torch.tensor(3.0), 3.0, ""),
        (3.0, torch.tensor(3.0), ""),
        (0.5, torch.tensor(1.0), "x is 0.5 and should be 1"),
        (torch.tensor(0.5), 1.0, "x is 0.5 and should be 1"),
        (None, torch.ones(1), "x is None: is a `return` missing?"),
        ([1.0], torch.ones(1), "x is a list; it should be a tensor of shape [1]"),
        ("a", 1.0, "x is 'a', a str; give one number"),
        ([1, 2], [1, 2, 3], "x has 2 entries and should have 3"),
        ([1, 2, 4], [1, 2, 3], "entry 2 of x is 4 and should be 3"),
        ({"a": 1.0}, {"b": 1.0}, "x has the keys ['a']; it should have ['b']"),
        ({"a": 1.0}, {"a": 2.0}, "x at 'a' is 1 and should be 2"),
        (True, False, "x is True and should be False"),
        (1, True, "x is an int (1); it should be a bool"),
        ("abc", "abd", "x is 'abc' and should be 'abd'"),
    ],
)
def test_a_difference_in_words(got, want, said: str) -> None:
    found = difference(got, want, "x", ("row", "column"))
    assert said in found if said else found == ""


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6), st.integers(0, 5), st.floats(1.0, 100.0))
def test_one_wrong_entry_is_the_one_that_is_named(values: list[float], at: int, off: float) -> None:
    want = torch.tensor(values)
    got = want.clone()
    place = at % len(values)
    got[place] += off
    assert difference(want, want, "x") == ""
    assert f"at [{place}] it is" in difference(got, want, "x")
    assert not close(got, want, 1e-4)


def test_the_first_known_mistake_that_fits_is_named() -> None:
    exam, one, two = Exam(0), torch.tensor([1.0]), torch.tensor([2.0])
    with pytest.raises(Wrong, match=r"^it is doubled\n"):
        exam.same(two, one, "x", unless={"no": one + 9, "it is doubled": two, "it is doubled again": two})
    exam.same(torch.tensor([1.0]), torch.tensor([1.0]), "x", unless={"never said": torch.tensor([1.0])})


def test_rows_that_do_not_sum_to_one_and_a_look_ahead() -> None:
    exam = Exam(0)
    pattern = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.3, 0.3, 0.24]])
    with pytest.raises(Wrong, match=r"row 2 of your pattern sums to 0\.84, not to 1"):
        exam.sums_to_one(pattern, "your pattern")
    with pytest.raises(Wrong, match="its columns do"):
        exam.sums_to_one(torch.tensor([[0.2, 0.9], [0.8, 0.1]]), "your pattern")
    with pytest.raises(Wrong, match="a share cannot be negative"):
        exam.sums_to_one(torch.tensor([[1.5, -0.5]]), "your pattern")
    exam.looks_back_only(pattern)
    pattern[1, 2] = 0.1
    with pytest.raises(Wrong, match=r"position 1 attends to position 2, which is in its future, with 0\.1"):
        exam.looks_back_only(pattern)


def test_gradients_are_compared_by_input() -> None:
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    right = lambda a, b: a * b  # noqa: E731
    Exam(0).gradients(right, right, {"x": x, "y": y}, "the product")
    with pytest.raises(Wrong, match="with respect to y"):
        Exam(0).gradients(lambda a, b: a * b.detach() + b - b.detach(), right, {"x": x, "y": y}, "the product")
    with pytest.raises(Wrong, match="does not depend on y"):
        Exam(0).gradients(lambda a, b: a * b.detach(), right, {"x": x, "y": y}, "the product")
    with pytest.raises(Wrong, match="no gradient can flow"):
        Exam(0).gradients(lambda a, b: (a * b).detach(), right, {"x": x, "y": y}, "the product")
    with pytest.raises(Wrong, match="has shape"):
        Exam(0).gradients(lambda a, b: (a * b).sum(), right, {"x": x, "y": y}, "the product")


def test_numbers_hang_on_the_seed_alone_and_sizes_differ() -> None:
    one, same, other = Exam(3), Exam(3), Exam(4)
    assert torch.equal(one.normal(3, 2), same.normal(3, 2)) and one.sizes(4) == same.sizes(4)
    assert not torch.equal(Exam(3).normal(3, 2), other.normal(3, 2))
    assert len(set(one.sizes(5))) == 5


# Forbidden calls


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.softmax(1)",
        "import torch as t\nt.softmax(1)",
        "from torch import softmax",
        "from torch import softmax as s\ns(1)",
        "import torch.nn.functional as F\nF.softmax(1)",
        "from torch.nn import functional\nfunctional.softmax",
        "x = 1\nx.softmax(-1)",
        "import torch\nf = torch.softmax",
        "import torch\ngetattr(torch, 'softmax')",
        "import torch\ntorch.nn.Softmax()(1)",
        "f(x)[0].softmax",
    ],
)
def test_a_forbidden_call_is_seen_under_any_name(source: str) -> None:
    assert forbidden_uses(source, ["torch.softmax", "torch.nn", ".softmax"])


@pytest.mark.parametrize(
    "source",
    ["def softmax(x): return x\nsoftmax(1)", "# torch.softmax\n'torch.softmax'", "import torch\ntorch.softmaxed(1)"],
)
def test_a_name_of_ones_own_and_words_are_not(source: str) -> None:
    assert forbidden_uses(source, ["torch.softmax", ".softmax"]) == []


BODY = "def softmax(x):\n    return "


@pytest.mark.parametrize(
    ("cheat", "outcome"),
    [
        ("import torch\nt = torch\n" + BODY + "t.softmax(x, -1)", "forbidden"),
        ("import torch\n" + BODY + "torch._softmax(x, -1, False)", "forbidden"),
        ("import torch\n" + BODY + "getattr(torch, 'soft' + 'max')(x, -1)", "forbidden"),
        ("import torch\n" + BODY + "vars(torch)['softmax'](x, -1)", "forbidden"),
        ("import torch\n" + BODY + "torch.__dict__['softmax'](x, -1)", "forbidden"),
        ("import torch\n" + BODY + "torch.ops.aten.softmax(x, -1)", "forbidden"),
        (BODY + "__import__('torch').softmax(x, -1)", "forbidden"),
        (BODY + "eval('x.soft' 'max(-1)')", "forbidden"),
        ("import sys\n" + BODY + "sys.modules['torch'].softmax(x, -1)", "forbidden"),
        ("from torch import *\n" + BODY + "x", "forbidden"),
        ("import torch\ntorch.allclose = lambda *a, **k: True\n" + BODY + "x / x.sum(-1, keepdim=True)", "wrong"),
        ("import torch\n" + BODY + "x.data.exp_() / x.sum(-1, keepdim=True)", "wrong"),
        ("import torch\n" + BODY + "torch.full_like(x, 1 / x.shape[-1])", "wrong"),
    ],
)
def test_a_lazy_answer_does_not_pass(softmax: Challenge, cheat: str, outcome: str) -> None:
    allclose = torch.allclose
    assert judge(softmax, cheat, 0).outcome == outcome
    assert torch.allclose is allclose


def test_what_a_person_writes_without_guile_is_no_hiding(softmax: Challenge) -> None:
    honest = (
        softmax.solution
        + "\nmodel = type('M', (), {'eval': lambda self: 1})()\nmodel.eval()\nprint(getattr(model, 'eval')())\n"
    )
    assert judge(softmax, honest, 0).passed


def test_pytorchs_own_not_implemented_is_no_blank(softmax: Challenge) -> None:
    verdict = judge(softmax, "import torch\n" + BODY + "torch.linalg.svd(torch.ones(2, 2, dtype=torch.long))", 0)
    assert verdict.outcome == "raised" and "Long" in verdict.message


def test_the_line_is_told() -> None:
    assert forbidden_uses("import torch\n\nx = torch.softmax(1)", ["torch.softmax"]) == [(3, "torch.softmax")]


def test_a_house_challenge_is_not_answered_by_the_house(softmax: Challenge) -> None:
    assert judge(softmax, "from etude.nn.softmax import softmax", 0).outcome == "forbidden"
    assert judge(softmax, softmax.solution.replace("import torch", "import etude, torch", 1), 0).outcome == "forbidden"


# In this process


@pytest.mark.parametrize(
    ("source", "outcome", "message"),
    [
        ("", "wrong", "softmax.py has no 'softmax' any more"),
        ("def f(:\n", "syntax", "line 1 is no Python"),
        ("\0", "syntax", "softmax.py is no Python"),
        ("1 / 0", "raised", "line 1 raises ZeroDivisionError: division by zero"),
        (HEAD + "return None", "wrong", "`softmax` returns None: is a `return` missing?"),
        (HEAD + "x += 1\n    return x", "wrong", "`softmax` changes its input in place"),
        (HEAD + "return x.item()", "raised", "line 3 raises RuntimeError, in `softmax(float32["),
        (HEAD + "sys.exit(0)", "raised", "line 3 ends Python (SystemExit)"),
        (HEAD + "raise KeyboardInterrupt", "raised", "line 3 raises KeyboardInterrupt"),
        (HEAD + "return softmax(x)", "raised", "maximum recursion depth"),
        (HEAD + "return 'shares'", "wrong", "is a str; it should be a tensor"),
        ("softmax = 3", "wrong", "`softmax` is an int: it has to be the function of that name"),
    ],
)
def test_whatever_an_answer_does_it_is_told_in_a_line(softmax, source: str, outcome: str, message: str) -> None:
    verdict = judge(softmax, source, 0)
    assert (verdict.outcome, message in verdict.message) == (outcome, True), verdict
    assert "\n" not in verdict.message or verdict.outcome == "wrong"


def test_prints_are_kept_up_to_a_length(softmax: Challenge) -> None:
    verdict = judge(softmax, softmax.solution + "\nprint('begun', end='')\nprint('y' * 100_000)", 0)
    assert verdict.passed and verdict.prints.startswith("begunyyy")
    assert len(verdict.prints) < MOST_PRINTED + 100 and "characters more" in verdict.prints


def test_an_outcome_is_one_of_those() -> None:
    with pytest.raises(UsageError, match="unknown outcome 'fine'"):
        Verdict("fine")


# In a process of its own


def test_right_and_blank_and_wrong_come_back_whole(softmax: Challenge) -> None:
    assert judged(softmax, softmax.solution, 5).passed
    assert judged(softmax, softmax.starter, 5).outcome == "blank"
    wrong = softmax.mutants[0].of(softmax.solution)
    away, here = judged(softmax, wrong, 5), judge(softmax, wrong, 5)
    assert (away.outcome, away.message, away.seed) == (here.outcome, here.message, 5)


@pytest.mark.parametrize("loop", ["while True: pass", "return sum(range(10**12))"])
def test_a_loop_that_never_ends_is_stopped(softmax: Challenge, loop: str) -> None:
    started = time.monotonic()
    verdict = judged(replace(softmax, seconds=1.0), HEAD + loop, 0)
    assert verdict.outcome == "time" and "more than 1 seconds" in verdict.message
    assert time.monotonic() - started < 40


def test_memory_has_a_limit(softmax: Challenge) -> None:
    assert judged(softmax, HEAD + "return torch.zeros(10**11)", 0).outcome == "memory"
    grows = HEAD + "held = []\n    while True: held.append(torch.ones(10**7))"
    assert judged(softmax, grows, 0, memory=1 << 30).outcome == "memory"


@pytest.mark.parametrize("ends", ["os._exit(0)", "os._exit(5)", "os.abort()"])
def test_an_answer_that_ends_python_is_told_so(softmax: Challenge, ends: str) -> None:
    assert judged(softmax, HEAD + ends, 0).outcome == "ended"


def test_nobody_answers_an_answer_that_asks(softmax: Challenge) -> None:
    verdict = judged(softmax, HEAD + "return input()", 0)
    assert verdict.outcome == "raised" and "nobody is there to answer `input()`" in verdict.message


def test_what_an_answer_starts_ends_with_it_and_it_works_in_a_folder_of_its_own(
    softmax: Challenge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mark = f"3{os.getpid()}"
    source = f"import subprocess, pathlib\nsubprocess.Popen(['sleep', '{mark}'])\n"
    source += "pathlib.Path('left.txt').write_text('x')\n" + softmax.solution
    assert judged(softmax, source, 0).passed
    assert list(tmp_path.iterdir()) == []
    assert subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, check=False).stdout == b""


def test_a_check_that_breaks_is_a_defect_of_the_check(softmax: Challenge, tmp_path: Path) -> None:
    for part in ("challenge.toml", "starter.py", "solution.py"):
        (tmp_path / part).write_text((softmax.folder / part).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "check.py").write_text("def check(theirs, exam):\n    return 1 / 0\n", encoding="utf-8")
    with pytest.raises(EtudeError, match=r"a defect in its check\.py: ZeroDivisionError: division by zero"):
        judged(replace(softmax, folder=tmp_path), softmax.solution, 0)
