"""Reads the arrays of foreign files: .npy, .npz and base64, with every claimed size checked and no pickle run."""

from __future__ import annotations

import ast
import base64
import binascii
import io
import math
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.stores.pickle_reader import read_pickle

Array = NDArray[Any]
NUMBERS = re.compile(r"[<>=|]?([iu][1248]|f[248])", re.ASCII)

# What one picture's member of an .npz may hold: 20 times what 1,000 regions with 1,601 class probabilities need.
LARGEST_MEMBER = 256 << 20
_LARGEST_HEADER = 10_000
_TYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU]\d{1,9}|O8?|\?)", re.ASCII)
_DEFLATE_RATIO = 1040  # the format's own limit is 1032
_DAMAGED = "get an undamaged copy"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What the header of a .npy says, and where the data starts."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int


def read_npy_header(stream: IO[bytes], *, held: int, where: str) -> NpyHeader:
    """Read the header of a .npy and check its claim against the ``held`` bytes of the file.

    Raises:
        DataError: it is no .npy, of structured values, or claims more than the file holds.
    """
    head = stream.read(_LARGEST_HEADER + 12)
    try:
        fields, offset = _header_fields(head)
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        good = isinstance(shape, tuple) and all(type(side) is int for side in shape) and type(fortran) is bool
        problem = "" if good else f"its header says {str(fields)[:80]}"
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError, struct.error) as error:
        problem = str(error)
    if problem:
        raise DataError(f"is not a .npy file that can be read ({problem})", where=where, remedy=_DAMAGED)
    if not isinstance(descr, str) or not _TYPE.fullmatch(descr):
        raise DataError(f"holds values of type {descr!r}", where=where, remedy="only numbers and texts are read")
    if any(side < 0 for side in shape):
        raise DataError(f"claims an array of shape {shape}", where=where, remedy=_DAMAGED)
    dtype = np.dtype(descr)
    left, claimed = held - offset, math.prod(shape) * dtype.itemsize
    if dtype.kind != "O" and claimed > left:
        problem = f"claims {claimed:,} bytes of shape {shape} and type {dtype} where {left:,} follow"
        raise DataError(problem, where=where, remedy=_DAMAGED)
    return NpyHeader(shape, dtype, fortran, offset)


def _header_fields(head: bytes) -> tuple[dict[str, Any], int]:
    # numpy's own parser passes the text to Python's tokenizer and raises whatever that raises.
    if head[:6] != b"\x93NUMPY" or head[6:7] not in (b"\x01", b"\x02", b"\x03"):
        raise ValueError(f"it starts with {head[:8]!r}")
    layout = "<H" if head[6] == 1 else "<I"
    start = 8 + struct.calcsize(layout)
    end = start + struct.unpack(layout, head[8:start])[0]
    if end > len(head):
        raise ValueError(f"its header claims {end - start:,} bytes")
    text = head[start:end].decode("utf-8" if head[6] == 3 else "latin-1")
    fields = ast.literal_eval(re.sub(r"(?<=\d)L(?=[,)])", "", text).strip())  # Python 2 wrote 36L
    if not isinstance(fields, dict):
        raise ValueError("its header is no dict")
    return fields, end


def read_npy(source: Path | bytes, *, where: str) -> Array:
    """Read a whole .npy, also of objects, which the restricted reader builds.

    Raises:
        DataError: as :func:`read_npy_header`, or the objects are more than plain data.
    """
    content = source.read_bytes() if isinstance(source, Path) else source
    header = read_npy_header(io.BytesIO(content), held=len(content), where=where)
    if header.dtype.kind == "O":
        array = read_pickle(content[header.offset :], where=where)
        if not isinstance(array, np.ndarray) or array.shape != header.shape:
            raise DataError(f"does not hold the objects of shape {header.shape} it claims", where=where)
        return array
    count = math.prod(header.shape)
    flat = np.frombuffer(content, header.dtype, count, header.offset) if count else np.empty(0, header.dtype)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


