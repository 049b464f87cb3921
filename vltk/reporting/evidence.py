"""What a run's folder holds: its settings, its figures as it went, and everything that was measured of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vltk.errors import DataError, UsageError
from vltk.reporting.palette import SERIES
from vltk.run_folder import CONFIG, METRICS, RESULTS

Kind = Literal["training", "evaluation", "distance", "curve", "probe"]
UNITER = "uniter"
"""The model of a run that says nothing of it."""
_DEPTH = 3


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A folder with a receipt.

    Attributes:
        path: the folder.
        kind: an evaluation, the distance of relations (``vltk isd``), that of every checkpoint, or a probe.
        results: the receipt.
        config: what was asked for, with every path.
    """

    path: Path
    kind: Kind
    results: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def split(self) -> str:
        """What tells one split from another: its hash, else its name."""
        return str(self.results.get("protocol", {}).get("split", self.path.name))

    def metrics(self) -> dict[str, Mapping[str, Any]]:
        """Return the rows of the receipt by metric, those that hold a number."""
        rows = self.results.get("metrics") or []
        return {
            str(row.get("metric")): row
            for row in rows
            if isinstance(row, Mapping) and isinstance(row.get("value"), int | float) and isinstance(row.get("n"), int)
        }

    def paths(self, name: str) -> tuple[Path, ...]:
        """Return the stores that an option named; none where it did not."""
        given = self.config.get(name) or ()
        return tuple(Path(one) for one in ([given] if isinstance(given, str) else given))


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A run, or a measurement of something that is no run.

    Attributes:
        path: the folder.
        name: what it is called on the page.
        colour: number of its colour.
        config: ``config.json``; empty where there is none.
        results: the receipt of training; empty where it did not end, or nothing was trained.
        journal: lines of ``metrics.jsonl``.
        measured: what was measured, by path.
    """

    path: Path
    name: str
    colour: int = 0
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    journal: Sequence[Mapping[str, Any]]
    measured: tuple[Measured, ...]

    @property
    def trained(self) -> bool:
        """Whether this is a run, and not a measurement alone."""
        return bool(self.results) or bool(self.journal)

    @property
    def asked(self) -> Mapping[str, Any]:
        """Every setting, paths included."""
        return dict(self.config.get("all") or self.config.get("config") or {})

    @property
    def model(self) -> str:
        """What kind of model it is, e.g. "uniter", "ssrp" or "lxmert"."""
        measured = (one.results["model"] for one in self.measured if one.results.get("model"))
        told = self.asked.get("model") or next(measured, "")
        if not (told or self.trained) and Path(self.source, CONFIG).is_file():
            told = _json(Path(self.source, CONFIG)).get("all", {}).get("model")
        return str(told or UNITER).partition("-")[0]

    @property
    def source(self) -> str:
        """Where its weights are: its own folder, or what was measured."""
        if self.trained:
            return str(self.path)
        asked = str(self.asked.get("run") or "")
        found = located(Path(asked), self.path)
        return str(found) if asked and found.exists() else asked

    @property
    def shown(self) -> Measured | None:
        """What examples to look at are taken from: the last evaluation, else what else was measured of it."""
        others = [*self.of("distance"), *self.of("probe"), *self.of("curve")]
        return next(iter([*self.examples, *others]), None)

    def of(self, kind: Kind) -> list[Measured]:
        """Return what was measured of one kind."""
        return [one for one in self.measured if one.kind == kind]

    @property
    def examples(self) -> list[Measured]:
        """The evaluation that examples are shown of: the last one without a first stage, if there is any."""
        found = self.of("evaluation")
        alone = [one for one in found if not (one.config.get("how") or {}).get("rerank_from")]
        return (alone or found)[-1:]


def read_runs(paths: Sequence[Path]) -> list[Evidence]:
    """Read several runs, each with a name and a colour of its own.

    Raises:
        UsageError: none, too many, one twice, or a folder that is no run.
        DataError: a damaged file.
    """
    if not paths:
        raise UsageError("there is nothing to report on", remedy="name the folder of a run")
    if len(paths) > SERIES:
        problem = f"{len(paths)} runs are too many for one page"
        raise UsageError(problem, remedy=f"name up to {SERIES}; vltk compare takes any number")
    resolved = [path.resolve() for path in paths]
    twice = next((path for path, real in zip(paths, resolved, strict=True) if resolved.count(real) > 1), None)
    if twice is not None:
        raise UsageError("is named twice", where=twice, remedy="name each run once")
    found = _apart([read_run(path) for path in paths], lambda one: f"{one.path.resolve().parent.name}/{one.name}")
    # Several measurements of one model lie in one folder, and have the model's name.
    found = _apart(found, lambda one: one.path.resolve().name)
    return [replace(one, colour=place) for place, one in enumerate(found)]


def _apart(runs: Sequence[Evidence], name: Callable[[Evidence], str]) -> list[Evidence]:
    """Return runs of which those that share a name have another one."""
    names = [one.name for one in runs]
    return [replace(one, name=name(one)) if names.count(one.name) > 1 else one for one in runs]


def read_run(path: Path) -> Evidence:
    """Read the folder of a run, of an evaluation, of ``vltk isd`` or of a probe.

    Raises:
        UsageError: it is not there, or is none of these.
        DataError: a file of it is damaged.
    """
    if not path.is_dir():
        problem = "is a file" if path.exists() else "is not there"
        raise UsageError(problem, where=path, remedy="name the folder of a run, the --out of vltk finetune")
    config, results = _json(path / CONFIG), _json(path / RESULTS)
    own = _kind(results)
    inner = sorted(_measured(path), key=lambda one: str(one.path))
    journal = _journal(path / METRICS)
    if not config and not results:
        runs = [one.parent for one in sorted(path.glob(f"*/{CONFIG}"))]
        if runs:
            problem = f"is no run, but holds {len(runs)} ({', '.join(one.name for one in runs[:3])})"
            raise UsageError(problem, where=path, remedy=f"name them: vltk report {path}/*")
        problem = f"is no run: it holds neither {CONFIG} nor {RESULTS}"
        raise UsageError(problem, where=path, remedy="name the --out of vltk finetune, pretrain, eval or isd")
    if own is None or own == "training":
        name = path.resolve().name
        return Evidence(path=path, name=name, config=config, results=results, journal=journal, measured=tuple(inner))
    alone = Measured(path=path, kind=own, results=results, config=dict(config.get("all") or {}))
    of = str(alone.config.get("run") or path.resolve().name)
    return Evidence(path=path, name=Path(of).name, config=config, results={}, journal=[], measured=(alone, *inner))


def located(path: Path, beside: Path) -> Path:
    """Return a path that was written relative to some working folder: this one, or one above what it was written in."""
    if path.is_absolute() or path.exists():
        return path
    return next((parent / path for parent in beside.resolve().parents if (parent / path).exists()), path)


def _measured(path: Path) -> Iterator[Measured]:
    for depth in range(1, _DEPTH + 1):
        for file in path.glob("/".join([*["*"] * depth, RESULTS])):
            results = _json(file)
            kind = _kind(results)
            if kind is not None and kind != "training":
                config = _json(file.parent / CONFIG)
                yield Measured(path=file.parent, kind=kind, results=results, config=dict(config.get("all") or {}))


def _kind(results: Mapping[str, Any]) -> Kind | None:
    """Tell what a receipt is of by what it holds."""
    if results.get("task") == "probe":
        return "probe"
    if "steps" in results:
        return "training"
    if "checkpoints" in results and "weights" in results:
        return "curve"
    if "captions" in results and "weights" in results:
        return "distance"
    return "evaluation" if "metrics" in results and "protocol" in results else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="measure again") from error
    if not isinstance(found, dict):
        raise DataError(f"is {found!r:.40}, expected a JSON object", where=path, remedy="measure again")
    return found


def _journal(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # a line that a kill cut short
        if isinstance(line, dict) and isinstance(line.get("step"), int | float):
            lines.append(line)
    return lines
