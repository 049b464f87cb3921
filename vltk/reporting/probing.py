"""The trees that a probe reads from a model's states, beside the gold ones (SSRP, figure 5)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vltk.errors import VltkError
from vltk.reporting.charts import Trace, line_chart
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.reporting.recall import figure_text
from vltk.reporting.tree_figure import sentence_trees

SENTENCES = "sentences.jsonl"
_PROBED = ("uniter", "ssrp")
_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"')


def probes(runs: Sequence[Evidence]) -> Section:
    """Return what the probes of all runs found; a line with the command where there is none."""
    section = Section(key="trees", title="Dependency trees")
    for run in runs:
        for one in run.of("probe"):
            try:
                _shown(section, run, one)
            except (KeyError, TypeError, ValueError, VltkError) as error:
                told = f"{run.name}: the probe in {one.path} is damaged ({error!s:.80}); probe again."
                section.parts.append(paragraph(told, kind="missing"))
    if not section.parts and any(run.trained and run.asked.get("model", "uniter") in _PROBED for run in runs):
        section.parts.append(
            missing(
                "No run was probed for dependency trees",
                "vltk probe RUN --examples TREES --features STORE --out RUN/probe",
            )
        )
    return section


def _shown(section: Section, run: Evidence, one: Measured) -> None:
    section.parts.append(f"<h3>{escape(run.name)}, {escape(one.path.name)}</h3>\n")
    figures = [figure for measure in ("uuas", "spearman") if (figure := _layers(run, one, measure)) is not None]
    if figures:
        section.parts.append(Figures(figures=figures))
    told = "; ".join(f"{name} {figure_text(row)}" for name, row in list(one.metrics().items())[:4])
    section.parts.append(paragraph(f"{told}.", kind="note"))
    lines = chosen(_lines(one))
    if lines:
        legend = "Gold trees above in black, predicted ones below in red; dashed is what the gold tree lacks."
        section.parts.append(paragraph(legend, kind="note"))
    for place, (what, line) in enumerate(lines, 1):
        drawn = tree_figure(line, name=f"tree-{run.name}-{place}")
        note = escape(f"{what}: {line['right']} of {line['edges']} edges")
        section.parts.append(f'<figure class="wide"><div class="trees">{drawn.body}</div>')
        section.parts.append(f"<figcaption>{note}</figcaption></figure>\n")
        section.parts.append(Figures(figures=[drawn], shown=False))


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
    return line_chart(
        traces,
        name=f"probe-{measure}-{run.name}",
        title=title,
        subtitle="share of the edges of the gold trees, higher is better" if measure == "uuas" else "higher is better",
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
    if len(order) < 3:
        return [("Sentence", line) for line in order]
    lowest = order[0]["right"] / order[0]["edges"]
    worst = max((line for line in order if line["right"] / line["edges"] == lowest), key=lambda line: line["edges"])
    return [("Best", order[-1]), ("Middle", order[len(order) // 2]), ("Worst", worst)]


def tree_figure(line: Mapping[str, Any], *, name: str) -> Figure:
    """Return the trees of a sentence as a figure."""
    gold = [(word, head - 1) for word, head in enumerate(line["heads"]) if head]
    drawn = sentence_trees(line["words"], gold, line.get("predicted", []))
    told = _SIZE.search(drawn)
    if told is None:
        raise ValueError("a drawing without size")
    words = " ".join(line["words"])
    alt = f"{words}: {line['right']} of {line['edges']} edges of the gold tree are predicted."
    labelled = drawn.replace('role="img"', f'role="img" aria-label="{escape(alt)}"', 1)
    return Figure(name=name, title=words, alt=alt, body=labelled, width=float(told[1]), height=float(told[2]))
