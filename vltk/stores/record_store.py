"""What every store of vltk has in common: a self-describing header record, ids, small transactions and a finish.

Keys: the header is ``\\0vltk``; everything else starts with a letter that the kind of store chooses.
The header is ``VLTK``, the xxh3_64 of the rest, and JSON: schema, version, complete, count, content, metadata, fields.
``content`` is the sum modulo 2**128 of one hash a record, so that it does not depend on the order of writing.
"""

from __future__ import annotations

import json
import struct
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from xxhash import xxh3_64_intdigest

from vltk.errors import DataError, UsageError
from vltk.stores.lmdb_env import LOCK_NAME, ReadEnvironment, WriteEnvironment, WriteLock, open_read

HEADER_KEY = b"\0vltk"
_MAGIC = b"VLTK"
_CHECKSUM = struct.Struct("<4sQ")
_LONGEST_ID = 500  # LMDB's keys hold 511 bytes

# A transaction ends at the first of these; a crash loses no more.
TRANSACTION_RECORDS = 256
TRANSACTION_BYTES = 32 << 20
TRANSACTION_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header record of a store.

    Attributes:
        schema: e.g. "vltk.features".
        version: of the schema.
        complete: False until the writer finished.
        count: records.
        content: hash of the logical content, 32 hexadecimal digits.
        metadata: how the store was made.
        fields: the names of the stored fields with their type and shape.
    """

    schema: str
    version: int
    complete: bool
    count: int
    content: str
    metadata: dict[str, Any]
    fields: dict[str, Any]

    def encode(self) -> bytes:
        """Return the record's bytes."""
        body = json.dumps(asdict(self), sort_keys=True).encode()
        return _CHECKSUM.pack(_MAGIC, xxh3_64_intdigest(body)) + body

    @classmethod
    def decode(cls, record: bytes, where: Path) -> Self:
        """Read the record's bytes.

        Raises:
            DataError: they are damaged or of no vltk store.
        """
        damaged = DataError("the header record is damaged", where=where, remedy="save the rest with vltk store repair")
        if len(record) < _CHECKSUM.size:
            raise damaged
        magic, checksum = _CHECKSUM.unpack_from(record)
        body = record[_CHECKSUM.size :]
        if magic != _MAGIC or checksum != xxh3_64_intdigest(body):
            raise damaged
        plain = json.loads(body)
        return cls(**{field.name: plain[field.name] for field in fields(cls)})

    def require(self, schema: str, version: int, where: Path) -> None:
        """Refuse another schema or a later version of it.

        Raises:
            DataError: expected and found schema.
        """
        if self.schema != schema:
            remedy = "give a store of that schema"
            raise DataError(f"expected a store of schema {schema}, found {self.schema}", where=where, remedy=remedy)
        if self.version > version:
            problem = f"expected {schema} of version {version} or earlier, found version {self.version}"
            raise DataError(problem, where=where, remedy="update vltk")


def read_header(path: str | Path) -> Header:
    """Return the header of any vltk store.

    Raises:
        DataError: no vltk store, or a damaged one.
    """
    return _header_of(open_read(path), Path(path))


def _header_of(environment: ReadEnvironment, path: Path, expected: str = "a vltk schema") -> Header:
    record = environment.get(HEADER_KEY)
    if record is None:
        raise no_header(path, next(environment.keys(), None), expected)
    return Header.decode(bytes(record), path)


def no_header(path: Path, first_key: bytes | None, expected: str = "a vltk schema") -> DataError:
    """Return the refusal of an LMDB file that vltk did not write."""
    first = "it is empty" if first_key is None else f"first key {first_key[:40]!r}"
    problem = f"expected {expected}, found an LMDB without vltk's header ({first})"
    return DataError(problem, where=path, remedy="bring it in with vltk store import --format NAME")


def metadata_as_json(metadata: Any) -> dict[str, Any]:
    """Return a metadata dataclass as the plain values that a reader of the store gets.

    Raises:
        UsageError: a value that JSON does not know.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(asdict(metadata)))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the metadata is not plain JSON ({error})", remedy="use texts, numbers, lists, dicts"
        ) from None
    return plain


def metadata_differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return the names of the differing fields with both values; the creating program may differ."""
    names = sorted((a.keys() | b.keys()) - {"created_by"})
    return [f"{name} {a.get(name)!r} against {b.get(name)!r}" for name in names if a.get(name) != b.get(name)]


