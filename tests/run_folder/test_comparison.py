"""Two evaluations are compared in pairs, only where they can be, and the tests say what their definitions say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vltk.errors import DataError, UsageError
from vltk.metrics.retrieval import fold_figures
from vltk.metrics.significance import mcnemar
from vltk.run_folder.comparison import MCNEMAR, PERMUTATION, SEEDS, compare, summarise
from vltk.run_folder.outcomes import Outcomes, Series

IMAGES, CAPTIONS = 60, 3
PICTURES = [f"image {n}" for n in range(IMAGES)]


def retrieval(seed: int, worse: float = 0.0) -> Outcomes:
    rng = np.random.default_rng(seed)
    ease = np.random.default_rng(99).beta(2, 1, IMAGES)
    chance = np.clip(np.repeat(ease, CAPTIONS) - worse, 0.02, 0.98)
    t2i, i2t = rng.geometric(chance), rng.geometric(np.clip(ease - worse, 0.02, 0.98))
    names = tuple(f"caption {n}" for n in range(IMAGES * CAPTIONS))
    owners = tuple(PICTURES[n // CAPTIONS] for n in range(IMAGES * CAPTIONS))
    series = {
        "i2t": Series(kind="rank", ids=tuple(PICTURES), values=i2t.astype(float)),
        "t2i": Series(kind="rank", ids=names, values=t2i.astype(float), clusters=owners),
    }
    return Outcomes(task="flickr30k", split="abc", protocol={"ties": "against", "folds": 1}, series=series)


def answers(hits: Any, clusters: tuple[str, ...] = ()) -> Outcomes:
    values = np.asarray(hits, float)
    series = Series(kind="score", ids=tuple(map(str, range(len(values)))), values=values, clusters=clusters)
    return Outcomes(task="vqa", split="abc", series={"accuracy": series})


def by_metric(first: Any, second: Any) -> dict[str, Any]:
    sides = [one if isinstance(one, list) else [one] for one in (first, second)]
    return {one.metric: one for one in compare(*sides)}


def test_figures_are_those_of_the_ranks() -> None:
    a, b = retrieval(1), retrieval(2)
    found = by_metric(a, b)
    assert len(found) == 7
    for outcomes, side in ((a, "first"), (b, "second")):
        ranks = [outcomes.series[way].values.astype(int) for way in ("i2t", "t2i")]
        for name, value in fold_figures(*ranks).items():
            if "rank" not in name:
                assert getattr(found[name], side) == pytest.approx(value)
    assert (found["rsum"].n, found["rsum"].clusters, found["t2i_r1"].n) == (IMAGES * (1 + CAPTIONS), IMAGES, 180)


def test_a_clear_difference_is_found_and_chance_is_not() -> None:
    clear, chance = by_metric(retrieval(1, worse=0.25), retrieval(2)), by_metric(retrieval(1), retrieval(3))
    assert clear["rsum"].p_holm < 0.01
    assert clear["rsum"].interval_95[0] > 0
    assert chance["rsum"].p > 0.05
    assert chance["rsum"].interval_95[0] < chance["rsum"].difference < chance["rsum"].interval_95[1]


def test_each_metric_gets_the_test_that_fits_its_items() -> None:
    found = by_metric(retrieval(1), retrieval(2))
    assert {found[f"i2t_r{k}"].test for k in (1, 5, 10)} == {MCNEMAR}
    assert {found[name].test for name in ("t2i_r1", "rsum")} == {PERMUTATION}
    ranks = [retrieval(seed).series["i2t"].values <= 1 for seed in (1, 2)]
    assert found["i2t_r1"].p == found["i2t_r1"].p_mcnemar == pytest.approx(mcnemar(*ranks))
    assert found["t2i_r1"].p_mcnemar is not None
    assert found["rsum"].p_mcnemar is None
    assert all(one.p_holm >= one.p for one in found.values())


def test_soft_scores_are_permuted_and_hits_are_not() -> None:
    rng = np.random.default_rng(0)
    soft = by_metric(answers(rng.random(50)), answers(rng.random(50)))["accuracy"]
    assert (soft.test, soft.p_mcnemar) == (PERMUTATION, None)
    hits = rng.random((2, 50)) < 0.6
    hard = by_metric(answers(hits[0]), answers(hits[1]))["accuracy"]
    assert (hard.test, hard.p) == (MCNEMAR, pytest.approx(mcnemar(*hits)))


def test_items_are_paired_by_id_whatever_their_order() -> None:
    rng = np.random.default_rng(1)
    a, b, order = answers(rng.random(40) < 0.5), answers(rng.random(40) < 0.7), rng.permutation(40)
    series = b.series["accuracy"]
    mixed = replace(series, ids=tuple(series.ids[row] for row in order), values=series.values[order])
    assert compare([a], [b]) == compare([a], [replace(b, series={"accuracy": mixed})])


def test_exchanging_the_systems_turns_the_sign_alone() -> None:
    one, other = by_metric(retrieval(1), retrieval(2))["rsum"], by_metric(retrieval(2), retrieval(1))["rsum"]
    assert other.difference == pytest.approx(-one.difference)
    assert other.interval_95 == pytest.approx((-one.interval_95[1], -one.interval_95[0]))
    assert other.p == one.p


def test_an_image_with_many_questions_counts_as_one() -> None:
    hits = np.repeat([1.0, 1, 1, 1, 1, 0], 20)
    clusters = tuple(f"image {n // 20}" for n in range(120))
    alone, together = (by_metric(answers(hits * 0, c), answers(hits, c))["accuracy"] for c in ((), clusters))
    assert alone.p < 1e-20
    assert together.p == pytest.approx(2 / 2**5)
    assert (together.clusters, together.n) == (6, 120)


def test_seeds_are_tested_over_the_runs() -> None:
    found = by_metric([retrieval(seed, worse=0.2) for seed in range(4)], [retrieval(seed) for seed in range(4, 8)])
    rsum = found["rsum"]
    assert rsum.test == SEEDS
    assert rsum.p < 0.05
    assert rsum.first_runs is not None
    assert rsum.first_runs[0] < rsum.first < rsum.first_runs[1]
    mixed = by_metric([retrieval(1), retrieval(2)], retrieval(3))["i2t_r1"]
    assert (mixed.test, mixed.p_mcnemar, mixed.second_runs) == (PERMUTATION, None, None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": "coco"}, "the task is flickr30k in one and coco in the other"),
        ({"split": "abd"}, "the split is abc in one and abd in the other"),
        ({"protocol": {"ties": "for", "folds": 1}}, 'the protocol\'s ties is "against" in one and "for" in the other'),
        ({"protocol": {"ties": "against"}}, "the protocol's folds is 1 in one and null"),
        ({"series": {"i2t": retrieval(1).series["i2t"]}}, "one has the series"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        compare([retrieval(1)], [replace(retrieval(2), **change)])


def test_items_of_one_side_alone_are_named() -> None:
    with pytest.raises(DataError, match=r"1 items of accuracy are in one of them only, e\.g\. 3"):
        compare([answers([1, 0, 1])], [answers([1, 0, 1, 1])])
    with pytest.raises(UsageError, match="a side has no evaluation"):
        compare([answers([1])], [])


def test_seeds_of_one_recipe_get_means_with_students_interval() -> None:
    runs = [retrieval(seed) for seed in range(3)]
    found = summarise(runs)
    values = [by_metric(run, run)["rsum"].first for run in runs]
    assert (found["rsum"].mean, found["rsum"].runs) == (pytest.approx(np.mean(values)), 3)
    reach = 4.3027 * np.std(values, ddof=1) / 3**0.5
    assert found["rsum"].interval_95 == pytest.approx((np.mean(values) - reach, np.mean(values) + reach), rel=1e-4)
    with pytest.raises(UsageError, match="there is no evaluation to summarise"):
        summarise([])
    with pytest.raises(DataError, match="the split is abc in one and x in the other"):
        summarise([runs[0], replace(runs[1], split="x")])
