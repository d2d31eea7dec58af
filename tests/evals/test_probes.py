"""Linear probes on planted features, on none, and on a circuit whose stream holds known facts."""

from __future__ import annotations

import collections
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.evals import probes
from etude.evals.probes import FACTS, Labelled, held_out, most_frequent, probe
from etude.evals.recipes import Probe, Target
from etude.evals.recording import Recording, Rows, record
from etude.models.architectures.decoder import Decoder
from etude.models.planted import planted
from etude.models.recipes import Planted
from etude.text.batches import Examples
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.recipes import Train

WIDTH, TYPES, CLASSES = 20, 50, 4
Side = tuple[Labelled, Labelled]


def sides(
    y: Callable[[np.ndarray], np.ndarray],
    x: Callable[[np.ndarray, np.ndarray], np.ndarray],
    windows: int = 60,
    length: int = 30,
    seed: int = 0,
) -> Side:
    """Make rows of random tokens, labels from the tokens or at random, and activations from both; 3/4 to fit to."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(0, TYPES, windows * length)
    labels, window = y(tokens), np.repeat(np.arange(windows), length)
    shown = x(labels, tokens)
    every = Labelled(shown + draw.normal(size=shown.shape), labels, tokens, window)
    train = window < windows * 3 // 4
    return tuple(
        replace(every, x=every.x[on], y=every.y[on], tokens=tokens[on], windows=window[on]) for on in (train, ~train)
    )  # pyright: ignore[reportReturnType]


def at_random(tokens: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).choice(CLASSES, len(tokens), p=[0.4, 0.2, 0.2, 0.2])


def nothing(y: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return np.zeros((len(tokens), WIDTH))


def feature(y: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return 8 * np.eye(CLASSES, WIDTH)[y]


def test_a_linear_feature_is_found() -> None:
    found = probe(*sides(at_random, feature))
    assert found.score.low > 0.98 and found.settled
    assert found.majority.low < 0.4 < found.majority.high
    for baseline in (found.control, found.shuffled):  # the control's labels have another most frequent class
        assert baseline.high < 0.55
    assert found.selectivity.low > 0.45


def test_no_feature_is_no_better_than_the_majority() -> None:
    found = probe(*sides(at_random, nothing, windows=200))
    for score in (found.score, found.shuffled):
        assert abs(score.mean - found.majority.mean) < 0.03
    assert abs(found.control.mean - 0.4) < 0.15


def test_a_probe_that_only_knows_the_token_is_not_selective() -> None:
    """The label is a function of the token, and so are control labels: both are looked up."""

    def of_token(tokens: np.ndarray) -> np.ndarray:
        return np.random.default_rng(2).integers(0, CLASSES, TYPES)[tokens]

    def shown(y: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return 40 * np.eye(TYPES)[tokens]

    found = probe(*sides(of_token, shown))
    assert found.score.low > 0.98 and found.control.low > 0.98 and abs(found.selectivity.mean) < 0.01
    assert found.shuffled.mean < 0.45


def test_a_feature_that_is_not_linear_is_not_found() -> None:
    def either(y: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        sign = np.random.default_rng(4).choice([-8, 8], len(y))
        x = np.zeros((len(y), WIDTH))
        x[:, 0], x[:, 1] = sign, np.where(y == 1, sign, -sign)  # y is whether both have the same sign
        return x

    found = probe(*sides(lambda tokens: np.random.default_rng(1).integers(0, 2, len(tokens)), either))
    assert abs(found.score.mean - 0.5) < 0.1


def test_numbers_against_the_normal_equations() -> None:
    """Ridge regression in closed form on standardised activations, and R² by its definition."""
    train, test = sides(
        lambda tokens: np.random.default_rng(5).normal(7, 3, len(tokens)),
        lambda y, tokens: np.outer(y, np.linspace(-0.5, 0.5, WIDTH)),
    )
    found = probe(train, test, penalty=2.5)
    mean, spread = train.x.mean(0), train.x.std(0)
    z, centre = (train.x - mean) / spread, train.y.mean()
    w = np.linalg.solve(z.T @ z + 2.5 * np.eye(WIDTH), z.T @ (train.y - centre))
    errors = test.y - ((test.x - mean) / spread @ w + centre)
    assert found.score.mean == pytest.approx(1 - (errors**2).sum() / ((test.y - centre) ** 2).sum())
    assert 0.9 < found.score.low < found.score.high < 1
    assert found.majority.mean == pytest.approx(0) and abs(found.shuffled.mean) < 0.1 and found.control.mean < 0.1
    assert found.selectivity.mean == pytest.approx(found.score.mean - found.control.mean)


def test_accuracy_is_a_share_of_rows_with_an_interval_over_windows() -> None:
    train, test = sides(at_random, lambda y, tokens: feature(y, tokens) / 8)
    found = probe(train, test)
    right = found.score.mean * len(test.y)
    assert right == pytest.approx(round(right)) and 0.5 < found.score.mean < 0.9
    assert found.score.n == found.selectivity.n == 15
    twice = Labelled(*(np.concatenate([a, a]) for a in (test.x, test.y, test.tokens, test.windows)))
    assert probe(train, twice).score == found.score, "rows of a window that repeat say nothing more"


def test_the_same_seed_gives_the_same_and_another_another_control() -> None:
    rows = sides(at_random, feature)
    assert probe(*rows, seed=3) == probe(*rows, seed=3)
    one, other = probe(*rows, seed=3), probe(*rows, seed=4)
    assert one.score == other.score and one.control != other.control


def test_truth_values_are_classes() -> None:
    train, test = sides(lambda tokens: tokens % 2, feature)
    as_truth = probe(*(replace(side, y=side.y.astype(bool)) for side in (train, test)))
    assert as_truth.score.low > 0.98 and as_truth == probe(train, test)


def test_a_fit_that_did_not_settle_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MOST_STEPS", 2)
    assert not probe(*sides(at_random, feature)).settled


def test_labels_that_cannot_be_probed() -> None:
    train, test = sides(at_random, feature)
    broken = train.x.copy()
    broken[3, 2] = np.nan
    same = replace(train, y=np.zeros_like(train.y))
    none = Labelled(test.x[:0], test.y[:0], test.tokens[:0], test.windows[:0])
    for one, other, words in (
        (train, train, "window 0 is both fitted to and held out: split by windows, not by rows"),
        (train, none, r"1350 rows to fit to and 0 to judge by"),
        (replace(train, y=train.y - 1), test, "labels such as .*-1.* are no classes: give whole numbers from 0, or fl"),
        (train, replace(test, y=test.y.astype(str)), "labels such as .*'0'.* are no classes"),
        (replace(train, x=broken), test, "an activation or a label is not finite: leave such rows out"),
        (train, replace(test, y=test.y.astype(float)), "labels are classes on one side and numbers on the other"),
        (same, test, "every row has the label 0: choose a target that varies, or more tokens"),
    ):
        with pytest.raises(UsageError, match=words):
            probe(one, other)
    with pytest.raises(UsageError, match=r"penalty = 0\.0 is not above 0"):
        probe(train, test, penalty=0.0)


# What the text tells


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30, unique=True), st.data())
def test_facts_against_a_plain_look(places: list[tuple[int, int]], data: st.DataObject) -> None:
    """Windows with holes in them, as padding in the middle would leave."""
    places = sorted(places)
    said = {place: data.draw(st.integers(0, 255)) for place in places}
    tokens, window, position = (
        torch.tensor(values, dtype=torch.int32)
        for values in ([said[p] for p in places], [w for w, _ in places], [t for _, t in places])
    )
    rows, tokenizer = Rows(tokens, window, position), ByteTokenizer()
    assert FACTS["token"](rows, tokenizer).tolist() == [said[p] for p in places]
    assert FACTS["previous"](rows, tokenizer).tolist() == [said.get((w, t - 1), -1) for w, t in places]
    assert FACTS["next"](rows, tokenizer).tolist() == [said.get((w, t + 1), -1) for w, t in places]
    found = FACTS["position"](rows, tokenizer)
    assert found.tolist() == [t for _, t in places] and found.dtype == np.float64


def test_a_word_starts_where_letters_follow_a_space() -> None:
    tokenizer = BytePair(vocabulary=300).build(lambda: iter([" the  the\n \n the then   \n"] * 40))
    pieces = [tokenizer.piece(token) for token in range(tokenizer.vocabulary)]
    tokens = torch.arange(tokenizer.vocabulary, dtype=torch.int32)
    found = FACTS["word-start"](Rows(tokens, torch.zeros_like(tokens), tokens), tokenizer)
    starts = {piece for piece, start in zip(pieces, found, strict=True) if start}
    assert found.dtype == np.int64 and " the" in starts
    blank = {piece for piece in pieces if not piece.replace("\\n", "").strip()}
    assert {" ", "\\n", "  "} <= blank and not blank & starts
    assert starts == {piece for piece in pieces if piece.startswith(" ")} - blank


@pytest.mark.parametrize(
    ("piece", "start"),
    [
        (" a", 1),
        ("a", 0),
        (" ", 0),
        ("  ", 0),
        (" \\n", 0),
        (" \\t\\r", 0),
        (" \\xc3", 1),
        (" n", 1),
        (" ,", 1),
        ("", 0),
    ],
)
def test_white_space_starts_no_word(piece: str, start: int) -> None:
    class One(ByteTokenizer):
        def piece(self, id: int) -> str:
            return piece

    zero = torch.zeros(1, dtype=torch.int32)
    assert FACTS["word-start"](Rows(zero, zero, zero), One()).tolist() == [start]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=80))
def test_every_fifth_window_is_held_out_whole(numbers: list[int]) -> None:
    windows = np.sort(np.array(numbers))
    found = sorted(set(numbers))
    if len(found) < 10:
        with pytest.raises(UsageError, match=f"{len(found)} windows are too few: .* needs 10; record more tokens"):
            held_out(windows)
        return
    assert sorted(set(windows[held_out(windows)].tolist())) == found[4::5]


@given(st.lists(st.integers(-1, 6)), st.integers(1, 8))
def test_the_most_frequent_labels(labels: list[int], classes: int) -> None:
    counts = collections.Counter(label for label in labels if label >= 0)
    wanted = sorted(counts, key=lambda label: (-counts[label], label))[:classes]
    assert most_frequent(np.array(labels, np.int64), classes).tolist() == wanted


# On a circuit that is known


@pytest.fixture(scope="module")
def recorded(rows: Callable[..., Examples], tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Random tokens, read by a circuit whose first layer writes the token before beside the present one."""
    model, tokens = planted(8, 16), np.random.default_rng(0).integers(0, 8, (80, 17))
    folder = tmp_path_factory.mktemp("recorded")
    examples = rows(tokens[:, :-1], tokens[:, 1:], vocabulary=8)
    return record(model, examples, np.arange(80), ["embed.out", "L0.resid.p*"], folder)


