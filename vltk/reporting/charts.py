"""The kinds of charts: lines with direct labels, dots with intervals, shaded tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vltk.reporting.drawing import WIDTH, Canvas, Figure, fitted, heat_address, shortened, text_width

_HEIGHT = 236
_LABEL = 11
_NAMES = 18
_ROW = 180
_CELL = 44.0


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One line of a chart.

    Attributes:
        label: stands at its end.
        x: where its points are.
        y: their values.
        colour: number of its colour.
        intervals: low and high end at each point, or none.
        dots: whether its points are marked.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    intervals: Sequence[tuple[float, float]] = ()
    dots: bool = False


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One figure of one run.

    Attributes:
        colour: number of the run's colour.
        value: the figure.
        interval: its ends, or None.
        text: the figure as it is to be read.
    """

    colour: int
    value: float
    interval: tuple[float, float] | None
    text: str


@dataclass(frozen=True, kw_only=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float
    by_powers: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.by_powers:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers that cover a range.

    Example:
        >>> ticks(0, 93)
        [0.0, 25.0, 50.0, 75.0, 100.0]
    """
    span = high - low if high > low else abs(high) / 10 or 1.0
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [place * step for place in range(first, last + 1)]


def powers(low: float, high: float) -> list[float]:
    """Return powers of ten, and where these are few halves and fifths of them, that cover a range above 0.

    Example:
        >>> powers(20, 700), powers(0.4, 30000)
        ([20.0, 50.0, 100.0, 200.0, 500.0, 1000.0], [0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0])
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 3:
        return [10.0**place for place in range(first, last + 1)]
    steps = [unit * 10.0**place for place in range(first, max(last, first + 1)) for unit in (1, 2, 5)]
    steps.append(10.0 ** max(last, first + 1))
    begin = max(place for place, step in enumerate(steps) if step <= low * 1.001)
    end = min(place for place, step in enumerate(steps) if step >= high * 0.999)
    return steps[begin : max(end, begin + 1) + 1]


def told(value: float) -> str:
    """Return a number of an axis.

    Example:
        >>> told(2000), told(-0.25), told(1e-5), told(3.0)
        ('2,000', '−0.25', '1e−05', '3')
    """
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def line_chart(
    traces: Sequence[Trace],
    *,
    name: str,
    title: str,
    alt: str,
    x_label: str,
    subtitle: str = "",
    caption: str = "",
    zero: bool = False,
    from_zero: bool = True,
    by_powers: bool = False,
) -> Figure:
    """Draw lines, each with its label at its end, or above all where ends are too close or too far apart.

    Args:
        traces: one or more, each with a point or more.
        name: of the files.
        title: what is drawn.
        alt: what there is to see.
        x_label: what the horizontal axis counts.
        subtitle: unit, and which way is better.
        caption: a sentence below.
        zero: whether the vertical axis begins at 0.
        from_zero: whether the horizontal one does.
        by_powers: equal steps of the vertical axis are equal factors; all values must be above 0.
    """
    canvas = Canvas()
    top = canvas.heading(title, subtitle)
    marks = _marks(traces, zero=zero, by_powers=by_powers)
    places = [place for trace in traces for place in trace.x]
    low, high = min([*places, 0.0] if from_zero else places), max(places)
    y = _Axis(low=marks[0], high=marks[-1], start=_HEIGHT - 34, end=top + 6, by_powers=by_powers)
    direct = len(traces) > 1 and _labels_fit(traces, low, high, y)
    if len(traces) > 1 and not direct:
        top = canvas.legend([(trace.colour, trace.label) for trace in traces], top - 4, lines=True)
        y = replace(y, end=top + 6)
    right = 8 + max(text_width(shortened(trace.label, _NAMES), _LABEL) for trace in traces) if direct else 8
    left = 8 + max(text_width(told(mark), _LABEL) for mark in marks)
    x = _Axis(low=low, high=high if high > low else low + 1, start=left, end=WIDTH - right)
    for mark in marks:
        canvas.line(left, y(mark), x.end, y(mark))
        canvas.text(left - 6, y(mark) + 4, told(mark), kind="muted", size=_LABEL, anchor="end")
    _x_axis(canvas, x, x_label)
    for trace in traces:
        _trace(canvas, trace, x, y)
    if direct:
        for trace in traces:
            label = shortened(trace.label, _NAMES)
            canvas.text(x.end + 6, y(trace.y[-1]) + 4, label, kind=f"f{trace.colour}", size=_LABEL)
    return Figure(name=name, title=title, alt=alt, body=canvas.body, width=WIDTH, height=_HEIGHT, caption=caption)


def _marks(traces: Sequence[Trace], *, zero: bool, by_powers: bool) -> list[float]:
    """Return the numbers of the vertical axis."""
    values = [value for trace in traces for value in trace.y]
    values += [end for trace in traces for pair in trace.intervals for end in pair]
    low, high = min([*values, 0.0] if zero else values), max(values)
    if low == high:
        # What never changes lies at the upper edge: a recall of 100 % has nothing above it.
        low -= abs(high) / 10 or 1.0
    return powers(low, high) if by_powers else ticks(low, high)


def _labels_fit(traces: Sequence[Trace], low: float, high: float, y: _Axis) -> bool:
    """Say whether every line ends at the right edge, and none so close to another that their labels would touch."""
    late = all(trace.x[-1] >= low + 0.9 * (high - low) for trace in traces)
    ends = sorted(y(trace.y[-1]) for trace in traces)
    return late and all(below - above >= 13 for above, below in pairwise(ends))


def _x_axis(canvas: Canvas, x: _Axis, label: str) -> None:
    base = _HEIGHT - 34
    canvas.line(x.start, base, x.end, base, kind="axis")
    shown = [mark for mark in ticks(x.low, x.high) if x.low <= mark <= x.high and (x.high - x.low > 3 or mark % 1 == 0)]
    for mark in shown:
        canvas.line(x(mark), base, x(mark), base + 4, kind="axis")
        anchor = "end" if x(mark) > WIDTH - 12 else "middle"
        canvas.text(x(mark), base + 17, told(mark), kind="muted", size=_LABEL, anchor=anchor)
    canvas.text((x.start + x.end) / 2, _HEIGHT - 3, label, kind="muted", size=_LABEL, anchor="middle")


def _trace(canvas: Canvas, trace: Trace, x: _Axis, y: _Axis) -> None:
    points = [(x(a), y(b)) for a, b in zip(trace.x, trace.y, strict=True)]
    for (place, _), (low, high) in zip(points, trace.intervals, strict=False):
        canvas.line(place, y(low), place, y(high), kind=f"l{trace.colour}", width=1.5)
    if len(points) > 1:
        canvas.path(points, kind=f"l{trace.colour} d{trace.colour}")
    if trace.dots or len(points) == 1:
        for point in points:
            canvas.dot(*point, kind=f"f{trace.colour}")


def interval_chart(
    rows: Sequence[tuple[str, Sequence[Mark]]],
    *,
    name: str,
    title: str,
    alt: str,
    subtitle: str = "",
    caption: str = "",
    reference: float | None = None,
    bounds: tuple[float, float] | None = None,
    legend: Sequence[tuple[int, str]] = (),
) -> Figure:
    """Draw one row a figure: for each run a dot, its 95 % interval, and the number beside.

    Args:
        rows: label and marks of each.
        name: of the files.
        title: what is drawn.
        alt: what there is to see.
        subtitle: unit, and which way is better.
        caption: a sentence below.
        reference: where a line says "no difference", or None.
        bounds: what no figure can leave, e.g. 0 and 100.
        legend: number of the colour and name of each run, where there are several.
    """
    canvas = Canvas()
    top = canvas.heading(title, subtitle) + 4
    if len(legend) > 1:
        top = canvas.legend(legend, top - 6, lines=False) + 2
    shown = [mark for _, marks in rows for mark in marks]
    ends = [end for mark in shown for end in (mark.interval or (mark.value, mark.value))]
    ends += [] if reference is None else [reference]
    scale = ticks(min(ends), max(ends))
    if bounds is not None:
        scale = [tick for tick in scale if bounds[0] <= tick <= bounds[1]]
        scale = scale if len(scale) > 1 else [*bounds]
    left = 14 + max(text_width(fitted(label, _ROW)) for label, _ in rows)
    right = 14 + max(text_width(mark.text, _LABEL) for mark in shown)
    x = _Axis(low=scale[0], high=scale[-1], start=left, end=WIDTH - right)
    heights = [12 + 14 * len(marks) for _, marks in rows]
    base = top + sum(heights)
    for tick in scale:
        canvas.line(x(tick), top, x(tick), base)
        canvas.text(x(tick), base + 15, told(tick), kind="muted", size=_LABEL, anchor="middle")
    if reference is not None:
        canvas.line(x(reference), top, x(reference), base, kind="axis")
    y = top
    for (label, marks), height in zip(rows, heights, strict=True):
        canvas.text(0, y + height / 2 + 4, fitted(label, _ROW))
        for place, mark in enumerate(marks):
            _mark(canvas, mark, x, y + 13 + 14 * place)
        y += height
    return Figure(name=name, title=title, alt=alt, body=canvas.body, width=WIDTH, height=base + 22, caption=caption)


def _mark(canvas: Canvas, mark: Mark, x: _Axis, y: float) -> None:
    if mark.interval is not None:
        canvas.line(x(mark.interval[0]), y, x(mark.interval[1]), y, kind=f"l{mark.colour}", width=2)
    canvas.dot(x(mark.value), y, kind=f"f{mark.colour}", radius=4)
    canvas.text(WIDTH, y + 4, mark.text, kind=f"f{mark.colour}", size=_LABEL, anchor="end")


def heat_chart(
    values: NDArray[np.floating],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    name: str,
    title: str,
    alt: str,
    subtitle: str = "",
    caption: str = "",
    largest: float | None = None,
    digits: int | None = None,
) -> Figure:
    """Draw a table of shares, bluer where more.

    Args:
        values: [M, N] from 0.
        rows: M labels.
        columns: N labels.
        name: of the files.
        title: what is drawn.
        alt: what there is to see.
        subtitle: what a share is of.
        caption: a sentence below.
        largest: what is full colour; the largest value if None.
        digits: so many behind the point of the values that stand in the squares; none stand there if None.
    """
    canvas = Canvas()
    begin = canvas.heading(title, subtitle)
    longest = 20
    left = 8 + max(text_width(shortened(label, longest), _LABEL) for label in rows)
    cell = min(_CELL, (WIDTH - left) / max(1, len(columns)))
    size = min(_LABEL, max(6.0, cell - 1))
    top = begin + 10 + max(text_width(shortened(label, longest), size) for label in columns)
    step = min(cell, 30.0) if digits is not None else min(cell, 18.0)
    row_size = min(_LABEL, max(6.0, step - 1))
    heat = heat_address(values, largest=largest)
    canvas.picture(heat, left, top, cell * len(columns), step * len(rows), kind="heat")
    canvas.rectangle(left, top, cell * len(columns), step * len(rows), kind="grid")
    for place, label in enumerate(rows):
        y = top + step * (place + 0.5) + row_size / 3
        canvas.text(left - 5, y, shortened(label, longest), size=row_size, anchor="end")
    for place, label in enumerate(columns):
        x = left + cell * (place + 0.5)
        canvas.text(x + size / 3, top - 5, shortened(label, longest), size=size, turn=-90)
    for row, line in enumerate(values if digits is not None else ()):
        for column, value in enumerate(line):
            x, y = left + cell * (column + 0.5), top + step * (row + 0.5) + 4
            canvas.text(x, y, f"{value:.{digits}f}", size=min(_LABEL, cell / 3), anchor="middle")
    height = top + step * len(rows) + 4
    return Figure(name=name, title=title, alt=alt, body=canvas.body, width=WIDTH, height=height, caption=caption)
