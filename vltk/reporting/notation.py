"""How the page writes numbers: one rule for thousands, digits and signs, a unit for every figure, metrics in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_RETRIEVAL = {"t2i": "text to image", "i2t": "image to text"}
_RECALL = re.compile(r"(t2i|i2t)_(r(\d+)|median_rank|mean_rank)(?P<rest>.*)")
_NAMES = {"isda": "ISDa", "singular": "L(s)", "distributed": "L(d)", "rsum": "sum of six recalls"}
LEVEL = 0.05
"""Below this probability of chance a difference counts as one."""
_LEAST_P = 0.001
NO_BREAK = "\N{NO-BREAK SPACE}"
"""Between a number and its unit, which belong on one line."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """How a kind of figure is written.

    Attributes:
        name: what one of it is called.
        factor: what receipts hold times this is what is shown.
        digits: behind the point.
        gap: what one of a difference is called, where that is another.
    """

    name: str
    factor: float = 1.0
    digits: int
    gap: str = ""

    def text(self, value: float) -> str:
        """Return a figure of a receipt as it is shown, without the unit."""
        return written(self.factor * value, self.digits)

    def told(self, value: float) -> str:
        """Return a figure of a receipt with its unit."""
        return f"{self.text(value)}{NO_BREAK if self.name else ''}{self.name}"


PLAIN = Unit(name="", digits=2)
_UNITS = {
    "fraction": Unit(name="%", factor=100, digits=1, gap="points"),
    "percent": Unit(name="%", digits=1, gap="points"),
    "points": Unit(name="points", digits=1),
    "nats": Unit(name="nats", digits=3),
    "rank": Unit(name="rank", digits=2, gap="ranks"),
    "correlation": Unit(name="correlation", digits=2),
}
_SUM = Unit(name="of 600", digits=1, gap="points")


def unit_of(row: Mapping[str, Any]) -> Unit:
    """Return how a row of a receipt is written.

    Example:
        >>> unit_of({"metric": "accuracy", "unit": "fraction"}).told(0.5)
        '50.0\\xa0%'
        >>> unit_of({"metric": "rsum", "unit": "percent"}).name
        'of 600'
    """
    if str(row.get("metric", "")).startswith("rsum"):
        return _SUM
    unit = str(row.get("unit") or "")
    return _UNITS.get(unit, Unit(name=unit, digits=2))


def gap_of(unit: Unit) -> str:
    """Return what a difference of two figures is counted in.

    Example:
        >>> gap_of(unit_of({"unit": "fraction"})), gap_of(unit_of({"unit": "nats"}))
        ('points', 'nats')
    """
    return unit.gap or unit.name


def written(value: float, digits: int) -> str:
    """Return a number with separated thousands and a minus sign that is one.

    Example:
        >>> written(-1234.5, 1), written(-0.01, 1), written(3, 0)
        ('−1,234.5', '0.0', '3')
    """
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text.replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int) -> str:
    """Return a difference with its sign.

    Example:
        >>> signed(-0.25, 1), signed(2.0, 1), signed(-0.01, 1)
        ('−0.2', '+2.0', '0.0')
    """
    text = written(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.,") else text


def bare(value: float) -> str:
    """Return a number of which nothing is known: whole ones as they are, others with four digits.

    Example:
        >>> bare(12800), bare(0.25119), bare(-7.5), bare(2e-6)
        ('12,800', '0.2512', '−7.5', '2e−06')
    """
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def ranged(ends: Sequence[float], unit: Unit) -> str:
    """Return an interval.

    Example:
        >>> ranged([0.4, 0.6], unit_of({"unit": "fraction"}))
        '[40.0, 60.0]'
    """
    return f"[{unit.text(ends[0])}, {unit.text(ends[1])}]"


def figure_text(row: Mapping[str, Any]) -> str:
    """Return a figure of a receipt with its interval, without the unit.

    Example:
        >>> figure_text({"value": 0.5, "unit": "fraction", "interval_95": [0.4, 0.6]})
        '50.0 [40.0, 60.0]'
    """
    unit = unit_of(row)
    return _with_interval(unit.text(row["value"]), row, unit)


def figure_told(row: Mapping[str, Any]) -> str:
    """Return a figure of a receipt with unit and interval.

    Example:
        >>> figure_told({"value": 0.5, "unit": "fraction", "interval_95": [0.4, 0.6]})
        '50.0\\xa0% [40.0, 60.0]'
    """
    unit = unit_of(row)
    return _with_interval(unit.told(row["value"]), row, unit)


def _with_interval(told: str, row: Mapping[str, Any], unit: Unit) -> str:
    ends = row.get("interval_95")
    return told if ends is None else f"{told} {ranged(ends, unit)}"


def probability(p: float) -> str:
    """Return a p-value.

    Example:
        >>> probability(0.0312), probability(1.0), probability(0.00002)
        ('0.031', '1.0', '< 0.001')
    """
    return f"< {_LEAST_P}" if p < _LEAST_P else f"{p:.1f}" if p >= 0.95 else f"{p:.2g}"


def metric_name(metric: str) -> str:
    """Return what a metric is called on the page; names of receipts that are words already stay.

    Example:
        >>> metric_name("t2i_r5"), metric_name("i2t_median_rank"), metric_name("isda"), metric_name("accuracy")
        ('text to image, R@5', 'image to text, median rank', 'ISDa', 'accuracy')
    """
    found = _RECALL.fullmatch(metric)
    if found is None:
        return _NAMES.get(metric, metric)
    what = f"R@{found[3]}" if found[3] else found[2].replace("_", " ")
    return f"{_RETRIEVAL[found[1]]}, {what}{found['rest']}"
