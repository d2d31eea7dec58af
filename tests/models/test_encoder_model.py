"""The encoder: what it sees, that padding changes nothing, and PyTorch's own stack on the same weights."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.core.errors import UsageError
from etude.models.architectures.encoder import Encoder
from etude.models.encoder_model import EncoderModel
from etude.nn.attention.banded import Banded
from etude.nn.attention.sliding import Sliding
from etude.nn.look import look

V, B, T, D = 23, 3, 8, 16
SMALL: dict[str, Any] = {"layers": 2, "width": D, "heads": 4, "feedforward": 24, "context": T}
BERT: dict[str, Any] = {"norm_at": "post", "segments": 2, "norm_embeddings": True, "head": "bert"}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bert": {**BERT, "tied": True},
    "modern": {"positions": "rotary", "norm": "rms", "gated": True, "kv_heads": 2, "parallel": True},
    "sliding": {"attention": Sliding(window=6)},
    "banded": {"attention": Banded(window=6)},
    "classifier": {"classes": 3},
    "classifier, first": {"classes": 3, "pooling": "first"},
    "classifier, bert": {**BERT, "classes": 3, "pooling": "first"},
    "classifier, bert, mean": {**BERT, "classes": 3},
}


@pytest.fixture(params=VARIANTS.values(), ids=list(VARIANTS))
def model(request: pytest.FixtureRequest) -> EncoderModel:
    return lively(**request.param)


def lively(**fields: Any) -> EncoderModel:
    model = cast(EncoderModel, Encoder(**{**SMALL, **fields}).build(V))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def texts() -> tuple[Tensor, Tensor]:
    """Return tokens, and which of them are text: 8, 3 and 1 of each."""
    tokens = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))
    return tokens, torch.arange(T) < torch.tensor([[8], [3], [1]])


def test_every_position_sees_every_other() -> None:
    model, (tokens, _) = lively(), texts()
    before = model(tokens)
    for place in range(T):
        changed = tokens.clone()
        changed[:, place] = (tokens[:, place] + 1) % V
        assert (model(changed) != before).any(dim=-1).all(), "each token's scores depend on each token"


def test_padding_never_changes_what_is_present(model: EncoderModel) -> None:
    tokens, present = texts()
    whole = model(tokens, present=present)
    other = torch.where(present, tokens, (tokens + 5) % V)
    torch.testing.assert_close(
        model(other, present=present)[present if whole.ndim == 3 else ...], whole[present if whole.ndim == 3 else ...]
    )
    for row, length in enumerate((8, 3, 1)):
        alone = model(tokens[row : row + 1, :length])[0]
        padded = whole[row, :length] if whole.ndim == 3 else whole[row]
        torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_classifier_reads_the_mean_of_what_is_present_or_the_first(pooling: str) -> None:
    model, (tokens, present) = lively(classes=3, pooling=pooling), texts()
    x = model.stream(tokens, present=present)
    read = (
        x[:, 0]
        if pooling == "first"
        else torch.stack([row[kept].mean(0) for row, kept in zip(x, present, strict=True)])
    )
    W, b = model.unembedding()
    assert b is None and W.shape == (D, 3)
    torch.testing.assert_close(model(tokens, present=present), read @ W)


def test_berts_head_is_its_formula() -> None:
    model, (tokens, present) = lively(**BERT, tied=True, activation="gelu"), texts()
    x: Tensor = model.stream(tokens, present=present)
    head: Any = model.transform
    y = F.layer_norm(F.gelu(x @ head.W_dense + head.b_dense), (D,), head.norm.w, head.norm.b, 1e-5)
    torch.testing.assert_close(model(tokens, present=present), y @ model.embed.W_E.T + model.get_parameter("b_U"))


def test_berts_pooler_and_next_sentence_head_read_the_first_token() -> None:
    model, (tokens, present) = lively(**BERT, next_sentence=True), texts()
    x: Tensor = model.stream(tokens, present=present)
    pool: Any = model.pool
    follows: Any = model.follows
    scores = torch.tanh(x[:, 0] @ pool.W_dense + pool.b_dense) @ follows.W_U + follows.b_U
    torch.testing.assert_close(model.following(x), scores)
    assert model(tokens, follows=torch.zeros(B, dtype=torch.long)).shape == (B, T, V)
    with pytest.raises(UsageError, match="no next-sentence head: build it with next_sentence"):
        lively(**BERT).following(x)


def test_segments_are_added_and_normed_with_the_rest() -> None:
    model, (tokens, _) = lively(**BERT), texts()
    segments = (torch.arange(T) > 2).long().expand(B, T)
    embed: Any = model.embed
    total = F.embedding(tokens, embed.W_E) + embed.W_pos + F.embedding(segments, embed.W_seg)
    torch.testing.assert_close(
        embed(tokens, segments=segments), F.layer_norm(total, (D,), embed.norm.w, embed.norm.b, 1e-5)
    )
    assert torch.equal(model(tokens), model(tokens, segments=torch.zeros_like(tokens)))
    with pytest.raises(UsageError, match="the model has no segments: build it with segments = 2"):
        lively()(tokens, segments=segments)


def test_documents_kept_apart_are_read_as_if_alone() -> None:
    for positions in ("rotary", "learned"):
        model, (tokens, _) = lively(positions=positions), texts()
        documents = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]).expand(B, T)
        places = torch.tensor([0, 1, 2, 0, 1, 0, 1, 2]).expand(B, T)
        whole = model(tokens, documents=documents, positions=places)
        for a, b in ((0, 3), (3, 5), (5, 8)):
            torch.testing.assert_close(whole[:, a:b], model(tokens[:, a:b]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_at", ["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_equals_torchs_encoder(norm_at: Any, activation: Any) -> None:
    ours, (tokens, present) = lively(norm_at=norm_at, activation=activation), texts()
    layer = nn.TransformerEncoderLayer(D, 4, 24, 0.0, activation, 1e-5, batch_first=True, norm_first=norm_at == "pre")
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(D) if norm_at == "pre" else None, enable_nested_tensor=False)
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        copy_block(mine, other)
    if theirs.norm is not None:
        copy_norm(ours.final_norm, theirs.norm)
    expected = theirs(ours.embed(tokens), src_key_padding_mask=~present)
    found = ours.stream(tokens, present=present)
    assert (found - expected)[present].abs().max() < 1e-5
    watched = look(ours, tokens, ["L*.attn.pattern", "L1.resid.post"])
    torch.testing.assert_close(watched["L0.attn.pattern"].sum(-1), torch.ones(B, 4, T))


def test_padding_that_is_a_document_of_its_own_reaches_nobody() -> None:
    model, (tokens, _) = lively(), texts()
    documents = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2]).expand(B, T)
    present = documents < 2
    plain = model(tokens, documents=documents, present=present)
    with model.tapped({"L*.attn.pattern": torch.clone}):  # the path that makes the pattern, as bf16 training does
        watched = model(tokens, documents=documents, present=present)
    torch.testing.assert_close(watched[present], plain[present])
    torch.testing.assert_close(plain[:, :6], model(tokens[:, :6], documents=documents[:, :6]))


@torch.no_grad()
def copy_block(ours: Any, theirs: Any) -> None:
    """Give a layer of PyTorch the weights of one of ours: it stores them transposed, and q, k and v in one matrix."""
    mine, other = ours.attn, theirs.self_attn
    other.in_proj_weight.copy_(torch.cat([W.flatten(1).T for W in (mine.W_Q, mine.W_K, mine.W_V)]))
    other.in_proj_bias.copy_(torch.cat([b.flatten() for b in (mine.b_Q, mine.b_K, mine.b_V)]))
    other.out_proj.weight.copy_(mine.W_O.flatten(0, 1).T)
    other.out_proj.bias.copy_(mine.b_O)
    for part, W, b in ((theirs.linear1, "W_in", "b_in"), (theirs.linear2, "W_out", "b_out")):
        part.weight.copy_(getattr(ours.mlp, W).T)
        part.bias.copy_(getattr(ours.mlp, b))
    copy_norm(ours.attn_norm, theirs.norm1)
    copy_norm(ours.mlp_norm, theirs.norm2)


@torch.no_grad()
def copy_norm(ours: Any, theirs: Any) -> None:
    theirs.weight.copy_(ours.w)
    theirs.bias.copy_(ours.b)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"classes": 1}, "classes = 1, segments = 0: give 0 or at least 2 classes"),
    ({"segments": -1}, "segments = -1"),
    ({"classes": 2, "tied": True}, "a classifier has no unembedding to tie"),
    ({"next_sentence": True}, "next_sentence needs two segments and no classes"),
    ({"norm_embeddings": True, "norm": "none"}, "norm_embeddings says nothing"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_built_is_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Encoder(**fields)
    assert "\n" not in str(caught.value)
