"""What turns pictures into region features: the one interface that the extraction pipeline knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import vltk
from vltk.errors import DataError, UsageError, VltkError
from vltk.stores.features import FeatureMetadata
from vltk.types import RegionFeatures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        image_id: its id.
        pixels: [H, W, 3] RGB bytes.
    """

    image_id: str
    pixels: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedImage:
    """A picture as a network takes it; pictures whose inputs have one shape go through it together.

    Attributes:
        image_id: its id.
        size: (width, height) of the picture in pixels, before it was resized.
        input: [3, h, w] float32 input of the network.
        extras: what the extractor needs to go back to the picture's own pixels.
    """

    image_id: str
    size: tuple[int, int]
    input: Tensor
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Which program made features; two stores with one provenance hold comparable features.

    Attributes:
        detector: the network, e.g. "faster_rcnn_r101" or "hf:rt_detr".
        preset: the name of the settings.
        preset_hash: hash of every setting that changes a feature.
        weights_hash: hash of the weights.
        classes: how many classes it tells apart.
        attributes: how many attributes it tells apart.
        labels: class names in the order of the class ids, or empty where unknown.
        attribute_labels: attribute names in the order of their ids, or empty.
    """

    detector: str
    preset: str
    preset_hash: str
    weights_hash: str
    classes: int = 0
    attributes: int = 0
    labels: tuple[str, ...] = ()
    attribute_labels: tuple[str, ...] = ()

    def metadata(
        self,
        *,
        dtype: Literal["float16", "float32"] = "float16",
        compression: Literal["none", "lz4"] = "none",
        **extra: Any,
    ) -> FeatureMetadata:
        """Return what a feature store says about features of this program.

        Args:
            dtype: type of the stored features.
            compression: of the stored features.
            **extra: further settings that features depend on; a store with other ones is another store.
        """
        labels = {"labels": list(self.labels), "attribute_labels": list(self.attribute_labels)}
        return FeatureMetadata(
            detector=self.detector,
            preset=self.preset,
            preset_hash=self.preset_hash,
            weights_hash=self.weights_hash,
            dtype=dtype,
            compression=compression,
            created_by=f"vltk {vltk.__version__}",
            extra={**{name: value for name, value in labels.items() if value}, **extra},
        )


def choose_device(name: str) -> torch.device:
    """Return the device that a name asks for; "auto" takes a GPU where there is one.

    Raises:
        UsageError: no such device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"there is no device {name!r}", remedy="use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        problem = f"there is no device {name!r}, this machine has {torch.cuda.device_count()} GPUs"
        raise UsageError(problem, remedy="use auto or cpu")
    return device


class Extractor(Protocol):
    """A network with its settings."""

    @property
    def provenance(self) -> Provenance:
        """Which program this is."""

    def prepare(self, picture: Picture) -> PreparedImage:
        """Make the network's input; called by several threads at once.

        Raises:
            DataError: the picture cannot be prepared (too thin to resize, no boxes for it); the others go on.
        """

    def extract(self, images: Sequence[PreparedImage]) -> list[RegionFeatures]:
        """Run the network on pictures whose inputs have one shape; what one gets does not depend on the others."""


# Below this many pixels a side, networks of stride 16 and 32 run out of map.
_THIN = 32


def describe(extractor: Extractor, images: Sequence[PreparedImage]) -> list[RegionFeatures | DataError]:
    """Run an extractor on pictures whose inputs have one shape; what fails for one picture is its error.

    Raises:
        VltkError: the device has too little memory.
    """
    try:
        return list(extractor.extract(images))
    except DataError as error:
        if len(images) == 1:
            return [error]
        return [one for image in images for one in describe(extractor, [image])]
    except torch.OutOfMemoryError:
        problem = f"the device has too little memory for {len(images)} pictures at once"
        raise VltkError(problem, remedy="use a smaller --batch-size, or --device cpu") from None
    except RuntimeError:
        height, width = images[0].input.shape[1:]
        if min(height, width) >= _THIN:
            raise
        return [_too_thin(image, width, height) for image in images]


def _too_thin(image: PreparedImage, width: int, height: int) -> DataError:
    problem = f"is too thin: {image.size[0]} x {image.size[1]} pixels leave the network {width} x {height}"
    return DataError(problem, where=f"image {image.image_id}", remedy="leave it out")
