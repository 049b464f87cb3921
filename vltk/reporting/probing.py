"""The trees that a probe reads from a model's states beside the gold ones, and the distances that they come from.

SSRP, figure 5 (sentences) and figure 4 (pictures) of its supplement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import VltkError
from vltk.probing.relations import RELATIONS, read_relations
from vltk.reporting.charts import Trace, heat_chart, line_chart
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.joint_attention import LOOKED_AT
from vltk.reporting.material import LARGE, Material, region_names
from vltk.reporting.notation import figure_told, metric_name
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.reporting.tree_figure import picture_tree, sentence_trees
from vltk.tasks._task import Split

SENTENCES = "sentences.jsonl"
_SHOWN = 3
_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"')
_INTRO = (
    "Whether the states of words know how the sentence is built. A probe is a linear map under which states of words "
    "that are near in the dependency tree (which word belongs to which) come near each other; the shortest tree "
    "through these distances is the predicted one. UUAS is the share of the edges of the gold tree that it finds. A "
    "figure says little without the controls beside it: an untrained encoder, and each word joined to the next."
)


def probes(runs: Sequence[Evidence], material: Material) -> Section:
    """Return what the probes of all runs found; a line with the command where there is none."""
    section = Section(key="trees", title="Dependency trees", intro=_INTRO)
    for run in runs:
        for one in run.of("probe"):
            try:
                _shown(section, run, one, material)
            except (KeyError, TypeError, ValueError, VltkError) as error:
                told = f"{run.name}: the probe in {one.path} is damaged ({error!s:.80}); probe again."
                section.parts.append(paragraph(told, kind="missing"))
    if not section.parts and any(run.trained and run.model in LOOKED_AT for run in runs):
        section.parts.append(
            missing(
                "No run was probed for dependency trees",
                "vltk probe RUN --examples TREES --features STORE --out RUN/probe",
            )
        )
    return section


def _shown(section: Section, run: Evidence, one: Measured, material: Material) -> None:
    section.parts.append(f"<h3>{escape(run.name)}, {escape(one.path.name)}</h3>\n")
    figures = [figure for measure in ("uuas", "spearman") if (figure := _layers(run, one, measure)) is not None]
    if figures:
        section.parts.append(Figures(figures=figures))
    told = "; ".join(f"{metric_name(name)} {figure_told(row)}" for name, row in list(one.metrics().items())[:4])
    section.parts.append(paragraph(f"{told}.", kind="note"))
    all_lines = _lines(one)
    # Those whose relations were kept have more to show.
    kept = [line for line in all_lines if "region_edges" in line]
    lines = chosen(kept if len(kept) >= _SHOWN else all_lines)
    if lines:
        of = f" of the {len(kept):,} whose relations were kept" if _SHOWN <= len(kept) < len(all_lines) else ""
        legend = (
            f"Below, the sentence that came out best{of}, one in the middle and the worst: gold trees above the words, "
            "predicted ones below in colour, dashed what the gold tree lacks. Beside each its distances, the bluer "
            "the nearer, and the shortest tree over the regions of its picture, which has no gold one."
        )
        section.parts.append(paragraph(legend, kind="note"))
    split = _regions(run, one, material)
    matrices = read_relations(one.path / RELATIONS) if (one.path / RELATIONS).is_file() else {}
    for place, (what, line) in enumerate(lines, 1):
        drawn = tree_figure(line, name=f"tree-{run.name}-{place}")
        note = f"{what}: {line['right']} of {line['edges']} edges"
        section.parts.extend(_wide(drawn, note))
        names = _names(line, split)
        if (tree := _picture_tree(line, split, names, material, name=f"region-tree-{run.name}-{place}")) is not None:
            section.parts.extend(_wide(tree, f"Regions of picture {line['image']}"))
        if line["id"] in matrices:
            section.parts.append(Figures(figures=_matrices(line, matrices[line["id"]], names, f"{run.name}-{place}")))


def _wide(drawn: Figure, note: str) -> list[str | Figures]:
    """Return a figure that is as wide as it needs, and itself as a file."""
    shown = (
        f'<figure class="wide"><div class="trees">{drawn.body}</div><figcaption>{escape(note)}</figcaption></figure>'
    )
    return [f"{shown}\n", Figures(figures=[drawn], shown=False)]


def _regions(run: Evidence, one: Measured, material: Material) -> Split | None:
    """Return the split with the regions of a probe's pictures; None where its stores are gone."""
    try:
        return material.split(run, one)
    except VltkError:
        return None


def _names(line: Mapping[str, Any], split: Split | None) -> list[str]:
    image_id = str(line.get("image"))
    return region_names(split, image_id) if split is not None and image_id in split.features else []


