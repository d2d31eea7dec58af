"""The baselines are what they say: proper distributions, right against a slow reference, near a known truth."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals import baselines as module
from etude.evals.baselines import Baseline, Bigram, Uniform, Unigram, count_pairs, score_baseline
from etude.evals.recipes import Baselines
from etude.text.batches import IGNORE, Examples
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte

MakeRows = Callable[..., Examples]
texts = st.lists(st.integers(0, 6), min_size=2, max_size=60).map(np.array)
V = 8  # 7 never occurs


def table(baseline: Baseline, vocabulary: int) -> np.ndarray:
    """Return p(token | before) for every pair [V, V]."""
    before, token = np.meshgrid(np.arange(vocabulary), np.arange(vocabulary), indexing="ij")
    return np.exp(baseline.log_probability(before, token))


def slow_bigram(tokens: list[int], vocabulary: int) -> list[list[float]]:
    """Absolute discounting, interpolated with a unigram that adds one, from its definition."""
    pairs, follows = Counter(itertools.pairwise(tokens)), Counter(tokens[1:])
    n1, n2 = (sum(count == n for count in pairs.values()) for n in (1, 2))
    discount = n1 / (n1 + 2 * n2) if n1 else 0.5
    unigram = [(follows[w] + 1) / (len(tokens) - 1 + vocabulary) for w in range(vocabulary)]
    found = []
    for v in range(vocabulary):
        total = sum(count for (before, _), count in pairs.items() if before == v)
        kinds = sum(before == v for before, _ in pairs)
        if not total:
            found.append(unigram)
            continue
        direct = [max(pairs[v, w] - discount, 0) / total for w in range(vocabulary)]
        found.append([direct[w] + discount * kinds / total * unigram[w] for w in range(vocabulary)])
    return found


@settings(deadline=None)
@given(tokens=texts)
def test_a_bigram_is_its_definition(tokens: np.ndarray, rows: MakeRows):
    bigram = Bigram(count_pairs(rows(tokens, vocabulary=V)))
    np.testing.assert_allclose(table(bigram, V), slow_bigram(tokens.tolist(), V), rtol=1e-12)
    np.testing.assert_allclose(table(bigram.unigram, V)[0], [(n + 1) / (len(tokens) - 1 + V) for n in
                               np.bincount(tokens[1:], minlength=V)], rtol=1e-12)  # fmt: skip


@settings(deadline=None)
@given(tokens=texts)
def test_probabilities_are_above_0_and_add_up_to_1_after_every_token(tokens: np.ndarray, rows: MakeRows):
    counts = count_pairs(rows(tokens, vocabulary=V))
    for baseline in (Uniform(V), Bigram(counts).unigram, Bigram(counts)):
        probabilities = table(baseline, V)
        assert probabilities.min() > 0
        np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-12)


@settings(deadline=None)
@given(tokens=texts)
def test_the_likeliest_is_the_top_of_the_distribution(tokens: np.ndarray, rows: MakeRows):
    before = np.arange(V)[None]
    for baseline in (
        Uniform(V),
        Unigram(np.bincount(tokens, minlength=V)),
        Bigram(count_pairs(rows(tokens, vocabulary=V))),
    ):
        probabilities, chosen = table(baseline, V), baseline.likeliest(before)
        assert chosen.shape == before.shape
        np.testing.assert_allclose(probabilities[np.arange(V), chosen[0]], probabilities.max(1), rtol=1e-12)


def test_counting_in_parts(rows: MakeRows, monkeypatch: pytest.MonkeyPatch):
    examples = rows(np.random.default_rng(0).integers(0, V, 1000), vocabulary=V)
    whole = count_pairs(examples)
    monkeypatch.setattr(module, "_PAIRS", 7)
    parts = count_pairs(examples)
    assert np.array_equal(whole.toarray(), parts.toarray())
    assert np.array_equal(Bigram(whole).kinds, Bigram(parts).kinds)


def test_what_is_ignored_is_not_counted(rows: MakeRows):
    inputs, targets = np.array([[7, 1, 2], [7, 3, 7]]), np.array([[1, 2, 4], [3, IGNORE, IGNORE]])
    counts = count_pairs(rows(inputs, targets, vocabulary=V)).toarray()
    assert {(v, w): counts[v, w] for v, w in zip(*counts.nonzero(), strict=True)} == {
        (7, 1): 1,
        (1, 2): 1,
        (2, 4): 1,
        (7, 3): 1,
    }


def test_scores_by_window():
    class Known:
        def log_probability(self, before: np.ndarray, token: np.ndarray) -> np.ndarray:
            return -(before + token).astype(float)

        def likeliest(self, before: np.ndarray) -> np.ndarray:
            return before + 1

    loss, right = score_baseline(Known(), np.array([[1, 2], [3, 0]]), np.array([[2, 4], [IGNORE, 1]]))
    assert loss.tolist() == [3 + 6, 0 + 1]
    assert right.tolist() == [1, 1]


def test_uniform_loss_is_log_v_exactly():
    loss, _ = score_baseline(Uniform(257), np.zeros((3, 4), np.int64), np.full((3, 4), 9))
    assert loss.tolist() == [4 * math.log(257)] * 3


def test_a_markov_chain_is_learned_to_its_entropy(rows: MakeRows):
    generator = np.random.default_rng(3)
    chain = generator.dirichlet(np.full(V, 0.5), V)
    draws, tokens = generator.random(200_001), np.zeros(200_001, np.int64)
    edges = chain.cumsum(1)
    for i in range(1, len(tokens)):
        tokens[i] = min(np.searchsorted(edges[tokens[i - 1]], draws[i]), V - 1)
    values, vectors = np.linalg.eig(chain.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    entropy = -float(stationary @ (chain * np.log(chain)).sum(1))
    bigram = Bigram(count_pairs(rows(tokens[:100_001], vocabulary=V)))
    before, after = tokens[100_000:-1][:, None], tokens[100_001:][:, None]
    assert score_baseline(bigram, before, after)[0].mean() == pytest.approx(entropy, abs=0.02)
    alone = score_baseline(bigram.unigram, before, after)[0].mean()
    assert alone == pytest.approx(-float(stationary @ np.log(stationary)), abs=0.02)
    assert alone > entropy + 0.2


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("baselines"), threads=1, quiet=True)


@pytest.mark.parametrize("tokenizer", [Byte(), BytePair(300)])
def test_on_fables(lab: Lab, tokenizer: Byte | BytePair):
    fable = Fable(stories=200)
    run = lab.run(Baselines(Tokens(fable, tokenizer), context=32, evaluate_tokens=0))
    found = run.result["baselines"]
    losses = {name: found[name]["loss"]["mean"] for name in found}
    assert losses["uniform"] == pytest.approx(math.log(tokenizer.expected_vocabulary()))
    assert found["uniform"]["loss"]["low"] == pytest.approx(losses["uniform"])
    assert found["unigram"]["loss"]["high"] < losses["uniform"]
    assert found["bigram"]["loss"]["high"] < found["unigram"]["loss"]["low"]
    assert found["bigram"]["bits_per_byte"]["low"] > fable.true_bits_per_byte("valid"), "nothing beats the truth"
    assert found["bigram"]["accuracy"]["low"] > found["unigram"]["accuracy"]["high"]
    windows = run.tensors("bigram.safetensors")
    assert windows["loss"].sum() / windows["count"].sum() == pytest.approx(losses["bigram"])
    assert run.result["tokens"] == windows["count"].sum() == found["bigram"]["loss"]["n"] * 32


def test_openings_do_not_run_into_each_other(lab: Lab, tmp_path):
    """In the store one opening follows the other without a separator, and no model ever sees that pair."""
    for split in ("train", "valid", "test"):
        lines = [f'{{"text": "{split}{i}\\n_START_PARAGRAPH_\\nabc{i:04d}"}}\n' for i in range(30)]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    run = lab.run(Baselines(Tokens(Files(path=str(tmp_path)), Byte(), openings=3), context=3, evaluate_tokens=0))
    # Each text is abc: a always follows the separator, b a, and c b. Only the discount and the add-one keep it from 0.
    assert run.result["baselines"]["bigram"]["accuracy"]["mean"] == 1.0
    counts = 30
    discount = 0.5  # no pair is seen once
    unigram = (counts + 1) / (3 * counts + 257)
    expected = -math.log((counts - discount) / counts + discount / counts * unigram)
    assert run.result["baselines"]["bigram"]["loss"]["mean"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fields", "message"), [({"context": 0}, "context = 0"), ({"evaluate_tokens": -1}, "tokens = -1")]
)
def test_bad_fields(fields: dict[str, int], message: str):
    with pytest.raises(UsageError, match=message):
        Baselines(**fields)  # type: ignore[arg-type]
