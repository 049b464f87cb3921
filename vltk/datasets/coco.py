"""COCO's annotation files: captions, instances, and the result files of captioning models.

The image id is the stem of ``file_name`` (``000000000139`` in 2017, ``COCO_val2014_000000000042`` in 2014); the
example id of a caption is its annotation id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vltk.datasets._box import Box, clip_box, corners
from vltk.datasets._record import Record, read_json, unique
from vltk.types import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture of an annotation file.

    Attributes:
        id: the image id of vltk, the stem of its file name.
        number: COCO's own number.
        size: (width, height) in pixels.
    """

    id: str
    number: int
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An annotated object.

    Attributes:
        id: COCO's annotation id.
        image_id: the image id of vltk.
        category: name of its category.
        box: (x1, y1, x2, y2) pixels, 0-based, clipped to the picture (COCO's x + width, y + height as x2, y2).
        area: area of its segmentation in pixels, or None where the file has none.
        crowd: whether it stands for a group that is segmented as one run-length mask.
        attributes: what else is said of it by question, e.g. {"colour": "red"}; COCO's own files have none.
    """

    id: str
    image_id: str
    category: str
    box: Box
    area: float | None
    crowd: bool
    attributes: Mapping[str, str] = field(default_factory=dict)


def read_images(path: Path) -> dict[int, Image]:
    """Return the pictures of any COCO annotation file by COCO's number.

    Raises:
        DataError: a key is missing or of another type, or a number occurs twice.
    """
    return images_of(Record.of_file(path))


def images_of(file: Record) -> dict[int, Image]:
    """Return the pictures of an annotation file that is read already."""
    images = unique(map(_image, file.records("images")), lambda image: image.number, file.where, "image id")
    return {image.number: image for image in images}


def _image(record: Record) -> Image:
    return Image(id=record.image("file_name"), number=record.integer("id"), size=record.size())


def image_of(record: Record, images: dict[int, Image]) -> Image:
    """Return the picture that an annotation belongs to.

    Raises:
        DataError: the file does not list the picture.
    """
    number = record.integer("image_id")
    if number not in images:
        raise record.fail(f"belongs to image {number}, which the file does not list", remedy="add it to 'images'")
    return images[number]


def read_examples(path: Path) -> Iterator[Example]:
    """Yield one example for each caption, in the order of the file.

    Raises:
        DataError: a key is missing or of another type, an id occurs twice, or a caption's image is not listed.
    """
    file = Record.of_file(path)
    images = images_of(file)
    yield from unique(_captions(file, images), lambda example: example.id, path, "annotation id")


def _captions(file: Record, images: dict[int, Image]) -> Iterator[Example]:
    for annotation in file.records("annotations"):
        if "caption" not in annotation.values and "bbox" in annotation.values:
            raise file.fail("holds instances, not captions", remedy="give the captions_*.json")
        image = image_of(annotation.at("id"), images)
        text = annotation.at("id").clean_text("caption")
        yield Example(id=annotation.identifier("id"), image_ids=(image.id,), texts=(text,))


def read_categories(path: Path) -> dict[int, str]:
    """Return the names of an instances file's categories by their number."""
    return categories_of(Record.of_file(path))


def categories_of(file: Record) -> dict[int, str]:
    """Return the categories of an annotation file that is read already."""
    found = unique(file.records("categories"), lambda category: category.integer("id"), file.where, "category id")
    return {category.integer("id"): category.text("name") for category in found}


def read_instances(path: Path) -> Iterator[Instance]:
    """Yield the annotated objects, crowds included (``crowd`` tells), in the order of the file.

    Raises:
        DataError: a key is missing or of another type, an id occurs twice, an image or a category is not
            listed, or a box leaves its picture by more than a rounding.
    """
    file = Record.of_file(path)
    yield from instances_of(file, images_of(file), categories_of(file))


def instances_of(file: Record, images: dict[int, Image], categories: dict[int, str]) -> Iterator[Instance]:
    """Yield the objects of an annotation file that is read already."""
    instances = (_instance(record, images, categories) for record in file.records("annotations"))
    yield from unique(instances, lambda instance: instance.id, file.where, "annotation id")


def _attributes(record: Record) -> dict[str, str]:
    answers = record.record("attributes")
    return {question: answers.text(question) for question in answers.values}


def _instance(record: Record, images: dict[int, Image], categories: dict[int, str]) -> Instance:
    record = record.at("id")
    image, category = image_of(record, images), record.integer("category_id")
    if category not in categories:
        raise record.fail(f"has category {category}, which the file does not list", remedy="add it to 'categories'")
    return Instance(
        id=record.identifier("id"),
        image_id=image.id,
        category=categories[category],
        box=clip_box(corners(record.box("bbox")), image.size, record.where),
        area=record.number("area") if record.has("area") else None,
        crowd=record.has("iscrowd") and record.integer("iscrowd") != 0,
        attributes=_attributes(record) if record.has("attributes") else {},
    )


def read_caption_results(path: Path) -> dict[int, str]:
    """Return a captioning model's result file, ``[{image_id, caption}]``, as captions by COCO's image number.

    Raises:
        DataError: it is no such list, or an image occurs twice. An empty caption is a result, and stays.
    """
    results = Record.of({"results": read_json(path)}, path).records("results")
    once = unique(results, lambda result: result.integer("image_id"), path, "image id")
    return {result.integer("image_id"): result.text("caption") for result in once}
