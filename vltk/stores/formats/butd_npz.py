"""MILVLG's folders of .npz files: x, bbox, num_bbox, image_h, image_w and a pickled info, one file a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vltk.errors import DataError
from vltk.stores.formats._arrays import Array, read_npz, write_npz
from vltk.stores.formats._regions import RegionSource, foreign_regions, integer, numbers, pixel_boxes
from vltk.stores.formats._sizes import SizeOptions, Sizes
from vltk.stores.whole_files import inside, new_path
from vltk.types import Progress, RegionFeatures


@dataclass(frozen=True, kw_only=True)
class ReadOptions(SizeOptions):
    """How the pictures are read."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How the pictures are written."""


def read(path: Path, options: ReadOptions | None = None) -> Iterator[RegionFeatures]:
    """Yield the pictures of a folder in the order of their names; the file's name is the id.

    MILVLG numbers classes and attributes from 1 and keeps 0 for the background; vltk numbers them from 0 without it,
    so that -1 marks a region whose best class was the background. MCAN's [D, R] features are turned round.

    Args:
        path: the folder, or one file; folders in it are searched, and their names become part of the id.
        options: see :class:`ReadOptions`.

    Raises:
        DataError: no files, a damaged one, a pickle of more than plain data, arrays that do not fit each other.
    """
    table = (options or ReadOptions()).table()
    files = [path] if path.is_file() else sorted(path.rglob("*.npz"))
    if not files:
        raise DataError("holds no .npz files", where=path, remedy="name the folder with one .npz a picture")
    for file in files:
        image_id = file.stem if path.is_file() else file.relative_to(path).with_suffix("").as_posix()
        yield _regions(file, image_id, read_npz(file, where=str(file)), table)


def _regions(file: Path, image_id: str, arrays: dict[str, Array], sizes: Sizes | None) -> RegionFeatures:
    missing = {"x", "bbox"} - arrays.keys()
    if missing:
        problem = f"has no {' and no '.join(sorted(missing))}, but {', '.join(sorted(arrays)) or 'nothing'}"
        raise DataError(problem, where=file, remedy="it holds boxes only, or is of another format")
    where, info = str(file), _info(arrays, file)
    features, boxes = (numbers(arrays[name], name, where=where, dimensions=2) for name in ("x", "bbox"))
    if len(features) != len(boxes) == features.shape[1]:
        features = np.ascontiguousarray(features.T)
    if "num_bbox" in arrays and integer(_scalar(arrays["num_bbox"]), "num_bbox", where=str(file)) != len(boxes):
        problem = f"claims {_scalar(arrays['num_bbox'])} boxes and holds {len(boxes)}"
        raise DataError(problem, where=file, remedy="extract it again")
    return foreign_regions(
        source=file,
        image_id=image_id,
        features=features,
        boxes=boxes,
        size=_size(arrays, info, image_id, sizes, file),
        scores=info.get("objects_conf"),
        class_ids=_from_one(info.get("objects_id"), "objects_id", where),
        attribute_scores=info.get("attrs_conf"),
        attribute_ids=_from_one(info.get("attrs_id"), "attrs_id", where),
    )


def _info(arrays: dict[str, Array], file: Path) -> dict[str, Any]:
    info = _scalar(arrays["info"]) if "info" in arrays else {}
    if not isinstance(info, dict):
        raise DataError(f"its info is a {type(info).__name__}, expected a dict", where=file)
    return info


def _scalar(array: Array) -> Any:
    return array.reshape(-1)[0] if array.size == 1 else None


def _from_one(ids: Any, name: str, where: str) -> Array | None:
    return None if ids is None else numbers(ids, name, where=where, dimensions=1).astype(np.int64) - 1


def _size(
    arrays: dict[str, Array], info: dict[str, Any], image_id: str, sizes: Sizes | None, file: Path
) -> tuple[int, int]:
    if sizes is not None:
        return sizes[image_id]
    sides = [_scalar(arrays[name]) if name in arrays else info.get(name) for name in ("image_w", "image_h")]
    if any(side is None for side in sides):
        raise DataError("has no image_w and image_h", where=file, remedy="pass the sizes with --sizes")
    return (
        integer(sides[0], "image_w", where=str(file), least=1),
        integer(sides[1], "image_h", where=str(file), least=1),
    )


def write(
    store: RegionSource,
    path: Path,
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the pictures of a store as a folder of compressed .npz files, float32.

    Args:
        store: what to read.
        path: the folder to write.
        options: there are none.
        overwrite: replace the folder.
        progress: told the number of pictures done.

    Raises:
        DataError: the folder exists, a picture without pixel boxes, an id that leads out of the folder.
    """
    with new_path(path, overwrite=overwrite, folder=True) as partial:
        for image_id in store.ids():
            regions = store.get(image_id)
            file = inside(partial, f"{image_id}.npz")
            with file.open("wb") as stream:
                write_npz(stream, _members(regions))
            if progress:
                progress(1)


def _members(regions: RegionFeatures) -> dict[str, Any]:
    info: dict[str, Any] = {"image_id": regions.image_id, "num_boxes": len(regions)}
    info |= {"image_h": regions.size[1], "image_w": regions.size[0]}
    for name, ids, scores in (("objects", "class_ids", "scores"), ("attrs", "attribute_ids", "attribute_scores")):
        if getattr(regions, ids) is not None:
            info[f"{name}_id"] = getattr(regions, ids) + 1
        if getattr(regions, scores) is not None:
            info[f"{name}_conf"] = getattr(regions, scores)
    return {
        "x": regions.features.astype(np.float32),
        "bbox": pixel_boxes(regions, "an .npz of MILVLG"),
        "num_bbox": len(regions),
        "image_h": regions.size[1],
        "image_w": regions.size[0],
        "info": info,
    }
