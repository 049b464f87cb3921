"""Similar pictures by their captions, against loops from the definitions and all orders of a few items."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vltk.errors import DataError
from vltk.metrics.similar_pictures import caption_similarity, chance_gain, discounted_gain

CAPTIONS = [["a", "red", "dog", "dog"], ["a", "dog"], ["a", "red", "cat"], ["a"], ["a", "cat", "cat", "bird"], []]


def cosine(first: list[str], second: list[str]) -> float:
    terms = {term for one in CAPTIONS for term in one}
    weight = {term: math.log(len(CAPTIONS) / sum(term in one for one in CAPTIONS)) for term in terms}
    a, b = ({term: one.count(term) * weight[term] for term in terms} for one in (first, second))
    norm = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
    return sum(a[term] * b[term] for term in terms) / norm if norm else 0.0


def test_similarity_is_the_cosine_of_tf_idf() -> None:
    found = caption_similarity(CAPTIONS, [0, 4, 5])
    np.testing.assert_allclose(found, [[cosine(CAPTIONS[q], one) for one in CAPTIONS] for q in (0, 4, 5)], atol=1e-12)


def test_a_term_that_every_caption_says_weighs_nothing() -> None:
    said = [one or ["a"] for one in CAPTIONS]
    without = [[term for term in one if term != "a"] for one in said]
    np.testing.assert_allclose(caption_similarity(said, [0, 1, 2]), caption_similarity(without, [0, 1, 2]))


def by_loop(gains: list[float], order: list[int]) -> float:
    best = sorted((gain for gain in gains if gain > -np.inf), reverse=True)[: len(order)]
    ideal = sum(gain / math.log2(place + 2) for place, gain in enumerate(best))
    return sum(gains[item] / math.log2(place + 2) for place, item in enumerate(order)) / ideal if ideal else 0.0


def test_gains_are_discounted_and_normalised() -> None:
    dice = np.random.default_rng(0)
    gains = dice.random((7, 9))
    gains[np.arange(7), np.arange(7)] = -np.inf
    orders = np.array([[item for item in dice.permutation(9) if item != row][:4] for row in range(7)])
    expected = [by_loop(row.tolist(), order.tolist()) for row, order in zip(gains, orders, strict=True)]
    np.testing.assert_allclose(discounted_gain(gains, orders), expected)
    best = np.argsort(-gains, axis=1)[:, :4]
    np.testing.assert_allclose(discounted_gain(gains, best), 1)
    assert discounted_gain(np.zeros((1, 3)), np.array([[0, 1]])).tolist() == [0.0]


def test_chance_is_the_mean_over_all_orders() -> None:
    gains = np.array([[0.9, -np.inf, 0.1, 0.4, 0.0]])
    orders = [list(order[:2]) for order in itertools.permutations([0, 2, 3, 4])]
    expected = np.mean([by_loop(gains[0].tolist(), order) for order in orders])
    np.testing.assert_allclose(chance_gain(gains, 2), expected)


def test_a_list_that_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="lists of 3 of 2 items"):
        discounted_gain(np.ones((1, 2)), np.array([[0, 1, 0]]))
    with pytest.raises(DataError, match="some of which do not take part"):
        discounted_gain(np.array([[-np.inf, 1.0, 1.0]]), np.array([[0, 1]]))
