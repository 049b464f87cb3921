"""Learning curves: losses and validations of all runs over their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vltk.reporting.charts import Trace, line_chart
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence
from vltk.reporting.notation import PLAIN, Unit, bare, metric_name, unit_of
from vltk.reporting.page import Figures, Section, missing

VALIDATION = "validation "
_BESIDE = ("examples", "seconds", "examples per second")
_PACE = ("rate", "gradient norm")
_RECALLS = ("rsum", "t2i_r1", "i2t_r1")
_NAMES = {"rate": "Learning rate", "gradient norm": "Gradient norm"}
_POINTS = 200
_MOST = 6
_FACTOR = 30
"""Where the largest value of a curve is so many times the least, steps of its axis are factors."""
_INTRO = (
    "How training went, step by step (a step is one update of the weights). A loss is what training makes small; it "
    "has the name of its objective, and losses of different objectives cannot be compared with each other. Validation "
    "is measured on examples that are not learnt from."
)


def learning(runs: Sequence[Evidence]) -> Section:
    """Return one figure a column of ``metrics.jsonl`` that has points to join, with a line for each run that has it."""
    section = Section(key="learning", title="Learning", intro=_INTRO)
    losses, validations, pace = _columns(runs)
    drawn = [figure for name in (*losses, *validations, *pace) if (figure := _figure(name, runs)) is not None]
    if drawn:
        section.parts.append(Figures(figures=drawn))
    if not any(run.trained for run in runs):
        return section
    if not section.parts:
        section.parts.append(missing("No run has learning curves", "vltk finetune --task T --out RUN"))
    elif not validations:
        option = "vltk finetune ... --validation-examples STORE --validate-every N"
        section.parts.append(missing("No run was measured while it learnt", option))
    return section


def _columns(runs: Sequence[Evidence]) -> tuple[list[str], list[str], list[str]]:
    names = dict.fromkeys(name for run in runs for line in run.journal for name in line if name != "step")
    losses = [name for name in names if not name.startswith(VALIDATION) and name not in (*_BESIDE, *_PACE)]
    validations = [name for name in names if name.startswith(VALIDATION)]
    recalls = [VALIDATION + name for name in _RECALLS if VALIDATION + name in validations]
    # Of a task's figures those of all examples, not those of each kind.
    whole = recalls or [name for name in validations if " of " not in name]
    return losses[: 2 * _MOST], (whole or validations)[:_MOST], [name for name in _PACE if name in names]


def _figure(name: str, runs: Sequence[Evidence]) -> Figure | None:
    """Draw a column of all runs; None where no run has two points of it."""
    validation = name.startswith(VALIDATION)
    plain = name.removeprefix(VALIDATION)
    unit = _unit(plain, runs) if validation else PLAIN
    traces = [trace for run in runs if (trace := _trace(name, run, unit.factor)) is not None]
    if all(len(trace.x) < 2 for trace in traces):
        return None
    title = f"Validation: {metric_name(plain)}" if validation else _NAMES.get(name, f"Training loss: {name}")
    ends = "; ".join(f"{trace.label} ends at {bare(trace.y[-1])}" for trace in traces)
    values = [value for trace in traces for value in trace.y]
    steep = not validation and name != "rate" and min(values) > 0 and max(values) > _FACTOR * min(values)
    subtitle = unit.name if validation else "" if name == "rate" else "mean since the last point"
    return line_chart(
        traces,
        name=f"learning-{name.replace(' ', '-')}",
        title=title,
        alt=f"{title} over the steps of training: {ends}.",
        x_label="step",
        subtitle=f"{subtitle}; equal steps are equal factors" if steep else subtitle,
        zero=not validation and not steep,
        by_powers=steep,
    )


def _unit(metric: str, runs: Sequence[Evidence]) -> Unit:
    """Return what a validation counts, as some receipt says; journals do not say it."""
    receipts = [row for run in runs for one in run.of("evaluation") for row in one.metrics().values()]
    receipts += [row for run in runs for row in run.results.get("metrics") or () if isinstance(row, Mapping)]
    found = next((row for row in receipts if row.get("metric") == metric), None)
    if found is None and metric.startswith(("t2i", "i2t", "rsum")):
        found = {"metric": metric, "unit": "rank" if "rank" in metric else "percent"}
    return PLAIN if found is None else unit_of(found)


def _trace(name: str, run: Evidence, factor: float) -> Trace | None:
    points = [
        (float(line["step"]), factor * value) for line in run.journal if (value := _value(line, name)) is not None
    ]
    if not points:
        return None
    pairs = np.array(sorted(points))
    if len(pairs) > _POINTS:
        pairs = np.array([part.mean(axis=0) for part in np.array_split(pairs, _POINTS)])
    x, y = pairs.T.tolist()
    return Trace(label=run.name, x=x, y=y, colour=run.colour, dots=len(x) <= 12)


def _value(line: Mapping[str, Any], name: str) -> float | None:
    value = line.get(name)
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None
