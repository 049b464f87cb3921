"""What an owner of stores does with them: look, verify, merge parts, save what a damaged one still holds."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vltk.errors import DataError, UsageError
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.lmdb_env import LOCK_NAME, WriteLock, open_read
from vltk.stores.pages import Entry, PageFile, data_file
from vltk.stores.record_store import (
    HEADER_KEY,
    DamagedRecordError,
    Header,
    RecordStore,
    key_of,
    metadata_differences,
    no_header,
    read_header,
)
from vltk.types import Progress

STORES: tuple[type[RecordStore], ...] = (FeatureStore, ExampleStore)
"""The kinds of store that vltk writes."""

Store = FeatureStore | ExampleStore


def open_store(path: str | Path, *, unfinished: bool = False) -> Store:
    """Open a store of whatever schema.

    Args:
        path: the folder of the store.
        unfinished: accept one that is not complete, as long as nobody writes it.

    Raises:
        DataError: missing, damaged, unfinished, or of no schema that vltk knows.
    """
    header = read_header(path)
    return _kind(header.schema, Path(path)).open(path, unfinished=unfinished)  # type: ignore[return-value]


def _kind(schema: str, where: Path) -> type[RecordStore]:
    for kind in STORES:
        if kind.schema == schema:
            return kind
    known = " or ".join(kind.schema for kind in STORES)
    raise DataError(f"expected a store of schema {known}, found {schema}", where=where, remedy="update vltk")


def info(path: str | Path) -> dict[str, Any]:
    """Return what a store says about itself, and its size: apparent, and on the disk.

    Raises:
        DataError: no store, or a damaged one.
    """
    header, status = read_header(path), data_file(Path(path)).stat()
    with PageFile(data_file(Path(path))) as file:
        used = (file.meta.last_page + 1) * file.meta.page_size
    return {
        "path": str(path),
        "schema": header.schema,
        "version": header.version,
        "complete": header.complete,
        "records": header.count,
        "content_hash": header.content,
        "metadata": header.metadata,
        "fields": header.fields,
        "bytes_apparent": status.st_size,
        "bytes_on_disk": status.st_blocks * 512,
        "bytes_used": used,
    }


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What :func:`verify` found.

    Attributes:
        records: how many records were read.
        good: how many of them are what was written.
        problems: one line each, bad ids with their reason among them; at most as many as were asked for.
        problem_count: how many there are in all.
        complete: whether the writer finished.
        content_hash: of the good records.
    """

    records: int
    good: int
    problems: tuple[str, ...]
    problem_count: int
    complete: bool
    content_hash: str

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with what is there."""
        return not self.problem_count


class _Problems:
    def __init__(self, limit: int) -> None:
        self.limit, self.lines, self.count = limit, list[str](), 0

    def __call__(self, line: str) -> None:
        self.count += 1
        if len(self.lines) < self.limit:
            self.lines.append(line)


@contextmanager
def _unwritten(folder: Path) -> Iterator[None]:
    """Keep writers away from a store that is not read through its environment."""
    lock = WriteLock(folder, shared=True) if (folder / LOCK_NAME).exists() else None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def verify(path: str | Path, *, max_problems: int = 100, progress: Progress | None = None) -> Verification:
    """Check the whole of a store: pages, header, every record's checksums and rules, index, count, content hash.

    Args:
        path: the folder of the store; an unfinished one is checked as far as it got.
        max_problems: how many are described.
        progress: called with the number of records done.

    Raises:
        DataError: the file cannot be read as a store at all.
    """
    folder, problems = Path(path), _Problems(max_problems)
    with _unwritten(folder):
        with PageFile(data_file(folder)) as file:
            file.refuse_cut_off(folder)
            header = _header_in(file, folder)
            kind = _kind(header.schema, folder)
            digests = _verify_records(file, kind, problems, progress)
            if (fault := file.fault()) is not None:
                problems(fault)
        good = [digest for digest in digests.values() if digest is not None]
        content = f"{sum(good) % (1 << 128):032x}"
        if len(digests) != header.count:
            problems(f"the header counts {header.count} records, {len(digests)} are there")
        elif len(good) == len(digests) and content != header.content:
            problems(f"the records hash to {content}, the header says {header.content}")
        if not problems.count:
            _verify_lookup(folder, kind, digests.keys(), problems)
    return Verification(
        records=len(digests),
        good=len(good),
        problems=tuple(problems.lines),
        problem_count=problems.count,
        complete=header.complete,
        content_hash=content,
    )


def _verify_records(
    file: PageFile, kind: type[RecordStore], problems: _Problems, progress: Progress | None
) -> dict[bytes, int | None]:
    """Return the digest of each record by its key, None where it is bad."""
    digests: dict[bytes, int | None] = {}
    # What is wrong with the pages is said once, by PageFile.fault.
    for entry in file.entries(lambda _: None):
        if entry.key.startswith(kind.prefix):
            record = file.value(entry)
            reason = _fault(kind, entry, record)
            digests[entry.key] = kind.digest(entry.key, record) if reason is None else None
            if reason is not None:
                problems(f"{_shown(entry.key)}: {reason}")
            if progress is not None:
                progress(1)
    return digests


def _header_in(file: PageFile, folder: Path) -> Header:
    first = None
    for entry in file.entries(lambda _: None):
        if entry.key == HEADER_KEY:
            return Header.decode(file.value(entry), folder)
        first = first or entry.key
    if (fault := file.fault()) is not None:
        remedy = "save the records with vltk store repair"
        raise DataError(f"its header record cannot be reached, {fault}", where=folder, remedy=remedy)
    raise no_header(folder, first)


def _fault(kind: type[RecordStore], entry: Entry, record: bytes) -> str | None:
    if entry.offset is None:
        return "its value lies outside the file or on a damaged page"
    try:
        kind.checked(entry.key, record)
    except (DamagedRecordError, DataError, UnicodeDecodeError) as error:
        return str(error)
    return None


def _shown(key: bytes) -> str:
    return repr(key[1:].decode(errors="replace")) if key[:1] == b"i" else f"number {int.from_bytes(key[1:])}"


def _verify_lookup(folder: Path, kind: type[RecordStore], keys: Collection[bytes], problems: _Problems) -> None:
    """Check, once the pages are known to be sound, that LMDB itself finds every record by its id."""
    environment = open_read(folder)
    for key in keys:
        if environment.get(key) is None:
            problems(f"{_shown(key)}: is there, but not found by its key")
    if kind.prefix != b"i":
        index = dict(environment.items(b"i"))
        for key, position in index.items():
            if kind.prefix + position not in keys:
                problems(f"{_shown(key)}: its index entry leads nowhere")
        if len(index) != len(keys):
            problems(f"the index has {len(index)} ids for {len(keys)} records")
        for key in keys:
            record = environment.get(key)
            record_id = kind.checked(key, bytes(record)).id if record is not None else ""
            if index.get(key_of(record_id)) != key[1:]:
                problems(f"{record_id!r}: its index entry does not lead to it")


def merge(
    parts: Sequence[str | Path], out: str | Path, *, overwrite: bool = False, progress: Progress | None = None
) -> Store:
    """Join complete part stores of equal metadata into one; run again after a crash it goes on where it stopped.

    A record that several parts hold alike is kept once.

    Args:
        parts: folders of stores of one schema.
        out: the store to write.
        overwrite: delete what stands at ``out``.
        progress: called with the number of records done.

    Raises:
        UsageError: no parts, or ``out`` is one of them.
        DataError: parts of unequal metadata or schema, or one id with different records; nothing is written then.
        VltkError: the disk is full.
    """
    if not parts:
        raise UsageError("no stores to merge", remedy="name at least one")
    if any(Path(part).resolve() == Path(out).resolve() for part in parts):
        raise UsageError(f"{out} is one of the parts", remedy="write the merged store to another path")
    stores = [open_store(part) for part in parts]
    _check_equal_metadata(stores)
    _check_repeated_ids(stores)
    kind: type[RecordStore] = type(stores[0])
    with kind.create(out, stores[0].metadata, overwrite=overwrite) as writer:
        for store in stores:
            for record in store:
                writer.put(record)
                if progress is not None:
                    progress(1)
    return open_store(out)


def _check_equal_metadata(stores: Sequence[Store]) -> None:
    first = stores[0]
    for store in stores[1:]:
        store.header.require(first.schema, first.version, store.path)
        if differences := metadata_differences(first.header.metadata, store.header.metadata):
            problem = f"differs from {first.path} in {'; '.join(differences)}"
            raise DataError(problem, where=store.path, remedy="merge stores that were made alike")


def _check_repeated_ids(stores: Sequence[Store]) -> None:
    previous, holder = "", stores[0]
    numbered = [[(record_id, number) for record_id in sorted(store.ids())] for number, store in enumerate(stores)]
    for record_id, number in heapq.merge(*numbered):
        store = stores[number]
        if record_id == previous and not _equal(holder.get(record_id), store.get(record_id)):
            problem = f"{record_id!r} is in {holder.path} with other content"
            raise DataError(problem, where=store.path, remedy="remove it from one of them")
        previous, holder = record_id, store


def _equal(a: Any, b: Any) -> bool:
    return bool(a.equals(b)) if hasattr(a, "equals") else bool(a == b)


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What :func:`repair` saved.

    Attributes:
        saved: how many records the new store holds.
        lost: ids (or numbers) of records that were there and cannot be read.
        lost_unknown: how many more the header counted, of which not even the id is left.
        header_lost: the header could not be read, so that the metadata of the new store is empty.
    """

    saved: int
    lost: tuple[str, ...]
    lost_unknown: int
    header_lost: bool


