"""Ask two independent implementations for the truth, and write it down small: Hugging Face's GPT-2 class, and
TransformerLens's native model (4.0 and later; nothing folded, nothing centred).

Run in an environment of its own, which holds torch, transformers and transformer-lens but not Etude:

    make oracles

The same random weights, in Etude's names and shapes, are put into each oracle; its logits, patterns and a few more
activations go to `fixtures/CASE.safetensors`, with the versions that made them in the file's header. TransformerLens
also says what it reads off the weights: composition scores, the weights after its processing (folded and centred), and
what each part then adds to a logit. The suite checks Etude against these files in `test_parity.py` and
`test_circuits.py`.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures"
BATCH, LENGTH, VOCABULARY = 2, 9, 23
SHAPE = {"layers": 2, "width": 16, "heads": 2, "feedforward": 32, "context": 10}

# case: oracle, and the fields of etude.models.decoder.Decoder
CASES = {
    "gpt2-transformers": ("transformers", {**SHAPE, "activation": "gelu-tanh", "tied": True}),
    "gpt2-transformer-lens": ("transformer-lens", {**SHAPE, "activation": "gelu-tanh"}),
    "attention-only-transformer-lens": ("transformer-lens", {**SHAPE, "feedforward": 0}),
    "bare-transformer-lens": ("transformer-lens", {**SHAPE, "feedforward": 0, "norm": "none", "biases": False}),
    "rotary-transformer-lens": (
        "transformer-lens",
        {**SHAPE, "positions": "rotary", "norm": "rms", "activation": "relu"},
    ),
}
NORMS = {"attn": "ln1", "mlp": "ln2"}
Fields = dict[str, object]
Weights = dict[str, Tensor]


def weights_of(fields: Fields, seed: int) -> Weights:
    """Draw every weight, biases and norms too, large enough that patterns are far from uniform."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int, around: float = 0.0) -> Tensor:
        return around + 0.3 * torch.randn(sizes, generator=generator)

    D, H, F = int(fields["width"]), int(fields["heads"]), int(fields["feedforward"])
    K, biases, norm = D // H, fields.get("biases", True), fields.get("norm", "layer")

    def norm_weights(name: str) -> Weights:
        if norm == "none":
            return {}
        w = {f"{name}.w": draw(D, around=1.0)}
        return w if norm == "rms" else {**w, f"{name}.b": draw(D)}

    weights = {"embed.W_E": draw(VOCABULARY, D)}
    if fields.get("positions", "learned") == "learned":
        weights["embed.W_pos"] = draw(int(fields["context"]), D)
    for n in range(int(fields["layers"])):
        attn, mlp = f"layers.{n}.attn", f"layers.{n}.mlp"
        weights |= norm_weights(f"layers.{n}.attn_norm")
        weights |= {f"{attn}.W_{x}": draw(D, H, K) for x in "QKV"} | {f"{attn}.W_O": draw(H, K, D)}
        if biases:
            weights |= {f"{attn}.b_{x}": draw(H, K) for x in "QKV"} | {f"{attn}.b_O": draw(D)}
        if F:
            weights |= norm_weights(f"layers.{n}.mlp_norm")
            weights |= {f"{mlp}.W_in": draw(D, F), f"{mlp}.W_out": draw(F, D)}
            weights |= {f"{mlp}.b_in": draw(F), f"{mlp}.b_out": draw(D)}
    weights |= norm_weights("final_norm")
    if not fields.get("tied"):
        weights["unembed.W_U"] = draw(D, VOCABULARY)
    return weights


