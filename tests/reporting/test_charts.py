"""Charts stand alone: every run has its name in the drawing, axes hold all values, numbers are told by one rule."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from vltk.reporting.charts import Mark, Trace, interval_chart, line_chart, powers
from vltk.reporting.notation import figure_told, ranged, unit_of, written

NAMED = {"name": "a", "title": "A", "alt": "what there is to see"}


def texts(body: str) -> list[tuple[float, float, str]]:
    found = re.findall(r'<text [^>]*?x="([-\d.]+)" y="([-\d.]+)"[^>]*>([^<]*)<', body)
    return [(float(x), float(y), text) for x, y, text in found]


def test_lines_that_end_at_the_edge_far_from_each_other_have_their_names_there() -> None:
    traces = [Trace(label=f"run {k}", x=[0, 10], y=[0, 10 * k], colour=k) for k in range(3)]
    body = line_chart(traces, x_label="step", **NAMED).body
    ends = {text: y for x, y, text in texts(body) if text.startswith("run ") and x > 300}
    assert list(ends) == ["run 0", "run 1", "run 2"]
    assert ends["run 0"] > ends["run 1"] > ends["run 2"]


@pytest.mark.parametrize("second", [([0, 10], [0, 1]), ([0, 4], [0, 30])])
def test_lines_that_end_early_or_close_to_each_other_have_their_names_above(second: tuple[list, list]) -> None:
    traces = [Trace(label="run 0", x=[0, 10], y=[100, 0]), Trace(label="run 1", x=second[0], y=second[1], colour=1)]
    body = line_chart(traces, x_label="step", **NAMED).body
    found = {text: y for _, y, text in texts(body) if text.startswith("run ")}
    assert set(found) == {"run 0", "run 1"}
    assert max(found.values()) < 60


def test_equal_factors_are_equal_steps() -> None:
    trace = Trace(label="run", x=[0, 1, 2], y=[1000, 100, 10], dots=True)
    body = line_chart([trace], x_label="step", by_powers=True, **NAMED).body
    heights = [float(y) for y in re.findall(r'<circle [^>]*cy="([\d.]+)"', body)]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.02)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (3e-7, 2e4), (10, 1000), (99, 101), (1.0, 1.0)])
def test_powers_cover_what_is_drawn_in_rising_steps(low: float, high: float) -> None:
    marks = powers(low, high)
    assert marks[0] <= low * 1.001
    assert marks[-1] >= high * 0.999
    assert all(a < b for a, b in pairwise(marks))


def test_several_runs_are_named_in_the_drawing_and_one_is_not() -> None:
    marks = [Mark(colour=k, value=50.0 + k, interval=(40, 60), text=f"{50 + k}.0") for k in range(2)]
    both = interval_chart([("R@1", marks)], legend=[(0, "first"), (1, "second")], **NAMED)
    assert {"first", "second"} <= {text for _, _, text in texts(both.body)}
    alone = interval_chart([("R@1", marks[:1])], legend=[(0, "first")], **NAMED)
    assert "first" not in {text for _, _, text in texts(alone.body)}
    assert alone.height < both.height


def test_a_figure_of_every_unit_is_told_with_it() -> None:
    rows = {"fraction": "12.3\xa0%", "percent": "0.1\xa0%", "nats": "0.123\xa0nats", "rank": "0.12\xa0rank"}
    for unit, told in rows.items():
        assert figure_told({"metric": "m", "value": 0.1234, "unit": unit}) == told
    assert figure_told({"metric": "CIDEr", "value": 1.234, "unit": ""}) == "1.23"
    assert ranged((-0.25, 0.5), unit_of({"unit": "fraction"})) == "[\N{MINUS SIGN}25.0, 50.0]"
    assert written(1234567.891, 1) == "1,234,567.9"
