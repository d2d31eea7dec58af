"""Which calls of an answer were to be written by oneself. The syntax tree says; nothing else is judged by its text."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

HIDING = ("eval()", "exec()", "vars()", "globals()", "getattr()", "__import__()", "importlib", "runpy", "inspect", ".*")
HIDING += ("sys.modules", "sys.path", "sys._getframe", "operator.attrgetter", "operator.methodcaller")
HIDING += ("torch.ops", "torch._C", ".__dict__")
"""What reaches things by names that are not in the text, so that a forbidden one would not be seen."""


def forbidden_uses(source: str, forbidden: Sequence[str]) -> list[tuple[int, str]]:
    """Return the line and the name of each forbidden thing that a source uses.

    Args:
        source: Python that parses.
        forbidden: dotted names, as in `torch.softmax`, under whatever name they are imported; `.softmax` is an
            attribute of that name on anything. A name forbids what is inside it: `torch.nn` forbids `torch.nn.Linear`.

    It sees through `getattr` with a written name (with a computed one it is a call like any other, `getattr()`),
    through `F = torch.nn`, and through PyTorch's private twins, as `torch._softmax`.
    """
    tree = ast.parse(source)
    names = _imported(tree)
    return sorted({(line, used) for line, used in _uses(tree, names) if any(_is(used, each) for each in forbidden)})


def _is(used: str, forbidden: str) -> bool:
    if forbidden.startswith("."):
        return "." in used and used.rpartition(".")[2] == forbidden[1:]
    return any(f"{each}.".startswith(f"{forbidden}.") for each in (used, used.replace("._", ".")))


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
        elif isinstance(node, ast.Assign) and (full := _dotted(node.value, names)).partition(".")[0]:
            names |= {each.id: full for each in node.targets if isinstance(each, ast.Name)}
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
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            match node.func.id, node.args:
                case "getattr", [value, ast.Constant(value=str(name)), *_]:
                    yield node.lineno, f"{_dotted(value, names)}.{name}"
                case called, _:
                    yield node.lineno, f"{called}()"


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    return ""
