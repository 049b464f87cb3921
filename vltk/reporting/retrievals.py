"""What queries found: those that went best and those that went worst, with the pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vltk.errors import VltkError
from vltk.reporting.drawing import ELLIPSIS, WIDTH, Canvas, Figure, shortened
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.material import SMALL, Material, sentence
from vltk.reporting.notation import written
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.run_folder.outcomes import OUTCOMES, read_outcomes
from vltk.stores.examples import ExampleStore
from vltk.stores.score_files import read_scores, score_files
from vltk.stores.score_matrix import ScoreMatrix

SCORES = "scores"
_FOUND = 5
_GAP = 6
_LETTERS = 54
_INTRO = (
    "Queries with the clearest right answer and queries whose right answer came last: first captions that look for "
    "their picture, then pictures that look for their captions. A tick marks what is right. Below a picture stands its "
    "rank, then the score that the run gave it; scores of different runs have no common scale."
)
Way = Literal["t2i", "i2t"]
_WAYS: tuple[Way, ...] = ("t2i", "i2t")


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """The scores of an evaluation, and what they come to.

    Attributes:
        matrix: [C, I] scores.
        ranks: of the right answer of each query, by direction and id.
    """

    matrix: ScoreMatrix
    ranks: dict[str, dict[str, int]]

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """[C, I] scores, minus infinity for pairs that were not scored."""
        return np.nan_to_num(np.asarray(self.matrix.scores, np.float64), nan=-np.inf, neginf=-np.inf)

    def order(self, way: Way, row: int) -> list[int]:
        """Return what a query found, the best first: columns of a text, rows of a picture."""
        scores = self.scores[row] if way == "t2i" else self.scores[:, row]
        return [place for place in np.argsort(-scores, kind="stable").tolist() if scores[place] > -np.inf]

    def right(self, way: Way, row: int) -> set[int]:
        """Return the right answers of a query."""
        if way == "t2i":
            return {int(self.matrix.columns[row])}
        return set(np.flatnonzero(self.matrix.columns == row).tolist())

    def extremes(self, way: Way, count: int) -> tuple[list[int], list[int]]:
        """Return the queries that went best and worst, each of another picture.

        The best have their answer first, by the largest lead over the best wrong one; the worst have it last.
        """
        ids = self.matrix.text_ids if way == "t2i" else self.matrix.image_ids
        known = [(self.ranks[way][name], row) for row, name in enumerate(ids) if name in self.ranks[way]]
        leads = {row: self._lead(way, row) for _, row in known}
        best = self._apart(way, sorted((r for rank, r in known if rank == 1), key=lambda r: -leads[r]), count)
        wrong = sorted(((rank, r) for rank, r in known if rank > 1), key=lambda one: (-one[0], leads[one[1]]))
        return best, self._apart(way, [row for _, row in wrong], count)

    def _lead(self, way: Way, row: int) -> float:
        scores = self.scores[row] if way == "t2i" else self.scores[:, row]
        right = np.zeros(len(scores), bool)
        right[list(self.right(way, row))] = True
        others = scores[~right]
        return float(scores[right].max() - (others.max() if len(others) else 0.0))

    def _apart(self, way: Way, rows: Sequence[int], count: int) -> list[int]:
        found: dict[int, int] = {}
        for row in rows:
            found.setdefault(int(self.matrix.columns[row]) if way == "t2i" else row, row)
        return list(found.values())[:count]


def read_ranking(one: Measured) -> Ranking | None:
    """Return the scores of an evaluation; None where it kept none.

    Raises:
        DataError: a file is damaged.
    """
    numbers, card = score_files(one.path / SCORES)
    if not (numbers.is_file() and card.is_file() and (one.path / OUTCOMES).is_file()):
        return None
    series = read_outcomes(one.path).series
    if not {"t2i", "i2t"} <= series.keys():
        return None
    ranks = {way: dict(zip(series[way].ids, series[way].values.astype(int).tolist(), strict=True)) for way in series}
    return Ranking(matrix=read_scores(one.path / SCORES), ranks=ranks)


def telling(one: Measured | None, way: Way) -> list[str]:
    """Return the query that went best and the one that went worst; none where an evaluation kept no scores."""
    ranking = None if one is None else read_ranking(one)
    if ranking is None:
        return []
    best, worst = ranking.extremes(way, 1)
    ids = ranking.matrix.text_ids if way == "t2i" else ranking.matrix.image_ids
    return [ids[row] for row in (*best, *worst)]


def retrievals(runs: Sequence[Evidence], material: Material) -> Section:
    """Return the best and the worst queries of each run's last evaluation with scores."""
    section = Section(key="retrievals", title="Best and worst retrievals", intro=_INTRO)
    pictures = True
    for run in runs:
        for one in run.examples:
            try:
                ranking = read_ranking(one)
            except VltkError as error:
                section.parts.append(paragraph(f"{run.name}: {error}.", kind="missing"))
                continue
            if ranking is not None:
                pictures = pictures and any(name in material.pictures for name in ranking.matrix.image_ids)
                _shown(section, run, one, ranking, material)
    if section.parts and not pictures:
        section.parts.insert(0, missing("Pictures stand as their ids", "vltk report ... --pictures DIR"))
    return section


