"""What an encoder of text and picture looks at: regions, the regions of each word, and the patterns of its heads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from itertools import islice

from vltk.errors import VltkError
from vltk.isd.encoder import JOINT
from vltk.models._hub_encoders import KINDS
from vltk.reporting.attention import PairAttention, open_encoder, read_attention
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.heads import maps_figure, patterns_figure, shapes_of
from vltk.reporting.material import LARGE, Material, region_names, split_regions
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.reporting.retrievals import telling
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
    "outlined. Beside it stand the regions that the detector found, and all shares as a table, bluer where more."
)


def joint_attention(runs: Sequence[Evidence], material: Material) -> Section:
    """Return what the encoder of each run attends to, on pairs of its last measurement."""
    section = Section(key="attention", title="Words and regions", intro=_INTRO, style=widget_style())
    known: set[str] = set()
    for place, run in enumerate(runs):
        if not run.source:
            continue
        try:
            split = _split(section, run, material)
            if split is not None and run.model in LOOKED_AT:
                known |= _seen(section, run, split, material, key=f"words-{place}")
            elif split is not None:
                known |= _regions_alone(section, run, split, material, known)
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


def _regions_alone(
    section: Section, run: Evidence, split: Split, material: Material, known: Collection[str]
) -> set[str]:
    """Show the regions that a model reads in which no word meets one, where they are not on the page yet."""
    names = _chosen(run.shown, split, material.count)
    pictures = dict.fromkeys(name for one in names for name in split.examples.get(one).image_ids)
    figures = []
    for place, image_id in enumerate(name for name in pictures if name not in known and name in split.features):
        picture = split_regions(split, image_id).picture
        if picture.boxes is not None and len(picture):
            address = material.address(image_id, LARGE)
            labels = region_names(split, image_id)
            figures.append(regions_figure(picture, labels, address, name=f"regions-{run.name}-{place}"))
    if figures:
        section.parts.append(f"<h3>{escape(run.name)}</h3>\n")
        told = f"The regions that {run.name} reads. It embeds texts and pictures each alone, so that no word meets one."
        section.parts.append(paragraph(told, kind="note"))
        section.parts.append(Figures(figures=figures))
    return set(pictures)


def _seen(section: Section, run: Evidence, split: Split, material: Material, *, key: str) -> set[str]:
    """Show what a run attends to; return the pictures that are shown."""
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
        if any(len(pair.example.image_ids) > 1 for pair in pairs):
            told += " Each text stands with the first of its pictures alone."
        section.parts.append(paragraph(told, kind="note"))
    for place, pair in enumerate(pairs[: len(chosen)]):
        _pair(section, run, pair, split, material, layer=layer, key=f"{key}-{place}")
    _layers(section, run, pairs, shown=min(len(chosen), 2))
    return {pair.picture.image_id for pair in pairs[: len(chosen)]}


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
    regions = regions_figure(pair.picture, labels, address, name=f"regions-{name}")
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
    found = [name for name in telling(one, "t2i") if name in split.examples]
    first = [example.id for example in islice(split.examples, 0, 20 * count, 5)]
    return list(dict.fromkeys([*found, *first]))[:count]
