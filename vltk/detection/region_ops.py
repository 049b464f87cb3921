"""Operations on regions in plain torch: suppression of overlapping boxes, and pooling of boxes from a map.

torchvision's compiled operators are used where torchvision imports; the results are equal, so its absence costs
speed on a GPU and nothing else. All of it differentiates, runs on any device, and needs no compiler.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vltk.detection.boxes import box_iou

# Candidates that one round of suppression looks at together: the overlaps of a block are one matrix.
_BLOCK = 512
_BITS = 63  # boxes a word; the sign bit stays out, so that shifting right brings in zeros


@functools.cache
def torchvision_ops() -> Any | None:
    """Return ``torchvision.ops``, or None where torchvision is absent or was built for another torch."""
    try:
        return importlib.import_module("torchvision").ops
    except Exception:  # a wheel for another torch fails with RuntimeError, OSError or worse
        return None


def nms(
    boxes: Tensor,
    scores: Tensor,
    threshold: float,
    *,
    classes: Tensor | None = None,
    plus_one: bool = False,
    max_keep: int | None = None,
) -> Tensor:
    """Keep the best box of each heap: greedy non-maximum suppression.

    A box is dropped when it overlaps a better kept one by more than ``threshold``. Of equal scores the lower index is
    the better one. Two boxes without area have no overlap.

    Args:
        boxes: [R, 4].
        scores: [R].
        threshold: largest intersection over union that two kept boxes may have.
        classes: [R] labels; only boxes of one class suppress each other.
        plus_one: count pixels as Caffe does.
        max_keep: stop after so many.

    Returns:
        [K] int64 indices, best first.

    Example:
        >>> boxes = torch.tensor([[0., 0., 10., 10.], [1., 0., 10., 10.], [20., 0., 30., 10.]])
        >>> nms(boxes, torch.tensor([0.1, 0.9, 0.5]), 0.5).tolist()
        [1, 2]
    """
    limit = _largest_not_above(threshold, boxes.dtype)
    compiled = torchvision_ops()
    if compiled is not None and classes is None and not plus_one:
        kept: Tensor = compiled.nms(boxes, scores, limit)
        return kept[:max_keep]
    order = scores.sort(descending=True, stable=True).indices
    boxes, classes = boxes[order], None if classes is None else classes[order]

    def overlaps(rows: Tensor, columns: Tensor) -> Tensor:
        too_close = box_iou(boxes[rows], boxes[columns], plus_one=plus_one) > limit
        return too_close if classes is None else too_close & (classes[rows][:, None] == classes[columns][None, :])

    waiting = torch.arange(len(order), device=order.device)
    chosen: list[Tensor] = []
    count, wanted = 0, len(order) if max_keep is None else max_keep
    while len(waiting) and count < wanted:
        block, waiting = waiting[:_BLOCK], waiting[_BLOCK:]
        block = block[_survivors(overlaps(block, block).triu_(1))]
        chosen.append(block)
        count += len(block)
        if len(waiting) and count < wanted:
            waiting = waiting[~overlaps(block, waiting).any(dim=0)]
    return order[torch.cat(chosen)[:wanted]] if chosen else order


def class_wise_nms(
    boxes: Tensor, scores: Tensor, threshold: float, *, min_score: float = -math.inf, plus_one: bool = False
) -> Tensor:
    """Suppress within every class at once; the same as :func:`nms` called for each column of ``scores``.

    All classes share one matrix of overlaps. Walking down the ranks, one step serves all classes: a class keeps the
    set of boxes that are gone as bits of a few words, so a step is a handful of operations on [C, R / 63] integers.

    Args:
        boxes: [R, 4], the same for every class.
        scores: [R, C].
        threshold: as in :func:`nms`.
        min_score: boxes of a lower score are neither kept nor do they suppress; they could only suppress what is
            lower still, so the others come out as without it.
        plus_one: count pixels as Caffe does.

    Returns:
        [R, C] bool, whether the box survives in the class.
    """
    keep = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    candidates = scores >= min_score
    depth = int(candidates.sum(dim=0).max()) if scores.numel() else 0
    order = scores.sort(dim=0, descending=True, stable=True).indices[:depth]
    words = _packed(box_iou(boxes, boxes, plus_one=plus_one) > _largest_not_above(threshold, boxes.dtype))
    gone = torch.zeros((scores.shape[1], words.shape[1]), dtype=torch.int64, device=scores.device)
    for box in order:
        word, bit = box // _BITS, box % _BITS
        alive = (gone.gather(1, word[:, None])[:, 0] >> bit) & 1 == 0
        alive &= candidates.gather(0, box[None])[0]
        keep.scatter_(0, box[None], alive[None])
        gone |= words[box] * alive[:, None]
    return keep


def roi_pool(features: Tensor, rois: Tensor, *, output_size: int, spatial_scale: float) -> Tensor:
    """Pool the maximum of each of ``output_size`` x ``output_size`` bins of each box (Fast R-CNN, section 2.1).

    The corners are rounded to positions of the map, half away from zero; the last position belongs to the box, which
    is at least one position wide and high. Neighbouring bins may share positions. A bin outside the map gives 0.

    Args:
        features: [B, C, H, W].
        rois: [R, 5] index of the picture, x1, y1, x2, y2 in network pixels.
        output_size: bins along each side.
        spatial_scale: positions of the map a network pixel, e.g. 1 / 16.

    Returns:
        [R, C, output_size, output_size], channels last in memory.
    """
    compiled = torchvision_ops()
    if compiled is not None and features.dtype != torch.bfloat16:
        pooled: Tensor = compiled.roi_pool(features, rois, output_size, spatial_scale)
        return pooled
    batch, channels, height, width = features.shape
    x1, y1, x2, y2 = _round_half_away(rois[:, 1:] * spatial_scale).long().unbind(1)
    rows, columns = _bins(y1, y2, output_size, height), _bins(x1, x2, output_size, width)
    levels_y, levels_x = (int(level.max()) + 1 if len(rois) else 1 for _, _, level, _ in (rows, columns))
    table = _window_maxima(features.permute(0, 2, 3, 1).contiguous(), levels_y, levels_x)
    row_level, column_level = rows[2][:, :, None], columns[2][:, None, :]
    base = ((row_level * levels_x + column_level) * batch + rois[:, 0].long()[:, None, None]) * height

    def window(y: Tensor, x: Tensor) -> Tensor:
        return ((base + y[:, :, None]) * width + x[:, None, :]).flatten()

    # A bin is the union of at most four windows of a power of two. Mostly they are one and the same.
    first = window(rows[0], columns[0])
    pooled = table[first]
    for y, x in ((rows[0], columns[1]), (rows[1], columns[0]), (rows[1], columns[1])):
        other = window(y, x)
        differs = (other != first).nonzero()[:, 0]
        pooled[differs] = torch.maximum(pooled[differs], table[other[differs]])
    empty = (rows[3][:, :, None] | columns[3][:, None, :]).flatten()
    pooled[empty] = 0
    return pooled.view(len(rois), output_size, output_size, channels).permute(0, 3, 1, 2)


def roi_align(
    features: Tensor,
    rois: Tensor,
    *,
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Average bilinear samples in each of ``output_size`` x ``output_size`` bins of each box (Mask R-CNN, section 3).

    The samples of a box form a grid, so that bilinear weights factor into rows and columns and the whole box is two
    matrix products; nothing is copied for a sample.

    Args:
        features: [B, C, H, W].
        rois: [R, 5] index of the picture, x1, y1, x2, y2 in network pixels.
        output_size: bins along each side.
        spatial_scale: positions of the map a network pixel.
        sampling_ratio: samples along each side of a bin; 0 for one a position of the map, rounded up.
        aligned: whether pixel centres lie at .5 (detectron2's default) or at whole numbers.

    Returns:
        [R, C, output_size, output_size].
    """
    compiled = torchvision_ops()
    if compiled is not None and features.dtype != torch.bfloat16:
        aligned_regions: Tensor = compiled.roi_align(
            features, rois, output_size, spatial_scale, sampling_ratio, aligned
        )
        return aligned_regions
    batch, channels, height, width = features.shape
    x1, y1, x2, y2 = (rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)).unbind(1)
    box_width, box_height = x2 - x1, y2 - y1
    if not aligned:
        box_width, box_height = box_width.clamp(min=1), box_height.clamp(min=1)
    rows = _sampling_weights(y1, box_height, output_size, height, sampling_ratio).to(features.dtype)
    columns = _sampling_weights(x1, box_width, output_size, width, sampling_ratio).to(features.dtype)
    pooled = features.new_zeros((len(rois), channels, output_size, output_size))
    for image in range(batch):
        mine = (rois[:, 0] == image).nonzero()[:, 0]
        by_row = torch.einsum("rph,chw->rcpw", rows[mine], features[image])
        pooled = pooled.index_copy(0, mine, torch.einsum("rcpw,rqw->rcpq", by_row, columns[mine]))
    return pooled


