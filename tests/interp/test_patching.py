"""Patches: those of whole runs with functions put at sites, and those that a planted circuit has to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.interp.metrics import Divergence, LogitDifference, LogProbability, Loss, Metric
from etude.interp.patching import PatchMap, patch_at, patch_map
from etude.interp.resumed import decoder
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import planted
from etude.models.transformer import Transformer
from etude.nn.attention.banded import Banded
from etude.nn.attention.full import Full
from etude.nn.attention.sliding import Sliding
from etude.nn.look import look
from etude.nn.multi_head import MultiHead

V, T, N = 13, 5, 2


class Apart(nn.Module):
    """Attention that is multi-head attention inside, but keeps its past where nobody else can fill it."""

    def __init__(self, inside: MultiHead) -> None:
        super().__init__()
        self.inside, self.W_O = inside, inside.W_O
        self.k, self.v, self.z, self.out = inside.k, inside.v, inside.z, inside.out

    def forward(self, x: Tensor, view: Any) -> Tensor:
        assert view.past is None
        return self.inside(x, view)


@dataclass(frozen=True)
class Elsewhere(Full):
    """A member of the family of attentions that is no `MultiHead`."""

    def build(self, shape: Any) -> nn.Module:
        return Apart(cast(MultiHead, super().build(shape)))


SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"tied": True},
    "2017": {"norm_at": "post", "positions": "sinusoidal", "activation": "relu"},
    "llama": {
        "positions": "rotary",
        "norm": "rms",
        "kv_heads": 2,
        "gated": True,
        "activation": "silu",
        "biases": False,
    },
    "neox": {"positions": "rotary", "rotary_fraction": 0.5, "parallel": True},
    "sliding": {"attention": Sliding(window=3)},
    "banded, rotary": {"attention": Banded(window=2), "positions": "rotary"},
    "attention-only": {"feedforward": 0},
    "attention-only, post-norm, rms": {"feedforward": 0, "norm_at": "post", "norm": "rms"},
    "no norm, no positions": {"norm": "none", "positions": "none"},
    "mup, one group": {"mup_base": 8, "kv_heads": 1},
    "a past of its own": {"attention": Elsewhere()},
}
KINDS = ["resid", "attn", "mlp", "head", "head-position"]
METRICS: dict[str, Metric] = {
    "difference": LogitDifference(torch.tensor([1, 2]), torch.tensor([3, 4])),
    "log-probability of the middle": LogProbability(5, position=-4),
    "loss": Loss(torch.randint(V, (N, T), generator=torch.Generator().manual_seed(5))),
    "divergence": Divergence(torch.randn(N, T, V, generator=torch.Generator().manual_seed(6)), position=-2),
    "any function": lambda logits: logits[:, -3:, 2].square().sum(),
}


def lively(shape: dict[str, Any]) -> DecoderModel:
    """Build a model whose weights are large enough that every part matters."""
    spec = Decoder(**{"layers": 2, "width": 16, "heads": 4, "feedforward": 24, "context": 9, **shape})
    model, generator = spec.build(V).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return cast(DecoderModel, model)


def pairs(seed: int = 0, length: int = T) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (N, length), generator=generator), torch.randint(V, (N, length), generator=generator)


def value_of(metric: Metric, logits: Tensor) -> Tensor:
    return torch.as_tensor(metric(logits)).reshape(-1)


@torch.no_grad()
def naive(model: DecoderModel, clean: Tensor, corrupted: Tensor, metric: Metric, kind: str, noising: bool) -> Tensor:
    """Patch by whole runs, one function at one site each."""
    base, source = (clean, corrupted) if noising else (corrupted, clean)
    layers, length, heads = model.spec.layers, base.shape[1], model.spec.heads
    every = [slice(None)]
    sites, places = {
        "resid": ([f"L{n}.resid.pre" for n in range(layers)] + [f"L{layers - 1}.resid.post"], [every, range(length)]),
        "attn": ([f"L{n}.attn.out" for n in range(layers)], [every, range(length)]),
        "mlp": ([f"L{n}.mlp.out" for n in range(layers)], [every, range(length)]),
        "head": ([f"L{n}.attn.z" for n in range(layers)], [every, every, range(heads)]),
        "head-position": ([f"L{n}.attn.z" for n in range(layers)], [every, range(length), range(heads)]),
    }[kind]
    if kind == "resid" and not layers:
        sites = ["embed.out"]

    seen = look(model, source, sites)

    def patched(site: str, *at: Any) -> Tensor:
        new = seen[site]

        def put(value: Tensor) -> Tensor:
            value = value.clone()
            value[at] = new[at]
            return value

        with model.tapped({site: put}):
            return value_of(metric, model(base))

    rows = []
    for site in sites:
        _, ts, *hs = places
        cells = [patched(site, slice(None), t, h) for h in (hs[0] if hs else every) for t in ts]
        rows.append(torch.stack(cells))
    made = torch.stack(rows)
    return made.unflatten(1, (heads, length)) if kind == "head-position" else made


def has(shape: dict[str, Any], kind: str) -> bool:
    return kind != "mlp" or shape.get("feedforward") != 0


CASES = [(name, kind) for name, shape in SHAPES.items() for kind in KINDS if has(shape, kind)]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_map_is_what_whole_runs_give(name: str, kind: str) -> None:
    """In double precision, where what is algebraically the same is the same to 9 digits."""
    model, (clean, corrupted) = lively(SHAPES[name]).double(), pairs()
    metric, noising = METRICS["difference"], len(name + kind) % 2 == 0
    found = patch_map(model, clean, corrupted, metric, kind, noising=noising, at_once=30)
    expected = naive(model, clean, corrupted, metric, kind, noising)
    torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-9)
    assert expected.std() > 0.1, "patches have to matter for a comparison to mean anything"
    torch.testing.assert_close(found.clean, value_of(metric, model(clean)))
    torch.testing.assert_close(found.corrupted, value_of(metric, model(corrupted)))
    labels = [len(names) for names in found.axes.values()]
    assert [*labels, N] == list(found.values.shape)


@pytest.mark.parametrize("kind", ["resid", "head-position"])
@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_whatever_a_metric_reads(metric: Metric, kind: str) -> None:
    model, (clean, corrupted) = lively({"positions": "rotary"}), pairs(1)
    found = patch_map(model, clean, corrupted, metric, kind, at_once=1)  # from each position on, for itself
    expected = naive(model, clean, corrupted, metric, kind, noising=False)
    torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=8)
@given(
    length=st.integers(1, 9),
    at_once=st.integers(1, 200),
    same=st.sets(st.integers(0, 8)),
    window=st.integers(1, 9),
    kind=st.sampled_from(["resid", "head", "head-position"]),
)
def test_grouping_and_skipping_change_nothing(length: int, at_once: int, same: set[int], window: int, kind: str):
    """Any number at once, any positions at which the texts agree, windows of any size, texts of one token."""
    model = lively({"layers": 2, "attention": Banded(window=window)})
    clean, corrupted = pairs(length + 10 * at_once, length)
    for position in same & set(range(length)):
        corrupted[:, position] = clean[:, position]
    metric = LogitDifference(1, 2)
    found = patch_map(model, clean, corrupted, metric, kind, at_once=at_once)
    expected = naive(model, clean, corrupted, metric, kind, noising=False)
    torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-5)


def test_positions_before_the_texts_differ_are_not_computed() -> None:
    model, (clean, corrupted) = lively({}), pairs()
    corrupted[:, :3] = clean[:, :3]
    found = patch_map(model, clean, corrupted, METRICS["difference"])
    assert torch.equal(found.values[:, :3], found.corrupted.expand(3, 3, N))
    assert not torch.isclose(found.values[0, 3:], found.corrupted).any()


def test_what_is_patched_goes_all_the_way_from_one_run_to_the_other() -> None:
    """The whole stream of the last position behind the last layer is the clean run, where that alone is read."""
    model, (clean, corrupted) = lively({}), pairs()
    denoised = patch_map(model, clean, corrupted, METRICS["difference"])
    torch.testing.assert_close(denoised.values[-1, -1], denoised.clean)
    torch.testing.assert_close(denoised.recovered()[-1, -1], torch.tensor(1.0))
    assert (denoised.recovered()[-1, :-1] == 0).all()
    noised = patch_map(model, clean, corrupted, METRICS["difference"], noising=True)
    torch.testing.assert_close(noised.values[-1, -1], noised.corrupted)
    torch.testing.assert_close(noised.recovered()[-1, -1], torch.tensor(1.0))


def test_what_is_recovered_is_the_quotient_of_the_means() -> None:
    values = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    found = PatchMap("attn", {"layer": ("L0", "L1")}, values, torch.tensor([2.0, 6.0]), torch.tensor([0.0, 4.0]))
    torch.testing.assert_close(found.recovered(), torch.tensor([0.25, 0.75]))
    noised = PatchMap("attn", found.axes, values, found.clean, found.corrupted, noising=True)
    torch.testing.assert_close(noised.recovered(), torch.tensor([0.75, 0.25]))


def test_runs_that_do_not_differ_leave_nothing_to_recover() -> None:
    clean, _ = pairs()
    found = patch_map(lively({}), clean, clean, METRICS["difference"])
    assert torch.equal(found.values, found.clean.expand_as(found.values))
    with pytest.raises(UsageError, match="of both runs, so there is nothing to recover"):
        found.recovered()


def test_a_decoder_without_layers_has_a_stream_all_the_same() -> None:
    model, (clean, corrupted) = lively({"layers": 0}), pairs()
    found = patch_map(model, clean, corrupted, METRICS["difference"])
    expected = naive(model, clean, corrupted, METRICS["difference"], "resid", noising=False)
    torch.testing.assert_close(found.values, expected)
    assert found.axes["layer"] == ("embed.out",)
    with pytest.raises(UsageError, match="no layers"):
        patch_map(model, clean, corrupted, METRICS["difference"], "head")


A, B, C, D, E = range(5)
CIRCUIT = (torch.tensor([[A, B, C, D, A]]), torch.tensor([[A, E, C, D, A]]), LogitDifference(B, E))
"""The induction head answers the last token A with what followed the first: B when clean, E when corrupted."""


def test_a_planted_circuit_is_found_and_nothing_else() -> None:
    clean, corrupted, metric = CIRCUIT
    stream = patch_map(planted(8, 6), clean, corrupted, metric).recovered()
    expected = torch.zeros(3, 5)
    expected[:2, 1] = 1.0  # the token B itself, until L1H0 has read it
    expected[2, 4] = 1.0  # and the answer after that
    torch.testing.assert_close(stream, expected, rtol=0, atol=1e-4)
    by_head = patch_map(planted(8, 6), clean, corrupted, metric, "head-position").recovered()
    expected = torch.zeros(2, 2, 5)
    expected[1, 0, 4] = 1.0
    torch.testing.assert_close(by_head, expected, rtol=0, atol=1e-4)


def test_a_planted_previous_token_head_is_found_where_the_texts_differ_before() -> None:
    """Corrupting the first A takes the match away: what L0H0 wrote at B carries it, and L0H0 alone."""
    clean, corrupted = torch.tensor([[A, B, C, D, A]]), torch.tensor([[E, B, C, D, A]])
    metric, model = LogProbability(B), planted(8, 6)
    for kind, place in (("head-position", (0, 0, 1)), ("attn", (0, 1))):
        found = patch_map(model, clean, corrupted, metric, kind).recovered()
        assert found[place] > 0.99
        rest = found.clone()
        rest[place] = rest[1, ..., 4] = 0  # L1H0 writes the answer in any case
        assert rest.abs().max() < 1e-3


def test_whole_activations_at_sites_of_any_model() -> None:
    model, (clean, corrupted) = lively({"norm_at": "post"}), pairs()
    metric = METRICS["difference"]
    found = patch_at(model, clean, corrupted, metric, ["L*.attn.z", "L1.mlp.*", "embed.tokens"])
    assert "L1.mlp.W_in" not in found.axes["site"]
    assert found.axes["site"][0] == "embed.tokens"
    torch.testing.assert_close(found.values[0], found.clean)  # positions are the same in both
    for site, value in zip(found.axes["site"], found.values, strict=True):
        new = look(model, clean, site)[site]
        with model.tapped({site: lambda _, new=new: new}):
            torch.testing.assert_close(value, value_of(metric, model(corrupted)))
    assert found.values.std(0).min() > 0.1


def test_all_heads_together_are_their_attention() -> None:
    """The z of every head at one position is what `attn` patches, and the two go different ways."""
    model, (clean, corrupted) = lively({"heads": 1}), pairs()
    head = patch_map(model, clean, corrupted, METRICS["difference"], "head-position")
    attn = patch_map(model, clean, corrupted, METRICS["difference"], "attn")
    torch.testing.assert_close(head.values[:, 0], attn.values, rtol=1e-5, atol=1e-5)
    whole = patch_map(model, clean, corrupted, METRICS["difference"], "head")
    at = patch_at(model, clean, corrupted, METRICS["difference"], "L*.attn.out")
    torch.testing.assert_close(whole.values[:, 0], at.values, rtol=1e-5, atol=1e-5)


def small(spec: type, **options: Any) -> Transformer:
    return spec(layers=2, width=16, heads=2, feedforward=24, context=8, **options).build(V).eval()


def test_encoders_classifiers_and_pairs_of_stacks_are_patched_by_whole_runs() -> None:
    clean, corrupted = pairs()
    for model in (small(Encoder), small(Encoder, classes=3)):
        found = patch_at(model, clean, corrupted, LogitDifference(1, 2), "embed.tokens")
        torch.testing.assert_close(found.values[0], found.clean)
        assert not torch.isclose(found.clean, found.corrupted).any()
    model, source = small(EncoderDecoder), torch.randint(V, (N, 4))
    sites = ["memory", "L0.resid.pre"]
    found = patch_at(model, clean, corrupted, LogitDifference(1, 2), sites, source=source)
    assert found.axes["site"] == ("L0.resid.pre", "memory")
    torch.testing.assert_close(found.values, torch.stack([found.clean, found.corrupted]))  # both runs read one source
    with pytest.raises(UsageError, match=r"embed\.tokens is passed more than once in a run"):
        patch_at(model, clean, corrupted, LogitDifference(1, 2), "embed.tokens", source=torch.randint(V, (N, T)))


def test_progress_is_told_of_every_layer() -> None:
    told: list[tuple[int, int]] = []
    clean, corrupted = pairs()
    patch_map(lively({}), clean, corrupted, METRICS["difference"], progress=lambda *said: told.append(said))
    assert told == [(n, 3) for n in (1, 2, 3)]


def test_of_a_compiled_model_the_original_is_patched() -> None:
    model = lively({})
    assert decoder(torch.compile(model, backend="eager")) is model


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": ({"corrupted": torch.zeros(N, T - 1, dtype=torch.long)}, r"\[2, 5\] and corrupted ones of \[2, 4\]"),
    "kind": ({"kind": "atn"}, "unknown kind of patch 'atn': did you mean 'attn'?"),
    "vocabulary": ({"clean": torch.full((N, T), V)}, f"token {V} is outside the vocabulary of {V}"),
    "metric": ({"metric": lambda logits: logits}, r"the metric returned \[2, 5, 13\]"),
    "position": ({"metric": LogitDifference(1, position=-8)}, "reads position -8, and the texts have 5 tokens"),
    "at once": ({"at_once": 0}, "at_once = 0"),
    "no text": ({"clean": torch.zeros(0, 4).long(), "corrupted": torch.zeros(0, 4).long()}, "hold no text"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=list(WRONG))
def test_what_cannot_be_patched_is_said_in_one_line(change: dict[str, Any], message: str) -> None:
    clean, corrupted = pairs()
    asked = {"clean": clean, "corrupted": corrupted, "metric": METRICS["difference"], "kind": "resid", **change}
    with pytest.raises(UsageError, match=message) as error:
        patch_map(lively({}), **asked)
    assert "\n" not in str(error.value)


def test_models_that_cannot_be_gone_on_from_are_refused() -> None:
    (clean, corrupted), metric = pairs(), METRICS["difference"]
    with pytest.raises(UsageError, match="reads decoders, and the model is an encoder"):
        patch_map(small(Encoder), clean, corrupted, metric)
    with pytest.raises(UsageError, match="finds nothing in an attention-only model: patch resid, attn, head"):
        patch_map(lively({"feedforward": 0}), clean, corrupted, metric, "mlp")
    with pytest.raises(UsageError, match=r"eval\(\) first"):
        patch_map(lively({"dropout": 0.1}).train(), clean, corrupted, metric)
    with pytest.raises(UsageError, match="text of 10 tokens is longer than the model's context of 9"):
        patch_map(lively({}), torch.zeros(1, 10).long(), torch.zeros(1, 10).long(), metric)
    model = lively({})
    with model.tapped({"L0.mlp.out": torch.zeros_like}):
        with pytest.raises(UsageError, match="1 functions are put at sites"):
            patch_map(model, clean, corrupted, metric)
        found = patch_at(model, clean, corrupted, metric, "L0.mlp.out")
    assert torch.equal(found.values[0], found.corrupted), "both runs have what was put there"


def test_sites_that_cannot_be_patched_are_named() -> None:
    (clean, corrupted), metric = pairs(), METRICS["difference"]
    with pytest.raises(UsageError, match="unknown site 'L7"):
        patch_at(lively({}), clean, corrupted, metric, "L7.attn.z")
    with pytest.raises(UsageError, match="names weights alone"):
        patch_at(lively({}), clean, corrupted, metric, "*.W_Q")
    with pytest.raises(UsageError, match="reads position -8"):
        patch_at(lively({}), clean, corrupted, LogitDifference(1, position=-8), "L0.attn.z")
    with pytest.raises(UsageError, match="corrupted ones of"):
        patch_at(lively({}), clean, corrupted[:1], metric, "L0.attn.z")


def test_patching_at_sites_of_a_model_that_drops_out_is_refused():
    model = Decoder(layers=1, width=8, heads=2, feedforward=16, context=8, dropout=0.5).build(11).train()
    text = torch.zeros(1, 4, dtype=torch.long)
    with pytest.raises(UsageError, match="drops out a share of"):
        patch_at(model, text, text + 1, LogitDifference(1), "L0.resid.post")
