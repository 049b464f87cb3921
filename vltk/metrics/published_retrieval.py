"""The figures that published programs print of a score matrix and that are not what they say.

They stand beside the right ones (``--metric-compat``), so that a reader can see which a paper reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.metrics.protocol import Ties
from vltk.metrics.retrieval import DIRECTIONS, RECALLS, RetrievalResult, best_ranks, recall_figures


def uniter_figures(i2t: NDArray[np.integer], t2i: NDArray[np.integer]) -> dict[str, float]:
    """Return the recalls as UNITER's and IAIS' ``itm_eval`` prints them (in percent).

    Its text-to-image recalls are too high: row numbers of the hits are counted as ranks as well, so every text among
    the first k whose image is in its top ten adds one more hit (up to k / texts; a perfect model exceeds 100 %).

    Args:
        i2t: [I] ranks from 1.
        t2i: [C] ranks from 1, in the order of the texts, on which this figure depends.
    """
    top = np.asarray(t2i) <= max(RECALLS)
    hits = {k: int(np.count_nonzero(np.asarray(t2i) <= k)) + int(np.count_nonzero(top[:k])) for k in RECALLS}
    right = recall_figures(np.asarray(i2t))
    figures = {f"i2t_r{k}": right[f"r{k}"] for k in RECALLS} | {
        f"t2i_r{k}": 100.0 * hits[k] / len(t2i) for k in RECALLS
    }
    return figures | {"rsum": sum(figures.values())}


def vsrn_figures(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return what VSRN prints as means of its five folds under these names, which are mixed up.

    Its "rsum" is six times the mean image-to-text recall, its "average_i2t" the mean text-to-image recall, and its
    "average_t2i" the sum of the six recalls.

    Args:
        folds: the figures of each fold, as :class:`RetrievalResult` has them.
    """
    i2t, t2i = (float(np.mean([[fold[f"{way}_r{k}"] for k in RECALLS] for fold in folds])) for way in DIRECTIONS)
    return {"rsum": 6 * i2t, "average_i2t": t2i, "average_t2i": 3 * (i2t + t2i)}


def hgr_figures(
    scores: NDArray[Any], image_of: NDArray[np.integer], texts: Sequence[str], *, ties: Ties = "against"
) -> dict[str, float]:
    """Return the figures of video-text retrieval as HGR counts them.

    A sentence that several videos have is searched once and right for each of them, and a median between two ranks is
    not rounded.

    Args:
        scores: [I, C] of videos with sentences.
        image_of: [C] the row of each sentence's video.
        texts: C sentences; equal ones are one.
        ties: whether a wrong answer with exactly the right one's score ranks before it.

    Raises:
        DataError: a score is NaN, or a video has no sentence.

    Example:
        >>> found = hgr_figures(np.array([[0.9, 0.1, 0.9], [0.8, 0.3, 0.8]]), np.array([0, 1, 1]), ["x", "y", "x"])
        >>> found["i2t_r1"], found["t2i_r1"], found["i2t_median_rank"]
        (100.0, 100.0, 1.0)
    """
    _, first, place = np.unique(np.asarray(texts), return_index=True, return_inverse=True)
    pairs = np.unique(np.stack([np.asarray(image_of, np.int64), place]), axis=1)
    both = {
        "i2t": best_ranks(scores[:, first], pairs[0], pairs[1], ties=ties),
        "t2i": best_ranks(scores[:, first].T, pairs[1], pairs[0], ties=ties),
    }
    told = {way: recall_figures(ranks, whole_median=False) for way, ranks in both.items()}
    named = {f"{way}_{name}": value for way, figures in told.items() for name, value in figures.items()}
    return named | {"rsum": sum(named[f"{way}_r{k}"] for way in DIRECTIONS for k in RECALLS)}


def compat_figures(result: RetrievalResult, published: str) -> dict[str, float]:
    """Return the figures that a published program prints of the same scores, to stand beside the right ones.

    Args:
        result: of :func:`evaluate_retrieval`.
        published: "uniter" (also IAIS) or "vsrn".
    """
    return uniter_figures(result.i2t, result.t2i) if published == "uniter" else vsrn_figures(result.folds)
