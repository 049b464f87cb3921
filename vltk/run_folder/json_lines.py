"""One JSON object a line: how outcomes and predictions are kept."""

from __future__ import annotations

import json
from typing import Any

from vltk.errors import DataError


def json_object(line: str, where: str, *, remedy: str) -> dict[str, Any]:
    """Return the object of a line.

    Args:
        line: of a file.
        where: the file and the line, for errors.
        remedy: what to do where the line holds something else.

    Raises:
        DataError: it is no JSON, or no object.
    """
    try:
        found = json.loads(line)
    except (RecursionError, ValueError) as error:
        raise DataError("is not JSON", where=where, remedy="expected one JSON object a line") from error
    if not isinstance(found, dict):
        raise DataError(f"is {found!r:.40}, expected a JSON object", where=where, remedy=remedy)
    return found
