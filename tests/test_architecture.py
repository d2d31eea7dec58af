"""The house's policies, as tests: which floor may import which, what loads without torch, what every file owes.

Each policy is a function from the source tree to a list of complaints. It is run on `src/etude`, and on a small tree in
which it is broken on purpose, so that a policy that stopped seeing anything would fail too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "etude"

# A floor imports itself and floors of lower tiers, never one beside it or above. DESIGN, "The house".
TIERS = (
    ("core",),
    ("report", "text"),
    ("nn",),
    ("models",),
    ("evals",),
    ("train",),
    ("interp", "compress", "scaling", "retrieval", "culture", "chat"),
    ("studies", "practice"),
    ("cli",),
)
TIER_OF = {floor: tier for tier, floors in enumerate(TIERS) for floor in floors}
TORCH_FREE_FLOORS = ("core", "report", "text", "studies", "cli")
HEAVY = {"torch", "torchvision", "transformers"}
VAGUE_NAMES = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
MOST_LINES = 400
MOST_ABSTRACT = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One import of one module, by its absolute name, and whether it happens while the importing module loads."""

    name: str
    line: int
    at_load: bool


@dataclass(frozen=True)
class Module:
    """One source file of a tree."""

    root: Path
    file: Path

    @property
    def where(self) -> str:
        return self.file.relative_to(self.root).as_posix()

    @property
    def name(self) -> str:
        parts = ("etude", *self.file.relative_to(self.root).with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def floor(self) -> str:
        """The folder under `etude`, or the file's own name for what stands beside the folders."""
        return self.where.partition("/")[0].removesuffix(".py")

    @property
    def in_family(self) -> bool:
        return (self.file.parent / "base.py").exists()

    @property
    def is_torch_free(self) -> bool:
        """Whether it has to load without torch. Looking for families loads every `__init__`, so they have to."""
        return (
            self.floor in TORCH_FREE_FLOORS
            or self.file.name == "__init__.py"
            or self.file.name.endswith("recipes.py")
            or (self.in_family and not self.file.name.startswith("_"))
        )

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.file.read_text(encoding="utf-8"), filename=self.where)

    @property
    def imports(self) -> list[Import]:
        return list(self._imports_in(self.tree, at_load=True))

    def _imports_in(self, node: ast.AST, at_load: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_load) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                source = self._absolute(child)
                yield from (Import(f"{source}.{alias.name}", child.lineno, at_load) for alias in child.names)
            elif isinstance(child, ast.Constant) and isinstance(child.value, str):
                if re.fullmatch(r"etude(\.\w+){2,}(:\w+)?", child.value):  # does="etude.train.work:train"
                    yield Import(child.value.partition(":")[0], child.lineno, at_load=False)
            elif isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name) and child.value.id == "etude":
                yield Import(f"etude.{child.attr}", child.lineno, at_load)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from self._imports_in(child, at_load=False)
            else:
                inside = isinstance(child, Function | ast.Lambda)
                yield from self._imports_in(child, at_load and not inside)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".") if self.file.name == "__init__.py" else self.name.split(".")[:-1]
        return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def modules(root: Path) -> list[Module]:
    """Return every module of a tree."""
    return [Module(root, file) for file in sorted(root.rglob("*.py"))]


def public_definitions(module: Module) -> Iterator[ast.ClassDef | Function]:
    """Yield the classes and functions of a module, and their methods, that others may use."""
    bodies = [module.tree.body]
    while bodies:
        for node in bodies.pop():
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                yield node
                bodies += [node.body] if isinstance(node, ast.ClassDef) else []


def arrows(root: Path) -> Iterator[str]:
    """An import, or a string that names a module, against the table."""
    for module in modules(root):
        here = module.floor
        if here in ("__init__", "__main__"):  # the top is lazy and may name anything
            continue
        if here not in TIER_OF:
            yield f"{module.where}: {here} is no floor of the table"
            continue
        for found in module.imports:
            top, _, rest = found.name.partition(".")
            there = rest.partition(".")[0]
            if top != "etude" or not rest or there.startswith("__"):
                continue
            if there not in TIER_OF:
                yield f"{module.where}:{found.line}: imports {found.name}, which is on no floor; name its home"
            elif there != here and TIER_OF[there] >= TIER_OF[here]:
                yield f"{module.where}:{found.line}: {here} imports {there}"


def torch_at_load(root: Path) -> Iterator[str]:
    """Torch imported as a module loads that has to load without it: quiet floors, recipes, family members."""
    for module in modules(root):
        heavy = {found.name.partition(".")[0] for found in module.imports if found.at_load} & HEAVY
        if module.is_torch_free and heavy:
            yield f"{module.where}: imports {', '.join(sorted(heavy))} as it loads; import it where it is used"


