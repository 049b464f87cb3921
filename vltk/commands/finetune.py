"""Fine-tune a model on a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.commands._processes import alone_or_among
from vltk.commands._terminal import Terminal
from vltk.commands._training import trained
from vltk.config import DeviceConfig, RecipeConfig, RunningConfig, WriteConfig, chosen_by, listed_in, option
from vltk.config.training import FinetuningConfig, SplitsConfig

if TYPE_CHECKING:
    from vltk.finetuning import PreparedFinetuning


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Fine-tune a model on a task; a killed run goes on with the same command.

    The options of a task come with --task T, those of a model with --model M: add --help to see them. With --init the
    sizes of the model come from the weights. SIGTERM, SIGUSR1 and Ctrl-C save after the step that is at work. Several
    processes share the micro-batches of a step and come to the same weights: --nproc 8, torchrun, or accelerate
    launch. Results are in OUT/results.json, figures as they come in OUT/metrics.jsonl, weights in OUT/last and
    OUT/best; vltk eval OUT needs nothing else but stores.

    Examples:
        $ vltk finetune --task flickr30k --help
        $ vltk finetune --recipe uniter-flickr30k-base --examples train.lmdb --features flickr30k.lmdb
              --init uniter-base.pt --validation-examples val.lmdb --out runs/flickr30k
        $ vltk finetune --recipe uniter-flickr30k-base-hard --examples train.lmdb --features flickr30k.lmdb
              --init runs/flickr30k --out runs/flickr30k-hard --nproc 8 --dry-run
    """

    out: Path = option(incidental=True)
    """Folder of the run."""
    task: str = listed_in("vltk.tasks")
    """Which task."""
    data: SplitsConfig
    options: Any = chosen_by("task", package="vltk.tasks", attribute="Config")
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    training: FinetuningConfig = field(default_factory=FinetuningConfig)
    model: str = listed_in("vltk.models", "uniter")
    """Which model."""
    architecture: Any = chosen_by("model", package="vltk.models", attribute="Config")
    init: Path | None = None
    """Start from these weights: a run, a file of vltk convert, a published UNITER, a BERT, or weights by name."""
    seed: int = 0
    """Seed of everything random."""
    running: RunningConfig = field(default_factory=RunningConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: FinetuneConfig, terminal: Terminal) -> dict[str, object] | None:
    """Train, and return the receipt; or the plan, with --dry-run."""
    terminal = alone_or_among(config.running.nproc, terminal, begin=not config.write.dry_run)
    prepared, inputs = _prepare(config, terminal)
    if config.write.dry_run:
        return prepared.estimate(config.running.nproc)
    return trained(prepared, config, terminal, inputs=inputs, label=f"fine-tune {config.task}")


def _prepare(config: FinetuneConfig, terminal: Terminal) -> tuple[PreparedFinetuning, dict[str, str]]:
    from vltk.finetuning import open_splits, prepare_finetuning

    training, measured, inputs = open_splits(config.data)
    prepared = prepare_finetuning(
        training,
        measured,
        task=(config.task, config.options),
        model=(config.model, config.architecture),
        data=config.data,
        training=config.training,
        device=config.device,
        seed=config.seed,
        init=config.init,
    )
    for note in prepared.fresh:
        terminal.say(f"{config.init}: {note}")
    return prepared, inputs
