"""Arrays as plain npy files beside a JSON card that says what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vltk.errors import DataError, did_you_mean
from vltk.stores.whole_files import write_whole


def array_files(path: Path) -> tuple[Path, Path]:
    """Return the two files of an array, numbers and card, from either or from their common name."""
    stem = path.name.removesuffix(".npy").removesuffix(".json")
    return path.with_name(f"{stem}.npy"), path.with_name(f"{stem}.json")


def read_array(path: Path, *, mode: Any = "r") -> np.memmap[Any, Any]:
    """Open an npy file; its numbers stay on the disk until they are looked at.

    Raises:
        DataError: it is missing, cut off, or no npy file of numbers.
    """
    try:
        return np.lib.format.open_memmap(path, mode=mode)
    except FileNotFoundError as error:
        raise DataError("is not there", where=path, remedy="it is NAME.npy beside NAME.json") from error
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"is no whole npy file ({reason})", where=path, remedy="compute or copy it again") from error


def read_card(path: Path, *, form: str, keys: Collection[str], lists: Collection[str]) -> dict[str, Any]:
    """Read a card and check what stands in it.

    Args:
        path: the file.
        form: the format that it must say.
        keys: what may stand in it.
        lists: what must stand in it, each a list of texts.

    Raises:
        DataError: it is missing, no JSON, or says something else.
    """
    try:
        card = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError("there is no such card", where=path, remedy="it is NAME.json beside NAME.npy") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="expected the card of an array") from error
    if not isinstance(card, dict) or card.get("format") != form:
        found = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise DataError(f"says the format {found!r:.40}, expected {form!r}", where=path, remedy="give another file")
    for key in card:
        if key not in keys:
            raise DataError(f"has the key {key!r:.40}", where=path, remedy=did_you_mean(key, keys))
    for key in lists:
        ids = card.get(key)
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise DataError(f"{key} is {ids!r:.40}, expected a list of texts", where=path, remedy="list the ids")
    if not isinstance(card.get("provenance", {}), dict):
        raise DataError("provenance is no JSON object", where=path, remedy="say what made the numbers")
    return card


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write a card whole or not at all."""
    write_whole(path, [json.dumps(card) + "\n"])


def check_digest(path: Path, card: Mapping[str, Any]) -> None:
    """Make sure that an array is the file that its card describes, where it says so.

    Raises:
        DataError: it is not.
    """
    digest = card.get("sha256")
    if digest is not None and digest != sha256_of(path):
        raise DataError("is not the file that its card describes", where=path, remedy="compute or copy it again")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON gives them back, so that what was written compares equal."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return plain