@torch.no_grad()
def ask_transformers(fields: Fields, weights: Weights, tokens: Tensor) -> dict[str, Tensor]:
    from transformers import GPT2Config, GPT2LMHeadModel

    D = int(fields["width"])
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=fields["context"],
        n_embd=D,
        n_layer=fields["layers"],
        n_head=fields["heads"],
        n_inner=fields["feedforward"],
        activation_function="gelu_new",
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config).eval()
    theirs = {"transformer.wte.weight": weights["embed.W_E"], "transformer.wpe.weight": weights["embed.W_pos"]}
    theirs |= {"transformer.ln_f.weight": weights["final_norm.w"], "transformer.ln_f.bias": weights["final_norm.b"]}
    for n in range(int(fields["layers"])):
        ours, block = f"layers.{n}", f"transformer.h.{n}"
        theirs |= {f"{block}.ln_1.weight": weights[f"{ours}.attn_norm.w"]}
        theirs |= {f"{block}.ln_1.bias": weights[f"{ours}.attn_norm.b"]}
        theirs |= {f"{block}.ln_2.weight": weights[f"{ours}.mlp_norm.w"]}
        theirs |= {f"{block}.ln_2.bias": weights[f"{ours}.mlp_norm.b"]}
        qkv = [weights[f"{ours}.attn.W_{x}"].reshape(D, D) for x in "QKV"]
        theirs |= {f"{block}.attn.c_attn.weight": torch.cat(qkv, dim=1)}
        theirs |= {f"{block}.attn.c_attn.bias": torch.cat([weights[f"{ours}.attn.b_{x}"].flatten() for x in "QKV"])}
        theirs |= {f"{block}.attn.c_proj.weight": weights[f"{ours}.attn.W_O"].reshape(D, D)}
        theirs |= {f"{block}.attn.c_proj.bias": weights[f"{ours}.attn.b_O"]}
        theirs |= {f"{block}.mlp.c_fc.weight": weights[f"{ours}.mlp.W_in"]}
        theirs |= {f"{block}.mlp.c_fc.bias": weights[f"{ours}.mlp.b_in"]}
        theirs |= {f"{block}.mlp.c_proj.weight": weights[f"{ours}.mlp.W_out"]}
        theirs |= {f"{block}.mlp.c_proj.bias": weights[f"{ours}.mlp.b_out"]}
    missing, unexpected = model.load_state_dict(theirs, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    out = model(tokens, output_attentions=True)
    return {"logits": out.logits, **{f"L{n}.attn.pattern": pattern for n, pattern in enumerate(out.attentions)}}


def neighbours(x: Tensor) -> Tensor:
    """Reorder the last axis from our rotary pairs (i, i + K/2) to the oracle's (2i, 2i + 1)."""
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def halves(x: Tensor) -> Tensor:
    """Undo `neighbours`."""
    return x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)


