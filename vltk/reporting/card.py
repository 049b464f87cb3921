"""The card of each run: what it is, what it was made with, what it was made of."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vltk.reporting.evidence import Evidence
from vltk.reporting.notation import figure_told, metric_name
from vltk.reporting.page import Section, chip, definitions, folded, missing, paragraph
from vltk.run_folder import flat


def cards(runs: Sequence[Evidence]) -> Section:
    """Return the cards of all runs."""
    body = "".join(_card(run) for run in runs)
    return Section(key="runs", title="Runs" if len(runs) > 1 else "Run", parts=[f'<div class="cards">{body}</div>\n'])


def _card(run: Evidence) -> str:
    facts = [(name, value) for name, value in _facts(run) if value]
    parts = [definitions(facts)]
    settings = [(name, _told(value)) for name, value in flat(run.asked)]
    if settings:
        parts.append(folded("All settings", definitions(settings), paper=False))
    proof = list(_provenance(run))
    if proof:
        parts.append(folded("Provenance", definitions(proof)))
    if not run.trained and not run.measured:
        parts.append(missing("This run has not begun to train", "vltk finetune --out RUN"))
    elif run.trained and not run.results:
        parts.append(paragraph("This run has not ended; the same command goes on.", kind="missing"))
    return f'<article class="card"><h3>{chip(run.colour)}{html.escape(run.name)}</h3>{"".join(parts)}</article>'


def _facts(run: Evidence) -> Iterator[tuple[str, str]]:
    asked, results = run.asked, run.results
    training = asked.get("training") or {}
    yield "Result", _result(run)
    yield "Task", _told(asked.get("task") or next((one.results.get("task") for one in run.measured), ""))
    yield "Model", _told(asked.get("model") or next((one.results.get("model") for one in run.measured), ""))
    yield "Parameters", f"{results['parameters']:,}" if "parameters" in results else ""
    yield "Started from", _told(asked.get("init"))
    yield "Recipe", _told((asked.get("recipe") or {}).get("recipe"))
    yield "Steps", _told(results.get("steps") or training.get("steps"))
    yield "Learning rate", _told(training.get("learning_rate"))
    relations = (asked.get("options") or {}).get("relations") or {}
    yield "IAIS", _told(relations.get("iais")) if relations.get("iais") not in (None, "off") else ""
    yield "Seed", _told(asked.get("seed"))
    device = asked.get("device") if isinstance(asked.get("device"), Mapping) else {}
    yield "Device", ", ".join(filter(None, [_told(results.get("device")), _told((device or {}).get("precision"))]))
    yield "Took", duration(float(results["seconds"])) if "seconds" in results else ""
    yield "Memory", f"{results['peak']['memory'] / 2**30:.2f} GiB at most" if "peak" in results else ""
    yield "Finished", str(results.get("date", ""))[:16].replace("T", " ")


def _result(run: Evidence) -> str:
    """Return the first figure of the last evaluation, else of another measurement: of retrieval the sum of recalls."""
    for one in [*run.examples, *run.of("distance"), *run.of("probe")]:
        found = one.metrics()
        name = "rsum" if "rsum" in found else next(iter(found), None)
        if name is not None:
            return f"{metric_name(name)} {figure_told(found[name])}"
    return ""


def _provenance(run: Evidence) -> Iterator[tuple[str, str]]:
    versions = run.results.get("versions") or run.config.get("versions") or {}
    yield from ((f"{name} version" if name != "git" else "Code", str(value)) for name, value in versions.items())
    arguments = run.config.get("arguments")
    if isinstance(arguments, list):
        yield "Command", shlex.join(["vltk", *map(str, arguments)])
    weights = run.results.get("weights") or {}
    if isinstance(weights, Mapping):
        yield from ((f"Weights {name}", str(value)) for name, value in weights.items())
    inputs = run.results.get("inputs") or run.config.get("inputs") or {}
    yield from ((f"{name[:1].upper()}{name[1:]}", str(value)) for name, value in inputs.items())
    for note in run.results.get("initialised") or ():
        yield "Fresh weights", str(note)


def _told(value: Any) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Return a time for people.

    Example:
        >>> duration(17.2), duration(3725)
        ('17 s', '1 h 2 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