def read(recorded: Recording, site: str, fact: str) -> probes.Probed:
    rows, x = recorded.rows, recorded.activations(site).double().numpy()
    y, tokens, windows = FACTS[fact](rows, ByteTokenizer()), rows.tokens.numpy(), rows.window.numpy()
    judged, there = held_out(windows), y >= 0
    train, test = (Labelled(x[on], y[on], tokens[on], windows[on]) for on in (there & ~judged, there & judged))
    return probe(train, test)


@pytest.mark.parametrize(
    ("fact", "before", "after"),
    [("previous", 1 / 8, 1.0), ("token", 1.0, 1.0), ("next", 1 / 8, 1 / 8), ("position", 1.0, 1.0)],
)
def test_the_stream_tells_what_the_circuit_wrote(fact: str, before: float, after: float, recorded: Recording) -> None:
    """The previous token is there from the first layer on, which attention wrote; the next one is nowhere."""
    for site, wanted in (("embed.out", before), ("L0.resid.pre", before), ("L0.resid.post", after)):
        found = read(recorded, site, fact)
        assert found.score.mean == pytest.approx(wanted, abs=1e-3 if wanted == 1 else 0.08), site
        assert found.settled


# Through the recipe

TEXT = Tokens(Fable(stories=60), Byte())
TRAIN = Train(
    data=TEXT,
    model=Decoder(layers=1, width=16, heads=2, feedforward=0, context=16),
    steps=0, evaluate_tokens=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), threads=1, quiet=True)


