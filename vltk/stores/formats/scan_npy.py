"""SCAN's and VSRN's precomputed features: {split}_ims.npy with {split}_caps.txt, no boxes and no sizes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np

from vltk.errors import DataError, UsageError
from vltk.stores.examples import ExampleStore
from vltk.stores.formats._arrays import Array, NpyRows
from vltk.stores.formats._regions import RegionSource, foreign_regions
from vltk.stores.whole_files import new_path
from vltk.types import Example, Progress, RegionFeatures


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How the files of a split belong together."""

    split: str | None = None
    """Name of the split: train, dev, test; may be left out where the folder holds one."""
    ids: Path | None = None
    """File with the id of each picture, or of each caption, one a line; {split}_ids.txt where left out."""
    captions_per_image: int = 5
    """How many captions each picture has."""
    repeated: Literal["auto", "yes", "no"] = "auto"
    """Whether each picture stands in the array once for each of its captions; "auto" looks."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How a split is called, and what its captions are."""

    split: str = "train"
    """Name of the split."""
    captions: Path | None = None
    """Example store with the captions; every picture needs --captions-per-image of them."""
    captions_per_image: int = 5
    """How many captions each picture has."""


def read(path: Path, options: ReadOptions | None = None) -> Iterator[RegionFeatures]:
    """Yield the pictures of a split, read row by row: the file is never loaded whole.

    Without a file of ids, pictures are called {split}_0, {split}_1 and so on. Pictures are found to repeat where there
    are as many rows as captions and the rows of the first picture are equal.

    Args:
        path: the folder, or the {split}_ims.npy itself: [N, R, D] floats.
        options: see :class:`ReadOptions`.

    Raises:
        DataError: numbers of rows, captions and ids that do not fit, rows that differ where they should repeat.
    """
    precomp = Precomp(path, options or ReadOptions())
    for image_id, features in zip(precomp.image_ids(), precomp.pictures(), strict=True):
        yield foreign_regions(source=precomp.images, image_id=image_id, features=features, boxes=None, size=(1, 1))


