"""Embeddings as files: one vector for each text or picture, beside a card.

``NAME.npy`` is numpy's plain format, [N, H] numbers; ``NAME.json`` is its card, which any tool can write::

    {"format": "vltk-embeddings-1", "ids": ["1007", "1009"], "sha256": "of the .npy file", "provenance": {}}

``sha256`` and ``provenance`` may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError
from vltk.stores._array_card import array_files, as_json, check_digest, read_array, read_card, sha256_of, write_card

FORMAT = "vltk-embeddings-1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """One vector for each id.

    Attributes:
        ids: N ids, each once.
        vectors: [N, H] of a floating type.
        provenance: what made them, as JSON values.
        name: what to call them in errors.

    Raises:
        DataError: another number of vectors than ids, an id twice, or numbers that are not floating.

    Example:
        >>> Embeddings(ids=("a", "b"), vectors=np.eye(2)).vectors.shape
        (2, 2)
    """

    ids: Sequence[str]
    vectors: NDArray[Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "embeddings"

    def __post_init__(self) -> None:
        shape, kind = self.vectors.shape, self.vectors.dtype
        if len(shape) != 2 or shape[0] != len(self.ids) or kind.kind != "f":
            problem = f"holds {kind} of the shape {shape} for {len(self.ids)} ids"
            raise DataError(problem, where=self.name, remedy="give one vector of floating numbers for each id")
        if len(set(self.ids)) < len(self.ids):
            raise DataError("names an id twice", where=self.name, remedy="every id stands once")


def write_embeddings(path: Path, embeddings: Embeddings, *, overwrite: bool = False) -> None:
    """Write embeddings as ``NAME.npy`` and ``NAME.json``.

    Raises:
        UsageError: they are there already.
    """
    array_path, card_path = array_files(path)
    if card_path.exists() and not overwrite:
        raise UsageError("is there already", where=card_path, remedy="name another file, or overwrite it")
    array_path.parent.mkdir(parents=True, exist_ok=True)
    # Numbers without a card were cut short.
    card_path.unlink(missing_ok=True)
    fresh = array_path.with_name(f".{array_path.name}.new")
    with fresh.open("wb") as file:
        np.save(file, np.ascontiguousarray(embeddings.vectors), allow_pickle=False)
    fresh.replace(array_path)
    told = {"provenance": as_json(embeddings.provenance), "sha256": sha256_of(array_path)}
    write_card(card_path, {"format": FORMAT, "ids": list(embeddings.ids), **told})


def read_embeddings(path: Path) -> Embeddings:
    """Read embeddings; the vectors stay on the disk until they are looked at.

    Args:
        path: the ``.npy`` file, the ``.json`` file, or their common name.

    Raises:
        DataError: a file is missing, damaged or of another kind, the two do not fit, or a number is not finite.
    """
    array_path, card_path = array_files(path)
    keys = {"format", "ids", "sha256", "provenance"}
    card = read_card(card_path, form=FORMAT, keys=keys, lists=("ids",))
    vectors = read_array(array_path)
    check_digest(array_path, card)
    found = Embeddings(ids=card["ids"], vectors=vectors, provenance=card.get("provenance", {}), name=str(array_path))
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        problem = f"the vector of {found.ids[int(bad.argmax())]!r} is not finite"
        raise DataError(problem, where=array_path, remedy="embed it again")
    return found
