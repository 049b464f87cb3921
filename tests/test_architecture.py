"""The house keeps its shape: imports point one way, heavy ones wait, functions fit a screen."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vltk"

# A room may import from rooms of a lower level and, unless it is a family of siblings, from its own.
LEVELS = [
    {"errors"},
    {"config", "types", "metrics"},
    {"stores"},
    {"language", "detection", "datasets"},
    {"batching", "optimization", "run_folder", "sharding"},
    {"mixture"},
    {"models"},
    {"objectives"},
    {"tasks", "recipes"},
    {"trainer", "evaluator", "rerank"},
    {"training_run"},
    {"pretraining", "finetuning", "isd"},
    {"evaluation", "probing"},
    {"reporting"},
    {"commands"},
    {"cli"},
]
SIBLINGS = {"tasks", "models"}
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# DESIGN promises that the foundation of one library stands in one file each, so that it can be exchanged.
ONE_FILE_LIBRARIES = {
    "lmdb": "stores/lmdb_env.py",
    "accelerate": "trainer.py",
    "stanza": "language/parsing.py",
    "fairseq": "language/_fairseq_library.py",
}
HEAVY = {"torch", "numpy", "transformers", "stanza", "lmdb", "PIL", "accelerate"}
LONGEST_FUNCTION = 60

MODULES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text("utf-8")) for path in MODULES}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def label(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every imported module as a dotted name, ``from a import b`` as ``a.b``, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names if node.level == 0)


def module_level_imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Like :func:`imports`, without functions' bodies and without ``if TYPE_CHECKING``."""
    for node in tree.body:
        skipped = isinstance(node, ast.FunctionDef | ast.ClassDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if not skipped:
            yield from imports(node)


def may_import(own: str, other: str, *, same_private: bool) -> bool:
    if own == other:
        return own not in SIBLINGS or same_private
    return LEVEL[other] < LEVEL[own]


def test_every_room_has_a_level() -> None:
    rooms = {room_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert rooms <= LEVEL.keys()


def test_the_figure_of_the_rooms_shows_them_in_their_order() -> None:
    drawn = re.findall(r'y="(\d+)"[^>]*>(\w+)</text>', (ROOT / "assets" / "architecture.svg").read_text("utf-8"))
    height = {name: int(y) for y, name in drawn if name in LEVEL}
    rows = sorted({height.get(room, 0) for room in LEVEL}, reverse=True)
    assert {room: rows.index(height.get(room, 0)) for room in LEVEL} == LEVEL


def test_imports_point_one_way() -> None:
    wrong = []
    for path, tree in TREES.items():
        own = room_of(path)
        for name, line in imports(tree):
            parts = name.split(".")
            if parts[0] != "vltk" or len(parts) < 2 or parts[1] not in LEVEL or own not in LEVEL:
                continue
            private = len(parts) > 2 and parts[2].startswith("_")
            if not may_import(own, parts[1], same_private=private or path.name == "__init__.py"):
                wrong.append(f"{label(path)}:{line} imports {name}")
    assert wrong == []


def test_relative_imports_are_not_used() -> None:
    found = [
        f"{label(path)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == [], "absolute names keep the import rule readable"


@pytest.mark.parametrize("library", ONE_FILE_LIBRARIES)
def test_a_foundation_is_imported_in_one_file(library: str) -> None:
    users = {label(path) for path, tree in TREES.items() for name, _ in imports(tree) if name.split(".")[0] == library}
    home = ONE_FILE_LIBRARIES[library]
    assert len(users) <= 1
    assert home is None or users <= {home}


def test_heavy_libraries_wait_until_a_command_runs() -> None:
    light = [path for path in MODULES if room_of(path) in {"cli", "config", "commands"}]
    early = [
        f"{label(path)}:{line} imports {name}"
        for path in light
        for name, line in module_level_imports(TREES[path])
        if name.split(".")[0] in HEAVY
    ]
    assert (len(light) > 3, early) == (True, [])


def test_help_starts_without_heavy_libraries() -> None:
    code = (
        "import sys\nfrom vltk.cli import main\nsys.argv = ['vltk', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('loaded:', sorted({HEAVY!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def test_functions_fit_a_screen() -> None:
    sizes = {f"{label(path)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1 for path, node in functions()}
    assert {name: size for name, size in sizes.items() if size > LONGEST_FUNCTION} == {}


def test_the_library_never_asserts_and_never_prints() -> None:
    found = [
        f"{label(path)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
    ]
    assert found == []


def test_names_say_what_a_module_is_about() -> None:
    vague = {"utils", "util", "common", "misc", "helpers", "helper", "manager"}
    assert [label(path) for path in MODULES if path.stem.strip("_") in vague] == []


@pytest.mark.parametrize("forbidden", ["torch.load(", "np.load(", "pickle.load"])
def test_no_pickle_is_executed(forbidden: str) -> None:
    safe = {"torch.load(": "weights_only=True", "np.load(": "allow_pickle=False", "pickle.load": None}[forbidden]
    calls = [
        f"{label(path)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and f"{ast.unparse(node.func)}(".startswith(forbidden)
        and (safe is None or safe not in ast.unparse(node))
    ]
    assert calls == []
