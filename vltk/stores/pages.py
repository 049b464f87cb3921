"""The pages of an LMDB 0.9 file read without LMDB, for files that must not be mapped before they are trusted.

LMDB maps a file and follows its page numbers without looking at the file's size, so a truncated or damaged file
ends the process with SIGBUS. Everything here reads with ``pread`` and checks each number before it is used.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from vltk.errors import DataError

_MAGIC = 0xBEEFC0DE
_PAGE_HEADER = struct.Struct("<QHHHH")  # number, padding, flags, lower, upper (the last two: overflow page count)
_META = struct.Struct("<IIQQ48s48sQQ")  # magic, version, address, map size, free and main database, last page, txn
_DATABASE = struct.Struct("<IHHQQQQQ")  # padding, flags, depth, branch, leaf, overflow pages, entries, root
_NODE = struct.Struct("<HHHH")  # two halves of the data size, flags, key size
_BRANCH, _LEAF, _OVERFLOW, _META_FLAG = 0x01, 0x02, 0x04, 0x08
_BIG_DATA, _SUB_DATABASE, _DUPLICATES = 0x01, 0x02, 0x04
_EMPTY = 2**64 - 1
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
_USUAL_PAGE_SIZE = 4096
_SAVE = "copy it again, or save what is left with vltk store repair"
_DEEPEST = 32  # LMDB's own limit of a tree's depth (CURSOR_STACK)
_HEADER = _PAGE_HEADER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What the newer of the two meta pages says.

    Attributes:
        page_size: bytes a page.
        last_page: number of the last page ever used.
        root: page number of the main tree's root, or None where it is empty.
        entries: records in the main tree.
        depth: levels of the main tree.
        transaction: number of the transaction that wrote it.
    """

    page_size: int
    last_page: int
    root: int | None
    entries: int
    depth: int
    transaction: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a leaf page: its key, and where its value lies in the file, or None where it lies nowhere."""

    key: bytes
    offset: int | None
    size: int


class PageFile:
    """An LMDB 0.9 data file, read page by page.

    Args:
        path: the data file.
        damaged: accept damaged meta pages, because only :meth:`scan` will be asked.

    Raises:
        DataError: the file is missing, empty, cut off, damaged, of LMDB 1.0, or no LMDB file.
    """

    def __init__(self, path: Path, *, damaged: bool = False) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise DataError("does not exist", where=path, remedy="check the path of the store") from None
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", where=path, remedy="check its permissions") from None
        try:
            self.size = os.fstat(self._descriptor).st_size
            self.meta = self._read_meta(damaged)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer where the file ends."""
        return os.pread(self._descriptor, size, offset)

    def value(self, entry: Entry) -> bytes:
        """Return the value of a record, empty where it lies nowhere."""
        return b"" if entry.offset is None else self.read(entry.offset, entry.size)

    def _read_meta(self, damaged: bool) -> Meta:
        head = self.read(0, 64)
        if not head:
            raise DataError("is empty (0 bytes)", where=self.path, remedy="write the store again or copy it again")
        magic = _MAGIC.to_bytes(4, "little")
        # Version 1.0 has a longer page header: 24 bytes in files of 1.0.2, 20 by some descriptions of it.
        if magic in (head[20:24], head[24:28]):
            problem = "is an LMDB 1.0 file, and vltk reads format 0.9"
            remedy = "dump it with mdb_dump of LMDB 1.0 and load it with mdb_load of LMDB 0.9"
            raise DataError(problem, where=self.path, remedy=remedy)
        if head[16:20] != magic and not (damaged and self._meta_at(_USUAL_PAGE_SIZE, _USUAL_PAGE_SIZE)):
            raise DataError("is not an LMDB file", where=self.path, remedy="check the path of the store")
        page_size = int.from_bytes(head[40:44], "little")
        if page_size not in _PAGE_SIZES:
            if damaged:
                page_size = _USUAL_PAGE_SIZE
            else:
                raise DataError(f"claims pages of {page_size} bytes", where=self.path, remedy=_SAVE)
        if self.size < 2 * page_size:
            raise DataError(f"is cut off: {self.size} bytes are no LMDB file", where=self.path, remedy="copy it again")
        metas = [meta for offset in (0, page_size) if (meta := self._meta_at(offset, page_size))]
        if damaged and not metas:
            return Meta(page_size=page_size, last_page=0, root=None, entries=0, depth=0, transaction=0)
        # The older meta page alone would show the store as it was before its last transaction.
        if len(metas) < 2 and not damaged:
            raise DataError("has a damaged meta page", where=self.path, remedy=_SAVE)
        return max(metas, key=lambda meta: meta.transaction)

    def _meta_at(self, offset: int, page_size: int) -> Meta | None:
        page = self.read(offset, _HEADER + _META.size)
        if len(page) < _HEADER + _META.size:
            return None
        flags = _PAGE_HEADER.unpack_from(page)[2]
        magic, version, _, _, _, main, last_page, transaction = _META.unpack_from(page, _HEADER)
        if magic != _MAGIC or version != 1 or not flags & _META_FLAG:
            return None
        _, _, depth, _, _, _, entries, root = _DATABASE.unpack(main)
        return Meta(
            page_size=page_size,
            last_page=last_page,
            root=None if root == _EMPTY else root,
            entries=entries,
            depth=depth,
            transaction=transaction,
        )

    def refuse_cut_off(self, path: Path) -> None:
        """Refuse a file that ends before a page that its tree refers to.

        Raises:
            DataError: it does, with both sizes.
        """
        needed = (self.meta.last_page + 1) * self.meta.page_size
        # LMDB may leave free pages at the very end unwritten, so a short file alone proves nothing.
        if self.size < needed and self.fault() is not None:
            problem = f"is cut off: {self.size} bytes, {needed} were written"
            raise DataError(problem, where=path, remedy=_SAVE)

    def fault(self) -> str | None:
        """Return the first reason not to let LMDB follow the numbers of the tree's pages, or None.

        LMDB itself checks none of them: a flipped bit in one ends the process with SIGBUS.
        """
        waiting = [] if self.meta.root is None else [(self.meta.root, self.meta.depth)]
        seen = set[int]()
        while waiting:
            number, depth = waiting.pop()
            page = self._page(number)
            is_leaf = depth == 1
            flags = 0 if page is None else _PAGE_HEADER.unpack_from(page)[2]
            if page is None or flags != (_LEAF if is_leaf else _BRANCH) or depth < 1 or number in seen:
                return f"page {number} is missing or damaged"
            seen.add(number)
            children = self._children(page, is_leaf=is_leaf)
            if children is None:
                return f"page {number} refers to what is not there"
            waiting += [(child, depth - 1) for child in children]
        return None

    def _children(self, page: bytes, *, is_leaf: bool) -> list[int] | None:
        size = self.meta.page_size
        _, _, _, lower, upper = _PAGE_HEADER.unpack_from(page)
        if not _HEADER <= lower <= upper <= size or lower % 2:
            return None
        words = np.frombuffer(page, "<u2").astype(np.int64)
        starts = words[_HEADER // 2 : lower // 2]
        if ((starts < upper) | (starts > size - _NODE.size) | (starts % 2 == 1)).any():
            return None
        low, high, flags, key_size = (words[starts // 2 + i] for i in range(4))
        value_at = starts + _NODE.size + key_size
        if not is_leaf:
            return None if (value_at > size).any() else (low | high << 16 | flags << 32).tolist()
        sizes, is_large = low | high << 16, flags & _BIG_DATA > 0
        if (value_at + np.where(is_large, 8, sizes) > size).any():
            return None
        pointers = np.frombuffer(page, np.uint8)[value_at[is_large, None] + np.arange(8)].view("<u8").ravel()
        if (pointers > self.size // size).any():
            return None
        ends = pointers.astype(np.int64) * size + _HEADER + sizes[is_large]
        return None if (ends > self.size).any() else []

    def entries(self, report: Callable[[str], None]) -> Iterator[Entry]:
        """Yield the records of the main tree in the order of their keys; damage goes to ``report``, one line each."""
        if self.meta.root is not None:
            yield from self._below(self.meta.root, min(self.meta.depth, _DEEPEST), report, set())

    def _below(self, number: int, depth: int, report: Callable[[str], None], seen: set[int]) -> Iterator[Entry]:
        # A damaged branch may point back at its parents, so that no page may be visited twice.
        page = None if number in seen else self._page(number)
        seen.add(number)
        flags = _PAGE_HEADER.unpack_from(page)[2] if page else 0
        expected = _LEAF if depth <= 1 else _BRANCH
        if page is None or not flags & expected:
            report(f"page {number} is missing or damaged")
            return
        if flags & _LEAF:
            yield from self._leaf(page, number, report)
            return
        for low, high, top, _ in self._nodes(page, number, report):
            yield from self._below(low | high << 16 | top << 32, depth - 1, report, seen)

    def scan(self) -> Iterator[Entry]:
        """Yield every record of every page that still looks like a leaf, found without the tree.

        Old versions of a record may come as well; the caller tells good from bad by the record's checksum.
        """
        number, last = 2, self.size // self.meta.page_size
        while number < last:
            page = self._page(number)
            step = 1
            if page is not None:
                _, _, flags, lower, upper = _PAGE_HEADER.unpack_from(page)
                if flags & _LEAF:
                    yield from self._leaf(page, number, lambda _: None)
                elif flags & _OVERFLOW:
                    step = max(1, lower | upper << 16)
            number += step

    def _page(self, number: int) -> bytes | None:
        size = self.meta.page_size
        page = self.read(number * size, size) if number <= self.size // size else b""
        return page if len(page) == size and int.from_bytes(page[:8], "little") == number else None

    def _nodes(self, page: bytes, number: int, report: Callable[[str], None]) -> Iterator[tuple[int, int, int, int]]:
        lower, upper = _PAGE_HEADER.unpack_from(page)[3:]
        if not _HEADER <= lower <= upper <= len(page):
            report(f"page {number} is damaged")
            return
        for position in range(_HEADER, lower, 2):
            start = int.from_bytes(page[position : position + 2], "little")
            if not upper <= start <= len(page) - _NODE.size:
                report(f"page {number} has a damaged entry")
                continue
            low, high, top, key_size = _NODE.unpack_from(page, start)
            if start + _NODE.size + key_size > len(page):
                report(f"page {number} has a damaged key")
                continue
            yield low, high, top, start

    def _leaf(self, page: bytes, number: int, report: Callable[[str], None]) -> Iterator[Entry]:
        for low, high, flags, start in self._nodes(page, number, report):
            key_size = _NODE.unpack_from(page, start)[3]
            key_at = start + _NODE.size
            value_at, size = key_at + key_size, low | high << 16
            key = page[key_at:value_at]
            if flags & (_SUB_DATABASE | _DUPLICATES):
                continue
            offset: int | None = None
            if flags & _BIG_DATA:
                offset = self._overflow(page[value_at : value_at + 8], size)
            elif value_at + size <= len(page):
                offset = number * self.meta.page_size + value_at
            yield Entry(key, offset, size)

    def _overflow(self, pointer: bytes, size: int) -> int | None:
        start = int.from_bytes(pointer, "little") * self.meta.page_size
        head = self.read(start, _HEADER) if len(pointer) == 8 and start < self.size else b""
        if len(head) < _HEADER or start + _HEADER + size > self.size:
            return None
        number, _, flags, _, _ = _PAGE_HEADER.unpack(head)
        return start + _HEADER if flags & _OVERFLOW and number * self.meta.page_size == start else None


def data_file(path: Path) -> Path:
    """Return the data file of an environment, which is a folder with a data.mdb or the file itself."""
    return path / "data.mdb" if path.is_dir() else path


def check_file(path: Path) -> Meta:
    """Refuse what must not be given to LMDB, before anything is mapped.

    Args:
        path: the folder of an environment, or its data file.

    Raises:
        DataError: missing, empty, cut off, damaged, of LMDB 1.0, or no LMDB file.
    """
    with PageFile(data_file(path)) as file:
        file.refuse_cut_off(path)
        if (fault := file.fault()) is not None:
            remedy = "vltk store verify tells what is damaged, vltk store repair saves the rest"
            raise DataError(f"is damaged, {fault}", where=path, remedy=remedy)
        return file.meta
