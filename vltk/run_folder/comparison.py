"""Two evaluations on the same items, compared item by item: differences, their intervals, tests, corrected for many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError
from vltk.metrics.retrieval import DIRECTIONS, RECALLS
from vltk.metrics.significance import (
    SeedSummary,
    bootstrap_means,
    cluster_sums,
    holm,
    mcnemar,
    over_seeds,
    paired_permutation,
    percentiles,
    welch,
)
from vltk.run_folder.outcomes import Outcomes, Series

MCNEMAR, PERMUTATION, SEEDS = "McNemar, exact", "paired permutation over clusters", "Welch over runs"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of two systems.

    Attributes:
        metric: its name.
        unit: "percent" of recalls and their sum, else "mean of items", whose unit the receipt tells.
        first: value of the first system, the mean over its runs.
        second: value of the second one.
        difference: second minus first.
        interval_95: of the difference: bootstrap over clusters of items, the runs of a system averaged.
        test: what ``p`` comes from.
        p: two-sided, of no difference.
        p_holm: the same, corrected for the number of metrics (Holm).
        p_mcnemar: exact McNemar on hits and misses as if all items were independent; None where values are not hits.
        n: items.
        clusters: groups of items that are drawn together.
        first_runs: interval of the first system's mean over its runs; None for one run.
        second_runs: the same of the second.
    """

    metric: str
    unit: str = "mean of items"
    first: float
    second: float
    difference: float
    interval_95: tuple[float, float]
    test: str
    p: float
    p_holm: float = 1.0
    p_mcnemar: float | None = None
    n: int
    clusters: int
    first_runs: tuple[float, float] | None = None
    second_runs: tuple[float, float] | None = None

    def row(self) -> dict[str, Any]:
        """Return the difference as a row of a table; columns that say nothing are left out."""
        shown = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {name: value for name, value in shown.items() if value is not None}


