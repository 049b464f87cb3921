"""Which regions a picture's embedding speaks of, over the picture (VSRN, section 4.5 and figures 1, 3 and 4)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vltk.config import listing
from vltk.errors import VltkError
from vltk.finetuning import open_run
from vltk.metrics.attention_map import attention_map, rank_weights
from vltk.reporting.drawing import WIDTH, Canvas, Figure, heat_address
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.material import LARGE, Ground, Material
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.reporting.retrievals import telling
from vltk.stores.ordered_features import ordered
from vltk.tasks._task import Split
from vltk.types import RegionFeatures

_WARM = (214, 92, 0)
_MAP = 96
_INTRO = (
    "VSRN turns a picture into one vector. Regions are ranked by their inner product with it, and weigh "
    "50 (k \N{MINUS SIGN} r)² each, where k is their number and r the rank (section 4.5 of its paper); where regions "
    "overlap weights add up. The warmer a place, the more the picture's vector speaks of it; the first region is "
    "outlined."
)


def picture_attention(runs: Sequence[Evidence], material: Material) -> Section:
    """Return the maps of every run of a model that compares a picture's embedding with its regions (VSRN)."""
    section = Section(key="maps", title="What a picture's embedding speaks of", intro=_INTRO)
    for run in runs:
        if not correlates(run.model) or not run.source:
            continue
        try:
            split = material.split(run, run.shown)
            if split is None:
                command = f"vltk eval {run.source} --examples STORE --features STORE"
                lacks = f"{run.name} has no attention maps: no evaluation whose stores are there"
                section.parts.append(missing(lacks, command))
                continue
            _maps(section, run, split, material)
        except VltkError as error:
            section.parts.append(paragraph(f"{run.name} shows no map: {error}.", kind="missing"))
    return section


def correlates(model: str) -> bool:
    """Say whether a model compares a picture's embedding with its regions."""
    if model not in listing("vltk.models"):
        return False
    module = importlib.import_module(f"vltk.models.{model}")
    return any(hasattr(one, "region_correlations") for one in vars(module).values())


def _maps(section: Section, run: Evidence, split: Split, material: Material) -> None:
    task: Any = open_run(Path(run.source), split).task
    model = task.scorer
    ids = _chosen(run.shown, split, material.count)
    batch = task.image_batch(split, ids)
    with torch.inference_mode():
        # As task.image_batch reads the regions, in the order of the model.
        correlations = model.region_correlations(batch.to(next(model.parameters()).device)).float().cpu().numpy()
    figures = []
    for place, image_id in enumerate(ids):
        regions = ordered(split.features, getattr(task, "region_order", None)).get(image_id)
        if regions.boxes is not None:
            weights = rank_weights(correlations[place, : len(regions)])
            address = material.address(image_id, LARGE)
            figures.append(map_figure(regions, weights, address, name=f"map-{run.name}-{place + 1}", title=image_id))
    if figures:
        section.parts.append(f"<h3>{escape(run.name)}</h3>\n")
        section.parts.append(Figures(figures=figures))


def map_figure(
    regions: RegionFeatures, weights: NDArray[np.float64], address: str | None, *, name: str, title: str
) -> Figure:
    """Draw a picture under the sum of the weights of its regions.

    Args:
        regions: with boxes.
        weights: [R] of :func:`~vltk.metrics.attention_map.rank_weights`.
        address: the picture as a data address, or None.
        name: of the files.
        title: what the picture is called.
    """
    canvas = Canvas()
    ground = Ground(size=regions.size, address=address, y=24, width=WIDTH)
    canvas.text(0, 14, title, size=13, bold=True)
    ground.draw(canvas)
    scale = _MAP / max(regions.size)
    size = (max(1, round(regions.size[0] * scale)), max(1, round(regions.size[1] * scale)))
    boxes = np.asarray(regions.boxes) * scale
    heat = attention_map(weights, boxes, size)
    low = float(heat.min())
    heat = (heat - low) / (heat.max() - low) if heat.max() > low else np.zeros_like(heat)
    canvas.picture(heat_address(0.75 * heat, largest=1.0, zoom=1, colour=_WARM), 0, 24, WIDTH, ground.height)
    best = int(np.argmax(weights))
    x, y, width, height = ground.place(np.asarray(regions.boxes)[best])
    canvas.rectangle(x, y, width, height, kind="edge", stroke_width=4)
    canvas.rectangle(x, y, width, height, kind="l1", stroke_width=2.5)
    told = ", ".join(f"{value:.0f}" for value in np.asarray(regions.boxes)[best])
    alt = f"Attention map of picture {title} over {len(regions)} regions; the strongest has the corners {told}."
    return Figure(name=name, title=title, alt=alt, body=canvas.body, width=WIDTH, height=26 + ground.height)


def _chosen(one: Measured | None, split: Split, count: int) -> list[str]:
    """Return pictures to look at: queries that went best and worst, and the first ones."""
    found = telling(one, "i2t")
    first = [example.image_ids[0] for example in islice(split.examples, 20 * count)]
    return [name for name in dict.fromkeys([*found, *first]) if name in split.features][:count]
