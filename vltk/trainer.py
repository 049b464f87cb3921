"""The one training loop: any module that gives losses, any plan of micro-batches, one process or many."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from vltk.config.training import TrainingConfig
from vltk.detection.extractor import choose_device
from vltk.errors import StoppedEarlyError, UsageError, VltkError
from vltk.optimization import clip_repeated, learning_rate, repeated_parameters
from vltk.run_folder import Journal, read_state, write_checkpoint
from vltk.sharding import divide, divide_state, gathered, plain, sharding_is_asked_for, whole_state
from vltk.types import Batch, Losses, Plan

Validate = Callable[[Accelerator, nn.Module], tuple[float, dict[str, float]]]
"""Gives the quality that decides which checkpoint is best, and every figure by its name; the same in all processes."""


_UNSUPPORTED = {"DEEPSPEED", "MEGATRON_LM"}


def join_processes(*, device: str = "auto", precision: str = "fp32") -> Accelerator:
    """Find the other processes of the run (torchrun, accelerate launch, --nproc) and the device of this one.

    Args:
        device: auto, cpu, cuda or cuda:N; with several processes on GPUs each takes its own.
        precision: fp32, bf16 or fp16 arithmetic of the forward pass; weights stay fp32.

    Raises:
        UsageError: no such device, or fp16 on a CPU.
        VltkError: fewer processes found each other than were started.
    """
    chosen, expected = choose_device(device), int(os.environ.get("WORLD_SIZE", "1"))
    if precision == "fp16" and chosen.type == "cpu":
        raise UsageError("fp16 needs a GPU", where="--precision", remedy="use bf16 or fp32 on a CPU")
    if expected == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # one process may train twice, e.g. in a notebook
        if chosen.index is not None:
            torch.cuda.set_device(chosen)
            os.environ["ACCELERATE_TORCH_DEVICE"] = str(chosen)
    # An objective leaves the other objectives' heads without a gradient, which every process must know of.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    mixed = "no" if precision == "fp32" else precision
    found = Accelerator(cpu=chosen.type == "cpu", mixed_precision=mixed, kwargs_handlers=[unused])
    if found.num_processes != expected:
        problem = f"{expected} processes were started, {found.num_processes} found each other"
        raise VltkError(problem, where="WORLD_SIZE", remedy="start them with torchrun or --nproc")
    if found.distributed_type.name in _UNSUPPORTED:
        problem = f"{found.distributed_type.name} divides the weights in a way that checkpoints here are not made for"
        raise UsageError(problem, where="accelerate", remedy="use MULTI_GPU or FSDP")
    if sharding_is_asked_for() and os.environ.get("FSDP_VERSION", "1") != "2":
        raise UsageError("FSDP 1 is configured", where="accelerate", remedy="set fsdp_version: 2")
    return found


class _Loads(Dataset[tuple[Any, Batch]]):
    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __getitem__(self, work: Any) -> tuple[Any, Batch]:
        return work, self.plan.load(work)


class Trainer:
    """Trains a module on a plan and keeps the run's checkpoints ``last`` and ``best``.

    Args:
        module: called with an objective's name, a batch and a generator; returns :class:`~vltk.types.Losses`.
        plan: what comes when; a step of it has ``config.micro_batches``, divided among the processes.
        optimizer: of the module's parameters.
        config: how to update.
        folder: where the checkpoints go.
        processes: of :func:`join_processes`.
        journal: told of every step.
        num_workers: data loading processes; they change nothing but the speed.
        validate: measures the module.
        stop: asked after each step whether to save and end.
        about: what the checkpoints say of themselves.

    Raises:
        UsageError: the micro-batches of a step do not divide among the processes.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: Plan,
        optimizer: Optimizer,
        config: TrainingConfig,
        *,
        folder: Path,
        processes: Accelerator,
        journal: Journal,
        num_workers: int = 0,
        validate: Validate | None = None,
        stop: Callable[[], bool] = lambda: False,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.plan, self.folder, self.num_workers = config, plan, folder, num_workers
        self.processes, self.journal, self.validate, self.stop, self.about = processes, journal, validate, stop, about
        self.accumulation, rest = divmod(config.micro_batches, processes.num_processes)
        if rest or not self.accumulation:
            problem = f"{config.micro_batches} micro-batches a step do not divide among {processes.num_processes}"
            raise UsageError(f"{problem} processes", where="--micro-batches", remedy="use a multiple")
        self.core, self.sharded = module, sharding_is_asked_for() and processes.num_processes > 1
        if self.sharded and processes.device.type == "cpu":
            divide(module, optimizer)
            self.module, self.optimizer = module, optimizer
        else:
            self.module, self.optimizer = processes.prepare(module, optimizer)
        self.parameters = list(self.module.parameters())
        self.step, self.best = 0, float("-inf")

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint exactly as if nothing had happened."""
        state = read_state(checkpoint)
        if self.sharded:
            divide_state(self.module, self._inner, state)
        else:
            self.core.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        if self.processes.scaler is not None and state["scaler"]:
            self.processes.scaler.load_state_dict(state["scaler"])
        self.step, self.best = state["step"], state["best"]
        self.journal.resume(state["journal"], step=self.step)

    def train(self) -> None:
        """Train to the last step.

        Raises:
            StoppedEarlyError: it was asked to stop; the state was saved.
            VltkError: a loss is not finite; the last checkpoint stays.
        """
        self.core.train()
        batches = self._batches()
        if not self.step:
            self._keep()
        while self.step < self.config.steps:
            stopped = self._update(batches)
            done, every = self.step == self.config.steps, self.config.validate_every
            if self.validate and (done or (every and self.step % every == 0)):
                self._validate(self.validate)
            if done or stopped or self.step % self.config.save_every == 0:
                self.save("last")
            self._keep()
            if stopped and not done:
                remedy = "the same command resumes"
                raise StoppedEarlyError(f"stopped after step {self.step}", where=self.folder, remedy=remedy)

    def _batches(self) -> Iterator[tuple[Any, Batch]]:
        """Yield this process' share of the plan, loaded."""
        first = self.processes.process_index * self.accumulation
        mine = (work for works in self.plan.steps(self.step) for work in works[first : first + self.accumulation])
        loader = DataLoader(_Loads(self.plan), batch_size=None, sampler=mine, num_workers=self.num_workers)
        for work, batch in loader:
            yield work, batch.to(self.processes.device)

    def _update(self, batches: Iterator[tuple[Any, Batch]]) -> bool:
        """Update the weights once; return whether a process was asked to stop."""
        total, count, examples = torch.zeros((), device=self.processes.device), 0, 0
        for micro in range(self.accumulation):
            work, batch = next(batches)
            # One seed a micro-batch makes dropout independent of what was computed before: resuming needs no more.
            torch.manual_seed(work.seed)
            last = micro == self.accumulation - 1
            with contextlib.nullcontext() if last else self.processes.no_sync(self.module):
                losses: Losses = self.module(work.objective, batch, torch.Generator().manual_seed(work.seed))
                summed = self.config.normalisation == "global"
                self.processes.backward(losses.values.sum() if summed else losses.mean())
            total = total + losses.values.detach().sum()
            count, examples = count + losses.count, examples + len(batch.ids)
        counted = torch.tensor([count, examples, self.stop()], dtype=total.dtype, device=total.device)
        sums = self.processes.reduce(torch.cat([total[None], counted]), "sum")
        norm = self._apply(sums[1].clamp(min=1))
        total_loss, targets, seen, stopped, length = torch.cat([sums, norm[None]]).tolist()
        if not math.isfinite(total_loss):
            pairs = ", ".join(batch.ids[:3])
            problem = f"the {work.objective} loss of step {self.step} is {total_loss} (pairs {pairs}, ...)"
            raise VltkError(problem, where=self.folder, remedy="lower --learning-rate; the last checkpoint stays")
        figures = {"gradient norm": length, "rate": self.optimizer.param_groups[0]["lr"]}
        self.journal.step(self.step, work.objective, total=total_loss, count=targets, examples=int(seen), **figures)
        return bool(stopped)

    def _apply(self, count: Tensor) -> Tensor:
        """Turn summed gradients into those of the mean over ``count`` targets, clip them, step; return their norm."""
        if self.config.normalisation == "global":
            # Gradients were averaged over the processes; the sum over the global count is the gradient of the mean.
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            scale = self.processes.num_processes / count
            torch._foreach_mul_(gradients, float(scale) if self.sharded else scale)
        limit = self.config.clip or float("inf")
        norm: Tensor = self._clip(limit)
        config = self.config
        shape = {"warmup": config.warmup, "total": config.steps}
        rate = learning_rate(
            self.step + 1, peak=config.learning_rate, schedule=config.schedule, step_at=config.step_at, **shape
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("multiplier", 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return plain(norm).to(count.dtype)

    def _clip(self, limit: float) -> Tensor:
        repeated = repeated_parameters(self.optimizer)
        if not repeated:
            whole: Tensor = self.processes.clip_grad_norm_(self.parameters, limit)
            return whole
        self.processes.unscale_gradients()
        return clip_repeated(self.parameters, repeated, limit=limit)

    def measure_again(self) -> None:
        """Measure the module as it is: for a run that ended before anything was said of its last validation."""
        if self.validate:
            self._measured(self.validate)

    def _measured(self, validate: Validate) -> tuple[float, dict[str, float]]:
        self.core.eval()
        with torch.no_grad(), gathered(self.module) if self.sharded else contextlib.nullcontext():
            found = validate(self.processes, self.module)
        self.core.train()
        return found

    def _validate(self, validate: Validate) -> None:
        quality, figures = self._measured(validate)
        self.journal.validation(self.step, figures)
        if quality > self.best:
            self.best = quality
            self.save("best")

    @property
    def _inner(self) -> Optimizer:
        """The optimiser under accelerate's."""
        inner: Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return inner

    def _keep(self) -> None:
        """Write the weights of this step where they are to be kept, for whoever follows a run through its steps."""
        every = self.config.keep_every
        if every and self.step % every == 0:
            self._write(f"step-{self.step}", whole=False)

    def save(self, name: str) -> None:
        """Write the checkpoint ``folder/name``; whatever happens, the old or the new one is whole."""
        self._write(name, whole=True)

    def _write(self, name: str, *, whole: bool) -> None:
        scaler = self.processes.scaler
        if self.sharded:
            weights, updates = whole_state(self.module, self._inner)
        else:
            weights, updates = self.processes.get_state_dict(self.module), self.optimizer.state_dict()
        if self.processes.is_main_process:
            state: dict[str, Any] = {"step": self.step, "best": self.best}
            if whole:
                state |= {"optimizer": updates, "scaler": scaler and scaler.state_dict()}
                state |= {"journal": self.journal.state_dict()}
            about = {**(self.about or {}), "step": self.step}
            write_checkpoint(self.folder / name, weights, state, about=about)
        self.processes.wait_for_everyone()
