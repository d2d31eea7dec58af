"""Models brought in against transformers' own classes: the answers that were written down (`make oracles`), and, where
transformers is installed, its live classes, both ways."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import etude
from etude.models.encoder_model import EncoderModel
from etude.models.formats.base import Format
from etude.models.incoming import model_from
from etude.models.outgoing import export
from etude.models.sources import opened
from etude.models.transformer import Transformer
from etude.text.tokenizers.live import ByteTokenizer

FIXTURES = sorted((Path(__file__).parent / "fixtures" / "ecosystem").glob("*.safetensors"))
GREATEST = 1e-5
BYTES = 257

Tensors = dict[str, torch.Tensor]


def ours(model: Transformer, tokens: torch.Tensor, given: Tensors) -> Tensors:
    """Return our answers to what a class of transformers is asked."""
    mine: Tensors = {}
    if "attention_mask" in given:
        mine["present"] = given["attention_mask"].bool()
    if "token_type_ids" in given:
        mine["segments"] = given["token_type_ids"]
    with torch.no_grad():
        found = {"logits": model(tokens, **mine)}
        if isinstance(model, EncoderModel) and model.spec.next_sentence:
            found["follows"] = model.following(model.stream(tokens, **mine))
    return found


def compare(name: str, found: Tensors, answers: Tensors, given: Tensors) -> None:
    """Compare at every position that is not padding, and print the greatest difference."""
    assert found.keys() == answers.keys()
    kept = given["attention_mask"].bool() if "attention_mask" in given and answers["logits"].ndim == 3 else slice(None)
    differences = [(found["logits"][kept] - answers["logits"][kept]).abs().max()]
    differences += [(found[key] - answers[key]).abs().max() for key in answers if key != "logits"]
    worst = float(max(differences))
    print(f"{name}: greatest difference {worst:.1e}, standard deviation of the logits {answers['logits'].std():.2f}")
    assert answers["logits"].std() > 0.1
    assert worst < GREATEST


def unpacked(path: Path, folder: Path) -> tuple[str, Tensors]:
    """Lay a fixture out as a Hugging Face folder; return the oracle's name and the tensors that are no weights."""
    with safe_open(path, "pt") as file:
        about, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    (folder / "config.json").write_text(about["config"])
    weights = {name.removeprefix("weight "): value for name, value in held.items() if name.startswith("weight ")}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return about["oracle"], held


def part(held: Tensors, kind: str) -> Tensors:
    return {name.removeprefix(f"{kind} "): value for name, value in held.items() if name.startswith(f"{kind} ")}


def test_every_class_that_is_read_has_answered() -> None:
    from etude.core.family import Family

    asked = {json.loads(safe_open(path, "pt").metadata()["config"])["architectures"][0] for path in FIXTURES}
    classes = {name for cls in Family("models/formats") if issubclass(cls, Format) for name in cls.classes}
    # GPT2Model is GPT2LMHeadModel less a head that is its embedding, BertModel BertForMaskedLM less its head.
    assert asked == classes - {"GPT2Model", "BertModel"}


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_the_same_weights_give_the_same_answers(path: Path, tmp_path: Path) -> None:
    oracle, held = unpacked(path, tmp_path)
    model, given = model_from(opened(tmp_path)), part(held, "given")
    compare(oracle, ours(model, held["tokens"], given), part(held, "answer"), given)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_what_comes_in_goes_out_bit_for_bit(path: Path, tmp_path: Path) -> None:
    from etude.models.outgoing import format_for, weights_of

    unpacked(path, tmp_path)
    source = opened(tmp_path)
    model = model_from(source)
    chosen, config = format_for(model.spec, model.vocabulary)
    assert (chosen, config["architectures"]) == (source.format, source.config["architectures"])
    before, after = load_file(tmp_path / "model.safetensors"), weights_of(model, chosen)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


# with the live classes


@pytest.fixture(scope="module")
def transformers() -> Any:
    library = pytest.importorskip("transformers", reason="transformers is installed for the oracles alone")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


@pytest.fixture
def maker(transformers: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import make_ecosystem

    yield make_ecosystem
    sys.modules.pop("make_ecosystem", None)


CASES = [path.stem for path in FIXTURES]


def live(maker: Any, case: str) -> tuple[str, Any]:
    """Return a class of transformers with the byte tokenizer's vocabulary."""
    name, fields = maker.CASES[case]
    return name, maker.made(name, {**fields, "vocab_size": BYTES}, seed=7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_a_live_folder_is_loaded(maker: Any, case: str, tmp_path: Path) -> None:
    name, peer = live(maker, case)
    peer.save_pretrained(tmp_path)
    ByteTokenizer().save(tmp_path)
    model, tokenizer = etude.load(tmp_path)
    tokens = torch.randint(BYTES, (2, 8))
    given = maker.given_to(name, tokens)
    compare(name, ours(model, tokens, given), maker.asked(peer, tokens, **given), given)
    assert tokenizer.vocabulary == BYTES


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_an_exported_folder_loads_in_transformers_and_trains_on(
    transformers: Any, maker: Any, case: str, tmp_path: Path
) -> None:
    name, peer = live(maker, case)
    peer.save_pretrained(tmp_path / "theirs")
    model = model_from(opened(tmp_path / "theirs"))
    export(model, ByteTokenizer(), tmp_path / "ours", "# A card\n")
    loaded, told = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    loaded.eval()
    before, after = peer.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    tokens = torch.randint(BYTES, (2, 8), generator=torch.Generator().manual_seed(1))
    given = maker.given_to(name, tokens)
    answers = maker.asked(loaded, tokens, **given)
    compare(name, ours(model, tokens, given), answers, given)

    labels = torch.tensor([0, 1]) if "Classification" in name else tokens
    labels = {"labels": labels} | ({"next_sentence_label": torch.tensor([0, 1])} if "PreTraining" in name else {})
    optimiser = torch.optim.SGD(loaded.parameters(), lr=0.01)
    first = loaded(tokens, **given, **labels).loss
    first.backward()
    optimiser.step()
    assert loaded(tokens, **given, **labels).loss < first


@pytest.mark.filterwarnings("ignore")
def test_the_exported_tokenizer_is_taken_as_it_is(transformers: Any, maker: Any, tmp_path: Path) -> None:
    _, peer = live(maker, "bert-masked")
    peer.save_pretrained(tmp_path / "theirs")
    tokenizer = ByteTokenizer()
    export(model_from(opened(tmp_path / "theirs")), tokenizer, tmp_path / "ours", "# A card\n")
    taken = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    text = "A naïve  text:\n\t<|x|> 1,000"
    assert taken(text, add_special_tokens=False).input_ids == tokenizer.encode(text)
    assert taken.decode(tokenizer.encode(text)) == text
    assert (taken.eos_token_id, taken.model_max_length) == (tokenizer.end, 8)
    assert list(taken("a b")) == ["input_ids", "token_type_ids", "attention_mask"]


@pytest.mark.filterwarnings("ignore")
def test_an_exported_decoder_generates(transformers: Any, maker: Any, tmp_path: Path) -> None:
    _, peer = live(maker, "llama")
    peer.save_pretrained(tmp_path / "theirs")
    export(model_from(opened(tmp_path / "theirs")), ByteTokenizer(), tmp_path / "ours", "# A card\n", dtype="bf16")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert (loaded.dtype, loaded.generation_config.eos_token_id) == (torch.bfloat16, ByteTokenizer.end)
    tokens = torch.randint(BYTES, (1, 3))
    assert loaded.generate(tokens, max_new_tokens=4, do_sample=False).shape[1] <= 7