def encode_id(record_id: str) -> bytes:
    """Return the bytes of an id as they stand in a key.

    Raises:
        DataError: not a text, empty, or longer than LMDB's keys.
    """
    if not isinstance(record_id, str) or not record_id:
        raise DataError(f"id {record_id!r} is not a non-empty text", remedy="give every record an id")
    try:
        encoded = record_id.encode()
    except UnicodeEncodeError:
        raise DataError(f"id {record_id!r} is not valid Unicode", remedy="rename it") from None
    if len(encoded) > _LONGEST_ID:
        problem = f"id {record_id[:60]!r}... has {len(encoded)} bytes, a store holds {_LONGEST_ID}"
        raise DataError(problem, remedy="shorten it")
    return encoded


class DamagedRecordError(ValueError):
    """A record that cannot be what was written; the message says in which way."""


def key_of(record_id: str) -> bytes:
    """Return the key that an id is looked up by; unlike :func:`encode_id` it takes any text."""
    if not isinstance(record_id, str):
        raise UsageError(f"id {record_id!r} is not a text", remedy="look it up as a text")
    return b"i" + record_id.encode(errors="surrogatepass")


class RecordStore(ABC):
    """The reading side of a store; kinds of store add how a record is decoded."""

    schema: ClassVar[str]
    version: ClassVar[int] = 1
    prefix: ClassVar[bytes]
    """First byte of the keys of the records."""

    @classmethod
    @abstractmethod
    def checked(cls, key: bytes, record: bytes) -> Any:
        """Return what a record says after everything about it was checked.

        Raises:
            DamagedRecordError: it is not what was written.
            DataError: it was written, but breaks a rule of its type.
        """

    @classmethod
    @abstractmethod
    def digest(cls, key: bytes, record: bytes) -> int:
        """Return the record's share of the content hash."""

    @classmethod
    @abstractmethod
    def create(cls, path: str | Path, metadata: Any, *, overwrite: bool = False) -> RecordWriter:
        """Begin or resume a store."""

    @classmethod
    @abstractmethod
    def metadata_of(cls, plain: dict[str, Any]) -> Any:
        """Return the metadata that the header holds as plain values."""

    @property
    def metadata(self) -> Any:
        """How the store was made."""
        return self.metadata_of(self._header.metadata)

    @abstractmethod
    def ids(self) -> list[str]:
        """Return the ids of all records."""

    @abstractmethod
    def get(self, record_id: str) -> Any:
        """Return one record."""

    def __init__(self, path: str | Path, *, unfinished: bool = False) -> None:
        self.path = Path(path)
        self._unfinished = unfinished
        self._connect()
        if not self._header.complete and not unfinished:
            problem = f"is unfinished ({self._header.count} records so far)"
            raise DataError(problem, where=path, remedy="run the command that writes it again, it resumes")

    @classmethod
    def open(cls, path: str | Path, *, unfinished: bool = False) -> Self:
        """Open a store for reading.

        Args:
            path: the folder of the store.
            unfinished: accept one that is not complete, as long as nobody writes it.

        Raises:
            DataError: missing, damaged, unfinished, or of another schema.
        """
        return cls(path, unfinished=unfinished)

    def _connect(self, checked: tuple[int, ...] | None = None) -> None:
        guarded = self._unfinished and (self.path / LOCK_NAME).exists()
        self._lock = WriteLock(self.path, shared=True) if guarded else None
        self._environment = open_read(self.path, checked=checked)
        self._header = _header_of(self._environment, self.path, self.schema)
        self._header.require(self.schema, self.version, self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_unfinished": self._unfinished, "checked": self._environment.identity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        checked = state.pop("checked")
        self.__dict__.update(state)
        self._connect(checked)

    def __len__(self) -> int:
        return self._header.count

    def __contains__(self, record_id: object) -> bool:
        return isinstance(record_id, str) and self._environment.get(key_of(record_id)) is not None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {len(self)} records)"

    @property
    def header(self) -> Header:
        """What the store says about itself."""
        return self._header

    @property
    def content_hash(self) -> str:
        """Equal for two stores that hold equal records under equal ids, in whatever order, form or compression."""
        return self._header.content

    def _unknown(self, record_id: str) -> DataError:
        first = next(self._environment.keys(b"i"), None)
        remedy = "it is empty" if first is None else f"its ids look like {first[1:].decode(errors='replace')!r}"
        return DataError(f"holds no {record_id!r}", where=self.path, remedy=remedy)

    def _damaged(self, record_id: str, error: DamagedRecordError) -> DataError:
        remedy = "save the others with vltk store repair"
        return DataError(f"damaged record, {error}", where=f"{self.path}, id {record_id}", remedy=remedy)


