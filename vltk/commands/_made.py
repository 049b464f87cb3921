"""What vltk made in a folder: stores, runs, results, drawn worlds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vltk.errors import UsageError, VltkError

_DEEPEST = 6


@dataclass(frozen=True, kw_only=True)
class Made:
    """One thing that vltk made.

    Attributes:
        path: where.
        kind: feature store, example store, run, results, or world.
        holds: what is in it.
        state: complete, unfinished, or what is wrong with it.
    """

    path: str
    kind: str
    holds: str
    state: str


def made_in(folder: Path) -> list[Made]:
    """Return what vltk made in a folder and below it, by path.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError("is no folder", where=folder, remedy="name one that holds runs or stores")
    return sorted(_found(folder, 0), key=lambda one: one.path)


def _found(folder: Path, depth: int) -> Iterator[Made]:
    known = _known(folder)
    if known is not None:
        yield known
    if depth < _DEEPEST and (known is None or known.kind == "run"):
        for below in sorted(folder.iterdir()):
            if below.is_dir() and not below.is_symlink():
                yield from _found(below, depth + 1)


def _known(folder: Path) -> Made | None:
    """Return what a folder itself is; None where it is nothing of vltk's."""
    if (folder / "data.mdb").is_file():
        return _store(folder)
    if (folder / "world.json").is_file():
        drawn = _read(folder / "world.json").get("images", {})
        holds = ", ".join(f"{count} {split}" for split, count in drawn.items()) if isinstance(drawn, dict) else ""
        return Made(path=str(folder), kind="world", holds=holds or "pictures", state="complete")
    if (folder / "config.json").is_file():
        return _run(folder)
    return None


def _store(folder: Path) -> Made | None:
    from vltk.stores.record_store import read_header

    try:
        header = read_header(folder)
    except VltkError as error:
        return Made(path=str(folder), kind="LMDB", holds="-", state=error.problem)
    kind = f"{header.schema.rpartition('.')[2].removesuffix('s')} store"
    told = [str(header.metadata[name]) for name in ("task", "split", "detector", "preset") if header.metadata.get(name)]
    holds = ", ".join([f"{header.count} records", *told])
    return Made(path=str(folder), kind=kind, holds=holds, state="complete" if header.complete else "unfinished")


def _run(folder: Path) -> Made | None:
    config, results = _read(folder / "config.json"), _read(folder / "results.json")
    if "config" not in config:  # a model of another program
        return None
    trained = "steps" in results or (folder / "metrics.jsonl").is_file() or "training" in config["config"]
    metrics = results.get("metrics") or []
    figures = [f"{row['metric']} {row['value']:.4g}" for row in metrics if isinstance(row, dict)][:3]
    task = str(config["config"].get("task") or results.get("task") or "")
    steps = f"{results['steps']} updates" if "steps" in results else ""
    return Made(
        path=str(folder),
        kind="run" if trained else "results",
        holds=", ".join(part for part in (task, steps, *figures) if part) or "-",
        state="complete" if results else "unfinished",
    )


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one where there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
