"""Arithmetic on boxes: areas, overlaps, clipping, coding of offsets, and anchors, in both published conventions.

Two lineages of code count pixels differently. detectron2 and its port treat a box as continuous corners: its width
is ``x2 - x1`` and it may touch the border ``W``. Caffe treats ``x2, y2`` as the last pixel inside: the width is
``x2 - x1 + 1`` and the box stops at ``W - 1``. ``plus_one=True`` selects the second one, everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

SCALE_CLAMP = math.log(1000.0 / 16)
"""Largest log scale that detectron2 lets a network predict, so that exp() stays finite."""


class ImageSize(NamedTuple):
    """Height and width in network pixels; named, because half of this field writes (w, h).

    ``scale`` is network pixels a pixel of the picture, for rules that speak of the picture's own pixels.
    """

    height: int
    width: int
    scale: float = 1.0


def box_area(boxes: Tensor, *, plus_one: bool = False) -> Tensor:
    """Return [R] areas of [R, 4] boxes.

    Example:
        >>> box_area(torch.tensor([[0., 0., 9., 4.]])).item(), box_area(torch.tensor([[0., 0., 9., 4.]]),
        ...     plus_one=True).item()
        (36.0, 50.0)
    """
    width, height = box_sides(boxes, plus_one=plus_one)
    return width * height


def box_sides(boxes: Tensor, *, plus_one: bool = False) -> tuple[Tensor, Tensor]:
    """Return the widths and the heights of [..., 4] boxes."""
    extra = int(plus_one)
    return boxes[..., 2] - boxes[..., 0] + extra, boxes[..., 3] - boxes[..., 1] + extra


def box_iou(boxes: Tensor, others: Tensor, *, plus_one: bool = False) -> Tensor:
    """Return [R, S] intersection over union of [R, 4] with [S, 4] boxes; two empty boxes give nan.

    Example:
        >>> box_iou(torch.tensor([[0., 0., 4., 4.]]), torch.tensor([[2., 0., 6., 4.]])).round(decimals=4).item()
        0.33329999446868896
    """
    extra = int(plus_one)
    # One axis at a time keeps the largest temporary at R x S; the order of operations is torchvision's,
    # so that an overlap that lies exactly on a threshold falls on the same side.
    width = torch.minimum(boxes[:, None, 2], others[None, :, 2])
    width = (width - torch.maximum(boxes[:, None, 0], others[None, :, 0]) + extra).clamp_(min=0)
    height = torch.minimum(boxes[:, None, 3], others[None, :, 3])
    height = (height - torch.maximum(boxes[:, None, 1], others[None, :, 1]) + extra).clamp_(min=0)
    shared = width.mul_(height)
    union = box_area(boxes, plus_one=plus_one)[:, None] + box_area(others, plus_one=plus_one)[None, :]
    return shared / union.sub_(shared)


def clip_boxes(boxes: Tensor, size: ImageSize, *, plus_one: bool = False) -> Tensor:
    """Return [..., 4] boxes moved into the picture: [0, W] x [0, H], or up to the last pixel with ``plus_one``."""
    right, bottom = size.width - int(plus_one), size.height - int(plus_one)
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([x1.clamp(0, right), y1.clamp(0, bottom), x2.clamp(0, right), y2.clamp(0, bottom)], dim=-1)


def large_enough(boxes: Tensor, min_side: float, *, plus_one: bool = False) -> Tensor:
    """Return which of [R, 4] boxes have both sides above ``min_side`` (Caffe: at least ``min_side``)."""
    width, height = box_sides(boxes, plus_one=plus_one)
    smaller = torch.minimum(width, height)
    return smaller >= min_side if plus_one else smaller > min_side


@dataclass(frozen=True, kw_only=True)
class BoxCoder:
    """Offsets between boxes as networks predict them (R-CNN, appendix C).

    Attributes:
        weights: factors of dx, dy, dw, dh; (10, 10, 5, 5) for the box head of detectron2.
        plus_one: count pixels as Caffe does.
        scale_clamp: largest dw, dh after division by the weights; None for no limit (Caffe).

    Example:
        >>> coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
        >>> source, target = torch.tensor([[0., 0., 10., 10.]]), torch.tensor([[5., 0., 15., 20.]])
        >>> coder.decode(coder.encode(source, target), source).round().tolist()
        [[5.0, 0.0, 15.0, 20.0]]
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    plus_one: bool = False
    scale_clamp: float | None = SCALE_CLAMP

    def encode(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the [R, 4] offsets that move ``source`` onto ``target``."""
        width, height, x, y = self._centre(source)
        target_width, target_height, target_x, target_y = self._centre(target)
        offsets = [
            (target_x - x) / width,
            (target_y - y) / height,
            (target_width / width).log(),
            (target_height / height).log(),
        ]
        return torch.stack([w * offset for w, offset in zip(self.weights, offsets, strict=True)], dim=-1)

    def decode(self, deltas: Tensor, source: Tensor) -> Tensor:
        """Move boxes by offsets.

        Args:
            deltas: [..., 4], broadcast against ``source``, e.g. [R, C, 4] with [R, 1, 4].
            source: [..., 4] boxes.
        """
        width, height, x, y = self._centre(source)
        # Deltas of a trained network can be large; float32 at least, whatever the trunk ran in.
        dx, dy, dw, dh = (
            delta / w
            for delta, w in zip(
                deltas.to(torch.promote_types(deltas.dtype, torch.float32)).unbind(-1), self.weights, strict=True
            )
        )
        if self.scale_clamp is not None:
            dw, dh = dw.clamp(max=self.scale_clamp), dh.clamp(max=self.scale_clamp)
        new_x, new_y = dx * width + x, dy * height + y
        half_width, half_height = 0.5 * dw.exp() * width, 0.5 * dh.exp() * height
        # Caffe adds half the width on both sides of the centre and never takes its one back.
        return torch.stack([new_x - half_width, new_y - half_height, new_x + half_width, new_y + half_height], dim=-1)

    def _centre(self, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        width, height = box_sides(boxes, plus_one=self.plus_one)
        return width, height, boxes[..., 0] + 0.5 * width, boxes[..., 1] + 0.5 * height


def detectron_cells(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Return [A, 4] anchors around the origin, sizes outside, ratios (height / width) inside, as detectron2 orders.

    Example:
        >>> detectron_cells([64], [1.0]).tolist()
        [[-32.0, -32.0, 32.0, 32.0]]
    """
    cells = []
    for size in sizes:
        for ratio in ratios:
            width = math.sqrt(size**2 / ratio)
            height = ratio * width
            cells.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(cells, dtype=torch.float32)


def caffe_cells(sizes: Sequence[float], ratios: Sequence[float], *, base: int = 16) -> Tensor:
    """Return [A, 4] anchors of py-faster-rcnn: whole widths, centred on (base - 1) / 2, ratios outside, sizes inside.

    Example:
        >>> caffe_cells([128], [0.5]).tolist()
        [[-84.0, -40.0, 99.0, 55.0]]
    """
    centre, cells = (base - 1) / 2, []
    for ratio in ratios:
        width = round(math.sqrt(base * base / ratio))
        height = round(width * ratio)
        for size in sizes:
            half_width, half_height = (width * size / base - 1) / 2, (height * size / base - 1) / 2
            cells.append([centre - half_width, centre - half_height, centre + half_width, centre + half_height])
    return torch.tensor(cells, dtype=torch.float32)


def anchor_grid(cells: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Return [height * width * A, 4] anchors, rows outside, then columns, then cells; ``offset`` 0.

    Args:
        cells: [A, 4] anchors of the upper left position.
        height: rows of the map.
        width: columns of the map.
        stride: network pixels from one position to the next.
    """
    x = torch.arange(width, device=cells.device, dtype=cells.dtype) * stride
    y = torch.arange(height, device=cells.device, dtype=cells.dtype) * stride
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([columns, rows, columns, rows], dim=-1).reshape(-1, 1, 4)
    return (shifts + cells).reshape(-1, 4)
