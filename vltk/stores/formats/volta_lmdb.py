"""The LMDBs of VOLTA, ViLBERT and MMF: pickled records, a pickled list of their keys, arrays as base64 or as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vltk.errors import DataError
from vltk.stores.formats._arrays import dump_pickle, from_base64, to_base64
from vltk.stores.formats._lmdb import ForeignLMDB
from vltk.stores.formats._mmf import info_of, regions_of
from vltk.stores.formats._output import write_lmdb
from vltk.stores.formats._regions import RegionSource, foreign_regions, integer, pixel_boxes
from vltk.stores.formats._sizes import SizeOptions, Sizes
from vltk.stores.pickle_reader import read_pickle
from vltk.stores.whole_files import new_path
from vltk.types import Progress, RegionFeatures

_LIST = b"keys"
# What the same thing is called by VOLTA's TSV route, VOLTA's h5 route and ViLBERT.
_NAMES = {
    "width": ("img_w", "image_w", "image_width"),
    "height": ("img_h", "image_h", "image_height"),
    "class_ids": ("objects_id", "obj_id", "objects"),
    "scores": ("objects_conf", "obj_conf"),
    "attribute_ids": ("attrs_id", "attr_id"),
    "attribute_scores": ("attrs_conf", "attr_conf"),
    "class_probs": ("cls_prob",),
}
_TYPES = {"class_ids": "<i8", "scores": "<f4", "attribute_ids": "<i8", "attribute_scores": "<f4"}


@dataclass(frozen=True, kw_only=True)
class ReadOptions(SizeOptions):
    """How the pictures are read."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How the pictures are written."""

    layout: Literal["volta", "mmf"] = "volta"
    """Records: "volta" is what both VOLTA and ViLBERT read, "mmf" is MMF's."""


def read(path: Path, options: ReadOptions | None = None) -> Iterator[RegionFeatures]:
    """Yield the pictures of an LMDB in the order of its list of keys.

    Args:
        path: the folder of the environment, or its file.
        options: see :class:`ReadOptions`.

    Raises:
        DataError: a damaged environment, a pickle of more than plain data, arrays that do not fit each other.
    """
    table = (options or ReadOptions()).table()
    with ForeignLMDB(path) as environment:
        for key in _keys(environment):
            name = key.decode("utf-8", "replace")
            where = f"{path}, key {name}"
            record = read_pickle(environment.value(key), where=where)
            if not isinstance(record, dict) or "features" not in record:
                raise DataError("is no record with features", where=where, remedy="it is the LMDB of another program")
            record = {str(field): value for field, value in record.items()}
            mmf = "bbox" in record or "feature_path" in record
            yield (
                regions_of(path, name, record["features"], record, table)
                if mmf
                else _regions(path, name, record, table)
            )


def _keys(environment: ForeignLMDB) -> list[bytes]:
    if _LIST not in environment:
        return list(environment)
    listed = read_pickle(environment.value(_LIST), where=f"{environment.path}, key keys")
    if not isinstance(listed, list):
        raise DataError(f"its list of keys is a {type(listed).__name__}", where=environment.path)
    keys = [key if isinstance(key, bytes) else str(key).encode() for key in listed]
    if len(set(keys)) != len(keys):
        raise DataError("lists a key twice", where=environment.path, remedy="remove one of the two")
    return keys


def _regions(path: Path, name: str, record: dict[str, Any], sizes: Sizes | None) -> RegionFeatures:
    where = f"{path}, key {name}"
    values = {
        field: next((record[key] for key in names if record.get(key) is not None), None)
        for field, names in _NAMES.items()
    }
    boxes = _array(record.get("boxes"), "<f4", (-1, 4), f"{where}, boxes")
    rows = len(boxes)
    if record.get("num_boxes") is not None and integer(record["num_boxes"], "num_boxes", where=where) != rows:
        raise DataError(f"claims {record['num_boxes']} boxes and holds {rows}", where=where)
    fields: dict[str, Any] = {
        field: _array(values[field], kind, (rows,), f"{where}, {field}")
        for field, kind in _TYPES.items()
        if values[field] is not None
    }
    if values["class_probs"] is not None:
        fields["class_probs"] = _array(values["class_probs"], "<f4", (rows, -1), f"{where}, cls_prob")
    return foreign_regions(
        source=path,
        image_id=name,
        features=_array(record["features"], "<f4", (rows, -1), f"{where}, features"),
        boxes=boxes,
        size=_size(values, where) if sizes is None else sizes[name],
        **fields,
    )


def _size(values: dict[str, Any], where: str) -> tuple[int, int]:
    width, height = (integer(values[side], side, where=where, least=1) for side in ("width", "height"))
    return width, height


def _array(value: Any, dtype: str, shape: tuple[int, ...], where: str) -> np.ndarray[Any, Any]:
    if isinstance(value, str | bytes):
        return from_base64(value, dtype, shape, where=where)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise DataError(f"is a {type(value).__name__}, expected base64 or an array of numbers", where=where)
    fits = value.ndim == len(shape) and all(side in (-1, held) for side, held in zip(shape, value.shape, strict=True))
    if not fits:
        raise DataError(f"has shape {value.shape}, expected {shape} with any number for -1", where=where)
    return value


def write(
    store: RegionSource,
    path: Path,
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the pictures of a store as an LMDB.

    Args:
        store: what to read.
        path: the folder to write.
        options: see :class:`WriteOptions`.
        overwrite: replace the folder.
        progress: told the number of pictures done.

    Raises:
        DataError: the folder exists, or a picture has no boxes in pixels.
    """
    make = {"volta": _volta_record, "mmf": _mmf_record}[(options or WriteOptions()).layout]

    def items() -> Iterator[tuple[bytes, bytes]]:
        for image_id in store.ids():
            if image_id.encode() == _LIST:
                raise DataError("an image cannot be called keys in this format", where=f"image {image_id}")
            yield image_id.encode(), dump_pickle(make(store.get(image_id)))
            if progress:
                progress(1)
        yield _LIST, dump_pickle([image_id.encode() for image_id in store.ids()])

    with new_path(path, overwrite=overwrite, folder=True) as partial:
        write_lmdb(partial, items())


def _volta_record(regions: RegionFeatures) -> dict[str, Any]:
    width, height = regions.size
    record: dict[str, Any] = {
        **{"img_id": regions.image_id, "img_h": height, "img_w": width},
        **{"image_id": regions.image_id, "image_h": height, "image_w": width},
        "num_boxes": len(regions),
        "boxes": to_base64(pixel_boxes(regions, "VOLTA"), "<f4"),
        "features": to_base64(regions.features, "<f4"),
    }
    for field, kind in _TYPES.items():
        if (values := getattr(regions, field)) is not None:
            record[_NAMES[field][0]] = to_base64(values, kind)
    if regions.class_probs is not None:
        record["cls_prob"] = to_base64(regions.class_probs, "<f4")
    return record


def _mmf_record(regions: RegionFeatures) -> dict[str, Any]:
    features = regions.features.astype(np.float32)
    return {"feature_path": regions.image_id, "features": features, **info_of(regions)}
