"""Training is a pure function of its seed, resumes exactly, and learns what it is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vltk.config.training import DetectorTrainingConfig
from vltk.detection.backbone import PyramidConfig
from vltk.detection.boxes import box_iou
from vltk.detection.faster_rcnn import FasterRCNN, FasterRCNNConfig
from vltk.detection.proposals import ProposalConfig
from vltk.detection.region_head import AttributeHead, AttributeHeadsConfig, FCHeadConfig, PredictorConfig
from vltk.detection.training import (
    UNKNOWN,
    LabelledPicture,
    TrainingOrder,
    TrainingState,
    _choose_negatives,
    _label_anchors,
    _Truth,
    detection_losses,
    train,
)
from vltk.errors import DataError

SHADES = AttributeHeadsConfig(heads=(AttributeHead(name="shade", values=("dark", "light")),))
SMALL = FasterRCNNConfig(
    backbone=PyramidConfig(width=4, region_channels=8),
    proposal=ProposalConfig(hidden_channels=16, sizes=(16.0, 28.0), ratios=(1.0,)),
    head=FCHeadConfig(hidden=32),
    predictor=PredictorConfig(classes=2, class_agnostic_boxes=True, attributes=SHADES),
)
SHORT = DetectorTrainingConfig(iterations=6, batch_size=2, warmup=2)


def detector(config: FasterRCNNConfig = SMALL) -> FasterRCNN:
    torch.manual_seed(0)
    return config.build()


def picture(seed: int, *, size: int = 64) -> LabelledPicture:
    """One bright rectangle on grey; wide ones are class 1, light ones answer the question with 1."""
    dice = torch.Generator().manual_seed(seed)
    wide, light = (int(torch.randint(2, (1,), generator=dice)) for _ in range(2))
    width, height = (28, 14) if wide else (14, 28)
    x, y = (float(torch.randint(2, size - 32, (1,), generator=dice)) for _ in range(2))
    pixels = torch.zeros(3, size, size)
    pixels[:, int(y) : int(y) + height, int(x) : int(x) + width] = 2.0 if light else -2.0
    boxes = torch.tensor([[x, y, x + width, y + height]])
    return LabelledPicture(
        input=pixels, boxes=boxes, classes=torch.tensor([wide]), attributes={"shade": torch.tensor([light])}
    )


def run(steps_then_restore: tuple[int, ...], *, seed: int = 3) -> tuple[list[float], dict[str, Tensor]]:
    """Train; at each given step throw everything away but what ``to_dict`` says."""
    order = TrainingOrder([(64, 64)] * 10, batch_size=2, seed=seed)
    state = TrainingState.begin(detector(), SHORT)
    curve = []
    while state.step < SHORT.iterations:
        for losses in train(state, picture, order, SHORT, seed=seed):
            curve.append(losses["total"])
            if state.step in steps_then_restore:
                break
        saved = state.to_dict()
        state = TrainingState.begin(detector(), SHORT)
        state.restore(saved)
    return curve, state.detector.state_dict()


def test_resumed_training_is_the_undisturbed_one_bit_for_bit() -> None:
    straight, weights = run(())
    resumed, again = run((2, 5))
    assert straight == resumed
    assert len(straight) == SHORT.iterations
    assert all(torch.equal(weights[key], again[key]) for key in weights)


def test_another_seed_is_another_training() -> None:
    assert run(())[0] != run((), seed=4)[0]


def test_order_is_pure_batches_hold_one_size_and_every_picture_comes_once_an_epoch() -> None:
    sizes = [(64, 64)] * 6 + [(32, 64)] * 4
    order = TrainingOrder(sizes, batch_size=2, seed=0)
    epochs = [[order.batch(step) for step in range(start, start + 5)] for start in (0, 5)]
    for epoch in epochs:
        assert sorted(i for batch in epoch for i in batch) == list(range(10))
        assert all(len({sizes[i] for i in batch}) == 1 for batch in epoch)
    assert epochs[0] != epochs[1]
    assert [TrainingOrder(sizes, batch_size=2, seed=0).batch(7), order.mirrored(7)] == [
        order.batch(7),
        order.mirrored(7),
    ]


def test_no_picture_is_refused() -> None:
    with pytest.raises(DataError, match="training: no picture to train on"):
        TrainingOrder([], batch_size=2, seed=0)


def test_mirroring_twice_changes_nothing_and_boxes_follow_the_pixels() -> None:
    original = picture(5)
    once = original.flipped()
    x1, y1, x2, y2 = (int(v) for v in once.boxes[0])
    assert bool((once.input[:, y1:y2, x1:x2] != 0).all())
    assert torch.equal(once.flipped().boxes, original.boxes)
    assert torch.equal(once.flipped().input, original.input)


def test_anchors_are_labelled_by_overlap_and_every_object_has_one() -> None:
    truth = _Truth.of([replace_boxes(picture(0), [[10, 10, 40, 40], [2, 50, 8, 62]]), picture(1)])
    anchors = torch.tensor([[10, 10, 40, 38], [10, 10, 30, 24], [0, 40, 20, 60], [50, 0, 60, 10]], dtype=torch.float32)
    positive, negative, best = _label_anchors(truth, 0, anchors)
    overlaps = box_iou(anchors, truth.boxes[0])
    assert positive.tolist() == [True, False, True, False]  # the third is no half, but the most that object 1 gets
    assert best[positive].tolist() == [0, 1]
    assert 0.3 <= float(overlaps[1].max()) < 0.5
    assert negative.tolist() == [False, False, False, True]


def replace_boxes(given: LabelledPicture, boxes: list[list[float]]) -> LabelledPicture:
    return replace(
        given, boxes=torch.tensor(boxes, dtype=torch.float32), classes=torch.zeros(len(boxes), dtype=torch.long)
    )


def test_negatives_are_the_hardest_and_some_at_random() -> None:
    negative = torch.tensor([True] * 50 + [False] * 10)
    logits = torch.arange(60, dtype=torch.float32)
    config = DetectorTrainingConfig(random_negatives=5, hard_negatives=3)
    chosen = _choose_negatives(negative, logits, config, torch.Generator().manual_seed(0))
    assert {47, 48, 49} <= set(chosen.tolist()) <= set(range(50))
    assert 5 <= len(chosen) <= 8


def test_a_batch_without_an_object_still_teaches_background() -> None:
    empty = LabelledPicture(
        input=torch.zeros(3, 64, 64), boxes=torch.zeros(0, 4), classes=torch.zeros(0, dtype=torch.long)
    )
    losses = detection_losses(detector().train(), [empty] * 2, SHORT, torch.Generator().manual_seed(0))
    assert losses["box"].item() == losses["proposal box"].item() == 0.0
    assert losses["class"].item() > 0
    assert all(bool(value.isfinite()) for value in losses.values())


def test_unknown_attributes_teach_nothing() -> None:
    known = picture(2)
    unknown = replace(known, attributes={"shade": torch.tensor([UNKNOWN])})
    model = detector().train()
    values = [
        detection_losses(model, [p, p], SHORT, torch.Generator().manual_seed(0))["shade"] for p in (known, unknown)
    ]
    assert values[0].item() > 0
    assert values[1].item() == 0


def test_losses_that_are_not_finite_stop_the_training() -> None:
    broken = replace(picture(0), input=torch.full((3, 64, 64), torch.nan))
    state = TrainingState.begin(detector(), SHORT)
    order = TrainingOrder([(64, 64)] * 2, batch_size=2, seed=0)
    with pytest.raises(DataError, match=r"step 0: the loss is not finite .*lower the learning rate"):
        next(train(state, lambda _: broken, order, SHORT, seed=0))


def test_the_rate_warms_up_and_ends_at_its_share() -> None:
    config = DetectorTrainingConfig(iterations=50, warmup=10, learning_rate=1.0, final_rate=0.1)
    rates = [config.rate(step) for step in range(51)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[50] == pytest.approx(0.1)


def test_a_few_pictures_are_learnt() -> None:
    config = DetectorTrainingConfig(iterations=60, batch_size=4, warmup=5, flip=False, box_jitter=0.02)
    order = TrainingOrder([(64, 64)] * 4, batch_size=4, seed=0)
    state = TrainingState.begin(detector(), config)
    curve = list(train(state, picture, order, config, seed=0))
    assert curve[-1]["class"] < 0.3 * curve[0]["class"]
    assert curve[-1]["shade"] < 0.2 * curve[0]["shade"]
    assert curve[-1]["total"] < 0.5 * curve[0]["total"]
