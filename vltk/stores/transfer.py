"""Brings foreign files into stores and hands stores on as foreign files."""

from __future__ import annotations

import hashlib
import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import vltk
from vltk.errors import DataError, UsageError
from vltk.stores.examples import ExampleMetadata, ExampleStore, TokenizerDescription
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.record_store import read_header
from vltk.types import Example, Progress, RegionFeatures

CREATED_BY = f"vltk {vltk.__version__}"


class _Writer(Protocol):
    def put(self, record: Any, /) -> None: ...


def load_format(name: str) -> ModuleType:
    """Import a module of ``vltk.stores.formats`` by the format's name."""
    return importlib.import_module(f"vltk.stores.formats.{name}")


def require_source(source: Path) -> None:
    """Refuse a path where nothing is.

    Raises:
        DataError: there is no such file or folder.
    """
    if not source.exists():
        raise DataError("does not exist", where=source, remedy="check the path")


def holds_examples(module: ModuleType) -> bool:
    """Whether a format holds examples instead of region features."""
    return getattr(module, "HOLDS", "regions") == "examples"


def feature_metadata(name: str, source: Path, options: Any, **known: Any) -> FeatureMetadata:
    """Return the metadata of a store that is imported: equal for the same import, so that it can be resumed."""
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    extra = {"format": name, "options": plain}
    return FeatureMetadata(created_by=CREATED_BY, source=str(source), extra=extra, **known)


def import_features(
    records: Iterable[RegionFeatures],
    out: Path,
    metadata: FeatureMetadata,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FeatureStore:
    """Write records that a format's ``read`` yields into a feature store, or go on where that was interrupted.

    Raises:
        DataError: no records, a broken one (those before it are kept), or another store at ``out``.
    """
    records = _not_empty(records, metadata.source)
    with FeatureStore.create(out, metadata, overwrite=overwrite) as writer:
        _put_all(records, writer, out, progress)
    return FeatureStore.open(out)


def import_examples(
    examples: Iterable[Example],
    out: Path,
    metadata: ExampleMetadata,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExampleStore:
    """Write examples that a format yields into an example store, or go on where that was interrupted.

    Raises:
        DataError: no examples, a broken one (those before it are kept), or another store at ``out``.
    """
    examples = _not_empty(examples, ", ".join(metadata.sources))
    with ExampleStore.create(out, metadata, overwrite=overwrite) as writer:
        _put_all(examples, writer, out, progress)
    return ExampleStore.open(out)


def _not_empty(records: Iterable[Any], source: str) -> Iterator[Any]:
    # The first record is read before anything is made, so that a wrong file leaves nothing behind.
    iterator = iter(records)
    try:
        first = next(iterator)
    except StopIteration:
        raise DataError("holds nothing", where=source, remedy="check the path and the format") from None
    return itertools.chain([first], iterator)


def _put_all(records: Iterator[Any], writer: _Writer, out: Path, progress: Progress | None) -> None:
    try:
        for record in records:
            writer.put(record)
            if progress:
                progress(1)
    except DataError as error:
        kept = f"what came before it is kept in {out}, and the same command goes on there"
        remedy = kept if error.remedy is None else f"{error.remedy}; {kept}"
        raise DataError(error.problem, where=error.where, remedy=remedy) from None


def example_metadata(name: str, source: Path, options: Any) -> ExampleMetadata:
    """Return the metadata of an example store that is imported, with the hashes of the source's files."""
    files = sorted(file for file in source.iterdir() if file.is_file()) if source.is_dir() else [source]
    # A folder of precomputed features holds gigabytes beside its captions.
    sources = {file.name: _sha256(file) for file in files if file.suffix in (".json", ".txt", ".mdb")}
    extra: dict[str, Any] = {"format": name}
    module = load_format(name)
    tokenizer = None
    if hasattr(module, "read_meta"):
        extra["meta"] = module.read_meta(source)
        tokenizer = _tokenizer(extra["meta"], getattr(options, "vocab", None))
    return ExampleMetadata(
        sources=sources or {source.name: ""}, tokenizer=tokenizer, created_by=CREATED_BY, extra=extra
    )


def _tokenizer(meta: dict[str, Any], vocab: Path | None) -> TokenizerDescription:
    name = next((str(meta[key]) for key in ("bert", "tokenizer", "toker") if key in meta), "")
    special = {f"[{key}]": int(meta[key]) for key in ("CLS", "SEP", "MASK", "UNK") if isinstance(meta.get(key), int)}
    span = meta.get("v_range")
    size = int(span[1]) if isinstance(span, list) and len(span) == 2 else 0
    digest = "" if vocab is None else _sha256(vocab)
    return TokenizerDescription(name=name, vocab_size=size, vocab_sha256=digest, special_ids=special)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_for(module: ModuleType, path: Path) -> FeatureStore | ExampleStore:
    """Open the store at ``path`` if it is of the kind that a format holds.

    Raises:
        UsageError: it is of the other kind.
        DataError: no store, or a damaged one.
    """
    wanted = ExampleStore if holds_examples(module) else FeatureStore
    schema = read_header(path).schema
    if schema != wanted.schema:
        problem = f"{path} is a store of {schema}, and the format holds {wanted.schema}"
        raise UsageError(problem, remedy="choose another format or another store")
    return wanted.open(path)


def captions_of(module: ModuleType) -> Callable[..., Iterator[Example]]:
    """Return what reads the captions of a format.

    Raises:
        UsageError: the format holds none.
    """
    reader: Callable[..., Iterator[Example]] | None = getattr(module, "read_examples", None)
    if reader is None:
        name = module.__name__.rpartition(".")[2]
        raise UsageError(f"the format {name} holds no captions", remedy="leave --captions out")
    return reader
