"""What a training leaves to the machine: what it becomes, that it names the run, and that the estimates are true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from etude.core.errors import UsageError
from etude.core.spec import AUTO
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.nn import dot_product
from etude.nn.precision import autocast
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.train.choices import SHORT, activation_bytes, choices, said, score_bytes
from etude.train.recipes import Train

CHOICES = ("precision", "compiled", "chunked", "recompute")
LEFT = dict.fromkeys(CHOICES, AUTO)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make this machine another one, as far as choices ask."""

    def become(*, bf16: bool = False, memory: int = 64 << 30) -> None:
        monkeypatch.setattr("etude.train.choices.multiplies_bf16", lambda: bf16)
        monkeypatch.setattr("etude.train.choices.memory", lambda: memory)

    return become


def left(**fields: Any) -> Train:
    return Train(**{**LEFT, **fields})


def test_precision(machine: Callable[..., None]):
    for native, wanted in ((True, "bf16"), (False, "fp32")):
        machine(bf16=native)
        assert choices(left())["precision"] == wanted
        assert choices(left(device="cuda"))["precision"] == "bf16"
        assert choices(left(device="cuda:1"))["precision"] == "bf16"
        assert choices(left(device="mps"))["precision"] == "fp32"


def test_compiled(machine: Callable[..., None]):
    machine()
    assert [choices(left(device=device))["compiled"] for device in ("cpu", "cuda", "mps")] == ["no", "yes", "no"]


def test_chunked_from_64_mb_of_scores(machine: Callable[..., None]):
    machine()
    model, data = Decoder(context=64), Tokens(tokenizer=BytePair(vocabulary=4096))
    most = (64 << 20) // (4 * 4096 * 64)
    assert score_bytes(left(model=model, data=data, batch=most)) == 64 << 20
    assert choices(left(model=model, data=data, batch=most))["chunked"] == "no"
    assert choices(left(model=model, data=data, batch=most + 1))["chunked"] == "yes"
    assert choices(left(model=model, data=data, batch=2 * most, accumulate=2))["chunked"] == "no"


def test_the_scores_of_a_classifier_are_few(labelled: Train):
    assert score_bytes(replace(labelled, batch=8)) == 4 * 2 * 8


def test_recompute_from_half_of_the_memory(machine: Callable[..., None]):
    machine()
    recipe = left(batch=32)
    for precision in ("fp32", "bf16"):
        fits = replace(recipe, precision=precision)
        kept = activation_bytes(fits, precision)
        machine(memory=2 * kept)
        assert choices(fits)["recompute"] == "no"
        machine(memory=2 * kept - 2)
        assert choices(fits)["recompute"] == "yes"
        assert choices(replace(fits, accumulate=2))["recompute"] == "no"
    machine(memory=0)  # a system that does not tell
    assert choices(recipe)["recompute"] == "no"


def test_the_chosen_precision_counts_in_what_is_kept(machine: Callable[..., None]):
    machine()
    small, large = (activation_bytes(left(), precision) for precision in ("bf16", "fp32"))
    assert small < large
    for native, wanted in ((True, "no"), (False, "yes")):
        machine(bf16=native, memory=small + large)
        assert choices(left())["recompute"] == wanted


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_nothing_stays_open(bf16: bool, device: str, machine: Callable[..., None]):
    machine(bf16=bf16)
    settled = left(device=device).resolve()
    assert all(getattr(settled, name) != AUTO for name in CHOICES)
    assert choices(settled) == {}
    assert settled.resolve() == settled
    assert settled.fingerprint()
    with pytest.raises(UsageError, match="is still 'auto'"):
        left(device=device).fingerprint()


@pytest.mark.parametrize(
    "chosen",
    [dict(zip(CHOICES, values, strict=True)) for values in (("fp32", "no", "no", "no"), ("bf16", "yes", "yes", "yes"))],
)
def test_what_is_said_is_kept(chosen: dict[str, Any], machine: Callable[..., None]):
    for bf16, memory in ((True, 1), (False, 64 << 30)):
        machine(bf16=bf16, memory=memory)
        settled = Train(**chosen).resolve()
        assert {name: getattr(settled, name) for name in CHOICES} == chosen


def test_two_machines_make_two_runs(machine: Callable[..., None]):
    ids = set()
    for bf16 in (True, False):
        machine(bf16=bf16)
        ids.add(left().resolve().id)
    assert len(ids) == 2
    assert ids == {left(precision=precision).resolve().id for precision in ("bf16", "fp32")}


def test_the_line_names_every_flag(machine: Callable[..., None]):
    machine(bf16=True)
    settled = left().resolve()
    line = said(settled)
    assert line == (
        f"{settled.id} on cpu: bf16 (--precision), eager (--compiled), whole loss (--chunked), activations kept"
        " (--recompute)"
    )
    names = {f.name for f in fields(Train)}
    assert {word.strip("(),").removeprefix("--") for word in line.split() if word.startswith("(--")} <= names
    other = said(replace(settled, compiled="yes", chunked="yes", recompute="yes"))
    assert "compiled (--compiled), chunked loss (--chunked), activations made again (--recompute)" in other


def test_where_the_pattern_is_made_is_known():
    assert SHORT**2 == dot_product.SHORT


SHAPE: dict[str, Any] = {"layers": 3, "width": 64, "heads": 4, "feedforward": 256, "context": 32}
SHAPES: dict[str, Architecture] = {
    "gpt": Decoder(**SHAPE),
    "long": Decoder(**{**SHAPE, "context": 256}),
    "longer": Decoder(**{**SHAPE, "layers": 1, "context": 600}),
    "wide inside": Decoder(**{**SHAPE, "feedforward": 1024}),
    "attention-only": Decoder(**{**SHAPE, "feedforward": 0}),
    "original": Decoder(**SHAPE, norm_at="post", activation="relu"),
    "llama": Decoder(**SHAPE, norm="rms", gated=True, activation="silu", positions="rotary", biases=False, kv_heads=2),
    "neox": Decoder(**SHAPE, parallel=True, positions="rotary"),
    "dropout": Decoder(**SHAPE, dropout=0.1),
    "encoder": Encoder(**SHAPE),
    "encoder-decoder": EncoderDecoder(**SHAPE, activation="relu"),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_kept_for_the_backward_pass_is_as_estimated(shape: str, precision: str, tiny: Callable[..., Train]):
    """Within a third of what PyTorch keeps: it decides at a half of the memory."""
    model, batch = SHAPES[shape], 16
    recipe = replace(tiny(), batch=batch)
    object.__setattr__(recipe, "model", model)  # any architecture, whatever the objective
    live = model.build(50)
    weights = {p.untyped_storage().data_ptr() for p in live.parameters()}
    held: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    tokens = torch.randint(0, 50, (batch, model.context))
    given = {"source": tokens} if isinstance(model, EncoderDecoder) else {}
    saved = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with saved, autocast(torch.device("cpu"), precision):
        live.hidden(tokens, **given)
    copies = 2 * sum(p.numel() for p in live.parameters()) if precision == "bf16" else 0  # of the weights, in bf16
    found = sum(tensor.untyped_storage().nbytes() for tensor in held.values()) - copies
    assert 2 / 3 < activation_bytes(recipe, precision) / found < 3 / 2
