"""The figures of a run as it goes: lines of ``metrics.jsonl``, a progress bar, and TensorBoard where it is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from vltk.errors import UsageError
from vltk.run_folder.folder import RunFolder
from vltk.types import Progress


class Journal:
    """Collects what each step gives and writes the means of every few steps.

    What it has collected since the last line is part of a checkpoint, so that a resumed run writes the lines that an
    undisturbed one would have written; only the times differ.

    Args:
        folder: of the run; None keeps the figures without writing them (another process writes).
        every: steps between two lines.
        last: number of the last step, which has a line in any case.
        progress: told of each step.
        tensorboard: also write TensorBoard's event files into ``folder/tensorboard``.
        clock: seconds.

    Raises:
        UsageError: TensorBoard is wanted and not installed.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        *,
        every: int = 1,
        last: int | None = None,
        progress: Progress = lambda steps: None,
        tensorboard: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.every, self.last = folder, every, last
        self.progress, self._clock = progress, clock
        self.figures: dict[str, float] = {}
        self._sums: dict[str, list[float]] = {}
        self._examples, self._seconds, self._since, self._line = 0, 0.0, clock(), clock()
        self._writer: Any = None
        self._open_writer = _tensorboard() if tensorboard else None

    @property
    def seconds(self) -> float:
        """How long the run has taken, over all its parts."""
        return self._seconds + self._clock() - self._since

    def step(self, step: int, objective: str, *, total: float, count: float, examples: int, **figures: float) -> None:
        """Take what an update gave.

        Args:
            step: number of the update, from 1.
            objective: what was trained.
            total: sum of its losses.
            count: what their mean divides by.
            examples: how many were seen.
            **figures: what else is worth a column; the last one before a line stands in it.
        """
        sums = self._sums.setdefault(objective, [0.0, 0.0])
        sums[0], sums[1] = sums[0] + total, sums[1] + count
        self._examples += examples
        if step % self.every == 0 or step == self.last:
            means = {name: total / max(count, 1.0) for name, (total, count) in self._sums.items()}
            spent = {"seconds": self.seconds, "examples per second": self._examples / max(1e-9, self._lap())}
            self._write({"step": step, **means, **figures, "examples": self._examples, **spent})
            self._sums, self._examples = {}, 0
        self.progress(1)

    def _lap(self) -> float:
        """Return the seconds since the last line."""
        before, self._line = self._line, self._clock()
        return self._line - before

    def validation(self, step: int, figures: Mapping[str, float]) -> None:
        """Take what a validation after ``step`` gave."""
        self._write({"step": step, **{f"validation {name}": value for name, value in figures.items()}})

    def _write(self, figures: dict[str, float]) -> None:
        self.figures.update(figures)
        if self.folder is None:
            return
        self.folder.append_metrics(figures)
        if self._open_writer is not None:
            step = int(figures["step"])
            # What a killed run wrote after the checkpoint that this one goes on from is taken back.
            self._writer = self._writer or self._open_writer(str(self.folder.path / "tensorboard"), purge_step=step)
            for name, value in figures.items():
                if name != "step":
                    self._writer.add_scalar(name.replace(" ", "_"), value, step)

    def close(self) -> None:
        """Write out what TensorBoard's writer still holds."""
        if self._writer is not None:
            self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        """Return what has been collected, as plain values."""
        return {
            "sums": {name: list(pair) for name, pair in self._sums.items()},
            "examples": self._examples,
            "seconds": self.seconds,
            "figures": dict(self.figures),
        }

    def resume(self, state: Mapping[str, Any], *, step: int) -> None:
        """Go on after ``step`` from what :meth:`state_dict` returned there."""
        self._sums = {name: list(pair) for name, pair in state["sums"].items()}
        self._examples, self._seconds, self.figures = state["examples"], state["seconds"], dict(state["figures"])
        self._since = self._line = self._clock()
        if self.folder is not None:
            self.folder.trim_metrics(step)
        self.progress(step)


def _tensorboard() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        problem = "TensorBoard is not installed"
        raise UsageError(problem, where="--tensorboard", remedy="pip install 'vltk-toolkit[train]'") from error
    return SummaryWriter
