"""The work of circuits: what the weights say of each head, what the paths add, what is lost without a head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.evals.behaviours import Repeats, repeats, tokens_in
from etude.evals.loss import chosen_windows
from etude.evals.statistics import mean, paired, ratio
from etude.interp.ablation import ablate_heads, ablated
from etude.interp.circuits import Factored, copying_score, full_ov, full_qk, ov_circuit, qk_circuit, top_pairs
from etude.interp.composition import composition
from etude.interp.expansion import expand
from etude.interp.plain import plain
from etude.interp.recipes import HeadAblation, HeadCircuits, Paths
from etude.interp.subject import Subject, subject
from etude.models.decoder_model import DecoderModel
from etude.text.batches import IGNORE
from etude.text.data import TextData

Head = tuple[int, int]

SCORES = 1 << 25
"""Scores of tokens that are held at once: 134 MB in fp32, and their logarithms in fp64 three times as much."""


def circuits(recipe: HeadCircuits, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Read every head's circuits off the weights made plain."""
    on = subject(inputs[recipe.of])
    notices = list(on.notices)
    model = on.decoder
    if model.spec.norm_at == "post":
        notices.append("norms after each addition cannot be folded: the circuits are those of the weights as they are")
    else:
        model = plain(model)
    if model.spec.positions == "rotary":
        notices.append("positions are rotary: QK circuits are those of a query and a key at one place")
    spec = model.spec
    heads = []
    for layer in range(spec.layers):
        for head in range(spec.heads):
            ov, qk = full_ov(model, layer, head), full_qk(model, layer, head)
            heads.append(
                {
                    "head": f"L{layer}H{head}",
                    "copying": _score(ov),
                    "matching": _score(qk),
                    "ov_norm": float(ov_circuit(model, layer, head).norm()),
                    "qk_norm": float(qk_circuit(model, layer, head).norm()),
                    "ov": _pairs(on, ov, recipe.pairs),
                    "qk": _pairs(on, qk, recipe.pairs),
                }
            )
            run.progress(len(heads), spec.layers * spec.heads, unit="heads")
    kinds = "QKV" if spec.layers > 1 else ""  # with one layer no head reads what another wrote
    found = {kind: composition(model, kind, recipe.draws, recipe.seed) for kind in kinds}
    arrays: dict[str, np.ndarray] = {}
    for kind, scores in found.items():
        arrays |= {f"{kind}.{name}": getattr(scores, name) for name in ("raw", "excess", "projected")}
    singular = [ov_circuit(model, la, he).svd().S for la in range(spec.layers) for he in range(spec.heads)]
    if singular:
        run.save("circuits.safetensors", {**arrays, "ov_singular": torch.stack(singular).numpy()})
    return {
        "heads": heads,
        "layers": spec.layers,
        "heads_per_layer": spec.heads,
        "baseline": {kind: scores.baseline for kind, scores in found.items()},
        "notices": notices,
    }


def _score(circuit: Factored) -> float | None:
    """Return a circuit's copying score, or None where the circuit is 0 and has none."""
    score = float(copying_score(circuit))
    return None if math.isnan(score) else score


def _pairs(on: Subject, circuit: Factored, count: int) -> list[dict[str, Any]]:
    piece = on.tokenizer.piece
    known = on.tokenizer.vocabulary  # a padded embedding has rows that are no token
    found = (pair for pair in top_pairs(circuit, count) if max(pair.row, pair.column) < known)
    return [{"from": piece(pair.row), "to": piece(pair.column), "value": pair.value} for pair in found]


