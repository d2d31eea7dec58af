"""A real trained model, stories260K of llama2.c, against a decoder in the manner of llama2.c's run.c, in plain NumPy:
one token at a time, keys and values kept, rotary pairs of neighbours. It shares no code with Etude."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import etude
from etude.models.incoming import model_from
from etude.models.outgoing import export
from etude.models.sources import opened
from etude.text.tokenizers.live import ByteTokenizer

GREATEST = 1e-4


class Reference:
    """The decoder, read from the file by its header alone."""

    def __init__(self, path: Path) -> None:
        D, F, self.layers, self.heads, self.groups, V, T = (int(n) for n in np.fromfile(path, "<i4", 7))
        self.width = D // self.heads
        numbers, at, kv, L = np.fromfile(path, "<f4", offset=28), 0, self.groups * self.width, self.layers

        def take(*shape: int) -> np.ndarray:
            nonlocal at
            at += int(np.prod(shape))
            return numbers[at - int(np.prod(shape)) : at].reshape(shape)

        self.embedding, self.norm1 = take(abs(V), D), take(L, D)
        self.wq, self.wk, self.wv, self.wo = take(L, D, D), take(L, kv, D), take(L, kv, D), take(L, D, D)
        self.norm2, self.w1, self.w2, self.w3 = take(L, D), take(L, F, D), take(L, D, F), take(L, F, D)
        self.last = take(D)
        take(T, self.width)  # the angles, which are made anew below
        self.output = self.embedding if V > 0 else take(abs(V), D)
        assert at == len(numbers)
        self.keys: list[list[np.ndarray]] = [[] for _ in range(L)]
        self.values: list[list[np.ndarray]] = [[] for _ in range(L)]

    def turned(self, vector: np.ndarray, position: int) -> np.ndarray:
        out = vector.copy()
        for i in range(0, len(vector), 2):
            angle = position / 10000.0 ** ((i % self.width) / self.width)
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            out[i], out[i + 1] = vector[i] * c - vector[i + 1] * s, vector[i] * s + vector[i + 1] * c
        return out

    def step(self, token: int, position: int) -> np.ndarray:
        """Return the scores of the token after this one."""
        x = self.embedding[token].copy()
        for n in range(self.layers):
            y = _rms(x, self.norm1[n])
            q = self.turned(self.wq[n] @ y, position)
            self.keys[n].append(self.turned(self.wk[n] @ y, position))
            self.values[n].append(self.wv[n] @ y)
            keys, values = np.stack(self.keys[n]), np.stack(self.values[n])
            heads = []
            for h in range(self.heads):
                group = h // (self.heads // self.groups)
                here, there = (
                    slice(h * self.width, (h + 1) * self.width),
                    slice(group * self.width, (group + 1) * self.width),
                )
                scores = keys[:, there] @ q[here] / np.sqrt(np.float32(self.width))
                weights = np.exp(scores - scores.max())
                heads.append(weights / weights.sum() @ values[:, there])
            x = x + self.wo[n] @ np.concatenate(heads)
            y = _rms(x, self.norm2[n])
            gate = self.w1[n] @ y
            x = x + self.w2[n] @ (gate / (1 + np.exp(-gate)) * (self.w3[n] @ y))
        return self.output @ _rms(x, self.last)


def _rms(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x) + 1e-5) * w


@pytest.fixture(scope="module")
def weights(shared: Path) -> Path:
    path = shared / "weights" / "stories260K" / "stories260K.bin"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


@pytest.fixture(scope="module")
def told(weights: Path) -> tuple[list[int], np.ndarray]:
    """What the reference writes from the start of a text, greedily: tokens, and the scores at each."""
    reference, tokens, scores = Reference(weights), [1], []
    for position in range(200):
        scores.append(reference.step(tokens[-1], position))
        tokens.append(int(scores[-1].argmax()))
        if tokens[-1] == 1:
            break
    return tokens, np.stack(scores)


@pytest.fixture(scope="module")
def brought(weights: Path) -> tuple[Any, Any]:
    return etude.load(weights)


def test_the_scores_are_the_reference_decoders(brought: tuple[Any, Any], told: tuple[list[int], np.ndarray]) -> None:
    tokens, scores = told
    with torch.no_grad():
        ours = brought[0](torch.tensor([tokens[:-1]]))[0].numpy()
    difference = float(np.abs(ours - scores).max())
    print(f"stories260K: greatest difference over {ours.size:,} logits {difference:.1e}, deviation {scores.std():.1f}")
    assert difference < GREATEST


def test_it_tells_the_same_story(brought: tuple[Any, Any], told: tuple[list[int], np.ndarray]) -> None:
    model, tokenizer = brought
    tokens = [tokenizer.specials["first"]]
    with torch.no_grad():
        while len(tokens) < len(told[0]):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    story = tokenizer.decode(tokens[1:])
    print(story)
    assert tokens == told[0]
    assert story.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    )
    words = story.split()
    assert len(words) > 80 and len(set(words)) > 40


def test_it_goes_out_as_a_llama(brought: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = brought
    config = export(model, tokenizer, tmp_path / "out", "# A card\n")
    assert config["architectures"] == ["LlamaForCausalLM"]
    again = model_from(opened(tmp_path / "out")).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    _, taken = etude.load(tmp_path / "out")
    text = "One day, a cat named Tom saw 3 birds."
    assert taken.encode(text) == tokenizer.encode(text) != ByteTokenizer().encode(text)
    assert (taken.end, taken.specials) == (tokenizer.end, tokenizer.specials)
