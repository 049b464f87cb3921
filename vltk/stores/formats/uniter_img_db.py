"""UNITER's img_db: an LMDB of fp16 regions with normalised boxes, as msgpack or as compressed npz."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from vltk.errors import DataError, UsageError
from vltk.stores.features import kept_regions
from vltk.stores.formats._arrays import NUMBERS, Array, read_npz, write_npz
from vltk.stores.formats._lmdb import ForeignLMDB
from vltk.stores.formats._output import write_lmdb
from vltk.stores.formats._regions import RegionSource, foreign_regions, integer, numbers
from vltk.stores.formats._sizes import SizeOptions, Sizes
from vltk.stores.whole_files import new_path
from vltk.types import Progress, RegionFeatures

_FOLDER = re.compile(r"(all|feat_numbb(?P<fixed>\d+)|feat_(?P<rule>th.+_max\d+_min\d+))(_compressed)?")
_LIST = b"__keys__"


@dataclass(frozen=True, kw_only=True)
class ReadOptions(SizeOptions):
    """How an img_db is read."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How many regions of each picture an img_db keeps, and so what its folder is called.

    Raises:
        UsageError: all regions and a fixed number of them at once.
    """

    conf_th: float = 0.2
    """Keep the regions whose score is strictly greater."""
    max_bb: int = 100
    """Keep at most so many."""
    min_bb: int = 10
    """Keep at least so many."""
    num_bb: int | None = None
    """Keep exactly so many instead, whatever their scores."""
    keep_all: bool = False
    """Keep all regions instead."""
    compressed: bool = False
    """Write compressed npz values instead of msgpack."""

    def __post_init__(self) -> None:
        if self.keep_all and self.num_bb is not None:
            raise UsageError("all regions and a fixed number of them cannot be kept both", remedy="choose one")

    @property
    def suffix(self) -> str:
        """The part of the names that the rule decides."""
        return f"th{self.conf_th}_max{self.max_bb}_min{self.min_bb}"

    @property
    def folder(self) -> str:
        """The name of the LMDB's folder."""
        fixed = f"feat_{self.suffix}" if self.num_bb is None else f"feat_numbb{self.num_bb}"
        return ("all" if self.keep_all else fixed) + "_compressed" * self.compressed

    def count(self, regions: RegionFeatures) -> int:
        """Return how many of the best regions are kept; not more than there are, as slicing does."""
        if self.keep_all:
            return len(regions)
        if self.num_bb is not None:
            return self.num_bb
        if regions.scores is None:
            remedy = "export with --num-bb or --keep-all"
            raise DataError("has no scores to choose by", where=f"image {regions.image_id}", remedy=remedy)
        return kept_regions(regions.scores, min_score=self.conf_th, min_boxes=self.min_bb, max_boxes=self.max_bb)


def read(path: Path, options: ReadOptions | None = None) -> Iterator[RegionFeatures]:
    """Yield the pictures of an img_db, as many regions of each as its nbb file or its name says.

    The boxes of an img_db are fractions of a picture whose size it does not keep. They stay bit for bit in
    ``normalised_boxes``; ``boxes`` are pixels where sizes are given, and otherwise these fractions of size (1, 1).

    Args:
        path: the folder with the data.mdb (``feat_th..._max..._min...``, ``feat_numbb...`` or ``all``), or the folder
            around it where that holds only one.
        options: see :class:`ReadOptions`.

    Raises:
        DataError: a damaged environment or record, arrays that do not fit each other, a key without its count.
    """
    folder = _find(path)
    table = (options or ReadOptions()).table()
    counts = _Counts(folder)
    with ForeignLMDB(folder) as environment:
        for name in _names(environment):
            arrays = _decode(environment.value(name.encode()), f"{folder}, key {name}")
            yield _regions(folder, name, arrays, counts[name], table)


def _find(path: Path) -> Path:
    if path.is_file() or (path / "data.mdb").is_file():
        return path
    found = sorted(file.parent for file in path.glob("*/data.mdb"))
    if len(found) != 1:
        names = ", ".join(folder.name for folder in found) or "none"
        raise DataError(f"is no img_db; folders with a data.mdb in it: {names}", where=path, remedy="name one of them")
    return found[0]


def _names(environment: ForeignLMDB) -> list[str]:
    keys = [key for key in environment if key != _LIST]
    if _LIST not in environment:
        return [key.decode("utf-8", "replace") for key in keys]
    try:
        names = json.loads(environment.value(_LIST))
    except ValueError as error:
        raise DataError(f"the record __keys__ is no JSON ({error})", where=environment.path) from None
    if not isinstance(names, list) or sorted(str(name).encode() for name in names) != sorted(keys):
        problem = f"the record __keys__ does not list the {len(keys)} keys of the environment"
        raise DataError(problem, where=environment.path, remedy="the conversion was cut off; run it again")
    return names


class _Counts:
    """How many regions each key has, by the nbb file or by the folder's name; None means all."""

    def __init__(self, folder: Path) -> None:
        match = _FOLDER.fullmatch(folder.name)
        self._fixed = int(match["fixed"]) if match and match["fixed"] else None
        name = f"nbb_{match['rule']}.json" if match and match["rule"] else "nbb.json"
        self._path = folder.parent / name
        self._table: dict[str, Any] | None = None
        if self._fixed is None and self._path.is_file():
            try:
                self._table = json.loads(self._path.read_bytes())
            except ValueError as error:
                raise DataError(f"is no JSON ({error})", where=self._path) from None
            if not isinstance(self._table, dict):
                raise DataError("is no JSON object of file names and counts", where=self._path)

    def __getitem__(self, name: str) -> int | None:
        if self._table is None:
            return self._fixed
        if name not in self._table:
            raise DataError(f"has no count for {name}", where=self._path, remedy="it belongs to another img_db")
        return integer(self._table[name], f"count of {name}", where=str(self._path))