def vague_names(root: Path) -> Iterator[str]:
    """A file that may hold anything."""
    yield from (f"{module.where}: name it for its idea" for module in modules(root) if module.file.name in VAGUE_NAMES)


def long_files(root: Path) -> Iterator[str]:
    """A file that holds two ideas."""
    texts = [file for file in sorted(root.rglob("*")) if file.suffix in (".py", ".md", ".html", ".css", ".js")]
    for file in texts:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            yield f"{file.relative_to(root).as_posix()}: {lines} lines, at most {MOST_LINES}"


def unkept_families(root: Path) -> Iterator[str]:
    """A family without its README, or whose members have too much to write."""
    for base in (module for module in modules(root) if module.file.name == "base.py"):
        if not (base.file.parent / "README.md").exists():
            yield f"{base.where}: no README.md beside it says how to add a member"
        for cls in (node for node in base.tree.body if isinstance(node, ast.ClassDef)):
            methods = [node for node in cls.body if isinstance(node, Function)]
            abstract = [m for m in methods if any("abstractmethod" in ast.unparse(d) for d in m.decorator_list)]
            if len(abstract) > MOST_ABSTRACT:
                yield f"{base.where}: {cls.name} has {len(abstract)} abstract methods, at most {MOST_ABSTRACT}"
            yield from (f"{base.where}: {cls.name}.{m.name} has no docstring" for m in abstract if not has_docstring(m))


def has_docstring(node: ast.Module | ast.ClassDef | Function) -> bool:
    return bool(ast.get_docstring(node))


def undocumented(root: Path) -> Iterator[str]:
    """A module, or a class or function at its top, that does not say what it is for. (Methods may override.)"""
    for module in modules(root):
        if not has_docstring(module.tree):
            yield f"{module.where}: no docstring"
        for node in public_definitions(module):
            if node in module.tree.body and not has_docstring(node):
                yield f"{module.where}:{node.lineno}: {node.name} has no docstring"


def untyped(root: Path) -> Iterator[str]:
    """A public function or method with a parameter or result that has no type."""
    for module in modules(root):
        for node in public_definitions(module):
            if isinstance(node, Function):
                named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                every = named + [a for a in (node.args.vararg, node.args.kwarg) if a]
                bare = [a.arg for a in every if a.annotation is None and a.arg not in ("self", "cls")]
                bare += [] if node.returns else ["its result"]
                yield from (f"{module.where}:{node.lineno}: {node.name}: {name} has no type" for name in bare)


POLICIES: tuple[Callable[[Path], Iterable[str]], ...] = (
    arrows,
    torch_at_load,
    vague_names,
    long_files,
    unkept_families,
    undocumented,
    untyped,
)

# policy, the planted files, and what each complaint must say
PLANTED = [
    (arrows, {"core/a.py": "import etude.text.store"}, ["core imports text"]),
    (arrows, {"report/a.py": "def f():\n    from etude.text import store"}, ["report imports text"]),
    (arrows, {"interp/a.py": "from etude import compress"}, ["interp imports compress"]),
    (arrows, {"nn/a.py": "if TYPE_CHECKING:\n    from etude.models.load import load"}, ["nn imports models"]),
    (arrows, {"evals/a.py": "from ..train import loop"}, ["evals imports train"]),
    (arrows, {"text/recipes.py": "class A(Recipe, does='etude.train.work:train'): ..."}, ["text imports train"]),
    (arrows, {"studies/a.py": "import etude\nlook = etude.look"}, ["imports etude.look, which is on no floor"]),
    (arrows, {"practice/a.py": "import etude\nlook = etude.studies"}, ["practice imports studies"]),
    (arrows, {"attic/a.py": ""}, ["attic is no floor"]),
    (torch_at_load, {"studies/a.py": "import torch.nn"}, ["imports torch"]),
    (torch_at_load, {"train/recipes.py": "try:\n    from torch import Tensor\nfinally: ..."}, ["imports torch"]),
    (torch_at_load, {"nn/x/base.py": "", "nn/x/m.py": "class A:\n    import torch"}, ["nn/x/m.py: imports torch"]),
    (torch_at_load, {"nn/__init__.py": "import torch"}, ["nn/__init__.py: imports torch"]),
    (vague_names, {"core/utils.py": ""}, ["core/utils.py"]),
    (long_files, {"core/a.py": "\n" * 401, "report/page.css": "\n" * 500}, ["401 lines", "500 lines"]),
    (
        unkept_families,
        {"nn/x/base.py": "class A:" + "".join(f"\n @abstractmethod\n def f{i}(self): 'doc'" for i in range(4))},
        ["no README.md", "4 abstract methods"],
    ),
    (undocumented, {"core/a.py": "'''A.'''\ndef f(): ...\nclass C: ...\ndef _g(): ..."}, ["f has no", "C has no"]),
    (untyped, {"core/a.py": "class C:\n def f(self, x, *y: int): ..."}, ["f: x has no type", "f: its result"]),
]

