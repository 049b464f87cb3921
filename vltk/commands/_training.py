"""A run that is built, trained to its end: what pretrain and finetune do alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vltk.commands._processes import rank
from vltk.commands._stopping import stoppable
from vltk.commands._terminal import Terminal

if TYPE_CHECKING:
    from vltk.commands.finetune import FinetuneConfig
    from vltk.commands.pretrain import PretrainConfig
    from vltk.training_run import TrainingRun


def trained(
    prepared: TrainingRun,
    config: PretrainConfig | FinetuneConfig,
    terminal: Terminal,
    *,
    inputs: Mapping[str, str],
    label: str,
) -> dict[str, object] | None:
    """Train, and return the receipt without the configuration; None in every process but the first.

    Args:
        prepared: what is trained.
        config: what was asked for.
        terminal: shows how far it is.
        inputs: a hash for each thing that the run reads.
        label: beside the bar.
    """
    from vltk.run_folder import RunFolder

    folder = RunFolder(config.out, config, inputs=inputs)
    with stoppable(terminal) as stop, terminal.progress(config.training.steps, label) as progress:
        results = prepared.train(
            folder,
            resume=config.running.resume,
            overwrite=config.write.overwrite,
            progress=progress,
            stop=stop,
        )
    return None if rank() else {name: value for name, value in results.items() if name != "config"}
