"""Dependency trees as distances, and how well predicted distances find the tree (Hewitt and Manning 2019).

A tree is the list of its heads: for each word the 1-based index of its head, 0 for the root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError

# The lengths over which Hewitt and Manning average the Spearman correlation (section 3.2).
SPEARMAN_LENGTHS = range(5, 51)
PUNCTUATION = "punct"

Edges = NDArray[np.int64]


def tree_distances(heads: Sequence[int]) -> NDArray[np.int32]:
    """Return the number of edges between every two words of a tree.

    Args:
        heads: for each of N words the 1-based index of its head, 0 for the root.

    Returns:
        [N, N] symmetric, 0 on the diagonal.

    Raises:
        DataError: no root or several, a head that is not there, or a cycle.

    Example:
        >>> tree_distances([2, 0, 2, 3]).tolist()
        [[0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1], [3, 2, 1, 0]]
    """
    order = from_the_root(heads)
    distances = np.zeros((len(heads), len(heads)), np.int32)
    for place, word in enumerate(order[1:], 1):
        known = order[:place]
        distances[word, known] = distances[known, word] = distances[heads[word] - 1, known] + 1
    return distances


def from_the_root(heads: Sequence[int]) -> list[int]:
    """Return the 0-based words of a tree, each behind its head.

    Raises:
        DataError: no root or several, a head that is not there, or a cycle.
    """
    children: dict[int, list[int]] = {}
    for word, head in enumerate(heads):
        children.setdefault(head, []).append(word)
    roots = children.get(0, [])
    if heads and len(roots) != 1:
        problem = f"{len(roots)} roots (words {[word + 1 for word in roots]})"
        raise DataError(problem, where="tree", remedy="a tree has one")
    order = list(roots)
    for word in order:
        order += children.get(word + 1, [])
    if len(order) != len(heads):
        lost = next(word for word in range(len(heads)) if word not in order)
        remedy = "a tree leads every word to its root"
        raise DataError(f"word {lost + 1} with head {heads[lost]} is not under the root", where="tree", remedy=remedy)
    return order


def tree_edges(heads: Sequence[int], keep: Sequence[bool] | None = None) -> Edges:
    """Return the edges between words, [M, 2] 0-based with the smaller word first, in the order of the words.

    Args:
        heads: for each word the 1-based index of its head, 0 for the root.
        keep: for each word whether its edges count, all by default.
    """
    pairs = [
        (min(word, head - 1), max(word, head - 1))
        for word, head in enumerate(heads)
        if head and (keep is None or (keep[word] and keep[head - 1]))
    ]
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def minimum_spanning_tree(distances: NDArray[np.floating], keep: Sequence[bool] | None = None) -> Edges:
    """Return the tree over all words that has the smallest sum of distances (Prim 1957).

    Args:
        distances: [N, N] symmetric; of equal ones the pair of the earlier words wins.
        keep: for each word whether it takes part, all by default.

    Returns:
        [M - 1, 2] edges of the M words that take part, 0-based with the smaller word first, sorted.

    Raises:
        DataError: a distance that is no number.
    """
    words = np.arange(len(distances)) if keep is None else np.flatnonzero(keep)
    if not np.isfinite(distances[np.ix_(words, words)]).all():
        raise DataError("a distance is not finite", where="minimum spanning tree", remedy="look at the probe")
    if len(words) < 2:
        return np.zeros((0, 2), np.int64)
    values = distances[np.ix_(words, words)].astype(np.float64)
    nearest, parent = values[0].copy(), np.zeros(len(words), np.int64)
    outside = np.ones(len(words), bool)
    outside[0] = False
    edges = []
    while outside.any():
        word = int(np.argmin(np.where(outside, nearest, np.inf)))
        edges.append(sorted((int(words[word]), int(words[parent[word]]))))
        outside[word] = False
        closer = outside & (values[word] < nearest)
        nearest[closer], parent[closer] = values[word][closer], word
    return np.array(sorted(edges), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeScore:
    """How well distances find one tree.

    Attributes:
        right: gold edges that the minimum spanning tree has.
        edges: gold edges.
        words: words of the sentence.
        spearman: mean over words of the correlation of their distances with the gold ones, None below two words
            or where all distances of every word are equal.
    """

    right: int
    edges: int
    words: int
    spearman: float | None


def score_tree(
    heads: Sequence[int], predicted: NDArray[np.floating], relations: Sequence[str] | None = None
) -> TreeScore:
    """Compare predicted distances with a gold tree (Hewitt and Manning 2019, section 3.2).

    Args:
        heads: the gold tree.
        predicted: [N, N] predicted distances.
        relations: relation of each word; words that are punctuation take no part in the edges, as published.

    Raises:
        DataError: shapes that do not fit.

    Example:
        >>> gold = tree_distances([2, 0, 2])
        >>> score_tree([2, 0, 2], gold.astype(float)).right
        2
    """
    if predicted.shape != (len(heads), len(heads)):
        problem = f"distances of shape {predicted.shape} for {len(heads)} words"
        raise DataError(problem, where="tree", remedy="give one row and one column a word")
    keep = None if relations is None else [relation.partition(":")[0] != PUNCTUATION for relation in relations]
    gold = {tuple(edge) for edge in tree_edges(heads, keep).tolist()}
    found = {tuple(edge) for edge in minimum_spanning_tree(predicted, keep).tolist()}
    return TreeScore(
        right=len(gold & found),
        edges=len(gold),
        words=len(heads),
        spearman=distance_spearman(tree_distances(heads), predicted),
    )


def uuas(scores: Iterable[TreeScore]) -> float:
    """Return the undirected unlabelled attachment score: right edges of all sentences over all gold edges.

    Raises:
        DataError: no gold edge at all.
    """
    rows = list(scores)
    edges = sum(row.edges for row in rows)
    if not edges:
        raise DataError("no edge to find", where="uuas", remedy="give sentences of two words or more")
    return sum(row.right for row in rows) / edges


def mean_spearman(scores: Iterable[TreeScore], lengths: range = SPEARMAN_LENGTHS) -> float | None:
    """Return the mean over sentence lengths of the mean correlation of sentences of that length, as published.

    Args:
        scores: sentences; those of other lengths do not count.
        lengths: 5 to 50 words in the paper.
    """
    groups: dict[int, list[float]] = {}
    for row in scores:
        if row.spearman is not None and row.words in lengths:
            groups.setdefault(row.words, []).append(row.spearman)
    return float(np.mean([np.mean(group) for group in groups.values()])) if groups else None


def distance_spearman(gold: NDArray[np.generic], predicted: NDArray[np.generic]) -> float | None:
    """Return the mean over words of Spearman's correlation of their distances to all words, themselves included.

    Args:
        gold: [N, N] distances in the tree.
        predicted: [N, N] distances.
    """
    first, second = (_centred(average_ranks(np.asarray(values, np.float64))) for values in (gold, predicted))
    norms = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    good = norms > 0
    return float(((first * second).sum(-1)[good] / norms[good]).mean()) if good.any() else None


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value in its row, from 1; equal values share the mean of their ranks.

    Example:
        >>> average_ranks(np.array([[3.0, 1.0, 3.0]])).tolist()
        [[2.5, 1.0, 2.5]]
    """
    less = (values[:, None, :] < values[:, :, None]).sum(-1)
    equal = (values[:, None, :] == values[:, :, None]).sum(-1)
    ranks: NDArray[np.float64] = less + (equal + 1) / 2
    return ranks


