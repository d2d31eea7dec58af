"""A picture of a head: a square of shares, as an SVG that any browser shows."""

from html import escape

from torch import Tensor


def draw(pattern: Tensor, tokens: list[str], cell: int = 20) -> str:
    """Draw what a head attends to: a row for each query, a column for each key, the darker the larger the share.

    Args:
        pattern: shares, of shape [T, T]: row i is the query at position i, column j the key at position j.
        tokens: the T tokens. One may hold any characters that can be printed, also `<`, `>`, `&` and quotes.
        cell: the side of a cell in pixels.

    Returns:
        The text of one element `<svg xmlns="http://www.w3.org/2000/svg" width="..." height="...">`, whose width and
        height are T times `cell`. In it, for all T * T pairs of query i and key j, in any order:

            <rect x="..." y="..." width="..." height="..." fill="..." fill-opacity="..."><title>...</title></rect>

        with x = j * cell from the left, y = i * cell from the top, width and height `cell`, a fill of your choice, the
        same for all, and as fill-opacity the share, to three digits behind the point or more. The title is what a
        browser says of a cell under the pointer: query, key and share to two digits, as in `cat -> the: 0.37`, with
        characters that XML keeps for itself written as XML asks (`&lt;` for `<`, `&amp;` for `&`).
    """
    raise NotImplementedError
