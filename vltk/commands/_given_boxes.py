"""Reads the boxes of ``--boxes`` in the layouts that annotators and extractors publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vltk.errors import DataError, UsageError

if TYPE_CHECKING:
    from vltk.datasets.coco import Instance
    from vltk.detection.given_boxes import GivenBoxes
    from vltk.types import RegionFeatures

BoxesFormat = Literal["auto", "coco", "flickr30k_entities", "refcoco", "tsv", "store"]
Entry = tuple[str, str, tuple[float, float, float, float]]


def read_boxes(paths: Sequence[Path], layout: BoxesFormat) -> dict[str, GivenBoxes]:
    """Return the boxes of each picture.

    Args:
        paths: files or folders.
        layout: "coco" (instances JSON; region ids are annotation ids), "flickr30k_entities" (the folder of XML files;
            chain ids), "refcoco" (the folder with refs(...).p and instances.json: all objects of the pictures that
            are referred to; annotation ids), "tsv" (LXMERT or BUTD; row numbers), "store" (a feature store of vltk;
            its region ids, or row numbers), or "auto" to tell by what is there.

    Raises:
        UsageError: a path does not exist, or cannot be told apart.
        DataError: a file does not hold what it claims, or no box.
    """
    from vltk.detection.given_boxes import collect

    found = collect(entry for path in paths for entry in _entries(path, layout))
    if not found:
        raise DataError("holds no box", where=paths[0], remedy="check --boxes-format")
    return found


def _entries(path: Path, layout: BoxesFormat) -> Iterator[Entry]:
    if not path.exists():
        raise UsageError("does not exist", where=path, remedy="give the file or folder with the boxes")
    readers = {
        "coco": _coco,
        "flickr30k_entities": _flickr30k_entities,
        "refcoco": _refcoco,
        "tsv": _tsv,
        "store": _store,
    }
    yield from readers[_detected(path) if layout == "auto" else layout](path)


def _detected(path: Path) -> BoxesFormat:
    if path.is_file():
        return "tsv" if path.suffix.lower() == ".tsv" else "coco"
    if (path / "data.mdb").exists():
        return "store"
    if (path / "instances.json").exists():
        return "refcoco"
    if next(_annotations(path), None):
        return "flickr30k_entities"
    remedy = "name its layout with --boxes-format"
    raise UsageError("holds neither data.mdb, instances.json nor XML files", where=path, remedy=remedy)


def _instances(instances: Iterator[Instance] | list[Instance]) -> Iterator[Entry]:
    # A crowd is a region of many objects that nobody means when they speak of "the box".
    yield from ((one.image_id, one.id, one.box) for one in instances if not one.crowd)


def _coco(path: Path) -> Iterator[Entry]:
    from vltk.datasets.coco import read_instances

    yield from _instances(read_instances(path))


def _refcoco(path: Path) -> Iterator[Entry]:
    from vltk.datasets.refcoco import read_annotations, read_examples

    folder = path if path.is_dir() else path.parent
    references = sorted(folder.glob("refs(*).*")) if path.is_dir() else [path]
    if not references:
        raise DataError("holds no refs(...).p", where=folder, remedy="give the folder of one RefCOCO data set")
    instances = folder / "instances.json"
    pictures = {
        image_id for one in references for example in read_examples(one, instances) for image_id in example.image_ids
    }
    yield from _instances([one for one in read_annotations(instances).values() if one.image_id in pictures])


def _annotations(path: Path) -> Iterator[Path]:
    folder = path / "Annotations" if (path / "Annotations").is_dir() else path
    return iter(sorted(folder.glob("*.xml")))


def _flickr30k_entities(path: Path) -> Iterator[Entry]:
    from vltk.datasets.flickr30k_entities import read_annotation

    for file in _annotations(path):
        for chain, boxes in read_annotation(file).boxes.items():
            yield from ((file.stem, chain, box) for box in boxes)


def _tsv(path: Path) -> Iterator[Entry]:
    from vltk.stores.formats.lxmert_tsv import read

    for regions in read(path):
        yield from _rows(regions, path)


def _store(path: Path) -> Iterator[Entry]:
    from vltk.stores.features import FeatureStore

    for regions in FeatureStore.open(path):
        yield from _rows(regions, path)


def _rows(regions: RegionFeatures, path: Path) -> Iterator[Entry]:
    if regions.boxes is None:
        remedy = "give a store that was extracted with boxes"
        raise DataError("has no boxes", where=f"{path}, image {regions.image_id}", remedy=remedy)
    ids = regions.region_ids or tuple(str(row) for row in range(len(regions)))
    for region_id, (x1, y1, x2, y2) in zip(ids, regions.boxes.tolist(), strict=True):
        yield regions.image_id, region_id, (x1, y1, x2, y2)