def _shown(section: Section, run: Evidence, one: Measured, ranking: Ranking, material: Material) -> None:
    texts = _texts(one, material)
    section.parts.append(f"<h3>{run_heading(run, one)}</h3>\n")
    if texts is None:
        lacks = "Captions stand as their ids: the example store is not where it was"
        section.parts.append(missing(lacks, "vltk report ... --examples STORE"))
    for way in _WAYS:
        best, worst = ranking.extremes(way, material.count)
        figures = []
        for what, rows in (("best", best), ("worst", worst)):
            for place, row in enumerate(rows, 1):
                draw = _text_query if way == "t2i" else _picture_query
                figures.append(draw(ranking, row, f"{run.name}-{way}-{what}-{place}", what, texts or {}, material))
        if figures:
            section.parts.append(Figures(figures=figures))
        if not worst:
            told = "No caption" if way == "t2i" else "No picture"
            section.parts.append(paragraph(f"{told} found its answer later than first.", kind="note"))


def run_heading(run: Evidence, one: Measured) -> str:
    """Return the name of a run and of what it was measured on, as HTML."""
    return escape(f"{run.name}, {one.path.name}")


def _texts(one: Measured, material: Material) -> dict[str, str] | None:
    """Return the texts of an evaluation by id; None where its examples are not there."""
    found = material.stores(one)
    if found is None:
        return None
    return {example.id: sentence(example) for path in found[0] for example in ExampleStore.open(path)}


def _text_query(ranking: Ranking, row: int, name: str, what: str, texts: dict[str, str], material: Material) -> Figure:
    matrix = ranking.matrix
    key = matrix.text_ids[row]
    rank, right = ranking.ranks["t2i"][key], int(matrix.columns[row])
    query = texts.get(key, key)
    order = ranking.order("t2i", row)
    shown = list(enumerate(order[:_FOUND], 1))
    if rank > _FOUND and right in order:
        shown = [*shown[:-1], (rank, right)]
    canvas = Canvas()
    y = _query_text(canvas, f"{what.capitalize()}: right picture on rank {rank:,}", query)
    side = (WIDTH - _GAP * (_FOUND - 1)) / _FOUND
    for place, (position, column) in enumerate(shown):
        x = place * (side + _GAP)
        _thumbnail(canvas, material, matrix.image_ids[column], x, y, side)
        if column == right:
            canvas.rectangle(x, y, side, side, kind="l2", stroke_width=4)
        score = ranking.scores[row, column]
        kind = "f2" if column == right else "muted"
        if column == right:
            canvas.tick(x, y + side + 14)
        text = f"{position:,} · {written(score, 2)}"
        canvas.text(x + (12 if column == right else 0), y + side + 14, text, kind=kind, size=10)
    listed = ", ".join(f"{position}: {matrix.image_ids[column]}" for position, column in shown)
    alt = f"The text {query!r} has its picture {matrix.image_ids[right]} on rank {rank}. Found were {listed}."
    return Figure(name=f"retrieval-{name}", title=query, alt=alt, body=canvas.body, width=WIDTH, height=y + side + 20)


def _picture_query(
    ranking: Ranking, row: int, name: str, what: str, texts: dict[str, str], material: Material
) -> Figure:
    matrix = ranking.matrix
    key, right = matrix.image_ids[row], ranking.right("i2t", row)
    rank = ranking.ranks["i2t"][key]
    order = ranking.order("i2t", row)
    shown = list(enumerate(order[:_FOUND], 1))
    if rank > _FOUND:
        shown = [*shown[:-1], next((n, text) for n, text in enumerate(order, 1) if text in right)]
    canvas = Canvas()
    canvas.text(0, 14, f"{what.capitalize()}: a right caption on rank {rank:,}", size=13, bold=True)
    side, top = 96.0, 24.0
    _thumbnail(canvas, material, key, 0, top, side)
    y = top + 9
    for position, text in shown:
        mine = text in right
        lines = textwrap.wrap(
            texts.get(matrix.text_ids[text], matrix.text_ids[text]), 35, max_lines=2, placeholder=ELLIPSIS
        )
        if mine:
            canvas.tick(side + 8, y)
        canvas.text(side + 20, y, f"{position:,}", kind="f2" if mine else "muted", size=11)
        for line in lines:
            canvas.text(side + 44, y, line, size=11, bold=mine)
            y += 14
        y += 4
    listed = "; ".join(
        f"{position}{' (right)' if text in right else ''}: {texts.get(matrix.text_ids[text], matrix.text_ids[text])}"
        for position, text in shown
    )
    alt = f"The picture {key} has a caption of its own on rank {rank}. Found were {listed}."
    height = max(top + side + 4, y)
    return Figure(name=f"retrieval-{name}", title=key, alt=alt, body=canvas.body, width=WIDTH, height=height)


def _query_text(canvas: Canvas, heading: str, query: str) -> float:
    canvas.text(0, 14, heading, size=13, bold=True)
    y = 31.0
    for line in textwrap.wrap(query, _LETTERS, max_lines=3, placeholder=ELLIPSIS):
        canvas.text(0, y, line)
        y += 15
    return y - 5


def _thumbnail(canvas: Canvas, material: Material, image_id: str, x: float, y: float, side: float) -> None:
    address = material.address(image_id, SMALL)
    if address is None:
        canvas.rectangle(x, y, side, side, kind="grid")
        canvas.text(x + 4, y + side / 2, shortened(image_id, int(side / 6)), kind="muted", size=9)
    else:
        canvas.picture(address, x, y, side, side, fit="xMidYMid slice")
