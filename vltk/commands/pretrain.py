"""Pre-train a joint encoder on pictures and captions."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.commands._processes import alone_or_among
from vltk.commands._terminal import Terminal
from vltk.commands._training import trained
from vltk.config import DeviceConfig, RecipeConfig, RunningConfig, WriteConfig, chosen_by, listed_in, option
from vltk.config.training import MixtureConfig, ObjectivesConfig, TrainingConfig

if TYPE_CHECKING:
    from vltk.pretraining import PreparedRun


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Pre-train UNITER or SSRP on any number of stores; a killed run goes on with the same command.

    SIGTERM, SIGUSR1 and Ctrl-C save after the step that is at work. Several processes share the micro-batches of a
    step and come to the same weights: --nproc 8, torchrun, or accelerate launch. Results are in OUT/results.json,
    figures as they come in OUT/metrics.jsonl, weights in OUT/last and OUT/best.

    Examples:
        $ vltk pretrain --recipe uniter-base --examples coco.lmdb --features coco-butd.lmdb --out runs/uniter
        $ vltk pretrain --recipe uniter-tiny --examples world.lmdb --features world-f.lmdb --out runs/tiny
        $ vltk pretrain --recipe ssrp-cross-probe --examples coco-ssrp.lmdb --features coco-butd.lmdb
              --views coco-views.lmdb --init runs/ssrp-cross --out runs/ssrp-cross-probe
        $ vltk pretrain --recipe uniter-base --examples coco.lmdb --features coco-butd.lmdb --out runs/uniter
              --audit-examples flickr30k-test.lmdb --nproc 8 --dry-run
    """

    out: Path = option(incidental=True)
    """Folder of the run."""
    data: MixtureConfig
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    model: str = listed_in("vltk.models", "uniter", having="ForPretraining")
    """Which model."""
    architecture: Any = chosen_by("model", package="vltk.models", attribute="Config")
    init: Path | None = None
    """Start from these weights: uniter-tiny (comes with vltk), a run, a file of vltk convert, a UNITER, or a BERT; an
    SSRP from one of its runs, SSRP-Cross also from an LXMERT."""
    seed: int = 0
    """Seed of everything random."""
    running: RunningConfig = field(default_factory=RunningConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: PretrainConfig, terminal: Terminal) -> dict[str, object] | None:
    """Train, and return the receipt; or the plan, with --dry-run."""
    terminal = alone_or_among(config.running.nproc, terminal, begin=not config.write.dry_run)
    prepared, inputs, shared = _prepare(config, terminal)
    for row in shared:
        terminal.warn(
            f"{row['images']} of {row['of']} images of {row['evaluation']} are trained on in {row['set']}: "
            f"{row['first']}; leave them out with --exclude-examples"
        )
    if config.write.dry_run:
        return {**prepared.estimate(config.running.nproc), "shared_images": shared}
    world = int(os.environ.get("WORLD_SIZE", "1"))
    terminal.say(
        f"{_counted(world, 'process', 'es')}, {_counted(config.training.micro_batches, 'micro-batch', 'es')} a step"
    )
    return trained(prepared, config, terminal, inputs=inputs, label="pretrain")


def _prepare(config: PretrainConfig, terminal: Terminal) -> tuple[PreparedRun, dict[str, str], list[dict[str, Any]]]:
    from vltk.pretraining import open_sources, prepare_run, shared_images

    sources, held_out, inputs = open_sources(config.data, bar=terminal.progress)
    shared = shared_images(sources, config.data.audit_examples)
    groups = {name: getattr(config, name) for name in ("data", "objectives", "training", "device", "seed", "init")}
    prepared = prepare_run(sources, held_out, model=config.model, architecture=config.architecture, **groups)
    for note in prepared.fresh:
        terminal.say(f"{config.init}: {note}")
    return prepared, inputs, shared


def _counted(count: int, what: str, plural: str) -> str:
    return f"{count} {what}{'' if count == 1 else plural}"
