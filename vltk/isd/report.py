"""What the lines of all examples come to: figures with intervals, layers, heads, and what chance would give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.isd.measurement import SURROGATES, Line
from vltk.metrics.isd import correlation
from vltk.metrics.significance import bootstrap_means, cluster_sums, percentiles
from vltk.types import Measurement

NAMES = {"isda": "ISDa", "singular": "L(s)", "distributed": "L(d)"}


def measurements(lines: Sequence[Line], *, seed: int = 0) -> list[Measurement]:
    """Return the means over captions with 95 % intervals by bootstrap over images.

    Args:
        lines: of all examples.
        seed: of the bootstrap.
    """
    names = [name for name in NAMES if name in lines[0]]
    values = np.array([[line[name] for name in names] for line in lines], np.float64)
    intervals = mean_intervals(values, lines, seed=seed)
    return [
        Measurement(
            metric=NAMES[name],
            value=float(values[:, column].mean()),
            n=len(lines),
            unit="nats",
            higher_is_better=False,
            interval_95=intervals[column],
        )
        for column, name in enumerate(names)
    ]


def mean_intervals(values: NDArray[np.float64], lines: Sequence[Line], *, seed: int) -> list[tuple[float, float]]:
    """Return the 95 % interval of the mean of each column of [N, K] values; the captions of an image stay together."""
    _, clusters = np.unique([line["image"] for line in lines], return_inverse=True)
    sizes = np.bincount(clusters).astype(np.float64)[:, None]
    sums = cluster_sums(values, clusters, len(sizes))
    return percentiles(bootstrap_means(sums, sizes, seed=seed))


def layers(lines: Sequence[Line], *, seed: int = 0) -> list[dict[str, Any]]:
    """Return ISDa of each layer with its interval, and that of each of its heads alone; nothing without annotation."""
    if "layers" not in lines[0]:
        return []
    values = np.array([line["layers"] for line in lines], np.float64)
    heads = np.array([line["heads"] for line in lines], np.float64).mean(axis=0)
    return [
        {"layer": number, "isda": float(mean), "interval_95": list(interval), "heads": row.tolist()}
        for number, (mean, interval, row) in enumerate(
            zip(values.mean(axis=0), mean_intervals(values, lines, seed=seed), heads, strict=True)
        )
    ]


def chance(lines: Sequence[Line]) -> dict[str, Any]:
    """Return what ISDa would be if the objects of each picture were mixed up, alike for all its captions.

    ``p`` is the probability that mixed objects come out as low as the right ones; nothing without annotation.
    """
    if not lines[0].get("shuffled"):
        return {}
    drawn = np.array([line["shuffled"] for line in lines], np.float64).mean(axis=0)
    seen = float(np.mean([line["isda"] for line in lines]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Stored draws have six digits; what differs in later ones counts as equal.
    as_low = int((drawn <= seen * (1 + 1e-5)).sum())
    return {
        "mean": float(drawn.mean()),
        "interval_95": [float(low), float(high)],
        "shuffles": len(drawn),
        "p": (1 + as_low) / (1 + len(drawn)),
        "ratio": seen / float(drawn.mean()) if drawn.mean() else None,
    }


def surrogate_correlation(lines: Sequence[Line]) -> dict[str, Any]:
    """Return how ISDa and each loss without annotation go together over the captions (the paper's section 5.1)."""
    if "isda" not in lines[0]:
        return {}
    first = [line["isda"] for line in lines]
    found = {name: correlation(first, [line[name] for line in lines]) for name in SURROGATES}
    return {f"ISDa with {NAMES[name]}": None if one is None else one.pearson for name, one in found.items()}
