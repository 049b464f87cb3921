"""Which regions of a picture are kept: the four rules that published features were made with.

A rule sees proposals, class logits and, on demand, box offsets, and names the rows that it keeps. It is a frozen
dataclass, so that a preset can hold it and be hashed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vltk.detection.boxes import SCALE_CLAMP, BoxCoder, ImageSize, clip_boxes
from vltk.detection.region_ops import class_wise_nms, nms

Deltas = Callable[[Tensor, Tensor], Tensor]
"""Rows [K] and classes [K] to box offsets [K, 4]; called only by rules that regress, and only for what they need."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """What the detector says of the proposals of one picture.

    Attributes:
        boxes: [R, 4] proposals in network pixels.
        class_logits: [R, C + 1], the background last.
        deltas: offsets of a class's box against the proposal.
        box_weights: factors that the offsets were trained with.
        size: of the picture, in network pixels.
    """

    boxes: Tensor
    class_logits: Tensor
    deltas: Deltas
    box_weights: tuple[float, float, float, float]
    size: ImageSize

    def class_probs(self) -> Tensor:
        """Return [R, C] probabilities; the background takes its share and is left out."""
        return self.class_logits.float().softmax(dim=-1)[:, :-1]

    def regressed(self, rows: Tensor, classes: Tensor, *, plus_one: bool, scale_clamp: float | None) -> Tensor:
        """Return the [K, 4] boxes that the offsets of ``classes`` make of the proposals ``rows``, clipped."""
        coder = BoxCoder(weights=self.box_weights, plus_one=plus_one, scale_clamp=scale_clamp)
        boxes = coder.decode(self.deltas(rows, classes), self.boxes[rows])
        return clip_boxes(boxes, self.size, plus_one=plus_one)


class Selection(NamedTuple):
    """The regions that a rule keeps.

    Attributes:
        rows: [K] which proposals, whose features these regions have; one may appear twice under a rule a class.
        boxes: [K, 4] network pixels, the proposals or what regression made of them.
        class_ids: [K].
        class_scores: [K] probability of ``class_ids``.
        scores: [K] what the rule ranks by; the confidence of the published files.
        nms_threshold: the overlap that was used in the end.
        complete: whether as many regions as asked for were found.
    """

    rows: Tensor
    boxes: Tensor
    class_ids: Tensor
    class_scores: Tensor
    scores: Tensor
    nms_threshold: float
    complete: bool


@dataclass(frozen=True, kw_only=True)
class SelectionRule:
    """What all rules have: bounds on the number of regions, and the arithmetic of boxes."""

    min_boxes: int = 36
    """Fewest regions of a picture, as far as it has proposals."""
    max_boxes: int = 36
    """Most regions of a picture."""
    plus_one: bool = False
    """Whether pixels are counted as Caffe does."""
    scale_clamp: float | None = SCALE_CLAMP
    """Largest log scale of a regressed box; Caffe has none."""

    def select(self, candidates: Candidates) -> Selection:
        """Return what is kept of one picture."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class MaxClassRule(SelectionRule):
    """The best class of every proposal, its regressed box, and one suppression over all of them.

    Rule of the detectron2 port, its Hugging Face copy and volta: suppression is repeated with growing thresholds
    until enough boxes stay. Where the originals failed (the Hugging Face port reused the previous picture's boxes,
    volta dropped the picture) the last threshold's boxes are kept and the selection says that it is not complete.
    Regions are ordered by class probability. The feature is that of the proposal, not of the regressed box.
    """

    nms_thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Overlaps that are tried in turn."""
    min_score: float = 0.0
    """Score that regions beyond ``min_boxes`` need; the published scripts were told one and never used it."""

    def select(self, candidates: Candidates) -> Selection:
        """Return what is kept of one picture."""
        scores, classes = candidates.class_probs().max(dim=-1)
        every = torch.arange(len(scores), device=scores.device)
        boxes = candidates.regressed(every, classes, plus_one=self.plus_one, scale_clamp=self.scale_clamp)
        rows, threshold = every[:0], math.nan
        for threshold in self.nms_thresholds:
            rows = nms(boxes, scores, threshold, plus_one=self.plus_one, max_keep=self.max_boxes)
            if len(rows) >= self.min_boxes:
                break
        # They come best first, so that the good ones are the first ones.
        rows = rows[: max(self.min_boxes, int((scores[rows] >= self.min_score).sum()))]
        complete = len(rows) >= self.min_boxes
        return Selection(rows, boxes[rows], classes[rows], scores[rows], scores[rows], threshold, complete)


@dataclass(frozen=True, kw_only=True)
class ClasswiseRule(SelectionRule):
    """The proposals themselves, by the best probability that survives suppression within its class.

    Rule of the Caffe code (``generate_tsv``), and so of the features of LXMERT, UNITER and MILVLG. A proposal that
    loses in its best class stays if it wins in another, so boxes of one class may overlap. The class named is the
    most probable one, surviving or not.
    """

    nms_threshold: float = 0.3
    """Overlap above which a proposal loses within a class."""
    min_score: float = 0.2
    """Surviving probability that a region needs, once there are ``min_boxes``."""

    def select(self, candidates: Candidates) -> Selection:
        """Return what is kept of one picture; in the order of the proposals if between the bounds, else best first."""
        probs = candidates.class_probs()
        confidence = self._confidence(candidates.boxes, probs, min_score=self.min_score)
        rows = (confidence >= self.min_score).nonzero()[:, 0]
        if len(rows) < self.min_boxes:
            # Only now do classes matter in which nothing reaches the score.
            confidence = self._confidence(candidates.boxes, probs, min_score=-math.inf)
            rows = _best(confidence, self.min_boxes)
        elif len(rows) > self.max_boxes:
            rows = _best(confidence, self.max_boxes)
        class_scores, classes = probs[rows].max(dim=-1)
        return Selection(
            rows,
            candidates.boxes[rows],
            classes,
            class_scores,
            confidence[rows],
            self.nms_threshold,
            len(rows) >= self.min_boxes,
        )

    def _confidence(self, boxes: Tensor, probs: Tensor, *, min_score: float) -> Tensor:
        """Return [R] the best probability that survives in its class; exact where it reaches ``min_score``."""
        active = (probs >= min_score).any(dim=0)
        scores = probs[:, active]
        keep = class_wise_nms(boxes, scores, self.nms_threshold, min_score=min_score, plus_one=self.plus_one)
        # A column of zeros: what survives nowhere has confidence 0, as in the original.
        surviving = torch.nn.functional.pad(torch.where(keep, scores, 0), (0, 1))
        return surviving.max(dim=-1).values


@dataclass(frozen=True, kw_only=True)
class UNITERRule(ClasswiseRule):
    """The classwise rule, then sorted by confidence and cut to as many as are above the score (UNITER's databases).

    UNITER reads the first clip(count(confidence > 0.2), 10, 100) rows of a picture, which is only right for sorted
    rows.
    """

    min_boxes: int = 10
    """Fewest regions of a picture, as far as it has proposals."""
    max_boxes: int = 100
    """Most regions of a picture."""

    def select(self, candidates: Candidates) -> Selection:
        """Return what is kept of one picture, best first."""
        chosen = super().select(candidates)
        order = chosen.scores.sort(descending=True, stable=True).indices
        order = order[: count_above(chosen.scores, self.min_score, self.min_boxes, self.max_boxes)]
        tensors = (chosen.rows, chosen.boxes, chosen.class_ids, chosen.class_scores, chosen.scores)
        rows, boxes, class_ids, class_scores, scores = (tensor[order] for tensor in tensors)
        return Selection(rows, boxes, class_ids, class_scores, scores, chosen.nms_threshold, chosen.complete)


@dataclass(frozen=True, kw_only=True)
class PerClassRule(SelectionRule):
    """Every class of every proposal on its own: the usual inference of detectron2, for finding objects.

    A proposal may appear several times, with several classes. Regions are ordered by probability.
    """

    min_boxes: int = 0
    """Fewest regions of a picture; the rule does not fill up."""
    max_boxes: int = 100
    """Most regions of a picture."""
    nms_threshold: float = 0.5
    """Overlap above which a box loses against a better one of its class."""
    min_score: float = 0.05
    """Probability that a pair of proposal and class must exceed."""

    def select(self, candidates: Candidates) -> Selection:
        """Return what is kept of one picture."""
        probs = candidates.class_probs()
        rows, classes = (probs > self.min_score).nonzero().unbind(1)
        scores = probs[rows, classes]
        boxes = candidates.regressed(rows, classes, plus_one=self.plus_one, scale_clamp=self.scale_clamp)
        keep = nms(boxes, scores, self.nms_threshold, classes=classes, plus_one=self.plus_one, max_keep=self.max_boxes)
        rows, boxes, classes, scores = rows[keep], boxes[keep], classes[keep], scores[keep]
        return Selection(rows, boxes, classes, scores, scores, self.nms_threshold, len(rows) >= self.min_boxes)


def count_above(scores: Tensor, threshold: float, fewest: int, most: int) -> int:
    """Return how many rows UNITER reads: min(most, max(fewest, count(scores > threshold))).

    Example:
        >>> count_above(torch.tensor([0.9, 0.1, 0.1]), 0.2, 2, 100)
        2
    """
    return min(most, max(fewest, int((scores > threshold).sum())))


def _best(scores: Tensor, count: int) -> Tensor:
    return scores.sort(descending=True, stable=True).indices[:count]
