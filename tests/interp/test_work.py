"""The recipes of looking inside, run by the lab: on the planted circuit, whose answers are known, and on bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import etude
from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Draft
from etude.core.seeds import stream
from etude.evals.behaviours import head_scores, repeats, tokens_in
from etude.evals.loss import chosen_windows, score
from etude.evals.recipes import Heads
from etude.interp import circuit_work, expansion
from etude.interp.circuits import full_ov, full_qk
from etude.interp.expansion import expand
from etude.interp.gradients import integrated_gradients
from etude.interp.lens_work import translators_of
from etude.interp.lenses import logit_lens
from etude.interp.metrics import LogitDifference
from etude.interp.patch_work import receiver
from etude.interp.path_patching import Node
from etude.interp.plain import plain
from etude.interp.recipes import (
    Attribute,
    HeadAblation,
    HeadCircuits,
    Lens,
    PatchMap,
    PathPatches,
    Paths,
    Steer,
    TunedLens,
)
from etude.interp.tuned_lens import lens_divergence
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import CERTAIN
from etude.models.recipes import Planted
from etude.models.saved import save_model
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.masked import Masked
from etude.train.objectives.next_token import NextToken
from etude.train.recipes import Train
from etude.train.schedule import Schedule

DATA = Tokens(Fable(stories=40), Byte())
PLANTED = Planted(length=24, data=DATA)
TEXT = "abcdefabcd"
TRAINED = Train(
    data=DATA,
    model=Decoder(layers=2, width=16, heads=2, feedforward=32, context=24),
    schedule=Schedule(peak=2e-2, warmup=5),
    batch=8,
    steps=30,
    evaluate_every=0,
    evaluate_tokens=256,
    precision="fp32",
)

ATTENTION = replace(TRAINED, model=replace(TRAINED.model, feedforward=0))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def loaded(lab: Lab, recipe: Recipe) -> DecoderModel:
    model, _ = etude.load(lab.run(recipe))
    assert isinstance(model, DecoderModel)
    return model


# Lenses and attribution


def test_the_lens_sees_the_repeat_in_the_last_row_alone(lab: Lab):
    run = lab.run(Lens(PLANTED, TEXT))
    held, pieces = run.tensors("lens.safetensors"), run.result["pieces"]
    assert run.result["rows"] == ["before L0", "before L1", "the model"]
    known = range(6, 10)  # the second round
    assert [pieces[str(held["tokens"][2, t, 0])] for t in known] == list("bcde")
    assert (held["rank"][2, 6:9] == 0).all() and (held["log_probability"][2, 6:9] > -0.01).all()
    np.testing.assert_allclose(held["entropy"][:2], np.log(257), rtol=1e-5)
    np.testing.assert_allclose(held["log_probability"][:2, :-1], -np.log(257), rtol=1e-5)
    assert run.result["loss"][:2] == pytest.approx([np.log(257)] * 2, rel=1e-5)
    assert run.result["divergence"][2] == 0


def test_a_lens_has_what_the_instrument_finds(lab: Lab):
    run = lab.run(Lens(TRAINED, "The fox sat.", top=4))
    table = logit_lens(loaded(lab, TRAINED), torch.tensor([run.result["ids"]]), 4)
    for name, array in run.tensors("lens.safetensors").items():
        assert np.array_equal(array, getattr(table, name)[:, 0].numpy(), equal_nan=True), name
    known = table.log_probability[:, 0, :-1].double()
    assert run.result["loss"] == pytest.approx((-known.mean(1)).tolist())
    assert run.result["entropy"] == pytest.approx(table.entropy[:, 0].double().mean(1).tolist())


def test_of_one_token_there_is_no_loss(lab: Lab):
    run = lab.run(Lens(TRAINED, "A"))
    assert run.result["loss"] is None and len(run.result["entropy"]) == 3


def test_a_tuned_lens_comes_nearer_on_held_out_text_and_is_read_with(lab: Lab):
    trained = lab.run(TunedLens(TRAINED, steps=60, rate=1e-2, evaluate_tokens=1024))
    assert all(a < b for a, b in zip(trained.result["tuned_lens"], trained.result["logit_lens"], strict=True))
    recipe = Lens(TRAINED, "The fox sat.", tuned=5)
    assert TunedLens(TRAINED, steps=5) in list(recipe.plan({}))
    run = lab.run(recipe)
    translators = translators_of(lab.run(TunedLens(TRAINED, steps=5)))
    assert translators.b.abs().max() > 0
    tokens = torch.tensor([run.result["ids"]])
    expected = logit_lens(loaded(lab, TRAINED), tokens, 3, translators).entropy[:, 0]
    assert np.array_equal(run.tensors("lens.safetensors")["entropy"], expected.numpy())


def test_the_induction_head_writes_the_whole_answer_from_the_right_place(lab: Lab):
    run = lab.run(Attribute(PLANTED, TEXT))
    result, held = run.result, run.tensors("attribution.safetensors")
    assert (result["token"], result["position"], result["next"]) == ("e", 9, None)
    parts = {part["part"]: part["value"] for part in result["parts"]}
    assert parts.pop("L1H0") == pytest.approx(result["logit"], rel=1e-5)
    assert set(parts.values()) == {0.0}
    assert result["total"] == pytest.approx(result["logit"], rel=1e-5)
    assert held["positions"].argmax() == held["by_source"][1, 0].argmax() == TEXT.index("e")
    assert held["positions"].sum() == pytest.approx(result["logit"], rel=1e-5)
    assert held["gradients"].sum() == pytest.approx(result["change"], abs=2 * result["completeness"] + 1e-4)


def test_a_position_a_token_and_one_to_compare_with_can_be_named(lab: Lab):
    result = lab.run(Attribute(PLANTED, TEXT, position=-3, token="c", versus="z")).result
    assert (result["position"], result["token"], result["versus"], result["next"]) == (7, "c", "z", "c")
    logits = loaded(lab, PLANTED)(torch.tensor([list(TEXT.encode())])).detach()[0, 7]
    assert result["logit"] == pytest.approx(float(logits[ord("c")] - logits[ord("z")]), rel=1e-6)


def test_the_parts_are_told_in_the_order_in_which_they_wrote_and_neurons_by_their_size(lab: Lab):
    run = lab.run(Attribute(TRAINED, "The fox sat.", neurons=3))
    names = [part["part"] for part in run.result["parts"]]
    each = [[f"L{n}H0", f"L{n}H1", f"L{n} feed-forward", f"L{n} biases"] for n in range(2)]
    assert names == ["embedding", "position", *each[0], *each[1], "last biases"]
    total = sum(part["value"] for part in run.result["parts"])
    assert total == pytest.approx(run.result["logit"], rel=1e-4)
    neurons = run.tensors("attribution.safetensors")["neurons"]
    for told, at in zip(run.result["neurons"], np.argsort(-np.abs(neurons), axis=None)[:3], strict=True):
        layer, number = np.unravel_index(at, neurons.shape)
        assert told == {"neuron": f"L{layer}N{number}", "value": float(neurons[layer, number])}


def test_the_gradients_are_of_the_same_difference_up_to_the_position(lab: Lab):
    text = "The fox sat."
    found = lab.run(Attribute(TRAINED, text, position=6, token="a"))
    moved = integrated_gradients(
        loaded(lab, TRAINED), torch.tensor([list(text[:7].encode())]), LogitDifference(ord("a"), "mean")
    )
    assert found.result["change"] == pytest.approx(float(moved.change), rel=1e-5)
    np.testing.assert_allclose(found.tensors("attribution.safetensors")["gradients"], moved.scores[0], rtol=1e-4)


# Patching: after `b` comes `c`, which the circuit finds by the key at `c` that says `b` stood before it

KEY: dict[str, Any] = {"clean": "abcdeab", "corrupted": "axcdeab", "right": "c", "wrong": "e"}
VALUE: dict[str, Any] = {"clean": "abcdeab", "corrupted": "abxdeab"}


def cells(lab: Lab, recipe: Recipe, name: str = "recovered") -> np.ndarray:
    return lab.run(recipe).tensors("patches.safetensors")[name]


def only(*places: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """A map in which some cells go all of the way, and the rest none of it."""
    found = np.zeros(shape)
    for place in places:
        found[place] = 1
    return found


@pytest.mark.parametrize("noising", [False, True])
@pytest.mark.parametrize(
    ("prompts", "what", "expected"),
    [
        (VALUE, "resid", only((0, 2), (1, 2), (2, 6), shape=(3, 7))),
        (VALUE, "attn", only((1, 6), shape=(2, 7))),
        (VALUE, "head", only((1, 0), shape=(2, 2))),
        (VALUE, "head-position", only((1, 0, 6), shape=(2, 2, 7))),
        (KEY, "resid", only((0, 1), (1, 2), (2, 6), shape=(3, 7))),
        (KEY, "attn", only((0, 2), (1, 6), shape=(2, 7))),
        (KEY, "head", only((0, 0), (1, 0), shape=(2, 2))),
        (KEY, "head-position", only((0, 0, 2), (1, 0, 6), shape=(2, 2, 7))),
    ],
)
def test_a_map_shows_where_the_difference_is_and_nowhere_else(
    prompts: dict[str, Any], what: Any, expected: np.ndarray, noising: bool, lab: Lab
):
    run = lab.run(PatchMap(PLANTED, **prompts, what=what, noising=noising))
    np.testing.assert_allclose(run.tensors("patches.safetensors")["recovered"], expected, atol=0.01)
    assert [len(labels) for labels in run.result["axes"].values()] == list(expected.shape)


@pytest.mark.parametrize("measure", ["probability", "kl"])
def test_other_measures_agree_on_where_it_is_and_are_what_they_are_called(measure: Any, lab: Lab):
    run = lab.run(PatchMap(PLANTED, **VALUE, measure=measure))
    recovered = run.tensors("patches.safetensors")["recovered"]
    np.testing.assert_allclose(recovered, only((0, 2), (1, 2), (2, 6), shape=(3, 7)), atol=0.01)
    tokens = torch.tensor([list(b"abcdeab"), list(b"abxdeab")])
    clean, corrupted = loaded(lab, PLANTED)(tokens).detach()[:, -1].log_softmax(-1)
    right = (float(clean[ord("c")]), float(corrupted[ord("c")]))
    expected = right if measure == "probability" else (0.0, float((clean.exp() * (clean - corrupted)).sum()))
    found = run.result["clean_value"], run.result["corrupted_value"]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_what_is_told_of_the_prompts(lab: Lab):
    result = lab.run(PatchMap(PLANTED, **VALUE)).result
    assert (result["right"], result["wrong"], result["changed"]) == ("c", "x", [2])
    assert result["clean"] == list("abcdeab") and result["corrupted"] == list("abxdeab")
    logits = loaded(lab, PLANTED)(torch.tensor([list(b"abcdeab"), list(b"abxdeab")])).detach()[:, -1]
    expected = (logits[:, ord("c")] - logits[:, ord("x")]).tolist()
    assert [result["clean_value"], result["corrupted_value"]] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("what", ["resid", "attn", "head", "head-position"])
@pytest.mark.parametrize("noising", [False, True])
def test_where_the_model_is_linear_the_estimate_is_exact(what: Any, noising: bool, lab: Lab):
    """From layer 1's attention on, the planted model only adds."""
    recipe = PatchMap(PLANTED, **KEY, what=what, noising=noising, estimated=True)
    exact, guess = cells(lab, recipe), cells(lab, recipe, "estimate")
    assert guess.shape == exact.shape
    last = slice(2, None) if what == "resid" else slice(1, None)
    np.testing.assert_allclose(guess[last], exact[last], atol=1e-4)