def _centred(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    centred: NDArray[np.float64] = ranks - ranks.mean(-1, keepdims=True)
    return centred


def linear_chain(words: int) -> NDArray[np.float64]:
    """Return the distances of the baseline that joins each word with the next: [N, N] |i - j|."""
    places = np.arange(words, dtype=np.float64)
    return np.abs(places[:, None] - places[None, :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """How well a parser found heads.

    Attributes:
        unlabelled: share of words with the right head (UAS).
        labelled: share of words with the right head and relation (LAS).
        words: how many there are.
    """

    unlabelled: float
    labelled: float
    words: int


def attachment(
    gold: Sequence[tuple[Sequence[int], Sequence[str]]], predicted: Sequence[tuple[Sequence[int], Sequence[str]]]
) -> Attachment:
    """Return UAS and LAS of sentences, each given as (heads, relations).

    Raises:
        DataError: sentences of other lengths.

    Example:
        >>> attachment([([2, 0], ["det", "root"])], [([2, 0], ["amod", "root"])])
        Attachment(unlabelled=1.0, labelled=0.5, words=2)
    """
    heads = labels = words = 0
    for number, ((heads_a, relations_a), (heads_b, relations_b)) in enumerate(zip(gold, predicted, strict=True)):
        if len(heads_a) != len(heads_b):
            problem = f"has {len(heads_a)} words in one and {len(heads_b)} in the other"
            raise DataError(problem, where=f"sentence {number}", remedy="compare parses of the same words")
        right = [a == b for a, b in zip(heads_a, heads_b, strict=True)]
        heads += sum(right)
        labels += sum(good and a == b for good, a, b in zip(right, relations_a, relations_b, strict=True))
        words += len(right)
    if not words:
        raise DataError("no word to compare", where="attachment", remedy="give sentences")
    return Attachment(unlabelled=heads / words, labelled=labels / words, words=words)
