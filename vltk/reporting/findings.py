"""Findings of a walk at the top of a page: which claims of papers came out, which did not, and every figure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vltk.errors import DataError
from vltk.reporting.notation import Unit, bare, gap_of, signed, unit_of
from vltk.reporting.page import Section, table

_KEYS = ("figure", "value", "95 %", "n", "proves", "claim", "outcome")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_INTRO = (
    "What was tried, and what came out. A claim of a paper came out where the 95 % interval of the difference lies on "
    "the side that the paper names; where the interval holds 0 a run of this size does not decide it."
)
_REMEDY = "give the findings.json of vltk demo"


def findings(path: Path) -> Section:
    """Return the section of a file of findings.

    Args:
        path: a JSON list of rows with figure, value, 95 %, n, proves, claim and outcome, as ``vltk demo`` writes it.

    Raises:
        DataError: no such file, or something else in it.
    """
    rows = _read(path)
    tried = [row for row in rows if row["claim"]]
    section = Section(key="findings", title="Findings", intro=_INTRO)
    if tried:
        headings = ["claim", "outcome", "difference", "unit", "95 % interval", "what was compared"]
        told = [[row["claim"], row["outcome"], _value(row), _unit(row), _ends(row), row["proves"]] for row in tried]
        section.parts.append(table(headings, _text(told), numeric=[2, 4]))
    others = [row for row in rows if not row["claim"]]
    headings = ["figure", "value", "unit", "95 % interval", "n", "what it says"]
    told = [[row["figure"], _value(row), _unit(row), _ends(row), _count(row["n"]), row["proves"]] for row in others]
    section.parts.append("<h3>Every other figure</h3>")
    section.parts.append(table(headings, _text(told), numeric=[1, 3, 4]))
    return section


def _read(path: Path) -> list[Mapping[str, Any]]:
    try:
        rows = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path, remedy=_REMEDY) from error
    except ValueError as error:
        raise DataError("is not JSON", where=path, remedy=_REMEDY) from error
    for number, row in enumerate(rows if isinstance(rows, list) else [None]):
        if not isinstance(row, dict) or any(key not in row for key in _KEYS):
            raise DataError(f"row {number} is no finding", where=path, remedy=_REMEDY)
        if isinstance(row["value"], bool) or not isinstance(row["value"], int | float):
            raise DataError(f"row {number} has the value {row['value']!r:.40}", where=path, remedy=_REMEDY)
    return list(rows)


def _scale(row: Mapping[str, Any]) -> Unit | None:
    """Return how a row is written; None where it names no unit."""
    return unit_of({"metric": row["figure"], "unit": row["unit"]}) if row.get("unit") else None


def _unit(row: Mapping[str, Any]) -> str:
    unit = _scale(row)
    return "" if unit is None else gap_of(unit) if row["claim"] else unit.name


def _value(row: Mapping[str, Any]) -> str:
    unit = _scale(row)
    if unit is None:
        return bare(row["value"])
    return signed(unit.factor * row["value"], unit.digits) if row["claim"] else unit.text(row["value"])


def _ends(row: Mapping[str, Any]) -> str:
    ends = _NUMBER.findall(str(row["95 %"] or ""))
    if len(ends) != 2:
        return ""
    unit = _scale(row)
    low, high = (bare(float(end)) if unit is None else unit.text(float(end)) for end in ends)
    return f"{low} to {high}"


def _count(n: Any) -> str:
    return f"{n:,}" if isinstance(n, int) else ""


def _text(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [["" if cell is None else str(cell) for cell in row] for row in rows]
