"""The structural probe: its loss against slow loops, its learning against trees that are there by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.small_trees import random_heads
from vltk.errors import StoppedEarlyError, UsageError
from vltk.metrics.trees import score_tree, tree_distances, uuas
from vltk.probing.structural import Fitting, Trees, fit, new_probe, predicted_distances


def planted(count: int, *, hidden: int = 24, noise: int = 8) -> tuple[Trees, list[tuple[int, ...]]]:
    """Words whose squared distances are those of their trees under a map that keeps some of their dimensions.

    A word lies where its head lies, plus a step along a dimension of its own; other dimensions are noise.
    """
    dice = np.random.default_rng(7)
    rotation, _ = np.linalg.qr(dice.normal(size=(hidden, hidden)))
    states, heads, starts = [], [], [0]
    for _ in range(count):
        size = int(dice.integers(4, 9))
        tree = random_heads(size, dice)
        places = np.zeros((size, hidden))
        places[:, -noise:] = dice.normal(size=(size, noise))
        order = [tree.index(0)]
        for word in order:
            for child in (place for place, head in enumerate(tree) if head == word + 1):
                places[child, :-noise] = places[word, :-noise]
                places[child, int(child)] += 1
                order.append(child)
        states.append(places @ rotation)
        heads.append(tree)
        starts.append(starts[-1] + size)
    gold = [tree_distances(tree) for tree in heads]
    table = np.concatenate(states).astype(np.float32)
    return Trees(states=table, starts=np.array(starts), gold=gold), heads


@torch.no_grad()
def test_the_loss_is_the_mean_over_pairs_of_words_of_squared_distances_that_are_not_squared_again() -> None:
    trees, _ = planted(6)
    probe, rows = new_probe(24, 6), [5, 0, 3]
    weight = probe.map.weight.double()
    expected = []
    for row in rows:
        words = torch.from_numpy(trees.states[trees.starts[row] : trees.starts[row + 1]]).double()
        missed = [
            abs(float((weight @ (words[i] - words[j])).square().sum()) - int(trees.gold[row][i, j]))
            for i in range(len(words))
            for j in range(len(words))
        ]
        expected.append(sum(missed) / len(words) ** 2)
    found = trees.batch(rows).loss(probe, torch.from_numpy(trees.states))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_probe_gives_the_squared_distances_of_its_equation() -> None:
    trees, _ = planted(5)
    probe = new_probe(24, 6)
    weight = probe.map.weight.detach().numpy().astype(np.float64)
    for row, found in predicted_distances(probe, trees, [0, 2, 4]):
        words = trees.states[trees.starts[row] : trees.starts[row + 1]].astype(np.float64)
        expected = [[float(np.sum((weight @ (a - b)) ** 2)) for b in words] for a in words]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert found.shape == trees.gold[row].shape


def test_trees_that_are_there_are_found_in_sentences_that_were_not_seen() -> None:
    trees, heads = planted(160)
    how = Fitting(rank=16, sentences=8)
    before = dict(predicted_distances(new_probe(24, 16), trees, range(120, 160)))
    fitted = fit(trees, range(100), range(100, 120), how)
    after = dict(predicted_distances(fitted.probe, trees, range(120, 160)))
    figures = [uuas(score_tree(heads[row], found[row]) for row in range(120, 160)) for found in (before, after)]
    assert figures[1] > 0.97 > 0.6 > figures[0]
    assert fitted.validation < 0.1


def test_learning_is_the_same_every_time_and_asks_whether_to_stop() -> None:
    trees, _ = planted(30)
    how = Fitting(rank=4, epochs=3, seed=5)
    first, second = (fit(trees, range(20), range(20, 30), how).probe.map.weight for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(StoppedEarlyError, match="stopped while a probe was learning"):
        fit(trees, range(20), range(20, 30), how, stop=lambda: True)


def test_the_scale_of_states_does_not_matter() -> None:
    trees, _ = planted(80)
    large = Trees(states=trees.states * 1000, starts=trees.starts, gold=trees.gold)
    how = Fitting(rank=16, epochs=1, learning_rate=1e-9)
    first, second = (fit(one, range(60), range(60, 80), how) for one in (trees, large))
    assert first.validation == pytest.approx(second.validation, rel=1e-3)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"epochs": 0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="each number is positive"):
        Fitting(**wrong)  # type: ignore[arg-type]


def test_the_rank_is_at_most_that_of_the_states() -> None:
    assert new_probe(8, 64).map.weight.shape == (8, 8)
