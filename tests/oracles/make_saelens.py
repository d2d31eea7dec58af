"""Ask SAELens for sparse autoencoders at random weights; write its files, its answers and its scores down small.

Run by `make oracles` in an environment that holds sae-lens but not Etude.
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.evals import ExplainedVarianceCalculator
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).parent / "fixtures" / "saelens"
WIDTH, FEATURES, HEADS, BATCH, LENGTH = 8, 20, 2, 5, 7
RAW = {"apply_b_dec_to_input": False, "normalize_activations": "none", "device": "cpu", "dtype": "float32"}

# case: architecture, hook, and fields of its own
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "topk": ("topk", "blocks.1.hook_mlp_out", {"k": 3}),
    "topk-heads": ("topk", "blocks.0.attn.hook_z", {"k": 4, "reshape_activations": "hook_z"}),
    "standard": ("standard", "blocks.0.hook_resid_pre", {}),
}


def made(architecture: str, hook: str, fields: dict[str, Any], draw: torch.Generator) -> Any:
    """Return an autoencoder with every weight drawn anew."""
    config = {"architecture": architecture, "d_in": WIDTH, "d_sae": FEATURES, **RAW, **fields}
    sae = SAE.from_dict({**config, "metadata": {"hook_name": hook, "hook_head_index": None}})
    with torch.no_grad():
        for weight in sae.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw) * 0.5)
    return sae


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for seed, (name, (architecture, hook, fields)) in enumerate(CASES.items()):
        draw = torch.Generator().manual_seed(seed)
        sae = made(architecture, hook, fields, draw)
        shape = (BATCH, LENGTH, HEADS, WIDTH // HEADS) if "reshape_activations" in fields else (BATCH, LENGTH, WIDTH)
        x = torch.randn(shape, generator=draw) + 2
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            code = sae.encode(x)
            answers = {"x": x, "code": code.to_dense() if code.is_sparse else code, "y": sae(x)}
            explained = ExplainedVarianceCalculator()
            explained.add_batch(answers["y"].reshape(-1, WIDTH), x.reshape(-1, WIDTH))
            sae.save_model(folder)
            weights = {f"weight {key}": value for key, value in load_file(f"{folder}/sae_weights.safetensors").items()}
            config = (Path(folder) / "cfg.json").read_text()
        about = {
            "oracle": f"sae-lens {version('sae-lens')}, torch {torch.__version__}",
            "config": config,
            "explained": json.dumps(explained.compute()),
        }
        held = {**weights, **{key: value.contiguous() for key, value in answers.items()}}
        save_file(held, FIXTURES / f"{name}.safetensors", about)
        print(f"{name}: written, by {about['oracle']}")


if __name__ == "__main__":
    main()
