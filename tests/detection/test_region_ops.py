"""Region operations against loops written from their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vltk.detection import region_ops
from vltk.detection.boxes import BoxCoder, ImageSize, box_iou, clip_boxes
from vltk.detection.region_ops import class_wise_nms, nms, roi_align, roi_pool


@pytest.fixture
def without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_ops, "torchvision_ops", lambda: None)


def boxes_and_scores(count: int, *, seed: int, ties: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    side = torch.rand(count, 2, generator=generator) * 50
    scores = torch.rand(count, generator=generator)
    return torch.cat([corner, corner + side], dim=1), (scores * 5).round() / 5 if ties else scores


def slow_nms(boxes: Tensor, scores: Tensor, threshold: float, *, plus_one: bool = False) -> list[int]:
    extra = int(plus_one)

    def overlap(a: list[float], b: list[float]) -> float:
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + extra)
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + extra)
        areas = [(c[2] - c[0] + extra) * (c[3] - c[1] + extra) for c in (a, b)]
        union = sum(areas) - width * height
        return width * height / union if union else math.nan

    rows = boxes.double().tolist()
    keep: list[int] = []
    for candidate in sorted(range(len(rows)), key=lambda i: (-scores[i].item(), i)):
        if not any(overlap(rows[kept], rows[candidate]) > threshold for kept in keep):
            keep.append(candidate)
    return keep


# -- suppression ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [0, 1, 40, 700])
def test_nms_is_the_greedy_loop(count: int, ties: bool, plus_one: bool) -> None:
    boxes, scores = boxes_and_scores(count, seed=count, ties=ties)
    for threshold in (0.3, 0.7):
        expected = slow_nms(boxes, scores, threshold, plus_one=plus_one)
        assert nms(boxes, scores, threshold, plus_one=plus_one).tolist() == expected
        assert nms(boxes, scores, threshold, plus_one=plus_one, max_keep=7).tolist() == expected[:7]


def test_nms_over_several_blocks_of_candidates(monkeypatch: pytest.MonkeyPatch, without_torchvision: None) -> None:
    boxes, scores = boxes_and_scores(300, seed=1)
    whole = nms(boxes, scores, 0.5)
    monkeypatch.setattr(region_ops, "_BLOCK", 7)
    assert torch.equal(nms(boxes, scores, 0.5), whole)
    assert torch.equal(nms(boxes, scores, 0.5, max_keep=10), whole[:10])


def test_nms_does_not_depend_on_the_order_of_the_boxes() -> None:
    boxes, scores = boxes_and_scores(200, seed=2)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    assert torch.equal(order[nms(boxes[order], scores[order], 0.5)], nms(boxes, scores, 0.5))


def test_nms_of_classes_is_nms_within_each() -> None:
    boxes, scores = boxes_and_scores(150, seed=3)
    classes = torch.randint(0, 4, (150,), generator=torch.Generator().manual_seed(0))
    expected = []
    for label in range(4):
        mine = (classes == label).nonzero()[:, 0]
        expected += mine[nms(boxes[mine], scores[mine], 0.4)].tolist()
    kept = nms(boxes, scores, 0.4, classes=classes).tolist()
    assert sorted(kept) == sorted(expected)
    assert kept == sorted(kept, key=lambda i: -scores[i].item())


def test_an_overlap_is_compared_with_the_threshold_as_it_is_written() -> None:
    # 3 shared of 10: the nearest float32 lies above 0.3, so that the second box goes.
    boxes = torch.tensor([[0.0, 0.0, 6.5, 1.0], [3.5, 0.0, 10.0, 1.0]])
    assert box_iou(boxes[:1], boxes[1:]).double().item() > 0.3
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.3).tolist() == [0]
    assert nms(boxes.double(), torch.tensor([0.9, 0.8]), 0.3).tolist() == [0, 1]


@pytest.mark.parametrize(("count", "classes"), [(0, 3), (1, 1), (5, 0), (63, 4), (64, 9), (200, 30)])
@pytest.mark.parametrize("plus_one", [False, True])
def test_class_wise_nms_is_nms_of_every_class(count: int, classes: int, plus_one: bool) -> None:
    boxes, _ = boxes_and_scores(count, seed=count)
    scores = torch.rand(count, classes, generator=torch.Generator().manual_seed(1))
    scores = (scores * 20).round() / 20  # many ties
    expected = torch.zeros(count, classes, dtype=torch.bool)
    for column in range(classes):
        expected[nms(boxes, scores[:, column], 0.3, plus_one=plus_one), column] = True
    assert torch.equal(class_wise_nms(boxes, scores, 0.3, plus_one=plus_one), expected)
    above = class_wise_nms(boxes, scores, 0.3, min_score=0.6, plus_one=plus_one)
    assert torch.equal(above, expected & (scores >= 0.6))


# -- pooling --------------------------------------------------------------------------------------------------------


def random_rois(count: int, *, batch: int, extent: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 4, generator=generator) * extent * 1.4 - extent * 0.2
    image = torch.randint(0, batch, (count, 1), generator=generator)
    ordered = torch.cat([corners[:, :2].minimum(corners[:, 2:]), corners[:, :2].maximum(corners[:, 2:])], dim=1)
    ordered[count // 2 :] = (ordered[count // 2 :] / 8).round() * 8  # on the borders where positions are rounded
    ordered[:3] = corners[:3]  # some are inverted
    ordered[3] = ordered[3, :2].repeat(2)  # one has no area
    return torch.cat([image.float(), ordered], dim=1)


def slow_roi_pool(features: Tensor, rois: Tensor, size: int, scale: float) -> Tensor:
    def rounded(value: Tensor) -> int:
        exact = (value * scale).double().item()
        return int(math.copysign(math.floor(abs(exact) + 0.5), exact))

    channels, height, width = features.shape[1:]
    pooled = torch.zeros(len(rois), channels, size, size, dtype=features.dtype)
    for r, roi in enumerate(rois):
        x1, y1, x2, y2 = (rounded(value) for value in roi[1:])
        step_y, step_x = max(y2 - y1 + 1, 1) / size, max(x2 - x1 + 1, 1) / size
        for row in range(size):
            for column in range(size):
                top, bottom = (min(max(y1 + edge, 0), height) for edge in _edges(row, step_y))
                left, right = (min(max(x1 + edge, 0), width) for edge in _edges(column, step_x))
                if bottom > top and right > left:
                    bin_ = features[int(roi[0]), :, top:bottom, left:right]
                    pooled[r, :, row, column] = bin_.flatten(1).max(dim=1).values
    return pooled


def _edges(index: int, step: float) -> tuple[int, int]:
    return math.floor(index * step), math.ceil((index + 1) * step)


@pytest.mark.parametrize("size", [1, 2, 4, 8])  # steps that are exact in binary, so that the loop's double agrees
def test_roi_pool_is_the_loop_over_bins(size: int, without_torchvision: None) -> None:
    features = torch.randn(2, 3, 37, 41, generator=torch.Generator().manual_seed(size))
    rois = random_rois(40, batch=2, extent=600, seed=size)
    pooled = roi_pool(features, rois, output_size=size, spatial_scale=1 / 16)
    assert torch.equal(pooled, slow_roi_pool(features, rois, size, 1 / 16))


def test_roi_pool_has_the_gradient_of_the_loop(without_torchvision: None) -> None:
    rois = random_rois(12, batch=1, extent=150, seed=5)
    gradients = []
    for pool in (
        lambda f: roi_pool(f, rois, output_size=4, spatial_scale=1 / 16),
        lambda f: slow_roi_pool(f, rois, 4, 1 / 16),
    ):
        features = torch.randn(1, 2, 11, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        features.requires_grad_()
        weight = torch.randn(12, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        (pool(features) * weight).sum().backward()
        gradients.append(features.grad)
    torch.testing.assert_close(*gradients)


def test_roi_pool_in_bfloat16_rounds_once() -> None:
    features = torch.randn(1, 5, 20, 20, generator=torch.Generator().manual_seed(0))
    rois = random_rois(10, batch=1, extent=320, seed=1)
    low = roi_pool(features.bfloat16(), rois, output_size=7, spatial_scale=1 / 16)
    exact = roi_pool(features.bfloat16().float(), rois, output_size=7, spatial_scale=1 / 16)
    assert torch.equal(low, exact.bfloat16())


def slow_roi_align(features: Tensor, rois: Tensor, size: int, scale: float, ratio: int, aligned: bool) -> Tensor:
    channels, height, width = features.shape[1:]

    def sample(image: int, y: float, x: float) -> Tensor:
        if y < -1 or y > height or x < -1 or x > width:
            return features.new_zeros(channels)
        y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        near = features[image, :, top, left] * (1 - x + left) + features[image, :, top, right] * (x - left)
        far = features[image, :, bottom, left] * (1 - x + left) + features[image, :, bottom, right] * (x - left)
        return near * (1 - y + top) + far * (y - top)

    pooled = torch.zeros(len(rois), channels, size, size, dtype=features.dtype)
    for r, roi in enumerate(rois):
        x1, y1, x2, y2 = (roi[1:] * scale - (0.5 if aligned else 0)).tolist()
        w, h = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        rows, columns = (ratio or math.ceil(side / size) for side in (h, w))
        for py in range(size):
            for px in range(size):
                for sy in range(rows):
                    for sx in range(columns):
                        y = y1 + py * h / size + (sy + 0.5) * h / size / rows
                        x = x1 + px * w / size + (sx + 0.5) * w / size / columns
                        pooled[r, :, py, px] += sample(int(roi[0]), y, x) / (rows * columns)
    return pooled


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_is_the_loop_over_samples(ratio: int, aligned: bool, without_torchvision: None) -> None:
    features = torch.randn(2, 3, 13, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rois = random_rois(15, batch=2, extent=100, seed=7).double()
    pooled = roi_align(features, rois, output_size=3, spatial_scale=1 / 8, sampling_ratio=ratio, aligned=aligned)
    torch.testing.assert_close(pooled, slow_roi_align(features, rois, 3, 1 / 8, ratio, aligned))


def test_roi_align_has_a_right_gradient(without_torchvision: None) -> None:
    features = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rois = torch.tensor([[0.0, 3.0, 2.0, 30.0, 33.0]], dtype=torch.float64)
    function = lambda f: roi_align(f, rois, output_size=2, spatial_scale=1 / 8)  # noqa: E731
    assert torch.autograd.gradcheck(function, (features.requires_grad_(),))


def test_torchvision_gives_equal_results(monkeypatch: pytest.MonkeyPatch) -> None:
    if region_ops.torchvision_ops() is None:
        pytest.skip("torchvision does not import here; the golden cases hold its figures")
    boxes, scores = boxes_and_scores(500, seed=1, ties=True)
    features, rois = torch.randn(2, 3, 30, 40), random_rois(50, batch=2, extent=500, seed=2)

    def results() -> list[Tensor]:
        pooled = roi_pool(features, rois, output_size=7, spatial_scale=1 / 16)
        return [nms(boxes, scores, 0.3), pooled, roi_align(features, rois, output_size=7, spatial_scale=1 / 16)]

    compiled = results()
    monkeypatch.setattr(region_ops, "torchvision_ops", lambda: None)
    plain = results()
    assert torch.equal(compiled[0], plain[0])
    assert torch.equal(compiled[1], plain[1])
    torch.testing.assert_close(compiled[2], plain[2], rtol=1e-5, atol=1e-5)


# -- boxes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_decoding_undoes_encoding(plus_one: bool, weights: tuple[float, float, float, float]) -> None:
    source, target = (boxes_and_scores(50, seed=seed)[0].double() + torch.tensor([0, 0, 1, 1]) for seed in (1, 2))
    coder = BoxCoder(weights=weights, plus_one=plus_one, scale_clamp=None)
    decoded = coder.decode(coder.encode(source, target), source)
    # Caffe's x2 is the last pixel inside when it encodes, and one more when it decodes.
    torch.testing.assert_close(decoded, target + torch.tensor([0, 0, 1, 1]) * int(plus_one))


def test_a_scale_is_clamped_where_the_lineage_clamps_it() -> None:
    source, deltas = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[0.0, 0.0, 50.0, 0.0]])
    clamped = BoxCoder().decode(deltas, source)[0]
    assert (clamped[2] - clamped[0]).item() == pytest.approx(1000.0, rel=1e-5)
    free = BoxCoder(plus_one=True, scale_clamp=None).decode(deltas, source)
    assert clip_boxes(free, ImageSize(40, 60), plus_one=True)[0, 2].item() == 59.0
