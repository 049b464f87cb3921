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

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError, did_you_mean
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
    array_path, card_path = score_files(path)
    card = _read_card(card_path)
    matrix = _checked(card, _read_array(array_path), array_path)
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
        self.path, self.card_path = score_files(path)
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
        self.scores = _read_array(self.path, mode="r+")
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
        self._write_card()
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
        self.card |= {"pairs": matrix.pairs(), "sha256": _sha256(self.path)}
        self._write_card()

    def matrix(self) -> ScoreMatrix:
        """Return what is there."""
        return _checked(self.card, self.scores, self.path)

    def _write_card(self) -> None:
        fresh = self.card_path.with_name(f".{self.card_path.name}.new")
        fresh.write_text(json.dumps(self.card) + "\n", "utf-8")
        fresh.replace(self.card_path)


def score_files(path: Path) -> tuple[Path, Path]:
    """Return the two files of a matrix, numbers and card."""
    stem = path.name.removesuffix(".npy").removesuffix(".json")
    return path.with_name(f"{stem}.npy"), path.with_name(f"{stem}.json")


# -- reading --------------------------------------------------------------------------------------------------------


def _card_of(matrix: ScoreMatrix) -> dict[str, Any]:
    ids = {"texts": list(matrix.text_ids), "images": list(matrix.image_ids), "image_of": list(matrix.image_of)}
    # As JSON gives it back, so that a resumed file compares equal.
    provenance = json.loads(json.dumps(dict(matrix.provenance), default=str))
    return {"format": FORMAT, **ids, "provenance": provenance}


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        problem = "there is no such card of a score matrix"
        raise DataError(problem, where=path, remedy="a matrix is NAME.npy beside NAME.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="expected the card of a matrix") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise DataError(f"says the format {found!r:.40}, expected {FORMAT!r}", where=path, remedy="give a score matrix")
    for key in card:
        if key not in _KEYS:
            raise DataError(f"has the key {key!r:.40}", where=path, remedy=did_you_mean(key, _KEYS))
    for key in ("texts", "images", "image_of"):
        ids = card.get(key)
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise DataError(f"{key} is {ids!r:.40}, expected a list of texts", where=path, remedy="list the ids")
    if not isinstance(card.get("provenance", {}), dict):
        raise DataError("provenance is no JSON object", where=path, remedy="say what made the scores")
    return card


def _read_array(path: Path, *, mode: Any = "r") -> np.memmap[Any, Any]:
    try:
        return np.lib.format.open_memmap(path, mode=mode)
    except FileNotFoundError as error:
        raise DataError("is not there", where=path, remedy="a matrix is NAME.npy beside NAME.json") from error
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"is no whole npy file ({reason})", where=path, remedy="compute or copy it again") from error


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
    digest = card.get("sha256")
    if digest is not None and digest != _sha256(path):
        raise DataError("is not the file that its card describes", where=path, remedy="compute or copy it again")
    found, wanted = matrix.pairs(), card.get("pairs", matrix.scores.size)
    if found != wanted:
        row, column = (int(place) for place in np.argwhere(np.isnan(matrix.scores))[0]) if found < wanted else (0, 0)
        problem = f"{found} of {wanted} scores are there"
        if found < wanted:
            pair = f"text {matrix.text_ids[row]!r} against image {matrix.image_ids[column]!r}"
            problem = f"{problem}, the first that is NaN is of {pair}"
        raise DataError(problem, where=path, remedy="let the command that computes it end, or compute it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
