"""List what vltk has: tasks, formats, commands, recipes, models."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vltk.config import argument, listing, recipes
from vltk.config.settings import read_settings

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal

PACKAGES = {
    "tasks": "vltk.tasks",
    "formats": "vltk.stores.formats",
    "commands": "vltk.commands",
    "models": "vltk.models",
}


@dataclass(frozen=True, kw_only=True)
class LsConfig:
    """List what vltk has: tasks, formats of feature stores, commands, recipes, models.

    Each name is what the command line takes, with the sentence that its file says about itself.

    Examples:
        $ vltk ls
        $ vltk ls formats
        $ vltk ls tasks --json
    """

    what: Literal["tasks", "formats", "commands", "recipes", "models"] | None = argument(None)
    """What to list; everything without it."""


def run(config: LsConfig, terminal: Terminal) -> dict[str, object]:
    """Return the names of each kind with a sentence."""
    kinds = [config.what] if config.what else [*PACKAGES, "recipes"]
    return {kind: _recipes() if kind == "recipes" else _modules(PACKAGES[kind]) for kind in kinds}


def _modules(package: str) -> dict[str, str]:
    found = {}
    for name in listing(package):
        tree = _tree(f"{package}.{name}")
        # What several models share stands beside them; a model is a file that declares its configuration.
        if package != PACKAGES["models"] or any(_is_config(node) for node in tree.body):
            shown = name.replace("_", "-") if package == PACKAGES["commands"] else name
            found[shown] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def _tree(module: str) -> ast.Module:
    """Return the syntax tree of a module without importing it: some bring torch."""
    spec = find_spec(module)
    return ast.parse(Path(spec.origin).read_text("utf-8") if spec and spec.origin else "")


def _is_config(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and node.name.endswith("Config")


def _recipes() -> dict[str, str]:
    return {name: _recipe_line(path) for name, path in recipes().items()}


def _recipe_line(path: Path) -> str:
    """Return what a recipe says about itself: its description, else the comment that it begins with."""
    first_line = path.read_text("utf-8").partition("\n")[0]
    comment = first_line.removeprefix("#").strip() if first_line.startswith("#") else ""
    return str(read_settings(path).get("description", comment))
