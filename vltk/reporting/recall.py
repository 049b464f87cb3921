"""What was measured, with intervals: recalls in both directions, or the metrics of a task that answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from vltk.metrics.retrieval import DIRECTIONS, RECALLS
from vltk.reporting.charts import Mark, interval_chart
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.notation import figure_text, metric_name, unit_of
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
    groups = evaluations(runs)
    section = Section(key="quality", title="Quality", intro=_intro([one for group in groups for _, one in group]))
    for group in groups:
        section.parts.append(f"<h3>{heading(group)}</h3>\n")
        drawn = [*_recalls(group), *_others(group)]
        if drawn:
            section.parts.append(Figures(figures=drawn))
        section.parts.append(_table(group))
        card = group[0][1].results.get("protocol", {})
        section.parts.append(
            folded("Protocol", definitions((str(name).replace("_", " "), str(value)) for name, value in card.items()))
        )
    bare = [run for run in runs if run.trained and not run.of("evaluation")]
    if bare:
        where = str(bare[0].path) if len(bare) == 1 else "RUN"
        verb = "has" if len(bare) == 1 else "have"
        told = f"{', '.join(run.name for run in bare)} {verb} not been evaluated"
        section.parts.append(missing(told, f"vltk eval {where} --examples STORE --features STORE"))
    return section


def _intro(measured: Sequence[Measured]) -> str:
    """Say how figures are to be read; of recalls only where there are any."""
    if not measured:
        return ""
    told = (
        "How well each run does on examples that it did not learn from. A line through a dot is the 95 % confidence "
        "interval: with other examples of the same kind the figure could as well lie anywhere on it."
    )
    if not any("rsum" in one.metrics() for one in measured):
        return told
    return (
        f"{told} R@k (recall at k) is the percentage of queries whose right answer is among the first k that were "
        "found; text to image looks for the picture of a caption, image to text for a caption of a picture."
    )


def heading(group: Sequence[Pair]) -> str:
    """Return what a group of evaluations is of, as HTML."""
    first = group[0][1]
    return f"{escape(str(first.results.get('task')))}, evaluation {escape(first.path.name)}"


def legend_of(runs: Iterable[Evidence]) -> list[tuple[int, str]]:
    """Return the colour and name of each run, for a figure that stands alone."""
    return [(run.colour, run.name) for run in runs]


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
                    legend=legend_of(run for run, _ in group),
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
        legend=legend_of(run for run, _ in group),
    )
    return [figure]


def _marks(group: Sequence[Pair], name: str) -> list[Mark]:
    found = []
    for run, one in group:
        row = one.metrics().get(name)
        if row is not None:
            unit, ends = unit_of(row), row.get("interval_95")
            interval = None if ends is None else (unit.factor * ends[0], unit.factor * ends[1])
            value = unit.factor * float(row["value"])
            found.append(Mark(colour=run.colour, value=value, interval=interval, text=unit.text(row["value"])))
    return found


def _table(group: Sequence[Pair]) -> str:
    drawn, count = figures_table(group)
    note = ""
    if any(one.config.get("limit") for _, one in group):
        note = paragraph("Measured on a part of the split only (--limit).", kind="note")
    return (drawn if count <= _MOST else folded(f"All {count} figures", drawn)) + note


def figures_table(group: Sequence[Pair]) -> tuple[str, int]:
    """Return the figures of one measurement of several runs as a table with units, and how many rows it has."""
    names = dict.fromkeys(name for _, one in group for name in one.metrics())
    rows = []
    for name in names:
        cells = [one.metrics().get(name) for _, one in group]
        first = next(row for row in cells if row is not None)
        told = ("" if row is None else figure_text(row) for row in cells)
        rows.append([metric_name(name), unit_of(first).name, f"{first['n']:,}", *told])
    headings = ["figure [95 % interval]", "unit", "n", *(run.name for run, _ in group)]
    return table(headings, rows, numeric=range(2, len(headings))), len(rows)
