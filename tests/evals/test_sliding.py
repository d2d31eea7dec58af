"""Bits per byte by a sliding window: a plain loop, token by token, is the judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from etude.core.done import Done
from etude.core.errors import DivergedError, UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe, work_of
from etude.core.run import Draft, Run
from etude.evals import window_reading
from etude.evals.by_document import ByDocument, compared, document_bytes, summed
from etude.evals.loss import score
from etude.evals.recipes import BitsPerByte
from etude.evals.sliding import Sliding, slides, stride_for
from etude.evals.sliding_work import losses_in
from etude.evals.window_reading import Place, read_windows, token_losses
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.retro import Retro
from etude.models.load import load
from etude.models.recipes import OnText
from etude.models.saved import WEIGHTS
from etude.models.transformer import Transformer
from etude.text.chunks import Chunks, Volumes
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.neighbours import DocumentWindows, Neighboured, NeighbourTable
from etude.text.recipes import NeighboursRecipe, Tokens
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.objectives.masked import Masked
from etude.train.objectives.retrieval import Retrieval
from etude.train.recipes import At, Train

V, T, S, M, K = 30, 12, 4, 4, 3
END = V - 1
LENGTHS = (1, 2, 5, 12, 13, 40, 24, 3, 17)
"""Predictions in each document: a separator alone, one token and it, shorter than a window, one exactly, longer."""

SHAPE: dict[str, Any] = {"layers": 2, "width": 16, "heads": 2, "feedforward": 24}


def written(path: Path, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> TokenStore:
    draw = np.random.default_rng(seed)
    with StoreWriter(path, V) as writer:
        for length in lengths:
            writer.add(draw.integers(0, END, length - 1), length - 1)
            writer.add([END], 0)
            writer.end_document()
    return TokenStore.open(path)


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return written(tmp_path / "text.tokens")


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Decoder(**SHAPE, context=T).build(V, seed=0).eval()


def read(
    model: Transformer, windows: Sliding, folder: Path, chosen: np.ndarray | None = None, **more: Any
) -> np.ndarray:
    """Return the loss of every token of the store."""
    chosen = np.arange(len(windows)) if chosen is None else chosen
    place = Place(folder / "l.safetensors", {"losses": (torch.float32, (windows.store.count,))}, windows.rows[chosen])
    read_windows(windows, chosen, token_losses(model), place, **more)
    return load_file(folder / "l.safetensors")["losses"].numpy().copy()  # the file may be written over


@torch.no_grad()
def one_by_one(model: Transformer, store: TokenStore, context: int, stride: int) -> np.ndarray:
    """Return the loss of every token: each predicted by itself from what its window has before it."""
    found = []
    for begin, end in zip(store.documents[:-1].tolist(), store.documents[1:].tolist(), strict=True):
        text = [END, *store.tokens[begin:end].tolist()]
        for position in range(end - begin):
            start = 0
            while position >= start + context:
                start += stride
            logits = model(torch.tensor([text[start : position + 1]]))[0, -1].double()
            found.append(-logits.log_softmax(-1)[text[position + 1]].item())
    return np.array(found)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    context=st.integers(1, 17),
    share=st.floats(0, 1),
)
def test_every_token_is_predicted_once_with_all_that_the_window_promises(
    lengths: list[int], context: int, share: float
) -> None:
    stride = 1 + round(share * (context - 1))
    found = slides(np.array(lengths), context, stride)
    seen = [np.zeros(length, int) for length in lengths]
    for document, start, length, fresh in zip(*found, strict=True):
        assert 1 <= length <= context and start % stride == 0 and fresh < length
        seen[document][start + fresh : start + length] += 1
        assert fresh >= context - stride or start == 0
    assert all((counts == 1).all() for counts in seen)


@pytest.mark.parametrize("stride", [1, 4, 5, 6, 12])
def test_losses_are_those_of_a_plain_loop(stride: int, store: TokenStore, model: Transformer, tmp_path: Path) -> None:
    found = read(model, Sliding(store, T, END, stride), tmp_path)
    assert found.dtype == np.float32
    assert np.abs(found - one_by_one(model, store, T, stride)).max() < 2e-6


def test_a_stride_of_the_whole_context_gives_windows_that_do_not_overlap(
    store: TokenStore, model: Transformer, tmp_path: Path
) -> None:
    plain = DocumentWindows(store, T, END)
    wanted = score(model, plain, np.arange(len(plain)))
    windows = Sliding(store, T, END, T)
    assert np.array_equal(windows.counts, wanted.count)
    sums = np.add.reduceat(read(model, windows, tmp_path).astype(np.float64), windows.rows)
    assert np.abs(sums - wanted.loss).max() < 1e-5


def test_more_is_read_before_a_token_where_the_stride_is_shorter(store: TokenStore) -> None:
    near, far = (Sliding(store, T, END, stride) for stride in (T, 2))
    assert len(far) > len(near) and far.counts.sum() == near.counts.sum() == store.count


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_losses_do_not_depend_on_batches_nor_on_the_order_of_windows(
    at_once: int, store: TokenStore, model: Transformer, tmp_path: Path
) -> None:
    windows = Sliding(store, T, END, S)
    wanted = read(model, windows, tmp_path)
    order = np.random.default_rng(1).permutation(len(windows))
    assert np.abs(read(model, windows, tmp_path, order, at_once=at_once) - wanted).max() < 1e-6


def test_as_samples_they_give_the_same_sums(store: TokenStore, model: Transformer, tmp_path: Path) -> None:
    windows = Sliding(store, T, END, S)
    assert score(model, windows, np.arange(len(windows))).loss.sum() == pytest.approx(
        read(model, windows, tmp_path).sum(dtype=np.float64), rel=1e-6
    )


class Killed(BaseException):
    """What a kill is to the process."""


def test_a_killed_reading_goes_on_where_it_stopped_and_comes_to_the_same_file(
    store: TokenStore, model: Transformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_reading, "MARK_EVERY", 0.0)
    windows = Sliding(store, T, END, S)
    wanted = read(model, windows, tmp_path, at_once=3)
    done: list[int] = []

    def go(path: Path, stop: int, stride: int = S) -> None:
        """Read, and be killed when so many batches were read in all."""
        these = Sliding(store, T, END, stride)
        own = token_losses(model)

        def said(batch: Any) -> Mapping[str, torch.Tensor]:
            if len(done) == stop:
                raise Killed
            done.append(len(batch.inputs))
            return own(batch)

        place = Place(path, {"losses": (torch.float32, (store.count,))}, these.rows, tmp_path / "mark.json")
        read_windows(these, np.arange(len(these)), said, place, at_once=3)

    for stop in (2, 3):
        with pytest.raises(Killed):
            go(tmp_path / "cut.safetensors", stop)
    go(tmp_path / "cut.safetensors", -1)
    assert sum(done) == len(windows), "nothing was read twice"
    assert np.array_equal(load_file(tmp_path / "cut.safetensors")["losses"].numpy(), wanted)
    done.clear()
    go(tmp_path / "cut.safetensors", -1, stride=2)
    assert sum(done) == len(Sliding(store, T, END, 2)), "the mark of other windows is none of these"


# With neighbours


@pytest.fixture
def near(store: TokenStore, tmp_path: Path) -> Neighboured:
    """Neighbours drawn at random from a library, of which the last ones of some chunks are missing."""
    draw = np.random.default_rng(2)
    library = Volumes([Chunks(written(tmp_path / "library.tokens", (30, 9, 21), seed=3), M, END)])
    numbers = draw.integers(0, len(library), (len(Chunks(store, M, END)), K))
    numbers[::3, -1] = -1
    numbers[1::5] = -1
    table = NeighbourTable(numbers, np.zeros(numbers.shape, np.float32))
    return Neighboured(store, T, END, table, library, K)


@pytest.fixture(scope="module")
def retro() -> Transformer:
    spec = Retro(**SHAPE, context=T, chunk=M, cross_from=0, cross_every=1, encoder_layers=1)
    made = spec.build(V, seed=0)
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(4))
    return made.eval()


@torch.no_grad()
def test_with_neighbours_losses_are_those_of_each_window_alone(
    store: TokenStore, near: Neighboured, retro: Transformer, tmp_path: Path
) -> None:
    found = read(retro, Sliding(store, T, END, S, near), tmp_path)
    where = Sliding(store, T, END, S).slides
    for document, start, length, fresh in zip(*where, strict=True):
        begin = int(store.documents[document])
        text = torch.tensor([[END, *store.tokens[begin : begin + start + length].tolist()]])[:, start:]
        chunk = near.chunks.at(int(document), int(start))
        tokens, present = near.library.read(near.table.numbers[chunk : chunk + length // M], pieces=2)
        given = {"neighbours": torch.from_numpy(tokens)[None], "neighbours_present": torch.from_numpy(present)[None]}
        scores = retro(text[:, :-1], **(given if length >= M else {}))[0].log_softmax(-1)
        wanted = -scores.gather(1, text[0, 1:, None])[fresh:, 0]
        rows = slice(begin + start + fresh, begin + start + length)
        assert np.abs(found[rows] - wanted.numpy()).max() < 2e-6


def test_without_neighbours_it_is_another_model(
    store: TokenStore, near: Neighboured, retro: Transformer, tmp_path: Path
) -> None:
    on = read(retro, Sliding(store, T, END, S, near), tmp_path)
    off = read(retro, Sliding(store, T, END, S), tmp_path)
    assert np.abs(off - one_by_one(retro, store, T, S)).max() < 2e-6
    first = np.concatenate([np.arange(a, min(a + M - 1, b)) for a, b in bounds(store)])
    assert np.abs(on - off)[first].max() < 1e-6, "the first chunk retrieves nothing"
    assert np.abs(on - off).max() > 1e-3


def bounds(store: TokenStore) -> list[tuple[int, int]]:
    return list(zip(store.documents[:-1].tolist(), store.documents[1:].tolist(), strict=True))


def test_windows_that_begin_within_a_chunk_are_refused(store: TokenStore, near: Neighboured) -> None:
    with pytest.raises(UsageError, match="stride = 6 is no multiple of the library's chunks of 4 tokens") as caught:
        Sliding(store, T, END, 6, near)
    assert "give 4, or another multiple" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("context", "chunk", "stride"), [(12, 1, 6), (12, 4, 4), (4096, 64, 1024), (1, 1, 1), (4, 4, 4)]
)
def test_the_stride_that_nobody_chose(context: int, chunk: int, stride: int) -> None:
    assert stride_for(context, chunk) == stride


# By document


def test_sums_by_document_are_those_of_their_tokens(store: TokenStore) -> None:
    losses = np.random.default_rng(0).random(store.count).astype(np.float32)
    sizes = np.arange(1.0, len(LENGTHS) + 1)
    found = summed(losses, store, sizes)
    assert found.targets.tolist() == list(LENGTHS)
    assert found.nats == pytest.approx([losses[a:b].sum(dtype=np.float64) for a, b in bounds(store)])
    assert found.bits_per_byte.mean == pytest.approx(losses.sum() / sizes.sum() / math.log(2))
    assert found.bits_per_byte.n == len(LENGTHS)


def test_two_models_are_compared_document_by_document() -> None:
    draw = np.random.default_rng(0)
    sizes, hard = draw.integers(50, 500, 40).astype(float), draw.gamma(2, 1, 40)
    b = ByDocument(sizes * hard, np.full(40, 9), sizes)
    a = replace(b, nats=b.nats - sizes * (0.01 + 0.001 * draw.normal(size=40)), targets=np.full(40, 7))
    found = compared(a, b)
    assert found.mean == pytest.approx(-0.01 / math.log(2), rel=0.1) and found.below(0)
    assert found.high - found.low < 0.05 * (a.bits_per_byte.high - a.bits_per_byte.low)
    assert compared(b, b).mean == 0
    with pytest.raises(UsageError, match="not the same text: compare models on one split"):
        compared(a, replace(b, bytes=sizes[::-1].copy()))


STORIES = ("A dog ran.", "Ünter den Linden, 東京!\n", "a")


def texts(folder: Path) -> Path:
    for split in ("train", "valid", "test"):
        (folder / split).mkdir(parents=True)
        for number, story in enumerate(STORIES):
            (folder / split / f"{number}.txt").write_text(story, encoding="utf-8", newline="")
    return folder


class Lower(ByteTokenizer):
    """Gives back fewer bytes than it read: of a long text, half."""

    def decode_bytes(self, ids: Any) -> bytes:
        whole = super().decode_bytes(ids)
        return whole[: len(whole) // 2]


def test_bytes_are_those_of_each_document(tmp_path: Path) -> None:
    encoder = ByteTokenizer()
    with StoreWriter(tmp_path / "s.tokens", encoder.vocabulary) as writer:
        for story in STORIES:
            writer.add(encoder.encode(story), len(story.encode()))
            writer.add([encoder.end], 0)
            writer.end_document()
    store, sizes = TokenStore.open(tmp_path / "s.tokens"), [len(story.encode()) for story in STORIES]
    assert document_bytes(store, encoder).tolist() == sizes
    shared = document_bytes(store, Lower())
    assert shared.sum() == pytest.approx(sum(sizes)) and (shared > 0).all()
    assert shared[:2] / shared[1] == pytest.approx([(sizes[0] // 2) / (sizes[1] // 2), 1])


# Through the lab


TEXT = Tokens(Fable(stories=60), BytePair(vocabulary=300))
TRAIN = Train(
    data=TEXT,
    model=Decoder(layers=1, width=16, heads=2, feedforward=32, context=32),
    batch=4,
    steps=6,
    evaluate_every=0,
    evaluate_tokens=320,
    precision="fp32",
)


@dataclass(frozen=True)
class Near(NeighboursRecipe, kind="toy-near", does=f"{__name__}:near_ones"):
    """Neighbours of nobody's choosing, of training and test split, in a library of the text itself."""

    data: Tokens = TEXT
    size: int = 8

    @property
    def text(self) -> Tokens:
        return self.data

    @property
    def volumes(self) -> tuple[Tokens, ...]:
        return (self.data,)

    @property
    def chunk(self) -> int:
        return self.size

    @property
    def most(self) -> int:
        return 3


