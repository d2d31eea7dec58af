"""`etude chat` with lines on standard input, and what it shows of texts that would act on a terminal."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import torch

from etude.cli.chat import _trained_prompt
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.saved import save_model
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.objectives.dialogue import Dialogue

EVIL, SHOWN = "\x1b[2J\x1b]0;evil\x07\u202e [bold red]x[/]", r"\x1b[2J\x1b]0;evil\x07\u202e [bold red]x[/]"


def saved(folder: Path, model: Any) -> Path:
    folder.mkdir()
    save_model(model, folder)
    ByteTokenizer().save(folder)
    return folder


@pytest.fixture
def writer(here: Path) -> Path:
    """A model, in a folder, that answers whatever is said with an escape, and with what Rich would take for markup."""
    model = Decoder(
        layers=0, width=257, heads=1, feedforward=0, context=200, positions="none", norm="none", biases=False
    ).build(257)
    ids = [*b": \x1b[b]", 256]
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.embed.W_E.copy_(torch.eye(257))  # type: ignore[union-attr]
        for a, b in itertools.pairwise(ids):
            model.unembed.W_U[a, b] = 50.0  # type: ignore[index, union-attr]
    return saved(here / "writer", model)


@pytest.fixture
def lively(here: Path) -> Path:
    """A small model of random weights, in a folder."""
    torch.manual_seed(0)
    return saved(here / "lively", Decoder(layers=2, width=16, heads=2, feedforward=24, context=300).build(257))


@pytest.fixture
def talk(etude: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls `etude chat` with words and what stands on standard input."""

    def call(lines: str | bytes, *words: str | Path) -> Any:
        typed = lines if isinstance(lines, bytes) else lines.encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
        return etude("chat", *words)

    return call


def test_a_line_is_a_turn_and_what_acts_is_spelled(talk: Any, writer: Path) -> None:
    answer = talk("Hello\n\n//slash\n", writer)
    assert (answer.code, answer.out) == (0, "\\x1b[b]\n\\x1b[b]\n")
    assert answer.err == "writer, prompt none; /help lists what else can be typed\n"


def test_a_conversation_is_saved_loaded_and_shown_harmlessly(talk: Any, writer: Path, here: Path) -> None:
    said = [{"role": "user", "content": EVIL}, {"role": "assistant", "content": f"a\n{EVIL}"}]
    (here / "evil.json").write_text(json.dumps(said))
    answer = talk(f"And?\n/save kept.json\n/undo\n/undo\n/load kept.json\n{EVIL}\n", writer, "--load", "evil.json")
    before = f"User: {SHOWN}\nAssistant: a\n{SHOWN}\n"
    assert answer.code == 0
    assert answer.out == f"{before}\\x1b[b]\n{before}User: And?\nAssistant: \\x1b[b]\n\\x1b[b]\n"
    assert "\x1b" not in answer.err and "(2 turns are left)\n(0 turns are left)\n" in answer.err
    kept = json.loads((here / "kept.json").read_text())["messages"]
    assert kept == [*said, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "\x1b[b]"}]


def test_sampling_is_set_and_replies_are_written_anew(talk: Any, lively: Path) -> None:
    words = (lively, "--sampling.max-tokens", "5", "--prompt", "none", "--prompt.user-mark", "Q:")
    drawn = talk("Hello\n/regenerate\n", *words).out
    assert drawn == talk("Hello\n/regenerate\n", *words).out, "the same seed"
    sure = talk("/set temperature 0\n/set max_tokens 4\n/set stop ab\n/set\nHello\n/regenerate\n", *words).out
    assert {"temperature 0.0", "max-tokens 4", "stop ab", "seed 0"} <= set(sure.splitlines())


def test_a_story_goes_on(talk: Any, lively: Path, here: Path) -> None:
    talk("Once upon a time\n\nThe end?\n/save story.json\n", lively, "--story", "--sampling.max-tokens", "4")
    messages = json.loads((here / "story.json").read_text())["messages"]
    assert [m["content"] for m in messages[::2]] == ["Once upon a time", "", "The end?"]


