"""Training a Faster R-CNN of any size on boxes with classes and attributes (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vltk.config.training import DetectorTrainingConfig
from vltk.detection.boxes import BoxCoder, ImageSize, box_iou, clip_boxes
from vltk.detection.faster_rcnn import FasterRCNN
from vltk.detection.proposals import ProposalOutput, ProposalRule
from vltk.errors import DataError

UNKNOWN = -1
"""Value of an attribute that was not annotated."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledPicture:
    """A network input with its annotated objects.

    Attributes:
        input: [3, H, W] float32.
        boxes: [N, 4] float32 in pixels of the input.
        classes: [N] int64.
        attributes: for each question [N] int64, ``UNKNOWN`` where nobody answered.
    """

    input: Tensor
    boxes: Tensor
    classes: Tensor
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def flipped(self) -> LabelledPicture:
        """Return its mirror image."""
        x1, y1, x2, y2 = self.boxes.unbind(1)
        width = self.input.shape[2]
        boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
        return LabelledPicture(input=self.input.flip(2), boxes=boxes, classes=self.classes, attributes=self.attributes)


class TrainingOrder:
    """Which pictures make up a step: a pure function of the sizes, the seed and the step.

    Args:
        sizes: (width, height) of each picture's input.
        batch_size: pictures a step.
        seed: of the order and of the mirroring.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], *, batch_size: int, seed: int) -> None:
        groups: dict[tuple[int, int], list[int]] = {}
        for index, size in enumerate(sizes):
            groups.setdefault(size, []).append(index)
        if not groups:
            raise DataError("no picture to train on", where="training", remedy="give annotated pictures")
        self._groups = list(groups.values())
        self._batch_size, self._seed = batch_size, seed
        self._epoch, self._batches = -1, [[0]]
        self._length = len(self._shuffled(0))

    def batch(self, step: int) -> list[int]:
        """Return the pictures of a step."""
        epoch, place = divmod(step, self._length)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[place]

    def mirrored(self, step: int) -> list[bool]:
        """Return which pictures of the step are mirrored."""
        dice = random.Random(f"{self._seed} mirror {step}")
        return [dice.random() < 0.5 for _ in self.batch(step)]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        dice = random.Random(f"{self._seed} order {epoch}")
        batches = []
        for group in self._groups:
            order = dice.sample(group, len(group))
            whole = len(order) // self._batch_size * self._batch_size or len(order)
            batches += [order[start : start + self._batch_size] for start in range(0, whole, self._batch_size)]
        dice.shuffle(batches)
        return batches


@dataclass(frozen=True, slots=True, eq=False)
class _Truth:
    """The annotated objects of a batch, padded to [B, N]."""

    boxes: Tensor
    classes: Tensor
    real: Tensor
    attributes: dict[str, Tensor]

    @classmethod
    def of(cls, pictures: Sequence[LabelledPicture]) -> _Truth:
        """Lay the boxes and labels of pictures side by side, padded to the longest."""
        count = max(1, *(len(picture.boxes) for picture in pictures)) if pictures else 1
        names = sorted({name for picture in pictures for name in picture.attributes})

        def padded(rows: Sequence[Tensor], value: float) -> Tensor:
            stacked = rows[0].new_full((len(rows), count, *rows[0].shape[1:]), value)
            for place, row in zip(stacked, rows, strict=True):
                place[: len(row)] = row
            return stacked

        unknown = [torch.full_like(picture.classes, UNKNOWN) for picture in pictures]
        attributes = {
            name: padded([p.attributes.get(name, none) for p, none in zip(pictures, unknown, strict=True)], UNKNOWN)
            for name in names
        }
        real = padded([torch.ones_like(picture.classes) for picture in pictures], 0).bool()
        boxes = padded([picture.boxes for picture in pictures], 0.0)
        return cls(boxes, padded([picture.classes for picture in pictures], 0), real, attributes)

    def overlaps(self, row: int, boxes: Tensor) -> Tensor:
        """Return the [R, N] overlaps of boxes with the objects of one picture, -1 with padding."""
        return box_iou(boxes, self.boxes[row]).masked_fill(~self.real[row], -1.0)


def detection_losses(
    detector: FasterRCNN,
    pictures: Sequence[LabelledPicture],
    config: DetectorTrainingConfig,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return the losses of one batch: objectness, proposal box, class, box, and one for each attribute.

    Args:
        detector: in training mode.
        pictures: of one size.
        config: how anchors and regions are chosen.
        generator: of the random choices.
    """
    truth = _Truth.of(pictures)
    images = torch.stack([picture.input for picture in pictures])
    maps = detector.maps(images)
    output = detector.proposal_generator(maps.proposal)
    losses = _proposal_losses(detector, output, truth, config, generator)
    size = ImageSize(images.shape[3], images.shape[2])
    rule = ProposalRule(before_nms=config.proposals_before_nms, after_nms=config.proposals)
    proposals = detector.proposal_generator.select(output, [size] * len(pictures), rule)
    boxes, objects = [], []
    for row, proposal in enumerate(proposals):
        jittered = _jittered(truth.boxes[row][truth.real[row]], size, config.box_jitter, generator)
        candidates = torch.cat([proposal.boxes, jittered])
        overlap, best = truth.overlaps(row, candidates).max(dim=1)
        boxes.append(candidates)
        objects.append(torch.where(overlap >= 0.5, best, -1))
    features = detector.region_features(maps, boxes)
    return losses | _region_losses(detector, features, boxes, objects, truth)


