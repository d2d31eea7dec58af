"""Recording activations: what `look` sees, row by row; in bounded memory; to the same bytes after being killed."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe, work_of
from etude.core.run import Draft
from etude.evals import recording
from etude.evals.filling import Filling, header
from etude.evals.loss import chosen_windows
from etude.evals.recipes import Record
from etude.evals.recording import ACTIVATIONS, ROWS, Recording, record
from etude.models.architectures.decoder import Decoder
from etude.models.load import load as load_model
from etude.models.recipes import Planted
from etude.models.saved import WEIGHTS
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.next_token import NextToken
from etude.train.recipes import At, Train

V, T, N = 40, 12, 30
BATCH = 7
FILES = (ACTIVATIONS, ROWS)
SITES = ["L*.resid.post", "L0.attn.z", "L1.mlp.pre"]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "batch_for", lambda vocabulary, context: BATCH)


@pytest.fixture
def marked_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MARK_EVERY", 0.0)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Decoder(layers=2, width=16, heads=2, feedforward=24, context=T).build(V, seed=0).eval()


@pytest.fixture(scope="module")
def texts(rows: Callable[..., Examples]) -> Examples:
    """Random tokens, of which some sequences end before the last position."""
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, V - 1, (N, T + 1))
    targets = np.where(np.arange(T) < draw.integers(1, T + 1, (N, 1)), tokens[:, 1:], IGNORE)
    targets[:5] = tokens[:5, 1:]
    return rows(tokens[:, :-1], targets, vocabulary=V)


WINDOWS = np.delete(np.arange(N), [3, 11])


def test_what_look_sees_is_recorded_at_all_sites_in_one_pass(
    model: Transformer, texts: Examples, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    found = record(model, texts, WINDOWS, SITES, tmp_path, progress=lambda *at: seen.append(at))
    assert sorted(found.sites) == ["L0.attn.z", "L0.resid.post", "L1.mlp.pre", "L1.resid.post"]
    batch = texts.batch(WINDOWS)
    real = torch.from_numpy(batch.targets != IGNORE)
    assert 0 < real.sum() < real.numel()
    for site, value in look(model, torch.from_numpy(batch.inputs), SITES).items():
        torch.testing.assert_close(found.activations(site), value.flatten(2)[real])
    assert seen == [(done, 28) for done in (7, 14, 21, 28)]


def test_rows_tell_what_each_was(model: Transformer, texts: Examples, tmp_path: Path) -> None:
    found = record(model, texts, WINDOWS, "embed.tokens", tmp_path).rows
    batch = texts.batch(WINDOWS)
    wanted = [
        (batch.inputs[row, t], window, t)
        for row, window in enumerate(WINDOWS)
        for t in range(T)
        if batch.targets[row, t] != IGNORE
    ]
    assert torch.stack(list(found), 1).tolist() == [list(map(int, row)) for row in wanted]
    assert {each.dtype for each in found} == {torch.int32}


class Killed(BaseException):
    """What no work catches."""


def content(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.usefixtures("marked_always")
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_killed_recording_goes_on_where_it_stopped(
    after: int, model: Transformer, texts: Examples, tmp_path: Path
) -> None:
    whole, cut, mark = tmp_path / "whole", tmp_path / "cut", tmp_path / "mark.json"
    for folder in (whole, cut):
        folder.mkdir()
    record(model, texts, WINDOWS, SITES, whole)
    read: list[int] = []

    def stop(done: int, total: int) -> None:
        read.append(done)
        if len(read) == after:
            raise Killed

    with pytest.raises(Killed):
        record(model, texts, WINDOWS, SITES, cut, mark=mark, progress=stop)
    record(model, texts, WINDOWS, SITES, cut, mark=mark, progress=stop)
    assert content(cut) == content(whole)
    assert read == [7, 14, 21, 28], "no window is read twice"


@pytest.mark.usefixtures("marked_always")
def test_what_was_written_and_not_marked_is_written_again(
    model: Transformer, texts: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut, mark = tmp_path / "whole", tmp_path / "cut", tmp_path / "mark.json"
    for folder in (whole, cut):
        folder.mkdir()
    record(model, texts, WINDOWS, SITES, whole)
    written = recording.write_json
    marks: list[Any] = []

    def torn(path: Path, data: Any) -> None:
        if marks:
            (cut / ACTIVATIONS).write_bytes((cut / ACTIVATIONS).read_bytes()[:-999] + b"\xff" * 999)
            raise Killed
        marks.append(data)
        written(path, data)

    monkeypatch.setattr(recording, "write_json", torn)
    with pytest.raises(Killed):
        record(model, texts, WINDOWS, SITES, cut, mark=mark)
    monkeypatch.setattr(recording, "write_json", written)
    record(model, texts, WINDOWS, SITES, cut, mark=mark)
    assert content(cut) == content(whole)


@pytest.mark.usefixtures("marked_always")
def test_another_call_is_not_gone_on_with(model: Transformer, texts: Examples, tmp_path: Path) -> None:
    mark = tmp_path / "mark.json"
    record(model, texts, WINDOWS, SITES, tmp_path, mark=mark)
    for windows, sites in ((WINDOWS[::-1].copy(), SITES), (WINDOWS, ["L0.resid.pre"])):
        again = record(model, texts, windows, sites, tmp_path, mark=mark).activations(sites[-1])
        afresh = tmp_path / f"afresh-{sites[-1]}"
        afresh.mkdir(exist_ok=True)
        assert torch.equal(again, record(model, texts, windows, sites, afresh).activations(sites[-1]))


@pytest.mark.usefixtures("marked_always")
@pytest.mark.parametrize("gone", [FILES, FILES[:1], FILES[1:]])
def test_a_mark_without_its_files_begins_anew(
    gone: tuple[str, ...], model: Transformer, texts: Examples, tmp_path: Path
) -> None:
    mark = tmp_path / "mark.json"
    record(model, texts, WINDOWS, SITES, tmp_path, mark=mark)
    before = content(tmp_path)
    for name in gone:
        (tmp_path / name).unlink()
    record(model, texts, WINDOWS, SITES, tmp_path, mark=mark)
    assert mark.exists() and content(tmp_path) == before


def test_no_windows_are_one_line(model: Transformer, texts: Examples, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 windows are nothing to record: give one or more"):
        record(model, texts, WINDOWS[:0], SITES, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_more_than_a_batch_is_held(model: Transformer, rows: Callable[..., Examples], tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, V, (20 * BATCH, T + 1))
    held: list[int] = []

    def count(done: int, total: int) -> None:
        if done % (4 * BATCH):
            return
        tensors = [thing for thing in gc.get_objects() if type(thing) is Tensor]
        held.append(sum(tensor.nbytes for tensor in tensors))

    examples = rows(tokens[:, :-1], tokens[:, 1:], vocabulary=V)
    record(model, examples, np.arange(len(tokens)), "L*.resid.post", tmp_path, progress=count)
    batch = BATCH * T * 2 * 16 * 4
    assert len(held) == 5 and max(held) - held[0] < batch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_files_are_safetensors(dtype: torch.dtype, texts: Examples, tmp_path: Path) -> None:
    model = Decoder(layers=1, width=10, heads=2, feedforward=0, context=T).build(V, seed=0).to(dtype).eval()
    found = record(model, texts, WINDOWS, ["L0.resid.*"], tmp_path)
    stored = load_file(tmp_path / ACTIVATIONS)
    assert set(stored) == {"L0.resid.pre", "L0.resid.post"}
    for site, value in stored.items():
        assert value.dtype == dtype and torch.equal(value, found.activations(site))
    assert set(load_file(tmp_path / ROWS)) == {"tokens", "window", "position"}


@given(
    shapes=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=2), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32]),
)
def test_a_file_that_was_filled_is_read_back(
    shapes: list[list[int]], dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("filled") / "some.safetensors"
    values = {f"L{n}.x": torch.arange(math.prod(shape)).reshape(shape).to(dtype) for n, shape in enumerate(shapes)}
    layout = {name: (dtype, tuple(value.shape)) for name, value in values.items()}
    with Filling(path, layout, new=True) as file:
        for name, value in values.items():
            for row in reversed(range(len(value))):  # in any order
                file.write(name, row, value[row : row + 1])
    start, _, size = header(layout)
    assert path.stat().st_size == size and len(start) % 8 == 0
    found = load(path.read_bytes())
    assert found.keys() == values.keys() and all(torch.equal(found[name], values[name]) for name in values)


def test_a_recording_is_mapped_and_stays_as_it_is(model: Transformer, texts: Examples, tmp_path: Path) -> None:
    found = record(model, texts, WINDOWS, "L0.resid.post", tmp_path)
    before = content(tmp_path)
    value = found.activations("L0.resid.post")
    value.zero_()
    assert content(tmp_path) == before and found.activations("L0.resid.post").any()
    value = found.activations("L0.resid.post")
    with (tmp_path / ACTIVATIONS).open("r+b") as file:
        file.seek(-64, 2)
        file.write(torch.arange(16.0).numpy().tobytes())
    assert value[-1].tolist() == list(range(16)), "it was read before it was asked for"
    with pytest.raises(UsageError, match=r"unknown site in this recording 'L1\.resid\.post': .* There are: L0"):
        found.activations("L1.resid.post")


REFUSED = {
    "L0.attn.W_O": "L0.attn.W_O is a weight",
    "L*.attn.*": "L0.attn.W_Q is a weight, which needs no recording; record activations such as",
    "L0.attn.pattern": "no vector for each token; choose a site such as L0.attn.out",
    "final_norm.scale": "no vector for each token",
    "L0.attn.outt": "unknown site 'L0.attn.outt': did you mean 'L0.attn.out'?",
    "L9.attn.out": "the model has 2 layers (L0, L1)",
}


@pytest.mark.parametrize("site", REFUSED)
def test_what_is_no_activation_of_each_token_is_refused(
    site: str, model: Transformer, texts: Examples, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        record(model, texts, WINDOWS, site, tmp_path)
    assert REFUSED[site] in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_activations_that_are_not_finite(texts: Examples, tmp_path: Path, rows: Callable[..., Examples]) -> None:
    """One token's vector is infinite, and it comes in the second batch alone."""
    model = Decoder(layers=1, width=8, heads=2, feedforward=0, context=T).build(V, seed=0).eval()
    with torch.no_grad():
        model.get_parameter("embed.W_E")[V - 1, 2] = torch.inf
    inputs = texts.batch(np.arange(N)).inputs.copy()
    inputs[BATCH, 5:7] = V - 1
    examples = rows(inputs, inputs, vocabulary=V)
    words = r"2 of 84 activations at embed\.tokens, after 84 good ones, are not finite; the model has diverged"
    with pytest.raises(UsageError, match=words):
        record(model, examples, np.arange(N), "embed.tokens", tmp_path)