def near_ones(recipe: Near, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    text = TextData.open(inputs[recipe.data])
    library = len(Chunks(text.store("train"), recipe.size, text.tokenizer.end))
    for split in ("train", "valid", "test"):
        if split == "valid" and recipe.size == 16:
            continue
        chunks = len(Chunks(text.store(split), recipe.size, text.tokenizer.end))
        numbers = np.random.default_rng(0).integers(0, library, (chunks, 3))
        np.save(run.path / f"{split}.neighbours.npy", numbers)
        np.save(run.path / f"{split}.distances.npy", np.zeros(numbers.shape, np.float32))
    return {}


RETRO = replace(
    TRAIN,
    model=Retro(layers=1, width=16, heads=2, feedforward=32, context=32, chunk=8, cross_from=0, encoder_layers=1),
    objective=Retrieval(Near(), k=2),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def test_a_run_tells_bits_per_byte_and_keeps_each_tokens_loss(lab: Lab) -> None:
    run = lab.run(BitsPerByte(TRAIN, stride=8))
    told, data = run.result, TextData.open(lab.run(TEXT))
    store, stories = data.store("test"), list(TEXT.corpus.documents("test"))
    losses = losses_in(run)
    assert losses.shape == (store.count,) and losses.dtype == np.float32
    end = data.tokenizer.end
    windows = Sliding(store, 32, end, 8)
    again = score(load(lab.run(TRAIN))[0], windows, np.arange(len(windows)))
    assert losses.sum(dtype=np.float64) == pytest.approx(again.loss.sum(), rel=1e-6)
    found = ByDocument.of(run)
    assert found.bytes.tolist() == [len(story.text().encode()) for story in stories]
    assert found.nats == pytest.approx([losses[a:b].sum(dtype=np.float64) for a, b in bounds(store)])
    assert told["bits_per_byte"]["mean"] == pytest.approx(again.loss.sum() / store.bytes / math.log(2), rel=1e-6)
    assert told["tokens"] == store.count and told["documents"] == len(stories) == told["bits_per_byte"]["n"]
    assert (told["context"], told["stride"], told["windows"], told["k"]) == (32, 8, len(windows), 0)


def test_training_helps_and_the_difference_is_told_by_documents(lab: Lab) -> None:
    after, before = (ByDocument.of(lab.run(BitsPerByte(of, "valid"))) for of in (TRAIN, At(TRAIN, 0)))
    found = compared(after, before)
    assert found.mean == pytest.approx(after.bits_per_byte.mean - before.bits_per_byte.mean) and found.below(0)


def test_another_text_is_read_in_the_models_own_tokens(lab: Lab, tmp_path: Path) -> None:
    run = lab.run(BitsPerByte(OnText(TRAIN, Files(path=str(texts(tmp_path))))))
    assert ByDocument.of(run).bytes.tolist() == [len(story.encode()) for story in STORIES]
    assert run.result["bits_per_byte"]["n"] == 3


def test_retrieval_on_and_off(lab: Lab) -> None:
    on, off = BitsPerByte(RETRO, stride=16, k=3), BitsPerByte(RETRO, stride=16, neighbours=Near(), k=0)
    assert set(on.plan({})) == {RETRO, TEXT, Near()} and set(off.plan({})) == {RETRO, TEXT}
    assert on.resolve() == replace(on, neighbours=Near()).resolve(), "those that it was trained with"
    assert off.resolve() == replace(off, neighbours=None).resolve(), "who is given none needs none"
    runs = lab.run_all([on, off])
    assert [run.result["k"] for run in runs] == [3, 0]
    with_, without = map(losses_in, runs)
    for a, b in bounds(TextData.open(lab.run(TEXT)).store("test")):
        assert np.abs(with_ - without)[a : min(a + 7, b)].max() < 1e-6
    assert np.abs(with_ - without).max() > 1e-5
    assert set(BitsPerByte(OnText(RETRO, Fable(stories=80))).plan({})) == {
        OnText(RETRO, Fable(stories=80)),
        OnText(RETRO, Fable(stories=80)).text,
    }


def test_a_split_without_neighbours_is_named(lab: Lab) -> None:
    wide = replace(RETRO, model=replace(RETRO.model, chunk=16), objective=Retrieval(None), steps=0)
    with pytest.raises(UsageError, match="no neighbours of the valid split: make them with it among --splits"):
        lab.run(BitsPerByte(wide, "valid", neighbours=Near(size=16), k=1))


def test_a_draft_that_was_killed_is_gone_on_with(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_reading, "MARK_EVERY", 0.0)
    monkeypatch.setattr(window_reading, "batch_for", lambda vocabulary, context: 7)
    recipe, inputs, read = BitsPerByte(TRAIN).resolve(), Done(), []
    for each in (TRAIN.resolve(), TEXT.resolve()):
        inputs.add(each, lab.run(each))

    def progress(self: Draft, done: float, total: float, unit: str = "steps", note: str = "") -> None:
        read.append(done)
        if len(read) == 3:
            raise Killed

    monkeypatch.setattr(Draft, "progress", progress)
    with pytest.raises(Killed):
        work_of(recipe)(recipe, inputs, Draft(tmp_path / "r.partial", recipe))
    told = work_of(recipe)(recipe, inputs, Draft(tmp_path / "r.partial", recipe))
    assert read[3] == read[2], "the third batch was read, and not marked"
    assert read[-1] == told["tokens"]
    whole = lab.run(recipe)
    assert np.array_equal(losses_in(whole), load_file(tmp_path / "r.partial" / "losses.safetensors")["losses"])
    assert told == {key: value for key, value in whole.result.items() if key != "timing"}


def test_a_model_that_diverged_is_told_of(lab: Lab, tmp_path: Path) -> None:
    recipe, trained, whole = BitsPerByte(TRAIN).resolve(), TRAIN.resolve(), lab.run(TRAIN)
    broken, inputs = Draft(tmp_path / "model.partial", trained), Done()
    for name in whole.files:
        (broken.path / name).write_bytes(whole.file(name).read_bytes())
    weights = load_file(whole.file(WEIGHTS))
    weights["layers.0.attn.W_O"][..., 3] = torch.nan
    save_file(weights, broken.path / WEIGHTS)
    inputs.add(trained, broken.finish({}, {}))
    inputs.add(TEXT.resolve(), lab.run(TEXT))
    with pytest.raises(DivergedError, match="loss on this text is not finite: it has diverged"):
        work_of(recipe)(recipe, inputs, Draft(tmp_path / "r.partial", recipe))


HIDING = Tokens(Fable(stories=60), BytePair(vocabulary=300, specials=("mask",)))
CUT = replace(TRAIN, data=replace(TEXT, openings=16))
EARLY: list[tuple[Callable[[], Recipe], str]] = [
    (lambda: BitsPerByte(TRAIN, stride=33), "stride = 33 is not from 1 to the context of 32: half of it is usual"),
    (lambda: BitsPerByte(TRAIN, stride=-1), "stride = -1: give 0 for half the context"),
    (lambda: BitsPerByte(CUT), "openings = 16 are no whole documents"),
    (lambda: BitsPerByte(TRAIN, k=-1), "k = -1: give 0 for no retrieval"),
    (lambda: BitsPerByte(TRAIN, k=2), "k = 2 and no neighbours to take them from"),
    (lambda: BitsPerByte(TRAIN, k=2, neighbours=Near()), "a decoder reads no neighbours: set --k 0"),
    (lambda: BitsPerByte(RETRO, k=4), "k = 4 neighbours of 3 that are stored"),
    (lambda: BitsPerByte(RETRO, k=1, stride=12), "stride = 12 is no multiple of the library's chunks of 8 tokens"),
    (lambda: BitsPerByte(RETRO, k=1, neighbours=Near(size=16)), "chunks have 8 tokens and the library's 16"),
    (lambda: BitsPerByte(OnText(RETRO, Fable(stories=80)), k=1), "another text than the model is scored on"),
    (
        lambda: BitsPerByte(replace(TRAIN, data=HIDING, model=Encoder(context=32), objective=Masked())),
        "this one is an encoder: choose a decoder or a retro",
    ),
]


@pytest.mark.parametrize(("make", "words"), EARLY)
def test_what_cannot_be_is_refused_before_anything_is_trained(make: Callable[[], Recipe], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_room_is_asked_for_what_is_written(lab: Lab) -> None:
    recipe = BitsPerByte(TRAIN)
    assert recipe.estimate().disk_bytes >= sum(file["bytes"] for file in lab.run(recipe).files.values())
