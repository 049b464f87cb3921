"""The score matrix of a joint encoder: what plain forward passes give, however it is cut, stopped or shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small_retrieval import sides_of, small_sides, uniter
from vltk.errors import DataError, StoppedEarlyError, VltkError
from vltk.evaluator import Execution, Sides, pair_cost, score_matrix
from vltk.evaluator.joint import pair_flops
from vltk.models.uniter import UNITERConfig
from vltk.types import Batch

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
"""fp32 sums in another order, on scores of about 1."""


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    return small_sides(tmp_path_factory.mktemp("pairs"))


def empty(sides: Sides) -> np.ndarray:
    return np.full((len(sides.text_ids), len(sides.image_ids)), np.nan, np.float32)


def scored(sides: Sides, **settings: Any) -> np.ndarray:
    scores = empty(sides)
    score_matrix(sides, scores, execution=Execution(**settings))
    return scores


def plainly(sides: Sides) -> np.ndarray:
    """Score pairs one by one by the encoder's own forward pass."""
    scores, module = empty(sides), sides.task.module.eval()
    with torch.no_grad():
        for row in range(len(sides.text_ids)):
            for column in range(len(sides.image_ids)):
                text, image = sides.texts([row]), sides.images([column])
                sides_of_pair = {"input_ids": text.input_ids, "text_mask": text.text_mask}
                pair: Batch = replace(image, **sides_of_pair, regions=image.regions.float())
                output = module.model(pair)  # type: ignore[union-attr, operator]
                scores[row, column] = sides.task.scorer.match_scores(output.pooled)
    return scores


def test_bucketed_scores_are_those_of_pairwise_forward_passes(sides: Sides) -> None:
    found = scored(sides)
    np.testing.assert_allclose(found, plainly(sides), **TOLERANCE)
    assert found.std() > 0.1, "scores so alike would hide a mistake"


@pytest.mark.parametrize("settings", [{"max_tokens": 1}, {"max_tokens": 40}, {"memory": 1}, {"memory": 800}])
def test_chunked_equals_whole(settings: dict[str, int], sides: Sides) -> None:
    np.testing.assert_allclose(scored(sides, **settings), scored(sides), **TOLERANCE)


def test_permuting_ids_permutes_scores(sides: Sides) -> None:
    texts, images = np.random.default_rng(0).permutation(12), np.random.default_rng(1).permutation(6)
    turned = replace(
        sides,
        text_ids=[sides.text_ids[row] for row in texts],
        image_ids=[sides.image_ids[column] for column in images],
    )
    np.testing.assert_allclose(scored(turned), scored(sides)[texts][:, images], **TOLERANCE)