def repair(source: str | Path, out: str | Path, *, overwrite: bool = False, progress: Progress | None = None) -> Repair:
    """Copy every readable record of a damaged store into a new one; the source is only read.

    Records are looked for page by page, so that neither a broken tree nor a cut-off file hides those that are whole.

    Args:
        source: the folder of the damaged store.
        out: the store to write.
        overwrite: delete what stands at ``out``.
        progress: called with the number of records done.

    Raises:
        UsageError: ``out`` is ``source``.
        DataError: not one record is readable, or the file is no LMDB file.
        VltkError: the disk is full.
    """
    if Path(source).resolve() == Path(out).resolve():
        raise UsageError("a store is not repaired in place", remedy="write the new store to another path")
    folder = Path(source)
    with _unwritten(folder), PageFile(data_file(folder), damaged=True) as file:
        header, kind, good, bad = _readable(file)
        if not good:
            raise DataError("holds no readable record", where=source, remedy="write it again from its source")
        with kind.create(out, _saved_metadata(header, kind, good, file), overwrite=overwrite) as writer:
            for key, entry in sorted(good.items()):
                writer.put(kind.checked(key, file.value(entry)))
                if progress is not None:
                    progress(1)
            if header is not None and not header.complete:
                writer.leave_unfinished()
    lost = tuple(sorted(_shown(key) for key in bad - good.keys()))
    counted = 0 if header is None else header.count
    return Repair(
        saved=len(good), lost=lost, lost_unknown=max(0, counted - len(good) - len(lost)), header_lost=header is None
    )


