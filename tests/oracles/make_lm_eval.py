"""Ask lm-evaluation-harness for its scores of two small models, by its own Hugging Face path; write models, items and
answers down small.

Run by `make oracles` in an environment that holds lm-eval, transformers and Etude. A decoder learns a few sentences, so
that some answers come out right and some wrong: once as a GPT-2 whose texts begin with nothing, once as a Llama whose
texts begin with a token of their own. Each is exported in bf16 (both sides read it in fp32), and asked the items of
`items` as tasks of every kind that both sides have. Nothing is fetched.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")

import torch

FIXTURES = Path(__file__).parent / "fixtures" / "lm_eval"
CONTEXT, NEW = 64, 12
BEASTS = ("fox", "owl", "old badger", "hare", "wolf", "little mouse", "heron", "toad", "adder", "king of the crows")
PLACES = (
    "barn",
    "wood",
    "well",
    "reeds by the river",
    "chimney",
    "café",
    "hollow oak",
    "Müllerstraße",
    "cellar",
    "moss",
)
FOODS = ("plums", "beetles", "a great many very small fish", "bread", "nothing at all", "honey", "nuts", "grass")

SHAPE = {"layers": 2, "width": 24, "heads": 2, "feedforward": 48, "context": CONTEXT}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {**SHAPE, "activation": "gelu-tanh", "tied": True},
    "llama": {**SHAPE, "positions": "rotary", "norm": "rms", "activation": "silu", "gated": True, "biases": False},
}
SPECIALS = {"gpt2": (), "llama": ("first",)}
STEPS = {"gpt2": 220, "llama": 90}  # after which neither knows all

# task: what kind it is to the harness, and its fields there
CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_text": "query",
    "doc_to_choice": "choices",
    "doc_to_target": "gold",
}
TASKS: dict[str, dict[str, Any]] = {
    "lengths": {**CHOICES, "metrics": ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")},
    "shots": {**CHOICES, "metrics": ("acc", "acc_norm", "acc_bytes")},
    "long": {**CHOICES, "metrics": ("acc", "acc_norm", "acc_bytes")},
    "winograd": {
        "output_type": "multiple_choice",
        "doc_to_text": "gold",
        "doc_to_choice": "context_options",
        "doc_to_target": "continuation",
        "metrics": ("acc",),
    },
    "cloze": {
        "output_type": "loglikelihood",
        "doc_to_text": "context",
        "doc_to_target": "{{' ' + continuation}}",
        "metrics": ("acc", "perplexity"),
    },
    "passages": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metrics": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    },
    "written": {
        "output_type": "generate_until",
        "doc_to_text": "context",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": NEW, "do_sample": False},
        "filter_list": [{"name": "bare", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
        "metrics": ("exact_match",),
    },
}


def facts() -> list[tuple[str, str, str]]:
    """Return who lives where and eats what."""
    draw = random.Random(5)
    return [(beast, PLACES[n], draw.choice(FOODS)) for n, beast in enumerate(BEASTS)]


def sentences(beast: str, place: str, food: str) -> list[str]:
    return [f"The {beast} lives in the {place}.\n", f"The {beast} eats {food}.\n"]


def items() -> dict[str, list[dict[str, Any]]]:
    """Return the items of every task."""
    draw, known = random.Random(7), facts()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in TASKS}
    for n, (beast, place, food) in enumerate(known * 2):
        wrong = draw.sample([f for f in FOODS if f != food], 1 + n % 4)
        choices = [*wrong, food]
        draw.shuffle(choices)
        question = {"query": f"The {beast} eats", "choices": choices, "gold": choices.index(food)}
        found["lengths"].append(question)
        others = draw.sample([fact for fact in known if fact[0] != beast], 2)
        shown = "".join(f"The {other[0]} eats {other[2]}.\n\n" for other in others)
        found["shots"].append({**question, "query": shown + question["query"]})
        far = "".join("".join(sentences(*fact)) for fact in draw.sample(known, 3 + n % 5))
        found["long"].append({**question, "query": far + question["query"]})
        other = draw.choice([fact for fact in known if fact[0] != beast])
        options = [f"By the hill, the {who} lives in the" for who in draw.sample((beast, other[0]), 2)]
        right = next(number for number, text in enumerate(options) if f" {beast} " in text)
        found["winograd"].append({"context_options": options, "continuation": place + ".", "gold": right})
        found["cloze"].append({"context": f"The {beast} lives in the", "continuation": place + "."})
        found["written"].append({"context": f"{shown}The {beast} {('eats', 'lives in the')[n % 2]}"[-130:],
                                 "answer": (food, place)[n % 2] + "."})  # fmt: skip
    text = "".join("".join(sentences(*fact)) for fact in known)
    ends = (1, 5, 60, *draw.sample(range(100, len(text)), 6), len(text))
    found["passages"] = [{"text": text[n % 40 :][:end]} for n, end in enumerate(ends)]
    found["passages"].append({"text": "Été :\t the   fox \n\n\nlives in the ☕.  "})
    return found


def write_items(folder: Path) -> None:
    """Write each task's items as JSONL."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in items().items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8", newline="\n")