@pytest.mark.parametrize("words", [("--look",), ()], ids=["after each reply", "when asked"])
def test_the_last_token_is_looked_at(talk: Any, writer: Path, lively: Path, words: tuple[str, ...]) -> None:
    answer = talk("Hello\n" if words else "Hello\n/look\n", writer, *words)
    _, title, head, row = answer.out.splitlines()
    assert title == "after ']', token 28" and head.split() == ["layer", "lens", "p", "head", "attends", "to"]
    assert row.split() == ["end", "'<|endoftext|>'", "1.000"], "the model's own prediction"
    rows = talk("Hello\n/look\n", lively, "--sampling.temperature", "0").out.splitlines()[-3:]
    assert [line.split()[0] for line in rows] == ["0", "1", "end"]
    assert all(" H0 " in line or " H1 " in line for line in rows[:2])


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ("/undo\n", "there is nothing to undo: nothing was said yet"),
        ("/regenerate\n", "there is no reply to write again"),
        ("/look\n", "there is nothing to look at yet"),
        ("/sve x\n", "unknown command '/sve': did you mean '/save'?"),
        ("/save\n", "/save needs the name of a file"),
        ("/load nowhere.json\n", "No such file or directory: nowhere.json"),
        ("/load \x1b[2J\n", r"No such file or directory: \x1b[2J"),
        ("/load writer\n", "Is a directory: writer"),
        ("/save no/such/folder.json\n", "No such file or directory: no/such/"),
        ("/set\x1b 1\n", r"unknown command '/set\x1b'"),
        ("/set temperture 1\n", "unknown setting 'temperture': did you mean 'temperature'?"),
        ("/set temperature\n", "/set temperature needs a value"),
        ("/set temperature warm\n", "--temperature 'warm' is not a number"),
        ("/set temperature -1\n", "temperature = -1.0 is below 0"),
        (200 * "x" + "\n", "what was said is too long by"),
    ],
)
def test_an_error_in_a_piped_conversation_is_one_line(talk: Any, writer: Path, lines: str, line: str) -> None:
    answer = talk(lines, writer)
    assert answer.code in (1, 2)
    last = answer.err.splitlines()[-1]
    assert last.startswith(f"etude: {line}") and len(answer.err.splitlines()) == 2
    assert "\x1b" not in answer.err


def test_what_cannot_be_talked_with(talk: Any, lively: Path, here: Path) -> None:
    encoder = saved(here / "encoder", Encoder(layers=1, width=16, heads=2, feedforward=24, context=40).build(257))
    (here / "bad.json").write_text('[{"role": "assistant", "content": "x"}]')
    for words, line in [
        ((encoder,), "an encoder goes on from no text: give a decoder or a retro"),
        ((here / "nowhere",), "unknown run"),
        ((lively, "--prompt", "long"), "the prompt 'long' has"),
        ((lively, "--prompt", "lng"), "unknown prompt 'lng': did you mean 'long'?"),
        ((lively, "--story", "--prompt", "short"), "--story and --prompt short exclude each other"),
        ((lively, "--load", "bad.json"), "turn 1 is the model's and the first is the user's"),
        ((lively, "--serve", "70000"), "port 70000 is none"),
        ((lively, "--serve", "0", "--look"), "--serve begins no conversation of its own: leave --look out"),
        ((lively, "--sampling.beams", "2", "--sampling.temperature", "0"), "beam search knows no text before its end"),
        ((lively, "--sampling.temprature", "0"), "unknown flag --sampling.temprature: did you mean"),
        ((), "RUN is missing. See: etude chat --help"),
    ]:
        answer = talk("Hello\n", *words)
        assert (answer.code, answer.out) == (2, ""), words
        assert answer.err.startswith(f"etude: {line}") and answer.err.count("\n") == 1


def test_a_model_of_dialogues_reads_no_prompt_and_ends_its_line() -> None:
    class Made:
        recipe: Any

    run, at = Made(), Made()
    run.recipe = type("Trained", (), {"objective": Dialogue(user_mark="Q:")})()
    at.recipe = type("At", (), {"of": run.recipe})()
    for made in (run, at):
        prompt = _trained_prompt(made)  # type: ignore[arg-type]
        assert prompt is not None and (prompt.name, prompt.user_mark, prompt.one_line) == ("none", "Q:", True)
    run.recipe = Byte()
    assert _trained_prompt(run) is None  # type: ignore[arg-type]


def in_its_own_process(*words: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "etude", "chat", *map(str, words)]
    return subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env)


def test_a_piped_conversation(writer: Path) -> None:
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    out, err = in_its_own_process(writer, env=plain).communicate(b"Hello\n\xff\xfe\r\n/quit\nnever\n", timeout=120)
    assert out == b"\\x1b[b]\n\\x1b[b]\n"
    assert err == b"writer, prompt none; /help lists what else can be typed\n"


def test_an_interrupt_stops_the_reply_and_keeps_the_conversation(here: Path) -> None:
    torch.manual_seed(0)
    shape = Decoder(layers=8, width=64, heads=2, feedforward=64, context=30_000, positions="rotary")
    slow = saved(here / "slow", shape.build(257))
    process = in_its_own_process(slow, "--story", "--sampling.max-tokens", "20000")
    assert process.stdin and process.stdout
    process.stdin.write(b"Hello\n")
    process.stdin.flush()
    assert process.stdout.read(1), "it has begun to write"
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    _, err = process.communicate(b"/set max-tokens 3\nMore\n/save kept.json\n", timeout=120)
    assert process.returncode == 0 and b"(stopped)" in err
    said = json.loads((here / "kept.json").read_text())["messages"]
    assert [m["content"] for m in said[::2]] == ["Hello", "More"] and said[1]["content"]
