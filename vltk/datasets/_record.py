"""How every reader opens an annotation file and takes values out of it: a fault is one sentence with its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from vltk.datasets._box import Box
from vltk.errors import DataError, did_you_mean

Item = TypeVar("Item")

GZIP_MAGIC = b"\x1f\x8b"

# What str() of Python 3 makes of Python 2's bytes; captions written so cost VSRN half of its recall.
BYTES_REPR = re.compile(r"""b(['"]).*\1""", re.DOTALL)


def open_text(path: Path) -> io.TextIOBase:
    """Open a UTF-8 text file, gzipped or not (told by its first bytes, not by its name).

    Raises:
        DataError: the file is absent or cannot be opened.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP_MAGIC
        # Only \n ends a line: crawled captions hold lone \r, U+2028 and their like.
        if zipped:
            return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
        return path.open(encoding="utf-8-sig", newline="\n")
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=path, remedy="check the path") from error
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror})", where=path, remedy="check the path") from error


def read_text(path: Path) -> str:
    """Return the whole text of a file, gzipped or not.

    Raises:
        DataError: the file is absent, cut off, or not UTF-8.
    """
    return _guarded(path, lambda: _read_all(path))


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, gzipped or not.

    Raises:
        DataError: the file is absent, cut off, a Git LFS pointer, or not JSON (with line and column).
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if text.startswith("version https://git-lfs"):
            raise DataError("is a Git LFS pointer, not the data", where=path, remedy="fetch it with git lfs") from error
        where = f"{path}, line {error.lineno}, column {error.colno}"
        raise DataError(f"is not JSON ({error.msg})", where=where, remedy="download it again") from error
    except (RecursionError, ValueError) as error:
        problem = "holds a number or a nesting that no annotation file has"
        raise DataError(problem, where=path, remedy="check where it comes from") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (1-based number, text without line end) for each line of a text file, gzipped or not.

    Raises:
        DataError: the file is absent, cut off, or not UTF-8.
    """
    with open_text(path) as stream:
        number = 0
        while line := _guarded(path, stream.readline):
            number += 1
            yield number, line.rstrip("\r\n")


def read_table(path: Path, *, separator: str, header: str) -> Iterator[Record]:
    """Yield one :class:`Record` of texts for each row of a delimited file whose first line is the given header.

    Raises:
        DataError: a row has another number of columns than the header, or a quote never closes.
    """
    lines = read_lines(path)
    next(lines, None)
    names = [name.strip() for name in header.split(separator)]
    rows = csv.reader((text + "\n" for _, text in lines), delimiter=separator, strict=True)
    try:
        for row in rows:
            where = f"{path}, line {rows.line_num + 1}"
            if row and len(row) != len(names):
                remedy = f'put a text that holds {separator!r} into "..."'
                raise DataError(f"has {len(row)} columns, the header has {len(names)}", where=where, remedy=remedy)
            if row:
                yield Record(dict(zip(names, row, strict=True)), where)
    except csv.Error as error:
        where = f"{path}, line {rows.line_num + 1}"
        raise DataError(f"is no row ({error})", where=where, remedy="close its quotes") from error


def read_json_lines(path: Path) -> Iterator[Record]:
    """Yield one :class:`Record` for each line of a JSON-lines file; empty lines are passed over.

    Raises:
        DataError: the file is absent, or a line is not a JSON object (with its number).
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (RecursionError, ValueError) as error:
            remedy = "expected one JSON object a line"
            if number == 1 and line.strip() in "[{":
                remedy = "this is one JSON document over many lines; write one object a line"
            raise DataError("is not JSON", where=where, remedy=remedy) from error
        yield Record.of(value, where)


def read_image_list(path: Path) -> tuple[str, ...]:
    """Return the image ids of a split list: one file name or id a line, its folder and suffix left out.

    Raises:
        DataError: the list is empty, or names an image twice.

    Example:
        A line ``3385593926_d3e9c21170.jpg`` and a line ``3385593926_d3e9c21170`` give the same id.
    """
    ids: dict[str, int] = {}
    for number, line in read_lines(path):
        if line.strip():
            first = ids.setdefault(stem(line.strip()), number)
            if first != number:
                raise DataError(
                    f"names image {line.strip()} twice, first in line {first}",
                    where=f"{path}, line {number}",
                    remedy="a split lists each image once",
                )
    if not ids:
        raise DataError("lists no image", where=path, remedy="expected one file name or id a line")
    return tuple(ids)


def stem(name: str) -> str:
    """Return the image id that a file name stands for: its last part without a picture's suffix.

    Example:
        >>> stem("val2014/COCO_val2014_000000391895.jpg"), stem("1007129816"), stem("frame_00.01.46.736@0.jpg")
        ('COCO_val2014_000000391895', '1007129816', 'frame_00.01.46.736@0')
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    return re.sub(r"\.(jpe?g|png|gif|bmp|webp|tiff?)$", "", last, flags=re.IGNORECASE)


def clean_text(text: str, where: str) -> str:
    """Return the text without outer whitespace; inside it stays as annotated.

    Raises:
        DataError: nothing is left, or the text is the ``b'...'`` that Python 3 prints for undecoded bytes.
    """
    text = whole_text(text, where).strip()
    if not text:
        raise DataError("has an empty text", where=where, remedy="remove it from the file, or write its text")
    if BYTES_REPR.fullmatch(text):
        remedy = "it was written by str() from undecoded bytes; write the file again from decoded text"
        raise DataError(f"has a text that looks like {text[:20]}...", where=where, remedy=remedy)
    return text


def whole_text(text: str, where: str) -> str:
    """Return the text, if every character of it is whole.

    Raises:
        DataError: JSON's escapes left half of a surrogate pair, which no file can hold as UTF-8.
    """
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(f"has half a character in {text[:20]!r}", where=where, remedy="write it again as UTF-8")
    return text


def unique(items: Iterable[Item], key: Callable[[Item], object], where: str | Path, what: str) -> Iterator[Item]:
    """Pass items on, and refuse the second one with a key that was seen before.

    Raises:
        DataError: two items share a key.
    """
    seen = set()
    for item in items:
        value = key(item)
        if value in seen:
            raise DataError(f"{what} {value} occurs twice", where=where, remedy="keep one of them")
        seen.add(value)
        yield item


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object of an annotation file and its place; every value taken from it is checked.

    Attributes:
        values: the JSON object.
        where: file and line, id or position, as an error should name it.
    """

    values: dict[str, Any]
    where: str

    @classmethod
    def of(cls, value: Any, where: str | Path) -> Record:
        """Return the record of a JSON value.

        Raises:
            DataError: the value is not an object.
        """
        if not isinstance(value, dict):
            problem = f"is {_kind(value)}, expected an object with named values"
            raise DataError(problem, where=where, remedy="check that it is the file that the option asks for")
        return cls(value, str(where))

    @classmethod
    def of_file(cls, path: Path) -> Record:
        """Return the record of a JSON file that holds one object."""
        return cls.of(read_json(path), path)

    def fail(self, problem: str, remedy: str = "fix the annotation") -> DataError:
        """Return the error that names this record's place."""
        return DataError(problem, where=self.where, remedy=remedy)

    def at(self, key: str) -> Record:
        """Return the same record under a place that names one of its ids as well."""
        return Record(self.values, f"{self.where}, {key} {self.values.get(key)!r}")

    def has(self, key: str) -> bool:
        """Whether the key is there with a value that is not null."""
        return self.values.get(key) is not None

    def value(self, key: str) -> Any:
        """Return the value of a key that must be there."""
        if key not in self.values:
            raise self.fail(f"lacks {key!r}", remedy=did_you_mean(key, [str(name) for name in self.values]))
        return self.values[key]

    def text(self, key: str) -> str:
        """Return a text."""
        return whole_text(self._typed(key, str, "a text"), f"{self.where}, {key}")

    def clean_text(self, key: str) -> str:
        """Return a caption, question or sentence that is not empty and not ``b'...'``."""
        return clean_text(self.text(key), f"{self.where}, {key}")

    def identifier(self, key: str) -> str:
        """Return an id, written as a text or as an integer, as a text."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
            raise self.fail(f"has {_kind(value)} as {key!r}, expected an id (text or integer)")
        return whole_text(str(value), f"{self.where}, {key}")

    def image(self, key: str) -> str:
        """Return the image id that a file name or an id stands for."""
        name = stem(self.identifier(key))
        if not name:
            raise self.fail(f"has {self.values[key]!r} as {key!r}, which names no file")
        return name

    def integer(self, key: str) -> int:
        """Return an integer."""
        return int(self._typed(key, int, "an integer"))

    def number(self, key: str) -> float:
        """Return a finite number."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.fail(f"has {value!r:.40} as {key!r}, expected a number")
        return float(value)

    def flag(self, key: str) -> bool:
        """Return a boolean."""
        return bool(self._typed(key, bool, "true or false"))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        found = self.items(key)
        if not all(isinstance(item, str) for item in found):
            raise self.fail(f"has {key!r} with items that are not texts")
        return tuple(whole_text(item, f"{self.where}, {key}") for item in found)

    def items(self, key: str, *, count: int | None = None) -> list[Any]:
        """Return a list, of a fixed length where ``count`` is given."""
        found: list[Any] = self._typed(key, list, "a list")
        if count is not None and len(found) != count:
            raise self.fail(f"has {len(found)} items in {key!r}, expected {count}")
        return found

    def record(self, key: str) -> Record:
        """Return the object under a key."""
        return Record.of(self.value(key), f"{self.where}, {key}")

    def records(self, key: str) -> Iterator[Record]:
        """Yield the objects of the list under a key."""
        for number, value in enumerate(self.items(key)):
            yield Record.of(value, f"{self.where}, {key}[{number}]")

    def size(self) -> tuple[int, int]:
        """Return (width, height), both positive."""
        width, height = self.integer("width"), self.integer("height")
        if min(width, height) < 1:
            raise self.fail(f"has the size {width} x {height}")
        return width, height

    def box(self, key: str) -> Box:
        """Return four finite numbers, in the order of the file."""
        found = self.items(key, count=4)
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in found):
            raise self.fail(f"has {key!r} {found!r}, expected four numbers")
        return float(found[0]), float(found[1]), float(found[2]), float(found[3])

    def _typed(self, key: str, kind: type, name: str) -> Any:
        value = self.value(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.fail(f"has {_kind(value)} as {key!r}, expected {name}")
        return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _read_all(path: Path) -> str:
    with open_text(path) as stream:
        return stream.read()


def _guarded(path: Path, read: Callable[[], str]) -> str:
    try:
        return read()
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start})", where=path, remedy="convert it to UTF-8") from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"cannot be read to its end ({error})", where=path, remedy="download it again") from error