def taught(case: str, folder: Path) -> None:
    """Teach a model the sentences, and write it as a Hugging Face folder."""
    from etude.models.architectures.decoder import Decoder
    from etude.models.outgoing import export
    from etude.text.tokenizers.bpe import BytePair

    known, draw = facts(), random.Random(11)
    lines = [line for fact in known for line in sentences(*fact)]
    tokenizer = BytePair(vocabulary=320, specials=SPECIALS[case]).build(lambda: iter(lines))
    lead = [tokenizer.specials.get("first", tokenizer.end)]
    model = Decoder(**SHAPES[case]).build(tokenizer.vocabulary, seed=1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS[case]):
        texts = [[*lead, *tokenizer.encode("".join(draw.sample(lines, 6)))] for _ in range(12)]
        tokens = torch.tensor([(text + lead * CONTEXT)[: CONTEXT + 1] for text in texts])
        scores = model(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    export(model.eval(), tokenizer, folder, "# A model of a few sentences\n", dtype="bf16")
    (folder / "README.md").unlink()


def tasks(folder: Path, at: Path) -> list[str]:
    """Write the harness's descriptions of the tasks whose items are in a folder, and return their names."""
    import yaml

    at.mkdir(parents=True, exist_ok=True)
    names = []
    for name, fields in TASKS.items():
        about = {key: value for key, value in fields.items() if key != "metrics"}
        about |= {
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "test_split": "test",
            "metric_list": [{"metric": metric} for metric in fields["metrics"]],
        }
        (at / f"{name}.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
        names.append(about["task"])
    return names


def scored(model: str, arguments: dict[str, Any], names: list[str], at: Path) -> dict[str, Any]:
    """Return what the harness says of a model: for each task its metrics, and what was said to each item."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(at), include_defaults=False)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HF_DATASETS_CACHE"] = cache
        found = lm_eval.simple_evaluate(
            model=model, model_args=arguments, tasks=names, task_manager=manager, batch_size=8, device="cpu",
            bootstrap_iters=0,
        )  # fmt: skip
    assert found is not None
    told = {}
    for name in names:
        metrics = {key.partition(",")[0]: value for key, value in found["results"][name].items() if "," in key}
        samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
        said = [[one[0] for one in sample["resps"]] for sample in samples]
        if TASKS[name.removeprefix("local_")]["output_type"] == "generate_until":
            said = [sample["filtered_resps"] for sample in samples]
        told[name.removeprefix("local_")] = {
            "scores": {key: value for key, value in metrics.items() if isinstance(value, float | int)},
            "said": said,
        }
    return told


def main() -> None:
    torch.set_num_threads(1)
    shutil.rmtree(FIXTURES, ignore_errors=True)
    write_items(FIXTURES / "items")
    for case in SHAPES:
        folder = FIXTURES / case
        taught(case, folder)
        with tempfile.TemporaryDirectory() as at:
            names = tasks(FIXTURES / "items", Path(at))
            arguments = {"pretrained": str(folder), "dtype": "float32"}
            # Their tokenizer's own first token would be counted as a token of a text that is rolled over.
            rolling = [name for name in names if name == "local_passages"]
            told = scored("hf", arguments, [name for name in names if name not in rolling], Path(at))
            told |= scored("hf", {**arguments, "add_bos_token": False}, rolling, Path(at))
        oracle = f"lm-eval {version('lm-eval')}, transformers {version('transformers')}, torch {version('torch')}"
        answers = {"oracle": oracle, "tasks": told}
        path = FIXTURES / f"{case}.json"
        path.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        told_scores = {name: one["scores"] for name, one in told.items()}
        print(f"{case}: {oracle}\n{json.dumps(told_scores, indent=1)}")


if __name__ == "__main__":
    main()