def _layers(run: Evidence, one: Measured, measure: str) -> Figure | None:
    """Draw a figure of each layer: the encoder, and the controls beside it."""
    rows = [row for row in one.results.get("layers", []) if row.get(measure) is not None]
    systems = dict.fromkeys(str(row["system"]) for row in rows)
    layers = sorted({int(row["layer"]) for row in rows if row.get("layer") is not None})
    if not layers:
        return None
    traces = []
    for colour, system in enumerate(list(systems)[:6]):
        own = sorted((row for row in rows if row["system"] == system), key=lambda row: row["layer"] or 0)
        # A control without layers is one figure for all of them.
        x = layers if own[0].get("layer") is None else [int(row["layer"]) for row in own]
        y = [float(own[0][measure])] * len(x) if own[0].get("layer") is None else [float(row[measure]) for row in own]
        known = own[0].get("layer") is not None and all(row.get(f"{measure}_interval_95") for row in own)
        ends = [(row[f"{measure}_interval_95"][0], row[f"{measure}_interval_95"][1]) for row in own] if known else []
        traces.append(Trace(label=system, x=x, y=y, colour=colour, intervals=ends, dots=known))
    name = {"uuas": "Edges found (UUAS)", "spearman": "Spearman's correlation"}[measure]
    best = "; ".join(f"{trace.label} at most {max(trace.y):.3f}" for trace in traces)
    title = f"{name}, {run.name}"
    subtitle = "share of the edges of the gold trees" if measure == "uuas" else "of distances with those of gold trees"
    return line_chart(
        traces,
        name=f"probe-{measure}-{run.name}",
        title=title,
        subtitle=f"{subtitle}; higher is better",
        alt=f"{title}, by layer: {best}.",
        x_label="layer (0: embeddings)",
        zero=True,
    )


def _lines(one: Measured) -> list[dict[str, Any]]:
    path = one.path / SENTENCES
    found = [json.loads(text) for text in path.read_text("utf-8").splitlines()] if path.is_file() else []
    return [line for line in found if line.get("edges") and "right" in line]


def chosen(lines: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the sentence that came out best, one in the middle and the worst, the longest of equals."""
    order = sorted(lines, key=lambda line: (line["right"] / line["edges"], line["edges"]))
    if len(order) < _SHOWN:
        return [("Sentence", line) for line in order]
    lowest = order[0]["right"] / order[0]["edges"]
    worst = max((line for line in order if line["right"] / line["edges"] == lowest), key=lambda line: line["edges"])
    return [("Best", order[-1]), ("Middle", order[len(order) // 2]), ("Worst", worst)]


def tree_figure(line: Mapping[str, Any], *, name: str) -> Figure:
    """Return the trees of a sentence as a figure."""
    gold = [(word, head - 1) for word, head in enumerate(line["heads"]) if head]
    words = " ".join(line["words"])
    alt = f"{words}: {line['right']} of {line['edges']} edges of the gold tree are predicted."
    return _figure(sentence_trees(line["words"], gold, line.get("predicted", [])), name=name, title=words, alt=alt)


def _picture_tree(
    line: Mapping[str, Any], split: Split | None, names: Sequence[str], material: Material, *, name: str
) -> Figure | None:
    """Return the tree over the regions of a sentence's picture; None where they are not there."""
    image_id = str(line.get("image"))
    if "region_edges" not in line or not names or split is None:
        return None
    regions = split.features.get(image_id)
    if regions.boxes is None or len(regions) != len(names) or len(line["region_edges"]) != len(names) - 1:
        return None
    address = material.address(image_id, LARGE)
    drawn = picture_tree(regions.boxes.tolist(), line["region_edges"], size=regions.size, picture=address, labels=names)
    joined = "; ".join(f"{names[a]} with {names[b]}" for a, b in line["region_edges"][:12])
    alt = f"The shortest tree over the {len(names)} regions of picture {image_id}: {joined}."
    return _figure(drawn, name=name, title=f"Regions of picture {image_id}", alt=alt)


def _figure(drawn: str, *, name: str, title: str, alt: str) -> Figure:
    """Return a drawing that stands by itself as a figure."""
    told = _SIZE.search(drawn)
    if told is None:
        raise ValueError("a drawing without size")
    labelled = drawn.replace('role="img"', f'role="img" aria-label="{escape(alt)}"', 1)
    # Two runs may find one tree, and a page holds a name only once.
    for mark in ('id="', 'href="#'):
        labelled = labelled.replace(f"{mark}picture-", f"{mark}{name}-")
    return Figure(name=name, title=title, alt=alt, body=labelled, width=float(told[1]), height=float(told[2]))


def _matrices(
    line: Mapping[str, Any], found: tuple[NDArray[np.float32], NDArray[np.float32]], names: Sequence[str], name: str
) -> list[Figure]:
    """Return the distances of a sentence's words, and those of its picture's regions, as tables of shades."""
    words, regions = found
    labels = names if len(names) == len(regions) else [f"region {row + 1}" for row in range(len(regions))]
    sides = [("words", words, list(line["words"])), ("regions", regions, list(labels))]
    return [
        heat_chart(
            nearness(distances),
            rows=own,
            columns=own,
            name=f"relations-{what}-{name}",
            title=f"How near {what} are",
            subtitle="squared distance; the bluer, the nearer",
            largest=1.0,
            alt=f"Distances of {len(own)} {what}: {_nearest(distances, own)}.",
        )
        for what, distances, own in sides
        if len(own) == len(distances) > 1
    ]


def nearness(distances: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 for what lies at one place and 0 for what lies farthest apart.

    Example:
        >>> nearness(np.array([[0.0, 4.0], [4.0, 0.0]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    top = float(distances.max())
    return 1 - np.asarray(distances, np.float64) / (top if top > 0 else 1.0)


def _nearest(distances: NDArray[np.floating], names: Sequence[str]) -> str:
    apart = np.array(distances, np.float64)
    np.fill_diagonal(apart, np.inf)
    a, b = np.unravel_index(int(apart.argmin()), apart.shape)
    return f"the nearest are {names[int(a)]} and {names[int(b)]}"
