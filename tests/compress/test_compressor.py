"""Codecs in a model: at several sites at once, for a while or for good, in the text's order, and on disk. And what the
unharmed model says, which is made once."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.compress import host as hosts
from etude.compress.codec import Codebook, Codec, Cost, Factored, Linear, Text
from etude.compress.compressor import Compressor, Part, text_of, total, weights_of
from etude.compress.host import Host
from etude.compress.linear import constant
from etude.compress.methods.kmeans import Kmeans
from etude.compress.methods.mean import Mean
from etude.compress.methods.pca import Pca
from etude.compress.methods.svd import Svd
from etude.compress.recipes import Compress
from etude.compress.rounded import PRECISIONS, Rounded
from etude.compress.saved import CODEC, SHAPE, load_compressor, save_compressor
from etude.compress.score import harm
from etude.compress.work import saved_by
from etude.core.errors import DamagedError, UsageError
from etude.core.lab import Lab
from etude.core.site import Site
from etude.evals.splits import windows_of
from etude.models.cache import Cache
from etude.models.decoder_model import DecoderModel
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples
from etude.text.data import TextData
from etude.train.objectives.next_token import NextToken
from etude.train.recipes import Train

Split = tuple[Examples, np.ndarray]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def subspace(rank: int = 3, width: int = 16, seed: int = 0) -> Linear:
    basis = torch.linalg.qr(drawn(width, rank, seed=seed)).Q
    return Linear(drawn(width, seed=seed + 1), basis, basis.T)


class Written(Codec):
    """Says nothing of the activation, and all of the text: a table of tokens, tokens before and positions."""

    reads_text = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("token", drawn(300, 16))
        self.register_buffer("before", drawn(300, 16, seed=1))
        self.register_buffer("position", drawn(64, 16, seed=2))

    def encode(self, x: Tensor, *text: Text) -> Tensor:
        (read,) = text
        found = self.get_buffer("token")[read.tokens] + self.get_buffer("before")[read.before]
        return found + self.get_buffer("position")[read.position]

    def decode(self, code: Tensor) -> Tensor:
        return code

    def cost(self) -> Cost:
        return Cost(None, 8.0, 10)


SEVERAL = Compressor(
    {
        Site("L0.attn.W_O"): Part(Factored(drawn(16, 2), drawn(2, 16, seed=1)), None, Svd(2)),
        Site("L0.mlp.out"): Part(subspace(), Site("L0.mlp_norm.out"), Pca(3)),
        Site("L1.attn.z"): Part(subspace(4, seed=5), None, Pca(4)),
        Site("L1.mlp.out"): Part(Written()),
    }
)
"""A weight, a component's place, heads, and what reads the text."""


@pytest.fixture(scope="module")
def tokens(held_out: Split) -> Tensor:
    examples, windows = held_out
    return torch.from_numpy(examples.batch(windows[:4]).inputs)


# In a model


def test_several_codecs_stand_where_they_are_named(model: Transformer, tokens: Tensor) -> None:
    """By hand: each part's function at its site, what a component reads caught on the way."""
    parts, read = list(SEVERAL.parts.values()), []

    def keep(x: Tensor) -> Tensor:
        read.append(x)
        return x

    by_hand = {
        "L0.attn.W_O": lambda w: (drawn(16, 2) @ drawn(2, 16, seed=1)).reshape(w.shape),
        "L0.mlp_norm.out": keep,
        "L0.mlp.out": lambda x: parts[1].codec(read[-1]),
        "L1.attn.z": lambda z: parts[2].codec(z.flatten(2)).reshape(z.shape),
        "L1.mlp.out": lambda x: parts[3].codec(x, Text.of(tokens)),
    }
    with torch.no_grad(), SEVERAL.placed(model):
        placed = model(tokens)
    with torch.no_grad(), model.tapped(by_hand):
        wanted = model(tokens)
    assert torch.equal(placed, wanted)
    assert (placed - model(tokens)).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("first", ["L0.mlp.out", "L0.mlp_norm.out"])
def test_a_component_reads_what_a_codec_before_it_leaves(first: str, model: Transformer, tokens: Tensor) -> None:
    """A constant stands where the component reads: whatever the order of the parts, it gives one vector."""
    reads, codec = Site("L0.mlp_norm.out"), subspace()
    parts = {Site("L0.mlp.out"): Part(codec, reads), reads: Part(constant(drawn(16, seed=9)))}
    ordered = Compressor(dict(sorted(parts.items(), key=lambda entry: entry[0] != first)))
    wanted = codec(drawn(16, seed=9)).expand(*tokens.shape, 16)
    seen = {}
    with ordered.placed(model, lambda site, before, after: seen.update({site: after})):
        model(tokens)
    torch.testing.assert_close(seen["L0.mlp.out"], wanted)
    torch.testing.assert_close(look(ordered.installed(model), tokens, "L0.mlp.out")["L0.mlp.out"], wanted)


