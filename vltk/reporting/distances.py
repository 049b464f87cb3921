"""How consistently words and regions relate: ISDa of each layer, and over the checkpoints of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vltk.isd.encoder import JOINT
from vltk.reporting.charts import Trace, heat_chart, line_chart
from vltk.reporting.drawing import Figure
from vltk.reporting.evidence import Evidence, Measured
from vltk.reporting.notation import LEVEL, bare, metric_name, probability, ranged, unit_of
from vltk.reporting.page import Figures, Section, missing, paragraph
from vltk.reporting.recall import Pair, figures_table

_INTRO = (
    "Words of a caption attend to each other, and so do regions of a picture. ISDa (IAIS, section 2.3) is how far "
    "apart these two patterns are for the same objects: 0 where words relate exactly as their regions do, in nats (the "
    "unit of the symmetric Kullback-Leibler divergence). L(s) and L(d) are the losses of IAIS that need no annotation "
    "of objects, singular and distributed."
)


def distances(runs: Sequence[Evidence]) -> Section:
    """Return ISDa of all runs."""
    section = Section(key="isd", title="Relation consistency (ISDa)", intro=_INTRO)
    measured = [(run, one) for run in runs for one in run.of("distance")]
    curves = [(run, one) for run in runs for one in run.of("curve")]
    layered = [pair for pair in measured if pair[1].results.get("layers")]
    if layered:
        section.parts.append(Figures(figures=[_layers(layered), *(_heads(run, one) for run, one in layered)]))
    for run, one in measured:
        section.parts.append(_summary(run, one))
    if measured:
        section.parts.append(figures_table(measured)[0])
    if curves:
        section.parts.append(Figures(figures=_curves(curves)))
        section.parts.extend(paragraph(text, kind="note") for pair in curves for text in _correlations(*pair))
    if not any(run.trained and run.model in JOINT for run in runs):
        return section
    command = "vltk isd RUN --examples STORE --features BOXES"
    if not measured:
        section.parts.append(missing("Relation consistency was not measured", f"{command} --out RUN/isd"))
    if not curves:
        section.parts.append(
            missing("ISDa over the checkpoints of a run was not measured", f"{command} --curve --out RUN/curve")
        )
    return section


def _layers(pairs: Sequence[Pair]) -> Figure:
    traces = []
    for run, one in pairs:
        rows = one.results["layers"]
        ends = [tuple(row["interval_95"]) for row in rows]
        x, y = [row["layer"] for row in rows], [row["isda"] for row in rows]
        traces.append(Trace(label=run.name, x=x, y=y, colour=run.colour, intervals=ends, dots=True))
    ends_told = "; ".join(f"{one.label} {', '.join(f'{value:.3f}' for value in one.y)}" for one in traces)
    return line_chart(
        traces,
        name="isd-layers",
        title="ISDa by layer",
        subtitle="nats, lower is more consistent; 95 % interval",
        alt=f"ISDa of each layer from the first on: {ends_told}.",
        x_label="layer",
        zero=True,
    )


def _heads(run: Evidence, one: Measured) -> Figure:
    values = np.array([row["heads"] for row in one.results["layers"]], np.float64)
    layer, head = np.unravel_index(int(values.argmin()), values.shape)
    return heat_chart(
        values,
        rows=[f"layer {number}" for number in range(len(values))],
        columns=[f"head {number}" for number in range(values.shape[1])],
        name=f"isd-heads-{run.name}",
        title=f"ISDa of each head, {run.name}",
        subtitle="nats; the bluer, the less consistent",
        digits=2 if values.shape[1] <= 8 else None,
        alt=f"ISDa of each head: the most consistent is head {head} of layer {layer} with {values.min():.3f} nats, "
        f"the least has {values.max():.3f}.",
    )


def _summary(run: Evidence, one: Measured) -> str:
    chance = one.results.get("chance") or {}
    if not chance or "ISDa" not in one.metrics():
        return ""
    low, high = chance["interval_95"]
    value, unit = one.metrics()["ISDa"]["value"], unit_of(one.metrics()["ISDa"])
    sure = chance["p"] < LEVEL
    told = (
        f"{run.name}: ISDa is {unit.told(value)}. With the objects of each picture mixed up at random it would be "
        f"{unit.text(chance['mean'])} {ranged((low, high), unit)} ({chance['shuffles']:,} mixtures), so that what was "
        f"measured is {'lower than' if sure else 'not lower than'} chance gives (p = {probability(chance['p'])})."
    )
    return paragraph(told, kind="note")


def _curves(pairs: Sequence[Pair]) -> list[Figure]:
    columns = dict.fromkeys(
        name
        for _, one in pairs
        for row in one.results["checkpoints"]
        for name in row
        if name not in ("step", "checkpoint")
    )
    drawn = []
    for column in columns:
        traces = []
        for run, one in pairs:
            points = [(r["step"], r[column]) for r in one.results["checkpoints"] if r.get(column) is not None]
            if points:
                x, y = zip(*sorted(points), strict=True)
                traces.append(Trace(label=run.name, x=x, y=y, colour=run.colour, dots=True))
        if traces:
            drawn.append(_curve(column, traces))
    return drawn


def _curve(column: str, traces: Sequence[Trace]) -> Figure:
    distance = column.startswith(("ISD", "L("))
    ends = "; ".join(f"{one.label} from {bare(one.y[0])} to {bare(one.y[-1])}" for one in traces)
    title = f"{metric_name(column)} over training"
    return line_chart(
        traces,
        name=f"isd-curve-{column}",
        title=title[:1].upper() + title[1:],
        subtitle="nats, lower is more consistent" if distance else "",
        alt=f"{metric_name(column)} over the steps of training: {ends}.",
        x_label="step",
    )


def _correlations(run: Evidence, one: Measured) -> list[str]:
    told = []
    for name, found in (one.results.get("correlation") or {}).items():
        if isinstance(found, dict) and found.get("pearson") is not None:
            ends = found.get("interval_95")
            interval = "" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]"
            count = f"{found['n']} checkpoints"
            told.append(f"{run.name}: {name}, Pearson's r = {found['pearson']:.2f}{interval} over {count}.")
    return told
