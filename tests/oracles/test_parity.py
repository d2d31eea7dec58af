"""Etude against what Hugging Face transformers and TransformerLens answered for the same weights (`make oracles`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from etude.models.architectures.decoder import Decoder
from etude.models.decoder_model import DecoderModel
from etude.nn.look import look

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.safetensors"))
GREATEST = 1e-5


def test_both_oracles_have_answered() -> None:
    names = {path.stem for path in FIXTURES}
    assert {"gpt2-transformers", "gpt2-transformer-lens", "attention-only-transformer-lens"} <= names


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_the_same_weights_give_the_same_answers(path: Path) -> None:
    with safe_open(path, "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    weights = {name.removeprefix("weight "): value for name, value in tensors.items() if name.startswith("weight ")}
    answers = {name.removeprefix("site "): value for name, value in tensors.items() if name.startswith("site ")}

    model = DecoderModel(Decoder(**json.loads(about["spec"])), int(about["vocabulary"]))
    model.load_state_dict(weights)
    seen = look(model.eval(), tensors["tokens"], list(answers))

    differences = {site: float((value - answers[site]).abs().max()) for site, value in seen.items()}
    worst = max(differences, key=differences.__getitem__)
    print(f"{about['oracle']}: greatest difference over {len(seen)} sites {differences[worst]:.1e} at {worst}")
    assert differences[worst] < GREATEST
    fused = (model(tensors["tokens"]) - answers["logits"]).abs().max()
    assert fused < GREATEST
    assert torch.stack([value.std() for site, value in seen.items() if site.part == "attn.pattern"]).min() > 0.1
