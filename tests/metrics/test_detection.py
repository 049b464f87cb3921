"""COCO's average precision against the COCO tool itself."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vltk.metrics.detection import Boxes, average_precision, box_iou, match, mean_average_precision


def world(seed: int) -> tuple[list[Boxes], list[Boxes]]:
    """Random pictures whose detections are jittered true boxes, doubles and false alarms."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(12):
        count = int(rng.integers(1, 7))
        corner, side = rng.uniform(0, 60, (count, 2)), rng.uniform(8, 40, (count, 2))
        boxes, labels = np.hstack([corner, corner + side]), rng.integers(1, 4, count)
        seen = np.vstack([boxes + rng.normal(0, 4, boxes.shape), boxes + rng.normal(0, 9, boxes.shape)])
        seen[:, 2:] = np.maximum(seen[:, 2:], seen[:, :2] + 1)
        guessed = np.where(rng.random(2 * count) < 0.8, np.tile(labels, 2), rng.integers(1, 4, 2 * count))
        truth.append(Boxes(boxes=boxes, labels=labels))
        found.append(Boxes(boxes=seen, labels=guessed, scores=rng.permutation(2 * count) / 100 + rng.random() / 1000))
    return truth, found


def coco_precision(truth: list[Boxes], found: list[Boxes], iou: float) -> dict[int, float]:
    def rows(pictures: list[Boxes]) -> list[dict[str, object]]:
        return [
            {
                "image_id": i,
                "category_id": int(label),
                "bbox": [*box[:2], *(box[2:] - box[:2])],
                "iscrowd": 0,
                "area": float((box[2:] - box[:2]).prod()),
                **({} if p.scores is None else {"score": float(p.scores[j])}),
            }
            for i, p in enumerate(pictures)
            for j, (box, label) in enumerate(zip(p.boxes, p.labels, strict=True))
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(len(truth))],
            "annotations": [row | {"id": n + 1} for n, row in enumerate(rows(truth))],
            "categories": [{"id": label} for label in (1, 2, 3)],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(rows(found)), "bbox")
        judge.params.iouThrs = np.array([iou])
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    return {label: float(judge.eval["precision"][0, :, k, 0, -1].mean()) for k, label in enumerate((1, 2, 3))}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_equals_the_coco_tool(seed: int, iou: float) -> None:
    truth, found = world(seed)
    ours, official = average_precision(truth, found, iou=iou), coco_precision(truth, found, iou)
    assert {label: pytest.approx(value, abs=1e-9) for label, value in official.items()} == ours
    assert mean_average_precision(truth, found, iou=iou) == pytest.approx(np.mean(list(official.values())))


def test_a_class_without_detections_scores_zero_and_one_without_truth_is_left_out() -> None:
    box = np.array([[0.0, 0.0, 4.0, 4.0]])
    truth = [Boxes(boxes=box, labels=np.array([1]))]
    found = [Boxes(boxes=box, labels=np.array([2]), scores=np.array([0.5]))]
    assert average_precision(truth, found) == {1: 0.0}


def test_iou_of_touching_contained_and_empty_boxes() -> None:
    boxes = np.array([[0, 0, 4, 4], [4, 0, 8, 4], [0, 0, 2, 2], [1, 1, 1, 1]], np.float32)
    np.testing.assert_allclose(box_iou(boxes[:1], boxes), [[1, 0, 0.25, 0]])
    assert box_iou(boxes[3:], boxes[3:])[0, 0] == 0


def test_a_true_box_is_given_once_to_the_best_score() -> None:
    truth, found = np.array([[0, 0, 4, 4.0]]), np.array([[0, 0, 4, 3.0], [0, 0, 4, 4.0]])
    assert match(truth, found, np.array([0, 1]), iou=0.5).tolist() == [0, -1]


def test_different_numbers_of_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="1 pictures with true boxes, 0 with detections"):
        average_precision([Boxes(boxes=np.zeros((0, 4)), labels=np.zeros(0, int))], [])
