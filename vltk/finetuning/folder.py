"""What a fine-tuned run's folder keeps beside its weights, and the task that it gives back."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vltk.config import from_dict, to_dict
from vltk.errors import DataError, UsageError, VltkError
from vltk.run_folder import WEIGHTS, RunFolder, find_checkpoint, read_about, read_weights
from vltk.tasks._task import Split, Task
from vltk.training_run import MADE_WITH, TRAINED_ON, check_stores

TASK = "task.json"
"""The file of a run folder that says which task it was trained for, and what was learnt of its data."""


@dataclass(frozen=True, kw_only=True)
class FinetunedTask:
    """A task with the weights of a run.

    Attributes:
        name: of the task, e.g. "flickr30k".
        model: of the model, e.g. "uniter".
        task: ready to predict or to score; its module is in evaluation mode.
        checkpoint: the folder of the weights.
        about: what the weights say of themselves.
    """

    name: str
    model: str
    task: Task
    checkpoint: Path
    about: dict[str, Any]


def write_task(folder: RunFolder, *, name: str, model: str, options: Any, kept: Mapping[str, Any]) -> None:
    """Write ``task.json``.

    Args:
        folder: of the run.
        name: of the task.
        model: of the model.
        options: the task's ``Config``.
        kept: what the task's ``describe`` gives.
    """
    content = {"task": name, "model": model, "options": to_dict(options), "kept": dict(kept)}
    folder.write_json(TASK, content)


def seeing(options: Any, pictures: Path | None) -> Any:
    """Return the options of a task that reads pixels from another folder; those given where there is none.

    Raises:
        UsageError: a task that reads no pixels.
    """
    if pictures is None:
        return options
    if not hasattr(options, "dual"):
        raise UsageError("does nothing for this task", where="--pictures", remedy="leave it out")
    return replace(options, dual=replace(options.dual, pictures=pictures))


def open_run(
    run: Path,
    split: Split,
    *,
    checkpoint: str = "auto",
    other_features: bool = False,
    pictures: Path | None = None,
) -> FinetunedTask:
    """Rebuild the task of a fine-tuned run with its weights, from its folder alone.

    Args:
        run: folder of ``vltk finetune``.
        split: what is to be evaluated.
        checkpoint: "best", "last", or "auto" for the best where there is one.
        other_features: allow features that were made otherwise than those that the run was trained on.
        pictures: folder of the split's pictures, for a model of grids; None for that of training.

    Raises:
        UsageError: the folder holds no fine-tuned run, or not that checkpoint.
        DataError: a file of it is damaged, or the split's features or words are not what the model was trained on.
    """
    told = _read(run)
    names = ("best", "last") if checkpoint == "auto" else (checkpoint,)
    folder = next((found for name in names if (found := find_checkpoint(run / name)) is not None), None)
    if folder is None:
        raise UsageError(f"has no checkpoint {' or '.join(names)}", where=run, remedy="let the run save one first")
    about = read_about(folder / WEIGHTS)
    try:
        size = from_dict(_class(told["model"], "vltk.models"), about["config"])
        options = from_dict(_class(told["task"], "vltk.tasks"), told["options"])
    except (VltkError, KeyError, TypeError, ImportError) as error:
        raise DataError(f"was written by another version ({error})", where=run, remedy="fine-tune again") from error
    task: Task = seeing(options, pictures).build(size.build(), split, kept=told["kept"])
    check_split(size, split, about, other_features=other_features)
    try:
        task.module.load_state_dict(read_weights(folder))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"has weights of another model ({reason})", where=folder, remedy="fine-tune again") from error
    task.module.eval()
    return FinetunedTask(name=told["task"], model=told["model"], task=task, checkpoint=folder, about=about)


def _read(run: Path) -> dict[str, Any]:
    path = run / TASK
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UsageError("is no fine-tuned run", where=run, remedy="name the --out of vltk finetune") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="fine-tune again") from error
    if not isinstance(told, dict) or not {"task", "model", "options", "kept"} <= told.keys():
        raise DataError("does not name a task and a model", where=path, remedy="fine-tune again")
    return told


def _class(name: str, package: str) -> Any:
    return importlib.import_module(f"{package}.{name}").Config


def check_split(size: Any, split: Split, about: Mapping[str, Any], *, other_features: bool) -> None:
    """Make sure that a split was made as what a model was trained on.

    Args:
        size: of the model.
        split: what is to be evaluated.
        about: what the weights say of themselves.
        other_features: allow another detector or preset; the size must be the same in any case.

    Raises:
        DataError: it was not.
    """
    tokenizer = split.examples.metadata.tokenizer
    trained_on = {name: value for name, value in about.get(TRAINED_ON, {}).items() if name not in MADE_WITH}
    trained_on = trained_on if other_features else about.get(TRAINED_ON, {})
    check_stores(trained_on, split.features, tokenizer, where=split.name)
    known = getattr(size, "vocabulary", None)
    if tokenizer is not None and known is not None and tokenizer.vocab_size > known:
        problem = f"was prepared with {tokenizer.vocab_size} word pieces, the model knows {known}"
        raise DataError(problem, where=split.name, remedy="prepare it with the tokenizer of the training examples")
    first = next(iter(split.examples), None)
    width = getattr(size, "region_dim", None)
    if first is not None and width is not None and first.image_ids[0] in split.features:
        found = split.features.get(first.image_ids[0]).features.shape[1]
        if found != width:
            problem = f"has features of size {found}, the model was trained on {width}"
            raise DataError(problem, where=split.name, remedy="use features of the detector that it was trained on")
