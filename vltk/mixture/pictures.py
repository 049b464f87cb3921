"""Pictures as pixels for models that end in a grid of features (VSE-infinity, "grid")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vltk.detection.images import decode, list_images
from vltk.errors import DataError

BGR_MEANS = (102.9801, 115.9465, 122.7717)
"""Of Caffe's networks, in the order blue, green, red, on 0..255."""
RGB_MEANS, RGB_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, on 0..1."""
LEAST_CROP = 0.6
"""Share of both sides that a random crop keeps at least."""


def network_pixels(pixels: NDArray[np.uint8], *, form: Literal["caffe", "imagenet"], side: int = 512) -> Tensor:
    """Return [3, side, side] as a network takes a picture; its sides' ratio is not kept, as published.

    Args:
        pixels: [H, W, 3] RGB bytes.
        form: "caffe": blue, green, red of 0..255 minus their means; "imagenet": RGB of 0..1, normalised.
        side: of the square.
    """
    planes = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
    planes = F.interpolate(planes[None], (side, side), mode="bilinear", align_corners=False)[0]
    if form == "caffe":
        return planes.flip(0) - torch.tensor(BGR_MEANS)[:, None, None]
    return (planes / 255 - torch.tensor(RGB_MEANS)[:, None, None]) / torch.tensor(RGB_DEVIATIONS)[:, None, None]


def random_view(pixels: NDArray[np.uint8], dice: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random part of a picture, in half of the cases mirrored; one ratio of 0.6 to 1 cuts both sides.

    Args:
        pixels: [H, W, 3].
        dice: draws the ratio, the place and the mirroring.
    """
    height, width = pixels.shape[:2]
    ratio = LEAST_CROP + (1 - LEAST_CROP) * dice.random()
    rows, columns = max(1, int(height * ratio)), max(1, int(width * ratio))
    top, left = int(dice.integers(height - rows + 1)), int(dice.integers(width - columns + 1))
    part = pixels[top : top + rows, left : left + columns]
    return part[:, ::-1] if dice.random() < 0.5 else part


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The files of pictures, read when a batch needs them.

    Attributes:
        files: by image id.
        form: as for :func:`network_pixels`.
        side: as there.
    """

    files: dict[str, Path]
    form: Literal["caffe", "imagenet"] = "caffe"
    side: int = 512

    @classmethod
    def of_folder(cls, folder: Path, *, form: Literal["caffe", "imagenet"] = "caffe", side: int = 512) -> Pictures:
        """List a folder; ids are file names without their suffix.

        Raises:
            UsageError: the folder does not exist.
            DataError: two files have one id.
        """
        return cls(files={one.image_id: one.path for one in list_images(folder).files}, form=form, side=side)

    def load(self, image_ids: Sequence[str], *, seed: int | None = None) -> Tensor:
        """Return [B, 3, side, side]; with a seed random views of the pictures, as in training.

        Raises:
            DataError: a picture is missing or broken.
        """
        unknown = next((image_id for image_id in image_ids if image_id not in self.files), None)
        if unknown is not None:
            known = next(iter(self.files), "nothing")
            remedy = f"name the folder of the pictures; its ids look like {known!r}"
            raise DataError(f"there is no picture {unknown!r}", where="--pictures", remedy=remedy)
        made = []
        for number, image_id in enumerate(image_ids):
            pixels = decode(self.files[image_id])
            if seed is not None:
                pixels = random_view(pixels, np.random.default_rng([seed, number]))
            made.append(network_pixels(pixels, form=self.form, side=self.side))
        return torch.stack(made)
