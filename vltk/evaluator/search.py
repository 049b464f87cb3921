"""Searching a store of pictures with a dual encoder: embed every picture once, compare exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.batching import SpecialTokens, collate_regions, collate_texts
from vltk.evaluator.embedding import embed_each
from vltk.evaluator.execution import Execution
from vltk.stores.features import FeatureReader
from vltk.types import Batch

_BLOCK = 65_536


def embed_pictures(
    model: Any, features: FeatureReader, image_ids: Sequence[str], *, execution: Execution
) -> NDArray[np.float32]:
    """Embed pictures of a store, those of similar size together.

    Args:
        model: a dual encoder.
        features: of the pictures.
        image_ids: I of them.
        execution: where and how; ``progress`` is told how many are done.

    Returns:
        [I, H].

    Raises:
        StoppedEarlyError: it was asked to stop.
        VltkError: an embedding is no finite number.
    """
    lengths = np.array([features.region_count(image_id) for image_id in image_ids])

    def read(numbers: NDArray[np.int64]) -> Batch:
        chosen = [image_ids[number] for number in numbers]
        return collate_regions(chosen, [features.get(name) for name in chosen], half=True, located=False)

    return embed_each(
        model, model.embed_images, read, lengths=lengths, names=image_ids, where="search", execution=execution
    )


def embed_queries(
    model: Any, texts: Sequence[Sequence[int]], special: SpecialTokens, *, execution: Execution
) -> NDArray[np.float32]:
    """Embed texts.

    Args:
        model: a dual encoder.
        texts: Q lists of word ids, without a frame.
        special: what frames them.
        execution: where and how.

    Returns:
        [Q, H].
    """
    rows = [special.frame(text) for text in texts]
    names = [f"text {number}" for number in range(1, len(rows) + 1)]

    def read(numbers: NDArray[np.int64]) -> Batch:
        return collate_texts([names[n] for n in numbers], [rows[n] for n in numbers], padding=special.padding)

    lengths = np.array(list(map(len, rows)))
    return embed_each(model, model.embed_texts, read, lengths=lengths, names=names, where="search", execution=execution)


def nearest(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k vectors with the largest inner products, exactly: every one is looked at.

    Args:
        queries: [Q, H].
        vectors: [N, H], read in blocks.
        k: how many; all of them where there are fewer.

    Returns:
        [Q, k] places and [Q, k] scores, the best first; of equal scores the earlier place comes first.

    Example:
        >>> places, scores = nearest(np.eye(2, dtype=np.float32), np.array([[1, 0], [3, 2], [1, 2]], np.float32), k=2)
        >>> places.tolist(), scores.tolist()
        ([[1, 0], [1, 2]], [[3.0, 1.0], [2.0, 2.0]])
    """
    places = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = np.asarray(vectors[start : start + _BLOCK])
        rows = np.arange(start, start + len(block))[None].repeat(len(queries), axis=0)
        scores = np.concatenate([scores, (queries @ block.T).astype(np.float32)], axis=1)
        places = np.concatenate([places, rows], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, places = np.take_along_axis(scores, best, axis=1), np.take_along_axis(places, best, axis=1)
    return places, scores
