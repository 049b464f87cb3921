"""Score matrices as files: what a model says of every text against every picture, to be measured without the model.

A matrix is two files of one name. ``NAME.npy`` is numpy's plain format, [C, I] numbers, one row a text and one column
a picture; a pair that was not scored holds NaN. ``NAME.json`` is its card; any tool can write it::

    {"format": "vltk-scores-1", "texts": ["1007#0", "1007#1"], "images": ["1007", "1009"], "image_of": ["1007", "1007"],
     "pairs": 4, "sha256": "of the .npy file", "provenance": {"weights": "..."}}

``image_of`` names the picture that each text belongs to. ``pairs`` (how many numbers are scores), ``sha256`` and
``provenance`` may be left out; while a matrix is being computed there is no ``sha256``, and the scores that are there
can be gone on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError
from vltk.stores._array_card import array_files, as_json, check_digest, read_array, read_card, sha256_of, write_card
from vltk.stores.score_matrix import ScoreMatrix

FORMAT = "vltk-scores-1"
_KEYS = {"format", "texts", "images", "image_of", "pairs", "sha256", "provenance"}
_BLOCK = 1 << 24  # numbers that are filled together
_SHOWN = 3


def read_scores(path: Path) -> ScoreMatrix:
    """Read a score matrix; its numbers stay on the disk until they are looked at.

    Args:
        path: the ``.npy`` file, the ``.json`` file, or their common name.

    Raises:
        DataError: a file is missing, damaged or of another kind, the two do not fit, or scores are missing.
    """
    array_path, card_path = array_files(path)
    card = _read_card(card_path)
    matrix = _checked(card, read_array(array_path), array_path)
    _check_content(matrix, card, array_path)
    return matrix


def write_scores(path: Path, matrix: ScoreMatrix) -> None:
    """Write a matrix that is in memory, whole or not at all; scores are kept in their type.

    Raises:
        UsageError: there is another matrix under this name.
    """
    file = ScoreFile(path, matrix, dtype=matrix.scores.dtype, resume=False)
    file.scores[:] = matrix.scores
    file.finish()


class ScoreFile:
    """A matrix that is being computed: scores can be written in any order, and what a kill leaves is gone on from.

    A new file is filled with NaN before anything else, and one that is there goes on if it was begun for the same
    texts, images and provenance; so a number that is not NaN is a score, whatever happened.

    Args:
        path: ``.npy`` file, or the common name of both files.
        like: ids and provenance of the matrix; its scores are not looked at.
        dtype: of the scores.
        resume: go on with a file that is there.
        overwrite: replace a file that is there.

    Raises:
        UsageError: there is a file, which was begun for something else or may not be gone on with.
        DataError: the file that is there is damaged.

    Attributes:
        scores: [C, I] the numbers in the file, to be read and written.
    """

    def __init__(
        self,
        path: Path,
        like: ScoreMatrix,
        *,
        dtype: Any = np.float32,
        resume: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.path, self.card_path = array_files(path)
        self.card = _card_of(like)
        if overwrite:
            self.card_path.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        begun = self.card_path.is_file()
        if begun:
            self._compare(resume=resume)
        elif self.path.exists():
            remedy = "name another file, or overwrite it"
            raise UsageError(f"is there without its card {self.card_path.name}", where=self.path, remedy=remedy)
        if not (begun and self.path.exists()):
            self._begin(like.scores.shape, dtype)
        self.scores = read_array(self.path, mode="r+")
        _checked(self.card, self.scores, self.path)

    def _compare(self, *, resume: bool) -> None:
        there = _read_card(self.card_path)
        if not resume:
            raise UsageError("is there already", where=self.path, remedy="name another file, or overwrite it")
        changed = [key for key in self.card if there.get(key) != self.card[key] and key != "provenance"]
        before, now = there.get("provenance", {}), self.card["provenance"]
        changed += [key for key in before.keys() | now.keys() if before.get(key) != now.get(key)]
        if changed:
            problem = f"was begun for something else ({', '.join(sorted(changed)[:_SHOWN])} differ)"
            raise UsageError(problem, where=self.path, remedy="name another file, or overwrite it")
        self.card |= {key: there[key] for key in ("pairs", "sha256") if key in there}

    def _begin(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_card(self.card_path, self.card)
        # Under its own name the file is never seen before it is full of NaN.
        fresh = self.path.with_name(f".{self.path.name}.new")
        scores = np.lib.format.open_memmap(fresh, mode="w+", dtype=dtype, shape=shape)
        rows = max(1, _BLOCK // shape[1])
        for start in range(0, shape[0], rows):
            scores[start : start + rows] = np.nan
        scores.flush()
        fresh.replace(self.path)

    @property
    def finished(self) -> bool:
        """Whether everything that was asked for is there."""
        return "sha256" in self.card

    def flush(self) -> None:
        """Bring what was written to the disk."""
        self.scores.flush()

    def finish(self) -> None:
        """Say that everything that was asked for is there."""
        self.flush()
        matrix = _checked(self.card, self.scores, self.path)
        self.card |= {"pairs": matrix.pairs(), "sha256": sha256_of(self.path)}
        write_card(self.card_path, self.card)

    def matrix(self) -> ScoreMatrix:
        """Return what is there."""
        return _checked(self.card, self.scores, self.path)


def score_files(path: Path) -> tuple[Path, Path]:
    """Return the two files of a matrix, numbers and card, from either or from their common name."""
    return array_files(path)


# -- reading --------------------------------------------------------------------------------------------------------


def _card_of(matrix: ScoreMatrix) -> dict[str, Any]:
    ids = {"texts": list(matrix.text_ids), "images": list(matrix.image_ids), "image_of": list(matrix.image_of)}
    return {"format": FORMAT, **ids, "provenance": as_json(matrix.provenance)}


def _read_card(path: Path) -> dict[str, Any]:
    return read_card(path, form=FORMAT, keys=_KEYS, lists=("texts", "images", "image_of"))


def _checked(card: Mapping[str, Any], array: NDArray[Any], path: Path) -> ScoreMatrix:
    return ScoreMatrix(
        scores=array,
        text_ids=card["texts"],
        image_ids=card["images"],
        image_of=card["image_of"],
        provenance=card.get("provenance", {}),
        name=str(path),
    )


def _check_content(matrix: ScoreMatrix, card: Mapping[str, Any], path: Path) -> None:
    check_digest(path, card)
    found, wanted = matrix.pairs(), card.get("pairs", matrix.scores.size)
    if found != wanted:
        row, column = (int(place) for place in np.argwhere(np.isnan(matrix.scores))[0]) if found < wanted else (0, 0)
        problem = f"{found} of {wanted} scores are there"
        if found < wanted:
            pair = f"text {matrix.text_ids[row]!r} against image {matrix.image_ids[column]!r}"
            problem = f"{problem}, the first that is NaN is of {pair}"
        raise DataError(problem, where=path, remedy="let the command that computes it end, or compute it again")