def test_the_recipe_reads_the_present_token_from_its_embedding(lab: Lab) -> None:
    recipe = Probe(TRAIN, "embed.tokens", "token", classes=7, tokens=1600)
    found = lab.run(recipe).result
    assert found["measure"] == "accuracy" and found["classes"] == 7 and found["settled"]
    assert found["score"]["mean"] == 1 and found["control"]["mean"] == 1 and found["selectivity"]["mean"] == 0
    assert found["shuffled"]["high"] < 0.6 and found["majority"]["mean"] < 0.5 and found["score"]["n"] == 20
    assert found["fitted"] + found["n"] + found["left_out"] == 1600
    rows = Recording.open(lab.run(recipe.recording)).rows
    judged = held_out(rows.window.numpy())
    common = most_frequent(rows.tokens.numpy()[~judged], 7)
    assert set(common) != set(most_frequent(rows.tokens.numpy(), 7)), "held-out rows do not choose the classes"
    assert found["n"] == np.isin(rows.tokens.numpy()[judged], common).sum()


@pytest.mark.parametrize(("target", "measure"), [("position", "r2"), ("word-start", "accuracy")])
def test_the_recipe_reads_other_facts(target: Any, measure: str, lab: Lab) -> None:
    spoken = TRAIN if target == "position" else replace(TRAIN, data=Tokens(Fable(stories=60), BytePair(vocabulary=300)))
    found = lab.run(Probe(spoken, "embed.out", target, tokens=1600 if target == "position" else 8000)).result
    assert found["measure"] == measure and found["left_out"] == 0
    assert found["score"]["low"] > 0.6 and found["score"]["low"] > found["shuffled"]["high"]
    assert found["classes"] == (None if target == "position" else 2)


