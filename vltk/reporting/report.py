"""The report of runs: one page, and the figures of it as files."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import vltk
from vltk.errors import DataError, UsageError
from vltk.reporting.card import cards
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence, read_runs
from vltk.reporting.figure_files import Format, rasteriser, write_figures
from vltk.reporting.findings import findings as findings_of
from vltk.reporting.learning import learning
from vltk.reporting.page import Section, chip, render
from vltk.reporting.recall import quality
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
    found = read_runs(runs)
    sections = [*([] if findings is None else [findings_of(findings)]), *_sections(found, say)]
    text = render(sections, title=title or f"Report: {' and '.join(run.name for run in found)}", lead=_lead(found))
    size = len(text.encode())
    if size > LARGEST:
        problem = f"the page would be {size / 1e6:.1f} MB"
        raise DataError(problem, where=out, remedy="report on fewer runs, or show fewer examples")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, [text])
    drawn = _named(figure for section in sections for figure in section.figures())
    files = [] if figures is None else write_figures(figures, drawn, formats=formats)
    return Report(page=out, size=size, sections=[one.title for one in sections if one.parts], figures=files)


def _sections(runs: Sequence[Evidence], say: Callable[[str], None]) -> list[Section]:
    return [cards(runs), learning(runs), quality(runs)]


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
