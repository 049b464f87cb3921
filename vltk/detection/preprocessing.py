"""From a decoded picture to network pixels, in the way of each lineage of the published code.

The lineages differ in when they round, in how they resize and in what they call the scale, and each difference moves
boxes and features. None of them may be mixed with the weights' other habits, which is why presets fix them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vltk.detection.boxes import ImageSize
from vltk.errors import UsageError

CAFFE_MEAN = (102.9801, 115.9465, 122.7717)
"""Mean of blue, green and red that every lineage subtracts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkImage:
    """A picture as the network takes it.

    Attributes:
        pixels: [3, H, W] float32.
        factors: (x, y) pixels of the picture a network pixel.
        original: (width, height) of the picture.
    """

    pixels: Tensor
    factors: tuple[float, float]
    original: tuple[int, int]

    @property
    def size(self) -> ImageSize:
        """Height, width and scale in network pixels."""
        height, width = self.pixels.shape[-2:]
        return ImageSize(height, width, 1 / self.factors[0])

    def to_original(self, boxes: Tensor) -> Tensor:
        """Turn [R, 4] boxes in network pixels into pixels of the picture."""
        return boxes * boxes.new_tensor([*self.factors, *self.factors])

    def to_network(self, boxes: Tensor) -> Tensor:
        """Turn [R, 4] boxes in pixels of the picture into network pixels."""
        return boxes / boxes.new_tensor([*self.factors, *self.factors])


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What all lineages share: the shorter side is brought to ``min_side`` unless the longer would pass ``max_side``.

    Raises:
        UsageError: a side is not positive, or the smaller bound is above the larger.
    """

    min_side: int = 600
    """Length that the shorter side is brought to."""
    max_side: int = 1000
    """Length that the longer side never exceeds."""
    mean: tuple[float, float, float] = CAFFE_MEAN
    """Subtracted from the channels, in the order of the network."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Divides the channels, in the order of the network."""
    channels: Literal["BGR", "RGB"] = "BGR"
    """Order of the network's channels."""

    def __post_init__(self) -> None:
        if not 0 < self.min_side <= self.max_side:
            problem = f"min_side {self.min_side} and max_side {self.max_side}"
            raise UsageError(problem, remedy="both are positive and the first is not larger")

    def __call__(self, picture: NDArray[np.uint8]) -> NetworkImage:
        """Turn [H, W, 3] uint8 RGB into network pixels.

        Raises:
            UsageError: the array is no such picture.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
            problem = f"a picture of shape {picture.shape} and type {picture.dtype}"
            raise UsageError(problem, remedy="give [height, width, 3] of uint8, RGB")
        height, width = picture.shape[:2]
        ordered = picture[:, :, ::-1] if self.channels == "BGR" else picture
        new_height, new_width, factors = self.target(height, width)
        pixels = self.resize(np.ascontiguousarray(ordered), new_height, new_width, factors)
        return NetworkImage(pixels=pixels, factors=factors, original=(width, height))

    def target(self, height: int, width: int) -> tuple[int, int, tuple[float, float]]:
        """Return the new height, the new width, and the (x, y) factors that lead boxes back."""
        raise NotImplementedError

    def resize(self, picture: NDArray[np.uint8], height: int, width: int, factors: tuple[float, float]) -> Tensor:
        """Return normalised [3, height, width] float32 of [H, W, 3] uint8 in network order."""
        raise NotImplementedError

    def normalised(self, pixels: Tensor) -> Tensor:
        """Subtract the mean of [3, H, W] and divide by the deviation."""
        mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std


@dataclass(frozen=True, kw_only=True)
class CaffePreprocessing(Preprocessing):
    """py-faster-rcnn: mean subtracted first, one factor for both axes, OpenCV's linear interpolation in float.

    MILVLG's Caffe mode does the same.
    """

    def target(self, height: int, width: int) -> tuple[int, int, tuple[float, float]]:
        """Return the rounded size, and one factor for both axes although rounding makes them differ."""
        scale = self.min_side / min(height, width)
        if round(scale * max(height, width)) > self.max_side:
            scale = self.max_side / max(height, width)
        # Rounding half to even, as OpenCV and numpy do; a sliver still has a pixel.
        return max(round(height * scale), 1), max(round(width * scale), 1), (1 / scale, 1 / scale)

    def resize(self, picture: NDArray[np.uint8], height: int, width: int, factors: tuple[float, float]) -> Tensor:
        """Interpolate at the places that the factor names, not at those that the two sizes would."""
        pixels = self.normalised(_as_planes(picture))
        rows, columns = picture.shape[:2]
        pixels = _interpolate(pixels, _places(height, rows, factors[1]), dim=1)
        return _interpolate(pixels, _places(width, columns, factors[0]), dim=2)


@dataclass(frozen=True, kw_only=True)
class _EdgePreprocessing(Preprocessing):
    min_side: int = 800
    """Length that the shorter side is brought to."""
    max_side: int = 1333
    """Length that the longer side never exceeds."""

    def target(self, height: int, width: int) -> tuple[int, int, tuple[float, float]]:
        """Return detectron2's size, rounded half up, and a factor for each axis."""
        scale = self.min_side / min(height, width)
        new_height, new_width = (
            (self.min_side, scale * width) if height < width else (scale * height, float(self.min_side))
        )
        longer = max(new_height, new_width)
        if longer > self.max_side:
            new_height, new_width = new_height * (self.max_side / longer), new_width * (self.max_side / longer)
        rows, columns = max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)
        return rows, columns, (width / columns, height / rows)


