"""Recalls of image-text retrieval, counted and not sorted: exact, in blocks, with a stated policy for ties.

A rank is 1 + the number of wrong answers that score better than the best right one; wrong answers with exactly its
score count as better (``ties="against"``), because a model that gives everything one score has found nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.metrics.protocol import RETRIEVAL_PROTOCOLS, RetrievalProtocol, Ties, split_hash

RECALLS = (1, 5, 10)
DIRECTIONS = ("i2t", "t2i")
# Hits of a block are added up in bytes, which cannot hold more rows.
_ROWS = 255

Span = slice | NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalResult:
    """What a score matrix is worth under a protocol.

    Attributes:
        figures: R@1, 5, 10 in percent, median and mean rank each way, and ``rsum``, the sum of the six recalls (the
            Meta-Sum of IAIS); means over the folds.
        folds: the same figures of each fold.
        i2t: [I] rank of the best caption of each image, from 1, within its fold.
        t2i: [K] rank of the image of each caption that counts.
        captions: [K] which captions count.
        image_of: [K] the row of the image of each of them.
        fold_of: [I] the fold of each image.
        card: what a second figure must share to be comparable.
    """

    figures: dict[str, float]
    folds: tuple[dict[str, float], ...]
    i2t: NDArray[np.int64]
    t2i: NDArray[np.int64]
    captions: NDArray[np.int64]
    image_of: NDArray[np.int64]
    fold_of: NDArray[np.int64]
    card: dict[str, object]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the figures as results.json holds them: metric, value, n, unit, higher_is_better."""
        for name, value in self.figures.items():
            n = len(self.i2t) if name.startswith("i2t") else len(self.t2i)
            rank = name.endswith("rank")
            unit = "rank" if rank else "percent"
            yield {"metric": name, "value": value, "n": n, "unit": unit, "higher_is_better": not rank}


def evaluate_retrieval(
    scores: NDArray[Any],
    image_of: NDArray[np.integer],
    *,
    image_ids: Sequence[str],
    caption_ids: Sequence[str],
    protocol: RetrievalProtocol = RETRIEVAL_PROTOCOLS["split"],
    ties: Ties = "against",
) -> RetrievalResult:
    """Return the recalls of a score matrix under a protocol.

    Memory beyond the matrix is that of a block of 255 images.

    Args:
        scores: [I, C] higher is better; any number type, any memory order.
        image_of: [C] the row of each caption's image.
        image_ids: I names; folds are cut in this order.
        caption_ids: C names.
        protocol: how the split is cut.
        ties: whether a wrong answer with exactly the right one's score ranks before it.

    Raises:
        DataError: shapes or counts that do not fit each other or the protocol, a score that is NaN, an image without
            captions, an image of no row.

    Example:
        >>> scores = np.array([[0.9, 0.8, 0.1, 0.2], [0.3, 0.7, 0.6, 0.5]])
        >>> result = evaluate_retrieval(scores, np.array([0, 0, 1, 1]), image_ids="ab", caption_ids="wxyz")
        >>> result.i2t.tolist(), result.t2i.tolist(), result.figures["i2t_r1"], result.figures["t2i_r1"]
        ([1, 2], [1, 1, 1, 1], 50.0, 100.0)
    """
    images = image_of.astype(np.int64)
    _check_shapes(scores, images, image_ids, caption_ids)
    captions = captions_that_count(images, image_ids, protocol)
    fold_of = folds_of(len(image_ids), protocol)
    i2t, t2i = np.zeros(len(image_ids), np.int64), np.zeros(len(images), np.int64)
    folds = []
    for fold in range(protocol.folds):
        rows = np.flatnonzero(fold_of == fold)
        columns = captions[fold_of[images[captions]] == fold]
        i2t[rows], t2i[columns] = _both_ranks(scores, rows, columns, images[columns], ties)
        folds.append(fold_figures(i2t[rows], t2i[columns]))
    named = [str(fold) for fold in fold_of[images[captions]]]
    pictures = [image_ids[row] for row in images[captions]]
    split = split_hash([caption_ids[column] for column in captions], pictures, named)
    return RetrievalResult(
        figures={name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]},
        folds=tuple(folds),
        i2t=i2t,
        t2i=t2i[captions],
        captions=captions,
        image_of=images[captions],
        fold_of=fold_of,
        card=protocol.card(split=split, images=len(image_ids), captions=len(captions), ties=ties),
    )