@pytest.mark.parametrize("site", [None, *SEVERAL.parts])
def test_installed_is_placed(site: Site | None, model: Transformer, tokens: Tensor) -> None:
    compressor = SEVERAL if site is None else Compressor({site: SEVERAL.parts[site]})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        plain = model(tokens)
        with compressor.placed(model):
            placed = model(tokens)
        assert torch.equal(compressor.installed(model)(tokens), placed)
        assert not torch.equal(placed, plain)
        assert torch.equal(model(tokens), plain)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_looks_at_an_installed_site_sees_what_the_codec_leaves(model: Transformer, tokens: Tensor) -> None:
    made = Compressor.of("L0.mlp.out", constant(drawn(16))).installed(model)
    assert torch.equal(look(made, tokens, "L0.mlp.out")["L0.mlp.out"], drawn(16).expand(*tokens.shape, 16))


@torch.no_grad()
@pytest.mark.parametrize("cuts", [(10,), (1, 2, 31), (7, 20)])
def test_a_text_read_in_pieces_is_the_text(cuts: tuple[int, ...], model: Transformer, tokens: Tensor) -> None:
    """With a past, what a codec reads of the text goes on: the position, and the token before the first."""
    made, past = SEVERAL.installed(model), Cache(32)
    pieces = torch.tensor_split(tokens, cuts, dim=1)
    found = torch.cat([made(piece, past=past) for piece in pieces], 1)
    torch.testing.assert_close(found, made(tokens), atol=2e-4, rtol=1e-4)


@torch.no_grad()
def test_texts_that_change_places_keep_what_came_before(model: Transformer, tokens: Tensor) -> None:
    made, past, rows = SEVERAL.installed(model), Cache(32), torch.tensor([2, 0, 0])
    made(tokens[:, :9], past=past)
    past.select(rows)
    found = made(tokens[rows, 9:], past=past)
    torch.testing.assert_close(found, made(tokens[rows])[:, 9:], atol=2e-4, rtol=1e-4)


def test_padding_is_no_token_before(tokens: Tensor) -> None:
    present = torch.ones(4, 32, dtype=torch.bool)
    present[1, :5] = False
    found, plain = text_of(tokens, {"present": present, "positions": tokens}), Text.of(tokens)
    assert found.before[1, 5] == -1 and (found.before[1, :5] == -1).all()
    assert torch.equal(found.before[:, 6:], plain.before[:, 6:]) and torch.equal(found.before[0], plain.before[0])
    assert found.position is tokens


@pytest.mark.parametrize("where", ["inside", "observing", "calling"])
def test_nothing_is_left_after_an_error(where: str, model: Transformer, tokens: Tensor) -> None:
    plain, weight = model(tokens).detach(), model.get_parameter("layers.0.attn.W_O")

    def observe(site: Site, before: Tensor, after: Tensor) -> None:
        if where == "observing" and site == "L1.attn.z":
            raise MemoryError("planted")

    def fails() -> None:
        with SEVERAL.placed(model, observe):
            model(torch.cat((tokens, tokens), 1) if where == "calling" else tokens)  # longer than the context
            raise MemoryError("planted")

    with pytest.raises(UsageError if where == "calling" else MemoryError):
        fails()
    assert model.watchers == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.get_parameter("layers.0.attn.W_O") is weight
    assert torch.equal(model(tokens), plain)


def test_gradients_reach_what_a_codec_holds(model: Transformer, tokens: Tensor) -> None:
    codec = subspace()
    codec.get_buffer("down").requires_grad_(True)
    with Compressor.of("L0.mlp.out", codec).placed(model):
        model(tokens).square().mean().backward()
    gradient = codec.get_buffer("down").grad
    model.zero_grad(set_to_none=True)
    assert gradient is not None and gradient.abs().max() > 0


