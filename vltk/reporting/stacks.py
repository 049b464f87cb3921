"""The attention of every layer of an encoder of two streams: words, regions, and what each sees of the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from vltk.reporting.attention import PairAttention
from vltk.reporting.attention_maps import AttentionMap, draw_maps
from vltk.reporting.drawing import WIDTH, Canvas, Figure, shortened

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
    shares = pair.probabilities().mean(axis=1)
    maps = [AttentionMap(layer, shares[place]) for place, layer in enumerate(pair.layers)]
    bottom = draw_maps(canvas, top, maps, pair.length)
    text = shortened(" ".join(pair.words), 80)
    told = "; ".join(f"{layer}: {' and '.join(seen(pair, place))}" for place, layer in enumerate(pair.layers))
    return Figure(
        name=name,
        title=title,
        alt=f"{title} for {text!r}. {told}.",
        body=canvas.body,
        width=WIDTH,
        height=bottom,
        caption=f"“{text}” with {len(pair.picture)} regions; lines part words from regions. The bluer, the more "
        "attention (shades grow with the root of a share); empty quarters are what a layer does not look at.",
    )


def seen(pair: PairAttention, layer: int) -> Sequence[str]:
    """Return which sides of a pair a layer looks at, e.g. "words to regions"."""
    halves = (slice(None, pair.length), slice(pair.length, None))
    known = np.isfinite(pair.scores[layer])
    ways = product(zip(_SIDES, halves, strict=True), repeat=2)
    return [f"{a} to {b}" for (a, rows), (b, columns) in ways if known[:, rows, columns].any()]
