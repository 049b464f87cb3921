"""How the regions of one picture are laid out as bytes, so that numpy can show them where they lie.

A record, little endian: 44 bytes of header, 8 bytes a field, the small arrays, then at ``head_size`` the large ones::

    u64 checksum of the head  xxh3_64 of everything up to head_size but itself, seeded with xxh3_64 of the key
    u64 checksum of the body  xxh3_64 of the large arrays before compression
    u32 head_size, u32 codec  0 none, 1 lz4 block
    u32 number                records written before this one
    u32 width, u32 height, u32 rows, u16 number of fields, u16 zero
    per field: u8 field, u8 type, u16 zero, u32 columns (bytes for the region ids)

The small arrays can be read, and trusted, without touching the pages of the large ones. The first four lines are not
part of :func:`content_digest`, so that neither compression nor order changes what a store is said to contain. The
number lets a reader remember cheaply whose body it has checked.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import Any

import lz4.block
import msgpack
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

from vltk.stores.record_store import DamagedRecordError
from vltk.types import RegionFeatures

# Positions in these two tuples are part of the format: append, never reorder.
FIELDS = (
    "boxes",
    "scores",
    "class_ids",
    "attribute_ids",
    "attribute_scores",
    "normalised_boxes",
    "region_ids",
    "class_probs",
    "features",
)
TYPES = ("<f2", "<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "bytes")
_BODY_FIELDS = frozenset(("class_probs", "features"))
CODECS = {"none": 0, "lz4": 1}

_HEADER = struct.Struct("<QQIIIIIIHH")
_FIELD = struct.Struct("<BBHI")
_TABLE_AT = 36  # rows and field table: what the layout follows from
_CONTENT_AT = 28  # size, rows and field table: what the record says
_ALIGN = 16
_PAGE_ALIGN, _PAGE_START = 64, 16  # LMDB puts a large value 16 bytes into a page
_LZ4_LARGEST_RATIO = 256
_MAPPED_FROM = 1 << 15  # half of the largest page LMDB knows: from here on a value has pages of its own


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the fields of a record lie, as its field table says.

    Attributes:
        rows: R.
        head_size: where the large arrays start.
        size: of the whole record before compression.
        arrays: (name, type, shape, offset) of each array.
        region_ids: (offset, size) of the region ids, or None.
    """

    rows: int
    head_size: int
    size: int
    arrays: tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...]
    region_ids: tuple[int, int] | None


