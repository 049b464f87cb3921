"""Annotated pictures on their way to training and to measuring: files in, network inputs with boxes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vltk.detection.evaluation import Annotated
from vltk.detection.images import ImageFile, decode
from vltk.detection.presets import Preset
from vltk.detection.training import LabelledPicture
from vltk.errors import DataError


@dataclass(frozen=True, kw_only=True)
class AnnotatedPictures:
    """Pictures with their objects, decoded when asked for.

    Attributes:
        files: the pictures.
        picture_sizes: (width, height) of each, as its annotation file says.
        objects: what is in each.
        classes: names of the classes.
        questions: for each question about an object the names of the possible answers.
        preset: how a picture becomes a network input.
    """

    files: Sequence[ImageFile]
    picture_sizes: Sequence[tuple[int, int]]
    objects: Sequence[Annotated]
    classes: Sequence[str]
    questions: Mapping[str, Sequence[str]]
    preset: Preset

    def __len__(self) -> int:
        return len(self.files)

    @property
    def image_ids(self) -> list[str]:
        """The ids of the pictures."""
        return [file.image_id for file in self.files]

    @property
    def object_count(self) -> int:
        """Objects of all pictures."""
        return sum(len(found.boxes) for found in self.objects)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of each network input; pictures of one size are trained on together."""
        rule = self.preset.preprocessing
        targets = [rule.target(height, width) for width, height in self.picture_sizes]
        return [(width, height) for height, width, _ in targets]

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Return [H, W, 3] RGB of a picture.

        Raises:
            DataError: the file is broken, or not of the size that its annotation states.
        """
        file = self.files[index]
        pixels = decode(file.path)
        size = (pixels.shape[1], pixels.shape[0])
        if size != tuple(self.picture_sizes[index]):
            width, height = self.picture_sizes[index]
            problem = f"is {size[0]} x {size[1]}, its annotation says {width} x {height}"
            raise DataError(problem, where=file.path, remedy="use the pictures that were annotated")
        return pixels

    def load(self, index: int) -> LabelledPicture:
        """Return the network input of a picture with its objects."""
        image, found = self.preset.preprocessing(self.pixels(index)), self.objects[index]
        return LabelledPicture(
            input=image.pixels,
            boxes=image.to_network(torch.from_numpy(found.boxes)),
            classes=torch.from_numpy(found.classes),
            attributes={name: torch.from_numpy(answers) for name, answers in found.attributes.items()},
        )

    def truth(self, index: int) -> Annotated:
        """Return the objects of a picture, in its own pixels."""
        return self.objects[index]