def _proposal_losses(
    detector: FasterRCNN,
    output: ProposalOutput,
    truth: _Truth,
    config: DetectorTrainingConfig,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    coder = BoxCoder(weights=detector.config.proposal.box_weights)
    objectness, box, count = [], [], 0
    for row, (logits, deltas) in enumerate(zip(output.logits, output.deltas, strict=True)):
        positive, negative, best = _label_anchors(truth, row, output.anchors)
        chosen = _choose_negatives(negative, logits.detach(), config, generator)
        labels = torch.cat([torch.ones(int(positive.sum())), torch.zeros(len(chosen))]).to(logits)
        asked = torch.cat([logits[positive], logits[chosen]])
        objectness.append(F.binary_cross_entropy_with_logits(asked, labels, reduction="sum"))
        target = coder.encode(output.anchors[positive], truth.boxes[row][best[positive]])
        box.append(F.smooth_l1_loss(deltas[positive], target, reduction="sum", beta=1 / 9))
        count += len(labels)
    return {"objectness": torch.stack(objectness).sum() / count, "proposal box": torch.stack(box).sum() / count}


def _label_anchors(truth: _Truth, row: int, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which anchors hold an object (half of it, or more of it than any other), which hold none, and whose."""
    overlaps = truth.overlaps(row, anchors)
    overlap, best = overlaps.max(dim=1)
    positive = overlap >= 0.5
    for index in truth.real[row].nonzero()[:, 0]:
        closest = overlaps[:, index].argmax()
        positive[closest], best[closest] = True, index
    return positive, ~positive & (overlap < 0.3), best


def _choose_negatives(
    negative: Tensor, logits: Tensor, config: DetectorTrainingConfig, generator: torch.Generator
) -> Tensor:
    places = negative.nonzero()[:, 0]
    drawn = places[torch.randperm(len(places), generator=generator)[: config.random_negatives].to(places.device)]
    hardest = places[logits[places].topk(min(config.hard_negatives, len(places))).indices]
    chosen = torch.zeros_like(negative)
    chosen[torch.cat([drawn, hardest])] = True
    return chosen.nonzero()[:, 0]


def _jittered(boxes: Tensor, size: ImageSize, share: float, generator: torch.Generator) -> Tensor:
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.randn(boxes.shape, generator=generator).to(boxes) * share * sides
    moved = clip_boxes(boxes + noise, size)
    good = (moved[:, 2:] - moved[:, :2] > 1).all(dim=1, keepdim=True)
    return torch.where(good, moved, boxes)


def _region_losses(
    detector: FasterRCNN, features: Tensor, boxes: Sequence[Tensor], objects: Sequence[Tensor], truth: _Truth
) -> dict[str, Tensor]:
    predictor, config = detector.roi_heads.box_predictor, detector.config.predictor
    picture = torch.cat([torch.full_like(found, row) for row, found in enumerate(objects)])
    found = torch.cat(list(objects))
    held = found >= 0
    labels = torch.where(held, truth.classes[picture, found.clamp(min=0)], config.classes)
    logits = predictor.class_logits(features)
    coder = BoxCoder(weights=config.box_weights)
    target = coder.encode(torch.cat(list(boxes))[held], truth.boxes[picture[held], found[held]])
    deltas = predictor.box_deltas_of(features[held], labels[held])
    losses = {
        "class": F.cross_entropy(logits, labels),
        "box": F.smooth_l1_loss(deltas, target, reduction="sum") / max(1, len(found)),
    }
    answers = predictor.attribute_logits(features[held], logits[held])
    for name, values in answers.items():
        if name in truth.attributes:
            wanted = truth.attributes[name][picture[held], found[held]]
            counted = max(1, int((wanted != UNKNOWN).sum()))
            losses[name] = F.cross_entropy(values, wanted, ignore_index=UNKNOWN, reduction="sum") / counted
    return losses


@dataclass(slots=True)
class TrainingState:
    """A detector on its way: what has to be kept to go on exactly as if nothing had happened.

    Attributes:
        detector: the network, in training mode.
        optimizer: its optimiser.
        step: steps that are done.
    """

    detector: FasterRCNN
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def begin(cls, detector: FasterRCNN, config: DetectorTrainingConfig) -> TrainingState:
        """Start with a fresh optimiser."""
        detector.train()
        trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        return cls(detector, torch.optim.AdamW(trained, lr=0.0, weight_decay=config.weight_decay))

    def to_dict(self) -> dict[str, object]:
        """Return tensors and plain values that ``torch.load(weights_only=True)`` reads back."""
        return {"step": self.step, "model": self.detector.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, saved: Mapping[str, object]) -> None:
        """Go on from :meth:`to_dict`."""
        self.detector.load_state_dict(saved["model"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(saved["optimizer"])  # type: ignore[arg-type]
        self.step = int(saved["step"])  # type: ignore[call-overload]


def train(
    state: TrainingState,
    load: Callable[[int], LabelledPicture],
    order: TrainingOrder,
    config: DetectorTrainingConfig,
    *,
    seed: int,
) -> Iterator[dict[str, float]]:
    """Train step by step; each step yields its losses, and the caller may stop, save or report between two.

    Args:
        state: where to start; its ``step`` moves on.
        load: gives a picture by its index.
        order: which pictures a step takes.
        config: how to train.
        seed: of the random choices; together with the step it decides all of them.

    Raises:
        DataError: a loss is not finite.
    """
    while state.step < config.iterations:
        step = state.step
        pictures = [load(index) for index in order.batch(step)]
        if config.flip:
            mirrored = order.mirrored(step)
            pictures = [p.flipped() if mirror else p for p, mirror in zip(pictures, mirrored, strict=True)]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        losses = detection_losses(state.detector, pictures, config, generator)
        total = torch.stack(list(losses.values())).sum()
        if not bool(total.isfinite()):
            parts = ", ".join(f"{name} {float(value):.3g}" for name, value in losses.items())
            remedy = "lower the learning rate or look for boxes without area"
            raise DataError(f"the loss is not finite ({parts})", where=f"step {step}", remedy=remedy)
        for group in state.optimizer.param_groups:
            group["lr"] = config.rate(step)
        state.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.detector.parameters(), config.gradient_norm)
        state.optimizer.step()
        state.step += 1
        yield {name: float(value.detach()) for name, value in losses.items()} | {"total": float(total.detach())}
