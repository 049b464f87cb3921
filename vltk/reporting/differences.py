"""Two runs side by side: what the paired test of ``vltk compare`` says."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from vltk.errors import VltkError
from vltk.isd.report import NAMES as _DISTANCES
from vltk.reporting.charts import Mark, interval_chart
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence, Kind, Measured
from vltk.reporting.page import Figures, Section, missing, paragraph, table
from vltk.reporting.recall import Pair
from vltk.run_folder.comparison import Difference, compare
from vltk.run_folder.outcomes import OUTCOMES, read_outcomes

_LEVEL = 0.05
_UNITS: dict[Kind, str] = {"evaluation": "points", "distance": "nats"}


def differences(runs: Sequence[Evidence]) -> Section:
    """Return the differences of every run to the first one, item by item, where both were measured alike."""
    section = Section(key="differences", title="Differences")
    if len(runs) < 2:
        return section
    first = runs[0]
    for kind in _UNITS:
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
        name = f"{first[1].results.get('task') or 'relations'}, {first[1].path.name}"
        section.parts.append(f"<h3>{escape(name)}</h3>\n")
        section.parts.append(paragraph(_finding(first[0], found), kind="note"))
        section.parts.append(Figures(figures=[_figure(first, found, kind)]))
        section.parts.extend(_table(first[0], run, told) for run, told in found)


def _figure(first: Pair, found: Sequence[tuple[Evidence, list[Difference]]], kind: Kind) -> Figure:
    names = [one.metric for one in found[0][1]]
    # The sum of six recalls has a scale of its own, on which the others cannot be read.
    names = [name for name in names if name != "rsum"] or names
    digits = 1 if kind == "evaluation" else 3
    rows = []
    for name in names:
        told = [(run, one) for run, several in found for one in several if one.metric == name]
        marks = [
            Mark(
                colour=run.colour,
                value=_scaled(one, one.difference),
                interval=(_scaled(one, one.interval_95[0]), _scaled(one, one.interval_95[1])),
                text=signed(_scaled(one, one.difference), digits) + ("*" if one.p_holm < _LEVEL else ""),
            )
            for run, one in told
        ]
        rows.append((_DISTANCES.get(name, name), marks))
    ends = "; ".join(f"{name} {', '.join(mark.text for mark in marks)}" for name, marks in rows)
    title = f"Difference to {first[0].name}"
    return interval_chart(
        rows,
        name=f"difference-{kind}-{first[1].path.name}",
        title=title,
        subtitle=f"{_UNITS[kind]}, 95 % interval; * p < 0.05 after Holm",
        alt=f"{title} in {_UNITS[kind]}: {ends}.",
        reference=0,
    )


def _scaled(one: Difference, value: float) -> float:
    """Return a difference in points where the figures are fractions."""
    fraction = one.p_mcnemar is not None and max(abs(one.first), abs(one.second)) <= 1 and "_r" not in one.metric
    return 100 * value if fraction else value


def _finding(first: Evidence, found: Sequence[tuple[Evidence, list[Difference]]]) -> str:
    """Say in a sentence what came out, also where nothing did."""
    told = []
    for run, several in found:
        sure = [_DISTANCES.get(one.metric, one.metric) for one in several if one.p_holm < _LEVEL]
        what = f"differs from {first.name} in {', '.join(sure)}" if sure else f"does not differ from {first.name}"
        told.append(f"{run.name} {what} beyond chance (n = {several[0].n:,}; p < 0.05 after Holm's correction).")
    return " ".join(told)


def _table(first: Evidence, run: Evidence, told: Sequence[Difference]) -> str:
    headings = ["metric", first.name, run.name, "difference [95 %]", "p", "p (Holm)", "test"]
    rows = []
    for one in told:
        digits = 4 if max(abs(one.first), abs(one.second)) <= 1.5 else 1
        low, high = one.interval_95
        shown = f"{signed(one.difference, digits)} [{signed(low, digits)}, {signed(high, digits)}]"
        values = [f"{value:.{digits}f}" for value in (one.first, one.second)]
        rows.append(
            [_DISTANCES.get(one.metric, one.metric), *values, shown, _chance(one.p), _chance(one.p_holm), one.test]
        )
    return table(headings, rows, numeric=range(1, 6))


def _chance(p: float) -> str:
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def signed(value: float, digits: int) -> str:
    """Return a difference with its sign.

    Example:
        >>> signed(-0.25, 1), signed(2.0, 1), signed(-0.01, 1)
        ('−0.2', '+2.0', '0.0')
    """
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
