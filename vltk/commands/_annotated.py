"""From a COCO instances file and a folder to the pictures that a detector is trained or measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vltk.errors import DataError

if TYPE_CHECKING:
    from vltk.datasets.coco import Instance
    from vltk.detection.annotated import AnnotatedPictures
    from vltk.detection.evaluation import Annotated
    from vltk.detection.presets import Preset
    from vltk.detection.region_head import PredictorConfig


def read_annotated(
    folder: Path, instances: Path, preset: Preset, *, like: PredictorConfig | None = None
) -> AnnotatedPictures:
    """Read the pictures of an instances file, crowds left out.

    Args:
        folder: of the pictures; the stem of a file is the image id.
        instances: COCO instances.
        preset: how a picture becomes a network input.
        like: take the classes and questions of this predictor instead of those that the file has.

    Raises:
        DataError: a picture is missing, or a class is not the predictor's.
    """
    from vltk.datasets.coco import read_categories, read_images, read_instances
    from vltk.detection.annotated import AnnotatedPictures
    from vltk.detection.images import list_images
    from vltk.detection.region_head import AttributeHeadsConfig

    found = [one for one in read_instances(instances) if not one.crowd]
    classes: Sequence[str] = list(read_categories(instances).values())
    asked = {
        question: sorted({one.attributes[question] for one in found if question in one.attributes})
        for question in dict.fromkeys(question for one in found for question in one.attributes)
    }
    if like is not None:
        classes = like.names
        heads = like.attributes.heads if isinstance(like.attributes, AttributeHeadsConfig) else ()
        asked = {head.name: list(head.values) for head in heads}
    unknown = sorted({one.category for one in found} - set(classes))
    if unknown:
        raise DataError(
            f"has the class {unknown[0]!r}", where=instances, remedy=f"the detector knows {', '.join(classes)}"
        )
    files = {file.image_id: file for file in list_images(folder).files}
    images = list(read_images(instances).values())
    missing = [image.id for image in images if image.id not in files]
    if missing:
        problem = f"{len(missing)} of {len(images)} pictures of {instances.name} are missing ({', '.join(missing[:3])})"
        raise DataError(problem, where=folder, remedy="name the folder that holds them")
    by_image: dict[str, list[Instance]] = {image.id: [] for image in images}
    for one in found:
        by_image[one.image_id].append(one)
    return AnnotatedPictures(
        files=[files[image.id] for image in images],
        picture_sizes=[image.size for image in images],
        objects=[_objects(by_image[image.id], classes, asked) for image in images],
        classes=classes,
        questions=asked,
        preset=preset,
    )


def _objects(instances: Sequence[Instance], classes: Sequence[str], asked: dict[str, list[str]]) -> Annotated:
    import numpy as np

    from vltk.detection.evaluation import Annotated

    places = {name: place for place, name in enumerate(classes)}
    answers = {
        question: np.array([_place(values, one.attributes.get(question)) for one in instances], np.int64)
        for question, values in asked.items()
    }
    return Annotated(
        boxes=np.array([one.box for one in instances], np.float32).reshape(-1, 4),
        classes=np.array([places[one.category] for one in instances], np.int64),
        attributes=answers,
    )


def _place(values: list[str], answer: str | None) -> int:
    return values.index(answer) if answer in values else -1
