"""The examples of a task in one LMDB store, in the order of their annotation file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, get_args

import msgpack
import numpy as np
from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

from vltk.errors import DataError
from vltk.stores.record_store import DamagedRecordError, RecordStore, RecordWriter, encode_id, key_of
from vltk.types import Example, Parse, Phrase, Target, Tokens

_CHECKSUM = struct.Struct("<Q")
_POSITION = struct.Struct(">Q")  # big endian, so that LMDB's order is the order of writing
_TARGETS = {kind.__name__: kind for kind in get_args(Target)}
_PARTS = {"tokens": Tokens, "parses": Parse, "phrases": Phrase}
_PARAPHRASE_PARTS = {"paraphrase_tokens": Tokens, "paraphrase_parses": Parse}


@dataclass(frozen=True, kw_only=True)
class TokenizerDescription:
    """Which tokenizer made the word pieces of a store.

    Attributes:
        name: model id, folder or vocabulary file.
        vocab_size: number of word pieces.
        vocab_sha256: hash of the vocabulary.
        special_ids: name -> id, e.g. {"[CLS]": 101}.
    """

    name: str
    vocab_size: int
    vocab_sha256: str
    special_ids: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExampleMetadata:
    """What the examples of a store were made from.

    Attributes:
        task: name of the task.
        split: e.g. "train".
        tokenizer: which one made the word pieces, or None where there are none.
        sources: annotation file name -> sha256.
        created_by: program and version.
        extra: anything else, as JSON values.
    """

    task: str = ""
    split: str = ""
    tokenizer: TokenizerDescription | None = None
    sources: dict[str, str] = field(default_factory=dict)
    created_by: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def _encode(example: Example, key: bytes) -> bytes:
    # Fields that stand at their default are left out: most examples have no parses, phrases, paraphrases.
    everything = asdict(example)
    plain = {f.name: everything[f.name] for f in fields(example) if getattr(example, f.name) != f.default}
    if example.target is not None:
        kind = type(example.target).__name__
        if _TARGETS.get(kind) is not type(example.target):
            problem = f"has a target of kind {kind}, a store knows {', '.join(_TARGETS)}"
            raise DataError(problem, where=f"example {example.id}", remedy="use one of them")
        plain["target"] = [kind, plain["target"]]
    try:
        body: bytes = msgpack.packb(plain, default=_plain_number)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"cannot be stored ({error})", where=f"example {example.id}", remedy="fix the reader") from None
    return _CHECKSUM.pack(_checksum(body, key)) + body


def _checksum(body: bytes | memoryview, key: bytes) -> int:
    return int(xxh3_64_intdigest(body, xxh3_64_intdigest(key)))


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a value of {type(value).__name__}")


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _built(kind: type, plain: dict[str, Any]) -> Any:
    return kind(**{name: _frozen(value) for name, value in plain.items()})


def _decode(record: bytes | memoryview, key: bytes) -> Example:
    body = memoryview(record)[_CHECKSUM.size :]
    if len(record) < _CHECKSUM.size or _CHECKSUM.unpack_from(record)[0] != _checksum(body, key):
        raise DamagedRecordError("its checksum does not match")
    try:
        plain = msgpack.unpackb(body)
        for name, kind in _PARTS.items():
            if name in plain:
                plain[name] = tuple(_built(kind, part) for part in plain[name])
        for name, kind in _PARAPHRASE_PARTS.items():
            if name in plain:
                plain[name] = tuple(tuple(_built(kind, part) for part in own) for own in plain[name])
        if "target" in plain:
            kind_name, target = plain["target"]
            plain["target"] = _built(_TARGETS[kind_name], target)
        example: Example = _built(Example, plain)
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
        raise DamagedRecordError(f"it is no example ({type(error).__name__}: {error})") from None
    return example


class ExampleStore(RecordStore):
    """The examples of one task and split, in the order of writing and by id.

    Raises:
        DataError: missing, damaged, unfinished, or of another schema.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp() + "/examples.lmdb"
        >>> with ExampleStore.create(folder, ExampleMetadata(task="flickr30k", split="val")) as writer:
        ...     writer.put(Example(id="1#0", image_ids=("1",), texts=("A dog.",)))
        >>> ExampleStore.open(folder).get("1#0").texts
        ('A dog.',)
    """

    schema = "vltk.examples"
    prefix = b"n"

    @classmethod
    def create(cls, path: str | Path, metadata: ExampleMetadata, *, overwrite: bool = False) -> ExampleWriter:
        """Begin or resume a store, see :class:`ExampleWriter`."""
        return ExampleWriter(path, metadata, overwrite=overwrite)

    @classmethod
    def metadata_of(cls, plain: dict[str, Any]) -> ExampleMetadata:
        """Return the metadata that the header holds as plain values."""
        tokenizer = plain["tokenizer"] and TokenizerDescription(**plain["tokenizer"])
        return ExampleMetadata(**{**plain, "tokenizer": tokenizer})

    @property
    def metadata(self) -> ExampleMetadata:
        """What the examples were made from."""
        return self.metadata_of(self._header.metadata)

    @classmethod
    def checked(cls, key: bytes, record: bytes) -> Example:
        """Return the example of a record after everything about it was checked.

        Raises:
            DamagedRecordError: it is not what was written.
            DataError: it was written, but breaks a rule of :class:`Example`.
        """
        return _decode(record, key)

    @classmethod
    def digest(cls, key: bytes, record: bytes) -> int:
        """Return the record's share of the content hash; its position is not part of it."""
        return int(xxh3_128_intdigest(record[_CHECKSUM.size :]))

    def ids(self) -> list[str]:
        """Return all ids in the order of writing."""
        by_position = sorted((position, key) for key, position in self._environment.items(b"i"))
        return [key[1:].decode() for _, key in by_position]

    def get(self, example_id: str) -> Example:
        """Return one example.

        Raises:
            DataError: no such example, or a damaged record.
        """
        position = self._environment.get(key_of(example_id))
        if position is None:
            raise self._unknown(example_id)
        key = b"n" + bytes(position)
        try:
            example = _decode(self._environment.get(key) or b"", key)
            if example.id != example_id:
                raise DamagedRecordError(f"the index leads to {example.id!r}")
        except DamagedRecordError as error:
            raise self._damaged(example_id, error) from None
        return example

    def __iter__(self) -> Iterator[Example]:
        for key, record in self._environment.items(b"n"):
            try:
                yield _decode(record, key)
            except DamagedRecordError as error:
                raise self._damaged(f"number {int.from_bytes(key[1:])}", error) from None


class ExampleWriter(RecordWriter):
    """The single writer of an example store, as a context manager.

    Leaving the block cleanly finishes the store: commit, compact, mark as complete. Leaving it with an exception
    keeps what was put; creating the store again with equal metadata resumes it.

    Args:
        path: the folder of the store.
        metadata: what the examples are made from.
        overwrite: delete what stands at ``path``.

    Raises:
        DataError: begun with other metadata, of another schema, or another writer is at work.
    """

    schema = ExampleStore.schema
    fields: ClassVar[dict[str, Any]] = {item.name: item.type for item in fields(Example)}
    metadata: ExampleMetadata

    def put(self, example: Example) -> None:
        """Add one example; putting an equal one again changes nothing.

        Raises:
            DataError: the id is there with other content, or a target of an unknown kind.
            VltkError: the disk is full.
        """
        index = b"i" + encode_id(example.id)
        position = self._get(index)
        key = b"n" + (_POSITION.pack(len(self)) if position is None else position)
        record = _encode(example, key)
        digest = ExampleStore.digest(key, record)
        stored = None if position is None else self._get(key)
        if not self._is_repeated(example.id, None if stored is None else ExampleStore.digest(key, stored), digest):
            self._add({index: key[1:], key: record}, digest)
