"""A protocol of folds scores the pairs that it compares and no others."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small_pairs import write_pairs
from tests.small_retrieval import sides_of, split_of, uniter
from vltk.errors import DataError
from vltk.evaluation import Opened, RetrievalEvaluation
from vltk.evaluator import Execution, score_matrix
from vltk.evaluator.pool import Pool, pool_of_split
from vltk.evaluator.recalls import measure_retrieval
from vltk.metrics.protocol import RetrievalProtocol
from vltk.stores.score_matrix import ScoreMatrix

FOLDS = RetrievalProtocol(name="two folds", images=8, captions=2, folds=2)


def bar(total: int, label: str) -> Any:
    return nullcontext(lambda count=1: None)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    split = split_of(*write_pairs(tmp_path_factory.mktemp("pairs"), "test", images=8, captions=3))
    task = sides_of(split, uniter()).task
    return Opened(name="captions", task=task, split=split, inputs={"weights": "w"})


def evaluation(opened: Opened, pool: Pool, **more: Any) -> RetrievalEvaluation:
    return RetrievalEvaluation(opened=opened, pool=pool, execution=Execution(), bar=bar, **more)


def test_pairs_across_folds_are_not_scored(opened: Opened, tmp_path: Path) -> None:
    pool = pool_of_split(opened.split, FOLDS)
    assert len(pool.text_ids) == 16, "the first two captions of each image count"
    made = evaluation(opened, pool)
    assert made.plan()["pairs"] == 64
    scores = made.score(tmp_path)
    assert scores is not None
    fold_of = np.arange(8) // 4
    np.testing.assert_array_equal(~np.isnan(scores), fold_of[pool.columns][:, None] == fold_of)
    whole = np.full(scores.shape, np.nan, np.float32)
    score_matrix(made.sides, whole, execution=Execution())
    ours = measure_retrieval(scores, pool, task="captions").measurements
    expected = measure_retrieval(whole, pool, task="captions").measurements
    assert ours == expected


def test_candidates_are_proposed_within_folds(opened: Opened, tmp_path: Path) -> None:
    pool = pool_of_split(opened.split, FOLDS)
    ids = {"text_ids": pool.text_ids, "image_ids": pool.image_ids, "image_of": pool.image_of}
    first = ScoreMatrix(scores=np.random.default_rng(0).normal(size=(16, 8)), **ids)  # type: ignore[arg-type]
    full = evaluation(opened, pool).score(tmp_path / "full")
    all_of_them = evaluation(opened, pool, first=first, candidates=16)
    merged = all_of_them.score(tmp_path / "all")
    assert all_of_them.plan()["pairs"] == 64
    assert merged is not None
    inside = pool.compared
    assert full is not None
    assert inside is not None
    np.testing.assert_array_equal(merged[inside], full[inside].astype(np.float64))
    assert (
        measure_retrieval(merged, pool, task="x").measurements == measure_retrieval(full, pool, task="x").measurements
    )


def test_a_split_that_is_not_the_protocols(opened: Opened) -> None:
    with pytest.raises(DataError, match="the split has 8 images, the protocol 1000"):
        pool_of_split(opened.split, RetrievalProtocol(name="1k", images=1000))
    with pytest.raises(DataError, match="image test-0 has 3 captions, 5 are needed"):
        pool_of_split(opened.split, RetrievalProtocol(name="five", captions=5))