def read_examples(path: Path, options: ReadOptions | None = None) -> Iterator[Example]:
    """Yield the captions of a split, each with the id of its picture.

    Args:
        path: as for :func:`read`.
        options: see :class:`ReadOptions`.

    Raises:
        DataError: captions written by Python 3 as bytes, or numbers that do not fit.
    """
    precomp = Precomp(path, options or ReadOptions())
    for number, caption in enumerate(precomp.captions()):
        image_id = precomp.image_ids()[number // precomp.captions_per_image]
        yield Example(id=f"{image_id}#{number % precomp.captions_per_image}", image_ids=(image_id,), texts=(caption,))


class Precomp:
    """The three files of a split, and how their lines belong together.

    Args:
        path: as for :func:`read`.
        options: see :class:`ReadOptions`.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        per_image = self.captions_per_image = options.captions_per_image
        if per_image < 1:
            raise UsageError(f"{per_image} captions a picture", remedy="give at least 1")
        self.images = _images_file(path, options.split)
        self.split = self.images.name.removesuffix("_ims.npy")
        self._rows = NpyRows(self.images)
        if len(self._rows.shape) != 3:
            problem = f"has shape {self._rows.shape}, expected [N, regions, features]"
            raise DataError(problem, where=self.images, remedy="these may be features of whole pictures")
        self._captions = self._read_captions()
        self.repeated = self._find_repeats(options.repeated)
        count = len(self._rows) // per_image if self.repeated else len(self._rows)
        if self._captions and len(self._captions) != count * per_image:
            problem = f"{len(self._captions)} captions for {len(self._rows)} rows of pictures"
            raise DataError(problem, where=self.images, remedy="check --captions-per-image and --repeated")
        self._ids = self._read_ids(options.ids, count)

    def image_ids(self) -> list[str]:
        """Return the id of each picture."""
        return self._ids

    def captions(self) -> list[str]:
        """Return all captions, ``captions_per_image`` a picture.

        Raises:
            DataError: there is no file of captions.
        """
        if not self._captions:
            raise DataError(f"there is no {self.split}_caps.txt beside it", where=self.images)
        return self._captions

    def pictures(self) -> Iterator[Array]:
        """Yield [R, D] of each picture once.

        Raises:
            DataError: rows differ that should repeat one picture.
        """
        if not self.repeated:
            yield from self._rows
            return
        rows = iter(self._rows)
        for number in range(len(self._rows) // self.captions_per_image):
            first, *others = itertools.islice(rows, self.captions_per_image)
            if not all(np.array_equal(first, other) for other in others):
                start = number * self.captions_per_image
                problem = f"rows {start} to {start + len(others)} are not one picture"
                raise DataError(problem, where=self.images, remedy="pass --repeated no")
            yield first

    def _find_repeats(self, repeated: str) -> bool:
        rows, per_image = len(self._rows), self.captions_per_image
        if repeated == "no" or per_image == 1:
            return False
        if repeated == "yes":
            if rows % per_image:
                raise DataError(f"{rows} rows are not {per_image} for each picture", where=self.images)
            return True
        if rows != len(self._captions) or rows % per_image or not rows:
            return False
        first, *others = itertools.islice(iter(self._rows), per_image)
        return all(np.array_equal(first, other) for other in others)

    def _read_captions(self) -> list[str]:
        path = self.images.with_name(f"{self.split}_caps.txt")
        if not path.is_file():
            return []
        captions = _lines(path)
        for number, caption in enumerate(captions, 1):
            if caption[:2] in ("b'", 'b"') and caption[-1:] == caption[1]:
                problem = f"caption {caption[:40]!r} was written by Python 3 out of the bytes of Python 2"
                remedy = "write the captions again as text: with the b'...' every first word is lost"
                raise DataError(problem, where=f"{path}, line {number}", remedy=remedy)
        return captions

    def _read_ids(self, path: Path | None, count: int) -> list[str]:
        beside = self.images.with_name(f"{self.split}_ids.txt")
        path = path or (beside if beside.is_file() else None)
        if path is None:
            return [f"{self.split}_{number}" for number in range(count)]
        ids = _lines(path)
        if len(ids) == count * self.captions_per_image and self.captions_per_image > 1:
            groups = [
                ids[start : start + self.captions_per_image] for start in range(0, len(ids), self.captions_per_image)
            ]
            mixed = [number for number, group in enumerate(groups) if len(set(group)) != 1]
            if mixed:
                where = f"{path}, line {mixed[0] * self.captions_per_image + 1}"
                raise DataError(
                    f"the {self.captions_per_image} captions of picture {mixed[0]} have several ids", where=where
                )
            ids = [group[0] for group in groups]
        if len(ids) != count:
            raise DataError(f"{len(ids)} ids for {count} pictures", where=path, remedy="one id a line, in their order")
        if len(set(ids)) != count:
            twice = next(name for name in ids if ids.count(name) > 1)
            raise DataError(f"picture {twice} comes twice", where=path, remedy="ids name one picture each")
        return ids


def _images_file(path: Path, split: str | None) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*_ims.npy" if split is None else f"{split}_ims.npy"))
    if len(found) != 1:
        names = ", ".join(file.name for file in sorted(path.glob("*_ims.npy"))) or "none"
        remedy = f"name one with --split; there are {names}"
        raise DataError(f"holds {len(found)} files {split or '*'}_ims.npy", where=path, remedy=remedy)
    return found[0]


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 ({error})", where=path, remedy="convert it to UTF-8") from None


def write(
    store: RegionSource,
    path: Path,
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the pictures of a store as {split}_ims.npy (float32) and {split}_ids.txt, captions as {split}_caps.txt.

    Args:
        store: what to read; every picture must have the same number of regions.
        path: the folder; other splits in it stay.
        options: see :class:`WriteOptions`.
        overwrite: replace the files of this split.
        progress: told the number of pictures done.

    Raises:
        DataError: a file exists, a picture of another shape, or one with another number of captions.
    """
    options = options or WriteOptions()
    split = options.split
    captions = None if options.captions is None else ExampleStore.open(options.captions)
    texts = None if captions is None else _captions_of(store.ids(), captions, options.captions_per_image)
    path.mkdir(parents=True, exist_ok=True)
    with new_path(path / f"{split}_ims.npy", overwrite=overwrite) as partial, partial.open("wb") as stream:
        _write_rows(store, stream, progress)
    files = {"ids": store.ids()} if texts is None else {"ids": store.ids(), "caps": texts}
    for name, lines in files.items():
        with new_path(path / f"{split}_{name}.txt", overwrite=overwrite) as partial:
            partial.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _write_rows(store: RegionSource, stream: IO[bytes], progress: Progress | None) -> None:
    shape: tuple[int, ...] | None = None
    for image_id in store.ids():
        features = store.get(image_id).features
        if shape is None:
            shape = features.shape
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(store.ids()), *shape)}
            np.lib.format.write_array_header_1_0(stream, header)
        if features.shape != shape:
            problem = f"has features of shape {features.shape}, the first picture {shape}"
            raise DataError(problem, where=f"image {image_id}", remedy="extract a fixed number of regions")
        stream.write(np.ascontiguousarray(features, "<f4").tobytes())
        if progress:
            progress(1)


def _captions_of(ids: list[str], captions: Iterable[Example], per_image: int) -> list[str]:
    texts: dict[str, list[str]] = {image_id: [] for image_id in ids}
    for example in captions:
        if example.image_ids[0] in texts:
            texts[example.image_ids[0]].extend(example.texts)
    for image_id, lines in texts.items():
        if len(lines) != per_image:
            problem = f"has {len(lines)} captions, expected {per_image}"
            raise DataError(problem, where=f"image {image_id}", remedy="check --captions-per-image")
    return [" ".join(line.split()) for lines in texts.values() for line in lines]
