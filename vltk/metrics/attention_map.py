"""Which regions a picture's embedding speaks of, by their rank (VSRN, section 4.5)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EMPHASIS = 50.0
"""The paper's lambda."""


def rank_weights(correlations: NDArray[Any], *, emphasis: float = EMPHASIS) -> NDArray[np.float64]:
    """Return the weight lambda (k - r)^2 of each of k regions, r being its rank.

    The paper does not say where ranks begin. Here the best has rank 0, so that the last one still weighs something;
    equal ones rank as they stand.

    Args:
        correlations: [R] inner products of the picture's embedding with its regions.
        emphasis: the paper's lambda.

    Example:
        >>> rank_weights(np.array([0.1, 0.9, 0.4]), emphasis=1.0).tolist()
        [1.0, 9.0, 4.0]
    """
    order = np.argsort(-np.asarray(correlations), kind="stable")
    weights = np.empty(len(order), np.float64)
    weights[order] = emphasis * (len(order) - np.arange(len(order))) ** 2
    return weights


def attention_map(weights: NDArray[Any], boxes: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float64]:
    """Add up at each pixel the weights of the regions that it belongs to.

    Args:
        weights: [R].
        boxes: [R, 4] pixels.
        size: (width, height) of the map; boxes are cut to it.

    Returns:
        [height, width].

    Example:
        >>> attention_map(np.array([1.0, 2.0]), np.array([[0, 0, 2, 1], [1, 0, 3, 1]]), (3, 1)).tolist()
        [[1.0, 3.0, 2.0]]
    """
    width, height = size
    # Corner differences: each box costs four additions, whatever its size.
    corners = np.zeros((height + 1, width + 1))
    left, right = (np.clip(np.rint(boxes[:, k]), 0, width).astype(int) for k in (0, 2))
    top, bottom = (np.clip(np.rint(boxes[:, k]), 0, height).astype(int) for k in (1, 3))
    for rows, columns, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(corners, (rows, columns), sign * np.asarray(weights))
    return corners.cumsum(axis=0).cumsum(axis=1)[:height, :width]
