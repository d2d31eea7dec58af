"""Moving a unit: the effect is that of the model run whole, and a planted unit raises the tokens that it writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.compress.codec import Codebook, Linear
from etude.compress.compressor import Compressor, Part
from etude.compress.methods.pca import Pca
from etude.compress.methods.quantise import Quantise
from etude.compress.methods.reduced_rank import ReducedRank
from etude.compress.recipes import Compress, Latents
from etude.compress.traversal import Traveller, Traversed, exchanged, settled, shifted
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.site import Site
from etude.evals.splits import windows_of
from etude.models.decoder_model import DecoderModel
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.text.batches import Examples
from etude.text.data import TextData
from etude.train.objectives.next_token import NextToken
from etude.train.recipes import Train

SITE = Site("L1.mlp.out")


@pytest.fixture
def decoder(model: Transformer) -> DecoderModel:
    assert isinstance(model, DecoderModel)
    return model


def tokens(rows: int = 3, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(97, 123, (rows, length), generator=torch.Generator().manual_seed(seed))


def linear(width: int = 16, rank: int = 3) -> Linear:
    draw = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(width, rank, generator=draw)).Q
    return Linear(torch.randn(width, generator=draw), basis, basis.T)


@pytest.mark.parametrize("site", ["embed.tokens", "L0.attn.out", "L1.mlp.out", "L1.attn.z", "L1.resid.post"])
def test_the_code_as_it_is_gives_what_the_compressor_gives(site: str, decoder: DecoderModel) -> None:
    codec, text = linear(), tokens()
    traveller = Traveller(decoder, Site(site), Part(codec))
    reading = traveller.read(text)
    with Compressor.of(site, codec).placed(decoder), torch.no_grad():
        whole = decoder(text)
    torch.testing.assert_close(traveller.logits(reading, reading.code), whole, atol=1e-5, rtol=1e-5)


def test_a_component_is_read_where_it_reads(decoder: DecoderModel) -> None:
    codec, text = linear(), tokens()
    reads = Site("L1.mlp_norm.out")
    traveller = Traveller(decoder, SITE, Part(codec, reads))
    reading = traveller.read(text)
    with Compressor.of(SITE, codec, reads).placed(decoder), torch.no_grad():
        whole = decoder(text)
    torch.testing.assert_close(traveller.logits(reading, reading.code), whole, atol=1e-5, rtol=1e-5)


def test_documents_that_were_kept_apart_do_not_see_each_other(lab: Lab, trained: Train, text: TextData) -> None:
    apart, codec = replace(trained, objective=NextToken(apart=True), steps=0), linear()
    host, examples = load(lab.run(apart))[0], windows_of(apart, text, "valid")
    assert isinstance(host, DecoderModel)
    documents = examples.batch(np.arange(len(examples))).given["documents"]
    windows = np.flatnonzero(documents[:, -1] > documents[:, 0])[:3]
    traveller = Traveller(host, SITE, Part(codec))
    (reading,) = traveller.readings(examples, windows)
    with Compressor.of(SITE, codec).placed(host), torch.no_grad():
        whole = host(reading.tokens, documents=torch.from_numpy(documents[windows]))
        mixed = host(reading.tokens)
    torch.testing.assert_close(traveller.logits(reading, reading.code), whole, atol=1e-5, rtol=1e-5)
    assert (whole - mixed).abs().max() > 1e-4


def test_effects_are_those_of_whole_runs(decoder: DecoderModel) -> None:
    codec, text = linear(), tokens()
    real = torch.ones_like(text, dtype=torch.bool)
    real[0, 12:] = False
    traveller = Traveller(decoder, SITE, Part(codec))
    found = traveller.traverse(traveller.read(text, real), [shifted(1, -2.0, None), shifted(1, 2.0, None)], (0, 1))
    direction = codec.get_buffer("up")[1]

    def whole(by: float) -> Tensor:
        with decoder.tapped({SITE: lambda x: codec(x) + by * direction}), torch.no_grad():
            return decoder(text).double()

    plain, low, high = (whole(by) for by in (0.0, -2.0, 2.0))
    for column, moved in enumerate((low, high)):
        kl = torch.nn.functional.kl_div(moved.log_softmax(-1), plain.log_softmax(-1), log_target=True, reduction="none")
        expected = (kl.sum(-1) * real).sum(1).numpy()
        np.testing.assert_allclose(found.divergence[:, column], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.change, ((high - low) * real[..., None]).sum((0, 1)).numpy(), atol=1e-3)
    assert found.count.tolist() == [12, 20, 20]


def test_a_unit_that_writes_a_token_raises_that_token(decoder: DecoderModel) -> None:
    """Planted: the last stream moves along what is read for one letter, that for which most is read."""
    gain = decoder.final_norm.get_parameter("w").detach()
    reads = (decoder.unembedding()[0].detach() * gain[:, None])[:, 97:123]
    reads = reads - reads.mean(0) - (reads - reads.mean(0)).mean(1, keepdim=True)
    letter = int(reads.norm(dim=0).argmax())
    wanted = reads[:, letter] / reads[:, letter].norm()
    codec = Linear(torch.zeros(16), wanted[:, None], 50 * wanted[None])
    traveller = Traveller(decoder, Site("L1.resid.post"), Part(codec))
    moves = [shifted(0, -1.0, None), shifted(0, 1.0, None)]
    told = traveller.traverse(traveller.read(tokens()), moves, (0, 1)).to_json([-1, 1], chr, np.arange(97, 123))
    assert told["rises"][0]["token"] == chr(97 + letter)
    assert told["rises"][0]["change"] > told["rises"][1]["change"] > 0 > told["falls"][0]["change"]
    down, up = (move["kl"]["mean"] for move in told["moves"])
    assert up > 1 and down > -1e-6  # the unit says next to nothing as it is, so that less of it changes nothing


def test_tokens_are_named_in_the_order_of_their_change() -> None:
    change = np.array([3.0, -1.0, 100.0, 0.5, -7.0])
    made = Traversed(np.ones((2, 1)), change, np.array([1.0, 1.0]))
    told = made.to_json([1], str, np.array([0, 1, 3, 4]))  # token 2 is in no text
    mean = (3 - 1 + 0.5 - 7) / 2 / 4
    assert [(t["token"], t["change"]) for t in told["rises"]] == [("0", 1.5 - mean), ("3", 0.25 - mean)]
    assert [t["token"] for t in told["falls"]] == ["4", "1"]
    assert told["moves"] == [{"at": 1, "kl": {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 2}}]


def test_a_move_changes_one_number_and_no_other() -> None:
    code = torch.tensor([[[0.5, 1.0, 0.0]]])
    assert shifted(1, -2.0, None)(code).tolist() == [[[0.5, -1.0, 0.0]]]
    assert shifted(1, -2.0, 0.0)(code).tolist() == [[[0.5, 0.0, 0.0]]]
    assert settled(2, 7)(torch.tensor([[[1, 2, 3]]])).tolist() == [[[1, 2, 7]]]
    whole = torch.tensor([[[3, 120]]], dtype=torch.int8)
    assert shifted(1, 8.4, None)(whole).tolist() == [[[3, 127]]] and whole.tolist() == [[[3, 120]]]
    assert code.tolist() == [[[0.5, 1.0, 0.0]]]


def test_an_entry_of_a_codebook_is_put_everywhere(decoder: DecoderModel) -> None:
    centres = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    traveller = Traveller(decoder, SITE, Part(Codebook(centres, torch.full((5,), 0.2))))
    text = tokens()
    reading = traveller.read(text)
    assert reading.code.shape == (3, 20, 1)
    with decoder.tapped({SITE: lambda x: centres[3].expand_as(x)}), torch.no_grad():
        whole = decoder(text)
    torch.testing.assert_close(traveller.logits(reading, settled(0, 3)(reading.code)), whole, atol=1e-5, rtol=1e-5)


def test_one_number_exchanged_between_prompts_is_that_of_a_whole_run(decoder: DecoderModel) -> None:
    codec = linear()
    clean, corrupted = tokens(1, 9), tokens(1, 14, seed=3)
    found = exchanged(Traveller(decoder, SITE, Part(codec)), clean, corrupted, 97, 98)
    seen: list[Tensor] = []
    with decoder.tapped({SITE: lambda x: (seen.append(codec.encode(x)[0, -1].clone()), x)[1]}), torch.no_grad():
        decoder(corrupted)

    def gap(columns: list[int]) -> float:
        def edit(x: Tensor) -> Tensor:
            code = codec.encode(x)
            code[0, -1, columns] = seen[0][columns]
            return codec.decode(code)

        with decoder.tapped({SITE: edit}), torch.no_grad():
            logits = decoder(clean)[0, -1]
        return float(logits[97] - logits[98])

    assert found["clean"] == pytest.approx(gap([]), abs=1e-5) and found["all"] == pytest.approx(
        gap([0, 1, 2]), abs=1e-5
    )
    assert found["columns"] == pytest.approx([gap([n]) for n in range(3)], abs=1e-5)


def test_what_windows_hold_no_text_is_not_counted(decoder: DecoderModel, held_out: tuple[Examples, np.ndarray]) -> None:
    examples, windows = held_out
    traveller = Traveller(decoder, SITE, Part(linear()))
    readings = list(traveller.readings(examples, windows[:3]))
    assert sum(int(reading.real.sum()) for reading in readings) == 3 * examples.context


# Through the recipe


def run(lab: Lab, trained: Train, method: Any, **fields: Any) -> dict[str, Any]:
    squeezed = Compress(trained, "L1.mlp.out", method, fit_tokens=640, evaluate_tokens=320)
    return lab.run(Latents(squeezed, evaluate_tokens=640, **fields)).result


def test_every_shown_latent_is_moved(lab: Lab, trained: Train) -> None:
    for method in (Pca(3), ReducedRank(2), Quantise(bits=4)):
        found = run(lab, trained, method, traverse=2, most=3)
        for latent in found["latents"]:
            moves = {move["at"]: move["kl"] for move in latent["traversal"]["moves"]}
            assert list(moves) == [-3, -2, -1, 1, 2, 3] and {kl["n"] for kl in moves.values()} == {2}
            assert 0 < moves[1]["mean"] < moves[3]["mean"] and 0 < moves[-1]["mean"] < moves[-3]["mean"]
            assert len(latent["traversal"]["rises"]) == len(latent["traversal"]["falls"]) == 5


def test_moving_can_be_left_out(lab: Lab, trained: Train) -> None:
    assert "traversal" not in run(lab, trained, Pca(2), traverse=0)["latents"][0]


def test_prompts_are_exchanged(lab: Lab, trained: Train) -> None:
    told = run(lab, trained, Pca(2), traverse=0, clean="A dog ran", corrupted="A hen", right=".", wrong=" ")["patch"]
    assert (told["right"], told["wrong"], len(told["columns"])) == (".", " ", 2)
    likeliest = run(lab, trained, Pca(2), traverse=0, clean="A dog ran", corrupted="A hen")["patch"]
    assert likeliest["clean"] >= 0 >= likeliest["corrupted"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"clean": "x" * 40, "corrupted": "y"}, "the clean prompt has 40 tokens: give 1 to 32"),
        ({"clean": "x", "corrupted": "y", "right": "ab"}, "the answer 'ab' is 2 tokens"),
    ],
)
def test_prompts_that_do_not_fit(lab: Lab, trained: Train, fields: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        run(lab, trained, Pca(2), traverse=0, **fields)
    assert "\n" not in str(caught.value)
