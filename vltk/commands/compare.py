"""Test whether two evaluations differ, item by item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.config import argument, chosen_by, listed_in, option
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal
    from vltk.run_folder.outcomes import Outcomes

SEPARATOR = "vs"


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare two evaluations of one split, item by item: differences with intervals, tests, corrected for many.

    Each path is a results.json, the outcomes.jsonl beside it, or the folder of both; with --task and --examples it is a
    file of predictions, of vltk eval or in the test server's form. Intervals come from a bootstrap over images (the
    captions or questions of an image stay together), p-values from McNemar's exact test where items are independent
    hits, else from a permutation test that exchanges whole images (the sum of recalls). p_holm corrects for the number
    of metrics. Evaluations of different splits or protocols are refused.

    Write "vs" between several runs of two recipes: with two runs and more on both sides the test is over the runs. With
    --seeds all paths are runs of one recipe, and each metric gets its mean and interval.

    Examples:
        $ vltk compare runs/uniter/eval/results.json runs/iais/eval/results.json
        $ vltk compare runs/uniter-seed*/eval vs runs/iais-seed*/eval
        $ vltk compare --seeds runs/uniter-seed*/eval
        $ vltk compare ours.jsonl theirs_results.json --task vqa --examples val.lmdb
    """

    results: tuple[Path, ...] = argument()
    """Two evaluations, or several on both sides of "vs"."""
    seeds: bool = option(False, switch=True)
    """All paths are runs of one recipe: give mean and interval of each metric."""
    task: str | None = listed_in("vltk.tasks", None)
    """The paths are predictions for this task."""
    options: Any = chosen_by("task", package="vltk.tasks", attribute="Config")
    examples: tuple[Path, ...] = ()
    """Example stores that the predictions are measured on."""
    features: tuple[Path, ...] = ()
    """Feature stores, where a figure needs the pictures (refcoco)."""
    seed: int = 0
    """Seed of bootstrap and permutation."""


def run(config: CompareConfig, terminal: Terminal) -> dict[str, object]:
    """Return a table of differences, or of means over seeds."""
    first, second = (config.results, ()) if config.seeds else sides(config.results)
    from vltk.run_folder.comparison import compare, summarise, unit_of

    read = _read(config, [*first, *second])
    ours, theirs = read[: len(first)], read[len(first) :]
    told: dict[str, object] = {"task": read[0].task, "split": read[0].split, "protocol": dict(read[0].protocol)}
    if config.seeds:
        rows = [{"metric": name, "unit": unit_of(name), **vars(one)} for name, one in summarise(ours).items()]
        return {**told, "runs": [str(path) for path in first], "metrics": rows}
    differences = compare(ours, theirs, seed=config.seed)
    return {
        **told,
        "first": [str(path) for path in first],
        "second": [str(path) for path in second],
        "differences": [difference.row() for difference in differences],
    }


def _read(config: CompareConfig, paths: list[Path]) -> list[Outcomes]:
    """Read outcomes, or measure predictions."""
    from vltk.run_folder.outcomes import read_outcomes

    if config.task is None:
        if config.examples or config.features:
            raise UsageError("--examples and --features measure predictions", remedy="name their --task")
        return [read_outcomes(path) for path in paths]
    if not config.examples:
        raise UsageError("is missing", where="--examples", remedy="give the store of the split that was predicted")
    from vltk.evaluation import Stores, measure_predictions, open_unmodelled
    from vltk.evaluation.prediction_files import read_prediction_file
    from vltk.tasks._prediction import AnsweringTask

    stores = Stores(examples=config.examples, features=config.features)
    opened = open_unmodelled(stores, task=config.task, options=config.options)
    if not isinstance(opened.task, AnsweringTask):
        remedy = "evaluate the scores with vltk eval, then compare the results"
        raise UsageError(f"{config.task} has no predictions", where="--task", remedy=remedy)
    found = [read_prediction_file(path, task=config.task) for path in paths]
    return [measure_predictions(opened.task, opened.split, one, protocol={}).outcomes for one in found]


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
