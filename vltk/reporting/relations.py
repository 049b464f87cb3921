"""How words relate to each other, how regions do, and whether IAIS brought the two together (IAIS, figures 2 and 7)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import VltkError
from vltk.isd.encoder import load_encoder
from vltk.isd.objects import Objects, annotated, objects_of
from vltk.isd.rows import EXAMPLES
from vltk.isd.survey import LEAST_OBJECTS
from vltk.metrics.isd import Reading
from vltk.metrics.isd import relations as relations_of
from vltk.models._layers import layer_place
from vltk.reporting.attention import PairAttention, read_attention
from vltk.reporting.drawing import WIDTH, Canvas, Figure, heat_address, shortened, text_width
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.material import LARGE, Ground, Material, label_boxes, sentence
from vltk.reporting.notation import written
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore


@dataclass(frozen=True, kw_only=True)
class Side:
    """A model before or after.

    Attributes:
        name: what it is called.
        source: its weights: a run, one of its checkpoints, or a model of transformers.
        distances: ISDa of each example by id.
    """

    name: str
    source: str
    distances: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class View:
    """What is compared.

    Attributes:
        before: the first model.
        after: the second.
        measured: where the examples and the procedure come from.
    """

    before: Side
    after: Side
    measured: Measured


_INTRO = (
    "What IAIS is about (its figures 2 and 7): on the left how the words of a caption attend to each other, on the "
    "right how the regions of the same objects do, above before and below after. Rows are objects, columns those that "
    "they attend to, in percent of the row. Where words and regions relate alike, left and right are alike and ISDa is "
    "near 0. Shown are the caption whose distance fell most, one in the middle and one whose distance rose most."
)


def relations(runs: Sequence[Evidence], material: Material) -> Section:
    """Return self-attention of words and of regions side by side, before and after."""
    section = Section(key="relations", title="Relations among words and among regions", intro=_INTRO)
    view = find_view(runs)
    if view is None:
        if any(run.of("distance") or run.of("curve") for run in runs):
            told = "Two runs with `vltk isd` on one split, or one with `vltk isd --curve`, show them before and after."
            section.parts.append(paragraph(told, kind="missing"))
        return section
    stores = material.stores(view.measured)
    if stores is None:
        command = f"vltk isd {view.measured.config.get('run', 'RUN')} --examples STORE --features BOXES"
        section.parts.append(
            missing("Relations are not shown: the stores of the measurement are not where they were", command)
        )
        return section
    try:
        _shown(section, view, stores[0][0], stores[1][0], material)
    except VltkError as error:
        section.parts.append(paragraph(f"Relations cannot be shown: {error}.", kind="missing"))
    return section


def find_view(runs: Sequence[Evidence]) -> View | None:
    """Return what can be compared: the first two runs that were measured alike, else the ends of a run's curve."""
    pairs = [(run, one) for run in runs for one in run.of("distance") if one.results.get("layers")]
    for run, one in pairs[:1]:
        for other, two in pairs[1:]:
            if other is not run and two.split == one.split:
                before = Side(name=run.name, source=run.source, distances=_distances(one.path))
                after = Side(name=other.name, source=other.source, distances=_distances(two.path))
                return View(before=before, after=after, measured=two)
    for run in runs:
        for one in run.of("curve"):
            rows = sorted(one.results["checkpoints"], key=lambda row: int(row["step"]))
            ends = [_checkpoint(run, one, rows[0]), _checkpoint(run, one, rows[-1])]
            if all(Path(side.source).is_dir() and side.distances for side in ends):
                return View(before=ends[0], after=ends[1], measured=one)
    return None


def _checkpoint(run: Evidence, one: Measured, row: dict[str, Any]) -> Side:
    step = row["step"]
    source = str(run.path / str(row["checkpoint"]))
    return Side(name=f"{run.name}, step {step}", source=source, distances=_distances(one.path / f"step-{step}"))


