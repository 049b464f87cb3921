"""Recalls of a score matrix with what makes them believable: intervals, protocol card, the rank of every query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import UsageError
from vltk.evaluator.pool import Pool
from vltk.metrics.protocol import Ties
from vltk.metrics.published_retrieval import compat_figures, hgr_figures
from vltk.metrics.retrieval import RetrievalResult, evaluate_retrieval
from vltk.metrics.significance import recall_intervals
from vltk.run_folder.outcomes import Outcomes, Series
from vltk.types import Measurement


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalReport:
    """What a matrix is worth.

    Attributes:
        measurements: the figures, those of published programs behind them.
        card: of the protocol.
        outcomes: the rank of every query, for ``vltk compare``.
    """

    measurements: list[Measurement]
    card: dict[str, Any]
    outcomes: Outcomes


def measure_retrieval(
    scores: NDArray[Any],
    pool: Pool,
    *,
    task: str,
    ties: Ties = "against",
    compat: Sequence[str] = (),
    texts: Sequence[str] | None = None,
    seed: int = 0,
) -> RetrievalReport:
    """Measure the scores of a pool.

    Args:
        scores: [C, I], a row for each text.
        pool: what was searched.
        task: name of the task, for the outcomes.
        ties: whether a wrong answer with the score of the right one ranks before it.
        compat: published programs whose figures stand beside: "uniter", "vsrn", "hgr".
        texts: C texts of the pool, which "hgr" must know.
        seed: of the bootstrap.

    Raises:
        DataError: a score is NaN.
        UsageError: "hgr" without texts, or under a protocol of folds.
    """
    result = evaluate_retrieval(
        scores.T,
        pool.columns,
        image_ids=pool.image_ids,
        caption_ids=pool.text_ids,
        protocol=pool.protocol,
        ties=ties,
    )
    intervals = recall_intervals(result.i2t, result.t2i, result.image_of, seed=seed)
    rows = [Measurement(**row, interval_95=intervals.get(row["metric"])) for row in result.rows()]
    for program in compat:
        found = _of_videos(scores, pool, texts, ties) if program == "hgr" else compat_figures(result, program)
        for name, value in found.items():
            n = len(result.i2t) if name.startswith("i2t") else len(result.t2i)
            unit = "rank" if name.endswith("rank") else "percent"
            rows.append(Measurement(metric=f"{name} as {program} prints it", value=value, n=n, unit=unit))
    return RetrievalReport(measurements=rows, card=dict(result.card), outcomes=_outcomes(result, pool, task))


def _of_videos(scores: NDArray[Any], pool: Pool, texts: Sequence[str] | None, ties: Ties) -> dict[str, float]:
    if texts is None or pool.compared is not None:
        problem = "needs the texts of the whole split, because a sentence of two videos is right for both"
        raise UsageError(problem, where="--metric-compat hgr", remedy="evaluate the run itself with --protocol split")
    return hgr_figures(scores.T, pool.columns, texts, ties=ties)


def _outcomes(result: RetrievalResult, pool: Pool, task: str) -> Outcomes:
    texts = tuple(pool.text_ids[row] for row in result.captions)
    images = tuple(pool.image_ids[column] for column in result.image_of)
    protocol = {name: value for name, value in result.card.items() if name != "split"}
    return Outcomes(
        task=task,
        split=str(result.card["split"]),
        protocol=protocol,
        series={
            "t2i": Series(kind="rank", ids=texts, values=result.t2i.astype(np.float64), clusters=images),
            "i2t": Series(
                kind="rank", ids=pool.image_ids, values=result.i2t.astype(np.float64), clusters=pool.image_ids
            ),
        },
    )
