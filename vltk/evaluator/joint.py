"""Scores of every pair by an encoder that sees both sides: each side is embedded once, only the encoder runs a pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vltk.errors import StoppedEarlyError, VltkError
from vltk.evaluator.execution import Execution
from vltk.evaluator.pairs import PairBatch, PairBlock, PairPlan, length_counts, pair_count
from vltk.evaluator.sides import Embedded, Sides, embed_positions


@dataclass(frozen=True, kw_only=True)
class PairCost:
    """What scoring takes: exact counts, before it begins.

    Attributes:
        pairs: how many pairs go through the encoder.
        tokens: words and regions that they have together.
        flops: floating-point operations of the encoder on them, without padding, embedding and norms.
    """

    pairs: int
    tokens: int
    flops: int


def score_matrix(
    sides: Sides, scores: NDArray[np.float32], *, execution: Execution, wanted: NDArray[np.bool_] | None = None
) -> None:
    """Score the wanted pairs that have no score yet (UNITER, section 4.1; the published evaluation, in less time).

    Killed at any moment and called again, it gives the numbers of an undisturbed call, bit for bit on one machine: what
    is encoded together does not depend on what is there.

    Args:
        sides: texts and pictures of a task with a joint scorer.
        scores: [C, I], written in place, e.g. of a :class:`~vltk.stores.score_files.ScoreFile`; NaN where there is no
            score yet.
        execution: where and how.
        wanted: [C, I] bool, the pairs that are scored; all if None.

    Raises:
        StoppedEarlyError: it was asked to stop.
        VltkError: a score is no finite number.
        DataError: a text or picture cannot be read.
    """
    with execution.inference(sides.task.module):
        for columns in _column_blocks(sides, execution):
            images: Embedded | None = None
            plan = _plan(sides, columns, wanted, execution)
            for block in plan.blocks():
                todo = _todo(block, scores, execution)
                if not todo:
                    continue
                if images is None:
                    images = _embed_images(sides, columns, execution)
                if not _score_block(sides, block, todo, images, scores, execution):
                    missing = np.isnan(scores) if wanted is None else np.isnan(scores) & wanted
                    problem = f"stopped with {np.count_nonzero(missing):,} pairs left"
                    raise StoppedEarlyError(problem, where=sides.split.name, remedy="the same command resumes")


def pair_cost(sides: Sides, *, execution: Execution, wanted: NDArray[np.bool_] | None = None) -> PairCost:
    """Return what :func:`score_matrix` takes for the wanted pairs, whether they have scores or not.

    Args:
        sides: as there.
        execution: as there.
        wanted: as there.
    """
    counts = length_counts(sides.text_lengths, sides.image_lengths, wanted)
    with execution.inference(sides.task.module):
        flops = pair_flops(sides, execution)
    operations = sum(int(count) * flops(length) for length, count in enumerate(counts) if count)
    return PairCost(
        pairs=pair_count(len(sides.text_ids), len(sides.image_ids), wanted),
        tokens=int(counts @ np.arange(len(counts))),
        flops=operations,
    )


def pair_flops(sides: Sides, execution: Execution) -> Callable[[int], int]:
    """Return what tells the floating-point operations of a pair from its words plus regions.

    The operations of a Transformer are a polynomial of second degree of the length, so three measured lengths tell
    all others exactly.
    """
    scorer = sides.task.scorer
    text = scorer.embed_text(sides.texts([0]).to(execution.device))[:, :1]
    regions = scorer.embed_regions(sides.images([0]).to(execution.device))[:, :1]

    def measured(length: int) -> int:
        words = text.expand(1, length - 1, -1)
        masks = [torch.ones(1, size, dtype=torch.bool, device=text.device) for size in (length - 1, 1)]
        # The fused kernels are not counted; this one does the same operations one by one.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            _pooled(scorer, words, masks[0], regions, masks[1])
        return int(counter.get_total_flops())

    two, three, four = (measured(length) for length in (2, 3, 4))
    second = (four - 2 * three + two) // 2
    first = three - two - 5 * second
    constant = two - 2 * first - 4 * second
    return lambda length: constant + first * length + second * length * length


def _column_blocks(sides: Sides, execution: Execution) -> Iterator[NDArray[np.int32]]:
    """Yield the numbers of as many pictures as have embeddings of so many bytes together."""
    hidden = sides.task.scorer.embed_text(sides.texts([0]).to(execution.device)).shape[-1]
    lengths = sides.image_lengths
    start, used = 0, 0
    for column, length in enumerate(lengths.tolist()):
        size = length * hidden * 4
        if used and used + size > execution.memory:
            yield np.arange(start, column, dtype=np.int32)
            start, used = column, 0
        used += size
    yield np.arange(start, len(lengths), dtype=np.int32)


def _plan(sides: Sides, columns: NDArray[np.int32], wanted: NDArray[np.bool_] | None, execution: Execution) -> PairPlan:
    return PairPlan(
        text_lengths=sides.text_lengths,
        image_lengths=sides.image_lengths,
        columns=columns,
        wanted=wanted,
        max_tokens=execution.tokens,
        block_pairs=16 * max(1024, execution.tokens // 16),
    )


def _todo(block: PairBlock, scores: NDArray[np.float32], execution: Execution) -> list[PairBatch]:
    """Return this process' batches in which a score is missing; a batch is encoded as a whole or not at all."""
    number, processes = execution.share
    todo = []
    for batch in block.batches[number::processes]:
        if np.isnan(scores[batch.rows, batch.columns]).any():
            todo.append(batch)
        else:
            execution.progress(len(batch))
    return todo


def _embed_images(sides: Sides, columns: NDArray[np.int32], execution: Execution) -> Embedded:
    return embed_positions(
        sides.images,
        sides.task.scorer.embed_regions,
        columns,
        positions=int(sides.image_lengths[columns].sum()),
        device=execution.device,
    )


def _score_block(
    sides: Sides,
    block: PairBlock,
    todo: list[PairBatch],
    images: Embedded,
    scores: NDArray[np.float32],
    execution: Execution,
) -> bool:
    """Score batches of a block; return False where it was asked to stop."""
    scorer, rows = sides.task.scorer, np.sort(block.rows)
    texts = embed_positions(
        sides.texts,
        scorer.embed_text,
        rows,
        positions=int(sides.text_lengths[rows].sum()),
        device=execution.device,
    )
    for batch in todo:
        pooled = _pooled(scorer, *texts.take(batch.rows), *images.take(batch.columns))
        values = scorer.match_scores(pooled).float().cpu().numpy()
        _check_finite(values, batch, sides)
        scores[batch.rows, batch.columns] = values
        execution.progress(len(batch))
        if execution.stop():
            return False
    return True


def _pooled(scorer: Any, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor) -> Tensor:
    if hasattr(scorer, "encode_pooled"):
        pooled: Tensor = scorer.encode_pooled(text, text_mask, regions, region_mask)
        return pooled
    encoded: Tensor = scorer.encode(text, text_mask, regions, region_mask).pooled
    return encoded


def _check_finite(values: NDArray[np.float32], batch: PairBatch, sides: Sides) -> None:
    good = np.isfinite(values)
    if not good.all():
        place = int(np.argmin(good))
        text, image = sides.text_ids[batch.rows[place]], sides.image_ids[batch.columns[place]]
        problem = f"text {text} against image {image} scores {values[place]}"
        raise VltkError(problem, where=sides.split.name, remedy="use fp32, or another checkpoint")
