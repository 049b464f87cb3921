"""Test whether two evaluations differ, item by item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vltk.config import argument
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal

SEPARATOR = "vs"


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare two evaluations of one split, item by item: differences with intervals, tests, corrected for many.

    Each path is a results.json, the outcomes.jsonl beside it, or the folder of both. Intervals come from a bootstrap
    over images (the captions or questions of an image stay together), p-values from McNemar's exact test where items
    are independent hits, else from a permutation test that exchanges whole images (the sum of recalls). p_holm corrects
    for the number of metrics. Evaluations of different splits or protocols are refused.

    Write "vs" between several runs of two recipes: with two runs and more on both sides the test is over the runs.

    Examples:
        $ vltk compare runs/uniter/eval/results.json runs/iais/eval/results.json
        $ vltk compare runs/uniter-seed*/eval vs runs/iais-seed*/eval
        $ vltk compare a/outcomes.jsonl b/outcomes.jsonl --json
    """

    results: tuple[Path, ...] = argument()
    """Two evaluations, or several on both sides of "vs"."""
    seed: int = 0
    """Seed of bootstrap and permutation."""


def run(config: CompareConfig, terminal: Terminal) -> dict[str, object]:
    """Return a table of differences."""
    first, second = sides(config.results)
    from vltk.run_folder.comparison import compare
    from vltk.run_folder.outcomes import read_outcomes

    read = [[read_outcomes(path) for path in side] for side in (first, second)]
    differences = compare(*read, seed=config.seed)
    one = read[0][0]
    return {
        "task": one.task,
        "split": one.split,
        "protocol": dict(one.protocol),
        "first": [str(path) for path in first],
        "second": [str(path) for path in second],
        "differences": [difference.row() for difference in differences],
    }


def sides(paths: tuple[Path, ...]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the paths of the two systems.

    Raises:
        UsageError: neither two paths nor two sides of one "vs".
    """
    names = [str(path) for path in paths]
    if names.count(SEPARATOR) == 1:
        place = names.index(SEPARATOR)
        if 0 < place < len(paths) - 1:
            return paths[:place], paths[place + 1 :]
    elif SEPARATOR not in names and len(paths) == 2:
        return paths[:1], paths[1:]
    problem = f"{len(names) - names.count(SEPARATOR)} evaluations and {names.count(SEPARATOR)} times {SEPARATOR!r}"
    raise UsageError(problem, remedy=f"give two evaluations, or runs of one system, {SEPARATOR}, runs of the other")
