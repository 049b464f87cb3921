"""ISDa over the checkpoints of a run, beside the quality that was measured there (IAIS, figure 3)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vltk.errors import DataError, UsageError, did_you_mean
from vltk.metrics.isd import correlation
from vltk.run_folder import METRICS, WEIGHTS, read_about

_PREFIX = "validation "
# What the sum of recalls is called where a run measured it (Meta-Sum in the paper).
_SUMS = ("metasum", "rsum")


@dataclass(frozen=True, kw_only=True)
class Point:
    """A checkpoint of a run.

    Attributes:
        step: updates before it was written.
        path: its folder.
        quality: what a validation at that step came to, or None where there was none.
    """

    step: int
    path: Path
    quality: float | None


def points_of(run: Path, quality: str | None = None) -> tuple[str | None, list[Point]]:
    """Return the checkpoints of a run by their steps, each step once, and what their quality is called.

    Checkpoints are ``last``, ``best`` and those that training kept with ``--keep-every``.

    Args:
        run: folder of the run.
        quality: name of a figure of the run's validations; the sum of recalls where it is not given.

    Raises:
        DataError: it is no run, or has fewer than two checkpoints of different steps.
        UsageError: no validation has a figure of that name.
    """
    found: dict[int, Path] = {}
    for file in sorted(run.glob(f"*/{WEIGHTS}")):
        step = read_about(file).get("step")
        if isinstance(step, int):
            found.setdefault(step, file.parent)
    if len(found) < 2:
        problem = f"has {len(found)} checkpoints that tell their step"
        raise DataError(problem, where=run, remedy="train with --keep-every N, or measure one without --curve")
    measured = _validations(run / METRICS)
    name = _named(quality, sorted({name for figures in measured.values() for name in figures}), run)
    qualities = {step: figures[name] for step, figures in measured.items() if name in figures}
    return name, [Point(step=step, path=found[step], quality=qualities.get(step)) for step in sorted(found)]


def _validations(path: Path) -> dict[int, dict[str, float]]:
    """Return the figures of each validation by its step."""
    found: dict[int, dict[str, float]] = {}
    for text in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
            figures = {key.removeprefix(_PREFIX): float(line[key]) for key in line if key.startswith(_PREFIX)}
            found.setdefault(int(line["step"]), {}).update(figures)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a line that a kill cut short
    return found


def _named(wanted: str | None, known: Sequence[str], run: Path) -> str | None:
    if wanted is not None and wanted not in known:
        remedy = did_you_mean(wanted, known) if known else "train with --validate-every"
        raise UsageError(f"no validation of {run} has a figure {wanted!r}", where="--quality", remedy=remedy)
    plain = {"".join(filter(str.isalpha, name)).lower(): name for name in known}
    return wanted or next((name for short, name in plain.items() if short.endswith(_SUMS)), None)


def curve(name: str | None, points: Sequence[Point], figures: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the table of a curve, and how closely its distances go together with the quality.

    Args:
        name: what the quality is called.
        points: the checkpoints.
        figures: for each its distances by name, e.g. "ISDa".
    """
    rows = [
        {"step": point.step, "checkpoint": point.path.name, **told, **({} if name is None else {name: point.quality})}
        for point, told in zip(points, figures, strict=True)
    ]
    found: dict[str, Any] = {}
    for figure in figures[0] if name is not None else ():
        pairs = [(told[figure], p.quality) for p, told in zip(points, figures, strict=True) if p.quality is not None]
        one = correlation([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        found[f"{figure} with {name}"] = {"pearson": None, "n": len(pairs)} if one is None else asdict(one)
    return {"checkpoints": rows, "correlation": found}
