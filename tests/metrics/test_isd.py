"""ISDa: a loop over the paper's algorithm, what must not change it, and what it refuses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vltk.errors import DataError
from vltk.metrics.isd import Reading, distance, isda, relations, shuffled

DICE = np.random.default_rng(5)
TEXT, REGIONS = DICE.normal(size=(3, 4, 7, 7)), DICE.normal(size=(3, 4, 5, 5))
WORDS, BOXES = [[0, 1], [3], [4, 6]], [[2], [0, 4], [1]]


def slowly(scores: np.ndarray, groups: list[list[int]]) -> list[list[float]]:
    """Algorithm 1 for one head, in plain Python: probabilities, patches, sums over columns, means over rows."""
    rows = [[math.exp(value) / sum(math.exp(other) for other in row) for value in row] for row in scores.tolist()]
    objects = [
        [sum(rows[i][j] for i in source for j in target) / len(source) for target in groups] for source in groups
    ]
    return [[value / sum(row) for value in row] for row in objects]


def slow_distance(a: list[list[float]], b: list[list[float]]) -> float:
    pairs = (pair for left, right in zip(a, b, strict=True) for pair in zip(left, right, strict=True))
    return sum(p * math.log(p / q) + q * math.log(q / p) for p, q in pairs)


def test_each_head_is_the_papers_algorithm() -> None:
    expected = np.mean(
        [
            [slow_distance(slowly(TEXT[layer, head], WORDS), slowly(REGIONS[layer, head], BOXES)) for head in range(4)]
            for layer in range(3)
        ],
        axis=1,
    )
    found = isda(TEXT, REGIONS, WORDS, BOXES, reading=Reading(heads="each", rows="sum"))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_heads_are_averaged_before_objects_are_extracted() -> None:
    def probabilities(scores: np.ndarray) -> np.ndarray:
        return (np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)).mean(axis=1, keepdims=True)

    logs = (np.log(probabilities(scores)) for scores in (TEXT, REGIONS))
    one_head = isda(*logs, WORDS, BOXES, reading=Reading(heads="each"))
    np.testing.assert_allclose(isda(TEXT, REGIONS, WORDS, BOXES), one_head, rtol=1e-12)


def test_the_mean_over_rows_is_the_sum_by_the_number_of_objects() -> None:
    mean, total = (isda(TEXT, REGIONS, WORDS, BOXES, reading=Reading(rows=rows)) for rows in ("mean", "sum"))
    np.testing.assert_allclose(mean * 3, total)


@pytest.mark.parametrize(
    "reading", [Reading(heads=h, softmax=s) for h in ("mean", "each") for s in ("before", "after")]
)
def test_the_same_attention_on_both_sides_has_no_distance(reading: Reading) -> None:
    np.testing.assert_allclose(isda(TEXT, TEXT, WORDS, WORDS, reading=reading), 0, atol=1e-15)
    assert isda(TEXT, REGIONS, WORDS, BOXES, reading=reading).min() > 0


def test_attention_to_nothing_but_itself_has_no_distance() -> None:
    alone = np.where(np.eye(3, dtype=bool), 0.0, -1e5)[None]
    groups = [[0], [1], [2]]
    assert isda(alone, alone, groups, groups) == 0


def test_the_order_of_objects_and_regions_changes_nothing() -> None:
    order = [2, 0, 1]
    regions = DICE.permutation(5)
    place = np.argsort(regions)
    moved = isda(
        TEXT,
        REGIONS[..., regions[:, None], regions],
        [WORDS[i] for i in order],
        [[int(place[r]) for r in BOXES[i]] for i in order],
    )
    np.testing.assert_allclose(moved, isda(TEXT, REGIONS, WORDS, BOXES), rtol=1e-12)


def test_shuffled_objects_are_the_distance_of_shuffled_groups() -> None:
    reading = Reading()
    pair = relations(TEXT[0], WORDS, reading), relations(REGIONS[0], BOXES, reading)
    orders = np.array(list(itertools.permutations(range(3))))
    expected = [isda(TEXT[0], REGIONS[0], WORDS, [BOXES[i] for i in order]) for order in orders]
    np.testing.assert_allclose(shuffled(*pair, orders, rows="mean"), expected, rtol=1e-12)


def test_a_divergence_from_nothing_is_infinite_and_nothing_from_nothing_is_none() -> None:
    whole, half = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    assert distance(whole, whole, rows="sum") == 0
    assert distance(whole, half, rows="sum") == np.inf


@pytest.mark.parametrize(
    ("words", "boxes", "message"),
    [
        ([[0]], [[0]], "1 objects of the text and 1 of the picture"),
        ([[0], [1]], [[0]], "2 objects of the text and 1 of the picture"),
        ([[0], []], [[0], [1]], r"object 1 has word pieces \[\] of 7"),
        ([[0], [1]], [[0], [5]], r"object 1 has regions \[5\] of 5"),
        ([[0], [-1]], [[0], [1]], r"object 1 has word pieces \[-1\] of 7"),
    ],
)
def test_objects_that_cannot_be_compared_are_refused(words: list, boxes: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        isda(TEXT, REGIONS, words, boxes)


def test_a_score_that_is_no_number_is_refused() -> None:
    broken = REGIONS.copy()
    broken[1, 2, 3, 4] = np.nan
    with pytest.raises(DataError, match="an attention score among regions is no finite number"):
        isda(TEXT, broken, WORDS, BOXES)
