"""Region features of many pictures in one LMDB store: checksummed, resumable, read without copying."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.stores import region_record
from vltk.stores.feature_reader import (
    ChainedFeatures,
    FeatureMetadata,
    FeatureReader,
    SelectedFeatures,
    kept_regions,
)
from vltk.stores.record_store import DamagedRecordError, RecordStore, RecordWriter, encode_id, key_of
from vltk.types import RegionFeatures

if TYPE_CHECKING:
    import torch

__all__ = [
    "ChainedFeatures",
    "FeatureMetadata",
    "FeatureReader",
    "FeatureStore",
    "FeatureWriter",
    "SelectedFeatures",
    "as_tensor",
    "field_table",
    "kept_regions",
]


class FeatureStore(RecordStore, FeatureReader):
    """The region features of many pictures, read from LMDB without copying.

    The arrays are read-only and stay valid as long as they are referred to, even when the store object is gone. A store
    can be pickled (its path is), used after a fork and opened twice.

    Args:
        path: the folder of the store.
        unfinished: accept one that is not complete, as long as nobody writes it.
        check: "first" checks a record's features against their checksum when this object first reads them, "always" on
            every read; the checksum of the smaller fields is checked on every read.

    Raises:
        DataError: missing, damaged, unfinished, or of another schema.

    Example:
        >>> import tempfile
        >>> regions = RegionFeatures(image_id="7", features=np.ones((1, 4), np.float16),
        ...     boxes=np.array([[0, 0, 50, 20]], np.float32), size=(100, 40), scores=np.ones(1, np.float32))
        >>> folder = tempfile.mkdtemp() + "/features.lmdb"
        >>> with FeatureStore.create(folder, FeatureMetadata(detector="mine")) as writer:
        ...     writer.put(regions)
        >>> FeatureStore.open(folder).get("7").features.shape
        (1, 4)
    """

    schema = "vltk.features"
    prefix = b"i"

    def __init__(
        self, path: str | Path, *, unfinished: bool = False, check: Literal["first", "always"] = "first"
    ) -> None:
        self._check = check
        super().__init__(path, unfinished=unfinished)

    @classmethod
    def open(
        cls, path: str | Path, *, unfinished: bool = False, check: Literal["first", "always"] = "first"
    ) -> FeatureStore:
        """Open a store for reading, see :class:`FeatureStore`."""
        return cls(path, unfinished=unfinished, check=check)

    def _connect(self, checked: tuple[int, ...] | None = None) -> None:
        super()._connect(checked)
        self._checked = None if self._check == "always" else bytearray(len(self))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_check": self._check}

    @classmethod
    def create(cls, path: str | Path, metadata: FeatureMetadata, *, overwrite: bool = False) -> FeatureWriter:
        """Begin or resume a store, see :class:`FeatureWriter`."""
        return FeatureWriter(path, metadata, overwrite=overwrite)

    @classmethod
    def checked(cls, key: bytes, record: bytes) -> RegionFeatures:
        """Return the regions of a record after everything about it was checked.

        Raises:
            DamagedRecordError: it is not what was written.
            DataError: it was written, but breaks a rule of :class:`RegionFeatures`.
        """
        return replace(region_record.decode(memoryview(record), key))

    @classmethod
    def digest(cls, key: bytes, record: bytes) -> int:
        """Return the record's share of the content hash."""
        return region_record.content_digest(record, key)

    @classmethod
    def metadata_of(cls, plain: dict[str, Any]) -> FeatureMetadata:
        """Return the metadata that the header holds as plain values."""
        return FeatureMetadata(**plain)

    @property
    def metadata(self) -> FeatureMetadata:
        """How the features were made."""
        return self.metadata_of(self._header.metadata)

    def ids(self) -> list[str]:
        """Return the ids of all pictures, sorted."""
        return [key[1:].decode() for key in self._environment.keys(b"i")]

    def get(self, image_id: str) -> RegionFeatures:
        """Return the regions of one picture; its arrays are read-only and, where large, not copied.

        Raises:
            DataError: no such picture, or a damaged record.
        """
        key, record = self._record(image_id)
        try:
            return region_record.decode(record, key, checked=self._checked)
        except DamagedRecordError as error:
            raise self._damaged(image_id, error) from None

    def region_count(self, image_id: str) -> int:
        """Return how many regions a picture has, without reading their features.

        Raises:
            DataError: no such picture, or a damaged record.
        """
        return self._head(image_id)[0]

    def scores(self, image_id: str) -> NDArray[np.float32]:
        """Return [R] scores of one picture, without reading its features.

        Raises:
            DataError: no such picture, a damaged record, or one without scores.
        """
        scores = self._head(image_id)[1].get("scores")
        if scores is None:
            problem = "its regions have no scores to select by"
            raise DataError(problem, where=f"{self.path}, image {image_id}", remedy="use the store without a selection")
        return scores

    def _head(self, image_id: str) -> tuple[int, dict[str, NDArray[Any]]]:
        key, record = self._record(image_id)
        try:
            return region_record.head_arrays(record, key)
        except DamagedRecordError as error:
            raise self._damaged(image_id, error) from None

    def _record(self, image_id: str) -> tuple[bytes, memoryview]:
        key = key_of(image_id)
        record = self._environment.get(key)
        if record is None:
            raise self._unknown(image_id)
        return key, record


