"""Maps of attention in a grid: who attends (rows) to whom (columns), words before regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vltk.reporting.drawing import WIDTH, Canvas, heat_address

_COLUMNS, _GAP = 3, 14


class AttentionMap(NamedTuple):
    """One square of the grid.

    Attributes:
        title: above it.
        shares: [T + R, T + R] of attention, rows attend to columns.
        note: below it; nothing where empty.
    """

    title: str
    shares: NDArray[np.float64]
    note: str = ""


def draw_maps(canvas: Canvas, top: float, maps: Sequence[AttentionMap], length: int) -> float:
    """Draw maps in rows of three, with lines that part the words from the regions; return where they end.

    Args:
        canvas: what is drawn on.
        top: where they begin.
        maps: in reading order; all with a note, or none.
        length: T, the tokens that come before the regions.
    """
    side = (WIDTH - _GAP * (_COLUMNS - 1)) / _COLUMNS
    noted = any(one.note for one in maps)
    above, step = (18, side + 40) if noted else (16, side + 32)
    for place, one in enumerate(maps):
        row, column = divmod(place, _COLUMNS)
        x, y = column * (side + _GAP), top + row * step + above
        canvas.text(x, y - 5, one.title.capitalize(), size=11, bold=True)
        # Most shares are small: their root tells them apart.
        canvas.picture(heat_address(np.sqrt(one.shares), largest=1.0, zoom=4), x, y, side, side, kind="heat")
        canvas.rectangle(x, y, side, side, kind="axis")
        cut = side * length / one.shares.shape[-1]
        canvas.line(x + cut, y, x + cut, y + side, kind="l1")
        canvas.line(x, y + cut, x + side, y + cut, kind="l1")
        if one.note:
            canvas.text(x, y + side + 13, one.note, kind="muted", size=10)
    return top + -(-len(maps) // _COLUMNS) * step
