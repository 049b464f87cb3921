"""A command by its name: the dataclass that it takes and the function that runs it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal

Run = Callable[[Any, "Terminal"], Mapping[str, Any] | None]

COMMANDS = "vltk.commands"


def config_class(run: Run) -> type[Any]:
    """Return the dataclass that annotates the first parameter of a command's function."""
    annotation = next(iter(inspect.signature(run).parameters.values())).annotation
    found = getattr(sys.modules[run.__module__], annotation, None) if isinstance(annotation, str) else annotation
    if not isinstance(found, type):
        raise TypeError(f"{run.__module__}.{run.__qualname__}: its first parameter needs a dataclass as annotation")
    return found


def entry(command: str) -> tuple[type[Any], Run]:
    """Return the configuration and the function of a command.

    Args:
        command: as it is typed, e.g. "finetune" or "store verify".

    Example:
        >>> entry("store verify")[0].__name__
        'VerifyConfig'
    """
    name, _, inner = command.partition(" ")
    module = importlib.import_module(f"{COMMANDS}.{name.replace('-', '_')}")
    if inner:
        kind, run = module.COMMANDS[inner]
        return kind, run
    return config_class(module.run), module.run
