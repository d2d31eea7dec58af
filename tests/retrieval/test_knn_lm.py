"""kNN-LM: its search, its vote and its share against direct computation, and a datastore that knows the answers."""

from __future__ import annotations

import functools
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
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize_scalar
from sklearn.neighbors import NearestNeighbors

from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe, work_of
from etude.core.run import Draft
from etude.evals import window_reading
from etude.evals.by_document import ByDocument, compared
from etude.evals.recipes import BitsPerByte
from etude.evals.sliding_work import LOSSES, losses_in
from etude.models.architectures.decoder import Decoder
from etude.models.load import load
from etude.models.saved import WEIGHTS
from etude.retrieval import knn_datastore
from etude.retrieval.exact import SPARE
from etude.retrieval.knn_datastore import STORE, Memory, spread
from etude.retrieval.knn_lm import best_share, mixed, neighbour_chances
from etude.retrieval.knn_work import notices
from etude.retrieval.recipes import Datastore, KnnLm
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import At, Train

T = 16
TEXT = Tokens(Fable(stories=20), BytePair(vocabulary=300))
TRAIN = Train(
    data=TEXT,
    model=Decoder(layers=1, width=16, heads=2, feedforward=32, context=T),
    batch=8,
    steps=30,
    evaluate_every=0,
    evaluate_tokens=320,
    precision="fp32",
)
SMALL = KnnLm(TRAIN, stride=4, k=5, positions=600, dtype="fp32", temperatures=(0.5, 4.0), tokens=400)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


# The parts


def test_neighbours_vote_for_what_followed_them() -> None:
    draw, temperatures = np.random.default_rng(0), (0.5, 3.0)
    distances, followed = draw.gamma(2, 2, (6, 8)), draw.integers(0, 4, (6, 8))
    each = [
        neighbour_chances(
            torch.from_numpy(distances), torch.from_numpy(followed), torch.full((6,), token), temperatures
        ).numpy()
        for token in range(4)
    ]
    assert sum(each) == pytest.approx(np.ones((6, 2)))
    for query, column in np.ndindex(6, 2):
        weights = [math.exp(-d / temperatures[column]) for d in distances[query]]
        right = sum(w for w, token in zip(weights, followed[query], strict=True) if token == 2)
        assert each[2][query, column] == pytest.approx(right / sum(weights))


def test_far_neighbours_vote_too() -> None:
    distances, followed = torch.tensor([[5000.0, 5001.0]]), torch.tensor([[1, 2]])
    found = neighbour_chances(distances, followed, torch.tensor([1]), (1.0,))
    assert found.item() == pytest.approx(1 / (1 + math.exp(-1)))


def test_a_mixture_is_that_of_chances() -> None:
    losses, chances = np.array([0.1, 2.0, 5.0, 800.0]), np.array([0.0, 0.5, 1.0, 1e-30])
    assert np.array_equal(mixed(losses, chances, 0.0), losses), "a share of 0 is the model itself"
    wanted = -np.log(0.25 * chances + 0.75 * np.exp(-losses))
    assert mixed(losses, chances, 0.25) == pytest.approx(wanted)


@given(st.integers(0, 2**32), st.floats(0.1, 6))
def test_the_best_share_is_where_the_mean_loss_is_least(seed: int, hard: float) -> None:
    draw = np.random.default_rng(seed)
    losses, chances = draw.gamma(1, hard, 200), draw.random(200) * (draw.random(200) < 0.5)
    share = best_share(losses, chances)
    found = mixed(losses, chances, share).mean()
    other: Any = minimize_scalar(
        lambda share: mixed(losses, chances, share).mean(), bounds=(0, 1 - 1e-9), method="bounded"
    )
    assert found <= other.fun + 1e-9 and found <= losses.mean()


def test_neighbours_that_are_never_right_have_no_share_and_those_that_always_are_have_nearly_all() -> None:
    losses = np.array([1.0, 2.0, 900.0])
    assert best_share(losses, np.zeros(3)) == 0
    assert best_share(losses, np.ones(3)) == pytest.approx(3 / 4), "three tokens cannot tell what one in four does"


@given(st.lists(st.integers(1, 20), min_size=1, max_size=50), st.integers(20, 400))
def test_as_many_windows_are_chosen_as_fit_evenly_spread(counts: list[int], most: int) -> None:
    chosen = spread(np.array(counts), most)
    assert np.array(counts)[chosen].sum() <= most and (np.diff(chosen) > 0).all()
    if sum(counts) <= most:
        assert len(chosen) == len(counts)
    else:
        gaps = np.diff(chosen)
        assert len(chosen) >= most // 20 - 1 and (not len(gaps) or gaps.max() - gaps.min() <= 1)


