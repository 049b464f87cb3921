"""Pre-training as one module: a model, its objectives by name, one of them a call (UNITER, section 3.2)."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import nn

from vltk.config import listing
from vltk.config.training import ObjectivesConfig
from vltk.errors import UsageError, did_you_mean
from vltk.objectives.masked import MRC, jointly_masked
from vltk.stores.examples import TokenizerDescription
from vltk.types import Batch, Losses

_PACKAGE = "vltk.objectives"


class Objective(Protocol):
    """What is hidden from a batch, and how well it is recovered."""

    def corrupt(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with something hidden and ``targets`` that say what; the given batch stays as it is."""

    def forward(self, model: Any, batch: Batch) -> Losses:
        """Return the losses of a corrupted batch."""


def objective_classes() -> dict[str, Any]:
    """Return the objectives that a pre-training run can name: every class of the package that can ``build`` itself.

    Example:
        >>> sorted(objective_classes())
        ['itm', 'mlm', 'mrc', 'mrckl', 'mrfr', 'mrm', 'probing']
    """
    modules = [importlib.import_module(f"{_PACKAGE}.{name}") for name in listing(_PACKAGE)]
    return {
        name.lower(): kind
        for module in modules
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__ and hasattr(kind, "build") and not name.startswith("_")
    }


def named_objectives(names: Sequence[str]) -> dict[str, Any]:
    """Return the classes of some objectives by name.

    Raises:
        UsageError: a name that is none of :func:`objective_classes`.
    """
    known = objective_classes()
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise UsageError(f"no objective {unknown!r}", where="--objective", remedy=did_you_mean(unknown, known))
    return {name: known[name] for name in names}


def build_objectives(
    names: Sequence[str],
    settings: ObjectivesConfig,
    tokenizer: TokenizerDescription,
    *,
    background_first: bool = True,
) -> dict[str, Objective]:
    """Make the objectives that a mixture names.

    Args:
        names: of :func:`objective_classes`.
        settings: what they are told.
        tokenizer: of the word pieces.
        background_first: column 0 of class distributions is the background, as in UNITER's stores.

    Raises:
        UsageError: a name that is none of them.
        DataError: a tokenizer that an objective cannot use.
    """
    built = {name: kind.build(settings, tokenizer) for name, kind in named_objectives(names).items()}
    for name, objective in built.items():
        if isinstance(objective, MRC):
            built[name] = replace(objective, background_first=background_first)
    if settings.masking == "joint":
        built = {name: jointly_masked(objective, settings, tokenizer) for name, objective in built.items()}
    return built


class Pretraining(nn.Module):
    """A model with its objectives; what a :class:`~vltk.trainer.Trainer` trains.

    Args:
        model: e.g. a UNITERForPretraining.
        objectives: by name.
    """

    def __init__(self, model: nn.Module, objectives: Mapping[str, Objective]) -> None:
        super().__init__()
        self.model = model
        self.objectives = dict(objectives)

    def forward(self, objective: str, batch: Batch, generator: torch.Generator) -> Losses:
        """Hide what the objective hides and return its losses.

        Args:
            objective: its name.
            batch: a whole batch.
            generator: of the hiding.

        Raises:
            UsageError: there is no such objective.
        """
        if objective not in self.objectives:
            raise UsageError(f"no objective {objective!r}", remedy=did_you_mean(objective, self.objectives))
        chosen = self.objectives[objective]
        return chosen.forward(self.model, chosen.corrupt(batch, generator))