class FeatureWriter(RecordWriter):
    """The single writer of a feature store, as a context manager.

    Leaving the block cleanly finishes the store: commit, compact, mark as complete. Leaving it with an exception
    keeps what was put; creating the store again with equal metadata resumes it.

    Args:
        path: the folder of the store.
        metadata: how the features are made.
        overwrite: delete what stands at ``path``.

    Raises:
        DataError: begun with other metadata, of another schema, or another writer is at work.
    """

    schema = FeatureStore.schema
    metadata: FeatureMetadata

    def put(self, regions: RegionFeatures) -> None:
        """Add the regions of one picture; the features are stored in the type that the metadata names.

        Putting equal regions again changes nothing.

        Raises:
            DataError: the picture is there with other regions, its fields do not fit the store's field table, or its
                features do not fit into float16.
            VltkError: the disk is full.
        """
        key = b"i" + encode_id(regions.image_id)
        checked = replace(regions, features=self._converted(regions))
        try:
            record = region_record.encode(checked, key, number=len(self), codec=self.metadata.compression)
            self._check_fields(checked)
        except DamagedRecordError as error:
            raise DataError(str(error), where=f"image {regions.image_id}", remedy="convert it first") from None
        digest = FeatureStore.digest(key, record)
        stored = self._get(key)
        known = None if stored is None else FeatureStore.digest(key, stored)
        if not self._is_repeated(regions.image_id, known, digest):
            self._add({key: record}, digest)

    def _converted(self, regions: RegionFeatures) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            features = np.asarray(regions.features).astype(self.metadata.dtype, copy=False)
        if features.dtype == np.float16 and not (finite := np.isfinite(features)).all():
            row, column = np.argwhere(~finite)[0].tolist()
            raise DataError(
                f"row {row}: feature {regions.features[row, column]} does not fit into float16",
                where=f"image {regions.image_id}",
                remedy="create the store with dtype float32",
            )
        return features

    def _check_fields(self, regions: RegionFeatures) -> None:
        found = field_table(regions)
        known = self._header.fields
        for name, entry in found.items():
            if known.get(name, entry) != entry:
                problem = f"{name} is {entry}, the store holds {known[name]}"
                raise DataError(problem, where=f"image {regions.image_id}", remedy="put it into a store of its own")
        if not found.keys() <= known.keys():
            self._header = replace(self._header, fields={**known, **found})


_UNITS = {"boxes": " x1, y1, x2, y2 in pixels", "normalised_boxes": " x1, y1, x2, y2, w, h in shares of the size"}


def field_table(regions: RegionFeatures) -> dict[str, Any]:
    """Return name -> type, shape and unit of the fields that are present, e.g. "float16 [R, 2048]"."""
    table: dict[str, Any] = {
        name: f"{array.dtype.name} [{', '.join(map(str, ('R', *array.shape[1:])))}]{_UNITS.get(name, '')}"
        for name, array in regions.arrays().items()
    }
    if regions.region_ids is not None:
        table["region_ids"] = "text [R]"
    return table


class _Shared:
    """Memory that torch may look at: torch has no read-only tensors and warns about arrays that are."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, array: NDArray[Any]) -> None:
        self.owner = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return a stored array as a torch tensor without copying it.

    The memory is the mapped file, which cannot be written: clone the tensor before changing it in place, or the
    operating system ends the process.

    Example:
        >>> as_tensor(np.frombuffer(b"ab", np.uint8)).tolist()
        [97, 98]
    """
    import torch
    from torch.utils.dlpack import from_dlpack

    try:
        return from_dlpack(array)
    except BufferError:  # a torch or numpy that does not hand on read-only arrays
        return torch.from_numpy(np.asarray(_Shared(array)))
