"""A picture of a head: a square of shares, as an SVG that any browser shows."""

from html import escape

from torch import Tensor


def draw(pattern: Tensor, tokens: list[str], cell: int = 20) -> str:
    """Return an SVG with a cell for each query (down) and key (across)."""
    rects = []
    for i, row in enumerate(pattern.tolist()):
        for j, share in enumerate(row):
            title = escape(f"{tokens[i]} -> {tokens[j]}: {share:.2f}")
            place = f'x="{j * cell}" y="{i * cell}" width="{cell}" height="{cell}"'
            rects.append(f'<rect {place} fill="navy" fill-opacity="{share:.4f}"><title>{title}</title></rect>')
    side = len(tokens) * cell
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}">{"".join(rects)}</svg>'
