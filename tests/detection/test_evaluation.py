"""Counting what a detector finds, against cases small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vltk.detection.evaluation import Annotated, evaluate
from vltk.detection.region_head import AttributeHead, AttributeHeadsConfig
from vltk.errors import DataError
from vltk.types import RegionFeatures

QUESTIONS = AttributeHeadsConfig(
    heads=(AttributeHead(name="size", values=("small", "large")), AttributeHead(name="colour", values=("red", "blue")))
)
TRUTH = Annotated(
    boxes=np.array([[0, 0, 50, 50], [10, 10, 30, 30], [60, 60, 90, 90]], np.float32),
    classes=np.array([0, 1, 1]),
    attributes={"size": np.array([1, 0, 0]), "colour": np.array([0, 1, -1])},
)


def regions(boxes: list[list[float]], classes: list[int], joint: list[int]) -> RegionFeatures:
    return RegionFeatures(
        image_id="a",
        features=np.zeros((len(boxes), 2), np.float16),
        boxes=np.array(boxes, np.float32),
        size=(100, 100),
        scores=np.linspace(0.9, 0.1, len(boxes)).astype(np.float32),
        class_ids=np.array(classes),
        attribute_ids=np.array(joint),
    )


def test_counts_matches_classes_attributes_and_objects_inside_others() -> None:
    names = QUESTIONS.names
    found = regions(
        [[0, 0, 50, 50], [10, 10, 30, 31], [5, 60, 20, 70]],
        [0, 0, 1],
        [names.index("large red"), names.index("small red"), 0],
    )
    measured = evaluate([TRUTH], [found], attributes=QUESTIONS, names=["star", "ring"])
    assert measured["objects"] == 3
    assert measured["recall"] == pytest.approx(2 / 3)
    assert measured["class accuracy"] == 0.5
    assert measured["size accuracy"] == 1.0
    assert measured["colour accuracy"] == 0.5
    assert (measured["objects inside others"], measured["recall inside others"]) == (1, 1.0)
    assert measured["class accuracy inside others"] == 0.0
    assert measured["AP@0.5"] == {"star": 1.0, "ring": 0.0}


def test_an_unanswered_question_is_not_counted() -> None:
    found = regions([[60, 60, 90, 90]], [1], [QUESTIONS.names.index("small blue")])
    measured = evaluate([TRUTH], [found], attributes=QUESTIONS)
    assert measured["colour accuracy"] is None
    assert measured["size accuracy"] == 1.0


def test_joint_answers_come_apart_as_they_were_joined() -> None:
    assert QUESTIONS.names == ("small red", "small blue", "large red", "large blue")
    apart = QUESTIONS.answers(np.arange(4))
    rebuilt = [" ".join(h.values[apart[h.name][i]] for h in QUESTIONS.heads) for i in range(4)]
    assert tuple(rebuilt) == QUESTIONS.names


def test_pictures_must_correspond_and_regions_must_have_classes() -> None:
    with pytest.raises(DataError, match="1 annotated pictures, 0 with regions"):
        evaluate([TRUTH], [])
    bare = RegionFeatures(image_id="a", features=np.zeros((0, 2), np.float16), boxes=None, size=(9, 9))
    with pytest.raises(DataError, match="image a: has no classes"):
        evaluate([TRUTH], [bare])
