"""Checkpoints of dual encoders: the authors' pairs of state dicts, and vltk's own files; nothing in them is executed.

VSE++, VSE-infinity and VSRN save ``dict(epoch, model=[image encoder, text encoder], best_rsum, opt, Eiters)``, the
options as an ``argparse.Namespace``, some of them under Python 2, and with ``module.`` before every key where several
GPUs trained. torch's reader of plain data takes these with the one class and the few numpy names that occur.
"""

from __future__ import annotations

import argparse
import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vltk.config import from_dict, listing
from vltk.errors import DataError, VltkError
from vltk.models._checkpoints import file_in
from vltk.run_folder import find_checkpoint, read_about
from vltk.run_folder.checkpoint import write_weights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

IMAGE, TEXT = "img_enc.", "txt_enc."
_SHOWN = 5
Model = TypeVar("Model", bound=nn.Module)
Size = TypeVar("Size", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class DualFile:
    """What a file of a dual encoder holds.

    Attributes:
        path: the file.
        own: what vltk's own file says of itself; None for the authors' files.
        weights: under vltk's names (own files) or the authors', with ``img_enc.`` or ``txt_enc.`` before each.
        options: of the authors' training.
        epoch: at which it was saved, where told.
        best: sum of recalls that made it the best, where told.
    """

    path: Path
    own: Mapping[str, Any] | None
    weights: dict[str, Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    epoch: int | None = None
    best: float | None = None


def read_dual_file(path: Path) -> DualFile:
    """Read a published checkpoint, a file of vltk's, or a run's folder.

    Raises:
        DataError: not there, damaged, or of another layout.
    """
    file = _file_of(path)
    if file.suffix == ".safetensors":
        try:
            held = load_file(file)
        except Exception as error:  # safetensors raises its own class and OSError alike
            raise DataError(f"cannot be read ({error})", where=file, remedy="use another checkpoint") from error
        weights = {name.removeprefix("model."): tensor for name, tensor in held.items()}
        return DualFile(path=file, own=read_about(file), weights=weights)
    return _published(file, _read_plain(file))


@dataclass(frozen=True, kw_only=True)
class LoadedDual:
    """A dual encoder with its weights, in evaluation mode.

    Attributes:
        model: gives ``embed_images`` and ``embed_texts``; ``config`` is its size.
        name: of the file in ``models/``.
        file: where the weights come from, and what it says of itself.
    """

    model: Any
    name: str
    file: DualFile


def load_dual(path: Path) -> LoadedDual:
    """Build the dual encoder that a run or a file of ``vltk convert`` holds.

    Raises:
        DataError: not there, damaged, no dual encoder, or keys that do not fit.
    """
    file = read_dual_file(path)
    told = file.own or {}
    name, remedy = told.get("model"), "use a run of a dual encoder, or convert the checkpoint with vltk convert first"
    if not isinstance(name, str) or name not in listing("vltk.models") or not isinstance(told.get("config"), Mapping):
        raise DataError("does not say which model it holds", where=file.path, remedy=remedy)
    try:
        model: Any = from_dict(importlib.import_module(f"vltk.models.{name}").Config, told["config"]).build()
    except (VltkError, AttributeError, TypeError) as error:
        raise DataError(f"was written by another version ({error})", where=file.path, remedy=remedy) from error
    if getattr(model, "family", "") != "dual":
        raise DataError(f"holds a {name}, which does not embed the sides apart", where=file.path, remedy=remedy)
    try:
        model.load_state_dict(file.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"has weights of another model ({reason})", where=file.path, remedy=remedy) from error
    return LoadedDual(model=model.eval(), name=name, file=file)


@dataclass(frozen=True, kw_only=True)
class DualCheckpoint(Generic[Model]):
    """A dual encoder of a known kind with its weights.

    Attributes:
        model: as the weights tell, in evaluation mode.
        file: where they come from.
        layout: vltk or published.
        options: of the training that made it.
    """

    model: Model
    file: DualFile
    layout: str
    options: Mapping[str, Any]


def own_config(file: DualFile, name: str, kind: type[Size]) -> Size:
    """Return the size that one of vltk's files tells.

    Args:
        file: one of vltk's.
        name: of the file in ``models/`` that it has to be of.
        kind: of the size.

    Raises:
        DataError: it holds another model.
    """
    told = file.own or {}
    values = told.get("config")
    if told.get("model") != name or not isinstance(values, Mapping):
        problem = f"is a {told.get('model', 'file of another program')}, no {name}"
        raise DataError(problem, where=file.path, remedy=f"use a file or run of a {name}")
    known = {item.name for item in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in known})


def fill_own(model: nn.Module, file: DualFile) -> None:
    """Copy the weights of one of vltk's files into a model.

    Raises:
        DataError: keys missing, left over, or of another shape, all named.
    """
    ours = model.state_dict()
    missing, left = sorted(ours.keys() - file.weights.keys()), sorted(file.weights.keys() - ours.keys())
    wrong = [name for name in ours if name in file.weights and ours[name].shape != file.weights[name].shape]
    found = [
        f"{what} {', '.join(names[:_SHOWN])}"
        for what, names in (("missing", missing), ("left over", left), ("of another shape", wrong))
        if names
    ]
    if found:
        raise DataError(f"keys do not fit: {'; '.join(found)}", where=file.path, remedy="use a whole file of one model")
    model.load_state_dict(file.weights)


def own_checkpoint(file: DualFile, model: Model) -> DualCheckpoint[Model]:
    """Fill a model of the right size with the weights of one of vltk's files.

    Raises:
        DataError: keys missing, left over, or of another shape, all named.
    """
    fill_own(model, file)
    options = dict((file.own or {}).get("options", {}))
    return DualCheckpoint(model=model.eval(), file=file, layout="vltk", options=options)


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a training's options that a file of vltk can hold."""
    return {name: value for name, value in options.items() if isinstance(value, str | int | float | bool)}


def check_sizes(found: Mapping[str, int], wanted: Mapping[str, int], *, where: Path) -> None:
    """Make sure that weights have the sizes of the stores.

    Raises:
        DataError: they have others, all named.
    """
    wrong = [f"{name} {found[name]} instead of {size}" for name, size in wanted.items() if found[name] != size]
    if wrong:
        remedy = "prepare the examples with its vocabulary, and use features of its detector"
        raise DataError(f"is of another size than the stores: {', '.join(wrong)}", where=where, remedy=remedy)


def _file_of(path: Path) -> Path:
    folder = find_checkpoint(path)
    if folder is None:
        if path.is_file():
            return path
        raise DataError("is not there", where=path, remedy="name a checkpoint file or the folder of one")
    return file_in(folder, path)


def _read_plain(path: Path) -> Any:
    # numpy.core became numpy._core; files of the time name the old place.
    scalar = np.float64(0).__reduce__()[0]
    known: list[Any] = [
        argparse.Namespace,
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    ]
    try:
        with torch.serialization.safe_globals(known), warnings.catch_warnings():
            # It says that an encoding counts for nothing here, and then decodes Python 2's texts with it.
            warnings.filterwarnings("ignore", message="pickle_load_args only works")
            return torch.load(path, map_location="cpu", weights_only=True, encoding="latin1")
    except Exception as error:  # each format raises its own classes
        reason = " ".join(str(error).split())[:120]
        remedy = "use a whole file of tensors and options; vltk runs no code of a file"
        raise DataError(f"cannot be read ({type(error).__name__}: {reason})", where=path, remedy=remedy) from error


def _published(path: Path, found: Any) -> DualFile:
    pair = found.get("model") if isinstance(found, Mapping) else None
    remedy = "use a checkpoint of VSE++, VSE-infinity or VSRN"
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(side, Mapping) for side in pair):
        raise DataError("holds no pair of an image and a text encoder", where=path, remedy=remedy)
    weights: dict[str, Tensor] = {}
    for prefix, side in zip((IMAGE, TEXT), pair, strict=True):
        for name, tensor in side.items():
            if not isinstance(tensor, Tensor):
                raise DataError(f"{name} is a {type(tensor).__name__}, no tensor", where=path, remedy=remedy)
            weights[prefix + str(name).removeprefix("module.")] = tensor
    options = found.get("opt")
    best, epoch = found.get("best_rsum"), found.get("epoch")
    return DualFile(
        path=path,
        own=None,
        weights=weights,
        options=vars(options) if isinstance(options, argparse.Namespace) else {},
        epoch=int(epoch) if isinstance(epoch, int) else None,
        best=None if best is None else float(best),
    )


