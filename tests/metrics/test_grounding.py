"""Overlaps of referring expressions: the published rule, the plain one, and real proposals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.metrics.grounding import is_found, overlaps, published_iou


def published_loop(first: list[float], second: list[float]) -> float:
    """On x, y, w, h, from the index of the reference set: inclusive ends, union from the sides."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = first, second
    x1, y1 = max(ax, bx), max(ay, by)
    x2, y2 = min(ax + aw - 1, bx + bw - 1), min(ay + ah - 1, by + bh - 1)
    shared = (x2 - x1 + 1) * (y2 - y1 + 1) if x1 < x2 and y1 < y2 else 0.0
    union = aw * ah + bw * bh - shared
    return shared / union if union else 0.0


def corners(box: list[float]) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


SIDES = st.lists(st.integers(0, 12), min_size=4, max_size=4)


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES)
def test_published_overlap_equals_a_loop(first: list[int], second: list[int]) -> None:
    found = published_iou(np.array([corners(first)]), np.array([corners(second)]))[0]
    assert found == pytest.approx(published_loop(first, second))


def test_the_two_rules_differ_where_boxes_share_one_column_of_pixels() -> None:
    boxes, target = np.array([[0.0, 0.0, 2.0, 9.0]]), np.array([1.0, 0.0, 2.0, 9.0])
    assert overlaps(boxes, target, rule="plain")[0] == pytest.approx(0.5)
    assert overlaps(boxes, target)[0] == 0


def test_a_half_is_not_enough() -> None:
    assert not is_found(np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([0.0, 0.0, 4.0, 8.0]))
    assert is_found(np.array([[0.0, 0.0, 4.0, 4.1]]), np.array([0.0, 0.0, 4.0, 8.0]))


@pytest.mark.parametrize("rule", ["published", "plain"])
def test_real_proposals_of_refcoco(rule: str, shared: Path) -> None:
    path = shared / "data/refcoco/clip_refcoco_dets/testA_refcoco_unc_dets.json"
    rows = json.loads(path.read_text("utf-8"))
    pairs = [(np.array([corners(box) for box in row["pred_boxes"]]), np.array(corners(row["gt_box"]))) for row in rows]
    assert len(pairs) == 50
    assert sum(is_found(boxes, gold, rule=rule) for boxes, gold in pairs) == 45
    assert sum(is_found(boxes[:1], gold, rule=rule) for boxes, gold in pairs) == 0
