"""Which calls of an answer were to be written by oneself. The syntax tree says; nothing else is judged by its text."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence


def forbidden_uses(source: str, forbidden: Sequence[str]) -> list[tuple[int, str]]:
    """Return the line and the name of each forbidden thing that a source uses.

    Args:
        source: Python that parses.
        forbidden: dotted names, as in `torch.softmax`, under whatever name they are imported; `.softmax` is an
            attribute of that name on anything. A name forbids what is inside it: `torch.nn` forbids `torch.nn.Linear`.

    What is made up while it runs (`getattr` with a computed name) is not seen; `getattr` with a written one is.
    """
    tree = ast.parse(source)
    names = _imported(tree)
    return sorted({(line, used) for line, used in _uses(tree, names) if any(_is(used, each) for each in forbidden)})


def _is(used: str, forbidden: str) -> bool:
    if forbidden.startswith("."):
        return "." in used and used.rpartition(".")[2] == forbidden[1:]
    return used == forbidden or used.startswith(f"{forbidden}.")


def _imported(tree: ast.Module) -> dict[str, str]:
    """Return what each imported name stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _uses(tree: ast.Module, names: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield what is imported, named or taken as an attribute, by its full name; `.x` is an attribute of some value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, _dotted(node, names)
        elif isinstance(node, ast.Name):
            yield node.lineno, names.get(node.id, node.id)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
            match node.args:
                case [value, ast.Constant(value=str(name)), *_]:
                    yield node.lineno, f"{_dotted(value, names)}.{name}"


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    return ""