@pytest.mark.parametrize("noising", [False, True])
@pytest.mark.parametrize(
    ("prompts", "reader", "expected"),
    [
        (KEY, "L1H0.k", only((0, 0), shape=(2, 2))),
        (KEY, "L1H0.q", np.zeros((2, 2))),
        (KEY, "L1H0.v", np.zeros((2, 2))),
        (KEY, "L1H1.k", np.zeros((2, 2))),
        (KEY, "logits", only((1, 0), shape=(2, 2))),
        (VALUE, "L1H0.k", np.zeros((2, 2))),
        (VALUE, "logits", only((1, 0), shape=(2, 2))),
    ],
)
def test_the_keys_of_the_induction_head_hear_the_previous_token_head_alone(
    prompts: dict[str, Any], reader: str, expected: np.ndarray, noising: bool, lab: Lab
):
    found = cells(lab, PathPatches(PLANTED, **prompts, receiver=reader, noising=noising))
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_a_head_that_shares_its_keys_reads_by_its_group():
    model = Decoder(layers=2, width=16, heads=4, kv_heads=2, feedforward=0, context=8).build(5)
    assert isinstance(model, DecoderModel)
    found = [receiver(f"L1H{head}.k", model) for head in range(4)]
    assert found == [Node("L1.attn.k", group) for group in (0, 0, 1, 1)]
    assert receiver("L1H3.q", model) == Node("L1.attn.q", 3)
    assert receiver("logits", model) == Node("logits")
    with pytest.raises(UsageError, match=r"receiver 'L1H4.k' is none: the model has 4 heads in a layer"):
        receiver("L1H4.k", model)


