"""A task with the weights of pre-training alone: retrieval by the head of image-text matching."""

from __future__ import annotations

import importlib
from pathlib import Path

from vltk.config import listing
from vltk.errors import UsageError
from vltk.finetuning.folder import FinetunedTask, check_split
from vltk.finetuning.initialisation import initial_model
from vltk.models._checkpoints import read_checkpoint
from vltk.models.uniter import UNITERForPretraining
from vltk.run_folder import read_about
from vltk.tasks._retrieval import RetrievalConfig
from vltk.tasks._task import Split, TaskConfig

_HEADS = ("head.weight", "matching.weight")


def open_zero_shot(
    weights: Path,
    split: Split,
    *,
    task: str,
    options: TaskConfig,
    checkpoint: str = "auto",
    other_features: bool = False,
) -> FinetunedTask:
    """Build a retrieval task whose ranking head is the row of image-text matching that says "match".

    UNITER's zero-shot retrieval (section 4.2): no weight is learnt.

    Args:
        weights: a run of ``vltk pretrain``, one of its checkpoints, or a file of weights.
        split: what is to be evaluated.
        task: name of the task.
        options: of the task.
        checkpoint: "best" or "last" of a run, "auto" for the best where there is one.
        other_features: allow features that were made otherwise than those of pre-training.

    Raises:
        UsageError: a task that cannot be done without fine-tuning, or weights without a head that matches.
        DataError: the weights or the split do not fit.
    """
    if not isinstance(options, RetrievalConfig):
        problem = f"was not fine-tuned, and {task} has answers that pre-training does not know"
        raise UsageError(problem, where=weights, remedy=f"use vltk finetune --task {task} first")
    chosen = weights if checkpoint == "auto" else weights / checkpoint
    if (name := converted_model(chosen)) is not None:
        return _open_converted(chosen, split, task=task, options=options, model=name)
    found = read_checkpoint(UNITERForPretraining, chosen)
    architecture = importlib.import_module("vltk.models.uniter").Config()
    initial = initial_model(architecture, split, init=chosen, needed=options.model_sizes())
    built = options.build(initial.model, split)
    if not any(name in initial.head_weights for name in _HEADS):
        problem = "holds neither a ranking head nor one of image-text matching"
        raise UsageError(problem, where=found.path, remedy="use weights that were pre-trained with itm")
    about = read_about(found.path) if found.path.suffix == ".safetensors" else {}
    check_split(initial.model.config, split, about, other_features=other_features)
    built.initialise_head(initial.head_weights)
    built.module.eval()
    return FinetunedTask(name=task, model="uniter", task=built, checkpoint=found.path, about=about)


def converted_model(path: Path) -> str | None:
    """Return which model a file of ``vltk convert`` holds where it needs no head; None for UNITER and all others."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    name = read_about(path).get("model")
    return name if name in listing("vltk.models") and name != "uniter" else None


def _open_converted(weights: Path, split: Split, *, task: str, options: RetrievalConfig, model: str) -> FinetunedTask:
    """Build a retrieval task around a published dual encoder, which ranks as it is."""
    architecture = importlib.import_module(f"vltk.models.{model}").Config()
    initial = initial_model(architecture, split, init=weights, needed=options.model_sizes())
    built = options.build(initial.model, split)
    built.module.eval()
    return FinetunedTask(name=task, model=model, task=built, checkpoint=weights, about=read_about(weights))
