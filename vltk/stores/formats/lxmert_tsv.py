"""LXMERT's and Bottom-Up Attention's TSV files: one line a picture, arrays in base64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from vltk.errors import DataError
from vltk.stores.formats._arrays import from_base64, to_base64
from vltk.stores.formats._regions import RegionSource, foreign_regions, integer, pixel_boxes, unique
from vltk.stores.whole_files import new_path
from vltk.types import Progress, RegionFeatures

Layout = Literal["lxmert", "butd"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How the lines of a TSV are understood."""

    layout: Layout | None = None
    """Columns: "lxmert" has 10, "butd" has 6 and the width first; counted where left out."""
    size_order: Literal["hw", "wh"] | None = None
    """Which of height and width comes first, for files that differ from their layout."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How the lines of a TSV are written."""

    layout: Layout | None = None
    """Columns: "lxmert" needs classes and scores and is taken where the store has them, "butd" does not."""


COLUMNS: dict[str, tuple[str, ...]] = {
    "lxmert": (
        "img_id",
        "img_h",
        "img_w",
        "objects_id",
        "objects_conf",
        "attrs_id",
        "attrs_conf",
        "num_boxes",
        "boxes",
        "features",
    ),
    "butd": ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features"),
}
_FIELDS = {
    "objects_id": ("class_ids", "<i8"),
    "objects_conf": ("scores", "<f4"),
    "attrs_id": ("attribute_ids", "<i8"),
    "attrs_conf": ("attribute_scores", "<f4"),
}
_LONGEST_LINE = 1 << 28  # 400 kB are usual


def read(path: Path, options: ReadOptions | None = None) -> Iterator[RegionFeatures]:
    """Yield the pictures of a TSV in the order of its lines.

    Args:
        path: the file; it has no header line.
        options: see :class:`ReadOptions`.

    Raises:
        DataError: a line that is cut off, not base64, of other sizes than it claims, or with boxes in another format.
    """
    return iter(unique(_lines(path, options or ReadOptions()), path))


def _lines(path: Path, options: ReadOptions) -> Iterator[RegionFeatures]:
    if not path.is_file():
        raise DataError("is no file", where=path, remedy="name the TSV itself")
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(_LONGEST_LINE):
            number += 1
            where = f"{path}, line {number}"
            if len(line) == _LONGEST_LINE:
                raise DataError(f"is longer than {_LONGEST_LINE:,} bytes", where=where, remedy="expected is a TSV")
            parts = line.rstrip(b"\r\n").split(b"\t")
            columns = _columns(len(parts), options.layout, where)
            yield _regions(dict(zip(columns, parts, strict=True)), path, where, options.size_order)


def _columns(count: int, layout: Layout | None, where: str) -> tuple[str, ...]:
    known = {len(columns): columns for name, columns in COLUMNS.items() if layout in (None, name)}
    if count not in known:
        expected = " or ".join(str(number) for number in sorted(known, reverse=True))
        remedy = "the line may be cut off, or the file is not of this format"
        raise DataError(f"has {count} columns, expected {expected}", where=where, remedy=remedy)
    return known[count]


def _regions(row: dict[str, bytes], path: Path, where: str, size_order: str | None) -> RegionFeatures:
    image_id = row["img_id"].decode("utf-8", "replace")
    rows = integer(row["num_boxes"].decode("latin-1"), "num_boxes", where=where)
    sides = [integer(row[name].decode("latin-1"), name, where=where, least=1) for name in ("img_w", "img_h")]
    first = "hw" if list(row).index("img_h") < list(row).index("img_w") else "wh"
    if size_order is not None and size_order != first:
        sides.reverse()
    fields: dict[str, Any] = {
        field: from_base64(row[name], kind, (rows,), where=f"{where}, {name}")
        for name, (field, kind) in _FIELDS.items()
        if name in row
    }
    return foreign_regions(
        source=path,
        image_id=image_id,
        features=from_base64(row["features"], "<f4", (rows, -1), where=f"{where}, features"),
        boxes=from_base64(row["boxes"], "<f4", (rows, 4), where=f"{where}, boxes"),
        size=(sides[0], sides[1]),
        **fields,
    )


def write(
    store: RegionSource,
    path: Path,
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the pictures of a store as a TSV, float32.

    Args:
        store: what to read.
        path: the file to write.
        options: see :class:`WriteOptions`.
        overwrite: replace the file.
        progress: told the number of pictures done.

    Raises:
        DataError: the file exists, or a picture lacks what the layout needs.
    """
    layout = (options or WriteOptions()).layout
    with new_path(path, overwrite=overwrite) as partial, partial.open("wb") as stream:
        for image_id in store.ids():
            regions = store.get(image_id)
            if layout is None:
                layout = "butd" if regions.class_ids is None or regions.scores is None else "lxmert"
            _write_line(stream, regions, layout)
            if progress:
                progress(1)


def _write_line(stream: IO[bytes], regions: RegionFeatures, layout: Layout) -> None:
    where = f"image {regions.image_id}"
    if any(mark in regions.image_id for mark in '\t\r\n"'):
        raise DataError("the id holds a tab, a quote or a line break, which a TSV cannot", where=where)
    row = {
        "img_id": regions.image_id,
        "img_h": str(regions.size[1]),
        "img_w": str(regions.size[0]),
        "num_boxes": str(len(regions)),
        "boxes": to_base64(pixel_boxes(regions, "the TSV"), "<f4"),
        "features": to_base64(regions.features, "<f4"),
    }
    if layout == "lxmert":
        row |= {name: to_base64(detected(regions, name), kind) for name, (_, kind) in _FIELDS.items()}
    stream.write("\t".join(row[name] for name in COLUMNS[layout]).encode() + b"\n")


def detected(regions: RegionFeatures, column: str) -> np.ndarray[Any, Any]:
    """Return what a column of the TSV says of each region; attributes that were never predicted are zeros.

    Raises:
        DataError: the store holds no classes or scores.
    """
    field, kind = _FIELDS[column]
    values = getattr(regions, field)
    if values is not None:
        return np.asarray(values)
    if field.startswith("attribute"):  # the published 36-box files of COCO hold zeros as well
        return np.zeros(len(regions), kind)
    remedy = "the layout butd needs neither classes nor scores"
    raise DataError(
        f"the layout lxmert needs {field}, and the store has none", where=f"image {regions.image_id}", remedy=remedy
    )
