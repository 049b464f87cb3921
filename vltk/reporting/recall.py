"""What was measured, with intervals: recalls in both directions, or the metrics of a task that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vltk.metrics.retrieval import DIRECTIONS, RECALLS
from vltk.reporting.charts import Mark, interval_chart
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.page import Figures, Section, definitions, folded, missing, paragraph, table

WAYS = {"t2i": "text to image", "i2t": "image to text"}
_BLIND = " (blind)"
_MOST = 14
Pair = tuple[Evidence, Measured]


def evaluations(runs: Sequence[Evidence]) -> list[list[Pair]]:
    """Return the evaluations of all runs, those of one task and split together."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for run in runs:
        for one in run.of("evaluation"):
            groups.setdefault((str(one.results.get("task")), one.split), []).append((run, one))
    return [part for group in groups.values() for part in _apart(group)]


def _apart(group: list[Pair]) -> list[list[Pair]]:
    """Return a group as it is, or by the name of its folders where a run was evaluated several times on one split."""
    if len({run.path for run, _ in group}) == len(group):
        return [group]
    parts: dict[str, list[Pair]] = {}
    for run, one in group:
        parts.setdefault(one.path.name, []).append((run, one))
    return list(parts.values())


def quality(runs: Sequence[Evidence]) -> Section:
    """Return the figures of every evaluation with 95 % intervals."""
    section = Section(key="quality", title="Quality")
    for group in evaluations(runs):
        section.parts.append(f"<h3>{heading(group)}</h3>\n")
        drawn = [*_recalls(group), *_others(group)]
        if drawn:
            section.parts.append(Figures(figures=drawn))
        section.parts.append(_table(group))
        card = group[0][1].results.get("protocol", {})
        section.parts.append(folded("Protocol", definitions((str(k), str(v)) for k, v in card.items())))
    for run in runs:
        if run.trained and not run.of("evaluation"):
            command = f"vltk eval {run.path} --examples STORE --features STORE"
            section.parts.append(missing(f"{run.name} has not been evaluated", command))
    return section


def heading(group: Sequence[Pair]) -> str:
    """Return what a group of evaluations is of, as HTML."""
    first = group[0][1]
    return f"{escape(str(first.results.get('task')))}, {escape(first.path.name)}"


def _recalls(group: Sequence[Pair]) -> list[Figure]:
    found = []
    for way in reversed(DIRECTIONS):
        rows = [(f"R@{k}", _marks(group, f"{way}_r{k}")) for k in RECALLS]
        if all(marks for _, marks in rows):
            ends = "; ".join(f"{label} {', '.join(mark.text for mark in marks)}" for label, marks in rows)
            count = next(one.metrics()[f"{way}_r1"]["n"] for _, one in group if f"{way}_r1" in one.metrics())
            found.append(
                interval_chart(
                    rows,
                    name=f"recall-{way}-{group[0][1].path.name}",
                    title=f"Recall, {WAYS[way]}",
                    subtitle=f"percent of {count:,} queries, 95 % interval over images",
                    alt=f"Recall {WAYS[way]} in percent: {ends}.",
                    bounds=(0, 100),
                )
            )
    return found


def _others(group: Sequence[Pair]) -> list[Figure]:
    """Return a figure of everything that is a share and no recall."""
    recalls = {f"{way}_r{k}" for way in DIRECTIONS for k in RECALLS} | {"rsum"}
    shares = dict.fromkeys(
        name
        for _, one in group
        for name, row in one.metrics().items()
        if row.get("unit") in ("fraction", "percent") and name not in recalls and " as " not in name
    )
    # Of predictions without sight the overall figure is enough.
    names = [name for name in shares if not name.endswith(_BLIND) or name.count(" ") == 1][:_MOST]
    if not names:
        return []
    rows = [(name, _marks(group, name)) for name in names]
    ends = "; ".join(f"{label} {', '.join(mark.text for mark in marks)}" for label, marks in rows)
    title = f"Quality, {group[0][1].path.name}"
    figure = interval_chart(
        rows,
        name=f"quality-{group[0][1].path.name}",
        title=title,
        subtitle="percent, 95 % interval",
        alt=f"{title}, in percent: {ends}.",
        bounds=(0, 100),
    )
    return [figure]


def _marks(group: Sequence[Pair], name: str) -> list[Mark]:
    found = []
    for run, one in group:
        row = one.metrics().get(name)
        if row is not None:
            factor = 100 if row.get("unit") == "fraction" else 1
            ends = row.get("interval_95")
            interval = None if ends is None else (factor * ends[0], factor * ends[1])
            value = factor * float(row["value"])
            found.append(Mark(colour=run.colour, value=value, interval=interval, text=f"{value:.1f}"))
    return found


def _table(group: Sequence[Pair]) -> str:
    names = dict.fromkeys(name for _, one in group for name in one.metrics())
    headings = ["metric", "n", *(run.name for run, _ in group)]
    rows = []
    for name in names:
        cells = [one.metrics().get(name) for _, one in group]
        count = next(f"{row['n']:,}" for row in cells if row is not None)
        rows.append([name, count, *("" if row is None else figure_text(row) for row in cells)])
    note = ""
    if any(one.config.get("limit") for _, one in group):
        note = paragraph("Measured on a part of the split only (--limit).", kind="note")
    drawn = table(headings, rows, numeric=range(1, len(headings)))
    return (drawn if len(rows) <= _MOST else folded(f"All {len(rows)} figures", drawn)) + note


def figure_text(row: Mapping[str, Any]) -> str:
    """Return a figure with its interval.

    Example:
        >>> figure_text({"value": 0.5, "unit": "fraction", "interval_95": [0.4, 0.6]})
        '50.0 % [40.0, 60.0]'
    """
    unit, ends = row.get("unit"), row.get("interval_95")
    factor, digits = (100, 1) if unit == "fraction" else (1, 1 if unit == "percent" else 4 if unit == "nats" else 2)
    sign = " %" if unit in ("fraction", "percent") and row.get("metric") != "rsum" else ""
    told = f"{factor * row['value']:.{digits}f}{sign}"
    return told if ends is None else f"{told} [{factor * ends[0]:.{digits}f}, {factor * ends[1]:.{digits}f}]"
