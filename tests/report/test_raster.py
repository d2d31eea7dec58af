from __future__ import annotations

import base64
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from etude.report.blocks import Attention, Heatmap
from etude.report.raster import attention_svg, heatmap_svg, pack
from etude.report.specimen import patterns


def unpack(data) -> np.ndarray:
    """Decode as the page does, one weight after the other: the oracle for `pack`."""
    kept = list(zlib.decompress(base64.b64decode(data["bytes"])))
    found = np.zeros((data["layers"], data["heads"], data["side"], data["side"]))
    for layer in range(data["layers"]):
        for head in range(data["heads"]):
            for query in range(data["side"]):
                for key in range(query + 1 if data["causal"] else data["side"]):
                    found[layer, head, query, key] = (kept.pop(0) / 255) ** 2
    assert not kept
    return found


weights = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=4, max_dims=4, max_side=3).map(lambda s: (s[0], s[1], s[2], s[2])),
    elements=st.floats(0, 1, width=32),
)  # fmt: skip


@settings(deadline=None)
@given(weights, st.booleans())
def test_packed_weights_come_back_within_the_bound(found, causal):
    found = np.tril(found) if causal else found
    back = unpack(pack(found))
    assert np.abs(np.sqrt(back) - np.sqrt(found)).max() <= 1 / 510 + 1e-7


def test_a_causal_pattern_keeps_its_lower_triangle_only():
    side = 64
    data = pack(patterns(2, 4, side))
    assert data["causal"] and len(zlib.decompress(base64.b64decode(data["bytes"]))) == 8 * side * (side + 1) // 2
    assert not pack(np.full((1, 1, 2, 2), 0.5, dtype=np.float32))["causal"]


def test_four_layers_of_eight_heads_of_128_tokens_stay_small():
    assert len(pack(patterns(4, 8, 128))["bytes"]) < 260_000


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
