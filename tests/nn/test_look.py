"""How far a look goes and what it keeps: positions, an early end, calls with more than tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.cache import Cache
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.nn.taps import Tap

V, T = 11, 6
SPEC = Decoder(layers=3, width=8, heads=2, feedforward=16, context=T)


@pytest.fixture(scope="module")
def model() -> DecoderModel:
    return _drawn(SPEC)


def _drawn(spec: Decoder) -> DecoderModel:
    made = spec.build(V, seed=3)
    assert isinstance(made, DecoderModel)
    return made.eval()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(V, (2, T), generator=torch.Generator().manual_seed(1))


@contextmanager
def passed(model: Transformer) -> Iterator[list[str]]:
    """Collect the modules whose forward pass ends while the context is open."""
    names: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: names.append(name))
        for name, module in model.named_modules()
        if name and not isinstance(module, Tap)
    ]
    try:
        yield names
    finally:
        for hook in hooks:
            hook.remove()


def test_nothing_is_computed_after_the_last_site_that_was_asked_for(model: DecoderModel, tokens: Tensor):
    with passed(model) as names:
        look(model, tokens, ["L0.attn.out", "L1.resid.pre"])
    assert "layers.0" in names and "layers.1.attn" not in names and "final_norm" not in names
    with passed(model) as names:
        look(model, tokens, "L0.attn.W_Q")
    assert names == []


def test_until_ends_the_pass_and_leaves_out_what_comes_later(model: DecoderModel, tokens: Tensor):
    with passed(model) as names:
        seen = look(model, tokens, "L*.resid.pre", until="L1.attn.out")
    assert list(seen) == ["L0.resid.pre", "L1.resid.pre"]
    assert "layers.1.attn" not in names and "layers.0" in names
    whole = look(model, tokens, "L*.resid.pre")
    assert torch.equal(seen["L1.resid.pre"], whole["L1.resid.pre"])


def test_until_a_site_that_is_itself_wanted_includes_it(model: DecoderModel, tokens: Tensor):
    assert list(look(model, tokens, "L*.resid.post", until="L1.resid.post")) == ["L0.resid.post", "L1.resid.post"]


@pytest.mark.parametrize(
    ("sites", "until", "message"),
    [
        ("L2.resid.post", "L0.resid.post", "nothing of L2.resid.post comes before L0.resid.post"),
        ("L0.resid.post", "L*.resid.post", "names 3 sites or a weight: name one activation"),
        ("L0.resid.post", "L0.attn.W_Q", "names 1 sites or a weight"),
        ("L0.resid.post", "L9.resid.post", "the model has 3 layers"),
    ],
)
def test_what_until_cannot_be(model: DecoderModel, tokens: Tensor, sites: str, until: str, message: str):
    with pytest.raises(UsageError, match=message):
        look(model, tokens, sites, until=until)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("positions", [2, -1, slice(1, 4), slice(None, None, 2), [4, 0], (5,)])
def test_positions_are_those_of_the_whole(model: DecoderModel, tokens: Tensor, positions, grad: bool):
    sites = ["embed.positions", "L1.attn.pattern", "L1.attn.q", "L2.resid.post", "L0.mlp.W_in", "logits"]
    seen, whole = look(model, tokens, sites, grad, positions=positions), look(model, tokens, sites)
    kept = [positions] if isinstance(positions, int) else positions
    axis = {"embed.positions": 0, "L1.attn.pattern": 2, "L1.attn.q": 1, "L2.resid.post": 1, "logits": 1}
    for site, value in seen.items():
        wanted = whole[site]
        if site in axis:
            index = torch.arange(T)[kept if isinstance(kept, slice) else list(kept)]
            wanted = wanted.index_select(axis[site], index)
        torch.testing.assert_close(value, wanted)


@pytest.mark.parametrize(("positions", "message"), [
    (T, f"position {T} is outside a text of {T} tokens"),
    (-T - 1, f"position {-T - 1} is outside"),
    ([0, 99], "position 99 is outside"),
    (slice(4, 2), "are none outside|are none"),
    ((), "are none"),
])  # fmt: skip
def test_positions_that_are_not_there(model: DecoderModel, tokens: Tensor, positions, message: str):
    with pytest.raises(UsageError, match=message):
        look(model, tokens, "L0.resid.post", positions=positions)


def test_a_gradient_at_some_positions_is_that_part_of_the_whole_gradient(model: DecoderModel, tokens: Tensor):
    sites = ["L1.resid.pre", "L2.resid.post"]
    some = look(model, tokens, sites, grad=True, positions=slice(4, None))
    every = look(model, tokens, sites, grad=True)
    part = torch.autograd.grad(some["L2.resid.post"].square().sum(), some["L1.resid.pre"])[0]
    whole = torch.autograd.grad(every["L2.resid.post"][:, 4:].square().sum(), every["L1.resid.pre"])[0]
    assert part.abs().max() > 1e-4
    torch.testing.assert_close(part, whole[:, 4:])


def test_in_the_middle_of_a_generation(model: DecoderModel, tokens: Tensor):
    whole = look(model, tokens, "L2.resid.post")["L2.resid.post"]
    cache = Cache(T)
    with torch.no_grad():
        model(tokens[:, :4], past=cache)
    one = look(model, tokens[:, 4:5], ["L2.attn.pattern", "L2.resid.post"], past=cache)
    assert one["L2.attn.pattern"].shape == (2, 2, 1, 5)
    torch.testing.assert_close(one["L2.resid.post"], whole[:, 4:5])


def test_an_encoder_decoder_is_given_its_source():
    made = EncoderDecoder(layers=1, width=8, heads=2, feedforward=16, context=T).build(V, seed=0).eval()
    text = torch.zeros(1, 3, dtype=torch.long)
    seen = look(made, text, ["L0.cross.pattern", "encoder.L0.attn.pattern"], source=torch.ones(1, 5, dtype=torch.long))
    assert {tuple(value.shape) for value in seen.values()} == {(1, 2, 3, 5), (1, 2, 5, 5)}


def test_a_site_that_this_call_does_not_pass_is_named(model: DecoderModel, tokens: Tensor):
    with torch.no_grad():
        stream = look(model, tokens, "L1.resid.pre")["L1.resid.pre"]
    with pytest.raises(UsageError, match=r"L0\.resid\.pre was not passed in this call"):
        look(model, tokens, ["L0.resid.pre", "logits"], stream=stream, layer=1)


SPECS = {
    "gpt": SPEC,
    "llama": Decoder(layers=2, width=8, heads=2, kv_heads=1, feedforward=16, context=T, positions="rotary", norm="rms",
                     gated=True, activation="silu", biases=False),
    "post": Decoder(layers=2, width=8, heads=2, feedforward=16, context=T, norm_at="post"),
    "attention-only": Decoder(layers=2, width=8, heads=2, feedforward=0, context=T, tied=True, mup_base=4),
}  # fmt: skip


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_going_on_from_a_stream_gives_what_the_whole_pass_gives(spec: Decoder, tokens: Tensor):
    made = _drawn(spec)
    with torch.no_grad():
        logits = made(tokens)
        for layer in range(spec.layers + 1):
            site = f"L{layer}.resid.pre" if layer < spec.layers else f"L{layer - 1}.resid.post"
            stream = look(made, tokens, site)[site]
            torch.testing.assert_close(made(tokens, stream=stream, layer=layer), logits)


def test_a_stream_of_another_text_or_layer_is_refused(model: DecoderModel, tokens: Tensor):
    with pytest.raises(UsageError, match=r"layer = 4: the stream can be given before 0 to 3"):
        model(tokens, stream=torch.zeros(2, T, 8), layer=4)
    with pytest.raises(UsageError, match=r"a stream of \[2, 6, 5\] is none of these tokens"):
        model(tokens, stream=torch.zeros(2, T, 5), layer=1)


def test_values_kept_in_files_are_the_same_and_nobody_elses(model: DecoderModel, tokens: Tensor, tmp_path: Path):
    sites = ["L*.attn.pattern", "L0.mlp.W_in", "embed.positions", "logits"]
    for positions in (None, slice(1, 3)):
        kept, held = look(model, tokens, sites, positions=positions, folder=tmp_path), look(model, tokens, sites)
        held = held if positions is None else look(model, tokens, sites, positions=positions)
        assert list(kept) == list(held) and all(torch.equal(kept[site], held[site]) for site in kept)
        for value in kept.values():
            value.zero_()
        again = look(model, tokens, sites, positions=positions)
        assert all(torch.equal(again[site], held[site]) for site in held)
        assert np.array_equal(np.load(tmp_path / "logits.npy"), held["logits"].numpy())
    half = look(_drawn(SPEC).bfloat16(), tokens, "L0.resid.post", folder=tmp_path)["L0.resid.post"]
    assert half.dtype == torch.bfloat16 and half.float().std() > 0.01
    with pytest.raises(UsageError, match="leave out folder, or grad"):
        look(model, tokens, "logits", grad=True, folder=tmp_path)


def test_scores_that_are_handed_out_are_not_those_of_the_next_call(model: DecoderModel, tokens: Tensor):
    first = look(model, tokens, "logits")["logits"]
    kept = first.clone()
    look(model, tokens.flip(1), "logits")["logits"].zero_()
    with torch.no_grad():
        assert torch.equal(first, kept) and torch.equal(model(tokens), kept)


@pytest.mark.parametrize("sites", ["L0.attn.out", "L*.resid.pre"])
def test_a_look_in_the_middle_of_a_generation_leaves_a_past_that_can_be_gone_on_with(
    model: DecoderModel, tokens: Tensor, sites: str
):
    whole = model(tokens).detach()
    cache = Cache(T)
    with torch.no_grad():
        model(tokens[:, :4], past=cache)
    look(model, tokens[:, 4:5], sites, past=cache, until="L1.resid.pre")
    with torch.no_grad():
        torch.testing.assert_close(model(tokens[:, 5:], past=cache), whole[:, 5:])


def test_a_second_look_into_a_folder_leaves_the_first_ones_values(model: DecoderModel, tokens: Tensor, tmp_path: Path):
    first = look(model, tokens, "L0.resid.post", folder=tmp_path)["L0.resid.post"]
    kept = first.clone()
    look(model, tokens[:, :2], "L0.resid.post", folder=tmp_path)
    assert torch.equal(first, kept)


def test_scores_that_somebody_else_put_there_stay_his(model: DecoderModel, tokens: Tensor):
    fixed = torch.zeros(2, T, V)
    with model.tapped({"logits": lambda _: fixed}):
        look(model, tokens, "logits")["logits"].add_(1)
    assert not fixed.any()


def test_a_position_may_be_numpys(model: DecoderModel, tokens: Tensor):
    for positions in (np.int64(3), torch.tensor(3), np.array([3])):
        found = look(model, tokens, "L0.resid.post", positions=positions)["L0.resid.post"]
        assert torch.equal(found, look(model, tokens, "L0.resid.post", positions=3)["L0.resid.post"])
