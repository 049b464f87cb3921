"""What an encoder of text and picture looks at: regions, the regions of each word, and the patterns of its heads."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import islice

from vltk.errors import VltkError
from vltk.isd.encoder import JOINT
from vltk.models._hub_encoders import KINDS
from vltk.reporting.attention import PairAttention, open_encoder, read_attention
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.heads import maps_figure, patterns_figure, shapes_of
from vltk.reporting.material import LARGE, Material, region_names
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.reporting.retrievals import read_ranking
from vltk.reporting.stacks import stacks_figure
from vltk.reporting.words import (
    best_layer,
    regions_figure,
    widget_style,
    word_regions,
    words_figure,
    words_table,
    words_widget,
)
from vltk.tasks._task import Split

LOOKED_AT = (*JOINT, "ssrp", *KINDS)
"""Kinds of models whose attention can be read."""
_PAIRS = 16
_INTRO = (
    "Which regions of a picture each word attends to, that is, from which it takes what it becomes in the next layer. "
    "Point at a word, tap it, or choose it with Tab and the arrow keys: its regions are shaded, the first one is "
    "outlined. Beside it stand the regions that the detector found, and all shares as a table, darker where more."
)


def joint_attention(runs: Sequence[Evidence], material: Material) -> Section:
    """Return what the encoder of each run attends to, on pairs of its last measurement."""
    section = Section(key="attention", title="Words and regions", intro=_INTRO, style=widget_style())
    for place, run in enumerate(runs):
        if run.model not in LOOKED_AT or not run.source:
            continue
        try:
            split = _split(section, run, material)
            if split is not None:
                _seen(section, run, split, material, key=f"words-{place}")
        except VltkError as error:
            section.parts.append(paragraph(f"{run.name} shows no attention: {error}.", kind="missing"))
    return section


def _split(section: Section, run: Evidence, material: Material) -> Split | None:
    found = material.split(run, run.shown)
    if found is None:
        why = "it was not measured on any" if run.shown is None else "the stores of its measurement are not there"
        command = "vltk report ... --examples STORE --features STORE"
        section.parts.append(missing(f"{run.name} shows no attention for want of examples: {why}", command))
    return found


def _seen(section: Section, run: Evidence, split: Split, material: Material, *, key: str) -> None:
    chosen = _chosen(run.shown, split, material.count)
    ids = list(dict.fromkeys([*chosen, *(example.id for example in islice(split.examples, _PAIRS))]))[:_PAIRS]
    ids = [name for name in ids if split.examples.get(name).tokens and split.examples.get(name).tokens[0].ids]
    pairs = read_attention(open_encoder(run.source), split.examples, split.features, ids, device=material.device)
    layer = best_layer(pairs)
    section.parts.append(f"<h3>{escape(run.name)}</h3>\n")
    if layer is None:
        told = (
            f"In no layer of {run.name} a word looks at a region: an SSRP-Share sends words and regions each by "
            "themselves through the same layers. What they look at among themselves stands below."
        )
        section.parts.append(paragraph(told, kind="missing"))
    else:
        told = (
            f"Shown is {pairs[0].layers[layer]} (counted from 0), the mean over its heads: of all layers it tells "
            "regions apart most sharply."
        )
        section.parts.append(paragraph(told, kind="note"))
    for place, pair in enumerate(pairs[: len(chosen)]):
        _pair(section, run, pair, split, material, layer=layer, key=f"{key}-{place}")
    _layers(section, run, pairs, shown=min(len(chosen), 2))


def _pair(
    section: Section,
    run: Evidence,
    pair: PairAttention,
    split: Split,
    material: Material,
    *,
    layer: int | None,
    key: str,
) -> None:
    if pair.picture.boxes is None or not len(pair.picture):
        return
    labels = region_names(split, pair.picture.image_id)
    address = material.address(pair.picture.image_id, LARGE)
    name = f"{run.name}-{key.rsplit('-', 1)[-1]}"
    regions = regions_figure(pair, labels, address, name=f"regions-{name}", title=f"Picture {pair.picture.image_id}")
    if layer is None:
        section.parts.append(Figures(figures=[regions]))
        return
    shares = word_regions(pair, layer)
    widget = words_widget(pair, shares, labels, address, key=key)
    table = words_table(pair, shares, labels, name=f"words-table-{name}", title="Words and regions")
    words = words_figure(pair, shares, address, name=f"words-{name}", title=f"Text to image, {pair.layers[layer]}")
    section.parts.append(f'<div class="figures">{widget}')
    section.parts.append(Figures(figures=[regions, table], bare=True))
    section.parts.append("</div>\n")
    section.parts.append(Figures(figures=[words], shown=False))


def _layers(section: Section, run: Evidence, pairs: Sequence[PairAttention], *, shown: int) -> None:
    """Show the heads of an encoder of one stream by their pattern, the layers of one of two streams as maps."""
    if pairs[0].apart:
        drawn = [
            stacks_figure(pair, name=f"layers-{run.name}-{place}", title=f"Attention of every layer, {run.name}")
            for place, pair in enumerate(pairs[:shown])
        ]
        section.parts.append(Figures(figures=drawn))
        return
    shapes = shapes_of(pairs)
    patterns = patterns_figure(
        shapes, name=f"heads-{run.name}", title=f"Patterns of heads, {run.name}", count=len(pairs)
    )
    most = max(pairs, key=lambda pair: len(pair.picture))
    maps = maps_figure(most, shapes, name=f"maps-{run.name}", title=f"Attention maps, {run.name}")
    section.parts.append(Figures(figures=[patterns, maps]))


def _chosen(one: Measured | None, split: Split, count: int) -> list[str]:
    """Return examples to look at: a query that went best, one that went worst, and the first ones."""
    ranking = None if one is None else read_ranking(one)
    found: list[str] = []
    if ranking is not None:
        best, worst = ranking.extremes("t2i", 1)
        found = [ranking.matrix.text_ids[row] for row in (*best, *worst)]
        found = [name for name in found if name in split.examples]
    first = [example.id for example in islice(split.examples, 0, 20 * count, 5)]
    return list(dict.fromkeys([*found, *first]))[:count]
