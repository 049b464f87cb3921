"""Write a page about runs that people can look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vltk.config import WriteConfig, argument, option

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal
    from vltk.reporting.figure_files import Format


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write one page about runs: it needs no other file, no network and no script, and prints well.

    RUN is the folder of a training run with the evaluations and measurements below it, or the --out of vltk eval,
    vltk isd or vltk probe, also of a model of transformers. The page shows what is there: the run's card, learning
    curves, recalls with intervals, the best and worst retrievals, right and wrong answers, the regions of pictures and
    which of them a word attends to, the patterns of attention heads or the attention of every layer, what a picture's
    embedding speaks of (VSRN), the distance of relations (ISD) by layer and over training, dependency trees with the
    distances that they come from, pooling coefficients; of two runs the paired test, and the relations of objects
    before and after. What was not measured is named with the command that does, and what a kind of model cannot have
    with the reason.

    Examples:
        $ vltk report runs/flickr30k --pictures flickr30k-images
        $ vltk report runs/uniter runs/iais --out report.html --figures figures
    """

    run: tuple[Path, ...] = argument()
    """Runs, up to six; the first is what the others are compared with."""
    out: Path = option(Path("report.html"), incidental=True)
    """The page to write."""
    title: str = ""
    """Heading of the page."""
    findings: Path | None = option(None, incidental=True)
    """File of findings that stand first, the findings.json of vltk demo."""
    pictures: Path | None = option(None, incidental=True)
    """Folder of the pictures; without it they stand as their ids."""
    examples: tuple[Path, ...] = ()
    """Example stores of the evaluations, where they are no longer where they were."""
    features: tuple[Path, ...] = ()
    """Feature stores, likewise."""
    examples_shown: int = 3
    """How many examples of a kind are shown."""
    device: str = option("cpu", incidental=True)
    """Where models look at the examples: auto, cpu, cuda or cuda:N."""
    figures: Path | None = option(None, incidental=True)
    """Folder for every figure as a file of its own."""
    figure_format: Literal["both", "svg", "png"] = "both"
    """Kind of these files."""
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: ReportConfig, terminal: Terminal) -> dict[str, object]:
    """Write the page and return where it is; or what would be on it, with --dry-run."""
    from vltk.reporting.evidence import read_runs
    from vltk.reporting.report import write_report

    if config.write.dry_run:
        found = read_runs(config.run)
        rows = [{"run": one.name, "measured": [str(part.path) for part in one.measured]} for one in found]
        return {"would write": str(config.out), "runs": rows}
    formats: tuple[Format, ...] = ("svg", "png") if config.figure_format == "both" else (config.figure_format,)
    report = write_report(
        config.run,
        config.out,
        title=config.title,
        pictures=config.pictures,
        examples=config.examples,
        features=config.features,
        count=config.examples_shown,
        device=config.device,
        findings=config.findings,
        figures=config.figures,
        formats=formats,
        overwrite=config.write.overwrite,
        say=terminal.detail,
    )
    told: dict[str, object] = {"page": str(report.page), "bytes": report.size, "sections": report.sections}
    return told | ({} if config.figures is None else {"figures": len(report.figures), "in": str(config.figures)})
