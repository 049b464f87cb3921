"""A fine-tuning run that is built from splits and a configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from vltk.batching import TokenBuckets
from vltk.config import DeviceConfig
from vltk.config.training import FinetuningConfig, SplitsConfig
from vltk.errors import DataError, UsageError
from vltk.finetuning.folder import write_task
from vltk.finetuning.initialisation import initial_model
from vltk.finetuning.plan import BucketPlan
from vltk.finetuning.splits import shared_pictures
from vltk.finetuning.validation import PredictionMeasuring, RetrievalMeasuring
from vltk.models._checkpoints import about_weights
from vltk.optimization import build_optimizer, optimizer_of
from vltk.run_folder import RunFolder
from vltk.tasks._task import (
    GroupsParameters,
    PredictionTask,
    RetrievalTask,
    Split,
    StartsFromWeights,
    Task,
    TaskConfig,
)
from vltk.training_run import Measuring, TrainingRun, compile_layers, describe_stores

_MODEL = "model."
_SPECIAL = 2  # tokens that frame a text


@dataclass(kw_only=True)
class PreparedFinetuning(TrainingRun):
    """A fine-tuning run that is built and not begun.

    Attributes:
        task: what is trained.
        names: of the task and of the model.
        options: of the task.
    """

    training: FinetuningConfig
    task: Task
    names: tuple[str, str]
    options: TaskConfig

    def optimizer(self) -> Optimizer:
        """Make the published optimiser: the head at its own rate, or the groups that the model asks for."""
        training = self.training
        model = self.module.model
        own = next((one for one in (self.module, model) if isinstance(one, GroupsParameters)), None)
        if own is not None:
            return optimizer_of(own.parameter_groups(weight_decay=training.weight_decay), form=training.optimizer)
        return build_optimizer(
            self.module,
            form=training.optimizer,
            weight_decay=training.weight_decay,
            undecayed=undecayed(model),
            multiplier=lambda name: 1.0 if name.startswith(_MODEL) else training.head_rate,
        )

    def look(self) -> None:
        """Read the first micro-batches, so that what is wrong with them shows at once."""
        for work in next(iter(self.plan.steps()))[:2]:
            self.plan.load(work)

    def write_more(self, folder: RunFolder) -> None:
        """Write which task this is and what was learnt of its data."""
        task, model = self.names
        write_task(folder, name=task, model=model, options=self.options, kept=self.task.describe())

    def estimate(self, processes: int) -> dict[str, Any]:
        """Return what the run would do and cost, from a few micro-batches that it times; nothing is written.

        Args:
            processes: that would share the micro-batches of a step.
        """
        size = getattr(self.module.model, "config", None)
        known = all(hasattr(size, name) for name in ("hidden", "layers", "region_dim"))
        joint = getattr(self.module.model, "family", "joint") == "joint"
        return self.estimated(processes, size=size if known and joint else None)


def undecayed(model: Any) -> Callable[[str], bool]:
    """Return what says whether a parameter is left out of weight decay: biases and the Transformer's norms.

    The published rule looks for ``bias`` and ``LayerNorm`` in the published names, so that norms with other names
    (of features and locations, of heads) do decay.

    Args:
        model: the encoder, whose published names are known; of other models every norm is left out.
    """

    def rule(name: str) -> bool:
        if "bias" in name:
            return True
        if not name.startswith(_MODEL):
            return False
        inner = name.removeprefix(_MODEL)
        if not hasattr(model, "published_keys"):
            return "norm" in inner
        return any("LayerNorm.weight" in official for official in model.published_keys(inner))

    return rule


def prepare_finetuning(
    training_split: Split,
    measured: Split | None,
    *,
    task: tuple[str, TaskConfig],
    model: tuple[str, Any],
    data: SplitsConfig,
    training: FinetuningConfig,
    device: DeviceConfig,
    seed: int,
    init: Path | None,
) -> PreparedFinetuning:
    """Build the model, the task around it and the order of a run.

    Args:
        training_split: what is trained on.
        measured: what decides which checkpoint is best, or None.
        task: its name and options.
        model: its name and ``Config``.
        data: how the splits are read.
        training: how weights are updated.
        device: where and how precisely.
        seed: of everything random.
        init: weights to start from, or None.

    Raises:
        DataError: the splits or the weights do not fit.
        UsageError: options that contradict each other.
    """
    name, options = task
    torch.manual_seed(seed)
    found = initial_model(model[1], training_split, init=init, needed=options.model_sizes())
    size: Any = found.model.config
    _check_texts(training_split, size, data.max_text_length)
    built = options.build(found.model, training_split)
    fresh = list(found.notes)
    if init is not None and isinstance(built, StartsFromWeights):
        fresh += built.initialise_head(found.head_weights)
    _speed(found.model, training)
    return PreparedFinetuning(
        module=built.module,
        plan=_plan(built, training_split, data, training, seed),
        measuring=None if measured is None else _measuring(built, training_split, measured, data, device),
        training=training,
        device=device,
        fresh=fresh,
        about=about_weights(size, model[0])
        | {"task": name}
        | describe_stores([training_split.features], training_split.examples.metadata.tokenizer, data),
        task=built,
        names=(name, model[0]),
        options=options,
    )


def _check_texts(split: Split, size: Any, longest: int) -> None:
    """Make sure that the model has a position for every word piece of examples of one text."""
    positions = getattr(size, "positions", None)
    if positions is None or longest + _SPECIAL <= positions:
        return
    lengths = (len(one.tokens[0].ids) for one in split.examples if len(one.tokens) == 1)
    found = max((length for length in lengths if length <= longest), default=0) + _SPECIAL
    if found > positions:
        problem = f"a text of {found} word pieces for a model of {positions} positions"
        raise UsageError(problem, where=split.name, remedy="lower --max-text-length")


def _speed(model: Any, training: FinetuningConfig) -> None:
    layers = getattr(model, "layers", None)
    if hasattr(model, "recomputes_activations"):
        model.recomputes_activations = training.checkpointing
    elif training.checkpointing:
        problem = f"{type(model).__name__} cannot recompute its activations"
        raise UsageError(problem, where="--checkpointing", remedy="leave it out")
    if training.compile and isinstance(layers, nn.ModuleList):
        compile_layers(layers)


def _plan(task: Task, split: Split, data: SplitsConfig, training: FinetuningConfig, seed: int) -> Any:
    if isinstance(task, RetrievalTask):
        return task.plan(split, training, seed, max_text_length=data.max_text_length)
    if not isinstance(task, PredictionTask):
        raise TypeError(f"{type(task).__name__} is neither kind of task")
    return BucketPlan(
        task,
        split,
        buckets=_buckets(data),
        micro_batches=training.micro_batches,
        seed=seed,
        max_text_length=data.max_text_length,
    )


def _buckets(data: SplitsConfig) -> TokenBuckets:
    return TokenBuckets.filled_as(data.batching, max_tokens=data.batch_tokens)


def _measuring(task: Task, split: Split, measured: Split, data: SplitsConfig, device: DeviceConfig) -> Measuring:
    if isinstance(task, RetrievalTask):
        count, shown = shared_pictures(split, measured)
        if count:
            problem = f"{count} images of {measured.name} are trained on ({shown})"
            raise DataError(problem, where=split.name, remedy="leave them out of one of the two")
        sizes = {"images": data.validation_images, "captions": data.validation_captions}
        return RetrievalMeasuring(task, measured, precision=device.precision, **sizes)
    if not isinstance(task, PredictionTask):
        raise TypeError(f"{type(task).__name__} is neither kind of task")
    buckets = replace(_buckets(data), drop_last=False, multiple=1)
    return PredictionMeasuring(task, measured, buckets=buckets)
