"""LMDB environments of other programs, written in small transactions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vltk.stores.lmdb_env import WriteEnvironment

_TRANSACTION_BYTES = 32 << 20


def write_lmdb(folder: Path, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Write an LMDB 0.9 environment of the given items, in small transactions."""
    writer = WriteEnvironment(folder)
    try:
        batch: dict[bytes, bytes] = {}
        size = 0
        for key, value in items:
            batch[key] = value
            size += len(value)
            if size > _TRANSACTION_BYTES:
                writer.commit(batch)
                batch, size = {}, 0
        writer.commit(batch)
        writer.finish({})
    finally:
        writer.release()
