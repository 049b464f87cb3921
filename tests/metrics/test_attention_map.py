"""Weights of regions by rank, and the map that their boxes add up to."""

from __future__ import annotations

import numpy as np

from vltk.metrics.attention_map import EMPHASIS, attention_map, rank_weights


def test_weights_fall_with_the_square_of_the_rank() -> None:
    found = rank_weights(np.array([-1.0, 5.0, 2.0, 2.0]))
    assert found.tolist() == [EMPHASIS, 16 * EMPHASIS, 9 * EMPHASIS, 4 * EMPHASIS]
    assert rank_weights(np.array([0.3])).tolist() == [EMPHASIS]


def test_a_map_is_the_sum_over_boxes_at_each_pixel() -> None:
    dice = np.random.default_rng(0)
    corners = np.sort(dice.uniform(-3, 24, (12, 2, 2)), axis=1)
    boxes = corners.reshape(12, 4)
    weights = dice.random(12)
    expected = np.zeros((15, 20))
    for weight, box in zip(weights, np.rint(boxes).astype(int), strict=True):
        left, top, right, bottom = np.clip(box, 0, [20, 15, 20, 15])
        expected[top:bottom, left:right] += weight
    np.testing.assert_allclose(attention_map(weights, boxes, (20, 15)), expected, atol=1e-9)