def parallel(prefixed: bool, side: str, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return one side of a published state, with ``module.`` before its keys where several GPUs would train it."""
    start = "module." if prefixed else ""
    return {start + name.removeprefix(side): tensor for name, tensor in official.items() if name.startswith(side)}


def write_published(
    path: Path,
    official: Mapping[str, Tensor],
    *,
    options: Mapping[str, Any],
    prefixed: bool,
    epoch: int = 0,
    best: float = 0.0,
) -> None:
    """Write a pair of state dicts as the authors' programs read it.

    Args:
        path: the file.
        official: weights under published names, ``img_enc.`` or ``txt_enc.`` before each.
        options: of the training, which their evaluation looks things up in.
        prefixed: whether keys begin with ``module.``.
        epoch: the authors' counter.
        best: the sum of recalls.

    Raises:
        VltkError: it cannot be written; nothing is left behind.
    """
    pair = [parallel(prefixed, side, official) for side in (IMAGE, TEXT)]
    # Separate memory for each, so that no file holds shared tensors as one.
    pair = [{name: tensor.clone() for name, tensor in side.items()} for side in pair]
    content = {
        "epoch": epoch,
        "model": pair,
        "best_rsum": best,
        "opt": argparse.Namespace(**options),
        "Eiters": 0,
    }
    _written(path, lambda fresh: torch.save(content, fresh))


def write_own(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write one of vltk's files.

    Raises:
        VltkError: it cannot be written; nothing is left behind.
    """
    _written(path, lambda fresh: write_weights(fresh, weights, about=about))


def _written(path: Path, write: Any) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        write(fresh)
        fresh.replace(path)
    except (OSError, RuntimeError) as error:
        fresh.unlink(missing_ok=True)
        raise VltkError(f"cannot be written ({error})", where=path, remedy="name another file") from error