def _decode(value: bytes, where: str) -> dict[str, Array]:
    if value.startswith(b"PK"):
        # Old numpy wrote its own option allow_pickle into the file as an array without dimensions.
        return {name: array for name, array in read_npz(value, where=where).items() if array.ndim}
    try:
        packed = msgpack.unpackb(value, raw=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise DataError(
            f"is no msgpack ({type(error).__name__})", where=where, remedy="get an undamaged copy"
        ) from None
    if not isinstance(packed, dict):
        raise DataError("is no map of arrays", where=where)
    return {
        str(name): _decode_array(entry, f"{where}, {name}") for name, entry in packed.items() if name != "allow_pickle"
    }


def _decode_array(entry: Any, where: str) -> Array:
    if not isinstance(entry, dict):
        raise DataError("is no msgpack-numpy array", where=where)
    fields = {name.decode("latin-1") if isinstance(name, bytes) else name: value for name, value in entry.items()}
    kind, shape, data = fields.get("type"), fields.get("shape"), fields.get("data")
    kind = kind.decode("latin-1") if isinstance(kind, bytes) else kind
    if fields.get("nd") is not True or not isinstance(kind, str) or not NUMBERS.fullmatch(kind):
        raise DataError("is no msgpack-numpy array of numbers", where=where)
    dtype = np.dtype(kind)
    good = isinstance(shape, list) and all(isinstance(side, int) and side >= 0 for side in shape)
    if not good or not isinstance(data, bytes) or math.prod(shape or ()) * dtype.itemsize != len(data):
        held = len(data) if isinstance(data, bytes) else 0
        raise DataError(f"claims shape {shape} and type {kind} in {held:,} bytes", where=where)
    return np.frombuffer(data, dtype).reshape(shape)


def _regions(
    folder: Path, name: str, arrays: dict[str, Array], count: int | None, sizes: Sizes | None
) -> RegionFeatures:
    where = f"{folder}, key {name}"
    missing = {"features", "norm_bb"} - arrays.keys()
    if missing:
        raise DataError(f"has no {' and no '.join(sorted(missing))}", where=where, remedy="it is no UNITER img_db")
    if any(not array.ndim for array in arrays.values()):
        raise DataError("holds an array without dimensions", where=where, remedy="it is no UNITER img_db")
    rows = {field: array[:count] for field, array in arrays.items()}
    image_id, six = name.removesuffix(".npz"), numbers(rows["norm_bb"], "norm_bb", where=where, dimensions=2)
    six = six.astype(np.float32)
    if six.shape[1] != 6:
        raise DataError(f"norm_bb has shape {six.shape}, expected [R, 6]", where=where)
    size = (1, 1) if sizes is None else sizes[image_id]
    return foreign_regions(
        source=folder,
        image_id=image_id,
        features=rows["features"],
        boxes=six[:, :4] * np.array([*size, *size], np.float32),
        size=size,
        strict=False,  # the corners of a thin box may fall together in fp16
        scores=rows.get("conf"),
        class_probs=rows.get("soft_labels"),
        normalised_boxes=six,
    )


def write(
    store: RegionSource,
    path: Path,
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the pictures of a store as an img_db: fp16, the best regions first, with its nbb file.

    Class distributions that have no background get what is missing to 1 as column 0, where UNITER has it.

    Args:
        store: what to read.
        path: the folder around the LMDB's folder; other img_dbs in it stay.
        options: see :class:`WriteOptions`; the default is UNITER's own rule.
        overwrite: replace an img_db of the same rule.
        progress: told the number of pictures done.

    Raises:
        DataError: the img_db exists, or a picture has no boxes, or no scores to choose by.
    """
    rule = options or WriteOptions()
    counts: dict[str, int] = {}

    def items() -> Iterator[tuple[bytes, bytes]]:
        for image_id in store.ids():
            name, regions = f"{image_id}.npz", _best_first(store.get(image_id))
            counts[name] = rule.count(regions)
            kept = _with_background(regions.take(slice(0, counts[name])), store)
            yield name.encode(), _encode(kept, compressed=rule.compressed)
            if progress:
                progress(1)
        yield _LIST, json.dumps(list(counts)).encode()

    with new_path(path / rule.folder, overwrite=overwrite, folder=True) as partial:
        write_lmdb(partial, items())
    if rule.num_bb is None:
        name = "nbb.json" if rule.keep_all else f"nbb_{rule.suffix}.json"
        with new_path(path / name, overwrite=True) as partial:
            partial.write_text(json.dumps(counts), "utf-8")


def _best_first(regions: RegionFeatures) -> RegionFeatures:
    if regions.scores is None:
        return regions
    order = np.argsort(-regions.scores, kind="stable")
    return regions if (np.diff(order) > 0).all() else regions.take(order)


def _with_background(regions: RegionFeatures, store: RegionSource) -> RegionFeatures:
    """Return regions whose class distributions begin with the background, which vltk's extraction leaves out."""
    probs = regions.class_probs
    if probs is None or store.metadata.background_first(probs.shape[1]):
        return regions
    rest = (1 - probs.sum(axis=1, keepdims=True, dtype=np.float32)).clip(min=0).astype(probs.dtype)
    return replace(regions, class_probs=np.concatenate([rest, probs], axis=1))


def _encode(regions: RegionFeatures, *, compressed: bool) -> bytes:
    arrays = {
        "norm_bb": regions.location()[:, :6] if regions.normalised_boxes is None else regions.normalised_boxes,
        "features": regions.features,
        "conf": regions.scores,
        "soft_labels": regions.class_probs,
    }
    with np.errstate(over="ignore"):  # looked for below
        halves = {name: np.ascontiguousarray(array, np.float16) for name, array in arrays.items() if array is not None}
    for name, array in halves.items():
        if not np.isfinite(array).all():
            problem = f"{name} holds values beyond float16, the type of an img_db"
            raise DataError(problem, where=f"image {regions.image_id}", remedy="export in another format")
    if compressed:
        buffer = io.BytesIO()
        write_npz(buffer, halves)
        return buffer.getvalue()
    return bytes(
        msgpack.packb(
            {
                name: {
                    b"nd": True,
                    b"type": array.dtype.str,
                    b"kind": b"",
                    b"shape": array.shape,
                    b"data": array.tobytes(),
                }
                for name, array in halves.items()
            },
            use_bin_type=True,
        )
    )
