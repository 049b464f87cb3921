"""Two-stage retrieval: what is proposed, what it can reach, and how both stages rank together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small_retrieval import MeanOfBoth, sides_of, small_sides
from vltk.errors import DataError, UsageError
from vltk.evaluator import Execution, embeddings, score_matrix, similarities
from vltk.metrics.retrieval import evaluate_retrieval
from vltk.rerank import merged_scores, propose, recall_ceiling


def slowly_proposed(first: np.ndarray, candidates: int, directions: list[Any]) -> np.ndarray:
    wanted = np.zeros(first.shape, bool)
    for direction in directions:
        scores, marks = (first, wanted) if direction == "t2i" else (first.T, wanted.T)
        for query, row in enumerate(scores):
            best = sorted(range(len(row)), key=lambda item: (-row[item], item))[:candidates]
            marks[query, best] = True
    return wanted


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 7), st.integers(1, 10), st.integers(0, 2**32 - 1), st.booleans())
def test_the_best_of_each_query_are_proposed(texts: int, images: int, candidates: int, seed: int, tied: bool) -> None:
    dice = np.random.default_rng(seed)
    first = dice.integers(0, 3, (texts, images)).astype(np.float32) if tied else dice.normal(size=(texts, images))
    for directions in (["t2i"], ["i2t"], ["t2i", "i2t"]):
        found = propose(first, candidates=candidates, directions=directions)
        np.testing.assert_array_equal(found, slowly_proposed(first, candidates, directions))


def test_folds_are_searched_alone() -> None:
    columns, fold_of = np.array([0, 0, 1, 2, 3]), np.array([0, 0, 1, 1])
    first = np.random.default_rng(0).normal(size=(5, 4))
    wanted = propose(first, candidates=1, directions=["t2i"], fold_of=fold_of, columns=columns)
    assert wanted.sum(axis=1).tolist() == [1] * 5
    for row, column in np.argwhere(wanted):
        assert fold_of[column] == fold_of[columns[row]]
    everything = propose(first, candidates=9, fold_of=fold_of, columns=columns)
    np.testing.assert_array_equal(everything, fold_of[columns][:, None] == fold_of)


def test_the_ceiling_counts_right_answers_among_the_candidates() -> None:
    dice = np.random.default_rng(1)
    first, columns = dice.normal(size=(40, 8)), np.repeat(np.arange(8), 5)
    wanted = propose(first, candidates=3)
    hits = [bool(wanted[row, column]) for row, column in enumerate(columns)]
    found = recall_ceiling(wanted, columns)
    assert found["t2i"] == np.mean(hits)
    assert found["i2t"] == np.mean([any(hits[5 * image : 5 * image + 5]) for image in range(8)])
    assert 0 < found["t2i"] < 1
    assert set(recall_ceiling(propose(first, candidates=8), columns).values()) == {1.0}


def test_reranked_pairs_stand_first_and_the_rest_keeps_its_order() -> None:
    dice = np.random.default_rng(2)
    first = dice.normal(size=(6, 9)).astype(np.float32)
    wanted = propose(first, candidates=3, directions=["t2i"])
    second = np.where(wanted, dice.normal(size=first.shape) * 100, np.nan)
    merged = merged_scores(first, second)
    for row in range(6):
        expected = sorted(
            range(9),
            key=lambda item: (0, -second[row, item]) if wanted[row, item] else (1, -float(first[row, item])),
        )
        assert np.argsort(-merged[row]).tolist() == expected


def test_with_all_candidates_the_second_stage_decides_alone(tmp_path: Path) -> None:
    joint = small_sides(tmp_path)
    dual = sides_of(joint.split, MeanOfBoth())
    first = np.empty((12, 6), np.float32)
    similarities(*(embeddings(dual, side, execution=Execution()) for side in ("texts", "images")), first)
    full, second = (np.full((12, 6), np.nan, np.float32) for _ in range(2))
    score_matrix(joint, full, execution=Execution())
    score_matrix(joint, second, execution=Execution(), wanted=propose(first, candidates=6))
    np.testing.assert_array_equal(second, full)
    np.testing.assert_array_equal(merged_scores(first, second), full.astype(np.float64))


@pytest.mark.parametrize("candidates", [1, 2, 4])
def test_no_recall_at_one_exceeds_the_ceiling(candidates: int) -> None:
    dice = np.random.default_rng(3)
    columns = np.repeat(np.arange(10), 5)
    first = dice.normal(size=(50, 10)) + (columns[:, None] == np.arange(10))
    perfect = (columns[:, None] == np.arange(10)).astype(np.float64)
    wanted = propose(first, candidates=candidates)
    merged = merged_scores(first, np.where(wanted, perfect + dice.normal(size=perfect.shape) * 1e-3, np.nan))
    ids = {"image_ids": [str(i) for i in range(10)], "caption_ids": [str(i) for i in range(50)]}
    found = evaluate_retrieval(merged.T, columns, **ids).figures
    ceiling = recall_ceiling(wanted, columns)
    # With a perfect second stage nothing but the ceiling limits what is found first.
    assert found["t2i_r1"] == pytest.approx(100 * ceiling["t2i"])
    assert found["i2t_r1"] == pytest.approx(100 * ceiling["i2t"])


def test_a_first_stage_with_gaps_is_refused() -> None:
    first = np.zeros((2, 3))
    first[1, 2] = np.nan
    with pytest.raises(DataError, match="the first stage has no score of query 1 and item 2"):
        propose(first, candidates=1)


def test_no_candidates_are_refused() -> None:
    with pytest.raises(UsageError, match="0 candidates leave nothing to rank"):
        propose(np.zeros((2, 2)), candidates=0)


def test_stages_of_different_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"the stages have the shapes \(2, 2\) and \(2, 3\)"):
        merged_scores(np.zeros((2, 2)), np.zeros((2, 3)))


def test_a_second_stage_without_scores_is_refused() -> None:
    with pytest.raises(DataError, match="scored no pair"):
        merged_scores(np.zeros((2, 2)), np.full((2, 2), np.nan))
