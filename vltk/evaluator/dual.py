"""Embeddings of texts and pictures by encoders that see one side alone, and the scores of every pair of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vltk.evaluator.embedding import embed_each
from vltk.evaluator.execution import Execution
from vltk.evaluator.sides import Sides
from vltk.types import Batch

_ROWS = 1024


def embeddings(sides: Sides, side: Literal["texts", "images"], *, execution: Execution) -> NDArray[np.float32]:
    """Embed every text or every picture of a split once, those of similar length together.

    Args:
        sides: texts and pictures of a task with a dual scorer.
        side: which of them.
        execution: where and how; ``progress`` is told how many are done.

    Returns:
        [C, H] or [I, H] in the order of the ids.

    Raises:
        StoppedEarlyError: it was asked to stop.
        VltkError: an embedding is no finite number.
        DataError: a text or picture cannot be read.
    """
    scorer = sides.task.scorer
    embed: Callable[[Batch], Tensor] = scorer.embed_texts if side == "texts" else scorer.embed_images
    read = sides.texts if side == "texts" else sides.images
    lengths = sides.text_lengths if side == "texts" else sides.image_lengths
    ids = sides.text_ids if side == "texts" else sides.image_ids
    return embed_each(
        sides.task.module,
        embed,
        read,
        lengths=lengths,
        names=ids,
        where=sides.split.name,
        execution=execution,
    )


def similarities(texts: NDArray[np.float32], images: NDArray[np.float32], scores: NDArray[np.floating[Any]]) -> None:
    """Write the inner products of [C, H] and [I, H] embeddings into [C, I] ``scores``, some rows at a time.

    Example:
        >>> scores = np.empty((2, 1), np.float32)
        >>> similarities(np.eye(2, dtype=np.float32), np.array([[3, 4]], np.float32), scores)
        >>> scores.tolist()
        [[3.0], [4.0]]
    """
    columns = torch.from_numpy(images).t()
    for start in range(0, len(texts), _ROWS):
        scores[start : start + _ROWS] = (torch.from_numpy(texts[start : start + _ROWS]) @ columns).numpy()
