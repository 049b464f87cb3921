"""Crisscrossed Captions: retrieval judged by people's ratings, between images and captions and within each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.metrics.protocol import Ties
from vltk.metrics.retrieval import RECALLS, best_ranks, recall_figures

Ratings = Mapping[str, Sequence[tuple[str, float]]]
"""For each query the rated items, with their mean rating of 0 to 5."""

TEXT_LEAST, IMAGE_LEAST = 3.0, 2.5
_QUERIES = 512


def cxc_figures(
    images: NDArray[np.floating],
    captions: NDArray[np.floating],
    *,
    image_ids: Sequence[str],
    caption_ids: Sequence[str],
    image_of: NDArray[np.integer],
    ratings: Mapping[Literal["i2t", "t2i", "i2i", "t2t"], Ratings],
    own: Literal["left out", "zero"] = "left out",
    ties: Ties = "against",
) -> dict[str, float]:
    """Return R@1, 5, 10 in percent of the four kinds of retrieval (Parekh et al., 2021; VSE-infinity's evaluation).

    Image to text and text to image take every rated pair as right; image to image takes those of 2.5 and more, text to
    text those of 3 and more and the other captions of the same image. Images without a right image are left out.

    Args:
        images: [I, H] embeddings; similarity is the inner product.
        captions: [C, H] embeddings.
        image_ids: I ids.
        caption_ids: C ids.
        image_of: [C] the row of each caption's image.
        ratings: of each kind; items that are not in the split are passed over.
        own: what the similarity of an item to itself is: it is not searched, or, as VSE-infinity has it, it is 0 and so
            stands before everything with a negative similarity.
        ties: whether a wrong item with exactly the right one's score ranks before it.

    Raises:
        DataError: a similarity is NaN, or a query of another kind than image to image has no right item.
    """
    kinds = {
        "i2t": _Kind(images, captions, image_ids, caption_ids),
        "t2i": _Kind(captions, images, caption_ids, image_ids),
        "i2i": _Kind(images, images, image_ids, image_ids, least=IMAGE_LEAST, within=_OWN[own]),
        "t2t": _Kind(captions, captions, caption_ids, caption_ids, least=TEXT_LEAST, within=_OWN[own]),
    }
    siblings = {
        (int(row), int(other)) for row in range(len(image_of)) for other in np.flatnonzero(image_of == image_of[row])
    }
    figures: dict[str, float] = {}
    for name, kind in kinds.items():
        pairs = kind.pairs(ratings[name]) | (siblings if name == "t2t" else set())  # type: ignore[index]
        if kind.within is not None:
            pairs = {(query, item) for query, item in pairs if query != item}
        asked = np.unique([query for query, _ in pairs]).astype(np.int64)
        if name != "i2i" and len(asked) != len(kind.names):
            missing = kind.names[int(np.setdiff1d(np.arange(len(kind.names)), asked)[0])]
            raise DataError(f"query {missing} has no right item", where=f"ratings {name}", remedy="give its ratings")
        ranks = kind.ranks(asked, np.array(sorted(pairs), np.int64).reshape(-1, 2), ties)
        figures |= {f"{name}_{recall}": recall_figures(ranks)[recall] for recall in _RECALLS}
    return figures


_OWN = {"left out": -np.inf, "zero": 0.0}
_RECALLS = tuple(f"r{k}" for k in RECALLS)


@dataclass(frozen=True)
class _Kind:
    """One of the four kinds of retrieval: what is asked, what is searched, and which ratings are right."""

    queries: NDArray[Any]
    items: NDArray[Any]
    names: Sequence[str]
    others: Sequence[str]
    least: float = 0.0
    within: float | None = None

    def pairs(self, ratings: Ratings) -> set[tuple[int, int]]:
        place = {name: row for row, name in enumerate(self.others)}
        return {
            (row, place[item])
            for row, name in enumerate(self.names)
            for item, rating in ratings.get(name, ())
            if item in place and rating >= self.least
        }

    def ranks(self, asked: NDArray[np.int64], pairs: NDArray[np.int64], ties: Ties) -> NDArray[np.int64]:
        ranks = [np.zeros(0, np.int64)]
        for start in range(0, len(asked), _QUERIES):
            rows = asked[start : start + _QUERIES]
            scores = self.queries[rows] @ self.items.T
            if self.within is not None:
                scores[np.arange(len(rows)), rows] = self.within
            mine = pairs[np.isin(pairs[:, 0], rows)]
            ranks.append(best_ranks(scores, np.searchsorted(rows, mine[:, 0]), mine[:, 1], ties=ties))
        return np.concatenate(ranks)