class RecordWriter(ABC):
    """The single writer of a store, as a context manager.

    Leaving the block cleanly finishes the store: commit, compact, mark as complete. Leaving it with an exception
    keeps what was put; the same code again resumes.

    Args:
        path: the folder of the store.
        metadata: how it is made; a store that was begun with other metadata is refused.
        overwrite: delete what stands at ``path``.

    Raises:
        DataError: other metadata, another schema, or another writer at work.
    """

    schema: ClassVar[str]
    version: ClassVar[int] = 1
    fields: ClassVar[dict[str, Any]] = {}
    """The field table of a new store."""

    @abstractmethod
    def put(self, record: Any, /) -> None:
        """Add one record."""

    def __init__(self, path: str | Path, metadata: Any, *, overwrite: bool = False) -> None:
        self.path, self.metadata = Path(path), metadata
        plain = metadata_as_json(metadata)
        self._environment = WriteEnvironment(self.path)
        self._pending: dict[bytes, bytes] = {}
        self._pending_bytes = self._pending_records = 0
        self._last_commit = time.monotonic()
        self._failed, self._finishes = False, True
        try:
            self._header = self._begin(plain, overwrite)
        except BaseException:
            self._environment.release()
            raise
        self._count, self._content = self._header.count, int(self._header.content, 16)

    def _begin(self, plain: dict[str, Any], overwrite: bool) -> Header:
        environment = self._environment
        if overwrite and environment.exists:
            self._refuse_foreign()
            environment.remove()
        if not environment.exists:
            return Header(
                schema=self.schema,
                version=self.version,
                complete=False,
                count=0,
                content=f"{0:032x}",
                metadata=plain,
                fields=self.fields,
            )
        header = _header_of(open_read(self.path), self.path, self.schema)
        header.require(self.schema, self.version, self.path)
        if differences := metadata_differences(header.metadata, plain):
            problem = f"was begun with other settings: {'; '.join(differences)}"
            remedy = "use the same settings, another path, or --overwrite"
            raise DataError(problem, where=self.path, remedy=remedy)
        return header

    def _refuse_foreign(self) -> None:
        try:
            environment = open_read(self.path)
        except DataError:
            return  # damaged beyond reading: to write it anew is what the user asks for
        if environment.get(HEADER_KEY) is None and len(environment):
            remedy = "remove it yourself, or use another path"
            raise DataError("is not a store of vltk and will not be overwritten", where=self.path, remedy=remedy)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._finishes:
                self.finish()
            elif not self._failed:
                self.commit()
        finally:
            self._environment.release(complete=self._header.complete)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, record_id: object) -> bool:
        return isinstance(record_id, str) and self._get(key_of(record_id)) is not None

    def leave_unfinished(self) -> None:
        """Let the end of the block commit without finishing, because more is to come in another run."""
        self._finishes = False

    def commit(self) -> None:
        """Make everything that was put so far permanent.

        Raises:
            VltkError: the disk is full; what was committed before is kept.
        """
        if not self._pending:
            return
        try:
            if self._header.complete:
                self._environment.detach()
            header = replace(self._header, complete=False, count=self._count, content=f"{self._content:032x}")
            self._environment.commit({**self._pending, HEADER_KEY: header.encode()})
        except BaseException:
            self._failed = True
            raise
        self._header = header
        self._pending = {}
        self._pending_bytes = self._pending_records = 0
        self._last_commit = time.monotonic()

    def finish(self) -> None:
        """Commit, compact and mark the store as complete; a complete store that got nothing new is left alone."""
        self.commit()
        if not self._header.complete or self._environment.interrupted:
            self._header = replace(self._header, complete=True)
            self._environment.finish({HEADER_KEY: self._header.encode()})

    def _get(self, key: bytes) -> bytes | None:
        return self._pending.get(key) or self._environment.get(key)

    def _add(self, items: dict[bytes, bytes], digest: int) -> None:
        self._pending.update(items)
        self._pending_records += 1
        self._pending_bytes += sum(map(len, items.values()))
        self._count += 1
        self._content = (self._content + digest) % (1 << 128)
        if (
            self._pending_records >= TRANSACTION_RECORDS
            or self._pending_bytes >= TRANSACTION_BYTES
            or time.monotonic() - self._last_commit >= TRANSACTION_SECONDS
        ):
            self.commit()

    def _is_repeated(self, record_id: str, stored: int | None, digest: int) -> bool:
        if stored is None:
            return False
        if stored != digest:
            problem = f"{record_id!r} is in the store already, with other content"
            raise DataError(problem, where=self.path, remedy="give every record an id of its own")
        return True
