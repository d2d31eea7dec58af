"""What Etude reads off weights against what TransformerLens read off the same (`make oracles`): composition scores,
weights with norms and biases folded in and what can be centred, copying scores, and what each part adds to a logit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from etude.interp.attribution import Attribution, attribute
from etude.interp.circuits import copying_score, full_ov
from etude.interp.composition import composition
from etude.interp.plain import plain
from etude.models.architectures.decoder import Decoder
from etude.models.decoder_model import DecoderModel

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*-transformer-lens.safetensors"))
GREATEST = 1e-5


class Case(NamedTuple):
    model: DecoderModel
    theirs: dict[str, Tensor]


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Case:
    with safe_open(request.param, "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = DecoderModel(Decoder(**json.loads(about["spec"])), int(about["vocabulary"]))
    model.load_state_dict(under("weight ", tensors))
    return Case(model.eval(), tensors)


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def compared(what: str, differences: dict[str, float]) -> None:
    worst = max(differences, key=differences.__getitem__)
    print(f"{what}: greatest difference of {len(differences)} {differences[worst]:.1e} at {worst}")
    assert differences[worst] < GREATEST, (worst, differences[worst])


def test_there_are_cases_with_and_without_norms_feed_forward_networks_and_rotary_positions() -> None:
    names = {path.stem.removesuffix("-transformer-lens") for path in FIXTURES}
    assert {"gpt2", "attention-only", "bare", "rotary"} <= names


def test_composition_scores(case: Case) -> None:
    differences: dict[str, float] = {}
    for kind in "QKV":
        ours, theirs = composition(case.model, kind).raw, case.theirs[f"composition {kind}"].numpy()
        later = ~np.isnan(ours)
        assert later.sum() == (theirs != 0).sum() == 4
        differences[kind] = float(np.abs(ours - theirs)[later].max())
    compared("composition", differences)


def test_plain_weights(case: Case) -> None:
    ours, theirs = plain(case.model).state_dict(), under("plain ", case.theirs)
    del theirs["logits"]
    assert all(name in theirs or name.rpartition(".")[2] in ("w", "b") for name in ours)
    assert all(not value.any() for name, value in theirs.items() if name not in ours), "biases that ours lacks"
    compared("plain weights", {name: float((ours[name] - theirs[name]).abs().max()) for name in theirs if name in ours})


def test_plain_logits(case: Case) -> None:
    with torch.no_grad():
        ours = plain(case.model)(case.theirs["tokens"])
    compared("plain logits", {"logits": float((ours - case.theirs["plain logits"]).abs().max())})
    assert (case.theirs["plain logits"] - case.theirs["site logits"]).abs().max() > 0.01, "centring does change them"


def test_copying_scores(case: Case) -> None:
    made = plain(case.model)
    theirs = case.theirs["copying"]
    differences = {
        f"L{layer}H{head}": float((copying_score(full_ov(made, layer, head)) - theirs[layer, head]).abs())
        for layer, head in np.ndindex(*theirs.shape)
    }
    compared("copying", differences)


def test_direct_logit_attribution(case: Case) -> None:
    made, theirs = plain(case.model), under("dla ", case.theirs)
    target = theirs.pop("target")
    differences: dict[str, float] = {}
    for text, token in enumerate(target.tolist()):
        found = attribute(made, case.theirs["tokens"][text], token=token)
        for part, theirs_of_it in theirs.items():
            layer, _, head = part.removeprefix("L").removesuffix(".mlp").partition("H")
            # What the network writes has its bias in it; ours stands apart.
            here = found.heads[int(layer), int(head)] if head else feed_forward(found, int(layer))
            differences[f"{part} of text {text}"] = float((here - theirs_of_it[text]).abs())
    compared("direct logit attribution", differences)


def feed_forward(found: Attribution, layer: int) -> Tensor:
    return found.neurons[layer].sum() + found.feed_forward_bias[layer]