# Circuits


def test_the_weights_say_which_head_copies_and_which_two_compose(lab: Lab):
    run = lab.run(HeadCircuits(PLANTED, draws=2))
    heads = {head["head"]: head for head in run.result["heads"]}
    assert heads["L1H0"]["copying"] == pytest.approx(1.0)
    assert [heads[name]["copying"] for name in ("L0H0", "L0H1", "L1H1")] == [None] * 3, "they raise no token"
    for pair in heads["L1H0"]["ov"]:
        assert pair["from"] == pair["to"]
        assert pair["value"] == pytest.approx(CERTAIN * 256 / 257), "less the mean of all tokens"
    held = run.tensors("circuits.safetensors")
    strongest = np.unravel_index(np.nanargmax(held["K.projected"]), (2, 2, 2, 2))
    assert strongest == (0, 0, 1, 0)
    assert all(np.nanmax(held[f"{kind}.projected"]) <= 0 for kind in "QV")
    assert held["ov_singular"].shape[0] == 4


def test_circuits_are_read_off_the_weights_made_plain(lab: Lab):
    run = lab.run(HeadCircuits(TRAINED, pairs=3, draws=1))
    model = plain(loaded(lab, TRAINED))
    W_V, W_O = model.get_parameter("layers.1.attn.W_V")[:, 1], model.get_parameter("layers.1.attn.W_O")[1]
    whole = (model.embed.W_E @ W_V @ W_O @ model.unembedding()[0]).detach()
    values = torch.linalg.eigvals(whole.double())
    told = run.result["heads"][3]
    assert told["head"] == "L1H1"
    assert told["copying"] == pytest.approx(float(values.sum().real / values.abs().sum()), abs=1e-3)
    assert told["ov"][0]["value"] == pytest.approx(float(whole.max()), rel=1e-4)
    assert told["ov_norm"] == pytest.approx(float((W_V @ W_O).detach().norm()), rel=1e-4)


