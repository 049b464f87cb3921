"""Tree distances and the two figures of structural probes, against slow loops written from their definitions."""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.errors import DataError
from vltk.metrics.trees import (
    attachment,
    distance_spearman,
    linear_chain,
    mean_spearman,
    minimum_spanning_tree,
    score_tree,
    tree_distances,
    tree_edges,
    uuas,
)


@st.composite
def trees(draw, most=12):
    """Heads of a random tree, projective or not."""
    count = draw(st.integers(1, most))
    order = draw(st.permutations(range(count)))
    heads = [0] * count
    for place in range(1, count):
        heads[order[place]] = order[draw(st.integers(0, place - 1))] + 1
    return heads


def breadth_first(heads):
    """Distances by walking from every word over the edges."""
    neighbours = {word: set() for word in range(len(heads))}
    for word, head in enumerate(heads):
        if head:
            neighbours[word].add(head - 1)
            neighbours[head - 1].add(word)
    table = []
    for start in range(len(heads)):
        reached, queue = {start: 0}, deque([start])
        while queue:
            word = queue.popleft()
            for other in neighbours[word] - reached.keys():
                reached[other] = reached[word] + 1
                queue.append(other)
        table.append([reached[word] for word in range(len(heads))])
    return table


@given(trees())
@settings(max_examples=60, deadline=None)
def test_distances_are_those_of_a_breadth_first_search(heads):
    assert tree_distances(heads).tolist() == breadth_first(heads)


@given(trees())
@settings(max_examples=40, deadline=None)
def test_the_distances_of_a_tree_lead_back_to_it(heads):
    found = minimum_spanning_tree(tree_distances(heads).astype(float))
    assert found.tolist() == tree_edges(heads).tolist()
    if len(heads) > 1:
        score = score_tree(heads, tree_distances(heads).astype(float))
        assert (score.right, score.edges) == (len(heads) - 1, len(heads) - 1)
        assert score.spearman == pytest.approx(1.0)


@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_no_other_tree_is_shorter(count, seed):
    values = np.random.default_rng(seed).random((count, count))
    values = values + values.T
    pairs = list(itertools.combinations(range(count), 2))
    sums = [
        sum(values[edge] for edge in edges)
        for edges in itertools.combinations(pairs, count - 1)
        if connected(count, edges)
    ]
    found = minimum_spanning_tree(values)
    assert sum(values[a, b] for a, b in found) == pytest.approx(min(sums))


def connected(count, edges):
    reached = {0}
    for _ in range(count):
        reached |= {b for a, b in edges if a in reached} | {a for a, b in edges if b in reached}
    return len(reached) == count


def test_spearman_is_the_correlation_of_ranks_word_by_word():
    generator = np.random.default_rng(0)
    gold, predicted = generator.integers(0, 4, (6, 6)).astype(float), generator.random((6, 6))
    rows = []
    for a, b in zip(gold, predicted, strict=True):
        ranks = [[sum(y < x for y in row) + (sum(y == x for y in row) + 1) / 2 for x in row] for row in (a, b)]
        rows.append(np.corrcoef(*ranks)[0, 1])
    assert distance_spearman(gold, predicted) == pytest.approx(np.mean(rows))
    assert distance_spearman(gold, np.ones((6, 6))) is None


def test_spearman_is_a_mean_over_lengths_of_five_to_fifty_words():
    generator = np.random.default_rng(1)
    scores = [score_tree([0, *range(1, length)], generator.random((length, length))) for length in (2, 5, 5, 9, 51)]
    five = (scores[1].spearman + scores[2].spearman) / 2
    assert mean_spearman(scores) == pytest.approx((five + scores[3].spearman) / 2)
    assert mean_spearman(scores[:1]) is None


def test_uuas_counts_edges_over_all_sentences_without_punctuation():
    chain = [2, 3, 0, 3]  # "." hangs on the third word
    relations = ["det", "nsubj", "root", "punct"]
    score = score_tree(chain, linear_chain(4), relations)
    assert (score.right, score.edges) == (2, 2)
    other = score_tree([3, 3, 0], linear_chain(3))  # edges 0-2 and 1-2, the chain has the second
    assert (other.right, other.edges) == (1, 2)
    assert uuas([score, other]) == 0.75
    with pytest.raises(DataError, match="no edge to find"):
        uuas([score_tree([0], np.zeros((1, 1)))])


def test_equal_distances_take_the_earlier_words():
    assert minimum_spanning_tree(np.ones((3, 3))).tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize(
    ("heads", "sentence"),
    [
        ([0, 0], r"2 roots \(words \[1, 2\]\); a tree has one"),
        ([2, 1], r"0 roots \(words \[\]\)"),
        ([0, 3, 2], "word 2 with head 3 is not under the root"),
        ([0, 9], "word 2 with head 9 is not under the root"),
    ],
)
def test_what_is_no_tree_is_refused(heads, sentence):
    with pytest.raises(DataError, match=sentence):
        tree_distances(heads)


def test_distances_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"distances of shape \(3, 3\) for 2 words"):
        score_tree([0, 1], np.zeros((3, 3)))
    with pytest.raises(DataError, match="a distance is not finite"):
        minimum_spanning_tree(np.full((2, 2), np.nan))


def test_attachment_counts_heads_and_relations():
    gold = [([2, 0, 2], ["det", "root", "obj"]), ([0], ["root"])]
    found = [([2, 0, 1], ["det", "root", "obj"]), ([0], ["root"])]
    result = attachment(gold, found)
    assert (result.unlabelled, result.labelled, result.words) == (0.75, 0.75, 4)
    with pytest.raises(DataError, match="sentence 0: has 2 words in one and 1 in the other"):
        attachment([([0, 1], ["root", "x"])], [([0], ["root"])])
    with pytest.raises(DataError, match="no word to compare"):
        attachment([], [])
