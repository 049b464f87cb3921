"""RefCOCO, RefCOCO+ and RefCOCOg as published by ``refer``: pickled references beside COCO's instances.

``refs(unc).p`` (RefCOCO, RefCOCO+), ``refs(umd).p`` or ``refs(google).p`` (RefCOCOg) is read without running it. The
image id is the stem of the picture's ``file_name`` in ``instances.json`` (``COCO_train2014_000000581857``), the example
id the sentence id, the target the box of the annotated object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vltk.datasets._box import Box, corners
from vltk.datasets._record import Record, read_json, stem, unique
from vltk.datasets.coco import Instance, categories_of, images_of, instances_of
from vltk.errors import DataError
from vltk.stores.pickle_reader import read_pickle
from vltk.types import BoxTarget, Example


def read_examples(references: Path, instances: Path, *, split: str | None = None) -> Iterator[Example]:
    """Yield one example for each sentence of a split, in the order of the reference file.

    Args:
        references: ``refs(unc).p`` and its siblings; the same list as JSON is read too.
        instances: ``instances.json`` beside it.
        split: ``train``, ``val``, ``testA``, ``testB`` (RefCOCO, RefCOCO+) or ``test`` (RefCOCOg); None takes all.

    Raises:
        DataError: a key is missing or of another type, a reference whose object or picture is not among the
            instances, a sentence id that occurs twice, or a split without any reference.
    """
    annotations = read_annotations(instances)
    found: Counter[str] = Counter()
    expressions = _expressions(references, annotations, instances, split, found)
    yield from unique(expressions, lambda example: example.id, references, "sentence id")
    if split is not None and not found[split]:
        there = ", ".join(f"{name} ({count} references)" for name, count in sorted(found.items()))
        raise DataError(
            f"has no reference of split {split!r}", where=references, remedy=f"it has {there or 'no reference at all'}"
        )


def read_annotations(instances: Path) -> dict[str, Instance]:
    """Return the annotated objects of ``instances.json`` by annotation id: the candidates of its pictures."""
    file = Record.of_file(instances)
    return {item.id: item for item in instances_of(file, images_of(file), categories_of(file))}


def _expressions(
    references: Path, annotations: dict[str, Instance], instances: Path, split: str | None, found: Counter[str]
) -> Iterator[Example]:
    for reference in _references(references):
        name = reference.text("split")
        found[name] += 1
        if split not in (None, name):
            continue
        reference = reference.at("ref_id")
        annotation = annotations.get(reference.identifier("ann_id"))
        if annotation is None:
            problem = f"refers to annotation {reference.identifier('ann_id')}, which {instances} lacks"
            raise reference.fail(problem, remedy="give the instances.json of the same data set")
        target = BoxTarget(box=annotation.box, annotation_id=annotation.id, ref_id=reference.identifier("ref_id"))
        for sentence in reference.records("sentences"):
            yield Example(
                id=sentence.identifier("sent_id"),
                image_ids=(annotation.image_id,),
                texts=(sentence.clean_text("sent"),),
                target=target,
            )


def _references(path: Path) -> Iterator[Record]:
    if not path.is_file():
        raise DataError("there is no such file", where=path, remedy="check the path")
    with path.open("rb") as stream:
        is_json = stream.read(1) == b"["
    content = read_json(path) if is_json else read_pickle(path, where=str(path))
    return Record.of({"refs": content}, path).records("refs")


def read_expressions(path: Path) -> tuple[tuple[str, str], ...]:
    """Return (reference id, sentence) of a file of generated expressions, ``{"predictions": [{ref_id, sent}]}``.

    Raises:
        DataError: a key is missing or of another type.
    """
    predictions = Record.of_file(path).records("predictions")
    return tuple((item.identifier("ref_id"), item.text("sent")) for item in predictions)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedExpression:
    """An expression with the boxes that a detector offers for it.

    Attributes:
        text: the expression.
        image_id: stem of the picture's file name.
        boxes: the detector's boxes (x1, y1, x2, y2), in the order of the file.
        gold: the annotated box.
    """

    text: str
    image_id: str
    boxes: tuple[Box, ...]
    gold: Box


def read_detections(path: Path) -> Iterator[DetectedExpression]:
    """Yield the expressions of a ``*_dets.json`` list of ``{sent, pred_boxes, pred_boxes_img_id, gt_box}`` in order.

    Boxes are x, y, width, height. The crops' names ``<image>_<number>.jpg`` tell the picture.

    Raises:
        DataError: a key is missing or of another type, an expression without box, or crops of two pictures.
    """
    for record in Record.of({"items": read_json(path)}, path).records("items"):
        images = {stem(name).rpartition("_")[0] for name in record.texts("pred_boxes_img_id")}
        if len(images) != 1:
            raise record.fail(f"has boxes of {len(images)} pictures, expected one")
        boxes = record.items("pred_boxes")
        rows = Record({str(number): box for number, box in enumerate(boxes)}, f"{record.where}, pred_boxes")
        yield DetectedExpression(
            text=record.clean_text("sent"),
            image_id=images.pop(),
            boxes=tuple(corners(rows.box(str(number))) for number in range(len(boxes))),
            gold=corners(record.box("gt_box")),
        )