def _largest_not_above(threshold: float, dtype: torch.dtype) -> float:
    """Return the largest value of ``dtype`` that is not above ``threshold``.

    An overlap in float32 exceeds 0.3 in exact arithmetic just when it exceeds this value; comparing with the nearest
    float32, which lies above 0.3, would keep a box that torchvision drops.
    """
    if dtype == torch.float64:
        return threshold
    nearest = np.float32(threshold)
    return float(np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > threshold else nearest)


def _survivors(overlap: Tensor) -> Tensor:
    """Solve "kept unless a kept better one overlaps" for a strictly upper triangular [R, R] matrix."""
    keep = torch.ones(len(overlap), dtype=torch.bool, device=overlap.device)
    while True:
        # Row i is settled once all rows before it are, so a state that repeats itself is the greedy answer.
        updated = ~(overlap & keep[:, None]).any(dim=0)
        if torch.equal(updated, keep):
            return keep
        keep = updated


def _packed(overlap: Tensor) -> Tensor:
    """Return the rows of a [R, S] bool matrix as [R, ceil(S / 63)] int64 words."""
    padding = -overlap.shape[1] % _BITS
    words = (overlap.shape[1] + padding) // _BITS
    bits = torch.nn.functional.pad(overlap, (0, padding)).view(len(overlap), words, _BITS).to(torch.int64)
    return (bits << torch.arange(_BITS, device=overlap.device)).sum(dim=-1)


