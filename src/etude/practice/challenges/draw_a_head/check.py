"""Whether a picture says what the pattern says: it is read back as XML."""

from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor

from etude.practice.differences import shown
from etude.practice.exam import Exam

SVG = "{http://www.w3.org/2000/svg}"
WORDS = ("the", "cat", " sat", "on", "mat", ".", "é", "42", "The", "a")
CELL = 20
"""The side of a cell where none is given."""

AWKWARD = ("<s>", "R&B", "a < b", '"so"', "it's", "&amp;", "]]>", "</title>")


def check(theirs: Any, exam: Exam) -> None:
    """Draw patterns of several lengths with plain tokens; then tokens that XML would take for its own."""
    for length in (3, exam.random.randint(4, 7), 1):
        pattern = torch.softmax(exam.normal(length, length, scale=1.5), dim=-1)
        _read(theirs, exam, pattern, exam.random.sample(WORDS, length), exam.random.choice([10, 12, 16]))
    scores = exam.normal(4, 4).masked_fill(torch.ones(4, 4).triu(1) > 0, float("-inf"))
    _read(theirs, exam, torch.softmax(scores, dim=-1), exam.random.sample(WORDS, 4), CELL)
    for awkward in AWKWARD:
        pattern = torch.softmax(exam.normal(2, 2), dim=-1)
        _read(theirs, exam, pattern, exam.random.sample([awkward, exam.random.choice(WORDS)], 2), CELL)


def _read(theirs: Any, exam: Exam, pattern: Tensor, tokens: list[str], cell: int) -> None:
    length = len(tokens)
    got = theirs.draw(pattern, list(tokens), *([] if cell == CELL else [cell]))
    exam.ask(isinstance(got, str), f"draw returns a {type(got).__name__}: give the text of the SVG")
    rects = _rects(exam, got, tokens, cell)
    exam.ask(
        len(rects) == length * length,
        f"for {length} tokens there are {len(rects)} cells: each of the {length * length} pairs of query and key has"
        " one, however small its share",
    )
    numbers = [[_number(exam, rect, name) for name in ("x", "y", "width", "height", "fill-opacity")] for rect in rects]
    exam.ask(
        all(each[2] == each[3] == cell for each in numbers),
        f"a cell is not {cell} pixels wide and high, as `cell` says",
    )
    exam.ask(
        length == 1 or max(each[0] for each in numbers) == (length - 1) * cell,
        f"with cells of {cell} pixels the last column of {length} is at x = {max(each[0] for each in numbers):g}:"
        f" columns begin at 0 and are `cell` apart",
    )
    found = {(int(y // cell), int(x // cell)): n for n, (x, y, *_) in enumerate(numbers)}
    every = {(i, j) for i in range(length) for j in range(length)}
    exam.ask(
        found.keys() == every and all(x % cell == y % cell == 0 for x, y, *_ in numbers),
        "the cells do not fill the square: there is one at each x = j * cell and y = i * cell",
    )
    shares = torch.tensor([[numbers[found[i, j]][4] for j in range(length)] for i in range(length)])
    exam.ask(
        float(shares.max()) <= 1.001,
        f"a fill-opacity is {shown(shares.max())}: are the shares in hundredths? An opacity is from 0 to 1",
    )
    exam.same(
        shares,
        pattern,
        "the square of fill-opacities",
        unless={
            "queries and keys are exchanged: a row of the picture is a query, down, and a column is a key, across": (
                pattern.T
            ),
            "the cells are the darker the smaller the share: opacity is the share itself": 1 - pattern,
            "the rows are from the bottom up: y grows downwards, and query 0 is at the top": pattern.flip(0),
            "each row is made as dark as its largest: opacity is the share itself": (
                pattern / pattern.amax(-1, keepdim=True)
            ),
            "all is made as dark as the largest: opacity is the share itself": pattern / pattern.amax(),
        },
        axes=("query", "key"),
        tolerance=1e-3,
    )
    for i, j in sorted(every):
        _title(exam, rects[found[i, j]], tokens[i], tokens[j], float(pattern[i, j]))


def _rects(exam: Exam, text: str, tokens: list[str], cell: int) -> list[ElementTree.Element]:
    """Return the cells of a picture."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        strange = [token for token in tokens if token in AWKWARD]
        exam.ask(
            not strange,
            f"with a token {strange[:1]} the picture is no XML any more ({error}): `<` and `&` of a token have to be"
            " written as `&lt;` and `&amp;`",
        )
        exam.ask(False, f"the picture is no XML ({error}): is every element closed, and every attribute in quotes?")
        raise
    exam.ask(
        root.tag == f"{SVG}svg",
        f'the outermost element is {root.tag!r}: without xmlns="http://www.w3.org/2000/svg" a browser does not take the'
        " file for a picture"
        if root.tag == "svg"
        else f"the outermost element is {root.tag!r}: it should be an svg",
    )
    side, unsaid = len(tokens) * cell, ", as where `cell` is not given," if cell == CELL else ""
    for name in ("width", "height"):
        exam.ask(
            _number(exam, root, name) == side,
            f"the svg's {name} is {root.get(name)}: with {len(tokens)} cells of {cell} pixels{unsaid} it should be"
            f" {side}",
        )
    return list(root.iter(f"{SVG}rect"))


def _number(exam: Exam, element: ElementTree.Element, name: str) -> float:
    """Return an attribute as a number."""
    tag = element.tag.removeprefix(SVG)
    value = element.get(name)
    exam.ask(value is not None, f"a {tag} has no {name}")
    try:
        return float(str(value).removesuffix("px"))
    except ValueError:
        exam.ask(False, f"a {tag} has {name}={value!r}, which is no number")
        raise


def _title(exam: Exam, rect: ElementTree.Element, query: str, key: str, share: float) -> None:
    """Ask for the words that belong to a cell."""
    title = rect.find(f"{SVG}title")
    exam.ask(
        title is not None, "a cell has no title: it stands within the rect, as in <rect ...><title>...</title></rect>"
    )
    said = "".join(title.itertext()) if title is not None else ""
    words, _, number = said.rpartition(": ")
    want = f"{query} -> {key}"
    if words != want and words == f"{key} -> {query}":
        exam.ask(False, f"a title has the key first, {said!r}: the query -> the key that it attends to, {want!r}")
    exam.ask(
        words != "" or ": " in said, f"a title is {said!r}: it has query, key and share, as in `{want}: {share:.2f}`"
    )
    exam.ask(
        "&" not in words or words == want or ("&" in want and words.count("&") == want.count("&")),
        f"a title reads {words!r} in the browser and should read {want!r}: its characters are escaped twice",
    )
    exam.same(words, want, "the words of a title")
    try:
        told = float(number)
    except ValueError:
        told = -1.0
    exam.ask(
        abs(told - share) < 0.0051 and len(number.strip().partition(".")[2]) <= 2,
        f"the title of {want!r} says a share of {number}, and it is {shown(share)}: give it to two digits, as 0.37",
    )
