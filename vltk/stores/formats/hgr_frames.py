"""Features of videos as HGR keeps them: frames in ordered_feature/SA/*/{split}_ft.hdf5, means in MP/*/{split}_ft.npy.

A video becomes a record whose regions are its frames, in their order, without boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError
from vltk.stores.formats._arrays import LARGEST_MEMBER, Array, NpyRows, read_npy
from vltk.stores.formats._regions import RegionSource, foreign_regions
from vltk.stores.whole_files import new_path
from vltk.types import Progress, RegionFeatures

MOST_FRAMES = 20
"""Of a video, as published."""
_HDF5 = (".hdf5", ".h5")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Which videos, and how much of them."""

    names: Path | None = None
    """public_split/{split}_names.npy, the videos in the order of a .npy's rows; an .hdf5 is read whole without it."""
    frames: int = MOST_FRAMES
    """Keep at most so many frames of a video, evenly spaced (published: 20); 0 keeps all."""

    def __post_init__(self) -> None:
        if self.frames < 0:
            raise UsageError(f"{self.frames} frames", where="--frames", remedy="give a number, or 0 for all")


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How a split is called."""

    split: str = "trn"
    """Name of the split: trn, val, tst."""


def kept_frames(count: int, most: int = MOST_FRAMES) -> NDArray[np.int64]:
    """Return which frames of a video are kept: all, or evenly spaced ones from the first to the last.

    Example:
        >>> kept_frames(33, 5).tolist(), kept_frames(3, 5).tolist()
        ([0, 8, 16, 24, 32], [0, 1, 2])
    """
    if not most or count <= most:
        return np.arange(count)
    return np.round(np.linspace(0, count - 1, most)).astype(np.int64)


def read(path: Path, options: ReadOptions | None = None) -> Iterator[RegionFeatures]:
    """Yield the videos of a split.

    Args:
        path: an .hdf5 of [frames, D] a video under its name ("/" written as "_"), or a .npy of [N, D] means.
        options: see :class:`ReadOptions`.

    Raises:
        DataError: another kind of file, a video that is not there, features that are no [frames, D] floats, or h5py is
            not installed.
        UsageError: a .npy without names.
    """
    options = options or ReadOptions()
    if path.suffix not in (*_HDF5, ".npy"):
        raise DataError("is neither .hdf5 nor .npy", where=path, remedy="name HGR's {split}_ft.hdf5 or {split}_ft.npy")
    names = None if options.names is None else read_names(options.names)
    videos = _frames(path, names) if path.suffix in _HDF5 else _means(path, names)
    for name, features in videos:
        kept = features[kept_frames(len(features), options.frames)]
        yield foreign_regions(source=path, image_id=name, features=kept, boxes=None, size=(1, 1))


def read_names(path: Path) -> list[str]:
    """Return the videos of a split from HGR's ``{split}_names.npy``, or from lines of text.

    Raises:
        DataError: it holds something else, nothing, or a name twice.
    """
    if path.suffix == ".npy":
        array = read_npy(path, where=str(path))
        found = [name.decode() if isinstance(name, bytes) else name for name in array.reshape(-1).tolist()]
    else:
        found = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    if not found or not all(isinstance(name, str) and name for name in found):
        raise DataError("holds no names of videos", where=path, remedy="name public_split/{split}_names.npy")
    if len(set(found)) != len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise DataError(f"video {twice} comes twice", where=path, remedy="names are of one video each")
    return found


def _means(path: Path, names: list[str] | None) -> Iterator[tuple[str, Array]]:
    if names is None:
        raise UsageError("does not name its videos", where=path, remedy="add --names public_split/{split}_names.npy")
    rows = NpyRows(path)
    if len(rows.shape) != 2 or len(rows) != len(names):
        problem = f"has shape {rows.shape} for {len(names)} names, expected [{len(names)}, features]"
        raise DataError(problem, where=path, remedy="name the list of the same split")
    for name, mean in zip(names, rows, strict=True):
        yield name, mean[None]


def _frames(path: Path, names: list[str] | None) -> Iterator[tuple[str, Array]]:
    with _opened(path, "r") as file:
        for name in sorted(file) if names is None else names:
            yield name, _video(file, name, path)


def _video(file: Any, name: str, path: Path) -> Array:
    import h5py

    where, key = f"{path}, video {name}", name.replace("/", "_")
    if key not in file:
        looks = next(iter(file), "nothing")
        raise DataError(f"has no video {name} (names there look like {looks!r})", where=path, remedy="check --names")
    # A link or outside storage would let one file read another.
    plain = isinstance(file.get(key, getlink=True), h5py.HardLink)
    held = file[key] if plain else None
    if not isinstance(held, h5py.Dataset) or held.is_virtual or held.external:
        raise DataError("is no array of its own", where=where, remedy="write the frames into the file itself")
    if held.dtype.kind != "f" or held.ndim != 2 or not held.shape[0]:
        raise DataError(f"is {held.dtype} of shape {held.shape}, expected [frames, features] floats", where=where)
    if held.nbytes > LARGEST_MEMBER:
        problem = f"claims {held.nbytes:,} bytes, more than the {LARGEST_MEMBER:,} that one video can need"
        raise DataError(problem, where=where, remedy="sample its frames")
    try:
        array: Array = held[...]
    except OSError as error:
        raise DataError(f"cannot be read ({error})", where=where, remedy="get an undamaged copy") from None
    return array


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise DataError("needs h5py", where=path, remedy="pip install 'vltk-toolkit[video]'") from error
    try:
        file = h5py.File(path, mode)
    except OSError as error:
        remedy = "expected is HGR's {split}_ft.hdf5, or {split}_ft.npy with --names"
        raise DataError(f"is no HDF5 file that can be read ({error})", where=path, remedy=remedy) from None
    with file:
        yield file


def write(
    store: RegionSource,
    path: Path,
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the records of a store as {split}_ft.hdf5 (float32) with {split}_names.npy.

    Args:
        store: what to read; boxes are not kept.
        path: the folder; other splits in it stay.
        options: see :class:`WriteOptions`.
        overwrite: replace the files of this split.
        progress: told the number of videos done.

    Raises:
        DataError: a file exists, two names that the format writes alike, or h5py is not installed.
    """
    options = options or WriteOptions()
    names = store.ids()
    keys = [name.replace("/", "_") for name in names]
    if len(set(keys)) != len(keys):
        alike = next(name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1)
        raise DataError(f"video {alike} and another are written alike", where=path, remedy='names lose their "/"')
    path.mkdir(parents=True, exist_ok=True)
    target = path / f"{options.split}_ft.hdf5"
    with new_path(target, overwrite=overwrite) as partial, _opened(partial, "w") as file:
        for name, key in zip(names, keys, strict=True):
            file.create_dataset(key, data=np.asarray(store.get(name).features, np.float32))
            if progress:
                progress(1)
    with new_path(path / f"{options.split}_names.npy", overwrite=overwrite) as partial, partial.open("wb") as stream:
        np.save(stream, np.array(names), allow_pickle=False)
