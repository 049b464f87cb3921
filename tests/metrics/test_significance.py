"""Intervals hold the truth as often as they say, and tests find a difference by chance no oftener than they say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.metrics.retrieval import fold_figures
from vltk.metrics.significance import (
    bootstrap_means,
    cluster_sums,
    holm,
    mcnemar,
    mean_interval,
    over_seeds,
    paired_permutation,
    percentiles,
    recall_intervals,
    welch,
)


def draw_hits(rng: np.random.Generator, worlds: int, images: int, captions: int) -> np.ndarray:
    """Hits [worlds, images, captions] with the mean 0.6: every image is easy or hard, so its captions go together."""
    ease = rng.beta(1.5, 1.0, (worlds, images, 1))
    return (rng.random((worlds, images, captions)) < ease).astype(float)


class TestBootstrap:
    WORLDS, IMAGES, CAPTIONS, TRUTH = 2000, 150, 5, 0.6

    def coverage(self, clusters: np.ndarray) -> float:
        hits = draw_hits(np.random.default_rng(1), self.WORLDS, self.IMAGES, self.CAPTIONS)
        items = hits.reshape(self.WORLDS, -1).T
        count = int(clusters.max()) + 1
        sizes = np.bincount(clusters).astype(float)[:, None]
        bounds = percentiles(bootstrap_means(cluster_sums(items, clusters, count), sizes, draws=600))
        return float(np.mean([low <= self.TRUTH <= high for low, high in bounds]))

    def test_the_interval_over_images_holds_the_truth_in_95_of_100_worlds(self) -> None:
        assert self.coverage(np.arange(self.IMAGES).repeat(self.CAPTIONS)) == pytest.approx(0.95, abs=0.02)

    def test_captions_drawn_one_by_one_would_promise_too_much(self) -> None:
        assert self.coverage(np.arange(self.IMAGES * self.CAPTIONS)) < 0.88

    def test_recall_intervals_hold_the_truth(self) -> None:
        rng, images, worlds = np.random.default_rng(2), 100, 400
        image_of = np.arange(3 * images) // 3
        recalls = 100 * np.array([0.4, 1 - 0.6**5, 1 - 0.6**10, 0.6, 0.6, 0.6])
        truth = {"t2i_r1": 60.0, "i2t_r5": recalls[1], "rsum": recalls.sum(), "i2t_mean_rank": 2.5}
        held = dict.fromkeys(truth, 0)
        for _ in range(worlds):
            ease = rng.beta(1.5, 1.0, images)
            i2t = rng.geometric(np.full(images, 0.4))
            t2i = np.where(rng.random(3 * images) < ease[image_of], 1, 100)
            found = recall_intervals(i2t, t2i, image_of)
            for name, value in truth.items():
                held[name] += found[name][0] <= value <= found[name][1]
        assert {name: count / worlds for name, count in held.items()} == pytest.approx(
            dict.fromkeys(truth, 0.95), abs=0.03
        )

    def test_means_equal_a_loop_over_the_same_draws(self) -> None:
        rng = np.random.default_rng(3)
        sums, sizes = rng.random((7, 2)), rng.integers(1, 4, (7, 2)).astype(float)
        chosen = np.random.default_rng(9).integers(0, 7, (5, 7))
        slow = [[sums[row, k].sum() / sizes[row, k].sum() for k in range(2)] for row in chosen]
        np.testing.assert_allclose(bootstrap_means(sums, sizes, draws=5, seed=9), slow)

    def test_the_order_of_items_does_not_count(self) -> None:
        rng = np.random.default_rng(4)
        values, clusters = rng.random(60), rng.integers(0, 20, 60)
        order = rng.permutation(60)
        assert mean_interval(values, clusters) == pytest.approx(mean_interval(values[order], clusters[order]))

    def test_without_a_single_miss_the_interval_is_not_empty(self) -> None:
        bound = 0.025 ** (1 / 40)  # 40 of 40 hits: Clopper and Pearson
        assert mean_interval(np.ones(80), np.arange(80) // 2) == pytest.approx((bound, 1))
        assert mean_interval(np.zeros(80), np.arange(80) // 2) == pytest.approx((0, 1 - bound))
        assert mean_interval(np.full(80, 0.3)) == pytest.approx((0.3, 0.3))
        perfect = recall_intervals(np.ones(40, int), np.ones(80, int), np.arange(80) // 2)
        assert perfect["t2i_r1"] == pytest.approx((100 * 0.025 ** (1 / 40), 100))

    def test_figures_lie_in_their_intervals(self) -> None:
        rng = np.random.default_rng(5)
        i2t, t2i, image_of = (
            rng.integers(1, 30, 50),
            rng.integers(1, 30, 120),
            np.r_[np.arange(50), rng.integers(0, 50, 70)],
        )
        figures, found = fold_figures(i2t, t2i), recall_intervals(i2t, t2i, image_of)
        assert found.keys() == {name for name in figures if "median" not in name}
        assert all(low < figures[name] < high for name, (low, high) in found.items())

    def test_nothing_has_no_interval(self) -> None:
        with pytest.raises(ValueError, match="an interval of no values"):
            mean_interval([])


class TestPermutation:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
    def test_few_clusters_are_tried_exactly(self, differences: list[int]) -> None:
        patterns = itertools.product((1, -1), repeat=len(differences))
        sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns]
        exact = sum(one >= abs(sum(differences)) for one in sums) / len(sums)
        assert paired_permutation(np.array(differences, float)) == pytest.approx(exact)

    def test_many_clusters_come_near_the_exact_test(self) -> None:
        better, worse = 40, 22
        differences = np.r_[np.ones(better), -np.ones(worse), np.zeros(500)] / 3
        exact = mcnemar(np.arange(62) < better, np.arange(62) >= better)
        assert paired_permutation(differences) == pytest.approx(exact, abs=0.01)

    def test_no_difference_is_found_in_5_of_100_worlds_without_one(self) -> None:
        rng = np.random.default_rng(6)
        found = [paired_permutation(rng.normal(size=40), flips=400, seed=world) <= 0.05 for world in range(400)]
        assert np.mean(found) == pytest.approx(0.05, abs=0.03)

    def test_exchanging_the_systems_changes_nothing(self) -> None:
        differences = np.random.default_rng(7).normal(0.2, 1, 50)
        assert paired_permutation(differences) == paired_permutation(-differences)

    def test_equal_systems(self) -> None:
        assert paired_permutation(np.zeros(9)) == 1


class TestMcNemar:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
    def test_equals_the_binomial_sum(self, first: int, second: int, both: int) -> None:
        trials, fewer = first + second, min(first, second)
        exact = min(1.0, 2 * sum(math.comb(trials, k) for k in range(fewer + 1)) / 2**trials)
        kinds = [(True, False)] * first + [(False, True)] * second + [(True, True)] * both
        hits = np.array(kinds, bool).reshape(-1, 2)
        assert mcnemar(hits[:, 0], hits[:, 1]) == pytest.approx(exact, rel=1e-9)

    def test_thousands_of_items_do_not_underflow(self) -> None:
        first = np.arange(20_000) < 10_300
        assert mcnemar(first, ~first) == pytest.approx(2.3e-5, rel=0.05)


def test_holm_as_in_a_worked_example() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(corrected) == list("abcd")
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=6))
def test_holm_never_lowers_and_keeps_the_order(p_values: dict[str, float]) -> None:
    corrected = holm(p_values)
    assert all(p_values[name] <= corrected[name] <= 1 for name in p_values)
    order = sorted(p_values, key=p_values.__getitem__)
    assert all(corrected[a] <= corrected[b] for a, b in itertools.pairwise(order))


# Two-sided 95 % points of Student's t, from a printed table.
@pytest.mark.parametrize(("runs", "t"), [(2, 12.706), (3, 4.303), (4, 3.182), (5, 2.776), (10, 2.262), (31, 2.042)])
def test_seeds_get_students_interval(runs: int, t: float) -> None:
    values = np.random.default_rng(runs).normal(70, 2, runs)
    found = over_seeds(list(values))
    reach = t * values.std(ddof=1) / math.sqrt(runs)
    assert found.interval_95 == pytest.approx((values.mean() - reach, values.mean() + reach), rel=1e-4)


def test_one_run_has_no_interval_and_none_no_mean() -> None:
    assert over_seeds([3.0]).interval_95 is None
    with pytest.raises(ValueError, match="no run"):
        over_seeds([])


def test_welch_finds_a_difference_by_chance_no_oftener_than_it_says() -> None:
    rng = np.random.default_rng(8)
    found = [welch(list(rng.normal(0, 1, 5)), list(rng.normal(0, 3, 4))) <= 0.05 for _ in range(1500)]
    assert 0.02 <= np.mean(found) <= 0.06


def test_welch_of_runs_that_do_not_spread() -> None:
    assert (welch([1.0, 1.0], [1.0, 1.0]), welch([1.0, 1.0], [2.0, 2.0])) == (1.0, 0.0)
    with pytest.raises(ValueError, match="two runs"):
        welch([1.0], [2.0, 3.0])