@dataclass(frozen=True, eq=False)
class _Block:
    """What each run gives each item of a series, in the order of the first run.

    Attributes:
        first: [runs, N] of the first system, in the unit of the metric.
        second: [runs, N] of the second one.
        clusters: [N] number of each item's cluster, from 0, the same number in every series.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    clusters: NDArray[np.int64]

    @property
    def hits(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """Hits of one run of each system; None where values are no hits, or of several runs."""
        values = np.unique(np.concatenate([self.first.ravel(), self.second.ravel()]))
        if len(self.first) > 1 or len(self.second) > 1 or len(values) > 2 or values[0] < 0:
            return None
        if len(values) == 2 and values[0] != 0:
            return None
        return self.first[0] > 0, self.second[0] > 0


def compare(first: Sequence[Outcomes], second: Sequence[Outcomes], *, seed: int = 0) -> list[Difference]:
    """Return how two systems differ in every metric that their outcomes have.

    Several outcomes of one side are runs of one recipe with several seeds. With one run on a side items are tested:
    hits of independent items by McNemar's exact test, everything else by a permutation test that exchanges the answers
    of whole clusters, such as the sum of recalls over images. With two runs and more on both sides the runs are tested,
    because a recipe is only better if it is better than the chance of its seed.

    Args:
        first: runs of the first system, one or more.
        second: runs of the second.
        seed: of bootstrap and permutation.

    Raises:
        UsageError: a side without a run.
        DataError: they are not of the same task, split, protocol and items.
    """
    if not first or not second:
        raise UsageError("a side has no evaluation", remedy="give results of both systems")
    runs = [*first, *second]
    for other in runs[1:]:
        _check_same(runs[0], other)
    metrics, clusters = _blocks_of(first, second)
    found = [_difference(name, blocks, clusters, seed) for name, blocks in metrics.items()]
    corrected = holm({one.metric: one.p for one in found})
    return [replace(one, p_holm=corrected[one.metric]) for one in found]


def unit_of(metric: str) -> str:
    """Return the unit of a compared metric.

    Example:
        >>> unit_of("t2i_r1"), unit_of("accuracy")
        ('percent', 'mean of items')
    """
    recalls = {f"{way}_r{k}" for way in DIRECTIONS for k in RECALLS} | {"rsum"}
    return "percent" if metric in recalls else "mean of items"


def summarise(runs: Sequence[Outcomes]) -> dict[str, SeedSummary]:
    """Return mean and 95 % interval of every metric over runs of one recipe with several seeds.

    Raises:
        UsageError: no run.
        DataError: they are not of the same task, split, protocol and items.
    """
    if not runs:
        raise UsageError("there is no evaluation to summarise", remedy="give the results of each seed")
    for other in runs[1:]:
        _check_same(runs[0], other)
    return {name: over_seeds(_values(blocks)[0]) for name, blocks in _blocks_of(runs, runs)[0].items()}


def _check_same(one: Outcomes, other: Outcomes) -> None:
    remedy = "compare evaluations of one split under one protocol"
    for what in ("task", "split"):
        a, b = getattr(one, what), getattr(other, what)
        if a != b:
            raise DataError(f"the {what} is {a:.20} in one and {b:.20} in the other", where="compare", remedy=remedy)
    for key in sorted(one.protocol.keys() | other.protocol.keys()):
        texts = [json.dumps(card.protocol.get(key), sort_keys=True) for card in (one, other)]
        if texts[0] != texts[1]:
            problem = f"the protocol's {key} is {texts[0]:.60} in one and {texts[1]:.60} in the other"
            raise DataError(problem, where="compare", remedy=remedy)
    kinds = [{name: series.kind for name, series in card.series.items()} for card in (one, other)]
    if kinds[0] != kinds[1]:
        raise DataError(f"one has the series {kinds[0]}, the other {kinds[1]}", where="compare", remedy=remedy)
    for name, series in one.series.items():
        missing = set(series.ids) ^ set(other.series[name].ids)
        if missing:
            problem = f"{len(missing)} items of {name} are in one of them only, e.g. {min(missing)}"
            raise DataError(problem, where="compare", remedy=remedy)


def _blocks_of(first: Sequence[Outcomes], second: Sequence[Outcomes]) -> tuple[dict[str, list[_Block]], int]:
    """Return the values of every metric, and the number of clusters."""
    numbers: dict[str, int] = {}
    for series in first[0].series.values():
        for cluster in series.clusters or series.ids:
            numbers.setdefault(cluster, len(numbers))
    metrics: dict[str, list[_Block]] = {}
    for name, series in first[0].series.items():
        ours, theirs = ([one.series[name] for one in side] for side in (first, second))
        metrics |= _metrics_of(name, series, ours, theirs, numbers)
    # The sum of recalls is the one figure that both directions make together.
    names = [f"{way}_r{k}" for way in DIRECTIONS for k in RECALLS]
    if metrics.keys() >= set(names):
        metrics["rsum"] = [block for name in names for block in metrics[name]]
    return metrics, len(numbers)


def _values(blocks: Sequence[_Block]) -> list[list[float]]:
    """Return the metric of each run of the first and of the second system."""
    return [
        [float(sum(block.mean() for block in parts)) for parts in zip(*side, strict=True)]
        for side in ([block.first for block in blocks], [block.second for block in blocks])
    ]


def _metrics_of(
    name: str, like: Series, first: Sequence[Series], second: Sequence[Series], numbers: dict[str, int]
) -> dict[str, list[_Block]]:
    a, b = (np.stack([_aligned(like, one) for one in side]) for side in (first, second))
    clusters = np.array([numbers[cluster] for cluster in like.clusters or like.ids], np.int64)
    if like.kind == "score":
        return {name: [_Block(a, b, clusters)]}
    recalls = {k: [100 * (ranks <= k).astype(np.float64) for ranks in (a, b)] for k in RECALLS}
    return {f"{name}_r{k}": [_Block(ours, theirs, clusters)] for k, (ours, theirs) in recalls.items()}


def _aligned(like: Series, other: Series) -> NDArray[np.float64]:
    if like.ids == other.ids:
        return other.values
    place = {name: row for row, name in enumerate(other.ids)}
    return other.values[[place[name] for name in like.ids]]


def _difference(metric: str, blocks: Sequence[_Block], clusters: int, seed: int) -> Difference:
    values = _values(blocks)
    means = [float(np.mean(side)) for side in values]
    gaps = [block.second.mean(axis=0) - block.first.mean(axis=0) for block in blocks]
    sums = np.hstack([cluster_sums(gap[:, None], b.clusters, clusters) for gap, b in zip(gaps, blocks, strict=True)])
    sizes = np.stack([np.bincount(block.clusters, minlength=clusters) for block in blocks], axis=1).astype(float)
    used = sizes.any(axis=1)
    sums, sizes = sums[used], sizes[used]
    drawn = bootstrap_means(sums, sizes, seed=seed).sum(axis=1, keepdims=True)
    hits = blocks[0].hits if len(blocks) == 1 else None
    exact = mcnemar(*hits) if hits is not None else None
    if min(map(len, values)) > 1:
        test, p = SEEDS, welch(*values)
    elif exact is not None and sizes.max() == 1:
        test, p = MCNEMAR, exact
    else:
        test, p = PERMUTATION, paired_permutation((sums / sizes.sum(axis=0)).sum(axis=1), seed=seed)
    over = [over_seeds(side).interval_95 for side in values]
    return Difference(
        metric=metric,
        unit=unit_of(metric),
        first=means[0],
        second=means[1],
        difference=means[1] - means[0],
        interval_95=percentiles(drawn)[0],
        test=test,
        p=p,
        p_mcnemar=exact,
        n=sum(map(len, {id(block.clusters): block.clusters for block in blocks}.values())),
        clusters=len(sums),
        first_runs=over[0],
        second_runs=over[1],
    )
