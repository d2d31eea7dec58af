from __future__ import annotations

import base64
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from etude.report.blocks import Attention, Heatmap, Report, Section
from etude.report.html import html
from etude.report.raster import attention_svg, coarse, heatmap_svg, pack
from etude.report.specimen import patterns


def unpack(data) -> np.ndarray:
    """Decode as the page does, one weight after the other: the oracle for `pack`."""
    kept = iter(zlib.decompress(base64.b64decode(data["bytes"])))
    found = np.zeros((data["layers"], data["heads"], data["side"], data["side"]))
    for query in range(data["side"]):
        for layer in range(data["layers"]):
            for head in range(data["heads"]):
                for key in range(query + 1 if data["causal"] else data["side"]):
                    found[layer, head, query, key] = (next(kept) / data["levels"]) ** 2
    assert not list(kept)
    return found


weights = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=4, max_dims=4, max_side=3).map(lambda s: (s[0], s[1], s[2], s[2])),
    elements=st.floats(0, 1, width=32),
)  # fmt: skip


@settings(deadline=None)
@given(weights, st.booleans())
def test_packed_weights_come_back_within_the_bound(found, causal):
    found = np.tril(found) if causal else found
    data = pack(found)
    assert data["levels"] == 255
    assert np.abs(np.sqrt(unpack(data)) - np.sqrt(found)).max() <= 1 / 510 + 1e-7


def test_a_causal_pattern_keeps_its_lower_triangle_only():
    side = 64
    data = pack(patterns(2, 4, side))
    assert data["causal"] and len(zlib.decompress(base64.b64decode(data["bytes"]))) == 8 * side * (side + 1) // 2
    assert not pack(np.full((1, 1, 2, 2), 0.5, dtype=np.float32))["causal"]


def noisy(layers: int, heads: int, side: int, causal: bool = True) -> np.ndarray:
    """Return the softmax of independent scores of deviation 3: sharp, and with nothing in it that repeats."""
    scores = np.random.default_rng(0).normal(0, 3, (layers, heads, side, side)).astype(np.float32)
    weights = np.exp(scores) * (np.tri(side, dtype=np.float32) if causal else 1)
    return weights / weights.sum(-1, keepdims=True)


def test_four_layers_of_eight_heads_of_128_tokens_stay_small():
    assert len(pack(patterns(4, 8, 128))["bytes"]) < 260_000


def test_twelve_layers_of_twelve_heads_of_256_tokens_fit_a_page_of_five_megabytes():
    block = Attention(("word",) * 256, noisy(12, 12, 256), "c")
    assert len(html(Report("q", "t", sections=(Section("s", (block,)),)))) < 5_000_000 - 1_200_000
    assert pack(block.patterns)["levels"] == 255


def test_a_pattern_of_256_tokens_takes_25_kilobytes_whatever_is_in_it():
    found = noisy(1, 8, 256)
    data = pack(found)
    assert data["levels"] == 255 and len(data["bytes"]) / 8 < 25_000
    even = np.tri(256, dtype=np.float32)[None, None] / np.arange(1, 257, dtype=np.float32)[:, None]
    assert len(pack(even)["bytes"]) < 2_000


@pytest.mark.parametrize("letters", [13_000, 10_000, 7_000])
def test_what_would_be_too_long_is_rounded_more_coarsely_and_the_view_says_how_coarsely(letters: int):
    found = noisy(1, 4, 64, causal=False)
    data = pack(found, letters)
    back = unpack(data)
    assert len(data["bytes"]) <= letters and data["levels"] < 255
    assert np.abs(np.sqrt(back) - np.sqrt(found)).max() <= 1 / (2 * data["levels"]) + 1e-7
    assert np.abs(back - found).max() <= 1 / data["levels"]


def test_there_are_never_fewer_than_fifteen_levels():
    assert pack(noisy(1, 1, 8), letters=1)["levels"] == 15


def test_the_page_says_that_weights_are_rounded_only_where_they_are(monkeypatch: pytest.MonkeyPatch):
    block = Attention(("word",) * 100, noisy(1, 2, 100), "c")
    page = Report("q", "t", sections=(Section("s", (block,)),))
    assert "Weights are rounded" not in html(page)
    monkeypatch.setattr("etude.report.html.pack", lambda found: pack(found, letters=4_000))
    levels = pack(block.patterns, 4_000)["levels"]
    assert f"each is within {1 / levels:.3f} of what was measured" in html(page)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 4))
def test_a_coarse_pattern_is_one_between_runs_of_tokens(side: int, run: int):
    found = noisy(2, 1, side)
    small = coarse(found, run)
    cells = range(0, side, run)
    for i, query in enumerate(cells):
        for k, key in enumerate(cells):
            mean = found[0, 0, query : query + run, key : key + run].sum(1).mean()
            assert small[0, 0, i, k] == pytest.approx(mean, abs=1e-6)
    np.testing.assert_allclose(small.sum(-1), 1, rtol=1e-5)


def test_a_sheet_of_patterns_of_a_long_text_says_what_a_cell_is():
    block = Attention(("word",) * 200, noisy(1, 1, 200), "c")
    drawn = attention_svg(block)
    assert "a cell is 3 by 3 tokens" in drawn and "a cell is" not in attention_svg(block, side=200)


@pytest.mark.parametrize("side", [1, 5, 40])
def test_a_heatmap_is_well_formed_and_escaped(side):
    evil = '</text><script>alert("1")</script>'
    labels = tuple(f"{evil}{i}" for i in range(side))
    values = np.arange(side * side, dtype=float).reshape(side, side) - 3
    values[0, 0] = np.nan
    for signed in (True, False):
        drawn = heatmap_svg(Heatmap(values, labels, labels, "c", evil, evil, evil, signed=signed))
        root = ElementTree.fromstring(drawn)
        assert not [node for node in root.iter() if node.tag.endswith("script")]


def test_each_cell_of_a_small_heatmap_says_its_number():
    drawn = heatmap_svg(Heatmap(np.array([[0.25, -1.0]]), ("r",), ("a", "b"), "c", "share", signed=True))
    assert "<title>r, a: 0.25</title>" in drawn and "<title>r, b: -1.00</title>" in drawn
    assert "-1.00 to 1.00 share" in drawn


def test_a_sheet_of_patterns_has_a_picture_a_head():
    block = Attention(tuple("abcdef"), patterns(2, 3, 6), "c", layers=("first", "second"))
    drawn = attention_svg(block)
    ElementTree.fromstring(drawn)
    assert drawn.count("<image") == 6 and "second" in drawn