ALLOWED = {
    "core/a.py": "'''A.'''\nimport etude\nhere = etude.__path__",
    "text/a.py": "'''A.'''\nfrom etude.core import spec\nif TYPE_CHECKING:\n    import torch",
    "nn/a.py": "'''A.'''\nimport torch\nfrom . import b",
    "nn/x/base.py": "'''A.'''\nclass A:\n 'A.'",
    "nn/x/README.md": "How to add one.",
    "nn/x/_parts.py": "'''A.'''\nimport torch",
    "studies/a.py": "'''A.'''\ndef f(x: int) -> None:\n    'F.'\n    import torch\n    from etude.compress import a",
    "__init__.py": "'''Top.'''\nHOMES = {'look': 'etude.nn.taps'}",
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for path, source in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(source, encoding="utf-8")
    return root


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_the_house_keeps(policy: Callable[[Path], Iterable[str]]) -> None:
    complaints = list(policy(ROOT))
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize(("policy", "files", "expected"), PLANTED)
def test_a_violation_is_found(
    policy: Callable[[Path], Iterable[str]], files: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    complaints = list(policy(plant(tmp_path, files)))
    assert len(complaints) == len(expected)
    assert all(words in found for words, found in zip(expected, complaints, strict=True)), complaints


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_what_is_allowed_passes(policy: Callable[[Path], Iterable[str]], tmp_path: Path) -> None:
    assert list(policy(plant(tmp_path, ALLOWED))) == []


def test_every_policy_is_shown_a_violation() -> None:
    assert {policy for policy, _, _ in PLANTED} == set(POLICIES)


def test_the_walk_sees_the_house() -> None:
    seen = modules(ROOT)
    assert {"core/spec.py", "core/recipe.py", "core/family.py"} <= {module.where for module in seen}
    assert {module.floor for module in seen} >= {"core"}
    imported = {found.name for module in seen for found in module.imports}
    assert "etude.core.errors.UsageError" in imported


LOAD = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert "torch" not in sys.modules, f"importing {name} imports torch"
"""
LIST = """
from etude.core.family import families
from etude.core.recipe import kinds
kinds()
members = [member for family in families().values() for member in (family.base(), *family)]
assert "torch" not in sys.modules, "listing kinds and families imports torch"
"""


def in_a_new_python(code: str, names: list[str], path: Path | None = None) -> str:
    """Run code in an interpreter of its own and return the last line of its traceback, or nothing."""
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, cwd=path)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def test_torch_stays_away_until_it_is_needed() -> None:
    """Every torch-free module, one by one, then what `etude list` asks for; imports of imports count."""
    quiet = [module.name for module in modules(ROOT) if module.is_torch_free]
    assert len(quiet) > 10
    assert in_a_new_python(LOAD + LIST, quiet) == ""


def test_torch_behind_another_module_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {"torch.py": "", "near.py": "import far", "far.py": "import torch", "none.py": ""})
    assert in_a_new_python(LOAD, ["none", "near"], tmp_path) == "AssertionError: importing near imports torch"
    assert in_a_new_python(LOAD, ["none"], tmp_path) == ""


def test_the_wheel_holds_what_is_not_python() -> None:
    from hatchling.builders.wheel import WheelBuilder

    builder = WheelBuilder(str(ROOT.parents[1]))
    shipped = {Path(file.path).resolve() for file in builder.recurse_included_files()}
    wanted = {file for file in ROOT.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert ROOT / "py.typed" in shipped
    assert wanted <= shipped, sorted(map(str, wanted - shipped))


def test_shapes_are_checked_while_the_tests_run_and_compiling_still_works() -> None:
    import torch
    from jaxtyping import TypeCheckError

    from etude.nn.dot_product import attention_scores

    q, k = torch.zeros(1, 2, 4), torch.zeros(1, 3, 4)
    with pytest.raises(TypeCheckError, match="parameter 'k'"):
        attention_scores(q, torch.zeros(1, 3, 5))
    compiled = torch.compile(attention_scores, fullgraph=True, backend="eager")
    assert torch.equal(compiled(q, k), attention_scores(q, k))
