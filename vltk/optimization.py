"""The optimiser and the schedules of UNITER's published training (apex-free)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

BETAS, EPS = (0.9, 0.98), 1e-6
"""Moments' decays and epsilon of every published run."""

# A rate of exactly zero stops apex' loss scaling; the published trainers use this floor instead.
LEAST_RATE = 1e-8


class PublishedAdamW(Optimizer):
    """AdamW as the authors of UNITER ran it.

    It differs from ``torch.optim.AdamW`` in two places: ``eps`` is added before the bias correction, and the weight
    decay is applied after the update, to the updated weights.

    Args:
        params: parameters or groups; a group may have its own ``lr`` and ``weight_decay``.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second moment.
        weight_decay: decoupled decay.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 5e-5,
        betas: tuple[float, float] = BETAS,
        eps: float = EPS,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(group, parameters)
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": 0,
                    "first": torch.zeros_like(parameter),
                    "second": torch.zeros_like(parameter),
                }
            self.state[parameter]["step"] += 1
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        first = [self.state[parameter]["first"] for parameter in parameters]
        second = [self.state[parameter]["second"] for parameter in parameters]
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(second)
        torch._foreach_add_(roots, group["eps"])
        steps = [self.state[parameter]["step"] for parameter in parameters]
        rates = [-group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step) for step in steps]
        torch._foreach_addcdiv_(parameters, first, roots, rates)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])


def build_optimizer(
    module: nn.Module,
    *,
    form: str = "published",
    weight_decay: float = 0.01,
    undecayed: Callable[[str], bool],
    multiplier: Callable[[str], float] = lambda name: 1.0,
) -> Optimizer:
    """Make the optimiser of a module, weights that decay and those that do not in groups of their own.

    Args:
        module: whose parameters are trained.
        form: "published" or "torch" AdamW.
        weight_decay: of the weights that decay.
        undecayed: told a parameter's name, says that it does not decay.
        multiplier: told a parameter's name, says by what its rate is multiplied (published as lr_mul, for heads).
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((multiplier(name), undecayed(name)), []).append(parameter)
    made = [
        {"params": groups[rate, bare], "weight_decay": 0.0 if bare else weight_decay, "multiplier": rate}
        for rate, bare in sorted(groups)
    ]
    return optimizer_of(made, form=form)


def optimizer_of(groups: Iterable[dict[str, Any]], *, form: str = "published") -> Optimizer:
    """Make the "published" or "torch" AdamW of groups, each with its parameters, ``weight_decay``, ``multiplier``."""
    if form == "torch":
        return torch.optim.AdamW(list(groups), betas=BETAS, eps=EPS)
    return PublishedAdamW(list(groups), betas=BETAS, eps=EPS)


def warmup_linear(step: int, *, warmup: int, total: int) -> float:
    """Return the share of the full rate at ``step``, counted from 1: linear up, then linear down to 0 at ``total``.

    Example:
        >>> [warmup_linear(step, warmup=2, total=6) for step in (1, 2, 4, 6)]
        [0.5, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return step / warmup
    return max(0.0, (step - total) / (warmup - total))


def learning_rate(
    step: int, *, peak: float, warmup: int, total: int, schedule: str = "linear", step_at: float = 1.0
) -> float:
    """Return the learning rate at ``step``, counted from 1.

    Args:
        step: number of the update.
        peak: highest rate.
        warmup: updates until then.
        total: updates of the run.
        schedule: "linear" falls to 0 (:func:`warmup_linear`) with the published floor of 1e-8, "step" falls once to a
            tenth.
        step_at: share of the updates after which it does.

    Example:
        >>> [learning_rate(step, peak=1.0, warmup=0, total=4, schedule="step", step_at=0.5) for step in (1, 2, 3, 4)]
        [1.0, 1.0, 0.1, 0.1]
    """
    if schedule == "step":
        return peak * (step / warmup if step < warmup else 0.1 if step > step_at * total else 1.0)
    return peak * warmup_linear(step, warmup=warmup, total=total) or LEAST_RATE