def _readable(file: PageFile) -> tuple[Header | None, type[RecordStore], dict[bytes, Entry], set[bytes]]:
    header = _latest_header(file)
    kinds = STORES if header is None else (_kind(header.schema, file.path),)
    good: dict[type[RecordStore], dict[bytes, Entry]] = {kind: {} for kind in kinds}
    bad: dict[type[RecordStore], set[bytes]] = {kind: set() for kind in kinds}
    for entry in file.scan():
        for kind in kinds:
            if entry.key.startswith(kind.prefix) and entry.key not in good[kind]:
                if _fault(kind, entry, file.value(entry)) is None:
                    good[kind][entry.key] = entry
                else:
                    bad[kind].add(entry.key)
    kind = max(kinds, key=lambda kind: len(good[kind]))
    return header, kind, good[kind], bad[kind]


def _latest_header(file: PageFile) -> Header | None:
    latest = None
    for entry in file.scan():
        if entry.key == HEADER_KEY:
            try:
                header = Header.decode(file.value(entry), file.path)
            except DataError:
                continue
            if latest is None or (header.count, header.complete) > (latest.count, latest.complete):
                latest = header
    return latest


def _saved_metadata(
    header: Header | None, kind: type[RecordStore], good: dict[bytes, Entry], file: PageFile
) -> FeatureMetadata | ExampleMetadata:
    if header is not None:
        metadata: FeatureMetadata | ExampleMetadata = kind.metadata_of(header.metadata)
        return metadata
    extra = {"repaired": "the header was lost"}
    if kind is not FeatureStore:
        return ExampleMetadata(extra=extra)
    key, entry = next(iter(good.items()))
    dtype = FeatureStore.checked(key, file.value(entry)).features.dtype.name
    return FeatureMetadata(dtype=dtype, extra=extra)  # type: ignore[arg-type]
