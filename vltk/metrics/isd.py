"""Intra-modal Self-attention Distance with annotation: ISDa (Ren et al., ACL 2021, section 2).

An object of a caption has word pieces and regions. How much the words of one object attend to those of another is
compared with how much its regions attend to the other's regions; where a model relates words as it relates regions, the
distance is small. No code was ever published for it and the paper leaves several things open, so that every reading is
a field of :class:`Reading`. The defaults follow the one piece of the authors' code that computes the same distance, the
loss of IAIS: probabilities are averaged over the heads first, and the distance is divided by the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError

Groups = Sequence[Sequence[int]]
"""For each object the places of its word pieces, or of its regions."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the open places of the definition are read.

    Attributes:
        heads: "mean" averages attention over the heads before objects are extracted; "each" takes the distance of each
            head and averages these.
        softmax: "before" extracts objects from probabilities, "after" from scores and normalises over objects then.
        renormalised: with "before": let the rows sum to 1 again, as a divergence wants, after what does not belong to
            an object was dropped.
        rows: "mean" over the objects that relations come from, or "sum" as equation 8 has it.
    """

    heads: Literal["mean", "each"] = "mean"
    softmax: Literal["before", "after"] = "before"
    renormalised: bool = True
    rows: Literal["mean", "sum"] = "mean"


def isda(
    text: NDArray[Any], regions: NDArray[Any], words_of: Groups, regions_of: Groups, *, reading: Reading | None = None
) -> NDArray[np.float64]:
    """Return the distance between the relations of objects in a text and in its picture (equation 9).

    Args:
        text: [..., heads, T, T] attention scores among word pieces before the softmax.
        regions: [..., heads, R, R] attention scores among regions.
        words_of: for each object its word pieces; objects may share some.
        regions_of: for each object its regions, in the same order of objects.
        reading: of what the paper leaves open.

    Returns:
        [...] nats.

    Raises:
        DataError: fewer than two objects, one without word pieces or regions, or a score that is no number.

    Example:
        >>> same = np.log(np.array([[[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]]))
        >>> float(isda(same, same, [[0], [1, 2]], [[0], [1, 2]]))
        0.0
    """
    reading = Reading() if reading is None else reading
    pair = [relations(scores, groups, reading) for scores, groups in _checked(text, regions, words_of, regions_of)]
    distances: NDArray[np.float64] = distance(*pair, rows=reading.rows).mean(axis=-1)
    return distances


def relations(scores: NDArray[Any], groups: Groups, reading: Reading) -> NDArray[np.float64]:
    """Return how much objects attend to each other (algorithm 1): Ext and Cps, equation 7.

    Args:
        scores: [..., heads, M, M] before the softmax.
        groups: for each of N objects its places.
        reading: of what the paper leaves open.

    Returns:
        [..., heads, N, N] with one head where heads are averaged; rows sum to 1 where the reading says so.
    """
    values = np.asarray(scores, np.float64)
    if reading.softmax == "before":
        values = _softmax(values)
    if reading.heads == "mean":
        values = values.mean(axis=-3, keepdims=True)
    compressed = compress(values, groups)
    if reading.softmax == "after":
        return _softmax(compressed)
    return compressed / compressed.sum(axis=-1, keepdims=True) if reading.renormalised else compressed


def compress(values: NDArray[np.float64], groups: Groups) -> NDArray[np.float64]:
    """Return [..., N, N] sums over the columns and means over the rows of each pair of groups (equation 7)."""
    member = np.zeros((len(groups), values.shape[-1]))
    for row, places in zip(member, groups, strict=True):
        row[list(places)] = 1
    compressed: NDArray[np.float64] = member @ values @ member.T / member.sum(axis=1)[:, None]
    return compressed


def distance(a: NDArray[np.float64], b: NDArray[np.float64], *, rows: Literal["mean", "sum"]) -> NDArray[np.float64]:
    """Return the symmetric divergence KL(a || b) + KL(b || a) of matrices, row by row (equation 8).

    Args:
        a: [..., N, N] rows of positive numbers.
        b: likewise.
        rows: "mean" over the rows, or their "sum".

    Returns:
        [...] nats, infinite where one side is zero and the other is not.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = (a - b) * (np.log(a) - np.log(b))
    totals = np.where((a == 0) & (b == 0), 0.0, terms).sum(axis=-1)
    result: NDArray[np.float64] = totals.sum(axis=-1) if rows == "sum" else totals.mean(axis=-1)
    return result


def shuffled(
    text: NDArray[np.float64],
    regions: NDArray[np.float64],
    permutations: NDArray[np.int64],
    *,
    rows: Literal["mean", "sum"],
) -> NDArray[np.float64]:
    """Return what the distance is when the objects of the picture are mixed up, to tell what a low one is.

    Args:
        text: [heads, N, N] of :func:`relations`.
        regions: [heads, N, N].
        permutations: [K, N] orders of the picture's objects.
        rows: as in :class:`Reading`.

    Returns:
        [K] distances, averaged over heads.
    """
    mixed = regions[:, permutations[:, :, None], permutations[:, None, :]]
    distances: NDArray[np.float64] = distance(text[:, None], mixed, rows=rows).mean(axis=0)
    return distances


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """How closely two figures go together.

    Attributes:
        pearson: the coefficient.
        n: of how many pairs.
        interval_95: by Fisher's transformation, as if the pairs were independent; None for fewer than four.
    """

    pearson: float
    n: int
    interval_95: tuple[float, float] | None


def correlation(first: Sequence[float], second: Sequence[float]) -> Correlation | None:
    """Return Pearson's coefficient of pairs, e.g. of ISDa and Meta-Sum over a run's checkpoints (figure 3).

    Returns:
        None for fewer than three pairs, or where one figure never changes.

    Example:
        >>> found = correlation([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0])
        >>> round(found.pearson, 2), [round(bound, 2) for bound in found.interval_95]
        (0.6, [-0.85, 0.99])
    """
    pairs = np.array([first, second], np.float64)
    if pairs.shape[1] < 3 or (np.ptp(pairs, axis=1) == 0).any():
        return None
    centred = pairs - pairs.mean(axis=1, keepdims=True)
    coefficient = float(centred[0] @ centred[1] / np.sqrt((centred**2).sum(axis=1).prod()))
    interval = None
    if pairs.shape[1] > 3:
        centre = np.arctanh(np.clip(coefficient, -1 + 1e-15, 1 - 1e-15))
        reach = 1.959964 / np.sqrt(pairs.shape[1] - 3)
        interval = (float(np.tanh(centre - reach)), float(np.tanh(centre + reach)))
    return Correlation(pearson=coefficient, n=pairs.shape[1], interval_95=interval)


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    normalised: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return normalised


def _checked(
    text: NDArray[Any], regions: NDArray[Any], words_of: Groups, regions_of: Groups
) -> list[tuple[NDArray[Any], Groups]]:
    if len(words_of) != len(regions_of) or len(words_of) < 2:
        problem = f"{len(words_of)} objects of the text and {len(regions_of)} of the picture"
        raise DataError(problem, remedy="relations need the same two or more objects on both sides")
    for scores, groups, what in ((text, words_of, "word pieces"), (regions, regions_of, "regions")):
        for number, places in enumerate(groups):
            if not places or not all(0 <= place < scores.shape[-1] for place in places):
                problem = f"object {number} has {what} {list(places)} of {scores.shape[-1]}"
                raise DataError(problem, remedy=f"leave out objects without {what}")
        if not np.isfinite(scores).all():
            remedy = "the weights are broken, or what it was given is"
            raise DataError(f"an attention score among {what} is no finite number", remedy=remedy)
    return [(text, words_of), (regions, regions_of)]
