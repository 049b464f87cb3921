"""Pre-processing against loops, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vltk.detection.preprocessing import (
    CAFFE_MEAN,
    CaffePreprocessing,
    Detectron2Preprocessing,
    HuggingFacePreprocessing,
    Preprocessing,
    stack,
)
from vltk.errors import UsageError


def picture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def slow_caffe(source: np.ndarray, height: int, width: int, factor: float) -> np.ndarray:
    """OpenCV's linear interpolation of one value at a time."""
    blue_green_red = source[:, :, ::-1].astype(np.float64) - np.array(CAFFE_MEAN)
    out = np.zeros((3, height, width))
    for y in range(height):
        for x in range(width):
            sy = min(max((y + 0.5) * factor - 0.5, 0), source.shape[0] - 1)
            sx = min(max((x + 0.5) * factor - 0.5, 0), source.shape[1] - 1)
            top, left = math.floor(sy), math.floor(sx)
            bottom, right = min(top + 1, source.shape[0] - 1), min(left + 1, source.shape[1] - 1)
            upper = blue_green_red[top, left] * (1 - sx + left) + blue_green_red[top, right] * (sx - left)
            lower = blue_green_red[bottom, left] * (1 - sx + left) + blue_green_red[bottom, right] * (sx - left)
            out[:, y, x] = upper * (1 - sy + top) + lower * (sy - top)
    return out


@pytest.mark.parametrize("shape", [(23, 31), (31, 23), (40, 9), (1, 1), (2, 50)])
def test_caffe_interpolates_at_the_places_that_its_one_factor_names(shape: tuple[int, int]) -> None:
    source = picture(*shape)
    image = CaffePreprocessing(min_side=20, max_side=35)(source)
    scale = min(20 / min(shape), 35 / max(shape))
    assert image.factors == (1 / scale, 1 / scale)
    assert image.size[:2] == tuple(max(round(side * scale), 1) for side in shape)
    assert image.size.scale == pytest.approx(scale)
    expected = slow_caffe(source, *image.size[:2], 1 / scale)
    np.testing.assert_allclose(image.pixels.numpy(), expected, atol=1e-3)


def test_caffe_rounds_half_to_even_and_detectron2_up() -> None:
    caffe = CaffePreprocessing(min_side=50, max_side=1000)
    assert caffe.target(100, 125)[:2] == (50, 62)
    assert Detectron2Preprocessing(min_side=50, max_side=1000).target(100, 125)[:2] == (50, 63)


@pytest.mark.parametrize("kind", [CaffePreprocessing, Detectron2Preprocessing, HuggingFacePreprocessing])
def test_boxes_go_to_the_network_and_back(kind: type[Preprocessing]) -> None:
    image = kind(min_side=60, max_side=100)(picture(47, 91))
    boxes = torch.tensor([[0.0, 0.0, 91.0, 47.0], [10.0, 5.0, 30.0, 40.0]])
    torch.testing.assert_close(image.to_original(image.to_network(boxes)), boxes)
    whole = image.to_original(torch.tensor([[0.0, 0.0, image.size.width, image.size.height]]))
    torch.testing.assert_close(whole[0, 2:], torch.tensor([91.0, 47.0]), atol=1.0, rtol=0)


def test_channels_mean_and_deviation_are_in_the_order_of_the_network() -> None:
    source = np.full((4, 4, 3), (10, 20, 30), np.uint8)
    options = {"min_side": 4, "max_side": 4, "mean": (1.0, 2.0, 3.0), "std": (1.0, 2.0, 4.0)}
    assert Detectron2Preprocessing(**options)(source).pixels[:, 0, 0].tolist() == [29.0, 9.0, 1.75]
    in_rgb = HuggingFacePreprocessing(**options, channels="RGB")(source)
    assert in_rgb.pixels[:, 0, 0].tolist() == [9.0, 9.0, 6.75]


def test_the_picture_is_not_changed() -> None:
    source = picture(20, 20)
    before = source.copy()
    for kind in (CaffePreprocessing, Detectron2Preprocessing, HuggingFacePreprocessing):
        kind(min_side=20, max_side=20)(source)
        assert np.array_equal(source, before)


@pytest.mark.parametrize("wrong", [picture(4, 4)[:, :, 0], picture(4, 4).astype(np.float32), picture(4, 4)[:0]])
def test_what_is_no_picture_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"a picture of shape .* give \[height, width, 3\] of uint8, RGB"):
        CaffePreprocessing()(wrong)


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="min_side 700 and max_side 600; both are positive"):
        CaffePreprocessing(min_side=700, max_side=600)


def test_pictures_of_different_sizes_are_never_padded_unasked() -> None:
    prepare = CaffePreprocessing(min_side=20, max_side=40)
    images = [prepare(picture(20, 30)), prepare(picture(20, 40))]
    with pytest.raises(UsageError, match=r"pictures of sizes \[\(20, 30\), \(20, 40\)\] in one batch"):
        stack(images)
    padded = stack(images, pad=True)
    assert padded.shape == (2, 3, 20, 40)
    assert torch.equal(padded[0, :, :, :30], images[0].pixels)
    assert not padded[0, :, :, 30:].any()
    assert stack(images[:1]).shape == (1, 3, 20, 30)