def paths(recipe: Paths, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Divide predictions on held-out windows among the paths through the model."""
    on = subject(inputs[recipe.of])
    examples = TextData.open(inputs[recipe.of.text]).examples("valid", recipe.of.context)
    windows = chosen_windows(examples, recipe.windows * examples.context)
    cumulated, count, summed, worst, names = [], [], None, 0.0, ()
    for done, window in enumerate(windows):
        batch = examples.batch(np.array([window]))
        tokens, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
        scored = targets[0] != IGNORE
        found = expand(on.decoder, tokens, recipe.most)
        so_far = found.by_order()[:, 0].cumsum(0) + found.constants[0]
        with torch.no_grad():
            worst = max(worst, float((found.total() - on.decoder(tokens)).abs().max()))
        loss = -log_softmax(so_far.double(), -1)[:, scored].gather(
            -1, targets[0, scored].expand(len(so_far), -1)[..., None]
        )
        cumulated.append(loss.squeeze(-1).sum(1).numpy())
        count.append(int(scored.sum()))
        # What a path adds to the true token's logit, beyond what it adds to all.
        true = targets[0].clamp_min(0).expand(len(found.paths), -1)[..., None]
        lifted = found.logits[:, 0].gather(-1, true).squeeze(-1) - found.logits[:, 0].mean(-1)
        lifted = lifted[:, scored].double().sum(1)
        summed = lifted if summed is None else summed + lifted
        names = found.paths
        run.progress(done + 1, len(windows), unit="windows")
    losses, counts = np.stack(cumulated), np.array(count)
    assert summed is not None  # there is at least one window
    order = summed.abs().argsort(descending=True).tolist()
    return {
        "orders": [ratio(losses[:, n], counts).to_json() for n in range(losses.shape[1])],
        "gains": [paired(losses[:, n], losses[:, n + 1], counts).to_json() for n in range(losses.shape[1] - 1)],
        "paths": [{"path": _named(names[i]), "value": float(summed[i]) / int(counts.sum())} for i in order[:20]],
        "count": len(names),
        "difference": worst,
        "windows": len(windows),
        "notices": list(on.notices),
    }


def _named(path: tuple[Head, ...]) -> str:
    return " → ".join(f"L{layer}H{head}" for layer, head in path) or "direct"


def ablation(recipe: HeadAblation, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Take heads out, each alone and some together, and measure the loss where the answer has been seen."""
    on = subject(inputs[recipe.of])
    model = on.decoder
    among = tokens_in(TextData.open(inputs[recipe.of.text])) if recipe.drawn == "text" else on.tokenizer.vocabulary
    made = repeats(recipe.sequences, recipe.of.context, among, stream(recipe.seed, "repeats"))
    spec = model.spec
    chosen = list(dict.fromkeys(_head(name, spec.layers, spec.heads) for name in recipe.group))
    groups = {"group": chosen, "placebo": _placebo(chosen, spec.layers, spec.heads, recipe.seed)}
    parts = _parted(made, on.model.vocabulary)
    found = [_alone(model, part, recipe, run, done, len(parts)) for done, part in enumerate(parts)]
    base, values = np.concatenate([b for b, _ in found]), np.concatenate([v for _, v in found], -1)
    heads = [
        {"head": f"L{layer}H{head}", "increase": mean(values[layer, head] - base).to_json()}
        for layer in range(spec.layers)
        for head in range(spec.heads)
    ]
    result: dict[str, Any] = {"loss": mean(base).to_json(), "heads": heads, "notices": list(on.notices)}
    for name, those in groups.items():
        if those:
            loss = np.concatenate([_without(model, part, those, recipe) for part in parts])
            named = [f"L{layer}H{head}" for layer, head in those]
            result[name] = {"heads": named, "loss": mean(loss).to_json(), "increase": mean(loss - base).to_json()}
    return result


def _parted(sequences: Repeats, vocabulary: int) -> list[Repeats]:
    """Return sequences in parts whose scores are held at once, of two or more each, so that one can stand in for
    another."""
    many = max(2, SCORES // (sequences.tokens.shape[1] * vocabulary))
    rows = np.array_split(np.arange(len(sequences.tokens)), max(1, len(sequences.tokens) // many))
    return [Repeats(sequences.tokens[part], sequences.period[part]) for part in rows]


def _alone(
    model: DecoderModel, part: Repeats, recipe: HeadAblation, run: Draft, done: int, parts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss of each text [N], and that without each head [L H N]."""
    found = ablate_heads(
        model,
        torch.from_numpy(part.tokens),
        RepeatedLoss(part),
        recipe.how,
        seed=stream(recipe.seed, "ablation"),
        progress=lambda layer, layers: run.progress(done * layers + layer, parts * layers, unit="layers"),
    )
    return found.base.double().numpy(), found.values.double().numpy()


class RepeatedLoss:
    """The mean cross-entropy of each text from its second period on, where every answer has been seen, in nats."""

    def __init__(self, sequences: Repeats) -> None:
        self.answers = torch.from_numpy(sequences.tokens)[:, 1:]
        place = torch.arange(self.answers.shape[1])
        self.known = (place >= torch.from_numpy(sequences.period)[:, None]).double()

    def __call__(self, logits: Tensor) -> Tensor:
        logp = log_softmax(logits[:, :-1].double(), -1)
        loss = -logp.gather(-1, self.answers[..., None]).squeeze(-1)
        return (loss * self.known).sum(1) / self.known.sum(1)


@torch.no_grad()
def _without(model: DecoderModel, part: Repeats, heads: list[Head], recipe: HeadAblation) -> np.ndarray:
    """Return the loss of each text without several heads at once, [N]."""
    tokens = torch.from_numpy(part.tokens)
    with model.tapped(ablated(model, heads, recipe.how, tokens, seed=stream(recipe.seed, "ablation"))):
        return RepeatedLoss(part)(model(tokens)).double().numpy()


def _head(name: str, layers: int, heads: int) -> Head:
    layer, _, head = name.removeprefix("L").partition("H")
    if not (name.startswith("L") and layer.isdigit() and head.isdigit() and int(layer) < layers and int(head) < heads):
        raise UsageError(f"{name!r} is no head of {layers} layers of {heads} heads: write as in L0H1")
    return int(layer), int(head)


def _placebo(chosen: list[Head], layers: int, heads: int, seed: int) -> list[Head]:
    """Return as many other heads, in each layer as many as are chosen there as far as there are: drawn, not picked."""
    draw = np.random.Generator(np.random.PCG64(stream(seed, "placebo")))
    found: list[Head] = []
    for layer in range(layers):
        wanted = sum(one == layer for one, _ in chosen)
        rest = [head for head in range(heads) if (layer, head) not in chosen]
        picked = draw.permutation(rest)[:wanted]
        found += [(layer, int(head)) for head in sorted(picked)]
    return found