def test_an_encoder_without_the_shorter_way_scores_alike(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = scored(sides)
    monkeypatch.delattr("vltk.objectives.ranking.Ranking.encode_pooled")
    np.testing.assert_allclose(scored(sides), expected, **TOLERANCE)


def stopping_after(count: int) -> Callable[[], bool]:
    left = [count]

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 1

    return stop


@pytest.mark.parametrize("memory", [2 << 30, 800])
@pytest.mark.parametrize("batches", [1, 3, 7])
def test_stopped_and_resumed_equals_undisturbed_bit_for_bit(memory: int, batches: int, sides: Sides) -> None:
    settings: dict[str, Any] = {"max_tokens": 40, "memory": memory}
    scores, stops = empty(sides), 0
    while stops < 100:
        try:
            score_matrix(sides, scores, execution=Execution(stop=stopping_after(batches), **settings))
            break
        except StoppedEarlyError:
            stops += 1
    assert stops > 1
    np.testing.assert_array_equal(scores, scored(sides, **settings))


def test_a_half_written_batch_is_done_again_as_a_whole(sides: Sides) -> None:
    whole = scored(sides, max_tokens=40)
    holed = whole.copy()
    holed[np.random.default_rng(0).random(holed.shape) < 0.3] = np.nan
    told: list[int] = []
    score_matrix(sides, holed, execution=Execution(max_tokens=40, progress=told.append))
    np.testing.assert_array_equal(holed, whole)
    assert sum(told) == whole.size


def test_what_is_there_is_not_computed_again(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scored(sides)
    monkeypatch.setattr(type(sides.task.scorer), "match_scores", lambda self, pooled: 1 / 0)
    score_matrix(sides, whole, execution=Execution())


def test_processes_divide_the_pairs(sides: Sides) -> None:
    scores, counts = empty(sides), []
    for number in range(3):
        score_matrix(sides, scores, execution=Execution(max_tokens=40, share=(number, 3)))
        counts.append(int(np.isnan(scores).sum()))
    np.testing.assert_array_equal(scores, scored(sides, max_tokens=40))
    assert counts[0] > counts[1] > counts[2] == 0


def test_only_wanted_pairs_are_scored(sides: Sides) -> None:
    wanted = np.random.default_rng(0).random((12, 6)) < 0.4
    scores = empty(sides)
    score_matrix(sides, scores, execution=Execution(), wanted=wanted)
    np.testing.assert_array_equal(~np.isnan(scores), wanted)
    np.testing.assert_allclose(scores[wanted], scored(sides)[wanted], **TOLERANCE)


def test_lower_precision_is_close_and_stays_fp32_outside(sides: Sides) -> None:
    low = scored(sides, precision="bf16")
    assert low.dtype == np.float32
    assert 0 < np.abs(low - scored(sides)).max() < 0.3


def test_dropout_is_off_and_the_module_is_left_in_training(sides: Sides) -> None:
    sides.task.module.train()
    np.testing.assert_array_equal(scored(sides), scored(sides))
    assert sides.task.module.training


def test_every_side_is_read_once(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    get = type(sides.split.features).get
    monkeypatch.setattr(type(sides.split.features), "get", lambda self, name: read.append(name) or get(self, name))
    fresh = replace(sides)
    scored(fresh, max_tokens=40)
    assert sorted(set(read)) == sorted(sides.image_ids)
    assert len(read) == len(sides.image_ids)


def test_a_score_that_is_no_number_names_its_pair(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sides.task.scorer), "match_scores", lambda self, pooled: pooled[:, 0] * torch.nan)
    with pytest.raises(VltkError, match=r"test: text test-\d#\d against image test-\d scores nan; use fp32"):
        scored(sides)


def test_a_picture_without_features_is_named(sides: Sides) -> None:
    with pytest.raises(DataError, match="'moon'"):
        scored(replace(sides, image_ids=[*sides.image_ids, "moon"]))


# -- costs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 3])
def test_operations_are_those_of_the_formula(layers: int, sides: Sides) -> None:
    hidden, inner, heads = 16, 24, 2
    size = UNITERConfig(
        vocabulary=40, hidden=hidden, layers=layers, heads=heads, intermediate=inner, positions=16, region_dim=6
    )
    flops = pair_flops(sides_of(sides.split, size.build().eval()), Execution())
    for length in (2, 5, 17, 60):
        whole = 2 * length * hidden * (4 * hidden + 2 * inner) + 4 * length * length * hidden
        last = 2 * length * hidden * 2 * hidden + 2 * hidden * (2 * hidden + 2 * inner) + 4 * length * hidden
        ends = 2 * hidden * hidden  # the pooler; the score itself is not counted
        assert flops(length) == (layers - 1) * whole + last + ends


def test_costs_are_counted_exactly(sides: Sides) -> None:
    wanted = np.random.default_rng(0).random((12, 6)) < 0.4
    flops = pair_flops(sides, Execution())
    for mask in (None, wanted):
        rows, columns = np.nonzero(np.ones((12, 6)) if mask is None else mask)
        lengths = sides.text_lengths[rows] + sides.image_lengths[columns]
        cost = pair_cost(sides, execution=Execution(), wanted=mask)
        assert (cost.pairs, cost.tokens) == (len(rows), lengths.sum())
        assert cost.flops == sum(flops(int(length)) for length in lengths)


def test_lengths_are_those_of_the_batches(tmp_path: Path) -> None:
    sides = small_sides(tmp_path, uniter(), images=4)
    assert sides.text_lengths.tolist() == sides.texts(range(8)).text_mask.sum(1).tolist()
    assert sides.image_lengths.tolist() == sides.images(range(4)).region_mask.sum(1).tolist()