def test_every_target_has_its_fact() -> None:
    assert set(typing.get_args(Target)) == set(FACTS)


REFUSED: list[tuple[Callable[[], Recipe], str]] = [
    (lambda: Probe(TRAIN, "L0.attn.W_O"), "L0.attn.W_O is a weight"),
    (lambda: Probe(TRAIN, "L*.resid.post"), "'L*.resid.post' can be several sites: a probe reads one"),
    (lambda: Probe(TRAIN, "L3.resid.post"), "unknown site 'L3.resid.post': the model has 1 layers (L0)"),
    (lambda: Probe(Planted(), "L1.mlp.out"), "the model is attention-only"),
    (lambda: Probe(TRAIN, target=typing.cast(Any, "colour")), "probe.target = 'colour' is not one of: token, previous"),
    (lambda: Probe(TRAIN, classes=1), "classes = 1 leaves nothing to tell apart"),
    (lambda: Probe(TRAIN, tokens=-1), "tokens = -1 is too small"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_trained(make: Callable[[], Recipe], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_rows_are_one_line(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="9 windows are too few: a probe is judged on a fifth of them and needs 10"):
        lab.run(Probe(TRAIN, "L0.resid.post", tokens=9 * 16))


def test_a_recipe_reads_back_and_needs_its_recording() -> None:
    recipe = Probe(TRAIN, target="next").resolve()
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert list(recipe.plan({})) == [TEXT.resolve(), recipe.recording]
