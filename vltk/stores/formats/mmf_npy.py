"""MMF's folders: the features of each picture in NAME.npy, its boxes in NAME_info.npy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vltk.errors import DataError
from vltk.stores.formats._arrays import read_npy, write_npy
from vltk.stores.formats._mmf import info_of, regions_of
from vltk.stores.formats._regions import RegionSource
from vltk.stores.formats._sizes import SizeOptions
from vltk.stores.whole_files import inside, new_path
from vltk.types import Progress, RegionFeatures


@dataclass(frozen=True, kw_only=True)
class ReadOptions(SizeOptions):
    """How the pictures are read."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How the pictures are written."""


def read(path: Path, options: ReadOptions | None = None) -> Iterator[RegionFeatures]:
    """Yield the pictures of a folder in the order of their names; the path within the folder is the id.

    Args:
        path: the folder; folders in it are searched.
        options: see :class:`ReadOptions`.

    Raises:
        DataError: no files, a damaged one, a pickle of more than plain data, arrays that do not fit each other.
    """
    table = (options or ReadOptions()).table()
    files = [file for file in sorted(path.rglob("*.npy")) if not file.stem.endswith("_info")]
    if not files:
        raise DataError("holds no .npy files", where=path, remedy="name the folder with NAME.npy and NAME_info.npy")
    for file in files:
        image_id = file.relative_to(path).with_suffix("").as_posix()
        info = _info(file.with_name(f"{file.stem}_info.npy"))
        yield regions_of(file, image_id, read_npy(file, where=str(file)), info, table)


def _info(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    array = read_npy(file, where=str(file))
    info = array.reshape(-1)[0] if array.size == 1 else None
    if not isinstance(info, dict):
        raise DataError(f"holds {array.dtype} of shape {array.shape}, expected one dict", where=file)
    return info


def write(
    store: RegionSource,
    path: Path,
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the pictures of a store as a folder of pairs of .npy files, float32.

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
            if image_id.endswith("_info"):
                raise DataError("ends in _info, which MMF reads as the boxes of another", where=f"image {image_id}")
            members: dict[str, Any] = {
                image_id: regions.features.astype(np.float32),
                f"{image_id}_info": info_of(regions),
            }
            for name, value in members.items():
                if len(value):
                    with inside(partial, f"{name}.npy").open("wb") as stream:
                        write_npy(stream, value)
            if progress:
                progress(1)