def bridge_of(fields: Fields, weights: Weights) -> Any:
    """Return TransformerLens's native model with our weights, in the bridge that its instruments take."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
    from transformer_lens.model_bridge.sources.native import NativeModel

    layers, rotary = int(fields["layers"]), fields.get("positions") == "rotary"
    D, H = int(fields["width"]), int(fields["heads"])
    config = TransformerBridgeConfig(
        n_layers=layers,
        d_model=D,
        n_ctx=fields["context"],
        d_head=D // H,
        n_heads=H,
        d_mlp=fields["feedforward"] or None,
        attn_only=not fields["feedforward"],
        d_vocab=VOCABULARY,
        act_fn={"gelu-tanh": "gelu_new"}.get(str(fields.get("activation")), "relu"),
        normalization_type={"layer": "LN", "rms": "RMS", "none": None}[str(fields.get("norm", "layer"))],
        positional_embedding_type="rotary" if rotary else "standard",
        rotary_dim=D // H if rotary else None,
    )
    model = NativeModel(config).eval()
    names = {"embed.W_E": "tok_embed.weight", "embed.W_pos": "pos.weight", "unembed.W_U": "head.weight"}
    names |= {f"final_norm.{ours}": f"ln_out.{theirs}" for ours, theirs in (("w", "weight"), ("b", "bias"))}
    for n in range(layers):
        for ours, theirs in (("w", "weight"), ("b", "bias")):
            names |= {f"layers.{n}.{part}_norm.{ours}": f"layers.{n}.{ln}.{theirs}" for part, ln in NORMS.items()}
        for ours, theirs in (("W", "weight"), ("b", "bias")):
            names |= {f"layers.{n}.attn.{ours}_{x}": f"layers.{n}.attn.{x.lower()}.{theirs}" for x in "QKVO"}
            names |= {f"layers.{n}.mlp.{ours}_{x}": f"layers.{n}.mlp.fc_{x}.{theirs}" for x in ("in", "out")}
    theirs = {}
    for name, weight in weights.items():
        last = name.rpartition(".")[2]
        turned = neighbours(weight) if rotary and last in ("W_Q", "W_K", "b_Q", "b_K") else weight
        if last in ("W_Q", "W_K", "W_V"):
            turned = turned.flatten(1)
        elif last == "W_O":
            turned = turned.flatten(0, 1)
        elif last.startswith("b_"):
            turned = turned.flatten()
        theirs[names[name]] = turned.T if last.startswith("W_") and last not in ("W_E", "W_pos") else turned
    missing, unexpected = model.load_state_dict(theirs, strict=False)
    assert not unexpected and all(name.endswith("bias") for name in missing), (missing, unexpected)
    for name in missing:  # a bias that ours lacks
        model.get_parameter(name).zero_()
    return build_bridge_from_module(model, architecture="TransformerLensNative", tl_config=config)


@torch.no_grad()
def ask_transformer_lens(fields: Fields, weights: Weights, tokens: Tensor) -> dict[str, Tensor]:
    logits, cache = bridge_of(fields, weights).run_with_cache(tokens)
    layers = int(fields["layers"])
    hooks = {"resid.pre": "hook_resid_pre", "resid.post": "hook_resid_post", "attn.pattern": "attn.hook_pattern"}
    hooks |= {"attn.z": "attn.hook_z", "attn.out": "hook_attn_out"}
    hooks |= {"attn_norm.scale": "ln1.hook_scale"} if fields.get("norm") != "none" else {}
    hooks |= {"mlp.post": "mlp.hook_post", "mlp.out": "hook_mlp_out"} if fields["feedforward"] else {}
    seen = {f"L{n}.{site}": cache[f"blocks.{n}.{hook}"] for n in range(layers) for site, hook in hooks.items()}
    return {"logits": logits, **seen}


@torch.no_grad()
def ask_of_weights(fields: Fields, weights: Weights, tokens: Tensor) -> dict[str, Tensor]:
    """Return what TransformerLens reads off the weights as they are (`composition`), and, once it has folded norms and
    value biases and centred what can be: the weights, the logits, each head's copying score (`copying`), and what heads
    and feed-forward networks add to the logit of a target token at the last position (`dla`)."""
    bridge = bridge_of(fields, weights)
    found = {f"composition {kind}": bridge.all_composition_scores(kind).scores for kind in "QKV"}
    bridge.enable_compatibility_mode(disable_warnings=True)
    logits, cache = bridge.run_with_cache(tokens)
    found |= {"plain logits": logits}
    found |= {f"plain {name}": weight for name, weight in processed(bridge, fields).items()}
    eigenvalues = (bridge.W_E @ bridge.OV @ bridge.W_U).eigenvalues
    found["copying"] = eigenvalues.sum(-1).real / eigenvalues.abs().sum(-1)
    target = torch.arange(len(tokens)) + 3
    heads, labels = cache.stack_head_results(layer=-1, return_labels=True, pos_slice=-1)
    parts = dict(zip(labels, heads, strict=True))
    if fields["feedforward"]:
        parts |= {f"L{n}.mlp": cache["mlp_out", n][:, -1] for n in range(int(fields["layers"]))}
    added = cache.logit_attrs(torch.stack(list(parts.values())), tokens=target, pos_slice=-1)
    found |= {"dla target": target, **{f"dla {part}": value for part, value in zip(parts, added, strict=True)}}
    return found


def processed(bridge: Any, fields: Fields) -> Weights:
    """Return the weights of a bridge under our names and in our shapes."""
    rotary = fields.get("positions") == "rotary"
    names = ["W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"]
    found = {"embed.W_E": bridge.W_E, "unembed.W_U": bridge.W_U, "unembed.b_U": bridge.b_U}
    found |= {} if rotary else {"embed.W_pos": bridge.W_pos}
    for name in names:
        for n, weight in enumerate(getattr(bridge, name)):
            weight = halves(weight) if rotary and name in ("W_Q", "W_K", "b_Q", "b_K") else weight
            found[f"layers.{n}.attn.{name}"] = weight.transpose(0, 1) if name in names[:3] else weight
    for name in ("W_in", "b_in", "W_out", "b_out") if fields["feedforward"] else ():
        found |= {f"layers.{n}.mlp.{name}": weight for n, weight in enumerate(getattr(bridge, name))}
    return found


def main() -> None:
    FIXTURES.mkdir(exist_ok=True)
    for seed, (case, (oracle, fields)) in enumerate(CASES.items()):
        weights = weights_of(fields, seed)
        tokens = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(seed))
        ask = ask_transformers if oracle == "transformers" else ask_transformer_lens
        answers = ask(fields, weights, tokens)
        about = {
            "spec": json.dumps(fields),
            "vocabulary": str(VOCABULARY),
            "oracle": f"{oracle} {version(oracle)}",
            "made with": f"torch {version('torch')}, Python {platform.python_version()}",
        }
        tensors = {"tokens": tokens}
        tensors |= {f"weight {name}": weight for name, weight in weights.items()}
        tensors |= {f"site {name}": value.contiguous().clone() for name, value in answers.items()}
        if oracle == "transformer-lens":
            read = ask_of_weights(fields, weights, tokens)
            tensors |= {name: value.contiguous().clone() for name, value in read.items()}
        path = FIXTURES / f"{case}.safetensors"
        save_file(tensors, path, about)
        print(f"{path.name}: {len(answers)} sites from {about['oracle']}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
