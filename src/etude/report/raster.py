"""Matrices as pictures: SVG for heatmaps and sheets of attention patterns, packed bytes for the interactive view.

One SVG serves the page and the Markdown. Its cells are one colour at different opacities, so that it suits a light and
a dark ground; words carry classes that the page's style sheet recolours.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from etude.report.colour import GROUND, INK, LESS, MORE, SOFT, rgb, shade
from etude.report.figures import Attention, Heatmap
from etude.report.inline import written

RECTANGLES = 900
"""A heatmap of at most so many cells has one rectangle for each, with its number to hover; a larger one is an image."""

NUMBERED = 16
"""Columns up to which the numbers themselves are written into the cells."""

LETTERS = 3_700_000
"""The most letters that the patterns of one view take: with the charts' runtime (0.9 MB) and the words of a report
beside them, the page stays under 5 MB."""

THUMBNAIL = 64
"""Cells along one side of the page's small patterns, at most: about as many as there are pixels."""

_STRIP = 120
"""Width of the strip that shows what the shades mean."""

_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def heatmap_svg(block: Heatmap) -> str:
    """Return a heatmap as an SVG picture that needs no other file."""
    rows, columns = block.values.shape
    numbered = columns <= NUMBERED and rows * columns <= RECTANGLES
    wide = _number_width(block) if numbered else max(6, min(24, 600 // columns))
    high = 30 if numbered else max(6, min(22, 600 // rows))
    left = 12 + _text_width(block.rows) + (20 if block.row_title else 0)
    slanted = _text_width(block.columns) > wide - 4 and len(block.columns) > 1
    head = (_text_width(block.columns) * 0.72 + 14 if slanted else 22) + (22 if block.column_title else 0)
    # A slanted label leans out to the right of the last column.
    right = max(12.0, _text_width(block.columns) * 0.72 - wide / 2 + 8 if slanted else 12.0)
    width = left + max(wide * columns + right, _STRIP + 18 + _text_width((_range(block),)))
    height = head + high * rows + 46
    parts = [*_labels(block, left, head, wide, high, slanted), *_cells(block, left, head, wide, high, numbered)]
    parts += _legend(block, left, head + high * rows + 18)
    return _svg(width, height, f"{block.label}, {rows} rows by {columns} columns", parts)


def attention_svg(block: Attention, side: int = 96) -> str:
    """Return every head's pattern side by side, a row a layer: what the interactive view shows as thumbnails.

    Args:
        block: the attention view.
        side: width of one pattern, in pixels; of longer texts a cell is a run of tokens (`coarse`).
    """
    layers, heads, length = block.patterns.shape[:3]
    run = math.ceil(length / side)
    left, gap, head = 12 + _text_width(block.layers), 10, 24
    parts = [_words(left + h * (side + gap) + side / 2, 16, f"H{h}", "middle") for h in range(heads)]
    for layer in range(layers):
        top = head + layer * (side + gap)
        parts.append(_words(left - 8, top + side / 2 + 4, block.layers[layer], "end"))
        for h in range(heads):
            # The square root, as in the page: small weights would be invisible.
            opacity = np.sqrt(coarse(block.patterns[layer, h], run).clip(0, 1))
            at = left + h * (side + gap)
            parts.append(_image(opacity, np.zeros(opacity.shape, dtype=bool), at, top, side, side))
            parts.append(f'<rect x="{at:g}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#D5D7DA"/>')
    foot = head + layers * (side + gap) + 14
    cells = "" if run == 1 else f"; a cell is {run} by {run} tokens"
    parts.append(_words(left, foot, f"each pattern: query downward, key to the right{cells}", "start"))
    width = max(left + heads * (side + gap), left + 420)
    return _svg(width, foot + 12, f"attention patterns of {layers} layers and {heads} heads", parts)


def coarse(patterns: np.ndarray, run: int) -> np.ndarray:
    """Return patterns [..., T, T] between runs of so many tokens: what the queries of one give, on average, to all keys
    of another. Rows still sum to 1, and a thin diagonal stays one, where a picture made smaller would break it up.
    """
    starts = np.arange(0, patterns.shape[-1], run)
    summed = np.add.reduceat(np.add.reduceat(patterns, starts, -1), starts, -2)
    return summed / np.diff(starts, append=patterns.shape[-1])[:, None]


def pack(patterns: np.ndarray, letters: int = LETTERS) -> dict[str, Any]:
    """Return attention patterns [L, H, T, T] as small JSON data that `attention.js` reads.

    A weight p becomes a whole number up to `levels`, √p · levels rounded: the error of √p is at most 1 / (2 levels), so
    that small weights keep their order, and that of p at most 1 / levels. There are 255 levels, or as many fewer as it
    takes to keep to `letters`, but not below 15; the view says so where they are fewer. Where no query looks ahead only
    the lower triangle is kept. The bytes are deflated (zlib) and in base64.

    MEASURED with 12 layers of 12 heads over 256 tokens, at 255 levels: 2.7 million letters for a decoder before
    training, and 3.5 million for the softmax of independent scores of deviation 3.

    Args:
        patterns: after the softmax.
        letters: the most letters of base64.
    """
    layers, heads, side, _ = patterns.shape
    roots = np.sqrt(patterns.clip(0, 1)).reshape(-1, side, side)
    causal, levels = not np.triu(np.rint(roots * 255), 1).any(), 255
    packed = _packed(roots, levels, causal)
    while len(packed) > letters and levels > 15:
        levels = max(15, levels * 3 // 4)
        packed = _packed(roots, levels, causal)
    kept = {"layers": layers, "heads": heads, "side": side, "causal": causal, "levels": levels}
    return {**kept, "run": math.ceil(side / THUMBNAIL), "bytes": packed}


def _packed(roots: np.ndarray, levels: int, causal: bool) -> str:
    """Return roots [heads, T, T] as base64. All heads' rows of one query stand together: they are spread over as many
    keys, so one Huffman code fits them, which in a head's own rows changes all the way down."""
    numbers = np.rint(roots * levels).astype(np.uint8)
    side = numbers.shape[-1]
    rows = (numbers[:, query, : query + 1 if causal else side].tobytes() for query in range(side))
    # What repeats in a pattern is the same weight over and over. Longer repeats, which deflate seeks by default, are
    # chance: they take twenty times as long and cost more than they save.
    deflate = zlib.compressobj(9, strategy=zlib.Z_RLE, memLevel=9)
    return base64.b64encode(deflate.compress(b"".join(rows)) + deflate.flush()).decode()


def _cells(block: Heatmap, left: float, top: float, wide: float, high: float, numbered: bool) -> list[str]:
    opacity, negative = shade(block.values, block.signed)
    rows, columns = block.values.shape
    if rows * columns > RECTANGLES:
        return [_image(opacity, negative, left, top, wide * columns, high * rows)]
    parts = []
    for r in range(rows):
        for c in range(columns):
            value, alpha = float(block.values[r, c]), float(opacity[r, c])
            if math.isnan(value):
                continue
            x, y, kind = left + c * wide, top + r * high, "less" if negative[r, c] else "more"
            told = escape(f"{block.rows[r]}, {block.columns[c]}: {written(value, block.digits)}")
            parts.append(
                f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{wide - 1:g}" height="{high - 1:g}"'
                f' fill="{LESS if negative[r, c] else MORE}" fill-opacity="{alpha:.3f}"><title>{told}</title></rect>'
            )
            if numbered:
                tone = ("on", GROUND) if alpha > 0.55 else ("off", INK)
                parts.append(
                    f'<text class="{tone[0]}" x="{x + (wide - 1) / 2:g}" y="{y + high / 2 + 4:g}" fill="{tone[1]}"'
                    f' font-size="12" text-anchor="middle">{written(value, block.digits)}</text>'
                )
    return parts


def _labels(block: Heatmap, left: float, top: float, wide: float, high: float, slanted: bool) -> list[str]:
    every = max(1, math.ceil(13 / high))
    parts = [
        _words(left - 8, top + (r + 0.5) * high + 4, label, "end")
        for r, label in enumerate(block.rows)
        if r % every == 0
    ]
    every = max(1, math.ceil(16 / wide))
    for c, label in enumerate(block.columns):
        if c % every == 0:
            x = left + (c + 0.5) * wide
            turn = f' transform="rotate(-45 {x:g} {top - 8:g})"' if slanted else ""
            parts.append(_words(x, top - 8, label, "start" if slanted else "middle", turn))
    if block.column_title:
        parts.append(_words(left + wide * len(block.columns) / 2, 15, block.column_title, "middle", kind="title"))
    if block.row_title:
        y = top + high * len(block.rows) / 2
        turn = f' transform="rotate(-90 12 {y:g})"'
        parts.append(_words(12, y, block.row_title, "middle", turn, kind="title"))
    return parts


def _legend(block: Heatmap, left: float, top: float) -> list[str]:
    """Return a strip of shades, and in words what its ends are."""
    steps, parts = _STRIP // 5, []
    for i in range(steps):
        at = 2 * (i + 0.5) / steps - 1 if block.signed else (i + 0.5) / steps
        kind, colour = ("less", LESS) if at < 0 else ("more", MORE)
        parts.append(
            f'<rect class="{kind}" x="{left + i * 5:g}" y="{top:g}" width="5" height="9" fill="{colour}"'
            f' fill-opacity="{abs(at):.3f}"/>'
        )
    return [*parts, _words(left + _STRIP + 10, top + 9, _range(block), "start")]


def _range(block: Heatmap) -> str:
    known = block.values[np.isfinite(block.values)]
    if not known.size:
        return f"no finite {block.label}"
    reach = float(np.abs(known).max())
    ends = (-reach, reach) if block.signed else (float(known.min()), float(known.max()))
    return " to ".join(written(end, block.digits) for end in ends) + f" {block.label}"


def _image(opacity: np.ndarray, negative: np.ndarray, x: float, y: float, width: float, height: float) -> str:
    pixels = np.empty((*opacity.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where(negative[..., None], rgb(LESS), rgb(MORE))
    pixels[..., 3] = np.rint(opacity * 255)
    # Enlarged here, since not every program that shows SVG leaves the edges of enlarged pixels sharp.
    times = max(1, math.ceil(2 * max(width, height) / max(opacity.shape)))
    data = base64.b64encode(_png(pixels.repeat(times, 0).repeat(times, 1))).decode()
    return (
        f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" preserveAspectRatio="none"'
        f' href="data:image/png;base64,{data}"/>'
    )


def _png(pixels: np.ndarray) -> bytes:
    """Return [rows, columns, 4] bytes of red, green, blue and opacity as a PNG file (RFC 2083, no filters)."""
    height, width = pixels.shape[:2]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * 4)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _words(x: float, y: float, words: str, anchor: str, more: str = "", kind: str = "label") -> str:
    colour = INK if kind == "title" else SOFT
    return (
        f'<text class="{kind}" x="{x:g}" y="{y:g}" fill="{colour}" font-size="12" text-anchor="{anchor}"{more}>'
        f"{escape(words)}</text>"
    )


def _svg(width: float, height: float, name: str, parts: list[str]) -> str:
    w, h = math.ceil(width), math.ceil(height)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img"'
        f' aria-label={quoteattr(name)} font-family="{_FONT}">'
    )
    return "\n".join([opening, f'<rect class="ground" width="{w}" height="{h}" fill="{GROUND}"/>', *parts, "</svg>"])


def _text_width(labels: tuple[str, ...]) -> float:
    """Return about how wide the longest label is at 12 pixels; there is no font here to measure with."""
    return 7.0 * max((len(label) for label in labels), default=0)


def _number_width(block: Heatmap) -> float:
    longest = max(len(written(float(value), block.digits)) for value in block.values.flat)
    return max(44, 7.2 * longest + 14)