def _round_half_away(values: Tensor) -> Tensor:
    whole = values.trunc()
    return whole + values.sign() * ((values - whole).abs() >= 0.5)


def _bins(start: Tensor, last: Tensor, count: int, limit: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut [R] intervals of positions into [R, count] bins.

    Returns:
        the first window of each bin, its last window, the level of the windows (they are 2 ** level long), and
        whether the bin is empty.
    """
    length = (last - start + 1).clamp(min=1).float() / count
    steps = torch.arange(count + 1, device=start.device, dtype=torch.float32)
    first = ((steps[:-1] * length[:, None]).floor().long() + start[:, None]).clamp(0, limit)
    end = ((steps[1:] * length[:, None]).ceil().long() + start[:, None]).clamp(0, limit)
    empty = end <= first
    first = torch.where(empty, 0, first)
    end = torch.where(empty, 1, end)
    level = (end - first).double().log2().floor().long()
    return first, end - (1 << level), level, empty


def _window_maxima(features: Tensor, levels_y: int, levels_x: int) -> Tensor:
    """Return [levels_y * levels_x * B * H * W, C] maxima over windows of 2 ** level positions, [B, H, W, C] given."""
    by_row = [features]
    for level in range(levels_y - 1):
        by_row.append(_doubled(by_row[-1], 1 << level, dim=1))
    tables = []
    for table in by_row:
        tables.append(table)
        for level in range(levels_x - 1):
            tables.append(_doubled(tables[-1], 1 << level, dim=2))
    return torch.stack(tables).view(-1, features.shape[-1])


def _doubled(maxima: Tensor, step: int, *, dim: int) -> Tensor:
    # Windows that would leave the map are never asked for; the rolled values that they hold do no harm.
    return torch.maximum(maxima, maxima.roll(-step, dims=dim))


def _sampling_weights(start: Tensor, length: Tensor, count: int, limit: int, sampling_ratio: int) -> Tensor:
    """Return [R, count, limit]: how much each position of an axis weighs in the average over each bin."""
    size = length / count
    samples = torch.full_like(size, sampling_ratio) if sampling_ratio > 0 else size.ceil()
    most = int(samples.max().clamp(min=0)) if len(samples) else 0
    step = torch.arange(most, device=start.device, dtype=start.dtype)
    bins = torch.arange(count, device=start.device, dtype=start.dtype)
    at_least_one = samples.clamp(min=1)[:, None]  # an inverted box has no sample at all
    inside_bin = (step + 0.5) * size[:, None] / at_least_one
    where = start[:, None, None] + (bins * size[:, None])[:, :, None] + inside_bin[:, None, :]
    counted = (step < samples[:, None])[:, None, :] & (where >= -1) & (where <= limit)
    where = where.clamp(0, limit - 1)
    low = where.floor()
    share = where - low
    weight = torch.where(counted, 1 / at_least_one[:, None], 0)
    weights = start.new_zeros((len(start), count, limit))
    weights.scatter_add_(2, low.long(), (1 - share) * weight)
    return weights.scatter_add_(2, (low.long() + 1).clamp(max=limit - 1), share * weight)
