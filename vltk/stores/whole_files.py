"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from vltk.errors import DataError


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write a text file so that it is there whole or as before, whatever happens on the way."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


@contextlib.contextmanager
def new_path(path: Path, *, overwrite: bool, folder: bool = False) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes the place of ``path`` when the block ends without error.

    Args:
        path: the file or folder to be.
        overwrite: whether an existing one may be replaced.
        folder: make a folder.

    Raises:
        DataError: it exists already.
    """
    if path.exists() and not overwrite:
        raise DataError("exists already", where=path, remedy="choose another path or pass --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        if folder:
            partial.mkdir()
        yield partial
        if path.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)


def inside(folder: Path, name: str) -> Path:
    """Return the file of that name below the folder, made ready for writing.

    Raises:
        DataError: the name leads out of the folder.
    """
    file = folder / name
    if ".." in file.relative_to(folder).parts if file.is_relative_to(folder) else True:
        raise DataError(f"the name {name!r} leads out of the folder", where=folder, remedy="rename the picture")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
