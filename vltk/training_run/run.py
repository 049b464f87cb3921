"""A run that is built and then trained: processes, journal, checkpoints, receipt, or only its plan."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer

from vltk.config import DeviceConfig, to_dict
from vltk.config.training import TrainingConfig
from vltk.detection.extractor import choose_device
from vltk.run_folder import RESULTS, WEIGHTS, Journal, RunFolder, circumstances, file_sha256
from vltk.trainer import Trainer, join_processes
from vltk.training_run.estimate import MeasuredPlan, estimate_cost, estimate_memory
from vltk.types import Progress

_PREFIX = "validation "


class Measuring(Protocol):
    """What measures a module while it is trained."""

    def __call__(self, processes: Any, module: nn.Module) -> tuple[float, dict[str, float]]:
        """Return the quality that decides which checkpoint is best, and every figure by its name."""
        ...

    def rows(self, figures: Mapping[str, float]) -> list[dict[str, Any]]:
        """Return the figures of the last call as rows of the receipt, each with what it needs to be believed."""
        ...


@dataclass(kw_only=True)
class TrainingRun:
    """A run that is built and not begun.

    Attributes:
        module: what is trained.
        plan: what comes when.
        measuring: what is measured; None without held-out examples.
        training: how weights are updated.
        device: where and how precisely.
        fresh: what --init did not fill, for people.
        about: what the checkpoints say of themselves.
    """

    module: nn.Module
    plan: MeasuredPlan
    measuring: Measuring | None
    training: TrainingConfig
    device: DeviceConfig
    fresh: list[str]
    about: dict[str, Any]

    @abstractmethod
    def optimizer(self) -> Optimizer:
        """Make the optimiser of the module's parameters."""

    @abstractmethod
    def look(self) -> None:
        """Read the first examples, so that what is wrong with them shows before anything is written."""

    def write_more(self, folder: RunFolder) -> None:
        """Write into the folder, as the main process, what the run needs to be used later."""

    def train(
        self,
        folder: RunFolder,
        *,
        resume: str = "auto",
        overwrite: bool = False,
        progress: Progress = lambda steps: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """Train to the end, write the receipt ``results.json`` and return it.

        Args:
            folder: of the run; nothing in it is touched before everything that can be wrong was looked at.
            resume: as :meth:`~vltk.run_folder.RunFolder.begin`.
            overwrite: as there.
            progress: told of each step.
            stop: asked after each step whether to save and end.

        Raises:
            UsageError: the folder or the processes do not fit.
            DataError: the first examples cannot be read.
            StoppedEarlyError: it was asked to stop; the state was saved.
            VltkError: a loss is not finite, or the disk is full.
        """
        processes = join_processes(device=self.device.device, precision=self.device.precision)
        self.look()
        journal_folder = folder if processes.is_main_process else None
        journal = Journal(
            journal_folder,
            every=self.training.log_every,
            last=self.training.steps,
            progress=progress,
            tensorboard=self.training.tensorboard,
        )
        trainer = self._trainer(folder, processes, journal, stop)
        # Every process looks before one of them writes.
        checkpoint = folder.check(resume=resume, overwrite=overwrite)
        processes.wait_for_everyone()
        if processes.is_main_process:
            checkpoint = folder.begin(resume=resume, overwrite=overwrite)
            self.write_more(folder)
        if checkpoint is not None:
            trainer.resume(checkpoint)
        ended = trainer.step >= self.training.steps
        try:
            trainer.train()
            if ended and not (folder.path / RESULTS).is_file():
                trainer.measure_again()
        finally:
            journal.close()
        results = self._receipt(folder, journal, processes)
        if processes.is_main_process:
            folder.write_json(RESULTS, results)
        processes.wait_for_everyone()
        return results

    def _trainer(self, folder: RunFolder, processes: Any, journal: Journal, stop: Callable[[], bool]) -> Trainer:
        return Trainer(
            self.module,
            self.plan,
            self.optimizer(),
            self.training,
            folder=folder.path,
            processes=processes,
            journal=journal,
            num_workers=self.device.num_workers,
            validate=self.measuring,
            stop=stop,
            about=self.about,
        )

    def _receipt(self, folder: RunFolder, journal: Journal, processes: Any) -> dict[str, Any]:
        checkpoints = {name: folder.path / name / WEIGHTS for name in ("last", "best")}
        measured = {name.removeprefix(_PREFIX): v for name, v in journal.figures.items() if name.startswith(_PREFIX)}
        return {
            "run": str(folder.path),
            "steps": self.training.steps,
            "parameters": count_parameters(self.module),
            "config": to_dict(folder.config),
            "metrics": self._rows(folder, measured),
            "figures": {name: value for name, value in journal.figures.items() if "validation" not in name},
            "weights": {name: file_sha256(path) for name, path in checkpoints.items() if path.is_file()},
            "initialised": self.fresh,
            "processes": processes.num_processes,
            "device": str(processes.device),
            **circumstances(folder.inputs, seconds=journal.seconds),
        }

    def _rows(self, folder: RunFolder, measured: Mapping[str, float]) -> list[dict[str, Any]]:
        """Return the figures as rows; what an earlier receipt says of an equal figure, its interval, still holds."""
        rows = self.measuring.rows(measured) if self.measuring else []
        path = folder.path / RESULTS
        before = json.loads(path.read_text("utf-8")).get("metrics", []) if path.is_file() else []
        known = {(row["metric"], row["value"]): row for row in before if "interval_95" in row}
        return [row if "interval_95" in row else known.get((row["metric"], row["value"]), row) for row in rows]

    def estimated(self, processes: int, *, size: Any = None) -> dict[str, Any]:
        """Return what the run would cost, from a few micro-batches that it times; nothing is written.

        Args:
            processes: that would share the micro-batches of a step.
            size: of the Transformer, with ``hidden``, ``layers`` and ``region_dim``; without it nothing is said of
                memory.
        """
        training, parameters = self.training, count_parameters(self.module)
        cost = estimate_cost(
            self.module,
            self.plan,
            steps=training.steps,
            micro_batches=training.micro_batches,
            processes=processes,
            device=choose_device(self.device.device),
            precision=self.device.precision,
        )
        plan: dict[str, Any] = {
            "parameters": parameters,
            "initialised": self.fresh,
            "steps": training.steps,
            "processes": processes,
            "micro_batches_per_process": training.micro_batches // max(1, processes),
            **cost,
        }
        if size is None:
            return plan
        memory = estimate_memory(
            size,
            parameters=parameters,
            tokens=cost["largest_micro_batch"],
            precision=self.device.precision,
            recomputed=training.checkpointing,
        )
        return plan | {"memory": {name: f"{amount / 2**30:.2f} GiB" for name, amount in memory.items()}}


def compile_layers(layers: Iterable[nn.Module]) -> None:
    """Compile the layers of a Transformer one by one, for texts and pictures of any length."""
    for layer in layers:
        layer.compile(dynamic=True)


def count_parameters(model: nn.Module) -> int:
    """Return the number of distinct weights, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
