"""How good a list of similar pictures is, by what their captions have in common (Gordo and Larlus, CVPR 2017)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError


def caption_similarity(captions: Sequence[Sequence[str]], queries: Sequence[int]) -> NDArray[np.float64]:
    """Return the cosine of tf-idf vectors of what is said of pictures (Gordo and Larlus 2017, section 3.1).

    A term that is said of all pictures weighs nothing.

    Args:
        captions: for each of N pictures the terms that all its captions say, e.g. words.
        queries: Q of the pictures.

    Returns:
        [Q, N], from 0 to 1.

    Example:
        >>> caption_similarity([["dog", "red"], ["dog", "red"], ["cat"], ["cat", "dog"]], [0]).round(2).tolist()
        [[1.0, 1.0, 0.0, 0.15]]
    """
    counts = [Counter(terms) for terms in captions]
    seen = Counter(term for one in counts for term in one)
    weights = {term: np.log(len(captions) / number) for term, number in seen.items()}
    lengths = np.array([sum((number * weights[term]) ** 2 for term, number in one.items()) for one in counts]) ** 0.5
    # Terms of no query add nothing to an inner product.
    terms = {term: place for place, term in enumerate(dict.fromkeys(term for row in queries for term in counts[row]))}
    table = np.zeros((len(captions), len(terms)))
    for row, one in enumerate(counts):
        for term, number in one.items():
            if term in terms:
                table[row, terms[term]] = number * weights[term]
    table /= np.where(lengths > 0, lengths, 1.0)[:, None]
    found: NDArray[np.float64] = table[list(queries)] @ table.T
    return found.clip(0, 1)


def discounted_gain(gains: NDArray[np.floating], found: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the normalised discounted cumulative gain of each list (Järvelin and Kekäläinen, 2002).

    Args:
        gains: [Q, N] what each item is worth to a query; minus infinity for items that do not take part.
        found: [Q, k] the items of each list, the best first.

    Returns:
        [Q], 1 for the best possible list of k items; 0 where nothing is worth anything.

    Raises:
        DataError: a list longer than there are items, or with an item that does not take part.

    Example:
        >>> gains = np.array([[1.0, 0.5, 0.0]])
        >>> [discounted_gain(gains, np.array([row])).round(2).tolist() for row in ([0, 1], [2, 0])]
        [[1.0], [0.48]]
    """
    length = found.shape[1]
    best = -np.sort(-gains, axis=1)[:, :length]
    worth = np.take_along_axis(gains, found, axis=1)
    if best.shape[1] < length or not (np.isfinite(worth).all() and np.isfinite(best).all()):
        problem = f"lists of {length} of {gains.shape[1]} items, some of which do not take part"
        raise DataError(problem, where="discounted gain", remedy="ask for fewer")
    discounts = 1 / np.log2(np.arange(2, length + 2))
    ideal = best @ discounts
    reached: NDArray[np.float64] = worth @ discounts
    shares: NDArray[np.float64] = np.divide(reached, ideal, out=np.zeros_like(reached), where=ideal > 0)
    return shares


def chance_gain(gains: NDArray[np.floating], length: int) -> NDArray[np.float64]:
    """Return [Q] what :func:`discounted_gain` is on average for items in random order."""
    part = np.isfinite(gains)
    means = np.where(part, gains, 0).sum(axis=1) / part.sum(axis=1)
    discounts = 1 / np.log2(np.arange(2, length + 2))
    ideal = -np.sort(-gains, axis=1)[:, :length] @ discounts
    found: NDArray[np.float64] = np.divide(means * discounts.sum(), ideal, out=np.zeros_like(ideal), where=ideal > 0)
    return found