def test_another_model_is_told_apart(model: Transformer, tokens: Tensor) -> None:
    one = Compressor(SEVERAL.parts, weights_of(model))
    one.require(model)
    other = SEVERAL.installed(model)
    told = f"belongs to a model whose weights are {weights_of(model)[:12]}, and these are {weights_of(other)[:12]}"
    with pytest.raises(UsageError, match=told), one.placed(other):
        pass
    with pytest.raises(UsageError, match=told):
        one.installed(other)
    halved = copy.deepcopy(model).bfloat16()
    Compressor(SEVERAL.parts, weights_of(copy.deepcopy(halved).float())).require(halved)  # opened in fp32, it is itself
    with pytest.raises(UsageError, match="belongs to a model"):
        one.require(halved)
    with pytest.raises(UsageError, match=r"the model has no site L7\.mlp\.out"):
        Compressor.of("L7.mlp.out", subspace()).installed(model)


def test_costs_add_up() -> None:
    costs = [part.codec.cost() for part in SEVERAL.parts.values()]
    whole = SEVERAL.cost()
    assert whole == total(costs)
    assert (whole.dimensions, whole.bits) == (2 + 3 + 4, 32 * 9 + 8)
    assert whole.parameters == sum(cost.parameters for cost in costs)
    assert whole.to_json()["storage"] == 32 * whole.parameters
    assert total([]).to_json()["storage"] == 0 and total([]).bits is None


def test_what_is_saved_is_what_stood_there(model: Transformer) -> None:
    """A component's own weights, a weight's numbers with two FLOPs each; nothing where an activation is still made, and
    no FLOPs of an embedding, which multiplies nothing."""
    assert isinstance(model, DecoderModel)
    parameters = 16 * 32 + 32 + 32 * 16 + 16
    component = Compressor.of("L0.mlp.out", subspace(), "L0.mlp_norm.out")
    assert saved_by(component, model) == {"parameters": parameters, "flops": 2 * parameters}
    assert saved_by(Compressor.of("L0.mlp.out", subspace()), model) == {"parameters": 0, "flops": 0}
    weight = Factored(drawn(16, 2), drawn(2, 16))
    assert saved_by(Compressor.of("L0.attn.W_O", weight), model) == {"parameters": 256, "flops": 512}
    assert saved_by(Compressor.of("embed.W_E", weight), model) == {"parameters": 16 * model.vocabulary, "flops": 0}


# On disk

SAVED = Compressor(
    {
        **{site: SEVERAL.parts[site] for site in list(SEVERAL.parts)[:3]},
        Site("L1.mlp.out"): Part(Rounded.fitted(subspace(), drawn(50, 3), 4), None, Pca(3), 4),
        Site("L0.resid.pre"): Part(Codebook(drawn(5, 16), torch.full((5,), 0.2)), None, Kmeans(5)),
    },
    "",
)


def test_what_is_saved_is_read_back(tmp_path: Path, model: Transformer, tokens: Tensor) -> None:
    saved = Compressor(SAVED.parts, weights_of(model))
    save_compressor(saved, tmp_path / "made" / "here")
    again = load_compressor(tmp_path / "made" / "here")
    assert list(again.parts) == list(saved.parts) and again.model == saved.model
    assert again.cost() == saved.cost()
    for site, part in again.parts.items():
        wanted = saved.parts[site]
        assert (part.reads, part.method, part.precision) == (wanted.reads, wanted.method, wanted.precision)
        assert type(part.codec) is type(wanted.codec) and not part.codec.training
    with torch.no_grad():
        assert torch.equal(again.installed(model)(tokens), saved.installed(model)(tokens))


def cut(folder: Path) -> None:
    (folder / CODEC).write_bytes((folder / CODEC).read_bytes()[:-20])


def without(folder: Path) -> None:
    (folder / CODEC).unlink()


def shorn(folder: Path) -> None:
    said = json.loads((folder / SHAPE).read_text())
    said["parts"][0].pop("method")
    (folder / SHAPE).write_text(json.dumps(said))


def later(folder: Path) -> None:
    (folder / SHAPE).write_text(json.dumps({"format": 99}))


