"""The report of runs: one page, and the figures of it as files."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import vltk
from vltk.errors import DataError, UsageError
from vltk.reporting.answers import answers
from vltk.reporting.card import cards
from vltk.reporting.differences import differences
from vltk.reporting.distances import distances
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence, read_runs
from vltk.reporting.figure_files import Format, rasteriser, write_figures
from vltk.reporting.findings import findings as findings_of
from vltk.reporting.joint_attention import joint_attention
from vltk.reporting.learning import learning
from vltk.reporting.material import Material, find_pictures
from vltk.reporting.not_shown import not_shown
from vltk.reporting.page import Section, chip, render
from vltk.reporting.picture_attention import picture_attention
from vltk.reporting.pooling import pooling
from vltk.reporting.probing import probes
from vltk.reporting.recall import quality
from vltk.reporting.relations import relations
from vltk.reporting.retrievals import retrievals
from vltk.stores.whole_files import write_whole

LARGEST = 5_000_000
"""Bytes of a page; where it would be larger, fewer examples are shown."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written.

    Attributes:
        page: the file.
        size: its bytes.
        sections: titles of its parts.
        figures: files of figures.
    """

    page: Path
    size: int
    sections: list[str]
    figures: list[Path] = field(default_factory=list)


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str = "",
    pictures: Path | None = None,
    examples: Sequence[Path] = (),
    features: Sequence[Path] = (),
    count: int = 3,
    device: str = "cpu",
    findings: Path | None = None,
    figures: Path | None = None,
    formats: Iterable[Format] = ("svg", "png"),
    overwrite: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Write the report of some runs as one page that needs nothing else.

    Args:
        runs: folders of training runs, evaluations, ``vltk isd`` or probes; what lies below them is taken as well.
        out: the page.
        title: of the page; names of the runs if empty.
        pictures: folder of the pictures; without it they stand as their ids.
        examples: example stores of the evaluations, where they are not where their receipts say.
        features: feature stores, likewise.
        count: how many examples of a kind are shown.
        device: where models compute.
        findings: a file of findings, which stand first, or None.
        figures: folder for every figure as a file of its own, or None.
        formats: of these files.
        overwrite: whether a page that is there may be replaced.
        say: told what is being drawn.

    Raises:
        UsageError: a folder that is no run, or a page that is there.
        DataError: a damaged file of a run.
    """
    if out.is_dir():
        raise UsageError("is a folder", where=out, remedy="name the page, e.g. report.html")
    if out.exists() and not overwrite:
        raise UsageError("exists", where=out, remedy="add --overwrite or name another file")
    if figures is not None and "png" in (formats := tuple(formats)):
        rasteriser()
    if count < 1:
        raise UsageError(f"{count} is too few", where="--examples-shown", remedy="show one or more")
    found = read_runs(runs)
    material = Material(
        pictures=find_pictures(pictures), examples=tuple(examples), features=tuple(features), count=count, device=device
    )
    first = [] if findings is None else [findings_of(findings)]
    heading = title or f"Report: {', '.join(run.name for run in found)}"
    sections, text = _fitting(found, material, first, heading, say)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, [text])
    drawn = _named(figure for section in sections for figure in section.figures())
    files = [] if figures is None else write_figures(figures, drawn, formats=formats)
    return Report(
        page=out, size=len(text.encode()), sections=[one.title for one in sections if one.parts], figures=files
    )


def _fitting(
    runs: Sequence[Evidence], material: Material, first: list[Section], title: str, say: Callable[[str], None]
) -> tuple[list[Section], str]:
    """Return the parts and the text of a page that is not too large, with fewer examples where it would be."""
    while True:
        sections = [*first, *(make() for make in _parts(runs, material))]
        text = render(sections, title=title, lead=_lead(runs))
        size = len(text.encode())
        if size <= LARGEST:
            return sections, text
        if material.count == 1:
            problem = f"the page would be {size / 1e6:.1f} MB"
            raise DataError(problem, where=title, remedy="report on fewer runs")
        say(f"{size / 1e6:.1f} MB are too many for a page: shows fewer examples")
        material = replace(material, count=material.count // 2)


def _parts(runs: Sequence[Evidence], material: Material) -> list[Callable[[], Section]]:
    return [
        partial(cards, runs),
        partial(learning, runs),
        partial(quality, runs),
        partial(differences, runs),
        partial(retrievals, runs, material),
        partial(answers, runs, material),
        partial(joint_attention, runs, material),
        partial(picture_attention, runs, material),
        partial(distances, runs),
        partial(relations, runs, material),
        partial(probes, runs, material),
        partial(pooling, runs),
        partial(not_shown, runs),
    ]


def _lead(runs: Sequence[Evidence]) -> str:
    names = ", ".join(f"{chip(run.colour)}{html.escape(run.name)}" for run in runs)
    return f"{names}. Written by vltk {vltk.__version__} on {time.strftime('%Y-%m-%d')}."


def _named(figures: Iterable[Figure]) -> list[Figure]:
    """Return figures whose names are names of files, each its own."""
    taken: dict[str, int] = {}
    found = []
    for figure in figures:
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in figure.name).strip("-.")[:80].lower()
        taken[plain] = taken.get(plain, 0) + 1
        found.append(replace(figure, name=plain if taken[plain] == 1 else f"{plain}-{taken[plain]}"))
    return found
