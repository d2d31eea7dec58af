"""A small trained model, made once for all tests of compression."""

from __future__ import annotations

import json

import numpy as np
import pytest

from etude.core.lab import Lab
from etude.evals.loss import chosen_windows
from etude.models.architectures.decoder import Decoder
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.text.batches import Examples
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train
from etude.train.schedule import Schedule


@pytest.fixture(scope="session")
def trained() -> Train:
    """A recipe that makes a model whose components matter: 60 steps, width 16."""
    return Train(
        data=Tokens(Fable(stories=60), Byte()),
        model=Decoder(layers=2, width=16, heads=2, feedforward=32, context=32),
        schedule=Schedule(peak=2e-2, warmup=5),
        batch=8,
        steps=60,
        evaluate_every=0,
        evaluate_tokens=1024,
    )


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), threads=1, quiet=True)


@pytest.fixture(scope="session")
def model(lab: Lab, trained: Train) -> Transformer:
    return load(lab.run(trained))[0]


@pytest.fixture(scope="session")
def text(lab: Lab, trained: Train) -> TextData:
    return TextData.open(lab.run(trained.data))


@pytest.fixture(scope="session")
def held_out(text: TextData, trained: Train) -> tuple[Examples, np.ndarray]:
    """The validation split, and the windows of it that harm is measured on."""
    examples = text.examples("valid", trained.context)
    return examples, chosen_windows(examples, 1024)


@pytest.fixture(scope="session")
def openings(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """An untrained model of the first 12 bytes of articles in wiki40b's format, of which most are shorter."""
    folder = tmp_path_factory.mktemp("articles")
    for split, count in (("train", 60), ("valid", 24), ("test", 4)):
        said = ["the cat sat on a mat"[: 1 + number * 7 % 17] for number in range(count)]
        rows = [{"text": f"_START_ARTICLE_\n{n}\n_START_PARAGRAPH_\n{words}"} for n, words in enumerate(said)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    model = Decoder(layers=1, width=16, heads=2, feedforward=32, context=12)
    return Train(data=Tokens(Files(path=str(folder)), Byte(), openings=12), model=model, steps=0, evaluate_tokens=0)
