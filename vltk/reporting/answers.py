"""What a model answered: questions, statements and expressions that it got right and wrong, with their pictures."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np

from vltk.errors import VltkError
from vltk.reporting.drawing import ELLIPSIS, WIDTH, Canvas, Figure, shortened
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.material import SMALL, Ground, Material, sentence
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.run_folder.outcomes import OUTCOMES, read_outcomes
from vltk.run_folder.predictions import PREDICTIONS, read_predictions
from vltk.stores.examples import ExampleStore
from vltk.types import AnswersTarget, BoxTarget, ChoiceTarget, Example, LabelTarget, Prediction, ScoredTarget, Target

_SIDE, _SMALL_SIDE = 120.0, 84.0
Box = Sequence[float]
_INTRO = (
    "Examples that counted most and least, spread over the split: what was asked, what the run said, and what people "
    "say. The figure above each is what the answer counts, from 0 (wrong) to 1 (right). "
    "Of two boxes on a picture the green one is right and the orange one was said."
)


def answers(runs: Sequence[Evidence], material: Material) -> Section:
    """Return examples that each run answered right and wrong; nothing for evaluations of retrieval."""
    section = Section(key="answers", title="Right and wrong answers", intro=_INTRO)
    for run in runs:
        for one in run.of("evaluation"):
            if not ((one.path / PREDICTIONS).is_file() and (one.path / OUTCOMES).is_file()):
                continue
            try:
                _shown(section, run, one, material)
            except VltkError as error:
                section.parts.append(paragraph(f"{run.name} shows no answers: {error}.", kind="missing"))
    return section


def _shown(section: Section, run: Evidence, one: Measured, material: Material) -> None:
    stores = material.stores(one)
    section.parts.append(f"<h3>{escape(f'{run.name}, {one.path.name}')}</h3>\n")
    if stores is None:
        lacks = f"The answers of {run.name} are not shown: the example store is not where it was"
        section.parts.append(missing(lacks, "vltk report ... --examples STORE"))
        return
    predictions = read_predictions(one.path / PREDICTIONS)
    series = next(iter(read_outcomes(one.path).series.values()))
    counted = dict(zip(series.ids, series.values.tolist(), strict=True))
    opened = [ExampleStore.open(path) for path in stores[0]]
    figures = []
    for what, names in zip(("right", "wrong"), extremes(counted, material.count), strict=True):
        for place, name in enumerate(names, 1):
            store = next((store for store in opened if name in store), None)
            if store is not None and name in predictions:
                figure = f"answer-{run.name}-{what}-{place}"
                figures.append(answer_figure(store.get(name), predictions[name], counted[name], material, name=figure))
    section.parts.append(Figures(figures=figures))


def extremes(counted: dict[str, float], count: int) -> tuple[list[str], list[str]]:
    """Return examples that counted most and least, spread over the split.

    Example:
        >>> extremes({"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.3}, 1)
        (['a'], ['b'])
    """
    most, least = max(counted.values()), min(counted.values())
    found = []
    for value in (most, least):
        names = [name for name, one in counted.items() if one == value]
        places = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int).tolist()
        found.append([names[place] for place in places])
    return found[0], [] if most == least else found[1]


def gold(target: Target | None) -> str:
    """Return what an annotation says is right, for people.

    Example:
        >>> gold(AnswersTarget(answers=("red", "red", "pink")))
        'red (2 of 3), pink (1 of 3)'
    """
    if isinstance(target, AnswersTarget):
        told = Counter(target.answers).most_common(3)
        several = len(target.answers) > 1
        return ", ".join(f"{one} ({n} of {len(target.answers)})" if several else one for one, n in told)
    if isinstance(target, LabelTarget):
        return target.label
    if isinstance(target, ScoredTarget):
        pairs = sorted(zip(target.labels, target.scores, strict=True), key=lambda pair: -pair[1])
        return ", ".join(f"{label} ({score:.1f})" for label, score in pairs[:3])
    if isinstance(target, ChoiceTarget):
        return f"answer {target.answer}, rationale {target.rationale}"
    if isinstance(target, BoxTarget):
        return _corners(target.box)
    return "unknown"


def answer_figure(example: Example, prediction: Prediction, counted: float, material: Material, *, name: str) -> Figure:
    """Draw the picture or pictures with the question, the answer that was given, and what people say.

    Args:
        example: what was asked.
        prediction: what the model said.
        counted: what it counts.
        material: has the pictures.
        name: of the files.
    """
    canvas = Canvas()
    canvas.text(0, 14, f"Counts {counted:.2f}", size=13, bold=True)
    side = _SIDE if len(example.image_ids) == 1 else _SMALL_SIDE
    said, right = _said(prediction, example.target), gold(example.target)
    for place, image_id in enumerate(example.image_ids):
        _picture(canvas, material, image_id, place * (side + 4), side, _boxes(prediction, example.target))
    x = len(example.image_ids) * (side + 4) + 8
    letters, y = int((WIDTH - x) / 6.6), 34.0
    rows = [
        (text, "ink", False) for text in textwrap.wrap(sentence(example), letters, max_lines=4, placeholder=ELLIPSIS)
    ]
    rows.append((shortened(f"said: {said}", letters), "f2" if counted > 0 else "f1", True))
    wrapped = textwrap.wrap(f"right: {right}", letters, max_lines=3, placeholder=ELLIPSIS)
    rows += [(text, "muted", False) for text in wrapped]
    for text, kind, bold in rows:
        canvas.text(x, y, text, kind=kind, size=12, bold=bold)
        y += 16
    shown = " and ".join(example.image_ids)
    alt = f"{sentence(example)!r} about picture {shown}: said {said!r}, right is {right}."
    height = max(24 + side, y) + 2
    return Figure(name=name, title=sentence(example), alt=alt, body=canvas.body, width=WIDTH, height=height)


def _picture(canvas: Canvas, material: Material, image_id: str, x: float, side: float, boxes: Sequence[Box]) -> None:
    """Draw a picture into a square, with the boxes that are right (first colour) and that were said."""
    address, size = material.address(image_id, SMALL), material.size(image_id)
    if address is None or size is None:
        canvas.rectangle(x, 24, side, side, kind="grid")
        canvas.text(x + 4, 24 + side / 2, shortened(image_id, int(side / 6)), kind="muted", size=9)
        return
    width = side * size[0] / max(size)
    ground = Ground(size=size, address=address, x=x + (side - width) / 2, y=24, width=width)
    ground.draw(canvas)
    for kind, box in reversed(list(zip(("l2", "l1"), boxes, strict=False))):
        canvas.rectangle(*ground.place(box), kind=kind, stroke_width=2)


def _boxes(prediction: Prediction, target: Target | None) -> list[Box]:
    """Return the box that is right and the one that was said; none for tasks without boxes."""
    if not isinstance(target, BoxTarget):
        return []
    try:
        box = [float(value) for value in json.loads(prediction.answer)]
    except (TypeError, ValueError):
        return [target.box]
    return [target.box, box] if len(box) == 4 else [target.box]


def _said(prediction: Prediction, target: Target | None) -> str:
    boxes = _boxes(prediction, target)
    return _corners(boxes[1]) if len(boxes) == 2 else prediction.answer


def _corners(box: Box) -> str:
    return f"the box {', '.join(f'{value:.0f}' for value in box)}"
