"""List what vltk has, or what it made in a folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vltk.config import argument, listing, option, recipes
from vltk.config.settings import read_settings
from vltk.errors import UsageError

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
    """List what vltk has: tasks, formats of feature stores, commands, models, recipes; or what stands in a folder.

    Each name is what the command line takes, with the sentence that its file says about itself; recipes also name their
    task and model. With --folder the stores, runs, results and drawn worlds below a folder are listed, with what they
    hold and whether they are complete.

    Examples:
        $ vltk ls
        $ vltk ls formats
        $ vltk ls recipes --json
        $ vltk ls --folder runs
    """

    what: Literal["tasks", "formats", "commands", "recipes", "models"] | None = argument(None)
    """What to list; everything without it."""
    folder: Path | None = option(None, incidental=True)
    """List what stands in this folder and below it instead."""


def run(config: LsConfig, terminal: Terminal) -> dict[str, object]:
    """Return the names of each kind with a sentence, or what a folder holds."""
    if config.folder is not None:
        if config.what is not None:
            raise UsageError("goes without a kind", where="--folder", remedy=f"leave out {config.what}")
        from vltk.commands._made import made_in

        return {"folder": str(config.folder), "made": [vars(one) for one in made_in(config.folder)]}
    kinds = [config.what] if config.what else [*PACKAGES, "recipes"]
    found = {kind: _recipes() if kind == "recipes" else _modules(PACKAGES[kind]) for kind in kinds}
    if terminal.json:
        return dict(found)
    return {kind: list(_rows(kind, names)) for kind, names in found.items()}


def _rows(kind: str, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    files = recipes() if kind == "recipes" else {}
    for name, sentence in names.items():
        settings = read_settings(files[name]) if name in files else {}
        told = {key: settings.get(key) for key in ("task", "model")} if files else {}
        yield {"name": name, **told, "what it is": sentence}


def _modules(package: str) -> dict[str, str]:
    found = {}
    for name in listing(package):
        shown = name.replace("_", "-") if package == PACKAGES["commands"] else name
        found[shown] = (ast.get_docstring(_tree(f"{package}.{name}")) or "").partition("\n")[0]
    return found


def _tree(module: str) -> ast.Module:
    """Return the syntax tree of a module without importing it: some bring torch."""
    spec = find_spec(module)
    return ast.parse(Path(spec.origin).read_text("utf-8") if spec and spec.origin else "")


def _recipes() -> dict[str, str]:
    return {name: _recipe_line(path) for name, path in recipes().items()}


def _recipe_line(path: Path) -> str:
    """Return what a recipe says about itself: its description, else the comment that it begins with."""
    first_line = path.read_text("utf-8").partition("\n")[0]
    comment = first_line.removeprefix("#").strip() if first_line.startswith("#") else ""
    return str(read_settings(path).get("description", comment))
