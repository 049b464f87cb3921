"""The region proposal network (Ren et al. 2015, section 3): where in the picture something might be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vltk.detection.boxes import (
    SCALE_CLAMP,
    BoxCoder,
    ImageSize,
    anchor_grid,
    caffe_cells,
    clip_boxes,
    detectron_cells,
    large_enough,
)
from vltk.detection.region_ops import nms


@dataclass(frozen=True, kw_only=True)
class ProposalRule:
    """Which anchors become proposals, and in whose arithmetic."""

    before_nms: int = 6000
    """Best anchors that enter the suppression."""
    after_nms: int = 300
    """Proposals of a picture."""
    nms_threshold: float = 0.7
    """Largest overlap of two proposals."""
    min_side: float = 0.0
    """Sides of a proposal must exceed this (Caffe: reach it), in network pixels."""
    min_side_scales: bool = False
    """Whether ``min_side`` speaks of the picture's own pixels and grows with its scale, as in Caffe."""
    filter_first: bool = False
    """Whether small boxes go before the cut to ``before_nms`` (Caffe) or after it (detectron2)."""
    plus_one: bool = False
    """Whether pixels are counted as Caffe does, which also stops boxes at the last pixel."""
    scale_clamp: float | None = SCALE_CLAMP
    """Largest log scale of a box against its anchor; Caffe has none."""
    anchors: Literal["network", "caffe"] = "network"
    """Whether detectron2's clean anchors are replaced by the rounded, shifted ones that Caffe laid in their place.
    Anchors of a checkpoint that are neither are always used as they are."""


class ProposalOutput(NamedTuple):
    """What the network says of every anchor: logits [B, N], deltas [B, N, 4], anchors [N, 4]."""

    logits: Tensor
    deltas: Tensor
    anchors: Tensor


class Proposals(NamedTuple):
    """The proposals of one picture, best first: boxes [R, 4] in network pixels, logits [R]."""

    boxes: Tensor
    logits: Tensor


@dataclass(frozen=True, kw_only=True)
class ProposalConfig:
    """The proposal network and its anchors."""

    hidden_channels: int = 512
    """Channels of its 3x3 convolution."""
    sizes: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)
    """Anchor sizes: the square root of the area, in network pixels."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Anchor heights over widths."""
    box_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """Factors that the predicted offsets were trained with."""

    def build(self, *, channels: int, stride: int) -> ProposalGenerator:
        """Return the network with fresh weights, for a map of ``channels`` at ``stride``."""
        return ProposalGenerator(self, channels=channels, stride=stride)


class _Head(nn.Module):
    def __init__(self, channels: int, hidden: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.objectness_logits = nn.Conv2d(hidden, anchors, 1)
        self.anchor_deltas = nn.Conv2d(hidden, 4 * anchors, 1)
        for layer in (self.conv, self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)
            torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.relu_(self.conv(features))
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


class _Cells(nn.Module):
    """The anchors of the upper left position under the published key ``cell_anchors.0``."""

    def __init__(self, cells: Tensor) -> None:
        super().__init__()
        self.cell_anchors = nn.Module()
        self.cell_anchors.register_buffer("0", cells)

    def get(self) -> Tensor:
        cells: Tensor = self.cell_anchors.get_buffer("0")
        return cells


class ProposalGenerator(nn.Module):
    """Scores anchors on a map and turns the best into proposals.

    It computes in float32 whatever the trunk ran in: which of 6000 near-equal scores come first decides what is
    extracted at all.
    """

    def __init__(self, config: ProposalConfig, *, channels: int, stride: int) -> None:
        super().__init__()
        self.config, self.stride = config, stride
        cells = detectron_cells(config.sizes, config.ratios)
        self.rpn_head = _Head(channels, config.hidden_channels, len(cells))
        self.anchor_generator = _Cells(cells)

    @property
    def cells(self) -> Tensor:
        """The [A, 4] anchors of the upper left position, as a checkpoint may have set them."""
        return self.anchor_generator.get()

    def forward(self, features: Tensor, *, anchors: Literal["network", "caffe"] = "network") -> ProposalOutput:
        """Score every anchor of a [B, C, H, W] map; anchors are ordered by row, column and cell."""
        logits, deltas = self.rpn_head(features.to(self.rpn_head.conv.weight.dtype))
        batch, cells, height, width = logits.shape
        deltas = deltas.view(batch, cells, 4, height, width).permute(0, 3, 4, 1, 2)
        grid = anchor_grid(self.cells if anchors == "network" else self.caffe_counterpart(), height, width, self.stride)
        return ProposalOutput(logits.permute(0, 2, 3, 1).flatten(1), deltas.reshape(batch, -1, 4), grid)

    def caffe_counterpart(self) -> Tensor:
        """Return Caffe's cells in the channel order of this network, or the network's own where they are not clean."""
        clean = detectron_cells(self.config.sizes, self.config.ratios).to(self.cells)
        if self.cells.shape != clean.shape or not torch.allclose(self.cells, clean, atol=0.01):
            return self.cells
        legacy = caffe_cells(self.config.sizes, self.config.ratios, base=self.stride).to(self.cells)
        # Caffe runs over ratios outside and sizes inside, detectron2 the other way round.
        return legacy.view(len(self.config.ratios), len(self.config.sizes), 4).transpose(0, 1).reshape(-1, 4)

    def decode(self, output: ProposalOutput, rule: ProposalRule) -> Tensor:
        """Return the [B, N, 4] boxes that the offsets make of the anchors."""
        coder = BoxCoder(weights=self.config.box_weights, plus_one=rule.plus_one, scale_clamp=rule.scale_clamp)
        return coder.decode(output.deltas, output.anchors)

    def select(self, output: ProposalOutput, sizes: Sequence[ImageSize], rule: ProposalRule) -> list[Proposals]:
        """Choose the proposals of every picture.

        Args:
            output: of :meth:`forward`.
            sizes: of each picture without padding, in network pixels.
            rule: what is kept.
        """
        every = zip(output.logits.detach(), self.decode(output, rule).detach(), sizes, strict=True)
        return [_select(logits, boxes, size, rule) for logits, boxes, size in every]


def _select(logits: Tensor, boxes: Tensor, size: ImageSize, rule: ProposalRule) -> Proposals:
    boxes = clip_boxes(boxes, size, plus_one=rule.plus_one)
    min_side = rule.min_side * (size.scale if rule.min_side_scales else 1.0)
    good = large_enough(boxes, min_side, plus_one=rule.plus_one)
    if rule.filter_first:
        boxes, logits, good = boxes[good], logits[good], good[good]
    best = logits.sort(descending=True, stable=True).indices[: rule.before_nms]
    best = best[good[best]]
    boxes, logits = boxes[best], logits[best]
    keep = nms(boxes, logits, rule.nms_threshold, plus_one=rule.plus_one, max_keep=rule.after_nms)
    return Proposals(boxes[keep], logits[keep])
