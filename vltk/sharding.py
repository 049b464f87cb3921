"""Weights that processes divide among themselves (FSDP): gathered whole for a checkpoint, divided again on resuming."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def sharding_is_asked_for() -> bool:
    """Say whether accelerate's configuration asks for FSDP (``accelerate launch --use_fsdp``, or its file)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def divide(module: nn.Module, optimizer: Optimizer) -> None:
    """Divide the weights of a module, and what its optimiser updates, among the processes of a CPU run.

    accelerate divides on GPUs only and passes over its own configuration on a CPU, where this takes its place: each
    layer of the classes that ``fsdp_transformer_layer_cls_to_wrap`` names is a unit, and what is left is another.

    Args:
        module: what is trained; its parameters are replaced.
        optimizer: of its parameters.
    """
    before = dict(module.named_parameters())
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    units = set(os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP", "").split(","))
    for part in module.modules():
        if type(part).__name__ in units and part is not module:
            fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)
    after = dict(module.named_parameters())
    replaced = {id(parameter): after[name] for name, parameter in before.items()}
    for group in optimizer.param_groups:
        group["params"] = [replaced[id(parameter)] for parameter in group["params"]]


@contextlib.contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Hold all weights in every process for a while, so that each may call the module as often as it likes.

    Args:
        module: what was divided.
    """
    units = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    yield
    for unit in units:
        unit.set_reshard_after_forward(unit is not module, recurse=False)
        unit.reshard()


def whole_state(module: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return all weights and the optimiser's state as one process would hold them; every process must call it.

    Args:
        module: what is trained.
        optimizer: of its parameters.

    Returns:
        The weights by name, and the state as ``optimizer.state_dict()`` numbers it; empty in all but the first process.
    """
    weights: dict[str, Any] = get_model_state_dict(module, options=_WHOLE)
    named: Any = get_optimizer_state_dict(module, optimizer, options=_WHOLE)
    if not named:  # only the first process is given the whole
        return weights, {}
    order = [name for group in named["param_groups"] for name in group["params"]]
    numbers = {name: number for number, name in enumerate(order)}
    groups = [group | {"params": [numbers[name] for name in group["params"]]} for group in named["param_groups"]]
    return weights, {"state": {numbers[name]: of for name, of in named["state"].items()}, "param_groups": groups}


def divide_state(module: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load what :func:`whole_state` returned, under "model" and "optimizer"; each process keeps its part.

    Args:
        module: what is trained.
        optimizer: of its parameters.
        state: of a checkpoint, however many processes wrote it.
    """
    set_model_state_dict(module, dict(state["model"]), options=_WHOLE)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    saved = state["optimizer"]
    groups = [group | {"params": [order[number] for number in group["params"]]} for group in saved["param_groups"]]
    named: dict[str, Any] = {order[number]: of for number, of in saved["state"].items()}
    # A head that no step has trained yet has no state; torch makes one for it, which would count a step too many.
    lenient = replace(_WHOLE, strict=False)
    set_optimizer_state_dict(module, optimizer, {"state": named, "param_groups": groups}, options=lenient)
    for parameter in [parameter for parameter in optimizer.state if names[id(parameter)] not in named]:
        del optimizer.state[parameter]


def plain(tensor: Tensor) -> Tensor:
    """Return a number that processes hold in parts as an ordinary tensor."""
    whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole
