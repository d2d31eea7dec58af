"""Writing texts: the same tokens as without a cache and without company, stop texts, streaming, and bad input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.choosing import choose
from etude.models.generation import generate, stream
from etude.models.prepared import prepared
from etude.models.sampling import Sampling
from etude.models.transformer import Transformer
from etude.models.writing import Generated, Request, Writing
from etude.nn.attention.sliding import Sliding
from etude.text.tokenizers.live import ByteTokenizer

V, END = 13, 12


class Letters:
    """A tokenizer of twelve letters, a byte each, and the end token."""

    vocabulary, end, specials, by_piece, lossless = V, END, dict[str, int](), True, True
    letters = "abcdefghijkl"

    def encode(self, text: str) -> list[int]:
        return [self.letters.index(c) for c in text]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return "".join("|" if id == END else self.letters[id] for id in ids).encode()

    def piece(self, id: int) -> str:
        return self.decode([id])

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def lively(spec: Architecture) -> Transformer:
    """Build a model whose weights are large enough that every part matters."""
    model, generator = spec.build(V).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


@torch.no_grad()
def scores_of(model: Transformer, before: Sequence[int], source: Sequence[int] | None = None) -> Tensor:
    """Return the scores of what follows a text, all of which is read anew: [1 V]."""
    read = {} if source is None else {"source": torch.tensor([source])}
    return model(torch.tensor([list(before)]), **read)[:, -1]


def rollout(
    model: Transformer, before: Sequence[int], sampling: Sampling, number: int = 0, source: Sequence[int] | None = None
) -> list[int]:
    """Write one text by itself and without a cache."""
    text = Writing(Request(number, tuple(before), None, sampling.max_tokens), Letters(), sampling)
    while not text.stopped:
        held = None
        if sampling.repetition_penalty != 1:
            held = torch.zeros(1, V, dtype=torch.bool)
            held[0, [*(before if source is None else ()), *text.ids]] = True
        chance = None if sampling.greedy else torch.tensor([text.chance()], dtype=torch.float64)
        text.take(int(choose(scores_of(model, [*before, *text.ids], source), sampling, held, chance)), 0.0)
    return text.ids


SHAPE: dict[str, Any] = {"layers": 2, "width": 16, "heads": 4, "feedforward": 24, "context": 24}
SEQUENCE = EncoderDecoder(**SHAPE, positions="sinusoidal", norm_at="post")
PROMPTS = [[3], [1, 2, 3, 4, 5], [7, 7], [11, 0, 4]]
SAMPLINGS = [
    Sampling(temperature=0, max_tokens=12),
    Sampling(temperature=1.5, max_tokens=12, seed=1),
    Sampling(repetition_penalty=1.3, temperature=0.8, top_k=8, top_p=0.9, min_p=0.02, max_tokens=12),
]
every_sampling = pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "drawn", "every rule"])
LETTERS = Letters()


@every_sampling
def test_the_same_tokens_as_without_a_cache(spec: Decoder, sampling: Sampling) -> None:
    model = lively(replace(spec, context=24))
    written = generate(model, LETTERS, PROMPTS, sampling)
    expected = [rollout(model, prompt, sampling, n) for n, prompt in enumerate(PROMPTS)]
    assert [list(text.ids) for text in written] == expected
    for prompt, text in zip(PROMPTS, written, strict=True):
        with torch.no_grad():
            scores = model(torch.tensor([[*prompt, *text.ids][:24]]))[0].log_softmax(-1)
        likely = [float(scores[len(prompt) - 1 + n, token]) for n, token in enumerate(text.ids)]
        assert text.log_probabilities == pytest.approx(likely, abs=1e-4)


@every_sampling
def test_a_source_is_translated_alike_without_a_cache(sampling: Sampling) -> None:
    model = lively(SEQUENCE)
    written = generate(model, LETTERS, PROMPTS, sampling)
    expected = [rollout(model, [END], sampling, n, source) for n, source in enumerate(PROMPTS)]
    assert [list(text.ids) for text in written] == expected
    as_text = generate(model, LETTERS, ["abc"], sampling)
    assert as_text == generate(model, LETTERS, [[0, 1, 2, END]], sampling)


@pytest.mark.parametrize("spec", [Decoder(**SHAPE), SEQUENCE], ids=["decoder", "encoder-decoder"])
def test_a_text_does_not_depend_on_its_company(spec: Architecture) -> None:
    model, sampling = lively(spec), Sampling(seed=3)
    together = [text.ids for text in generate(model, LETTERS, PROMPTS, sampling)]
    assert together == [generate(model, LETTERS, [p], sampling, first=n)[0].ids for n, p in enumerate(PROMPTS)]
    assert together == [text.ids for text in generate(model, LETTERS, PROMPTS, sampling, batch=3)]
    assert together[2:] == [text.ids for text in generate(model, LETTERS, PROMPTS[2:], sampling, first=2)]
    assert together != [text.ids for text in generate(model, LETTERS, PROMPTS, replace(sampling, seed=4))]


def test_taps_act_on_every_token() -> None:
    model, sampling = lively(Decoder(**SHAPE)), SAMPLINGS[1]
    untapped = [list(text.ids) for text in generate(model, LETTERS, PROMPTS[:2], sampling)]
    edits = {"L1.mlp.out": torch.zeros_like, "L0.attn.z": lambda z: 2 * z, "L0.attn.W_V": lambda W: -4 * W}
    for site, edit in edits.items():
        with model.tapped({site: edit}):
            expected = [rollout(model, prompt, sampling, n) for n, prompt in enumerate(PROMPTS[:2])]
            assert [list(text.ids) for text in generate(model, LETTERS, PROMPTS[:2], sampling)] == expected
        assert expected != untapped


def test_a_watched_pattern_changes_no_token() -> None:
    model, sampling = lively(Decoder(**SHAPE, kv_heads=2, attention=Sliding(3))), SAMPLINGS[0]
    expected = generate(model, LETTERS, PROMPTS, sampling)
    with model.tapped({"L*.attn.pattern": torch.clone, "L*.attn.head_out": torch.clone}):
        assert [text.ids for text in generate(model, LETTERS, PROMPTS, sampling)] == [t.ids for t in expected]


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_sliding_reads_the_last_half_as_a_text_of_its_own(positions: Any) -> None:
    model = lively(Decoder(**{**SHAPE, "context": 6}, positions=positions))
    sampling = Sampling(temperature=0, max_tokens=20, slide=True)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10]]
    for prompt, text in zip(prompts, generate(model, LETTERS, prompts, sampling), strict=True):
        read, ids = list(prompt), list[int]()
        while len(ids) < 20 and ids[-1:] != [END]:
            read = read[-4:] if len(read) > 6 else read
            ids.append(int(scores_of(model, read).argmax()))
            read.append(ids[-1])
        assert list(text.ids) == ids


def test_writing_ends_at_the_context() -> None:
    model = always([0] * 99, Decoder(**SHAPE))
    lengths = [len(text.ids) for text in generate(model, LETTERS, PROMPTS, Sampling(temperature=0))]
    assert lengths == [24, 20, 23, 22]


def scoring(model: Transformer, tokens: Sequence[int]) -> Transformer:
    """Let a model write these tokens, one at each call, whatever it reads."""
    following = iter(tokens)

    def put(_: Any, __: Any, scores: Tensor) -> Tensor:
        return torch.eye(scores.shape[-1])[next(following)].expand(scores.shape)

    model.logits.register_forward_hook(put)
    return model.eval()


def always(tokens: Sequence[int], spec: Architecture) -> Transformer:
    return scoring(spec.build(V), tokens)


@pytest.mark.parametrize(
    ("stop", "text", "stopped", "count"),
    [
        ((), "abcabd", "end", 7),
        (("cab",), "ab", "stop", 5),
        (("abd", "bda"), "abc", "stop", 6),
        (("x",), "abcabd", "end", 7),
        (("bc", "abc"), "", "stop", 3),
    ],
)
def test_a_stop_text_is_found_across_tokens(stop: tuple[str, ...], text: str, stopped: str, count: int) -> None:
    tokens, sampling = [*LETTERS.encode("abcabd"), END, 0], Sampling(temperature=0, stop=stop)
    (found,) = generate(always(tokens, Decoder(**SHAPE)), LETTERS, [[0]], sampling)
    assert (found.text, found.stopped, len(found.ids)) == (text, stopped, count)
    assert "".join(stream(always(tokens, Decoder(**SHAPE)), LETTERS, [0], sampling)) == text


def test_streaming_never_shows_the_beginning_of_a_stop_text() -> None:
    tokens, sampling = [*LETTERS.encode("abcabdlabca"), END], Sampling(temperature=0, stop=("abcaba",))
    pieces = list(stream(always(tokens, Decoder(**SHAPE)), LETTERS, [0], sampling))
    assert pieces == ["abcabd", "l", "abca"]


BYTES = ByteTokenizer()


def test_streaming_breaks_no_character() -> None:
    text = "né ∑🙂x"
    ids = [*BYTES.encode(text), 0xF0, 0x9F, BYTES.end]
    model = scoring(Decoder(**SHAPE).build(BYTES.vocabulary), ids)
    pieces = list(stream(model, BYTES, "", Sampling(temperature=0)))
    assert pieces == [*text, "�"]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), stop=st.lists(st.text(Letters.letters[:4], min_size=1, max_size=3), max_size=2))
def test_streaming_equals_the_whole(seed: int, stop: list[str]) -> None:
    model, sampling = lively(Decoder(**SHAPE)), Sampling(temperature=2.0, stop=tuple(stop), seed=seed)
    (whole,) = generate(model, LETTERS, ["ab"], sampling, first=5)
    assert "".join(stream(model, LETTERS, "ab", sampling, number=5)) == whole.text
    assert not any(text in whole.text for text in stop)


def test_a_stream_returns_the_text_whole() -> None:
    model, returned = lively(Decoder(**SHAPE)), list[Generated]()

    def read() -> Iterator[str]:
        returned.append((yield from stream(model, LETTERS, "ab", SAMPLINGS[1])))

    shown = "".join(read())
    assert returned == generate(model, LETTERS, ["ab"], SAMPLINGS[1]) and returned[0].text == shown


def test_an_empty_prompt_starts_from_the_end_token() -> None:
    model = lively(Decoder(**SHAPE))
    assert generate(model, LETTERS, [""], SAMPLINGS[1]) == generate(model, LETTERS, [[END]], SAMPLINGS[1])


def test_a_padded_embedding_writes_no_token_without_a_text() -> None:
    model = Decoder(**SHAPE).build(V + 3).eval()
    with model.tapped({"logits": lambda s: s + 100 * (torch.arange(V + 3) >= V)}):
        (text,) = generate(model, LETTERS, ["a"], SAMPLINGS[0])
    assert max(text.ids) < V


def test_the_mode_of_the_model_is_left_as_it_was() -> None:
    model = lively(Decoder(**SHAPE, dropout=0.5)).train()
    first = generate(model, LETTERS, ["ab"], SAMPLINGS[0])
    assert model.training and first == generate(model, LETTERS, ["ab"], SAMPLINGS[0])


def test_what_was_made_ready_serves_many_calls() -> None:
    model = lively(Decoder(**SHAPE))
    expected = generate(model, LETTERS, PROMPTS, SAMPLINGS[1], precision="bf16")
    ready = prepared(model, "bf16", rows=len(PROMPTS))
    for _ in range(2):
        assert generate(model, LETTERS, PROMPTS, SAMPLINGS[1], ready=ready) == expected
    pieces = "".join(stream(model, LETTERS, PROMPTS[0], SAMPLINGS[1], ready=ready))
    assert pieces == "".join(stream(model, LETTERS, PROMPTS[0], SAMPLINGS[1], precision="bf16"))
    with model.tapped({"L0.attn.W_V": torch.zeros_like}), pytest.raises(UsageError, match="leave ready out"):
        generate(model, LETTERS, PROMPTS, SAMPLINGS[1], ready=ready)


def test_progress_is_told() -> None:
    told: list[tuple[float, float, str]] = []
    beams: list[tuple[float, float, str]] = []
    model = lively(Decoder(**SHAPE))
    generate(model, LETTERS, PROMPTS, SAMPLINGS[0], batch=2, progress=lambda *now: told.append(now))
    generate(
        model, LETTERS, PROMPTS, Sampling(temperature=0, beams=2, max_tokens=4), progress=lambda *now: beams.append(now)
    )
    assert beams[-1][0] == beams[-1][1] == 4 * len(PROMPTS)
    assert told[-1] == (48, 48, "tokens") and [done for done, *_ in told] == sorted(done for done, *_ in told)


D = Decoder(**SHAPE)
WRONG: list[tuple[Architecture, Any, Sampling, str]] = [
    (Encoder(**SHAPE), ["a"], SAMPLINGS[0], "an encoder writes no text: give a decoder, a retro or an encoder-decoder"),
    (D, "abc", SAMPLINGS[0], r"prompts are several: give a list, as in \[prompt\]"),
    (D, [[0, 13]], SAMPLINGS[0], "prompt 0: no token has the id 13; there are 13"),
    (D, ["a", "a" * 25], Sampling(), "prompt 1 has 25 tokens and the model reads 24: shorten it"),
    (D, ["a" * 20], Sampling(max_tokens=9), "20 tokens and 9 more do not fit .* of 24: set max_tokens to 5 or less"),
    (SEQUENCE, ["a" * 24], Sampling(), "prompt 0 has 25 tokens and the model reads 24"),
    (SEQUENCE, ["a"], Sampling(max_tokens=9, slide=True), "the target of an encoder-decoder begins with its first"),
]


@pytest.mark.parametrize(("spec", "prompts", "sampling", "message"), WRONG)
def test_what_cannot_be_written_is_refused_before_any_work(
    spec: Architecture, prompts: Any, sampling: Sampling, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = spec.build(V)
    monkeypatch.setattr(model, "forward", None)
    with pytest.raises(UsageError, match=message):
        generate(model, LETTERS, prompts, sampling)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(UsageError, match="the tokenizer has 257 tokens and the model 13: give the model's own"):
        generate(D.build(V), BYTES, ["a"])
    with pytest.raises(UsageError, match="precision 'fp8' is not one that texts are written in: fp32, bf16"):
        generate(D.build(V), LETTERS, ["a"], precision="fp8")
