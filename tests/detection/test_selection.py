"""Selection rules against loops written from the published procedures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vltk.detection.boxes import BoxCoder, ImageSize, clip_boxes
from vltk.detection.region_ops import nms
from vltk.detection.selection import (
    Candidates,
    ClasswiseRule,
    MaxClassRule,
    PerClassRule,
    SelectionRule,
    UNITERRule,
    count_above,
)

SIZE = ImageSize(200, 300)
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def candidates(count: int, *, seed: int, classes: int = 12, spread: float = 2.5) -> tuple[Candidates, Tensor]:
    """Return proposals in clusters and the offsets that the candidates compute on demand."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(max(count // 4, 1), 4, generator=generator) * torch.tensor([200.0, 120.0, 1.0, 1.0])
    corner = centre[torch.randint(0, len(centre), (count,), generator=generator), :2]
    corner = corner + torch.randn(count, 2, generator=generator) * 6
    boxes = torch.cat([corner, corner + 30 + 40 * torch.rand(count, 2, generator=generator)], dim=1)
    deltas = torch.randn(count, classes, 4, generator=generator)
    made = Candidates(
        boxes=clip_boxes(boxes, SIZE),
        class_logits=torch.randn(count, classes + 1, generator=generator) * spread,
        deltas=lambda rows, chosen: deltas[rows, chosen],
        box_weights=WEIGHTS,
        size=SIZE,
    )
    return made, deltas


def slow_classwise(found: Candidates, rule: ClasswiseRule) -> tuple[list[int], Tensor]:
    """``generate_tsv.py`` with numpy's steps written out, one class at a time."""
    probs = found.class_logits.softmax(dim=1)[:, :-1]
    confidence = torch.zeros(len(probs))
    for column in range(probs.shape[1]):
        for kept in nms(found.boxes, probs[:, column], rule.nms_threshold, plus_one=rule.plus_one).tolist():
            confidence[kept] = max(confidence[kept], probs[kept, column])
    keep = [i for i in range(len(probs)) if confidence[i] >= rule.min_score]
    best = sorted(range(len(probs)), key=lambda i: (-confidence[i].item(), i))
    if len(keep) < rule.min_boxes:
        keep = best[: rule.min_boxes]
    elif len(keep) > rule.max_boxes:
        keep = best[: rule.max_boxes]
    return keep, confidence


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("spread", [0.5, 2.5, 6.0])  # too few, some and too many above the score
@pytest.mark.parametrize("seed", range(4))
def test_the_classwise_rule_is_the_published_procedure(seed: int, spread: float, plus_one: bool) -> None:
    found, _ = candidates(60, seed=seed, spread=spread)
    rule = ClasswiseRule(min_boxes=8, max_boxes=20, plus_one=plus_one)
    keep, confidence = slow_classwise(found, rule)
    chosen = rule.select(found)
    assert chosen.rows.tolist() == keep
    assert torch.equal(chosen.scores, confidence[keep])
    assert torch.equal(chosen.boxes, found.boxes[keep]), "these are proposals, not regressed boxes"
    probs = found.class_probs()
    assert torch.equal(chosen.class_ids, probs[keep].argmax(dim=1))
    assert bool((chosen.class_scores >= chosen.scores).all())


@pytest.mark.parametrize("spread", [0.5, 2.5, 6.0])
def test_uniter_reads_the_first_rows_so_they_are_the_best(spread: float) -> None:
    found, _ = candidates(60, seed=1, spread=spread)
    rule = UNITERRule(min_boxes=8, max_boxes=20)
    chosen = rule.select(found)
    keep, confidence = slow_classwise(found, ClasswiseRule(min_boxes=8, max_boxes=20))
    assert chosen.scores.tolist() == sorted(confidence[keep].tolist(), reverse=True)
    assert len(chosen.rows) == count_above(confidence[keep], 0.2, 8, 20)


def test_the_maxclass_rule_tries_thresholds_until_enough_boxes_stay() -> None:
    found, deltas = candidates(60, seed=2)
    scores, classes = found.class_probs().max(dim=1)
    decoded = BoxCoder(weights=WEIGHTS).decode(deltas[torch.arange(60), classes], found.boxes)
    boxes = clip_boxes(decoded, SIZE)
    counts = {threshold: len(nms(boxes, scores, threshold)) for threshold in (0.1, 0.3, 0.5, 0.9)}
    assert counts[0.1] < counts[0.5]
    rule = MaxClassRule(nms_thresholds=tuple(counts), min_boxes=counts[0.1] + 1, max_boxes=60)
    chosen = rule.select(found)
    enough = next(threshold for threshold, count in counts.items() if count > counts[0.1])
    assert chosen.complete
    assert chosen.nms_threshold == enough
    assert torch.equal(chosen.rows, nms(boxes, scores, enough))
    assert torch.equal(chosen.boxes, boxes[chosen.rows])
    never = replace(rule, min_boxes=61, max_boxes=100).select(found)
    assert (never.complete, never.nms_threshold, len(never.rows)) == (False, 0.9, counts[0.9])


def test_the_perclass_rule_takes_every_pair_above_the_score() -> None:
    found, deltas = candidates(40, seed=3)
    rule = PerClassRule(min_score=0.1, max_boxes=1000)
    probs = found.class_probs()
    expected = []
    for column in range(probs.shape[1]):
        rows = (probs[:, column] > 0.1).nonzero()[:, 0]
        boxes = clip_boxes(BoxCoder(weights=WEIGHTS).decode(deltas[rows, column], found.boxes[rows]), SIZE)
        expected += [(row, column) for row in rows[nms(boxes, probs[rows, column], 0.5)].tolist()]
    chosen = rule.select(found)
    assert sorted(zip(chosen.rows.tolist(), chosen.class_ids.tolist(), strict=True)) == sorted(expected)
    assert chosen.scores.tolist() == sorted(chosen.scores.tolist(), reverse=True)
    assert len(replace(rule, max_boxes=5).select(found).rows) == 5


@pytest.mark.parametrize("rule", [MaxClassRule(), ClasswiseRule(), UNITERRule(), PerClassRule()])
def test_a_picture_without_proposals_has_no_regions(rule: SelectionRule) -> None:
    chosen = rule.select(candidates(0, seed=0)[0])
    assert [len(chosen.rows), *chosen.boxes.shape, len(chosen.class_ids)] == [0, 0, 4, 0]


@pytest.mark.parametrize("rule", [MaxClassRule(), ClasswiseRule(), UNITERRule(min_boxes=5), PerClassRule()])
def test_permuting_the_proposals_changes_nothing_but_their_numbers(rule: SelectionRule) -> None:
    found, deltas = candidates(60, seed=5)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    shuffled = replace(
        found,
        boxes=found.boxes[order],
        class_logits=found.class_logits[order],
        deltas=lambda rows, classes: deltas[order[rows], classes],
    )
    one, other = rule.select(found), rule.select(shuffled)
    pairs = sorted(zip(one.rows.tolist(), one.class_ids.tolist(), one.scores.tolist(), strict=True))
    assert pairs == sorted(
        zip(order[other.rows].tolist(), other.class_ids.tolist(), other.scores.tolist(), strict=True)
    )
