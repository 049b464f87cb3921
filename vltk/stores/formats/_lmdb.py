"""Foreign LMDB environments, read page by page: a damaged or hostile one is a sentence, never a crash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from vltk.errors import DataError
from vltk.stores.pages import Entry, PageFile, data_file


class ForeignLMDB:
    """The records of an LMDB 0.9 environment that another program wrote; iterates over its keys in their order.

    Args:
        path: the folder of the environment, or its data file.

    Raises:
        DataError: missing, empty, cut off, damaged, of LMDB 1.0, or no LMDB file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = PageFile(data_file(path))
        try:
            self._entries = self._table()
        except BaseException:
            self._file.close()
            raise

    def _table(self) -> dict[bytes, Entry]:
        problems: list[str] = []
        table: dict[bytes, Entry] = {}
        for entry in self._file.entries(problems.append):
            table[entry.key] = entry
        if problems:
            raise DataError(f"is damaged: {problems[0]}", where=self.path, remedy="get an undamaged copy")
        return table

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def value(self, key: bytes) -> bytes:
        """Return the value of a key.

        Raises:
            DataError: there is no such key.
        """
        if key not in self._entries:
            raise DataError(f"lists {key.decode('utf-8', 'replace')!r} but holds no such key", where=self.path)
        return self._file.value(self._entries[key])