@dataclass(frozen=True, kw_only=True)
class Detectron2Preprocessing(_EdgePreprocessing):
    """detectron2: Pillow's bilinear filter on whole values, which rounds, and smooths when it shrinks."""

    def resize(self, picture: NDArray[np.uint8], height: int, width: int, factors: tuple[float, float]) -> Tensor:
        """Resize before the mean is subtracted."""
        resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        return self.normalised(_as_planes(np.asarray(resized)))


@dataclass(frozen=True, kw_only=True)
class HuggingFacePreprocessing(_EdgePreprocessing):
    """The port in Hugging Face's LXMERT example: interpolation in float, without smoothing when it shrinks."""

    def resize(self, picture: NDArray[np.uint8], height: int, width: int, factors: tuple[float, float]) -> Tensor:
        """Resize before the mean is subtracted."""
        planes = _as_planes(picture)[None]
        return self.normalised(F.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False)[0])


def stack(images: Sequence[NetworkImage], *, pad: bool = False) -> Tensor:
    """Return [B, 3, H, W] of pictures of one size.

    Args:
        images: at least one.
        pad: fill smaller pictures with zeros at the right and below, as the Hugging Face port did; this changes
            their features and most of their proposals, and exists to reproduce that.

    Raises:
        UsageError: the sizes differ and ``pad`` is not asked for.
    """
    sizes = {(image.size.height, image.size.width) for image in images}
    if len(sizes) == 1:
        return torch.stack([image.pixels for image in images])
    if not pad:
        raise UsageError(f"pictures of sizes {sorted(sizes)} in one batch", remedy="batch pictures of equal size")
    height, width = (max(side) for side in zip(*sizes, strict=True))
    batch = images[0].pixels.new_zeros((len(images), 3, height, width))
    for row, image in zip(batch, images, strict=True):
        row[:, : image.size.height, : image.size.width] = image.pixels
    return batch


def _as_planes(picture: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


def _places(count: int, available: int, factor: float) -> tuple[Tensor, Tensor]:
    """Return for each new position its left neighbour in the old row and how far right of it it lies."""
    centres = ((torch.arange(count, dtype=torch.float64) + 0.5) * factor - 0.5).clamp(0, available - 1)
    left = centres.floor().clamp(max=max(available - 2, 0))
    return left.long(), (centres - left).float()


def _interpolate(pixels: Tensor, places: tuple[Tensor, Tensor], *, dim: int) -> Tensor:
    left, share = places
    right = (left + 1).clamp(max=pixels.shape[dim] - 1)
    share = share.view([-1 if axis == dim else 1 for axis in range(3)])
    return torch.lerp(pixels.index_select(dim, left), pixels.index_select(dim, right), share)
