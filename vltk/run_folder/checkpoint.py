"""A checkpoint: a folder of weights that any program can read, and of the state that resuming needs.

At every moment the old one or the new one is whole.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vltk.errors import DataError, VltkError
from vltk.stores.whole_files import sync

WEIGHTS, STATE = "model.safetensors", "state.pt"
TRAINED_ON = "trained_on"
"""Under which key a checkpoint says what kind of stores it was trained on."""
WORD_MASK = "word_mask"
"""Among that: the id of the mask in a vocabulary of whole words, which the published ones lack."""
_ABOUT = "vltk"


def write_checkpoint(
    path: Path, weights: Mapping[str, Tensor], state: Mapping[str, Any], *, about: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint folder: under a temporary name, synced, then put in place of the old one.

    Args:
        path: the folder; an older checkpoint there is replaced.
        weights: of the model; saved as safetensors.
        state: everything else, as tensors and plain values.
        about: what the weights file says of itself, as JSON values; :func:`read_about` reads it back.

    Raises:
        VltkError: the disk is full; the old checkpoint stays.
    """
    fresh, old = _beside(path)
    # Where a kill came between two renames, the only whole checkpoint lies under one of these names.
    kept = find_checkpoint(path)
    if kept is not None and kept != path:
        kept.rename(path)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        write_weights(fresh / WEIGHTS, weights, about=about or {})
        torch.save(dict(state), fresh / STATE)
        for name in (WEIGHTS, STATE):
            sync(fresh / name)
        sync(fresh)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise VltkError(f"cannot be written ({error})", where=path, remedy="make room; the old one stays") from error
    if path.exists():
        path.rename(old)
    fresh.rename(path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_weights(path: Path, weights: Mapping[str, Tensor], *, about: Mapping[str, Any]) -> None:
    """Write weights as one safetensors file that carries a description of itself.

    Raises:
        OSError: the file cannot be written.
    """
    # Tied weights share memory, which the format refuses; a reader wants them whole anyway.
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    # One entry only: the format writes several in an order of chance, and equal weights should be equal files.
    try:
        save_file(plain, path, {_ABOUT: json.dumps(dict(about), default=str)})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def read_about(path: Path) -> dict[str, Any]:
    """Return what a weights file of vltk says of itself; nothing for a file of another program.

    Raises:
        DataError: it is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(_ABOUT, "{}")
    except Exception as error:  # safetensors raises its own class and OSError alike
        raise DataError(f"cannot be read ({error})", where=path, remedy="use another checkpoint") from error
    with contextlib.suppress(ValueError):
        about = json.loads(told)
        if isinstance(about, dict):
            return about
    return {}


def find_checkpoint(path: Path) -> Path | None:
    """Return the whole checkpoint at ``path``, also where a kill came between two renames; None where there is none."""
    if path.is_dir():
        return path
    fresh, old = _beside(path)
    # The old one steps aside only after the new one is whole; a new one alone is a first save that was cut short.
    return fresh if old.is_dir() and fresh.is_dir() else old if old.is_dir() else None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint folder.

    Raises:
        DataError: there is no whole checkpoint, or its file is damaged.
    """
    found = find_checkpoint(path)
    if found is None:
        raise DataError("is no checkpoint", where=path, remedy=f"name a folder with {WEIGHTS} and {STATE}")
    try:
        return load_file(found / WEIGHTS)
    except Exception as error:  # safetensors raises its own class and OSError alike
        raise DataError(f"cannot be read ({error})", where=found / WEIGHTS, remedy="use another checkpoint") from error


def read_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint whole: its state, and the weights under "model".

    Raises:
        DataError: as :func:`read_weights`; or the state holds anything but tensors and plain values.
    """
    weights = read_weights(path)
    found = find_checkpoint(path) or path
    try:
        state: dict[str, Any] = torch.load(found / STATE, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"cannot be read ({error})", where=found / STATE, remedy="use another checkpoint") from error
    return state | {"model": weights}


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
