"""What a model says of every text against every picture, as one matrix that can be measured and combined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError, first_few

_BLOCK = 1 << 24  # numbers that are looked at together


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreMatrix:
    """Scores of texts against pictures; higher is better.

    Attributes:
        scores: [C, I] of a floating type, a row for each text; NaN where a pair was not scored.
        text_ids: C ids, each once.
        image_ids: I ids, each once.
        image_of: C ids of the pictures that the texts belong to.
        provenance: what made the scores, as JSON values.
        name: what to call it in errors.

    Raises:
        DataError: the ids do not fit the shape or each other, or the scores are not of a floating type.

    Example:
        >>> matrix = ScoreMatrix(scores=np.eye(2, dtype=np.float32), text_ids="ab", image_ids="xy", image_of="xy")
        >>> matrix.columns.tolist(), matrix.pairs()
        ([0, 1], 4)
    """

    scores: NDArray[Any]
    text_ids: Sequence[str]
    image_ids: Sequence[str]
    image_of: Sequence[str]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "score matrix"

    def __post_init__(self) -> None:
        shape = (len(self.text_ids), len(self.image_ids))
        if self.scores.shape != shape:
            problem = f"has the shape {self.scores.shape} for {shape[0]} texts and {shape[1]} images"
            raise self._fail(problem, "give one row for each text and one column for each image")
        if self.scores.dtype.kind != "f" or not self.scores.size:
            raise self._fail(f"holds {self.scores.size} numbers of {self.scores.dtype}", "give floating numbers")
        for what, ids in (("text", self.text_ids), ("image", self.image_ids)):
            if len(set(ids)) < len(ids):
                raise self._fail(f"names the {what} {_first_twice(ids)!r} twice", "every id stands once")
        if len(self.image_of) != shape[0]:
            raise self._fail(f"says of {len(self.image_of)} of {shape[0]} texts which image they belong to", "say all")
        known = set(self.image_ids)
        for text, image in zip(self.text_ids, self.image_of, strict=True):
            if image not in known:
                raise self._fail(f"text {text!r} belongs to the image {image!r}, which has no column", "add it")

    def _fail(self, problem: str, remedy: str) -> DataError:
        return DataError(problem, where=self.name, remedy=remedy)

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """[C] the column of the picture that each text belongs to."""
        place = {image: column for column, image in enumerate(self.image_ids)}
        return np.array([place[image] for image in self.image_of], np.int64)

    def pairs(self) -> int:
        """Return how many pairs have a score."""
        rows = max(1, _BLOCK // self.scores.shape[1])
        starts = range(0, len(self.scores), rows)
        return sum(int(np.count_nonzero(~np.isnan(self.scores[start : start + rows]))) for start in starts)

    def take(self, text_ids: Sequence[str], image_ids: Sequence[str]) -> ScoreMatrix:
        """Return the scores of some texts and images in a given order; nothing is copied where it is the present one.

        Raises:
            DataError: an id that the matrix does not have.
        """
        if list(text_ids) == list(self.text_ids) and list(image_ids) == list(self.image_ids):
            return self
        rows, columns = self._places("text", text_ids), self._places("image", image_ids)
        whole = len(rows) == len(self.text_ids) and bool((rows == np.arange(len(rows))).all())
        return ScoreMatrix(
            scores=self.scores[:, columns] if whole else self.scores[rows][:, columns],
            text_ids=text_ids,
            image_ids=image_ids,
            image_of=[self.image_of[row] for row in rows],
            provenance=self.provenance,
            name=self.name,
        )

    def of_images(self, image_ids: Sequence[str]) -> ScoreMatrix:
        """Return the scores of some images and of the texts that belong to them.

        Raises:
            DataError: an image that the matrix does not have.
        """
        kept = set(image_ids)
        texts = [text for text, image in zip(self.text_ids, self.image_of, strict=True) if image in kept]
        return self.take(texts, image_ids)

    def _places(self, what: str, ids: Sequence[str]) -> NDArray[np.int64]:
        known = {name: place for place, name in enumerate(self.text_ids if what == "text" else self.image_ids)}
        unknown = [name for name in ids if name not in known]
        if unknown:
            shown = first_few(unknown)
            raise self._fail(f"has no scores of {len(unknown)} of {len(ids)} {what}s ({shown})", "score this split")
        return np.array([known[name] for name in ids], np.int64)


def combine_scores(
    matrices: Sequence[ScoreMatrix], *, weights: Sequence[float] | None = None, standardise: bool = False
) -> ScoreMatrix:
    """Return the weighted mean of several matrices of the same texts and images, in the order of the first.

    Args:
        matrices: one or more.
        weights: one for each, their sum is what the mean divides by; equal ones if None.
        standardise: bring each matrix to mean 0 and standard deviation 1 first, so that scores of different models
            (logits beside cosines) weigh alike.

    Raises:
        UsageError: another number of weights than matrices, or weights that sum to 0.
        DataError: the matrices are not of the same texts, images and pairs, or all scores of one are equal.

    Example:
        >>> ids = {"text_ids": "ab", "image_ids": "xy", "image_of": "xy"}
        >>> one, two = (ScoreMatrix(scores=np.full((2, 2), value), **ids) for value in (1.0, 4.0))
        >>> combine_scores([one, two], weights=[2, 1]).scores.tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """
    weights = [1.0] * len(matrices) if weights is None else list(weights)
    if len(weights) != len(matrices) or not matrices:
        raise UsageError(f"{len(weights)} weights for {len(matrices)} score matrices", remedy="give one for each")
    total = sum(weights)
    if not np.isfinite(weights).all() or total == 0:
        raise UsageError(f"the weights {weights} have the sum {total}", remedy="give numbers with another sum")
    first = matrices[0]
    aligned = [_aligned(matrix, first) for matrix in matrices]
    moments = [_moments(matrix) if standardise else (0.0, 1.0) for matrix in aligned]
    scores = np.empty(first.scores.shape, np.result_type(np.float32, *(matrix.scores.dtype for matrix in aligned)))
    rows = max(1, _BLOCK // scores.shape[1])
    for start in range(0, len(scores), rows):
        part = slice(start, start + rows)
        scores[part] = _mean([matrix.scores[part] for matrix in aligned], weights, moments)
    made = [
        {"weight": weight, "scores": matrix.name, **matrix.provenance}
        for weight, matrix in zip(weights, aligned, strict=True)
    ]
    combined = ScoreMatrix(
        scores=scores,
        text_ids=first.text_ids,
        image_ids=first.image_ids,
        image_of=first.image_of,
        provenance={"mean_of": made, "standardised": standardise},
        name=" + ".join(matrix.name for matrix in aligned),
    )
    _check_same_pairs(aligned, combined)
    return combined


def _aligned(matrix: ScoreMatrix, first: ScoreMatrix) -> ScoreMatrix:
    for what, mine, theirs in (
        ("texts", matrix.text_ids, first.text_ids),
        ("images", matrix.image_ids, first.image_ids),
    ):
        if len(mine) != len(theirs):
            problem = f"has {len(mine)} {what}, {first.name} {len(theirs)}"
            raise DataError(problem, where=matrix.name, remedy="combine matrices of one split")
    found = matrix.take(first.text_ids, first.image_ids)
    for text, mine, theirs in zip(first.text_ids, found.image_of, first.image_of, strict=True):
        if mine != theirs:
            problem = f"says that text {text!r} belongs to the image {mine!r}, {first.name} to {theirs!r}"
            raise DataError(problem, where=matrix.name, remedy="combine matrices of one split")
    return found


def _moments(matrix: ScoreMatrix) -> tuple[float, float]:
    known = matrix.scores[~np.isnan(matrix.scores)].astype(np.float64)
    deviation = float(known.std()) if len(known) else 0.0
    if not deviation:
        problem = f"all {len(known)} scores are equal"
        raise DataError(problem, where=matrix.name, remedy="leave it out, or combine without standardising")
    return float(known.mean()), deviation


def _mean(
    parts: Sequence[NDArray[Any]], weights: Sequence[float], moments: Sequence[tuple[float, float]]
) -> NDArray[np.float64]:
    total = np.zeros(parts[0].shape, np.float64)
    for part, weight, (mean, deviation) in zip(parts, weights, moments, strict=True):
        total += (part.astype(np.float64) - mean) * (weight / deviation)
    return total / sum(weights)


def _check_same_pairs(matrices: Sequence[ScoreMatrix], combined: ScoreMatrix) -> None:
    counts = {matrix.name: matrix.pairs() for matrix in [*matrices, combined]}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} in {name}" for name, count in list(counts.items())[:-1])
        problem = f"the matrices have scores of different pairs ({listed})"
        raise DataError(problem, where=combined.name, remedy="combine matrices of the same pairs")


def _first_twice(ids: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(one for one in ids if one in seen or seen.add(one))  # type: ignore[func-returns-value]