def recall_figures(ranks: NDArray[np.integer], *, whole_median: bool = True) -> dict[str, float]:
    """Return R@1, R@5, R@10 in percent, median and mean rank of ranks from 1.

    Args:
        ranks: [N] ranks from 1.
        whole_median: round a median between two ranks down, as VSE++ and all after it do; video retrieval (HGR) does
            not.

    Example:
        >>> recall_figures(np.array([1, 4, 7, 30]))
        {'r1': 25.0, 'r5': 50.0, 'r10': 75.0, 'median_rank': 5.0, 'mean_rank': 10.5}
    """
    before = np.asarray(ranks) - 1.0
    median = np.median(before)
    recalls = {f"r{k}": 100.0 * int(np.count_nonzero(before < k)) / len(before) for k in RECALLS}
    middle = float(np.floor(median) if whole_median else median) + 1
    return recalls | {"median_rank": middle, "mean_rank": float(before.mean()) + 1}


def fold_figures(i2t: NDArray[np.integer], t2i: NDArray[np.integer]) -> dict[str, float]:
    """Return the figures of both directions under their names, and ``rsum``, the sum of the six recalls."""
    both = {"i2t": recall_figures(i2t), "t2i": recall_figures(t2i)}
    named = {f"{way}_{name}": value for way, figures in both.items() for name, value in figures.items()}
    return named | {"rsum": sum(named[f"{way}_r{k}"] for way in DIRECTIONS for k in RECALLS)}


def best_ranks(
    scores: NDArray[Any],
    queries: NDArray[np.integer],
    items: NDArray[np.integer],
    *,
    ties: Ties = "against",
) -> NDArray[np.int64]:
    """Return [Q] the rank of the best right item of each query, where a query may have any number of right items.

    Args:
        scores: [Q, N] of every item for every query.
        queries: [P] the query of each right pair.
        items: [P] the item of each right pair.
        ties: whether a wrong item with exactly the right one's score ranks before it.

    Raises:
        DataError: a score is NaN, or a query has no right item.

    Example:
        >>> best_ranks(np.array([[0.1, 0.9, 0.5]]), np.array([0, 0]), np.array([0, 2])).tolist()
        [2]
    """
    best, equal = _best_of(scores[queries, items], queries, len(scores), "query", ties)
    counts = np.zeros(len(scores), np.int64)
    for start, block in _blocks(scores, slice(None), slice(None), ("query", "item")):
        counts[start : start + len(block)] = _row_counts(block, best[start : start + len(block)], ties)
    ranks: NDArray[np.int64] = 1 + counts - equal
    return ranks


# -- counting -------------------------------------------------------------------------------------------------------


def _both_ranks(
    scores: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64], images: NDArray[np.int64], ties: Ties
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ranks of some images among some captions and the other way round, in one pass over the matrix."""
    right = scores[images, columns]
    place = np.searchsorted(rows, images)
    best, equal = _best_of(right, place, len(rows), "image", ties)
    own = _widened(right)
    i2t, t2i = np.zeros(len(rows), np.int64), np.zeros(len(columns), np.int64)
    if scores.strides[0] < scores.strides[1]:  # stored captions first: walk along the memory
        for start, block in _blocks(scores.T, _span(columns), _span(rows), ("caption", "image")):
            end = start + len(block)
            t2i[start:end] = _row_counts(block, own[start:end], ties)
            i2t += _column_counts(block, best, ties)
    else:
        for start, block in _blocks(scores, _span(rows), _span(columns), ("image", "caption")):
            end = start + len(block)
            i2t[start:end] = _row_counts(block, best[start:end], ties)
            t2i += _column_counts(block, own, ties)
    # With ties="against" the right image has been counted among those that are as good.
    return 1 + i2t - equal, t2i + (ties == "for")


def _best_of(
    right: NDArray[Any], queries: NDArray[np.integer], count: int, what: str, ties: Ties
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return each query's best score of a right item, and how many of its right items will be counted as no worse."""
    values = _widened(right)
    if np.isnan(values).any():
        raise DataError(
            "the score of a right pair is NaN", where="score matrix", remedy="find out why the model gives NaN"
        )
    alone = np.setdiff1d(np.arange(count), queries)
    if len(alone):
        raise DataError(
            f"{what} {alone[0]} (from 0) has no right answer", where="score matrix", remedy="leave it out of the split"
        )
    lowest = -np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).min
    best = np.full(count, lowest, values.dtype)
    np.maximum.at(best, queries, values)
    equal = np.bincount(queries[values == best[queries]], minlength=count) if ties == "against" else np.zeros(count)
    return best, equal.astype(np.int64)


def _row_counts(block: NDArray[Any], least: NDArray[Any], ties: Ties) -> NDArray[np.int64]:
    good = _no_worse(block, least[:, None], ties)
    return np.array([np.count_nonzero(row) for row in good], np.int64)


