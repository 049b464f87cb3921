"""LMDB environments: format 0.9 only, one a file and process, one writer, and never a half-read error code.

Everything that vltk reads from or writes to LMDB, its own stores and foreign ones, passes through this module.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from vltk.errors import DataError, VltkError
from vltk.stores.pages import Entry, PageFile, check_file, data_file
from vltk.stores.whole_files import sync

LOCK_NAME = "write.lock"
_COMPACT_NAME = "compact.tmp"
_FIRST_MAP = 1 << 28
_LARGE_FILE = 1 << 27
_COPY_BYTES = 32 << 20
_LARGEST_STEP = 1 << 36


def _open(path: Path, **options: Any) -> lmdb.Environment:
    # Locks are vltk's own (see WriteLock): LMDB's would need a writable folder to read, and 128 reader slots.
    common: dict[str, Any] = {"subdir": False, "lock": False, "meminit": False, **options}
    try:
        # py-lmdb 3 carries two engines; 0 is format 0.9, whatever LMDB_DEFAULT_LIB_VERSION asks for.
        return lmdb.open(str(path), lib_version=0, **common)
    except TypeError:
        return lmdb.open(str(path), **common)


class _Mapped(np.ndarray[Any, Any]):
    """The bytes of a mapped value; as the base of whatever shows parts of it, it keeps the map alive."""

    environment: ReadEnvironment


class ReadEnvironment:
    """A read-only environment, shared by everything in this process that reads the same file.

    Made by :func:`open_read`. The environment is closed when neither a reader nor an array refers to it. A forked
    process goes on reading through the inherited one: it is a read-only map without locks or reader slots.

    Args:
        path: the data file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.identity = path, _identity(path)
        self._size = path.stat().st_size
        with _plain_errors(path):
            self._environment = _open(path, readonly=True, readahead=False, create=False)

    def __len__(self) -> int:
        return int(self._environment.stat()["entries"])

    def get(self, key: bytes) -> memoryview | None:
        """Return the mapped value of a key, which keeps the map alive as do the arrays made from it, or None."""
        try:
            with self._environment.begin(buffers=True) as transaction:
                value = transaction.get(key)
            if value is None:
                return None
            if len(value) > self._size:
                raise lmdb.CorruptedError(f"a value of {len(value)} bytes in a file of {self._size}")
            mapped = _Mapped((len(value),), np.uint8, value)
            mapped.environment = self
            return memoryview(mapped)  # type: ignore[arg-type]  # arrays are buffers, which 3.11 cannot say
        except lmdb.BadValsizeError:
            return None
        except lmdb.Error as error:
            raise _sentence(self.path, error) from None

    def keys(self, prefix: bytes = b"") -> Iterator[bytes]:
        """Yield the keys that start with ``prefix`` in ascending order of their bytes."""
        with _plain_errors(self.path), self._environment.begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(prefix or b"\0"):
                yield from itertools.takewhile(lambda key: key.startswith(prefix), cursor.iternext(values=False))

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, copied value) of the keys that start with ``prefix`` in ascending order."""
        with _plain_errors(self.path), self._environment.begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(prefix or b"\0"):
                yield from itertools.takewhile(lambda item: item[0].startswith(prefix), cursor.iternext())


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_registry: weakref.WeakValueDictionary[tuple[int, ...], ReadEnvironment] = weakref.WeakValueDictionary()
_registry_lock = threading.Lock()


_write_locks: weakref.WeakSet[WriteLock] = weakref.WeakSet()


def _after_fork() -> None:
    # Another thread of the parent may have held the lock at the moment of the fork.
    global _registry_lock
    _registry_lock = threading.Lock()
    # A child that outlives a killed writer must not keep its lock.
    for lock in _write_locks:
        lock.release()


os.register_at_fork(after_in_child=_after_fork)


def open_read(path: str | Path, *, checked: tuple[int, ...] | None = None) -> ReadEnvironment:
    """Return the process's read-only environment of an LMDB 0.9 file, once its pages were found to be sound.

    Args:
        path: the folder of the environment, or its data file.
        checked: the ``identity`` of an environment that another process checked; the same file is not checked again.

    Raises:
        DataError: missing, empty, cut off, damaged, of LMDB 1.0, or no LMDB file.
    """
    file = data_file(Path(path))
    with _registry_lock:
        identity = _identity(file) if file.exists() else ()
        # A store that was written anew is another file at the same path, while arrays may still show the old one.
        environment = _registry.get(identity[:2])
        if identity != checked and (environment is None or environment.identity != identity):
            check_file(Path(path))
        if environment is None:
            environment = _registry[identity[:2]] = ReadEnvironment(file)
    return environment


class WriteLock:
    """The right to write one store, which ends with the process at the latest.

    Args:
        folder: the store.
        shared: only keep writers away (for readers of a store that is not finished).

    Raises:
        DataError: another process, or another writer of this one, holds it.
    """

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self._path = folder / LOCK_NAME
        while True:
            self._descriptor = os.open(self._path, os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError:
                os.close(self._descriptor)
                problem = "is being written by another process" if shared else "is in use by another process"
                raise DataError(problem, where=folder, remedy="wait until it has ended") from None
            # The last holder removes the file, so that a lock may have been taken on a name that is gone.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(self._descriptor).st_ino == self._path.stat().st_ino:
                    break
            os.close(self._descriptor)
        self._release = weakref.finalize(self, os.close, self._descriptor)
        _write_locks.add(self)

    def release(self, *, remove: bool = False) -> None:
        """Give the right back; ``remove`` the lock file with it."""
        if remove and self._release.alive:
            self._path.unlink(missing_ok=True)
        self._release()


class WriteEnvironment:
    """The single writer of a folder's data.mdb: whole transactions, a map that grows, an atomic finish.

    Args:
        folder: the store; made where it does not exist.

    Raises:
        DataError: another writer is at work.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "data.mdb"
        self._made_folder, self._process = not folder.exists(), os.getpid()
        if folder.is_file():
            raise DataError("is a file, and a store is a folder", where=folder, remedy="name another path")
        with _plain_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.lock = WriteLock(folder)
            self.interrupted = (folder / _COMPACT_NAME).exists()
            """Whether an earlier writer was killed while it finished."""
            (folder / _COMPACT_NAME).unlink(missing_ok=True)
        self._environment: lmdb.Environment | None = None
        self._reader: ReadEnvironment | None = None

    @property
    def exists(self) -> bool:
        """Whether something was committed before."""
        return self.file.exists()

    def remove(self) -> None:
        """Delete what was written before; readers of it keep their file."""
        self.close()
        self.file.unlink(missing_ok=True)

    def detach(self) -> None:
        """Put a copy in the place of the file, so that those who read the old one see no change."""
        self.close()
        copy = self.folder / _COMPACT_NAME
        with _plain_errors(self.folder, discard=copy):
            shutil.copyfile(self.file, copy)
            self._put_in_place(copy)

    def get(self, key: bytes) -> bytes | None:
        """Return the committed value of a key, or None."""
        if self._environment is None:
            # A finished store may be read in this process too, and LMDB opens a file once.
            self._reader = self._reader or (open_read(self.file) if self.exists else None)
            mapped = self._reader.get(key) if self._reader else None
            return None if mapped is None else bytes(mapped)
        with _plain_errors(self.folder), self._environment.begin() as transaction:
            value: bytes | None = transaction.get(key)
            return value

    def commit(self, items: dict[bytes, bytes]) -> None:
        """Write all items in one transaction, or none of them.

        Raises:
            VltkError: the disk is full.
            DataError: the map cannot grow, or the file is damaged.
        """
        with _plain_errors(self.folder):
            while True:
                environment = self._opened()
                try:
                    with environment.begin(write=True) as transaction:
                        for key, value in items.items():
                            transaction.put(key, value)
                    return
                except lmdb.MapFullError:
                    self._grow(sum(map(len, items.values())))

    def finish(self, items: dict[bytes, bytes]) -> None:
        """Commit ``items`` as the last ones, and put a compact copy in the place of the file in one step.

        Where the disk has no room for the copy, the file stays as large as it is.

        Raises:
            VltkError: the disk is full.
        """
        compact = self.folder / _COMPACT_NAME
        with _plain_errors(self.folder, discard=compact):
            compact.touch()  # a killed finish is known by it, see ``interrupted``
            self.commit(items)
            try:
                self._copy_compact(compact)
                self._put_in_place(compact)
            except (lmdb.Error, OSError) as error:
                if not _is_full(error):
                    raise
                compact.unlink()
        self.lock.release(remove=True)

    def close(self) -> None:
        """Close the environment; the lock stays."""
        self._reader = None
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def release(self, *, complete: bool = False) -> None:
        """Close the environment and give the lock back; a folder made for nothing is removed.

        Args:
            complete: nothing more is to come; readers of an unfinished file need the lock file to keep writers away.
        """
        self.close()
        self.lock.release(remove=complete or not self.exists)
        if self._made_folder and not self.exists:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def _opened(self) -> lmdb.Environment:
        if os.getpid() != self._process:
            remedy = "write in the process that opened it, or a part store in each"
            raise DataError("is written by the process that this one was forked from", where=self.folder, remedy=remedy)
        if self._environment is None:
            self._reader = None
            if self.exists:
                check_file(self.file)
                if _identity(self.file)[:2] in _registry:
                    remedy = "close the reader first"
                    raise DataError("is being read in this process", where=self.folder, remedy=remedy)
            size = self.file.stat().st_size if self.exists else 0
            self._environment = _open(self.file, map_size=size + _FIRST_MAP)
        return self._environment

    def _grow(self, needed: int) -> None:
        environment = self._opened()
        size = int(environment.info()["map_size"])
        try:
            environment.set_mapsize(size + min(size, _LARGEST_STEP) + 2 * needed)
        except (lmdb.Error, OverflowError, MemoryError) as error:
            problem = f"the map of {size} bytes is full and cannot grow ({error})"
            remedy = "raise the limit of the address space (ulimit -v); what was committed is kept"
            raise DataError(problem, where=self.folder, remedy=remedy) from None

    def _copy_compact(self, target: Path) -> None:
        if self.file.stat().st_size > _LARGE_FILE:
            self._copy_records(target)
            return
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            self._opened().copyfd(descriptor, True)
        finally:
            os.close(descriptor)

    def _copy_records(self, target: Path) -> None:
        # LMDB's own copy reads through the map, so that a whole large store counts as resident memory of this process.
        problems: list[str] = []
        copy = _open(target, map_size=self.file.stat().st_size + _FIRST_MAP, sync=False)
        try:
            with PageFile(self.file) as source:
                entries = source.entries(problems.append)
                while self._copy_some(copy, source, entries):
                    pass
        finally:
            copy.close()
        if problems:
            raise DataError(problems[0], where=self.folder, remedy="save the rest with vltk store repair")

    def _copy_some(self, copy: lmdb.Environment, source: PageFile, entries: Iterator[Entry]) -> bool:
        """Copy the next records in one transaction; return whether there may be more."""
        size = 0
        with copy.begin(write=True) as transaction:
            for entry in entries:
                if entry.offset is None:
                    problem = f"the value of {entry.key!r} lies nowhere"
                    raise DataError(problem, where=self.folder, remedy="save the rest with vltk store repair")
                transaction.put(entry.key, source.value(entry), append=True)
                size += entry.size
                if size > _COPY_BYTES:
                    return True
        return False

    def _put_in_place(self, copy: Path) -> None:
        meta = check_file(copy)
        descriptor = os.open(copy, os.O_RDWR)
        try:
            # LMDB leaves free pages at the end unwritten; with them the file's size proves that it is whole.
            os.ftruncate(descriptor, max(copy.stat().st_size, (meta.last_page + 1) * meta.page_size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.close()
        copy.replace(self.file)
        sync(self.folder)


@contextlib.contextmanager
def _plain_errors(path: Path, *, discard: Path | None = None) -> Iterator[None]:
    try:
        yield
    except (lmdb.Error, OSError, VltkError) as error:
        if discard is not None:
            with contextlib.suppress(OSError):
                discard.unlink(missing_ok=True)
        if isinstance(error, VltkError):
            raise
        raise _sentence(path, error) from None


# LMDB calls a write that stopped short, which is how a disk fills up, an input/output error.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _is_full(error: Exception) -> bool:
    # py-lmdb tells a full disk only in words.
    if isinstance(error, lmdb.DiskError) or getattr(error, "errno", None) in _FULL:
        return True
    return any(os.strerror(code) in str(error) for code in _FULL)


def _sentence(path: Path, error: Exception) -> VltkError:
    words = str(error)
    if _is_full(error):
        remedy = "free some space and run the same command again; what was committed is kept"
        return VltkError("the disk is full, over its quota or failing", where=path, remedy=remedy)
    if isinstance(error, OSError):
        return VltkError(error.strerror or words, where=path, remedy="check the folder and its permissions")
    remedy = "vltk store verify tells what is damaged, vltk store repair saves the rest"
    return DataError(f"LMDB cannot read it ({words})", where=path, remedy=remedy)
