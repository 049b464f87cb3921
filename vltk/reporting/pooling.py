"""The coefficients that generalized pooling learnt, by the size of the set (VSE-infinity, section 3.2)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vltk.config import listing
from vltk.errors import VltkError
from vltk.models._dual_checkpoints import load_dual
from vltk.models._pooling import GeneralizedPooling
from vltk.reporting.charts import Trace, line_chart
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence
from vltk.reporting.page import Figures, Section, paragraph

SIZES = {"image": (4, 9, 18, 36), "text": (5, 10, 20)}
_ELEMENTS = {"image": "regions", "text": "words"}


_INTRO = (
    "A dual encoder turns the regions of a picture, or the words of a text, into one vector. In each dimension it "
    "sorts their values and takes a weighted sum; generalized pooling (GPO, VSE-infinity) learns the weights. All "
    "weight on the first is maximum pooling, equal weights are the mean; sets of several sizes show how the strategy "
    "changes."
)


def pooling(runs: Sequence[Evidence]) -> Section:
    """Return the coefficients of every run of a dual encoder that pools with them; nothing for other runs."""
    section = Section(key="pooling", title="Pooling coefficients (GPO)", intro=_INTRO)
    for run in runs:
        if not pools(run.model) or not run.source:
            continue
        try:
            model = load_dual(Path(run.source)).model
        except VltkError as error:
            section.parts.append(paragraph(f"{run.name} cannot be opened: {error}.", kind="missing"))
            continue
        figures = [figure for side in SIZES if (figure := _figure(run, model, side)) is not None]
        if figures:
            section.parts.append(Figures(figures=figures))
        else:
            told = (
                f"{run.name} has no coefficients to show: it pools by a fixed rule, or by coefficients for each "
                "dimension. `--image-pooling gpo` learns them."
            )
            section.parts.append(paragraph(told, kind="missing"))
    return section


def pools(model: str) -> bool:
    """Say whether a model is one that chooses how a set becomes a vector."""
    if model not in listing("vltk.models"):
        return False
    config = getattr(importlib.import_module(f"vltk.models.{model}"), "Config", None)
    return hasattr(config, "image_pooling")


def coefficients(model: Any, side: str) -> dict[int, list[float]] | None:
    """Return the coefficients of sets of several sizes; None where a side has none, or one for each dimension.

    Args:
        model: a dual encoder.
        side: "image" or "text".
    """
    encoder = getattr(model, side, None)
    found = getattr(encoder, "pooling", None) or getattr(getattr(encoder, "head", None), "pooling", None)
    if not isinstance(found, GeneralizedPooling):
        return None
    if found.coefficients.reads_features or found.coefficients.per_dimension:
        return None
    sizes = SIZES[side]
    with torch.inference_mode():
        weights = found.weights(torch.tensor(sizes), max(sizes))
    return {size: row[:size].tolist() for size, row in zip(sizes, weights, strict=True)}


def _figure(run: Evidence, model: Any, side: str) -> Figure | None:
    found = coefficients(model, side)
    if found is None:
        return None
    traces = [
        Trace(label=f"{size} {_ELEMENTS[side]}", x=list(range(1, size + 1)), y=row, colour=place, dots=size <= 10)
        for place, (size, row) in enumerate(found.items())
    ]
    largest = "; ".join(
        f"of {size} the largest is {max(row):.2f} at rank {1 + row.index(max(row))}" for size, row in found.items()
    )
    title = f"{'Picture' if side == 'image' else 'Text'} coefficients, {run.name}"
    return line_chart(
        traces,
        name=f"gpo-{side}-{run.name}",
        title=title,
        subtitle="share of the k-th largest value, for sets of several sizes",
        alt=f"{title}: {largest}.",
        x_label="rank k of a value among its set, the largest first",
        zero=True,
        from_zero=False,
    )
