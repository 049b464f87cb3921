"""What a joint encoder looks at: regions, the regions of each word, and the patterns of its heads."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import islice

from vltk.errors import VltkError
from vltk.isd.encoder import JOINT, load_encoder
from vltk.reporting.attention import PairAttention, read_attention
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.heads import maps_figure, patterns_figure, shapes_of
from vltk.reporting.material import LARGE, Material, region_names
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.reporting.retrievals import read_ranking
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

_PAIRS = 16


def joint_attention(runs: Sequence[Evidence], material: Material) -> Section:
    """Return what each run of a joint encoder attends to, on pairs of its last evaluation."""
    section = Section(key="attention", title="Words and regions", style=widget_style())
    for place, run in enumerate(runs):
        if not run.trained or run.asked.get("model", JOINT[0]) not in JOINT:
            continue
        measured = run.examples
        split = _split(section, run, measured, material)
        if split is None:
            continue
        try:
            _seen(section, run, measured[0], split, material, key=f"words-{place}")
        except VltkError as error:
            section.parts.append(paragraph(f"{run.name} shows no attention: {error}.", kind="missing"))
    return section


def _split(section: Section, run: Evidence, measured: Sequence[Measured], material: Material) -> Split | None:
    if not measured:
        command = f"vltk eval {run.path} --examples STORE --features STORE"
        section.parts.append(missing(f"{run.name} has no evaluation to take examples from", command))
        return None
    try:
        split = material.split(run, measured[0])
    except VltkError as error:
        section.parts.append(paragraph(f"{run.name} shows no attention: {error}.", kind="missing"))
        return None
    if split is None:
        command = "vltk report ... --examples STORE --features STORE"
        section.parts.append(
            missing(f"{run.name} shows no attention: the stores of its evaluation are not where they were", command)
        )
    return split


def _seen(section: Section, run: Evidence, one: Measured, split: Split, material: Material, *, key: str) -> None:
    chosen = _chosen(one, split, material.count)
    ids = list(dict.fromkeys([*chosen, *(example.id for example in islice(split.examples, _PAIRS))]))[:_PAIRS]
    ids = [name for name in ids if split.examples.get(name).tokens and split.examples.get(name).tokens[0].ids]
    loaded = load_encoder(str(run.path))
    pairs = read_attention(loaded, split.examples, split.features, ids, device=material.device)
    layer = best_layer(pairs)
    section.parts.append(f"<h3>{escape(run.name)}</h3>\n")
    told = (
        f"Attention of words to regions in layer {layer}, the mean over its heads: of all layers it tells regions "
        "apart most sharply. Point at a word, tap it, or choose it with Tab and the arrow keys."
    )
    section.parts.append(paragraph(told, kind="note"))
    for place, pair in enumerate(pairs[: len(chosen)]):
        _pair(section, run, pair, split, material, layer=layer, key=f"{key}-{place}")
    shapes = shapes_of(pairs)
    patterns = patterns_figure(
        shapes, name=f"heads-{run.name}", title=f"Patterns of heads, {run.name}", count=len(pairs)
    )
    most = max(pairs, key=lambda pair: len(pair.picture))
    maps = maps_figure(most, shapes, name=f"maps-{run.name}", title=f"Attention maps, {run.name}")
    section.parts.append(Figures(figures=[patterns, maps]))


def _pair(
    section: Section, run: Evidence, pair: PairAttention, split: Split, material: Material, *, layer: int, key: str
) -> None:
    if pair.picture.boxes is None or not len(pair.picture):
        return
    labels = region_names(split, pair.picture.image_id)
    address = material.address(pair.picture.image_id, LARGE)
    shares = word_regions(pair, layer)
    widget = words_widget(pair, shares, labels, address, key=key)
    name = f"{run.name}-{key.rsplit('-', 1)[-1]}"
    table = words_table(pair, shares, labels, name=f"words-table-{name}", title="Words and regions")
    regions = regions_figure(pair, labels, address, name=f"regions-{name}", title=f"Picture {pair.picture.image_id}")
    words = words_figure(pair, shares, address, name=f"words-{name}", title=f"Text to image attention, layer {layer}")
    section.parts.append(f'<div class="figures">{widget}')
    section.parts.append(Figures(figures=[regions, table], bare=True))
    section.parts.append("</div>\n")
    section.parts.append(Figures(figures=[words], shown=False))


def _chosen(one: Measured, split: Split, count: int) -> list[str]:
    """Return examples to look at: a query that went best, one that went worst, and the first ones."""
    ranking = read_ranking(one)
    found: list[str] = []
    if ranking is not None:
        best, worst = ranking.extremes("t2i", 1)
        found = [ranking.matrix.text_ids[row] for row in (*best, *worst)]
        found = [name for name in found if name in split.examples]
    first = [example.id for example in islice(split.examples, 0, 20 * count, 5)]
    return list(dict.fromkeys([*found, *first]))[:count]
