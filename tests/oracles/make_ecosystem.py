"""Ask transformers' classes for their logits at random weights; write configuration, weights and answers down small.

Run as `make oracles` runs `make_fixtures.py`, in an environment that holds torch and transformers but not Etude. Every
weight is drawn anew and large, biases and norms too, so that no part of a model is hidden by its starting values.
"""

from __future__ import annotations

import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).parent / "fixtures" / "ecosystem"
BATCH, LENGTH, VOCABULARY = 2, 7, 13
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "max_position_embeddings": 8,
}
GPT2: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 8, "n_head": 2, "n_inner": 12, "n_positions": 8}
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}

# case: class, and its configuration
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", {**GPT2, "n_layer": 2, **IDS}),
    "gpt-neox": ("GPTNeoXForCausalLM", {**SHAPE, "hidden_size": 16, "num_hidden_layers": 2, **IDS}),
    "gpt-neox-serial": ("GPTNeoXForCausalLM", {**SHAPE, "use_parallel_residual": False, "rotary_pct": 1.0, **IDS}),
    "llama": ("LlamaForCausalLM", {**SHAPE, "num_hidden_layers": 2, "num_key_value_heads": 1, **IDS}),
    "llama-tied": ("LlamaForCausalLM", {**SHAPE, "tie_word_embeddings": True, **IDS}),
    "mistral": ("MistralForCausalLM", {**SHAPE, "num_key_value_heads": 1, "sliding_window": 3, **IDS}),
    "bert-masked": ("BertForMaskedLM", SHAPE),
    "bert-pretraining": ("BertForPreTraining", SHAPE),
    "bert-classifier": ("BertForSequenceClassification", {**SHAPE, "num_labels": 3}),
    "distilbert": (
        "DistilBertForMaskedLM",
        {"vocab_size": VOCABULARY, "dim": 8, "n_heads": 2, "hidden_dim": 12, "n_layers": 1,
         "max_position_embeddings": 8},
    ),
}  # fmt: skip


def made(name: str, fields: dict[str, Any], seed: int) -> Any:
    """Return a class of transformers with every weight drawn anew."""
    cls = getattr(transformers, name)
    model = cls(cls.config_class(**fields)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            around = 1.0 if weight.ndim == 1 and key.endswith("weight") else 0.0
            weight.copy_(around + 0.3 * torch.randn(weight.shape, generator=generator))
    return model


@torch.no_grad()
def asked(model: Any, tokens: torch.Tensor, **given: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return a model's scores, and those of its next-sentence head where it has one."""
    out = model(tokens, **given)
    if "seq_relationship_logits" in out:
        return {"logits": out.prediction_logits, "follows": out.seq_relationship_logits}
    return {"logits": out.logits}


def given_to(name: str, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what an encoder is called with beside its tokens: padding, and segments where it has them."""
    if "Bert" not in name:
        return {}
    present = torch.ones_like(tokens)
    present[1, -2:] = 0
    segments = (torch.arange(tokens.shape[1]) > 2).long().expand(tokens.shape)
    return {"attention_mask": present, **({} if "Distil" in name else {"token_type_ids": segments.contiguous()})}


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for seed, (case, (name, fields)) in enumerate(CASES.items()):
        model = made(name, fields, seed)
        tokens = torch.randint(1, VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(seed))
        given = given_to(name, tokens)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            config = (Path(folder) / "config.json").read_text(encoding="utf-8")
            weights = load_file(Path(folder) / "model.safetensors")
        tensors = {"tokens": tokens, **{f"given {key}": value for key, value in given.items()}}
        tensors |= {f"answer {key}": value.contiguous() for key, value in asked(model, tokens, **given).items()}
        tensors |= {f"weight {key}": value for key, value in weights.items()}
        about = {
            "config": json.dumps(json.loads(config)),
            "oracle": f"transformers {version('transformers')} {name}",
            "made with": f"torch {version('torch')}, Python {platform.python_version()}",
        }
        path = FIXTURES / f"{case}.safetensors"
        save_file(tensors, path, about)
        path.chmod(0o644)
        print(f"{path.name}: {about['oracle']}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
