"""The optimiser and the schedules of UNITER's published training (apex-free)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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
            for _ in range(group.get("repeats", 1) if parameters else 0):
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


class RepeatingAdamW(torch.optim.AdamW):
    """torch's AdamW whose groups may take several steps an update, as many as their ``repeats`` says."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = super().step(closure)
        groups = self.param_groups
        try:
            for done in range(1, max(group.get("repeats", 1) for group in groups)):
                self.param_groups = [group for group in groups if group.get("repeats", 1) > done]
                super().step()
        finally:
            self.param_groups = groups
        return loss


def optimizer_of(groups: Iterable[dict[str, Any]], *, form: str = "published") -> Optimizer:
    """Make the "published" or "torch" AdamW of groups, each with its parameters, ``weight_decay``, ``multiplier``.

    A group may have ``repeats``, the number of steps that it takes an update (VSRN's published mistake).
    """
    made = list(groups)
    if form == "torch":
        repeating = any(group.get("repeats", 1) > 1 for group in made)
        return (RepeatingAdamW if repeating else torch.optim.AdamW)(made, betas=BETAS, eps=EPS)
    return PublishedAdamW(made, betas=BETAS, eps=EPS)


def repeated_parameters(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters that take several steps an update, once more for each step after the first."""
    groups = optimizer.param_groups
    return [parameter for group in groups for _ in range(1, group.get("repeats", 1)) for parameter in group["params"]]


def clip_repeated(parameters: Sequence[Tensor], repeated: Sequence[Tensor], *, limit: float) -> Tensor:
    """Clip gradients with those of some parameters counted again, and scaled again, as in a list that names them twice.

    Args:
        parameters: all of them.
        repeated: those that the list names again.
        limit: largest norm.

    Returns:
        The norm that they had.
    """
    both = [[one.grad for one in some if one.grad is not None] for some in (parameters, repeated)]
    norm: Tensor = torch.nn.utils.get_total_norm([*both[0], *both[1]])
    for some in (parameters, repeated):
        torch.nn.utils.clip_grads_with_norm_(list(some), limit, norm)
    return norm


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
        schedule: "linear" falls to 0 (:func:`warmup_linear`) with the published floor of 1e-8, "step" falls to a tenth
            again and again.
        step_at: share of the updates after which it does each time.

    Example:
        >>> [learning_rate(step, peak=1.0, warmup=0, total=4, schedule="step", step_at=0.5) for step in (1, 2, 3, 4)]
        [1.0, 1.0, 0.1, 0.1]
    """
    if schedule == "step":
        # A small slack, so that a third of the updates is not a rounding below it.
        falls = max(0, math.ceil(step / (step_at * total) - 1e-9) - 1)
        return peak * (step / warmup if step < warmup else 0.1**falls)
    return peak * warmup_linear(step, warmup=warmup, total=total) or LEAST_RATE
