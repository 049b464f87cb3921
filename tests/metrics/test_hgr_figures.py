"""The figures of video-text retrieval, where a sentence may belong to several videos, against HGR's procedure."""

from __future__ import annotations

import numpy as np
import pytest

from vltk.metrics.published_retrieval import hgr_figures

NAMES = ("r1", "r5", "r10", "median_rank", "mean_rank")


def plain(scores: np.ndarray, right: list[set[int]]) -> list[float]:
    """Sort every row, and take the first place of a right answer."""
    ranks = []
    for row, wanted in zip(scores, right, strict=True):
        order = sorted(range(len(row)), key=lambda item: -row[item])
        ranks.append(min(order.index(item) for item in wanted))
    below = [100 * sum(rank < k for rank in ranks) / len(ranks) for k in (1, 5, 10)]
    return [*below, float(np.median(ranks)) + 1, float(np.mean(ranks)) + 1]


def test_sentences_are_searched_once_and_right_for_each_of_their_videos() -> None:
    dice = np.random.default_rng(0)
    videos, image_of = 12, np.arange(36) // 3
    texts = [f"sentence {dice.integers(20)}" for _ in range(36)]
    distinct = sorted(set(texts))
    own = dice.random((videos, len(distinct)))
    scores = own[:, [distinct.index(text) for text in texts]]
    of_video: list[set[int]] = [set() for _ in range(videos)]
    for video, text in zip(image_of, texts, strict=True):
        of_video[video].add(distinct.index(text))
    of_text = [{video for video in range(videos) if place in of_video[video]} for place in range(len(distinct))]
    found = hgr_figures(scores, image_of, texts)
    assert len(distinct) < len(texts)
    assert [found[f"i2t_{name}"] for name in NAMES] == pytest.approx(plain(own, of_video))
    assert [found[f"t2i_{name}"] for name in NAMES] == pytest.approx(plain(own.T, of_text))
    assert found["rsum"] == pytest.approx(sum(found[f"{way}_{name}"] for way in ("i2t", "t2i") for name in NAMES[:3]))


def test_a_median_between_two_ranks_stays_there() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert hgr_figures(scores, np.array([0, 1]), ["x", "y"])["i2t_median_rank"] == 1.5
