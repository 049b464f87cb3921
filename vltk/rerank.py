"""Two-stage retrieval: a cheap first stage proposes candidates, a joint encoder ranks them anew.

What the second stage scored stands above what it did not, in the order of its own scores; the rest keeps the order of
the first stage. With as many candidates as there are items the result is that of the second stage alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError

Direction = Literal["t2i", "i2t"]
_BLOCK = 1 << 24  # numbers that are looked at together


def propose(
    first: NDArray[Any],
    *,
    candidates: int,
    directions: Sequence[Direction] = ("t2i", "i2t"),
    fold_of: NDArray[np.integer] | None = None,
    columns: NDArray[np.integer] | None = None,
) -> NDArray[np.bool_]:
    """Return which pairs the second stage scores: the best of the first stage for each query.

    A pair that either direction proposes is scored once and counts in both. Of equal scores the item that stands first
    is proposed.

    Args:
        first: [C, I] scores of the first stage, a row for each text; higher is better.
        candidates: pictures of each text, and texts of each picture; more than there are means all.
        directions: whose queries propose: "t2i" texts, "i2t" pictures.
        fold_of: [I] the fold of each picture where a protocol searches each fold alone; it is proposed within folds.
        columns: [C] the picture of each text, which puts it into a fold.

    Returns:
        [C, I] bool.

    Raises:
        UsageError: no candidates.
        DataError: a score of the first stage is NaN.

    Example:
        >>> propose(np.array([[3.0, 2.0, 1.0], [5.0, 4.0, 6.0]]), candidates=1, directions=["t2i"]).astype(int).tolist()
        [[1, 0, 0], [0, 0, 1]]
    """
    if candidates < 1:
        raise UsageError(f"{candidates} candidates leave nothing to rank", where="--candidates", remedy="use 1 or more")
    wanted = np.zeros(first.shape, np.bool_)
    for rows, items in searched_together(first.shape, fold_of, columns):
        for direction in directions:
            scores = first if direction == "t2i" else first.T
            marks = wanted if direction == "t2i" else wanted.T
            queries, found = (rows, items) if direction == "t2i" else (items, rows)
            step = max(1, _BLOCK // max(1, len(found)))
            for start in range(0, len(queries), step):
                part = queries[start : start + step]
                _mark_best(scores, marks, part, found, candidates)
    return wanted


def searched_together(
    shape: tuple[int, ...], fold_of: NDArray[np.integer] | None, columns: NDArray[np.integer] | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the rows and columns of a [C, I] matrix that are compared with each other: everything, or fold by fold.

    Args:
        shape: of the matrix.
        fold_of: [I] the fold of each picture, or None.
        columns: [C] the picture of each text; needed with folds.
    """
    if fold_of is None or columns is None:
        yield np.arange(shape[0]), np.arange(shape[1])
        return
    for fold in np.unique(fold_of):
        yield np.flatnonzero(fold_of[columns] == fold), np.flatnonzero(fold_of == fold)


def _mark_best(
    scores: NDArray[Any],
    marks: NDArray[np.bool_],
    queries: NDArray[np.int64],
    items: NDArray[np.int64],
    candidates: int,
) -> None:
    """Mark the best items of some queries, all of them where there are not more."""
    part = np.asarray(scores[queries][:, items])
    if np.isnan(part).any():
        row, column = (int(place) for place in np.argwhere(np.isnan(part))[0])
        problem = f"the first stage has no score of query {queries[row]} and item {items[column]} (from 0)"
        raise DataError(problem, where="--rerank-from", remedy="give a whole matrix, or one of this protocol")
    if candidates >= len(items):
        marks[np.ix_(queries, items)] = True
        return
    last = np.partition(part, len(items) - candidates, axis=1)[:, len(items) - candidates, None]
    better, equal = part > last, part == last
    room = candidates - np.count_nonzero(better, axis=1, keepdims=True)
    chosen = better | (equal & (np.cumsum(equal, axis=1) <= room))
    marks[np.ix_(queries, items)] |= chosen


def recall_ceiling(wanted: NDArray[np.bool_], columns: NDArray[np.integer]) -> dict[Direction, float]:
    """Return the share of queries whose right answer is among the candidates: no second stage can do better.

    Args:
        wanted: [C, I] of :func:`propose`.
        columns: [C] the picture that each text belongs to.

    Example:
        >>> recall_ceiling(np.array([[True, False], [False, False], [True, True]]), np.array([0, 0, 1]))
        {'t2i': 0.6666666666666666, 'i2t': 1.0}
    """
    right = wanted[np.arange(len(columns)), columns]
    found = np.zeros(wanted.shape[1], np.bool_)
    np.logical_or.at(found, columns, right)
    return {"t2i": float(right.mean()), "i2t": float(found.mean())}


def merged_scores(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Return one matrix that ranks as both stages together do.

    Args:
        first: [C, I] scores of the first stage; NaN where pairs are never compared.
        second: [C, I] scores of the second stage; NaN where there is none.

    Returns:
        [C, I] fp64: scores of the second stage as they are, below all of them those of the first, moved.

    Raises:
        DataError: the shapes differ, or the second stage scored nothing.

    Example:
        >>> merged_scores(np.array([[0.9, 0.8, 0.1]]), np.array([[-3.0, np.nan, np.nan]])).round(1).tolist()
        [[-3.0, -4.0, -4.7]]
    """
    if first.shape != second.shape:
        problem = f"the stages have the shapes {first.shape} and {second.shape}"
        raise DataError(problem, remedy="score the same texts and images")
    scored = ~np.isnan(second)
    if not scored.any():
        raise DataError("the second stage scored no pair", remedy="let it end first")
    merged = second.astype(np.float64)
    others = first[~scored].astype(np.float64)
    if len(others):
        # A whole unit below, so that rounding cannot bring the two together.
        merged[~scored] = others - (np.nanmax(others, initial=-np.inf) - float(merged[scored].min()) + 1)
    return merged