# Through the lab


def test_the_datastore_holds_what_the_model_read_and_what_followed(lab: Lab) -> None:
    run = lab.run(Datastore(TRAIN, stride=4, positions=600, dtype="fp32"))
    kept, data = load_file(run.file(STORE)), TextData.open(lab.run(TEXT))
    model, store, row = load(lab.run(TRAIN))[0], data.store("train"), 0
    before = np.concatenate([[data.tokenizer.end], store.tokens]).astype(np.int64)
    assert len(kept["keys"]) == len(kept["values"]) == run.result["positions"] <= 600
    assert run.result["positions"] > 600 - T and run.result["of"] == store.count
    for begin, length, fresh in windows_by_hand(store.documents, run.result["windows"]):
        text = torch.from_numpy(before[begin : begin + length + 1])
        with torch.no_grad():
            hidden = model.hidden(text[None, :-1])[0, fresh:]
        rows = slice(row, row + len(hidden))
        assert (kept["keys"][rows] - hidden).abs().max() < 1e-5
        assert torch.equal(kept["values"][rows].long(), text[fresh + 1 :])
        row += len(hidden)
    assert row == run.result["positions"]


def windows_by_hand(documents: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """Return, of windows spread over the documents, where each begins in the store with a separator in front of it, how
    many predictions it makes, and the first that counts."""
    every = []
    for begin, end in zip(documents[:-1].tolist(), documents[1:].tolist(), strict=True):
        start = 0
        while True:
            every.append((begin + start, min(T, end - begin - start), T - 4 if start else 0))
            if begin + start + T >= end:
                break
            start += 4
    return [every[round(n)] for n in np.linspace(0, len(every) - 1, count)]


def test_the_nearest_are_those_of_another_library(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.run(SMALL.datastore)
    memory, kept = Memory(run), load_file(run.file(STORE))
    queries = torch.from_numpy(np.random.default_rng(0).normal(size=(23, 16)).astype(np.float32))
    monkeypatch.setattr(knn_datastore, "FETCHED", 16 * (9 + SPARE) * 5)  # five queries at once
    found = memory.nearest(queries, 9)
    wanted, numbers = NearestNeighbors(n_neighbors=9, algorithm="brute").fit(kept["keys"]).kneighbors(queries)
    assert np.abs(found.distances.numpy() - wanted**2).max() < 1e-4
    same = found.tokens.numpy() == kept["values"].numpy()[numbers]
    assert same.mean() > 0.95, "but for ties, of which the other library knows no order"
    assert memory.nearest(queries[:0], 2).tokens.shape == (0, 2)


@functools.cache
def read_by_hand(lab: Lab, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the model's loss of each token of a split, in order, the squared distances of the five nearest, and which
    of these were followed by it; in float64, one token at a time."""
    data, model = TextData.open(lab.run(TEXT)), load(lab.run(TRAIN))[0]
    kept, store = load_file(lab.run(SMALL.datastore).file(STORE)), data.store(split)
    keys, values, found = kept["keys"].double().numpy(), kept["values"].numpy(), []
    for begin, end in zip(store.documents[:-1].tolist(), store.documents[1:].tolist(), strict=True):
        text = np.concatenate([[data.tokenizer.end], store.tokens[begin:end]]).astype(np.int64)
        for position in range(end - begin):
            start = max(0, -(-(position + 1 - T) // 4) * 4)
            with torch.no_grad():
                hidden = model.hidden(torch.from_numpy(text[None, start : position + 1]))[:, -1]
                scores = (hidden @ model.unembedding()[0])[0].double().log_softmax(-1)
            away = ((keys - hidden.double().numpy()) ** 2).sum(1)
            near, token = np.argsort(away)[:5], text[position + 1]
            found.append((-scores[token].item(), away[near], values[near] == token))
    losses, away, right = map(np.array, zip(*found, strict=True))
    return losses, away, right


def chances_by_hand(lab: Lab, split: str, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the model's loss and the neighbours' chance of each token of a split, in order."""
    losses, away, right = read_by_hand(lab, split)
    weights = np.exp(-away / temperature)
    return losses, (weights * right).sum(1) / weights.sum(1)


def test_the_whole_is_what_direct_computation_gives(lab: Lab) -> None:
    run = lab.run(SMALL)
    told, kept = run.result, load_file(run.file(LOSSES))
    losses, chances = chances_by_hand(lab, "test", told["temperature"])
    assert np.abs(kept["model"].numpy() - losses).max() < 1e-5
    assert np.abs(kept["chances"].numpy() - chances).max() < 1e-4
    wanted = -np.log(told["share"] * chances + (1 - told["share"]) * np.exp(-losses))
    assert np.abs(kept["losses"].numpy() - wanted).max() < 1e-3
    size = TextData.open(lab.run(TEXT)).store("test").bytes
    for estimate, values in ((told["bits_per_byte"], wanted), (told["model"]["bits_per_byte"], losses)):
        assert estimate["mean"] == pytest.approx(values.sum() / size / math.log(2), rel=1e-5)
    difference = (wanted.sum() - losses.sum()) / size / math.log(2)
    assert told["difference"]["mean"] == pytest.approx(difference, rel=1e-3)
    assert told["k"] == 5 and told["positions"] == lab.run(SMALL.datastore).result["positions"]


def test_share_and_temperature_are_those_that_suit_the_validation_split(lab: Lab) -> None:
    told = lab.run(replace(SMALL, tokens=0)).result
    assert told["chosen_on"]["tokens"] == TextData.open(lab.run(TEXT)).store("valid").count
    for row in told["tried"]:
        losses, chances = chances_by_hand(lab, "valid", row["temperature"])
        grid = [mixed(losses, chances, share).mean() for share in np.linspace(0, 0.99, 100)]
        assert row["loss"] == pytest.approx(min(grid), abs=1e-4) and row["loss"] <= min(grid) + 1e-5
        assert row["share"] == pytest.approx(np.argmin(grid) / 100, abs=0.011)
    best = min(told["tried"], key=lambda row: row["loss"])
    assert (told["temperature"], told["share"]) == (best["temperature"], best["share"])
    assert lab.run(SMALL).result["chosen_on"]["tokens"] <= 400


def test_the_model_beside_it_is_the_model_as_bits_per_byte_scores_it(lab: Lab) -> None:
    run, alone = lab.run(SMALL), lab.run(BitsPerByte(TRAIN, stride=4))
    assert np.array_equal(run.tensors(LOSSES)["model"], losses_in(alone))
    assert run.result["model"]["bits_per_byte"] == alone.result["bits_per_byte"]
    assert run.result["difference"] == compared(ByDocument.of(run), ByDocument.of(alone)).to_json()


def test_numbers_of_half_the_size_say_the_same(lab: Lab) -> None:
    half, whole = (lab.run(replace(SMALL, dtype=dtype)).result for dtype in ("fp16", "fp32"))
    assert half["bits_per_byte"]["mean"] == pytest.approx(whole["bits_per_byte"]["mean"], rel=1e-3)


def test_a_datastore_that_holds_the_test_text_makes_the_loss_fall_far(lab: Lab, tmp_path: Path) -> None:
    """The untrained model knows nothing, and its vectors still tell what stands before a token from all else."""
    stories = [story.text() for story in Fable(stories=40).documents("train")][:6]
    for split, told in {"train": stories, "valid": stories[:3], "test": stories[3:]}.items():
        (tmp_path / split).mkdir()
        for number, story in enumerate(told):
            (tmp_path / split / f"{number}.txt").write_text(story, encoding="utf-8")
    known = Tokens(Files(path=str(tmp_path)), Byte())
    untrained = replace(TRAIN, data=known, steps=0)
    found = lab.run(KnnLm(untrained, k=4, dtype="fp32", temperatures=(1e-3, 1e-2, 0.1))).result
    assert found["model"]["bits_per_byte"]["mean"] > 7.5
    assert found["bits_per_byte"]["mean"] < 0.25 and found["share"] > 0.99
    assert found["difference"]["high"] < -7
    other = lab.run(KnnLm(replace(TRAIN, data=replace(TEXT, tokenizer=Byte()), steps=0), k=4, tokens=2000)).result
    assert other["bits_per_byte"]["mean"] > 1, "where the text is not held, it does not"


class Killed(BaseException):
    """What a kill is to the process."""


@pytest.mark.parametrize("recipe", [SMALL.datastore, SMALL], ids=["datastore", "knn-lm"])
def test_killed_it_goes_on_and_ends_as_unbroken(
    recipe: Recipe, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_reading, "MARK_EVERY", 0.0)
    monkeypatch.setattr(window_reading, "batch_for", lambda vocabulary, context: 11)
    recipe, inputs = recipe.resolve(), Done()
    for each in (TRAIN.resolve(), TEXT.resolve(), SMALL.datastore.resolve()):
        inputs.add(each, lab.run(each))
    whole, cut = tmp_path / "whole.partial", tmp_path / "cut.partial"
    wanted, left = work_of(recipe)(recipe, inputs, Draft(whole, recipe)), [0]

    def progress(self: Draft, done: float, total: float, unit: str = "steps", note: str = "") -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    monkeypatch.setattr(Draft, "progress", progress)
    kills = 0
    while True:
        left[0] = 2  # so that each life does one batch that is marked and one that is not
        try:
            told = work_of(recipe)(recipe, inputs, Draft(cut, recipe))
            break
        except Killed:
            kills += 1
    assert kills > 2
    assert told == wanted
    for file in whole.glob("*.safetensors"):
        assert (cut / file.name).read_bytes() == file.read_bytes()


def test_vectors_too_large_for_half_numbers_are_told_of(lab: Lab, tmp_path: Path) -> None:
    trained, whole, inputs = TRAIN.resolve(), lab.run(TRAIN), Done()
    grown = Draft(tmp_path / "model.partial", trained)
    for name in whole.files:
        (grown.path / name).write_bytes(whole.file(name).read_bytes())
    weights = load_file(whole.file(WEIGHTS))
    weights["final_norm.w"] *= 1e6
    save_file(weights, grown.path / WEIGHTS)
    inputs.add(trained, grown.finish({}, {}))
    inputs.add(TEXT.resolve(), lab.run(TEXT))
    half, single = (Datastore(TRAIN, positions=64, dtype=dtype).resolve() for dtype in ("fp16", "fp32"))
    with pytest.raises(UsageError, match="too large for fp16: try --dtype fp32"):
        work_of(half)(half, inputs, Draft(tmp_path / "half.partial", half))
    assert work_of(single)(single, inputs, Draft(tmp_path / "single.partial", single))["positions"] > 0


def test_what_came_of_the_choice_is_told_where_it_matters() -> None:
    best = {"temperature": 0.5, "share": 0.2, "loss": 1.0}
    assert ["last of those tried" in told for told in notices(SMALL, best)] == [True]
    assert ["gave nothing" in told for told in notices(SMALL, {**best, "share": 0.0})] == [True]
    middle = replace(SMALL, temperatures=(0.1, 0.5, 1.0))
    assert notices(middle, best) == []
    assert ["the very text that is scored" in told for told in notices(replace(middle, split="valid"), best)] == [True]


EARLY: list[tuple[Callable[[], Recipe], str]] = [
    (lambda: KnnLm(TRAIN, k=0), "k = 0 nearest of 131072 positions: choose 1 to 131072"),
    (lambda: KnnLm(TRAIN, positions=10), "k = 64 nearest of 10 positions"),
    (lambda: KnnLm(TRAIN, temperatures=()), "temperatures = (): give one or more, above 0"),
    (lambda: KnnLm(TRAIN, temperatures=(1.0, 0.0)), "give one or more, above 0"),
    (lambda: KnnLm(TRAIN, tokens=-1), "tokens = -1 is too small"),
    (lambda: KnnLm(TRAIN, stride=17), "stride = 17 is not from 1 to the context of 16"),
    (lambda: KnnLm(TRAIN, split="train"), "is not one of: valid, test"),  # type: ignore[arg-type]
    (lambda: Datastore(TRAIN, positions=0), "positions = 0 is too small"),
    (lambda: KnnLm(replace(TRAIN, data=replace(TEXT, openings=8))), "openings = 8 are no whole documents"),
]


@pytest.mark.parametrize(("make", "words"), EARLY)
def test_what_cannot_be_is_refused_before_anything_is_trained(make: Callable[[], Recipe], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_datastore_without_room_for_a_window_or_for_k_is_refused(lab: Lab) -> None:
    with pytest.raises(UsageError, match="9 positions are fewer than the 16 of the first window"):
        lab.run(Datastore(TRAIN, positions=9))
    with pytest.raises(
        UsageError, match=r"k = 100000 nearest of \d+ positions that are remembered: choose a smaller k"
    ):
        lab.run(KnnLm(TRAIN, k=100_000))


def test_room_is_asked_for_what_is_written(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from etude.retrieval import recipes

    monkeypatch.setattr(recipes, "ROOM", 4096)
    for dtype in ("fp16", "fp32"):
        recipe = replace(SMALL.datastore, dtype=dtype)
        written = sum(file["bytes"] for file in lab.run(recipe).files.values())
        assert written * 0.8 < recipe.estimate().disk_bytes < written * 1.3


def test_it_reads_what_it_needs_and_no_more(lab: Lab) -> None:
    assert set(SMALL.plan({})) == {TRAIN, TEXT, SMALL.datastore}
    assert set(SMALL.datastore.plan({})) == {TRAIN, TEXT}
    assert KnnLm(At(TRAIN, 0)).datastore.of == At(TRAIN, 0)
