"""From a run and the stores of a split to a task that is ready to be evaluated on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from vltk.config.training import ReadingConfig
from vltk.errors import DataError, UsageError
from vltk.finetuning import TASK, converted_model, open_run, open_zero_shot, seeing
from vltk.models._checkpoints import read_checkpoint
from vltk.models.uniter import UNITERConfig, UNITERForPretraining
from vltk.run_folder import WEIGHTS, file_sha256, find_checkpoint, read_about
from vltk.stores.chained_examples import ChainedExamples, Examples
from vltk.stores.examples import ExampleStore
from vltk.tasks._task import Split, Task, TaskConfig
from vltk.training_run import TRAINED_ON, open_regions

_READING = ("min_score", "min_boxes", "max_boxes")


@dataclass(frozen=True, kw_only=True)
class Stores:
    """The stores of a split, and which regions of them are read.

    Attributes:
        examples: example stores, one after the other.
        features: feature stores of their pictures.
        first_features: feature stores whose regions come first.
        min_score: as in training; None for what the run was trained with.
        min_boxes: as there.
        max_boxes: as there.
        limit: count only so many examples, the first ones.
    """

    examples: tuple[Path, ...]
    features: tuple[Path, ...]
    first_features: tuple[Path, ...] = ()
    min_score: float | None = None
    min_boxes: int | None = None
    max_boxes: int | None = None
    limit: int | None = None

    def open(self, trained_on: Mapping[str, Any]) -> tuple[Split, dict[str, str]]:
        """Open the split, and return it with a hash of every store.

        Args:
            trained_on: which regions a run was trained on, where the fields say nothing.

        Raises:
            DataError: a store is missing or damaged.
        """
        given = {name: getattr(self, name) for name in _READING if getattr(self, name) is not None}
        trained = {name: trained_on[name] for name in _READING if trained_on.get(name) is not None}
        reading = ReadingConfig(first_features=self.first_features, **(trained | given))
        inputs: dict[str, str] = {}
        opened = [ExampleStore.open(path) for path in self.examples]
        inputs |= {f"examples {store.path.name.removesuffix('.lmdb')}": store.content_hash for store in opened}
        examples: Examples = opened[0] if len(opened) == 1 else ChainedExamples(opened)
        name = "+".join(path.name.removesuffix(".lmdb") for path in self.examples)
        features = open_regions(self.features, reading, inputs)
        split = Split(name=name, examples=examples, features=features, limit=self.limit)
        if not len(split):
            raise DataError("holds no example", where=name, remedy="prepare it again")
        return split, inputs


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A task on the split that it is evaluated on.

    Attributes:
        name: of the task.
        task: with the weights of the run.
        split: the examples.
        inputs: a hash for each store and for the weights.
        weights: the file of the weights; None where a file of predictions is measured.
    """

    name: str
    task: Task
    split: Split
    inputs: dict[str, str]
    weights: Path | None = None

    @property
    def provenance(self) -> dict[str, Any]:
        """What the scores and predictions depend on, as JSON values."""
        return {"task": self.name, "split": self.split.name, "limit": self.split.limit, **self.inputs}


def open_evaluation(
    run: Path,
    stores: Stores,
    *,
    task: str | None = None,
    options: TaskConfig | None = None,
    checkpoint: str = "auto",
    other_features: bool = False,
    pictures: Path | None = None,
) -> Opened:
    """Open a run on a split: a fine-tuned one, or with ``task`` a pre-trained one for zero-shot retrieval.

    Args:
        run: folder of a run, or a file of weights.
        stores: of the split.
        task: name of the task; None for what the run was fine-tuned for.
        options: of the task; those of a fine-tuned run are its own.
        checkpoint: "best", "last", or "auto" for the best where there is one.
        other_features: allow features that were made otherwise than those that the run was trained on.
        pictures: folder of the split's pictures, for a model of grids; None for that of training.

    Raises:
        UsageError: no such run or checkpoint, a task that it was not trained for, or pictures that nothing reads.
        DataError: the stores do not fit the run.
    """
    tuned = (run / TASK).is_file()
    weights = _weights(run, checkpoint, tuned=tuned, task=task)
    about = read_about(weights) if weights.suffix == ".safetensors" else {}
    split, inputs = stores.open(about.get(TRAINED_ON, {}))
    inputs["weights"] = file_sha256(weights)
    how: dict[str, Any] = {"checkpoint": checkpoint, "other_features": other_features}
    if tuned:
        found = open_run(run, split, pictures=pictures, **how)
        if options is not None and options != type(options)():
            problem = "the options of the task are those that the run was fine-tuned with"
            raise UsageError(problem, where=f"--task {task}", remedy="leave them out")
        if task is not None and task != found.name:
            problem = f"was fine-tuned for {found.name}"
            raise UsageError(problem, where=run, remedy=f"leave --task {task} out, or fine-tune for it")
    elif task is None or options is None:
        raise UsageError("was not fine-tuned", where=run, remedy="name a --task to rank without fine-tuning")
    else:
        found = open_zero_shot(run, split, task=task, options=seeing(options, pictures), **how)
    if pictures is not None and getattr(found.task, "pictures", None) is None:
        raise UsageError("does nothing for a model of regions", where="--pictures", remedy="leave it out")
    return Opened(name=found.name, task=found.task, split=split, inputs=inputs, weights=weights)


def open_unmodelled(stores: Stores, *, task: str, options: TaskConfig) -> Opened:
    """Open a split to measure predictions that were made elsewhere; the task gets a model that is never asked.

    Args:
        stores: of the split.
        task: name of the task.
        options: of the task.
    """
    split, inputs = stores.open({})
    smallest = {"hidden": 1, "heads": 1, "layers": 1, "intermediate": 1, "positions": 1, "region_dim": 1}
    model = UNITERConfig(**(smallest | {"vocabulary": 1} | options.model_sizes())).build()
    # What is only measured has no vocabulary to learn: whatever people answered may be the right answer.
    rare = {"min_answers": 1} if any(item.name == "min_answers" for item in fields(cast(Any, options))) else {}
    task_options = replace(cast(Any, options), **rare)
    return Opened(name=task, task=task_options.build(model, split), split=split, inputs=inputs)


def _weights(run: Path, checkpoint: str, *, tuned: bool, task: str | None) -> Path:
    names: Sequence[str] = ("best", "last") if checkpoint == "auto" else (checkpoint,)
    for name in names:
        folder = find_checkpoint(run / name)
        if folder is not None:
            return folder / WEIGHTS
    if tuned or checkpoint != "auto":
        raise UsageError(f"has no checkpoint {' or '.join(names)}", where=run, remedy="let the run save one first")
    if task is None and not run.exists():
        raise UsageError("there is no such run", where=run, remedy="name the --out of vltk finetune")
    return run if converted_model(run) is not None else read_checkpoint(UNITERForPretraining, run).path