def other_site(folder: Path) -> None:
    (folder / SHAPE).write_text((folder / SHAPE).read_text().replace("L1.attn.z", "L1.attn.q"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "holds no whole compressor"),
        (without, "holds no compressor"),
        (shorn, "holds no whole compressor ('method')"),
        (later, "has format 99, and this Etude reads 1"),
        (other_site, "holds no whole compressor ('centre')"),
    ],
)
def test_damage_is_one_line(damage: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    save_compressor(SAVED, tmp_path)
    damage(tmp_path)
    with pytest.raises(DamagedError) as caught:
        load_compressor(tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_run_of_a_changed_file_is_damaged(lab: Lab, trained: Train) -> None:
    run = lab.run(Compress(trained, "L0.attn.out", Mean(), fit_tokens=64, evaluate_tokens=64, sequences=0))
    data = (run.path / CODEC).read_bytes()
    (run.path / CODEC).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedError, match="is changed"):
        load_compressor(run)
    (run.path / CODEC).write_bytes(data)
    assert len(load_compressor(run).parts) == 1


def test_a_codec_of_no_method_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the codec at L0\.mlp\.out names no method"):
        save_compressor(Compressor.of("L0.mlp.out", subspace()), tmp_path)


# Rounded


class Same(Codec):
    """Its code is what it reads."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, code: Tensor) -> Tensor:
        return code

    def cost(self) -> Cost:
        return Cost(3, 96.0, 0)


codes = st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(codes, st.sampled_from([2, 4, 8, 16]))
def test_a_grid_has_zero_and_its_own_values_on_it(rows: list[list[float]], bits: int) -> None:
    data = torch.tensor(rows)
    rounded = Rounded.fitted(Same(), data, bits)
    step, found = rounded.get_buffer("step"), rounded(data)
    assert torch.equal(rounded(torch.zeros(1, 3)), torch.zeros(1, 3))
    torch.testing.assert_close(rounded(found), found, atol=0, rtol=1e-6)  # what is on the grid stays
    for column in range(3):
        assert len(rounded(torch.linspace(-2e3, 2e3, 999)[:, None].expand(-1, 3))[:, column].unique()) <= 2**bits
    # Zero on the grid shifts it by half a step at most, and the nearest value is half a step away at most.
    assert ((found - data).abs() <= 1.001 * step + 1e-30).all()


def test_more_bits_lose_less() -> None:
    data = drawn(500, 3) * torch.tensor([1.0, 10.0, 0.1])
    lost = [float(((Rounded.fitted(Same(), data, bits)(data) - data) ** 2).mean()) for bits in (2, 4, 8, 16)]
    assert all(more < less / 10 for less, more in itertools.pairwise(lost))
    spread = data.amax(0) - data.amin(0)
    assert ((Rounded.fitted(Same(), data, 16)(data) - data).abs() < spread / 2**15).all()


def test_what_lies_beyond_is_held_as_the_last_value() -> None:
    rounded = Rounded.fitted(Same(), torch.tensor([[-1.0, 0.0, 2.0], [1.0, 3.0, 5.0]]), 4)
    far = rounded(torch.tensor([[-99.0, -99.0, -99.0], [99.0, 99.0, 99.0]]))
    assert far[1] == pytest.approx(torch.tensor([1.0, 3.0, 5.0]), abs=0.2)
    assert far[0] == pytest.approx(torch.tensor([-1.0, 0.0, 0.0]), abs=0.2)  # zero is always within reach


def test_a_code_of_no_numbers_is_rounded_to_itself() -> None:
    floor = constant(drawn(16))
    rounded = Rounded.fitted(floor, torch.zeros(20, 0), 4)
    assert torch.equal(rounded(drawn(5, 16)), floor(drawn(5, 16)))
    assert rounded.cost().bits == 0


@pytest.mark.parametrize("bits", PRECISIONS)
def test_bits_are_what_is_said(bits: int) -> None:
    assert Rounded.fitted(subspace(), drawn(50, 3), bits).cost().bits == 3 * bits


def test_a_precision_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="precision = 5 bits: choose one of 32, 16, 8, 4, 2"):
        Rounded.fitted(subspace(), drawn(50, 3), 5)


# What the unharmed model says, once


@pytest.mark.parametrize(
    "site", ["embed.out", "L0.mlp.out", "L1.attn.z", "L1.attn.W_O", "final_norm.out", "unembed.W_U"]
)
def test_going_on_from_a_stream_is_reading_from_the_start(site: str, model: Transformer, held_out: Split) -> None:
    outputs = {"L1.attn.W_O": 16, "unembed.W_U": model.vocabulary}
    codec = Factored(drawn(16, 2), drawn(2, outputs[site])) if site in outputs else subspace()
    compressor = Compressor.of(site, codec)
    resumed = harm(Host(model, *held_out, sequences=5), compressor)
    whole = harm(Host(model, *held_out, sequences=5), compressor, inside=model)  # another model is read from the start
    assert np.array_equal(resumed.harmed, whole.harmed) and np.array_equal(resumed.kl, whole.kl)
    assert np.array_equal(resumed.repeated, whole.repeated) and resumed.explained == whole.explained
    assert resumed.to_json() == whole.to_json()


def test_one_codec_for_a_feed_forward_is_added_to_what_came_before(model: Transformer, held_out: Split) -> None:
    """What a component reads, and what the text says, are those of the unharmed model."""
    for site, reads, codec in (("L0.mlp.out", "L0.mlp_norm.out", subspace()), ("L1.mlp.out", None, Written())):
        compressor, host = Compressor.of(site, codec, reads), Host(model, *held_out, sequences=3)
        assert host.start(compressor).alone
        found, whole = harm(host, compressor), harm(host, compressor, inside=model)
        assert np.array_equal(found.harmed, whole.harmed) and found.to_json() == whole.to_json()
        assert (found.harmed != found.clean).any()


def test_streams_and_probabilities_are_made_once(
    model: Transformer, held_out: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, looks, seen = Host(model, *held_out, sequences=3), [], hosts.look

    def counted(*args: object, **given: object) -> object:
        looks.append(list(args[2]))  # type: ignore[call-overload]
        return seen(*args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(hosts, "look", counted)
    first = [harm(host, Compressor.of("L1.mlp.out", subspace(seed=n))).to_json() for n in range(3)]
    assert looks == [["L1.resid.mid", "L1.mlp.out"]] * len(host._texts)
    harm(host, Compressor.of("L1.attn.z", subspace()))
    assert looks[-1] == ["L0.resid.post"] and {site for _, site in host._streams} == {"L0.resid.post"}
    small = Host(model, *held_out, sequences=3)
    small._keep = small._keep_streams = False
    assert [harm(small, Compressor.of("L1.mlp.out", subspace(seed=n))).to_json() for n in range(3)] == first
    assert not small._kept and not small._streams


def test_memory_for_what_is_kept_is_bounded(
    model: Transformer, held_out: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probabilities that do not fit are made again from the stream behind the last layer, to the same numbers."""
    wanted = harm(Host(model, *held_out), Compressor.of("L0.mlp.out", subspace())).to_json()
    monkeypatch.setattr(hosts, "KEPT_BYTES", 300_000)  # 1,024 tokens: 64 KB of stream, 1 MB of probabilities
    host = Host(model, *held_out)
    assert harm(host, Compressor.of("L0.mlp.out", subspace())).to_json() == wanted
    assert not host._kept and {site for _, site in host._streams} == {"L0.resid.mid", "L0.mlp.out", "L1.resid.post"}


def test_sequences_are_scored_a_few_at_a_time(
    model: Transformer, held_out: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = harm(Host(model, *held_out, sequences=7), Compressor.of("L0.mlp.out", subspace())).repeated
    monkeypatch.setattr(hosts, "AT_ONCE_BYTES", 4 * model.vocabulary * 32 * 3)
    host = Host(model, *held_out, sequences=7)
    assert [len(passage.text.inputs) for passage in host.repeats()] == [3, 3, 1]
    np.testing.assert_allclose(harm(host, Compressor.of("L0.mlp.out", subspace())).repeated, wanted, rtol=1e-5)


def test_documents_that_were_kept_apart_are_kept_apart(lab: Lab, trained: Train, text: TextData) -> None:
    """The unharmed loss is the one of a model that sees no other document, as it was trained."""
    apart = replace(trained, objective=NextToken(apart=True), steps=0)
    model, examples = load(lab.run(apart))[0], windows_of(apart, text, "valid")
    documents = examples.batch(np.arange(len(examples))).given["documents"]
    windows = np.flatnonzero(documents[:, -1] > documents[:, 0])[:6]
    batch = examples.batch(windows)
    tokens, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    scores = model(tokens, documents=torch.from_numpy(batch.given["documents"])).detach().log_softmax(-1)
    wanted = -scores.gather(-1, targets.clamp_min(0)[..., None]).squeeze(-1) * (targets != IGNORE)
    for site in ("L0.mlp.out", "L1.mlp.out"):
        found = harm(Host(model, examples, windows), Compressor.of(site, subspace()))
        np.testing.assert_allclose(found.clean, wanted.numpy(), atol=1e-5)
        if site == "L1.mlp.out":  # resumed before its layer, which sees no other document either
            again = harm(Host(model, examples, windows), Compressor.of(site, subspace()), inside=model)
            assert np.array_equal(found.harmed, again.harmed)
    plain = model(tokens).detach().log_softmax(-1)
    assert (plain - scores).abs().max() > 1e-3  # it does see them where nobody says