def _distances(folder: Path) -> dict[str, float]:
    path, found = folder / EXAMPLES, {}
    for text in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
            found[str(line["id"])] = float(line["isda"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def chosen(view: View, count: int) -> list[str]:
    """Return examples that came together the most, the median one, and one that came apart the most."""
    known = [name for name in view.before.distances if name in view.after.distances]
    order = sorted(known, key=lambda name: view.after.distances[name] - view.before.distances[name])
    if len(order) <= count:
        return order
    places = np.linspace(0, len(order) - 1, count).round().astype(int).tolist() if count > 1 else [0]
    return [order[place] for place in places]


def _shown(section: Section, view: View, examples: Path, features: Path, material: Material) -> None:
    store, pictures = ExampleStore.open(examples), FeatureStore.open(features)
    ids = [name for name in chosen(view, material.count) if name in store]
    if not ids:
        section.parts.append(paragraph("The measured examples are not in the example store.", kind="missing"))
        return
    sides = []
    for side in (view.before, view.after):
        loaded = load_encoder(side.source, offline=True)
        sides.append((side, read_attention(loaded, store, pictures, ids, device=material.device)))
    for place, name in enumerate(ids):
        found = [(side, pairs[place]) for side, pairs in sides]
        _example(section, view, name, found, material, place)


def _example(
    section: Section,
    view: View,
    name: str,
    found: Sequence[tuple[Side, PairAttention]],
    material: Material,
    place: int,
) -> None:
    protocol = view.measured.results.get("protocol", {})
    pair = found[0][1]
    example = pair.example
    objects = objects_of(example, annotated(pair.picture), chains=protocol.get("chains", "merged"))
    if len(objects) < LEAST_OBJECTS:
        return
    phrases = [_phrase(pair, places) for places in objects.words]
    section.parts.append(f"<h3>“{escape(sentence(example))}”</h3>\n")
    reading = Reading(**protocol.get("reading", {}))
    layer = layer_place(int(protocol.get("layer", -1)), len(pair.scores))
    panels = [(side.name, side.distances[name], *_matrices(one, objects, layer, reading)) for side, one in found]
    address = material.address(pair.picture.image_id, LARGE)
    figures = [
        _objects_figure(pair, objects, phrases, address, name=f"relations-picture-{place + 1}"),
        matrices_figure(panels, phrases, name=f"relations-{place + 1}"),
        maps_figure([(side.name, one) for side, one in found], objects, layer, name=f"relations-maps-{place + 1}"),
    ]
    section.parts.append(Figures(figures=figures))


def _phrase(pair: PairAttention, places: Sequence[int]) -> str:
    words = sorted({pair.example.tokens[0].words[piece] for piece in places})
    return " ".join(pair.words[word] for word in words)


def _matrices(
    pair: PairAttention, objects: Objects, layer: int, reading: Reading
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return [N, N] relations of the objects among words and among regions, without [CLS] and [SEP]."""
    length = pair.length
    text = pair.scores[layer][:, 1 : length - 1, 1 : length - 1]
    picture = pair.scores[layer][:, length:, length:]
    return (
        relations_of(text, objects.words, reading).mean(axis=0),
        relations_of(picture, objects.regions, reading).mean(axis=0),
    )


def matrices_figure(
    panels: Sequence[tuple[str, float, NDArray[np.float64], NDArray[np.float64]]], phrases: Sequence[str], *, name: str
) -> Figure:
    """Draw the relations of objects among words and among regions, one row a model.

    Args:
        panels: name, ISDa, and both [N, N] matrices of each model.
        phrases: names of the objects.
        name: of the files.
    """
    canvas = Canvas()
    gap = 24.0
    side = (WIDTH - gap) / 2 - 16
    y = 10 + canvas.heading("Relations of the objects", "percent of a row; rows attend to columns")
    for label, value, words, regions in panels:
        canvas.text(0, y, f"{shortened(label, 30)}: ISDa {written(value, 3)} nats", bold=True)
        for column, (what, matrix) in enumerate((("words", words), ("regions", regions))):
            x = 16 + column * (side + gap + 16)
            canvas.text(x, y + 17, what, kind="muted", size=11)
            _matrix(canvas, matrix, x, y + 34, side)
        y += side + 62
    for place, phrase in enumerate(phrases):
        canvas.text(0, y - 8 + 16 * place, f"{place + 1}  {shortened(phrase, 52)}")
    y += 16 * len(phrases)
    told = "; ".join(f"{label}: ISDa {written(value, 3)} nats" for label, value, *_ in panels)
    alt = f"Relations of {', '.join(phrases)} among words and among regions. {told}."
    return Figure(name=name, title="Relations of the objects", alt=alt, body=canvas.body, width=WIDTH, height=y - 4)


def _matrix(canvas: Canvas, values: NDArray[np.float64], x: float, y: float, side: float) -> None:
    count = len(values)
    cell = side / count
    canvas.picture(heat_address(values, largest=1.0), x, y, side, side, kind="heat")
    canvas.rectangle(x, y, side, side, kind="grid")
    for row in range(count):
        canvas.text(x - 5, y + cell * (row + 0.5) + 4, str(row + 1), kind="muted", size=10, anchor="end")
        canvas.text(x + cell * (row + 0.5), y - 4, str(row + 1), kind="muted", size=10, anchor="middle")
        for column in range(count):
            middle = x + cell * (column + 0.5)
            told = f"{100 * values[row, column]:.0f}"
            canvas.text(middle, y + cell * (row + 0.5) + 4, told, size=min(11, cell / 2), anchor="middle")


def _objects_figure(
    pair: PairAttention, objects: Objects, phrases: Sequence[str], address: str | None, *, name: str
) -> Figure:
    canvas = Canvas()
    canvas.text(0, 14, "The objects", size=13, bold=True)
    ground = Ground(size=pair.picture.size, address=address, y=24, width=WIDTH)
    ground.draw(canvas)
    rows = [(row, f"{place + 1} {phrases[place]}") for place, many in enumerate(objects.regions) for row in many]
    boxes = [] if pair.picture.boxes is None else [pair.picture.boxes[row] for row, _ in rows]
    label_boxes(canvas, ground, boxes, [label for _, label in rows])
    alt = f"Picture {pair.picture.image_id} with the objects {', '.join(phrases)}."
    return Figure(name=name, title="The objects", alt=alt, body=canvas.body, width=WIDTH, height=26 + ground.height)


def maps_figure(found: Sequence[tuple[str, PairAttention]], objects: Objects, layer: int, *, name: str) -> Figure:
    """Draw the self-attention of all words and of all regions, before and after, side by side."""
    canvas = Canvas()
    title = f"Self-attention in layer {layer}"
    y = canvas.heading(title, "the mean over heads; rows attend to columns")
    for what in ("words", "regions"):
        y = _maps(canvas, found, *_rows(found[0][1], objects, what), layer, what, y + 14)
    first = found[0][1]
    names = " beside ".join(label for label, _ in found)
    alt = f"{title} of {len(first.words)} words and {len(first.picture)} regions: {names}."
    caption = (
        "Each row sums to 1 over its own side. The bluer, the more attention; shades grow with the root of a share."
    )
    return Figure(name=name, title=title, alt=alt, body=canvas.body, width=WIDTH, height=y, caption=caption)


def _rows(pair: PairAttention, objects: Objects, what: str) -> tuple[list[int], list[str]]:
    """Return the places that a map shows and their names: words as they stand, regions of objects first."""
    if what == "words":
        pieces = list(range(1, pair.length - 1))
        return pieces, [pair.words[word] for word in pair.example.tokens[0].words]
    owners = {row: place + 1 for place, many in enumerate(objects.regions) for row in many}
    order = sorted(range(len(pair.picture)), key=lambda row: (owners.get(row, len(owners) + 1), row))
    names = [f"object {owners[row]}" if row in owners else f"region {row + 1}" for row in order]
    return [pair.length + row for row in order], names


def _maps(
    canvas: Canvas,
    found: Sequence[tuple[str, PairAttention]],
    places: Sequence[int],
    labels: Sequence[str],
    layer: int,
    what: str,
    top: float,
) -> float:
    """Draw the maps of one side of all models; return where they end."""
    size = 9.0
    left = 6 + max(text_width(shortened(label, 14), size) for label in labels)
    gap = 10.0
    side = (WIDTH - left - gap * (len(found) - 1)) / len(found)
    height = max(min(side, 24.0 * len(labels)), 11.0 * len(labels))
    for place, label in enumerate(labels):
        y = top + height * (place + 0.5) / len(labels) + size / 3
        canvas.text(left - 4, y, shortened(label, 14), size=size, anchor="end")
    for place, (name, pair) in enumerate(found):
        shares = pair.probabilities()[layer].mean(axis=0)[np.ix_(places, places)]
        shares = shares / shares.sum(axis=1, keepdims=True)
        x = left + place * (side + gap)
        canvas.text(x, top - 4, shortened(f"{what}, {name}", 26), kind="muted", size=10)
        canvas.picture(heat_address(np.sqrt(shares), largest=1.0), x, top, side, height, kind="heat")
        canvas.rectangle(x, top, side, height, kind="grid")
    return top + height + 8
