"""How sure the figures of structural probes are: bootstrap over images, and differences on the same sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.metrics.significance import bootstrap_means, cluster_sums, mean_interval, percentiles
from vltk.metrics.trees import SPEARMAN_LENGTHS, TreeScore, uuas

Interval = tuple[float, float]


def uuas_interval(scores: Sequence[TreeScore], images: Sequence[str], *, seed: int = 0) -> Interval:
    """Return the 95 % interval of UUAS; the sentences of an image are drawn together.

    Args:
        scores: of S sentences.
        images: the image of each.
        seed: of the draws.

    Example:
        >>> scores = [TreeScore(right=k % 3, edges=2, words=3, spearman=None) for k in range(90)]
        >>> low, high = uuas_interval(scores, [str(k) for k in range(90)])
        >>> low < 0.5 < high
        True
    """
    sums, counts = _edges([scores], images)
    if sums.sum() in (0, counts.sum()):
        return mean_interval((sums > 0).astype(np.float64).ravel())
    return percentiles(bootstrap_means(sums, counts, seed=seed))[0]


def uuas_gain(
    first: Sequence[TreeScore], second: Sequence[TreeScore], images: Sequence[str], *, seed: int = 0
) -> tuple[float, Interval]:
    """Return by how much the first UUAS exceeds the second on the same sentences, and its 95 % interval.

    Args:
        first: of S sentences.
        second: of the same ones.
        images: the image of each.
        seed: of the draws.

    Raises:
        DataError: other sentences.
    """
    sums, counts = _edges([first, second], images)
    means = bootstrap_means(sums, counts, seed=seed)
    return uuas(first) - uuas(second), percentiles(means[:, :1] - means[:, 1:])[0]


def _edges(
    systems: Sequence[Sequence[TreeScore]], images: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return [G, K] right edges of each image by each system, and its [G, 1] edges; images without one are left out."""
    gold = [[one.edges for one in scores] for scores in systems]
    if any(row != gold[0] or len(row) != len(images) for row in gold):
        raise DataError("the scores are of other sentences", where="uuas", remedy="score the same sentences")
    _, clusters = np.unique(images, return_inverse=True)
    right = np.array([[one.right for one in scores] for scores in systems], np.float64).T
    count = int(clusters.max(initial=-1)) + 1
    sums = cluster_sums(right, clusters, count)
    edges = cluster_sums(np.array(gold[:1], np.float64).T, clusters, count)
    kept = edges[:, 0] > 0
    if not kept.any():
        raise DataError("no edge to find", where="uuas", remedy="give sentences of two words or more")
    return sums[kept], edges[kept]


def spearman_interval(
    scores: Sequence[TreeScore], images: Sequence[str], *, lengths: range = SPEARMAN_LENGTHS, seed: int = 0
) -> Interval | None:
    """Return the 95 % interval of :func:`~vltk.metrics.trees.mean_spearman`, a mean over lengths of means.

    Args:
        scores: of S sentences.
        images: the image of each.
        lengths: as there.
        seed: of the draws.
    """
    counted = [
        (one, image)
        for one, image in zip(scores, images, strict=True)
        if one.spearman is not None and one.words in lengths
    ]
    if not counted:
        return None
    _, clusters = np.unique([image for _, image in counted], return_inverse=True)
    columns, place = np.unique([one.words for one, _ in counted], return_inverse=True)
    table = np.zeros((2, len(counted), len(columns)))
    rows = np.arange(len(counted))
    table[0, rows, place], table[1, rows, place] = [one.spearman for one, _ in counted], 1.0
    count = int(clusters.max()) + 1
    with np.errstate(invalid="ignore"):  # a draw may hold no sentence of some length, which then counts for nothing
        means = bootstrap_means(*(cluster_sums(part, clusters, count) for part in table), seed=seed)
    return percentiles(np.nanmean(means, axis=1, keepdims=True))[0]