@pytest.mark.parametrize("heads", [1, 2])
def test_with_one_layer_no_head_reads_another(heads: int, lab: Lab):
    one = replace(TRAINED, model=replace(TRAINED.model, layers=1, heads=heads), steps=1)
    run = lab.run(HeadCircuits(one))
    assert run.result["baseline"] == {} and list(run.tensors("circuits.safetensors")) == ["ov_singular"]
    assert len(run.result["heads"]) == heads


@pytest.mark.parametrize(
    ("shape", "words"),
    [({"norm_at": "post"}, "norms after each addition cannot be folded"), ({"positions": "rotary"}, "one place")],
)
def test_what_the_circuits_do_not_say_is_said(shape: dict[str, Any], words: str, lab: Lab):
    other = replace(TRAINED, model=replace(TRAINED.model, **shape), steps=0)
    assert any(words in said for said in lab.run(HeadCircuits(other, draws=1)).result["notices"])
    assert lab.run(HeadCircuits(TRAINED, pairs=3, draws=1)).result["notices"] == []


def test_padded_rows_are_neither_paired_nor_scored(lab: Lab, tmp_path: Path):
    """A model whose padding would copy most of all, were it tokens."""
    recipe = ATTENTION.resolve()
    found, padded = Draft(tmp_path / "padded.partial", recipe), lab.run(recipe)
    for name in padded.files:
        (found.path / name).write_bytes(padded.file(name).read_bytes())
    model = loaded(lab, recipe)
    large, more = replace(model.spec, context=24).build(300), 300 - 257
    state = model.state_dict()
    draw = torch.Generator().manual_seed(0)
    state["embed.W_E"] = torch.cat([state["embed.W_E"], 9 * torch.randn(more, 16, generator=draw)])
    state["unembed.W_U"] = torch.cat([state["unembed.W_U"], 9 * torch.randn(16, more, generator=draw)], 1)
    if "unembed.b_U" in state:
        state["unembed.b_U"] = torch.cat([state["unembed.b_U"], torch.zeros(more)])
    large.load_state_dict(state)
    save_model(large, found.path)
    inputs = Done()
    inputs.add(recipe, found.finish({}, {}))
    asked = HeadCircuits(recipe, pairs=7, draws=1)
    result = circuit_work.circuits(asked, inputs, Draft(tmp_path / "circuits.partial", asked))
    assert isinstance(large, DecoderModel)
    clean = plain(large.eval())
    for number, head in enumerate(result["heads"]):
        for kind, rate, full in (("ov", "copying", full_ov), ("qk", "matching", full_qk)):
            whole = full(clean, number // 2, number % 2).product()
            assert whole.max() > 2 * whole[:257, :257].max(), "padding has the largest values"
            assert len(head[kind]) == 7
            values = whole[:257, :257].flatten().sort(descending=True).values[:7].tolist()
            assert [pair["value"] for pair in head[kind]] == pytest.approx(values, rel=1e-4)
            own = torch.linalg.eigvals(whole[:257, :257].double())
            assert head[rate] == pytest.approx(float(own.sum().real / own.abs().sum()), abs=1e-3)


def test_the_paths_are_those_of_the_whole_expansion(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    model, windows = loaded(lab, ATTENTION), 3
    examples = TextData.open(lab.run(DATA)).examples("valid", 24)
    batch = examples.batch(chosen_windows(examples, windows * 24))
    targets = torch.from_numpy(batch.targets)
    found = expand(model, torch.from_numpy(batch.inputs))
    monkeypatch.setattr(expansion, "MOST_VALUES", 0)  # no path has its logits made
    result = lab.run(Paths(ATTENTION, windows=windows)).result
    so_far = found.by_order().cumsum(0) + found.constants
    own = -so_far.double().log_softmax(-1).gather(-1, targets.expand(3, -1, -1)[..., None]).squeeze(-1)
    assert [order["mean"] for order in result["orders"]] == pytest.approx(own.mean((1, 2)).tolist(), rel=1e-6)
    true = found.logits.gather(-1, targets.expand(9, -1, -1)[..., None]).squeeze(-1)
    lifted = (true - found.logits.mean(-1)).double().mean((1, 2)).tolist()
    wanted = {"→".join(f"L{la}H{he}" for la, he in path): v for path, v in zip(found.paths, lifted, strict=True)}
    told = {path["path"].replace(" ", "").replace("direct", ""): path["value"] for path in result["paths"]}
    assert told == pytest.approx(wanted, abs=1e-6) and max(map(abs, lifted)) > 0.01
    assert result["difference"] < 1e-5 and result["count"] == 9


def test_documents_that_a_training_kept_apart_are_looked_at_apart(lab: Lab):
    apart = replace(ATTENTION, objective=NextToken(apart=True))
    model, objective = loaded(lab, apart), NextToken(apart=True)
    examples = objective.examples(TextData.open(lab.run(DATA)), "valid", 24)
    whole, windows = TextData.open(lab.run(DATA)).examples("valid", 24), np.arange(len(examples))
    own, other = (score(model, those, windows).loss.sum() / (24 * len(windows)) for those in (examples, whole))
    assert abs(own - other) > 2e-5, "to see other documents changes the loss"
    result = lab.run(Paths(apart, windows=len(windows))).result
    assert result["orders"][-1]["mean"] == pytest.approx(own, abs=1e-6) and result["difference"] < 1e-5
    tuned = lab.run(TunedLens(apart, steps=2, evaluate_tokens=0))
    for told, translators in (("logit_lens", None), ("tuned_lens", translators_of(tuned))):
        own, other = (lens_divergence(model, those, windows, translators).numpy() for those in (examples, whole))
        assert abs(own - other).max() > 2e-6 and tuned.result[told] == pytest.approx(own, abs=1e-7)


def test_the_paths_sum_to_the_model_and_the_induction_head_is_the_strongest(lab: Lab):
    result = lab.run(Paths(PLANTED, windows=3)).result
    assert result["count"] == 9 and result["difference"] < 1e-4
    assert result["paths"][0]["path"] == "L1H0" and {p["value"] for p in result["paths"][1:]} == {0.0}
    # The loss of all paths is the model's own on the same windows, and that of none of its heads is even guessing.
    examples = TextData.open(lab.run(DATA)).examples("valid", 24)
    batch = examples.batch(chosen_windows(examples, 3 * 24))
    logp = loaded(lab, PLANTED)(torch.from_numpy(batch.inputs)).double().log_softmax(-1)
    own = -logp.detach().gather(-1, torch.from_numpy(batch.targets)[..., None]).mean()
    assert result["orders"][-1]["mean"] == pytest.approx(float(own), rel=1e-5)
    assert result["orders"][0]["mean"] == pytest.approx(np.log(257), rel=1e-6)
    for n, gain in enumerate(result["gains"]):
        assert gain["mean"] == pytest.approx(result["orders"][n]["mean"] - result["orders"][n + 1]["mean"], abs=1e-9)


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_only_the_circuits_two_heads_are_missed(how: Any, lab: Lab):
    recipe = HeadAblation(PLANTED, how, group=("L1H0", "L1H0"), sequences=8)
    result = lab.run(recipe).result
    rise = {head["head"]: head["increase"] for head in result["heads"]}
    assert rise["L0H0"]["low"] > 1 and rise["L1H0"]["low"] > 1
    assert abs(rise["L0H1"]["mean"]) < 1e-6 and abs(rise["L1H1"]["mean"]) < 1e-6
    assert result["group"]["heads"] == ["L1H0"] and result["placebo"]["heads"] == ["L1H1"]
    assert result["group"]["increase"]["mean"] == pytest.approx(rise["L1H0"]["mean"], rel=1e-5)
    assert abs(result["placebo"]["increase"]["mean"]) < 1e-6
    if how == "zero":  # nothing is predicted any more
        assert result["group"]["loss"]["mean"] == pytest.approx(np.log(257), rel=1e-6)


def test_heads_are_taken_out_on_other_sequences_than_they_were_chosen_by(lab: Lab):
    ablated, scored = (lab.run(kind(TRAINED, sequences=6)).result for kind in (HeadAblation, Heads))
    for said, name in ((scored["repeated_loss"], "repeats"), (ablated["loss"], "ablated repeats")):
        own = head_scores(loaded(lab, TRAINED), repeats(6, 24, 257, stream(0, name))).repeated_loss.mean()
        assert said["mean"] == pytest.approx(own, rel=1e-6)
    assert ablated["loss"]["mean"] != pytest.approx(scored["repeated_loss"]["mean"], rel=1e-6)


def test_a_large_model_reads_some_texts_at_a_time_and_finds_the_same(
    lab: Lab, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    recipe = HeadAblation(PLANTED, "zero", group=("L0H0",), sequences=7)
    whole = lab.run(recipe).result
    monkeypatch.setattr(circuit_work, "SCORES", 1)
    again = Lab(tmp_path, threads=1, quiet=True)
    parted = again.run(recipe).result
    for one, other in zip(whole["heads"], parted["heads"], strict=True):
        assert one["increase"] == pytest.approx(other["increase"], rel=1e-4, abs=1e-6)
    assert parted["group"]["loss"] == pytest.approx(whole["group"]["loss"], rel=1e-5)
    resampled = again.run(replace(recipe, how="resample")).result
    assert resampled["group"]["increase"]["n"] == 7 and resampled["group"]["increase"]["low"] > 1


def test_no_placebo_is_made_up_where_all_heads_of_a_layer_are_taken(lab: Lab):
    result = lab.run(HeadAblation(PLANTED, group=("L1H0", "L1H1"), sequences=4)).result
    assert result["group"]["heads"] == ["L1H0", "L1H1"] and "placebo" not in result


def test_sequences_are_made_of_the_texts_own_tokens(lab: Lab):
    result = lab.run(Heads(PLANTED, sequences=4, drawn="text")).result
    among = tokens_in(TextData.open(lab.run(DATA)))
    assert 20 < len(among) < 100 and 256 not in among
    assert result["uniform_loss"] == pytest.approx(np.log(len(among)))
    drawn = repeats(4, 24, among, stream(0, "repeats"))
    assert set(drawn.tokens.flatten()) <= set(among.tolist())
    expected = head_scores(loaded(lab, PLANTED), drawn).repeated_loss.mean()
    assert result["repeated_loss"]["mean"] == pytest.approx(expected)
    drawn = repeats(4, 24, among, stream(0, "ablated repeats"))
    assert set(drawn.tokens.flatten()) <= set(among.tolist())
    expected = head_scores(loaded(lab, PLANTED), drawn).repeated_loss.mean()
    ablated = lab.run(HeadAblation(PLANTED, sequences=4, drawn="text")).result
    assert ablated["loss"]["mean"] == pytest.approx(expected)


# Steering

STEER = Steer(
    PLANTED,
    towards=("abcab", "abcdab"),
    away=("abdab", "abdcab"),
    texts=("xyzxy", "uvwuv"),
    right="c",
    wrong="d",
    site="L1.resid.post",
)


def test_along_what_the_unembedding_reads_the_dose_response_is_a_straight_line(lab: Lab):
    run = lab.run(STEER)
    result, held = run.result, run.tensors("direction.safetensors")
    W_U = loaded(lab, PLANTED).unembedding()[0].detach().numpy()
    slope = float(held["direction"] @ (W_U[:, ord("c")] - W_U[:, ord("d")]))
    assert slope == pytest.approx(2 * CERTAIN, rel=0.02), "from the answer d to the answer c"
    for dose in result["doses"]:
        expected = dose["strength"] * slope
        for end in ("mean", "low", "high"):
            assert dose["change"][end] == pytest.approx(expected, rel=1e-4), "alike in every text"
        assert dose["placebo_least"] < 0 < dose["placebo_most"]
        assert max(-dose["placebo_least"], dose["placebo_most"]) < abs(expected) / 2
        assert dose["p"] == pytest.approx(1 / 21)
    assert [dose["strength"] for dose in result["doses"]] == list(STEER.strengths)
    assert held["placebos"].shape == (6, 20)
    assert result["norm"] == pytest.approx(float(np.linalg.norm(held["direction"])))


def test_without_a_wrong_answer_the_mean_of_all_is_subtracted(lab: Lab):
    run = lab.run(replace(STEER, wrong="", strengths=(1.0,), placebos=1))
    direction = run.tensors("direction.safetensors")["direction"]
    W_U = loaded(lab, PLANTED).unembedding()[0].detach().numpy()
    expected = float(direction @ (W_U[:, ord("c")] - W_U.mean(1)))
    assert run.result["doses"][0]["change"]["mean"] == pytest.approx(expected, rel=1e-4)


def test_a_direction_that_nothing_reads_changes_nothing(lab: Lab):
    """What differs is the answer's part of the stream, which layer 1 does not read."""
    other = replace(STEER, right="p", wrong="q", strengths=(4.0,))
    assert abs(lab.run(other).result["doses"][0]["change"]["mean"]) < 1e-4


# What cannot be asked

ENCODER = Train(
    data=Tokens(Fable(stories=60), BytePair(vocabulary=300, specials=("mask", "first", "separator"))),
    model=Encoder(layers=1, width=8, heads=1, feedforward=8, context=12),
    objective=Masked(),
    steps=0,
    evaluate_tokens=256,
)

REFUSED: list[tuple[Recipe, str]] = [
    (Lens(PLANTED, "a" * 25), "the text has 25 tokens, and the model reads 24: shorten it by 1"),
    (Attribute(PLANTED, "a" * 25), "the text has 25 tokens"),
    (Attribute(PLANTED, TEXT, position=10), r"position 10 is outside a text of 10 tokens \(0 to 9\)"),
    (Attribute(PLANTED, TEXT, token="ab"), r"'ab' is 'a' \+ 'b' to this tokenizer, and one token is needed"),
    (Attribute(PLANTED, TEXT, token="e", versus="e"), "the logit of 'e' over itself is 0"),
    (PatchMap(PLANTED, "abcab", "abcdab"), r"clean prompt has 5 tokens and the corrupted one 6: .*'a' 'b' 'c' 'a' 'b'"),
    (PatchMap(PLANTED, "abcdab", "abcxab"), "both prompts are answered with 'c', so nothing tells the runs apart"),
    (PatchMap(PLANTED, **VALUE, what="mlp"), "kind 'mlp' finds nothing in an attention-only model"),
    (PatchMap(PLANTED, "abcdab", "abcxab", "p", "q"), "the metric is 0 of both runs, so there is nothing to recover"),
    (PatchMap(PLANTED, "a" * 25, "b" * 25), "the clean prompt has 25 tokens"),
    (PathPatches(PLANTED, **KEY, receiver="L1H0"), "receiver 'L1H0' is none: write q, k or v of a head as in L1H0.k"),
    (PathPatches(PLANTED, **KEY, receiver="L1H2.k"), "receiver 'L1H2.k' is none: the model has 2 heads in a layer"),
    (PathPatches(PLANTED, **KEY, receiver="L2H0.k"), r"the model has 2 layers \(L0, L1\)"),
    (HeadAblation(PLANTED, group=("L2H0",), sequences=2), "'L2H0' is no head of 2 layers of 2 heads: write as in L0H1"),
    (HeadAblation(PLANTED, group=("H0",), sequences=2), "'H0' is no head of 2 layers of 2 heads"),
    (Paths(TRAINED, windows=1), "feedforward = 32: only attention-only models are a sum over paths"),
    (Paths(PLANTED, windows=1, most=8), "2 layers of 2 heads have 9 paths, more than most = 8"),
    (replace(STEER, site="L0.attn.z"), "'L0.attn.z' is B T H K: steer at one activation B T D"),
    (replace(STEER, site="L*.resid.pre"), "is B T D, B T D: steer at one activation B T D"),
    (replace(STEER, texts=("xyx", "xyxy")), "the texts have 3 to 4 tokens: give texts of as many tokens each"),
    (replace(STEER, towards=("abcab",), away=("abcab",)), "a direction has norm 0"),
    (replace(STEER, right="no"), r"'no' is 'n' \+ 'o' to this tokenizer"),
    *(
        (asked, "reads decoders")
        for asked in (
            Lens(ENCODER, "A dog."),
            Attribute(ENCODER, "A dog."),
            PatchMap(ENCODER, "A dog.", "A hen sat."),
            PathPatches(ENCODER, "A dog.", "A hen sat."),
            HeadCircuits(ENCODER),
            HeadAblation(ENCODER, sequences=2),
        )
    ),
]


@pytest.mark.parametrize(("recipe", "words"), REFUSED, ids=[f"{r.kind}: {w[:24]}" for r, w in REFUSED])
def test_what_cannot_be_done_is_said_in_one_line(recipe: Recipe, words: str, lab: Lab):
    with pytest.raises(UsageError, match=words) as caught:
        lab.run(recipe)
    assert "\n" not in str(caught.value)


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (Lens, {"text": " "}, "the text is empty"),
    (Lens, {"top": 0}, "top = 0, tuned = 0"),
    (Lens, {"tuned": -1}, "tuned = -1"),
    (TunedLens, {"steps": 0}, "steps = 0"),
    (Attribute, {"neurons": -1}, "neurons = -1"),
    (Attribute, {"token": "\udcff"}, "the token has '\\\\udcff', which is not UTF-8"),
    (PatchMap, {"clean": "", "corrupted": "a"}, "the clean is empty; give one with --clean"),
    (PatchMap, {"clean": "a", "corrupted": "a"}, "clean and corrupted are the same text"),
    (PatchMap, {"clean": "a", "corrupted": "b", "wrong": "\ud800"}, "the wrong has .* not UTF-8"),
    (PathPatches, {"clean": "a", "corrupted": "a"}, "clean and corrupted are the same text"),
    (HeadCircuits, {"pairs": 0}, "pairs = 0"),
    (Paths, {"windows": 0}, "windows = 0"),
    (HeadAblation, {"sequences": 1}, "sequences = 1 is too small"),
]


@pytest.mark.parametrize(("kind", "fields", "words"), BAD, ids=[f"{k.kind}: {w[:24]}" for k, _, w in BAD])
def test_a_recipe_that_makes_no_sense_is_refused_before_anything_is_run(kind: Any, fields: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words) as caught:
        kind(PLANTED, **fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"towards": ()}, "no towards: give one or more texts with --towards"),
        ({"texts": (" ",)}, "the texts is empty"),
        ({"site": "L0.mlp.out"}, "the model is attention-only"),
        ({"site": "L2.resid.pre"}, r"the model has 2 layers \(L0, L1\)"),
        ({"site": "L0.attn.W_O"}, "is a weight"),
        ({"placebos": 0}, "placebos = 0"),
        ({"strengths": ()}, r"strengths = \(\)"),
    ],
)
def test_steering_that_makes_no_sense_is_refused_before_anything_is_run(fields: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words) as caught:
        replace(STEER, **fields)
    assert "\n" not in str(caught.value)