def _aligned(offset: int, to: int = _ALIGN, start: int = 0) -> int:
    return -(-(offset + start) // to) * to - start


@functools.lru_cache(maxsize=4096)
def _layout(table: bytes) -> Layout:
    rows, count, _ = struct.unpack_from("<IHH", table)
    offset = _HEADER.size + count * _FIELD.size
    arrays: list[tuple[str, np.dtype[Any], tuple[int, ...], int]] = []
    region_ids, head_size, previous = None, 0, -1
    for position in range(count):
        field, kind, _, columns = _FIELD.unpack_from(table, 8 + position * _FIELD.size)
        if field >= len(FIELDS) or kind >= len(TYPES) or field <= previous:
            raise DamagedRecordError(f"unknown field {field} of type {kind}")
        name, previous = FIELDS[field], field
        if name in _BODY_FIELDS and not head_size:
            head_size = _aligned(offset, _PAGE_ALIGN, _PAGE_START)
            offset = head_size
        offset = _aligned(offset)
        if name == "region_ids":
            region_ids = (offset, columns)
            offset += columns
            continue
        if TYPES[kind] == "bytes":
            raise DamagedRecordError(f"{name} of type bytes")
        dtype = np.dtype(TYPES[kind])
        trailing = RegionFeatures.ARRAYS[name]
        shape = (rows, columns) if trailing else (rows,)
        arrays.append((name, dtype, shape, offset))
        offset += dtype.itemsize * rows * (columns if trailing else 1)
    if previous != FIELDS.index("features"):
        raise DamagedRecordError("no features")
    return Layout(rows, head_size, offset, tuple(arrays), region_ids)


def _claimed(record: Any) -> tuple[Layout, tuple[int, ...]]:
    """Return the layout and the header that a record claims, after a look at whether its size allows them."""
    size = len(record)
    if size < _HEADER.size:
        raise DamagedRecordError(f"{size} bytes are no record")
    header = _HEADER.unpack_from(record)
    _, _, head_size, codec, _, _, _, _, count, _ = header
    layout = _layout(bytes(record[_TABLE_AT : _HEADER.size + count * _FIELD.size]))
    if layout.head_size != head_size or head_size > size:
        raise DamagedRecordError(f"its header claims {head_size} bytes before the features")
    if codec == CODECS["none"] and layout.size != size:
        raise DamagedRecordError(f"its header claims {layout.size} bytes, {size} are there")
    # Nothing is allocated for a claim that lz4 could not have made.
    if layout.size - head_size > _LZ4_LARGEST_RATIO * (size - head_size) + 64:
        raise DamagedRecordError(f"its header claims {layout.size} bytes out of {size} compressed ones")
    return layout, header


def _checked_head(record: Any, key: bytes) -> tuple[Layout, tuple[int, ...]]:
    """Return the layout and the header of a record, if its head is what was written for ``key``."""
    layout, header = _claimed(record)
    if header[0] != xxh3_64_intdigest(record[8 : layout.head_size], xxh3_64_intdigest(key)):
        raise DamagedRecordError("the checksum of its head does not match")
    return layout, header


def encode(regions: RegionFeatures, key: bytes, *, number: int = 0, codec: str = "none") -> bytes:
    """Return the record of checked regions.

    Args:
        regions: what to write; arrays of other byte orders are turned.
        key: the key that the record will stand under; it goes into the checksum.
        number: how many records were written before.
        codec: "none" or "lz4"; only the large arrays are compressed.
    """
    table, chunks = bytearray(), dict[str, bytes]()
    for field, name in enumerate(FIELDS):
        if name == "region_ids":
            if regions.region_ids is None:
                continue
            chunks[name] = msgpack.packb(list(regions.region_ids))
            table += _FIELD.pack(field, TYPES.index("bytes"), 0, len(chunks[name]))
        elif (array := getattr(regions, name)) is not None:
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            columns = little.shape[1] if little.ndim == 2 else 1
            table += _FIELD.pack(field, type_code(little.dtype), 0, columns)
            chunks[name] = little.tobytes()
    head_table = struct.pack("<IHH", len(regions), len(chunks), 0) + bytes(table)
    layout = _layout(head_table)
    record = bytearray(layout.size)
    for name, _, _, offset in layout.arrays:
        record[offset : offset + len(chunks[name])] = chunks[name]
    if layout.region_ids is not None:
        start, size = layout.region_ids
        record[start : start + size] = chunks["region_ids"]
    record[_TABLE_AT : _TABLE_AT + len(head_table)] = head_table
    return _sealed(record, layout.head_size, key, said=(number, *regions.size), codec=codec)


def _sealed(record: bytearray, head_size: int, key: bytes, *, said: tuple[int, int, int], codec: str) -> bytes:
    body = memoryview(record)[head_size:]
    struct.pack_into("<QIIIII", record, 8, xxh3_64_intdigest(body), head_size, CODECS[codec], *said)
    head = memoryview(record)[8:head_size]
    struct.pack_into("<Q", record, 0, xxh3_64_intdigest(head, xxh3_64_intdigest(key)))
    if codec == "none":
        return bytes(record)
    compressed: bytes = lz4.block.compress(body, store_size=False)
    return bytes(record[:head_size]) + compressed


def type_code(dtype: np.dtype[Any]) -> int:
    """Return the number of an array type in the format.

    Raises:
        DamagedRecordError: the format has no such type.
    """
    text = dtype.newbyteorder("<").str
    if text not in TYPES:
        raise DamagedRecordError(f"arrays of {dtype} cannot be stored, only {', '.join(TYPES[:-1])}")
    return TYPES.index(text)


def decode(
    record: memoryview,
    key: bytes,
    *,
    checked: bytearray | None = None,
) -> RegionFeatures:
    """Return the regions of a record after its checksums held.

    Args:
        record: the stored bytes; where there are many, the arrays show them and do not copy.
        key: the key that they stand under.
        checked: a byte a record of the store, 1 where the body was checked before and need not be again.

    Raises:
        DamagedRecordError: the record is not what was written for the key.
    """
    layout, (_, checksum, start, codec, number, width, height, _, _, _) = _checked_head(record, key)
    head: Any
    body: Any
    if codec == CODECS["none"]:
        # Small values stand in LMDB's pages at any address, large ones at aligned addresses.
        head = body = record if len(record) >= _MAPPED_FROM else bytes(record)
        shift = 0
    elif codec == CODECS["lz4"]:
        head, body, shift = bytes(record[:start]), _decompressed(record[start:], layout.size - start), start
    else:
        raise DamagedRecordError(f"unknown compression {codec}")
    if checked is None or not (number < len(checked) and checked[number]):
        if xxh3_64_intdigest(memoryview(body)[start - shift :]) != checksum:
            raise DamagedRecordError("the checksum of its features does not match")
        if checked is not None and number < len(checked):
            checked[number] = 1
    values: dict[str, Any] = {}
    for name, dtype, shape, offset in layout.arrays:
        values[name] = (
            np.ndarray(shape, dtype, head, offset) if offset < start else np.ndarray(shape, dtype, body, offset - shift)
        )
    if layout.region_ids is not None:
        values["region_ids"] = _region_ids(record, layout)
    return RegionFeatures.trusted(image_id=key[1:].decode(), size=(width, height), **values)


def head_arrays(record: memoryview, key: bytes) -> tuple[int, dict[str, NDArray[Any]]]:
    """Return R and copies of the small arrays, without reading the large ones.

    Raises:
        DamagedRecordError: the head is not what was written for the key.
    """
    layout, _ = _checked_head(record, key)
    head = bytes(record[: layout.head_size])
    small = {
        name: np.ndarray(shape, dtype, head, offset)
        for name, dtype, shape, offset in layout.arrays
        if offset < layout.head_size
    }
    return layout.rows, small


def content_digest(record: Any, key: bytes) -> int:
    """Return a hash of what a record says under its key, whether it is compressed or not."""
    _, checksum, head_size, *_ = _HEADER.unpack_from(record)
    return int(xxh3_128_intdigest(b"".join((key, checksum.to_bytes(8, "little"), record[_CONTENT_AT:head_size]))))


def _decompressed(body: memoryview, size: int) -> bytes:
    try:
        plain: bytes = lz4.block.decompress(body, uncompressed_size=size)
    except lz4.block.LZ4BlockError as error:
        raise DamagedRecordError(f"its features do not decompress ({error})") from None
    if len(plain) != size:
        raise DamagedRecordError(f"its features decompress to {len(plain)} bytes, {size} are claimed")
    return plain


def _region_ids(record: memoryview, layout: Layout) -> tuple[str, ...]:
    start, size = layout.region_ids or (0, 0)
    return tuple(msgpack.unpackb(record[start : start + size]))
