"""Findings of a walk at the top of a page: which claims of papers came out, which did not, and every figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vltk.errors import DataError
from vltk.reporting.page import Section, paragraph, table

_KEYS = ("figure", "value", "95 %", "n", "proves", "claim", "outcome")
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
    section = Section(key="findings", title="Findings")
    if tried:
        headings = ["claim", "outcome", "difference", "95 %", "what was compared"]
        told = [[row["claim"], row["outcome"], _number(row["value"]), row["95 %"], row["proves"]] for row in tried]
        section.parts.append(paragraph("What papers claim, and whether it came out here."))
        section.parts.append(table(headings, _text(told), numeric=[2, 3]))
    others = [row for row in rows if not row["claim"]]
    told = [[row["figure"], _number(row["value"]), row["95 %"], row["n"] or "", row["proves"]] for row in others]
    section.parts.append("<h3>Every other figure</h3>")
    section.parts.append(table(["figure", "value", "95 %", "n", "what it says"], _text(told), numeric=[1, 2, 3]))
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


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _text(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [["" if cell is None else str(cell) for cell in row] for row in rows]
