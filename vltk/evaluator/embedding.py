"""Embedding many texts or pictures with an encoder that sees one side alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from vltk.errors import StoppedEarlyError, VltkError
from vltk.evaluator.execution import Execution
from vltk.evaluator.pairs import batches_by_length
from vltk.types import Batch


def embed_each(
    module: nn.Module,
    embed: Callable[[Batch], Tensor],
    read: Callable[[NDArray[np.int64]], Batch],
    *,
    lengths: NDArray[np.integer],
    names: Sequence[str],
    where: str,
    execution: Execution,
) -> NDArray[np.float32]:
    """Embed each of many once, those of similar length together.

    Args:
        module: what computes, for its mode.
        embed: from a batch to [B, H].
        read: from numbers to their batch.
        lengths: of each.
        names: of each, for errors.
        where: what they are of, for errors.
        execution: where and how; ``progress`` is told how many are done.

    Returns:
        [N, H] in the order of the names.

    Raises:
        StoppedEarlyError: it was asked to stop.
        VltkError: there is none, or an embedding is no finite number.
        DataError: one cannot be read.
    """
    found: NDArray[np.float32] | None = None
    with execution.inference(module):
        for numbers in batches_by_length(lengths, execution.tokens):
            values = embed(read(numbers).to(execution.device)).float().cpu().numpy()
            good = np.isfinite(values).all(axis=1)
            if not good.all():
                problem = f"the embedding of {names[numbers[int(np.argmin(good))]]} is not finite"
                raise VltkError(problem, where=where, remedy="use fp32, or another checkpoint")
            if found is None:
                found = np.empty((len(names), values.shape[1]), np.float32)
            found[numbers] = values
            execution.progress(len(numbers))
            if execution.stop():
                raise StoppedEarlyError("stopped", where=where, remedy="the same command begins anew")
    if found is None:
        raise VltkError("there is nothing to embed", where=where, remedy="name a store that holds something")
    return found
