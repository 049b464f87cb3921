"""The attention of every layer of an encoder of two streams: words, regions, and what each sees of the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vltk.reporting.attention import PairAttention
from vltk.reporting.drawing import WIDTH, Canvas, Figure, heat_address, shortened

_COLUMNS, _GAP = 3, 14
_SIDES = ("words", "regions")


def stacks_figure(pair: PairAttention, *, name: str, title: str) -> Figure:
    """Draw the map of every layer on one pair, the mean over its heads: who attends (rows) to whom (columns).

    Args:
        pair: of an encoder of two streams.
        name: of the files.
        title: what is drawn.
    """
    canvas = Canvas()
    top = canvas.heading(title, "mean over heads; rows attend to columns")
    side = (WIDTH - _GAP * (_COLUMNS - 1)) / _COLUMNS
    shares = pair.probabilities().mean(axis=1)
    for place, layer in enumerate(pair.layers):
        row, column = divmod(place, _COLUMNS)
        x, y = column * (side + _GAP), top + row * (side + 32) + 16
        canvas.text(x, y - 5, layer.capitalize(), size=11, bold=True)
        _map(canvas, shares[place], pair.length, x, y, side)
    text = shortened(" ".join(pair.words), 80)
    rows = -(-len(pair.layers) // _COLUMNS)
    told = "; ".join(f"{layer}: {' and '.join(seen(pair, place))}" for place, layer in enumerate(pair.layers))
    return Figure(
        name=name,
        title=title,
        alt=f"{title} for {text!r}. {told}.",
        body=canvas.body,
        width=WIDTH,
        height=top + rows * (side + 32),
        caption=f"“{text}” with {len(pair.picture)} regions; lines part words from regions. The bluer, the more "
        "attention (shades grow with the root of a share); empty quarters are what a layer does not look at.",
    )


def _map(canvas: Canvas, shares: NDArray[np.float64], length: int, x: float, y: float, side: float) -> None:
    canvas.picture(heat_address(np.sqrt(shares), largest=1.0, zoom=4), x, y, side, side, kind="heat")
    canvas.rectangle(x, y, side, side, kind="axis")
    cut = side * length / shares.shape[-1]
    canvas.line(x + cut, y, x + cut, y + side, kind="l1")
    canvas.line(x, y + cut, x + side, y + cut, kind="l1")


def seen(pair: PairAttention, layer: int) -> Sequence[str]:
    """Return which sides of a pair a layer looks at, e.g. "words to regions"."""
    halves = (slice(None, pair.length), slice(pair.length, None))
    known = np.isfinite(pair.scores[layer])
    ways = product(zip(_SIDES, halves, strict=True), repeat=2)
    return [f"{a} to {b}" for (a, rows), (b, columns) in ways if known[:, rows, columns].any()]
