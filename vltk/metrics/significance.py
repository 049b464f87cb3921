"""How sure a figure is, and whether two differ: bootstrap over images, paired tests, Holm, seeds (numpy only).

What is drawn is a cluster, never an item: the captions or questions of one image are right or wrong together, and an
interval that forgets it is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vltk.metrics.retrieval import DIRECTIONS, RECALLS

LEVEL = 0.95
DRAWS = 2000
FLIPS = 10_000
# Weights and signs are drawn in blocks of so many rows.
_BLOCK = 200
# Up to so many clusters that differ, every pattern of signs is tried and not drawn.
_EXACT = 12


def cluster_sums(values: NDArray[np.floating], clusters: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """Return [G, K] the sums over the items of each cluster.

    Args:
        values: [N, K] K values of each item.
        clusters: [N] the cluster of each item, from 0.
        count: G.

    Example:
        >>> cluster_sums(np.array([[1.0], [2.0], [5.0]]), np.array([0, 1, 0]), 2).ravel().tolist()
        [6.0, 2.0]
    """
    columns = [np.bincount(clusters, weights=column, minlength=count) for column in values.T]
    return np.stack(columns, axis=1).astype(np.float64)


def bootstrap_means(
    sums: NDArray[np.float64], counts: NDArray[np.floating], *, draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """Return [draws, K] the means over clusters that are drawn with replacement.

    Args:
        sums: [G, K] sum of each value over a cluster.
        counts: [G, K] or [G, 1] number of items in it, 1 or more.
        draws: how many samples of G clusters.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    size = len(sums)
    means = []
    for start in range(0, draws, _BLOCK):
        rows = min(_BLOCK, draws - start)
        chosen = generator.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
        weights = np.bincount(chosen.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
        means.append((weights @ sums) / (weights @ counts))
    return np.concatenate(means)


def percentiles(means: NDArray[np.float64], level: float = LEVEL) -> list[tuple[float, float]]:
    """Return the interval that holds the middle ``level`` of each column."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [(float(a), float(b)) for a, b in zip(np.atleast_1d(low), np.atleast_1d(high), strict=True)]


def mean_interval(
    values: NDArray[np.floating] | Sequence[float],
    clusters: NDArray[np.integer] | None = None,
    *,
    largest: float = 1.0,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of a mean by bootstrap over clusters.

    Where no value differs the bootstrap knows nothing; the bound is then that of as many independent items as there
    are clusters (Clopper-Pearson).

    Args:
        values: [N] hits or soft scores from 0 to ``largest``.
        clusters: [N] the number of each item's cluster; each item is its own without.
        largest: the best value that an item can have.
        seed: of the draws.

    Raises:
        ValueError: there is no value.

    Example:
        >>> low, high = mean_interval(np.arange(400) % 2)
        >>> round(low, 2), round(high, 2), mean_interval([1.0, 1.0, 1.0])[1]
        (0.45, 0.55, 1.0)
    """
    items = np.asarray(values, np.float64)
    if not len(items):
        raise ValueError("an interval of no values")
    _, groups = np.unique(np.arange(len(items)) if clusters is None else clusters, return_inverse=True)
    sizes = np.bincount(groups).astype(np.float64)[:, None]
    sums = cluster_sums(items[:, None], groups, len(sizes))
    edge = _edge(float(items.min()), float(items.max()), len(sizes), largest)
    return edge or percentiles(bootstrap_means(sums, sizes, seed=seed))[0]


def share_interval(right: NDArray[np.float64], counts: NDArray[np.float64], *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the share of right guesses, as :func:`mean_interval` does it.

    Args:
        right: [G] right guesses of each cluster.
        counts: [G] guesses of each cluster, 1 or more.
        seed: of the draws.

    Example:
        >>> low, high = share_interval(np.array([1.0, 0.0, 2.0, 1.0]), np.array([2.0, 1.0, 2.0, 1.0]))
        >>> 0 <= low < 4 / 6 < high <= 1
        True
    """
    shares = right / counts
    edge = _edge(float(shares.min()), float(shares.max()), len(counts), 1.0)
    return edge or percentiles(bootstrap_means(right[:, None], counts[:, None], seed=seed))[0]


def _edge(least: float, most: float, clusters: int, largest: float) -> tuple[float, float] | None:
    """Return the interval where every value is the best or the worst that can be."""
    slack = largest * (1 - ((1 - LEVEL) / 2) ** (1 / clusters))
    if least == most == 0:
        return 0.0, slack
    return (largest - slack, largest) if least == most == largest else None


def recall_intervals(
    i2t: NDArray[np.integer], t2i: NDArray[np.integer], image_of: NDArray[np.integer], *, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the recalls, of their sum and of the mean ranks by bootstrap over images.

    The captions of an image are drawn with it, for both directions at once.

    Args:
        i2t: [I] ranks of the images, from 1.
        t2i: [C] ranks of the captions.
        image_of: [C] the row of each caption's image.
        seed: of the draws.
    """
    sums, counts = _retrieval_sums(i2t, t2i, image_of)
    means = bootstrap_means(sums, counts, seed=seed)
    hits = len(RECALLS)
    recalls = 100 * np.delete(means, [hits, 2 * hits + 1], axis=1)
    names = [f"{way}_r{k}" for way in DIRECTIONS for k in RECALLS]
    found = dict(zip(names, percentiles(recalls), strict=True))
    for column, name in enumerate(names):
        ranks, k = (i2t if column < hits else t2i), RECALLS[column % hits]
        good = np.asarray(ranks) <= k
        found[name] = _edge(100.0 * good.min(), 100.0 * good.max(), len(i2t), 100.0) or found[name]
    found["rsum"] = percentiles(recalls.sum(axis=1, keepdims=True))[0]
    mean_ranks = percentiles(means[:, [hits, 2 * hits + 1]])
    return found | {f"{way}_mean_rank": bounds for way, bounds in zip(DIRECTIONS, mean_ranks, strict=True)}


def _retrieval_sums(
    i2t: NDArray[np.integer], t2i: NDArray[np.integer], image_of: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums and counts of hits and ranks in each image: [I, 8]."""
    parts = []
    for ranks, images in ((i2t, np.arange(len(i2t))), (t2i, image_of)):
        values = np.stack([*(ranks <= k for k in RECALLS), ranks], axis=1).astype(np.float64)
        sums = cluster_sums(values, images, len(i2t))
        count = np.bincount(images, minlength=len(i2t)).astype(np.float64)
        parts.append((sums, np.repeat(count[:, None], values.shape[1], axis=1)))
    return np.hstack([sums for sums, _ in parts]), np.hstack([counts for _, counts in parts])


# -- two systems on the same items ----------------------------------------------------------------------------------


def paired_permutation(differences: NDArray[np.floating], *, flips: int = FLIPS, seed: int = 0) -> float:
    """Return the two-sided p-value that two systems differ by chance alone.

    Under the null hypothesis the two answers to an image can be exchanged: each cluster's difference keeps or changes
    its sign. With up to twelve clusters that differ every pattern is tried, else ``flips`` are drawn.

    Args:
        differences: [G] what each cluster adds to the difference of the two figures.
        flips: how many patterns of signs are drawn.
        seed: of the draws.

    Example:
        >>> paired_permutation(np.array([1.0, 1.0, 1.0, 0.0]))
        0.25
    """
    changed = np.asarray(differences, np.float64)
    changed = changed[changed != 0]
    seen = abs(changed.sum())
    # Sums of the same numbers in another order differ in their last digits.
    seen -= 1e-9 * np.abs(changed).sum()
    if len(changed) <= _EXACT:
        patterns = np.arange(2 ** len(changed))[:, None] >> np.arange(len(changed)) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ changed) >= seen))
    generator = np.random.default_rng(seed)
    beyond = 0
    for start in range(0, flips, _BLOCK):
        signs = 1.0 - 2.0 * generator.integers(0, 2, (min(_BLOCK, flips - start), len(changed)), np.int8)
        beyond += int(np.count_nonzero(np.abs(signs @ changed) >= seen))
    return (1 + beyond) / (1 + flips)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the two-sided exact p-value of McNemar's test on hits and misses of the same items.

    Args:
        first: [N] hits of one system.
        second: [N] hits of the other.

    Example:
        >>> round(mcnemar(np.array([True] * 6), np.array([False] * 6)), 5)
        0.03125
    """
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    trials, fewer = only_first + only_second, min(only_first, only_second)
    # The tail of the binomial with p = 1/2, in logarithms: 2 ** -trials has no place in a double.
    logs = np.array(
        [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(fewer + 1)]
    )
    peak = logs.max()
    return min(1.0, 2 * math.exp(peak + math.log(float(np.exp(logs - peak).sum())) - trials * math.log(2)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p-values corrected for being several (Holm, 1979), in the same order.

    Example:
        >>> holm({"r1": 0.01, "r5": 0.04, "r10": 0.03})
        {'r1': 0.03, 'r5': 0.06, 'r10': 0.06}
    """
    corrected: dict[str, float] = {}
    worst = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[name]))
        corrected[name] = worst
    return {name: corrected[name] for name in p_values}


# -- several seeds --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SeedSummary:
    """What several runs of one recipe came to.

    Attributes:
        mean: of the runs.
        deviation: their sample standard deviation, nan for one run.
        runs: how many.
        interval_95: of the mean, by Student's t; None for one run.
    """

    mean: float
    deviation: float
    runs: int
    interval_95: tuple[float, float] | None


def over_seeds(values: Sequence[float]) -> SeedSummary:
    """Return mean and 95 % interval of a figure over runs with several seeds.

    Raises:
        ValueError: there is no run.

    Example:
        >>> summary = over_seeds([70.0, 71.0, 72.0])
        >>> summary.mean, [round(bound, 2) for bound in summary.interval_95]
        (71.0, [68.52, 73.48])
    """
    if not len(values):
        raise ValueError("no run to take the mean of")
    runs, mean = len(values), float(np.mean(values))
    if runs == 1:
        return SeedSummary(mean=mean, deviation=math.nan, runs=1, interval_95=None)
    deviation = float(np.std(values, ddof=1))
    reach = _t_quantile(runs - 1) * deviation / math.sqrt(runs)
    return SeedSummary(mean=mean, deviation=deviation, runs=runs, interval_95=(mean - reach, mean + reach))


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value that the means of two sets of runs are equal (Welch's t, degrees rounded down).

    Raises:
        ValueError: a set has fewer than two runs.

    Example:
        >>> round(welch([1.0, 2.0, 3.0], [11.0, 12.0, 13.0]), 5)
        0.00026
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("Welch's test needs two runs of each")
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (first, second)]
    gap = abs(float(np.mean(first)) - float(np.mean(second)))
    error = math.sqrt(sum(parts))
    if error == 0:
        return 1.0 if gap == 0 else 0.0
    spread = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True))
    return 1 - _t_within(gap / error, max(1, math.floor(sum(parts) ** 2 / spread + 1e-9)))


def _t_within(t: float, degrees: int) -> float:
    """Return the probability of Student's t to lie within -t and t (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for step in range(1 + odd, degrees, 2):
        total += term
        term *= square * step / (step + 1)
    if odd:
        return 2 / math.pi * (angle + sine * total)
    return sine * total


def _t_quantile(degrees: int) -> float:
    low, high = 0.0, 1e4
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, degrees) < LEVEL else (low, middle)
    return high