# Through the recipe

TEXT = Tokens(Fable(stories=60), Byte())
TRAIN = Train(
    data=TEXT,
    model=Decoder(layers=2, width=16, heads=2, feedforward=32, context=16),
    steps=0, evaluate_tokens=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), threads=1, quiet=True)


def test_a_recipe_records_the_training_split(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.run(Record(TRAIN, "L*.resid.post", tokens=500))
    examples = TextData.open(lab.run(TEXT)).examples("train", 16)
    windows = chosen_windows(examples, 500)
    seen = look(load_model(lab.run(TRAIN))[0], torch.from_numpy(examples.batch(windows).inputs), "L*.resid.post")
    found = Recording.open(run)
    for site, value in seen.items():
        torch.testing.assert_close(found.activations(site), value.flatten(0, 1))
    assert found.rows.window.unique().tolist() == windows.tolist()
    each = {"width": 16, "dtype": "float32"}
    told = {"sites": {"L0.resid.post": each, "L1.resid.post": each}, "tokens": 496, "windows": 31}
    assert {key: value for key, value in run.result.items() if key != "timing"} == told
    monkeypatch.setattr(recording, "batch_for", lambda vocabulary, context: 512)
    every = lab.run(Record(TRAIN, "L0.attn.out", tokens=0))
    assert every.result["tokens"] == len(examples) * 16


def test_documents_that_a_training_kept_apart_are_recorded_apart(lab: Lab) -> None:
    apart = replace(TRAIN, objective=NextToken(apart=True))
    found = Recording.open(lab.run(Record(apart, "L1.resid.post", tokens=1600))).activations("L1.resid.post")
    data = TextData.open(lab.run(TEXT))
    examples = NextToken(apart=True).examples(data, "train", 16)
    batch = examples.batch(chosen_windows(examples, 1600))
    model, tokens, documents = (
        load_model(lab.run(apart))[0],
        torch.from_numpy(batch.inputs),
        torch.from_numpy(batch.given["documents"]),
    )
    assert (documents[:, 0] != documents[:, -1]).any(), "a window has two documents"
    seen = look(model, tokens, "L1.resid.post", documents=documents)["L1.resid.post"].flatten(0, 1)
    torch.testing.assert_close(found, seen)
    together = look(model, tokens, "L1.resid.post")["L1.resid.post"].flatten(0, 1)
    assert (found - together).abs().max() > 1e-3


def test_positions_that_begin_anew_in_each_document_are_refused(lab: Lab) -> None:
    restarted = replace(TRAIN, objective=NextToken(apart=True, restart=True))
    with pytest.raises(UsageError, match=r"counts positions anew in each document .* objective\.restart off") as caught:
        lab.run(Record(restarted, "L1.resid.post", tokens=160))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("marked_always")
def test_a_draft_that_was_killed_is_gone_on_with(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Record(TRAIN, "L1.mlp.post", tokens=400).resolve()
    inputs = Done()
    for each in (TRAIN.resolve(), TEXT.resolve()):
        inputs.add(each, lab.run(each))
    read: list[float] = []

    def progress(self: Draft, done: float, total: float, unit: str = "steps", note: str = "") -> None:
        read.append(done)
        if len(read) == 2:
            raise Killed

    monkeypatch.setattr(Draft, "progress", progress)
    with pytest.raises(Killed):
        work_of(recipe)(recipe, inputs, Draft(tmp_path / "r.partial", recipe))
    work_of(recipe)(recipe, inputs, Draft(tmp_path / "r.partial", recipe))
    assert read == [7, 14, 21, 25]
    assert content(tmp_path / "r.partial") == content(lab.run(recipe).path)


def test_a_model_that_diverged_is_told_of(lab: Lab, tmp_path: Path) -> None:
    """One column of an output is infinite, so the next layer's is not a number."""
    recipe, trained = Record(TRAIN, "L1.attn.out", tokens=320).resolve(), TRAIN.resolve()
    broken = Draft(tmp_path / "model.partial", trained)
    whole = lab.run(trained)
    for name in whole.files:
        (broken.path / name).write_bytes(whole.file(name).read_bytes())
    weights = load_file(whole.file(WEIGHTS))
    weights["layers.0.attn.W_O"][..., 3] = torch.inf
    save_file(weights, broken.path / WEIGHTS)
    inputs = Done()
    inputs.add(trained, broken.finish({}, {}))
    inputs.add(TEXT.resolve(), lab.run(TEXT))
    with pytest.raises(UsageError, match=r"112 of 112 activations at L1\.attn\.out, after 0 good ones, are not finite"):
        work_of(recipe)(recipe, inputs, Draft(tmp_path / "r.partial", recipe))


BARE = replace(TRAIN, model=replace(TRAIN.model, feedforward=0))
EARLY: list[tuple[Callable[[], Recipe], str]] = [
    (lambda: Record(TRAIN, "L0.attn.W_O"), "L0.attn.W_O is a weight; name an activation"),
    (lambda: Record(TRAIN, "L*.attn.W_*"), "L*.attn.W_* is a weight; name an activation"),
    (lambda: Record(TRAIN, "L7.attn.out"), "unknown site 'L7.attn.out': the model has 2 layers (L0, L1)"),
    (lambda: Record(At(TRAIN, 0), "L7.attn.out"), "unknown site 'L7.attn.out': the model has 2 layers (L0, L1)"),
    (lambda: Record(BARE, "L1.mlp.out"), "unknown site 'L1.mlp.out': the model is attention-only"),
    (lambda: Record(Planted(), "L2.attn.out"), "unknown site 'L2.attn.out': the model has 2 layers (L0, L1)"),
    (lambda: Record(TRAIN, "no site"), "'no site' is not a site"),
    (lambda: Record(TRAIN, "L0.attn.out", tokens=-1), "tokens = -1 is too small"),
]


@pytest.mark.parametrize(("make", "words"), EARLY)
def test_what_cannot_be_is_refused_before_anything_is_trained(make: Callable[[], Recipe], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("site", ["L0.attn.out", "L*.resid.post", "L?.mlp.p*", "L1.mlp.out", "L0.attn.z"])
def test_room_is_asked_for_what_is_written(site: str, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from etude.evals import recipes

    monkeypatch.setattr(recipes, "ROOM", 12_000)  # what a run holds besides, here
    recipe = Record(TRAIN, site, tokens=8000)
    written = sum(file["bytes"] for file in lab.run(recipe).files.values())
    glob_within_a_part = site == "L?.mlp.p*"  # two sites a layer, which a shape alone does not tell
    assert (recipe.estimate().disk_bytes >= written) != glob_within_a_part
    assert recipe.estimate().disk_bytes < 1.2 * written
