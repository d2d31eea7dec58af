"""The retrieval-enhanced decoder: causal through its neighbours, the plain decoder without them, the same in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.models.architectures.retro import Retro
from etude.models.generation import generate
from etude.models.retro_cache import RetroCache
from etude.models.retro_model import RetroModel
from etude.models.sampling import Sampling
from etude.nn.look import look

V, B, J, M, T = 40, 2, 3, 4, 18
SHAPE: dict[str, Any] = {"width": 16, "heads": 4, "feedforward": 24, "context": 24, "chunk": M}
CASES = {
    "from the first layer": Retro(layers=2, cross_from=0, cross_every=1, **SHAPE),
    "from the second, every second": Retro(layers=5, cross_from=1, cross_every=2, **SHAPE, tied=True),
    "shared keys, learned positions": Retro(layers=3, cross_from=1, **SHAPE, kv_heads=2, positions="learned"),
    "unconditioned, as wide": Retro(layers=3, cross_from=2, **SHAPE, conditioned=False, encoder_width=16, norm="rms"),
}


@pytest.fixture(params=CASES.values(), ids=list(CASES), scope="module")
def model(request: pytest.FixtureRequest) -> RetroModel:
    built, generator = request.param.build(V), torch.Generator().manual_seed(0)
    for weight in built.parameters():
        weight.data.normal_(0, 0.3, generator=generator)
    return built.eval()


def text(length: int = T, seed: int = 0) -> tuple[Tensor, dict[str, Any]]:
    """Return tokens, and neighbours of their whole chunks, some shorter, one not there."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(V, (B, length), generator=generator)
    neighbours = torch.randint(V, (B, length // M, J, 2 * M), generator=generator)
    ends = torch.randint(1, 2 * M + 1, (B, length // M, J, 1), generator=generator)
    present = torch.arange(2 * M) < ends
    present[0, 1, 2] = False
    return tokens, {"neighbours": neighbours, "neighbours_present": present}


def changed(one: Tensor, other: Tensor) -> list[bool]:
    """Return at which positions anything differs by more than rounding."""
    return ((one - other).abs().amax((0, 2)) > 1e-5).tolist()


@torch.no_grad()
def test_without_neighbours_it_is_the_plain_decoder_bit_for_bit(model: RetroModel) -> None:
    plain = model.spec.plain.build(V).eval()
    plain.load_state_dict({name: model.state_dict()[name] for name in plain.state_dict()})
    tokens, given_ = text()
    assert torch.equal(model(tokens), plain(tokens))
    nobody = given_ | {"neighbours_present": torch.zeros_like(given_["neighbours_present"])}
    torch.testing.assert_close(model(tokens, **nobody), plain(tokens))
    assert any(changed(model(tokens, **given_), plain(tokens)))


@torch.no_grad()
def test_neighbours_of_a_chunk_reach_its_last_position_and_what_follows_alone(model: RetroModel) -> None:
    tokens, given_ = text()
    before = model(tokens, **given_)
    for chunk in range(T // M):
        other = given_["neighbours"].clone()
        other[:, chunk] = (other[:, chunk] + 7) % V
        after = model(tokens, **(given_ | {"neighbours": other}))
        first = (chunk + 1) * M - 1
        found, last = changed(before, after), model.spec.crossing[-1] == model.spec.layers - 1
        assert found[: first + 1] == [False] * first + [True]
        stop = first + M if model.spec.crossing == (2,) and last else T  # no layer after it carries it further
        assert found[first:] == [first <= t < stop for t in range(first, T)]


@given(st.integers(0, T - 1), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_a_token_reaches_nothing_before_it_even_through_neighbours(model: RetroModel, place: int, seed: int) -> None:
    """The neighbours are a function of a chunk's tokens, as a search gives them."""
    tokens, _ = text(seed=seed)

    def searched(tokens: Tensor) -> Tensor:
        whole = tokens[:, : T // M * M].unflatten(1, (-1, M))
        return (whole.repeat(1, 1, 2)[:, :, None] * (3 + torch.arange(J))[:, None] + 1) % V

    other = tokens.clone()
    other[:, place] = (other[:, place] + 1) % V
    one, two = (model(x, neighbours=searched(x)) for x in (tokens, other))
    assert not any(changed(one, two)[:place]) and changed(one, two)[place]


@torch.no_grad()
def test_the_order_and_the_number_of_neighbours_are_free(model: RetroModel) -> None:
    tokens, given_ = text()
    order = torch.tensor([2, 0, 1])
    shuffled = {name: value[:, :, order] for name, value in given_.items()}
    torch.testing.assert_close(model(tokens, **given_), model(tokens, **shuffled), rtol=1e-4, atol=1e-5)
    fewer = {name: value[:, :, :1] for name, value in given_.items()}
    hidden = given_ | {"neighbours_present": given_["neighbours_present"] & (torch.arange(J) < 1)[:, None]}
    torch.testing.assert_close(model(tokens, **fewer), model(tokens, **hidden), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_is_not_there_is_never_read(model: RetroModel) -> None:
    tokens, given_ = text()
    absent = ~given_["neighbours_present"]
    other = torch.where(absent, (given_["neighbours"] + 5) % V, given_["neighbours"])
    torch.testing.assert_close(model(tokens, **given_), model(tokens, **(given_ | {"neighbours": other})))


@pytest.mark.parametrize("cut", [1, M - 1, M, M + 1, 2 * M, 13, T - 1])
@torch.no_grad()
def test_read_in_pieces_it_is_the_same(model: RetroModel, cut: int) -> None:
    """A prompt, then token by token, each chunk's neighbours handed over when its last token is."""
    tokens, given_ = text()
    whole, past, parts = model(tokens, **given_), RetroCache(24), []
    for start, stop in [(0, cut), *((t, t + 1) for t in range(cut, T))]:
        new = {name: value[:, start // M : stop // M] for name, value in given_.items()}
        parts.append(model(tokens[:, start:stop], past=past, **new))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_rows_of_a_past_can_be_chosen(model: RetroModel) -> None:
    tokens, given_ = text()
    whole, past = model(tokens, **given_), RetroCache(24)
    first = {name: value[:, : 10 // M] for name, value in given_.items()}
    model(tokens[:, :10], past=past, **first)
    past.select(torch.tensor([1]))
    rest = {name: value[1:, 10 // M :] for name, value in given_.items()}
    torch.testing.assert_close(model(tokens[1:, 10:], past=past, **rest), whole[1:, 10:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_past_without_neighbours_is_that_of_the_plain_decoder(model: RetroModel) -> None:
    tokens, _ = text()
    past = RetroCache(24)
    parts = [model(tokens[:, t : t + 1], past=past) for t in range(T)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=1e-4, atol=1e-5)


def found(chunks: Tensor) -> tuple[Tensor, Tensor]:
    """Stand for a search: what is near a chunk follows from its tokens; the second neighbour is not always there."""
    tokens = (chunks.repeat(1, 1, 2)[:, :, None] * (3 + torch.arange(J))[:, None] + 1) % V
    present = torch.ones_like(tokens, dtype=torch.bool)
    present[:, :, 1] = chunks[:, :, :1] % 2 == 0
    return tokens, present


@torch.no_grad()
def by_loops(model: RetroModel, prompt: list[int], more: int) -> list[int]:
    """Write the likeliest text, everything read anew at every token."""
    tokens = list(prompt)
    for _ in range(more):
        text_ = torch.tensor([tokens])
        neighbours, present = found(text_[:, : len(tokens) // M * M].unflatten(1, (-1, M)))
        given_ = {"neighbours": neighbours, "neighbours_present": present} if len(tokens) >= M else {}
        tokens.append(int(model(text_, **given_)[0, -1, : V - 1].argmax()))
    return tokens[len(prompt) :]


class Numbers:
    """A tokenizer whose texts are not looked at; nothing ends a text, its end token is never the likeliest."""

    vocabulary, end, specials, by_piece, lossless = V - 1, V - 1, dict[str, int](), True, True

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def encode_batch(self, texts: Any) -> list[list[int]]:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    def decode_bytes(self, ids: Any) -> bytes:
        return bytes(65 + id for id in ids)

    def decode(self, ids: Any) -> str:
        return self.decode_bytes(ids).decode()

    def piece(self, id: int) -> str:
        return self.decode([id])


def test_writing_retrieves_as_each_chunk_is_complete(model: RetroModel) -> None:
    generator = torch.Generator().manual_seed(4)
    prompts = [torch.randint(V - 1, (n,), generator=generator).tolist() for n in (1, 3, 4, 5, 9, 9)]
    sampling = Sampling(temperature=0, max_tokens=12)
    written = generate(model, cast(Any, Numbers()), prompts, sampling, retrieve=found)
    assert [list(text.ids) for text in written] == [by_loops(model, prompt, 12) for prompt in prompts]
    without = generate(model, cast(Any, Numbers()), prompts, sampling)
    assert [text.ids for text in without] != [text.ids for text in written]
    plain = model.spec.plain.build(V).eval()
    plain.load_state_dict({name: model.state_dict()[name] for name in plain.state_dict()})
    alone = generate(plain, cast(Any, Numbers()), prompts, sampling)
    assert [text.ids for text in alone] == [text.ids for text in without]
    with pytest.raises(UsageError, match="a decoder reads no neighbours"):
        generate(plain, cast(Any, Numbers()), prompts, sampling, retrieve=found)


def test_a_text_that_slides_retrieves_for_what_it_still_sees(model: RetroModel) -> None:
    sampling = Sampling(temperature=0, max_tokens=30, slide=True)
    (text_,) = generate(model, cast(Any, Numbers()), [[1, 2, 3]], sampling, retrieve=found)
    before, expected = [1, 2, 3], by_loops(model, [1, 2, 3], 22)
    assert list(text_.ids[:22]) == expected and len(text_.ids) == 30
    kept = [*before, *text_.ids][24 + 1 - 13 : 25]  # half of the context of 24, and the token that no longer fitted
    assert list(text_.ids[22:]) == by_loops(model, kept, 8)


@torch.no_grad()
def test_the_pattern_says_which_neighbour_which_token_and_how_much() -> None:
    spec = CASES["from the first layer"]
    built = spec.build(V).eval()
    tokens, given_ = text()
    seen = look(built, tokens, "L1.cross.pattern", **given_)["L1.cross.pattern"]
    assert seen.shape == (B, 4, T, J, 2 * M)
    assert built.sites("L1.cross.pattern")[Site("L1.cross.pattern")][3].name == "J"
    assert not seen[0, :, 2 * M - 1 : 3 * M - 1, 2].any(), "neighbour 2 of chunk 1 is not there"
    with pytest.raises(UsageError, match=r"L0\.cross\.pattern was not passed in this call"):
        look(built, tokens, "L0.cross.pattern")


@torch.no_grad()
def test_the_encoder_sees_the_chunk_only_where_it_is_conditioned() -> None:
    tokens, given_ = text()
    other = tokens.clone()
    other[:, 1] = (other[:, 1] + 1) % V
    for name, spec in CASES.items():
        built = spec.build(V).eval()
        one, two = (look(built, x, "encoder.out", **given_)["encoder.out"] for x in (tokens, other))
        moved = ((one - two).abs().amax((0, 2, 3, 4)) > 1e-7).tolist()
        assert moved[0] == spec.conditioned, name


def test_what_it_is_given_has_to_fit() -> None:
    built = CASES["from the first layer"].build(V).eval()
    tokens, given_ = text()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"neighbours": given_["neighbours"][:, 1:]}, "complete 4 chunks, and neighbours of 3 are given"),
        ({"neighbours": given_["neighbours"][..., 1:]}, "neighbours of 7 tokens .* give 8"),
        ({"neighbours": given_["neighbours"] + V}, "outside the vocabulary"),
    ]
    for given__, message in wrong:
        with pytest.raises(UsageError, match=message):
            built(tokens, **given__)
    past = RetroCache(24)
    with torch.no_grad():
        built(tokens[:, :M], past=past, neighbours=given_["neighbours"][:, :1])
        with pytest.raises(UsageError, match="give neighbours= of this one too"):
            built(tokens[:, M : 2 * M], past=past)
        with pytest.raises(UsageError, match="1 neighbours of a chunk after 3"):
            built(tokens[:, M : 2 * M], past=past, neighbours=given_["neighbours"][:, :1, :1])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"cross_from": 6}, "the model has 6 layers, numbered from 0"),
    ({"chunk": 1}, "chunk = 1 is too small"),
    ({"cross_every": 0}, "cross_every = 0 is too small"),
    ({"mup_base": 16}, "set mup_base to 0"),
    ({"norm_at": "post"}, "leave parallel off"),
    ({"parallel": True}, "leave parallel off"),
    (
        {"encoder_width": 20, "width": 64, "heads": 4},
        "encoder_width = 20 is no multiple of the head width 16: choose 16",
    ),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_shapes_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Retro(**fields)


def test_the_papers_layers() -> None:
    """Layers 6, 9 and 12 of 12, counted from 1 (Borgeaud et al. 2021, section 2.4)."""
    assert Retro(layers=12, cross_from=5).crossing == (5, 8, 11)
    assert Retro(width=128, heads=4).read_width == 64
