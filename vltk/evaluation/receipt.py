"""The receipt of an evaluation: the figures, and what anybody needs to believe and to repeat them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vltk.errors import BelowThresholdError, UsageError, did_you_mean
from vltk.run_folder import circumstances
from vltk.types import Measurement

_THRESHOLD = re.compile(r"(.+)=(-?[0-9.]+(?:e-?[0-9]+)?)")


def receipt(
    *,
    task: str,
    measurements: Sequence[Measurement],
    protocol: Mapping[str, Any],
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    seconds: float,
    **more: Any,
) -> dict[str, Any]:
    """Return what ``results.json`` holds.

    Args:
        task: name of the task.
        measurements: the figures.
        protocol: the card of what they depend on.
        config: what was asked for.
        inputs: a hash for each thing that was read.
        seconds: how long it took.
        **more: what else is worth keeping, e.g. ``cost``.
    """
    return {
        "task": task,
        "metrics": [one.row() for one in measurements],
        "protocol": dict(protocol),
        **more,
        "config": dict(config),
        **circumstances(inputs, seconds=seconds),
    }


def parse_thresholds(given: Sequence[str]) -> dict[str, float]:
    """Return the least (for ranks and losses the greatest) value of each metric.

    Args:
        given: METRIC=VALUE each.

    Raises:
        UsageError: a text that is not of this form.

    Example:
        >>> parse_thresholds(["t2i_r1=50"])
        {'t2i_r1': 50.0}
    """
    found = {}
    for text in given:
        match = _THRESHOLD.fullmatch(text)
        try:
            found[match[1]] = float(match[2])  # type: ignore[index]
        except (TypeError, ValueError):
            remedy = "write METRIC=VALUE, e.g. t2i_r1=50"
            raise UsageError(f"{text!r} is no threshold", where="--fail-under", remedy=remedy) from None
    return found


def below(measurements: Sequence[Measurement], thresholds: Mapping[str, float]) -> BelowThresholdError | None:
    """Return what says that a figure is worse than its threshold; None where all are good enough.

    Raises:
        UsageError: a threshold of a metric that was not measured.
    """
    values = {one.metric: one for one in measurements}
    missed = []
    for name, least in thresholds.items():
        if name not in values:
            raise UsageError(f"{name} was not measured", where="--fail-under", remedy=did_you_mean(name, values))
        one = values[name]
        if (one.value < least) if one.higher_is_better else (one.value > least):
            missed.append(f"{name} is {one.value:.4g}, asked for {least:g}")
    if not missed:
        return None
    return BelowThresholdError("; ".join(missed), where="--fail-under", remedy="look at the figures")