def _column_counts(block: NDArray[Any], least: NDArray[Any], ties: Ties) -> NDArray[np.int64]:
    good = _no_worse(block, least[None, :], ties)
    hits: NDArray[np.uint8] = np.add.reduce(good.view(np.uint8), axis=0, dtype=np.uint8)
    return hits.astype(np.int64)


def _no_worse(block: NDArray[Any], least: NDArray[Any], ties: Ties) -> NDArray[np.bool_]:
    good: NDArray[np.bool_] = block >= least if ties == "against" else block > least
    return good


def _blocks(
    scores: NDArray[Any], rows: Span, columns: Span, what: tuple[str, str]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield blocks of rows with the number of their first one, and refuse NaN."""
    numbers = np.arange(len(scores))[rows]
    for start in range(0, len(numbers), _ROWS):
        part = numbers[start : start + _ROWS]
        block = _widened(scores[_span(part)][:, columns])
        if np.isnan(block.max()):
            row, column = (int(place) for place in np.argwhere(np.isnan(block))[0])
            there = np.arange(scores.shape[1])[columns][column]
            where = f"score matrix, {what[0]} {part[row]}, {what[1]} {there} (from 0)"
            raise DataError("the score is NaN", where=where, remedy="find out why the model gives NaN")
        yield start, block


def _widened(values: NDArray[Any]) -> NDArray[Any]:
    # Half precision has no fast comparison.
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _span(numbers: NDArray[np.int64]) -> Span:
    """Return consecutive numbers as a slice, which copies nothing."""
    if len(numbers) and numbers[-1] - numbers[0] + 1 == len(numbers) and bool((np.diff(numbers) == 1).all()):
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers


# -- what a protocol asks for ---------------------------------------------------------------------------------------


def _check_shapes(
    scores: NDArray[Any], image_of: NDArray[np.int64], image_ids: Sequence[str], caption_ids: Sequence[str]
) -> None:
    wanted = (len(image_ids), len(caption_ids))
    if scores.shape != wanted or image_of.shape != wanted[1:]:
        problem = f"has the shape {scores.shape} for {wanted[0]} images and {wanted[1]} captions"
        raise DataError(problem, where="score matrix", remedy="give the matrix of this split")
    if scores.dtype.kind not in "fiu":
        raise DataError(f"holds {scores.dtype}", where="score matrix", remedy="give numbers")
    if not wanted[1]:
        raise DataError("the split has no caption", remedy="give a split with images and captions")
    outside = np.flatnonzero((image_of < 0) | (image_of >= wanted[0]))
    if len(outside):
        problem = (
            f"caption {caption_ids[outside[0]]} is of image {image_of[outside[0]]}, there are {wanted[0]} (from 0)"
        )
        raise DataError(problem, remedy="give every caption the row of its image")


def captions_that_count(
    image_of: NDArray[np.int64], image_ids: Sequence[str], protocol: RetrievalProtocol
) -> NDArray[np.int64]:
    """Return the columns of the first captions of each image, as many as the protocol takes.

    Args:
        image_of: [C] the row of each caption's image.
        image_ids: I names, for errors.
        protocol: how the split is cut.

    Raises:
        DataError: the split has not the images of the protocol, or an image too few captions.
    """
    where = f"protocol {protocol.name}"
    if protocol.images is not None and len(image_ids) != protocol.images:
        problem = f"the split has {len(image_ids)} images, the protocol {protocol.images}"
        raise DataError(problem, where=where, remedy="give the whole test split, or take the protocol 'split'")
    count = np.bincount(image_of, minlength=len(image_ids))
    needed = protocol.captions or 1
    if count.min() < needed:
        row = int(np.argmin(count >= needed))
        problem = f"image {image_ids[row]} has {count[row]} captions, {needed} are needed"
        raise DataError(problem, where=where, remedy="leave it out of the split, or take the protocol 'split'")
    columns = np.arange(len(image_of))
    if protocol.captions is None or count.max() == protocol.captions:
        return columns
    order = np.argsort(image_of, kind="stable")
    first = np.repeat(np.cumsum(count) - count, count)
    return np.sort(order[np.arange(len(order)) - first < protocol.captions])


def folds_of(images: int, protocol: RetrievalProtocol) -> NDArray[np.int64]:
    """Return [I] the fold of each image: consecutive blocks.

    Raises:
        DataError: fewer images than folds.
    """
    if images < protocol.folds:
        problem = f"{images} images cannot be cut into {protocol.folds} folds"
        raise DataError(problem, where=f"protocol {protocol.name}", remedy="take fewer folds")
    return np.arange(images, dtype=np.int64) * protocol.folds // images
