"""Two runs side by side: what the paired test of ``vltk compare`` says."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from vltk.errors import VltkError
from vltk.reporting.charts import Mark, interval_chart
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence, Kind, Measured
from vltk.reporting.notation import LEVEL, Unit, gap_of, metric_name, probability, signed, unit_of
from vltk.reporting.page import Figures, Section, missing, paragraph, table
from vltk.reporting.recall import Pair, legend_of
from vltk.run_folder.comparison import Difference, compare
from vltk.run_folder.outcomes import OUTCOMES, read_outcomes

_KINDS: tuple[Kind, ...] = ("evaluation", "distance", "probe")
_INTRO = (
    "Each run against the first one, item by item: both answered the same examples, so that what is easy or hard for "
    "all cancels out. p is the probability of a difference as large as this by chance alone; Holm's correction is for "
    "testing several figures at once, and * marks what stays below 0.05 after it. Not to find a difference does not "
    "prove that there is none."
)


def differences(runs: Sequence[Evidence]) -> Section:
    """Return the differences of every run to the first one, item by item, where both were measured alike."""
    section = Section(key="differences", title="Paired comparison", intro=_INTRO)
    if len(runs) < 2:
        return section
    first = runs[0]
    for kind in _KINDS:
        for one in first.of(kind):
            others = _others((first, one), runs[1:], kind)
            if others and (one.path / OUTCOMES).is_file():
                _compared(section, (first, one), others, kind)
    if not section.parts:
        command = "vltk eval RUN --examples STORE --features STORE"
        section.parts.append(missing("The runs were not measured on one split and protocol", command))
    return section


def _others(first: Pair, runs: Sequence[Evidence], kind: Kind) -> list[Pair]:
    """Return for each other run what was measured on the first one's split, in a folder of its name if there is one.

    Where the first run was measured several times on the split (with a first stage and without), only equal names
    belong together.
    """
    run, one = first
    several = len(_alike(run, one, kind)) > 1
    found = []
    for other in runs:
        alike = [two for two in _alike(other, one, kind) if (two.path / OUTCOMES).is_file()]
        named = [two for two in alike if two.path.name == one.path.name]
        chosen = named or ([] if several else alike)
        found += [(other, chosen[-1])] if chosen else []
    return found


def _alike(run: Evidence, one: Measured, kind: Kind) -> list[Measured]:
    task, split = one.results.get("task"), one.split
    return [two for two in run.of(kind) if (two.results.get("task"), two.split) == (task, split)]


def _compared(section: Section, first: Pair, others: Sequence[Pair], kind: Kind) -> None:
    found: list[tuple[Evidence, list[Difference]]] = []
    for run, one in others:
        try:
            told = compare([read_outcomes(first[1].path)], [read_outcomes(one.path)])
        except VltkError as error:
            section.parts.append(paragraph(f"{run.name} cannot be compared: {error.problem}.", kind="missing"))
            continue
        found.append((run, told))
    if found:
        what = {"distance": "relation consistency", "probe": "dependency trees"}.get(kind, first[1].results.get("task"))
        name = f"{what}, {first[1].path.name}"
        section.parts.append(f"<h3>{escape(name)}</h3>\n")
        section.parts.append(paragraph(_finding(first[0], found), kind="note"))
        section.parts.append(Figures(figures=[_figure(first, found, kind)]))
        section.parts.extend(_table(first, run, told) for run, told in found)


def _figure(first: Pair, found: Sequence[tuple[Evidence, list[Difference]]], kind: Kind) -> Figure:
    names = [one.metric for one in found[0][1]]
    # The sum of six recalls has a scale of its own, on which the others cannot be read.
    names = [name for name in names if name != "rsum"] or names
    rows = []
    for name in names:
        unit = _unit(first[1], name)
        told = [(run, one) for run, several in found for one in several if one.metric == name]
        marks = [
            Mark(
                colour=run.colour,
                value=unit.factor * one.difference,
                interval=(unit.factor * one.interval_95[0], unit.factor * one.interval_95[1]),
                text=signed(unit.factor * one.difference, unit.digits) + ("*" if one.p_holm < LEVEL else ""),
            )
            for run, one in told
        ]
        rows.append((metric_name(name), marks))
    ends = "; ".join(f"{name} {', '.join(mark.text for mark in marks)}" for name, marks in rows)
    title, told_unit = f"Difference to {first[0].name}", gap_of(_unit(first[1], names[0]))
    return interval_chart(
        rows,
        name=f"difference-{kind}-{first[1].path.name}",
        title=title,
        subtitle=f"{told_unit}, 95 % interval; * p < 0.05 after Holm",
        alt=f"{title} in {told_unit}: {ends}.",
        reference=0,
        legend=legend_of(run for run, _ in found),
    )


def _unit(one: Measured, metric: str) -> Unit:
    """Return how a compared metric is written: as the receipt has it, which may call it otherwise."""
    row = one.metrics().get(metric) or one.metrics().get(metric_name(metric))
    return unit_of(row) if row is not None else unit_of({"metric": metric, "unit": "fraction"})


def _finding(first: Evidence, found: Sequence[tuple[Evidence, list[Difference]]]) -> str:
    """Say in a sentence what came out, also where nothing did."""
    told = []
    for run, several in found:
        sure = [metric_name(one.metric) for one in several if one.p_holm < LEVEL]
        what = f"differs from {first.name} in {'; '.join(sure)}" if sure else f"does not differ from {first.name}"
        told.append(f"{run.name} {what} beyond chance.")
    return f"{' '.join(told)} ({found[0][1][0].n:,} items.)"


def _table(first: Pair, run: Evidence, told: Sequence[Difference]) -> str:
    headings = ["figure", "unit", first[0].name, run.name, "difference [95 % interval]", "p", "p (Holm)", "test"]
    rows = []
    for one in told:
        unit = _unit(first[1], one.metric)
        difference, low, high = (
            signed(unit.factor * value, unit.digits) for value in (one.difference, *one.interval_95)
        )
        name = unit.name if gap_of(unit) == unit.name else f"{unit.name}, {gap_of(unit)}"
        values = [unit.text(value) for value in (one.first, one.second)]
        chances = [probability(one.p), probability(one.p_holm), one.test]
        rows.append([metric_name(one.metric), name, *values, f"{difference} [{low}, {high}]", *chances])
    return table(headings, rows, numeric=range(2, 7))
