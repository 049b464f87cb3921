"""Intervals of probes' figures, against the bootstrap written as a loop over drawn images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import networkx
import numpy as np
import pytest

from vltk.errors import DataError
from vltk.metrics.significance import DRAWS
from vltk.metrics.tree_figures import spearman_interval, uuas_gain, uuas_interval
from vltk.metrics.trees import TreeScore, mean_spearman, minimum_spanning_tree, uuas


def drawn(seed: int, count: int = 30) -> tuple[list[TreeScore], list[str]]:
    dice = np.random.default_rng(seed)
    scores = []
    for _ in range(count):
        words = int(dice.integers(4, 9))
        spearman = None if dice.random() < 0.1 else float(dice.uniform(-1, 1))
        scores.append(TreeScore(right=int(dice.integers(words)), edges=words - 1, words=words, spearman=spearman))
    return scores, [f"p{dice.integers(8)}" for _ in range(count)]


def by_loop(images: Sequence[str], figure: Callable[[list[int]], float | None], seed: int = 0) -> tuple[float, float]:
    """The figure of every draw of images, each image bringing all its sentences."""
    names = sorted(set(images))
    groups = [[row for row, image in enumerate(images) if image == name] for name in names]
    generator = np.random.default_rng(seed)
    values = []
    for start in range(0, DRAWS, 200):
        for draw in generator.integers(0, len(names), (min(200, DRAWS - start), len(names))):
            values.append(figure([row for group in draw for row in groups[group]]))
    low, high = np.quantile(np.array(values, float), [0.025, 0.975])
    return low, high


def test_the_interval_of_uuas_is_that_of_drawing_images() -> None:
    scores, images = drawn(1)
    expected = by_loop(images, lambda rows: uuas(scores[row] for row in rows))
    np.testing.assert_allclose(uuas_interval(scores, images), expected)


def test_a_gain_is_taken_on_the_same_draws() -> None:
    scores, images = drawn(2)
    worse = [
        TreeScore(right=max(0, one.right - row % 2), edges=one.edges, words=one.words, spearman=None)
        for row, one in enumerate(scores)
    ]
    gain, interval = uuas_gain(scores, worse, images)
    assert gain == pytest.approx(uuas(scores) - uuas(worse))
    expected = by_loop(images, lambda rows: uuas(scores[r] for r in rows) - uuas(worse[r] for r in rows))
    np.testing.assert_allclose(interval, expected)
    assert uuas_gain(scores, scores, images) == (0.0, (0.0, 0.0))


def test_the_interval_of_spearman_draws_images_and_means_over_lengths() -> None:
    scores, images = drawn(3)
    # Images without a sentence that counts are never drawn.
    kept = [row for row, one in enumerate(scores) if one.spearman is not None and one.words >= 5]
    scores, images = [scores[row] for row in kept], [images[row] for row in kept]
    expected = by_loop(images, lambda rows: mean_spearman([scores[row] for row in rows]))
    np.testing.assert_allclose(spearman_interval(scores, images), expected)
    short = [TreeScore(right=1, edges=2, words=3, spearman=0.5)]
    assert spearman_interval(short, ["p"]) is None


def test_what_is_always_right_has_an_interval_all_the_same() -> None:
    scores = [TreeScore(right=4, edges=4, words=5, spearman=1.0)] * 20
    low, high = uuas_interval(scores, [str(row) for row in range(20)])
    assert (round(low, 2), high) == (0.83, 1.0)


def test_scores_of_other_sentences_are_refused() -> None:
    scores, images = drawn(4)
    with pytest.raises(DataError, match="the scores are of other sentences"):
        uuas_gain(scores, scores[::-1], images)
    with pytest.raises(DataError, match="no edge to find"):
        uuas_interval([TreeScore(right=0, edges=0, words=1, spearman=None)], ["p"])


@pytest.mark.parametrize("seed", range(5))
def test_spanning_trees_weigh_what_those_of_networkx_weigh(seed: int) -> None:
    dice = np.random.default_rng(seed)
    table = dice.random((9, 9))
    table = table + table.T
    edges = minimum_spanning_tree(table)
    graph = networkx.Graph()
    graph.add_weighted_edges_from((a, b, table[a, b]) for a in range(9) for b in range(a))
    expected = networkx.minimum_spanning_tree(graph)
    assert {tuple(edge) for edge in edges.tolist()} == {tuple(sorted(edge)) for edge in expected.edges}