class NpyRows:
    """The rows of a large .npy of floats, read one after the other with plain reads.

    A memory map would count every page it has touched as resident memory of the process.

    Args:
        path: the file; [N, ...] of floats in C order.

    Raises:
        DataError: it is something else, or shorter than it claims.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as stream:
            self._header = read_npy_header(stream, held=path.stat().st_size, where=str(path))
        shape, dtype = self._header.shape, self._header.dtype
        if dtype.kind != "f" or len(shape) < 2:
            raise DataError(f"holds {dtype} of shape {shape}, not rows of floats", where=path)
        if self._header.fortran:
            remedy = "write it again with numpy.save(path, numpy.ascontiguousarray(array))"
            raise DataError("is stored in Fortran order, which has no rows to read", where=path, remedy=remedy)

    @property
    def shape(self) -> tuple[int, ...]:
        """The whole shape."""
        return self._header.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        with self._path.open("rb", buffering=0) as stream:
            stream.seek(self._header.offset)
            for index in range(len(self)):
                row = np.empty(self.shape[1:], self._header.dtype)
                view = memoryview(row.reshape(-1).view(np.uint8).data)
                while view:
                    count = stream.readinto(view)
                    if not count:
                        raise DataError(f"ends within row {index}", where=self._path, remedy=_DAMAGED)
                    view = view[count:]
                yield row.astype(row.dtype.newbyteorder("="), copy=False)


def read_npz(source: Path | bytes, *, where: str) -> dict[str, Array]:
    """Read all arrays of an .npz by name; the directory's sizes are checked before anything is unpacked.

    Raises:
        DataError: it is no zip of .npy files, or a member claims more than it holds or than one picture needs.
    """
    stream: IO[bytes] = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
    try:
        with stream, zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            _check_directory(members, where)
            return {member.filename.removesuffix(".npy"): _read_member(archive, member, where) for member in members}
    except DataError:
        raise
    except _ZIP_ERRORS as error:
        raise DataError(f"is not an .npz that can be read ({error})", where=where, remedy=_DAMAGED) from None


def _check_directory(members: list[zipfile.ZipInfo], where: str) -> None:
    for member in members:
        place, claimed = f"{where}, member {member.filename}", member.file_size
        if claimed > member.compress_size * _DEFLATE_RATIO + _DEFLATE_RATIO:
            problem = f"claims {claimed:,} bytes out of {member.compress_size:,} compressed ones"
            raise DataError(problem, where=place, remedy=_DAMAGED)
    total = sum(member.file_size for member in members)
    if total > LARGEST_MEMBER:
        problem = f"claims {total:,} bytes, more than the {LARGEST_MEMBER:,} that the regions of one picture can need"
        raise DataError(problem, where=where, remedy="expected is one .npz a picture")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> Array:
    place = f"{where}, member {member.filename}"
    with archive.open(member) as stream:
        head = stream.read(_LARGEST_HEADER + 12)
        read_npy_header(io.BytesIO(head), held=member.file_size, where=place)
        content = head + stream.read(member.file_size - len(head) + 1)
    if len(content) != member.file_size:
        raise DataError(f"does not unpack to the {member.file_size:,} bytes it claims", where=place, remedy=_DAMAGED)
    return read_npy(content, where=place)


def write_npy(stream: IO[bytes], value: Any) -> None:
    """Write an array of numbers, or a dict as the array of objects that published tools keep it in."""
    if isinstance(value, dict):
        npy.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        stream.write(dump_pickle(_ObjectArray(value)))
    else:
        npy.write_array(stream, np.asarray(value), allow_pickle=False)


def write_npz(stream: IO[bytes], members: Mapping[str, Any]) -> None:
    """Write a compressed .npz of arrays and dicts (see :func:`write_npy`)."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            buffer = io.BytesIO()
            write_npy(buffer, value)
            archive.writestr(f"{name}.npy", buffer.getvalue())


def dump_pickle(value: Any) -> bytes:
    """Return a pickle of plain data that every numpy reads.

    numpy 2 writes names into a pickle that the numpy 1.x of the published tools does not know.
    """
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=4).dump(value)
    return buffer.getvalue()


class _ObjectArray:
    """A dict on its way into the 0-d array of objects that numpy.save makes of it."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            return self.reducer_override(np.asarray(value))
        if isinstance(value, _ObjectArray):
            return np.array, (value.content, "O")
        if isinstance(value, np.ndarray):
            return np.ndarray, (value.shape, value.dtype.str, bytearray(value.tobytes()))
        return NotImplemented


def from_base64(text: str | bytes, dtype: str, shape: tuple[int, ...], *, where: str) -> Array:
    """Return the little-endian array in a base64 text; one side may be -1, to be taken from the length.

    Raises:
        DataError: it is no base64, or not of that many values.
    """
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    if raw.startswith((b"b'", b'b"')):  # str() of bytes: written by Python 3 with code made for Python 2
        raw = raw[2:-1]
    try:
        data = base64.b64decode(raw, validate=True)
    except binascii.Error as error:
        raise DataError(f"is not base64 ({error})", where=where, remedy=_DAMAGED) from None
    kind = np.dtype(dtype)
    unit = math.prod(side for side in shape if side >= 0) * kind.itemsize
    fits = len(data) % unit == 0 if unit and -1 in shape else len(data) == unit
    if not fits:
        problem = f"holds {len(data):,} bytes, which are not {kind.name} of shape {shape}"
        raise DataError(problem, where=where, remedy="check which columns and types the file was written with")
    if not data:
        return np.empty([max(side, 0) for side in shape], kind)
    return np.frombuffer(data, kind).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def to_base64(array: Array, dtype: str) -> str:
    """Return the base64 text of an array as little-endian ``dtype``."""
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode("ascii")
