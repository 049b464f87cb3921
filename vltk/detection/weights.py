"""Loads and saves detectors: own safetensors files, and the published checkpoints of the bottom-up-attention family.

Known are detectron2's ``.pkl``, Hugging Face's ``pytorch_model.bin`` beside ``config.yaml``, MILVLG's ``.pth`` and
our ``.safetensors``, which carries its configuration. Every key of a checkpoint finds its place or is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vltk.detection._checkpoint_files import Checkpoint, read_checkpoint
from vltk.detection._checkpoint_layouts import (
    CELLS,
    Layout,
    detect_layout,
    from_milvlg,
    infer_config,
    lower_keys,
    our_keys,
)
from vltk.detection.faster_rcnn import FasterRCNN, FasterRCNNConfig
from vltk.errors import DataError, OfflineError, UsageError
from vltk.stores.whole_files import new_path

_FILES = ("model.safetensors", "pytorch_model.bin")
_SETTINGS = ("config.yaml", "config.yml")
_SUFFIXES = (".safetensors", ".bin", ".pkl", ".pth", ".pt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHOWN = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedDetector:
    """A detector and where it comes from.

    Attributes:
        model: the network, in float32 and evaluation mode.
        path: the file.
        sha256: of the file.
        layout: whose conventions the file has.
        settings: of a ``config.yaml`` beside it, keys in lower case; thresholds in it are no part of the weights.
    """

    model: FasterRCNN
    path: Path
    sha256: str
    layout: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def load_detector(
    source: str | Path,
    *,
    layout: Layout = "auto",
    renames: Mapping[str, str] | None = None,
    offline: bool = False,
    cache_dir: Path | None = None,
) -> LoadedDetector:
    """Load a detector from a file, a folder or the Hugging Face hub.

    Args:
        source: a file, a folder that holds one checkpoint, or a hub id such as ``unc-nlp/frcnn-vg-finetuned``.
        layout: whose conventions the checkpoint has, if it cannot be told.
        renames: beginnings of keys in the checkpoint and what stands for them here.
        offline: never look on the network.
        cache_dir: where downloads are kept.

    Raises:
        UsageError: there is no such file, or a folder holds several checkpoints.
        DataError: the file is damaged or hostile, or keys are missing, left over or of the wrong shape.
        OfflineError: it would have to be downloaded and cannot be.
    """
    path = locate(source, offline=offline, cache_dir=cache_dir)
    checkpoint = read_checkpoint(path)
    if "vltk" in checkpoint.metadata:
        described = _metadata(checkpoint, path)
        config, state, found = _own_config(described, path), dict(checkpoint.state), "vltk"
        settings: Mapping[str, Any] = described.get("settings", {})
    else:
        settings = _read_settings(path)
        state = our_keys(checkpoint.state, renames or {})
        found = detect_layout(state) if layout == "auto" else layout
        if found == "milvlg":
            state = from_milvlg(state, where=path)
        config = infer_config(state, settings, where=path)
    model = config.build()
    fill(model, state, where=path)
    return LoadedDetector(model=model.eval(), path=path, sha256=checkpoint.sha256, layout=found, settings=settings)


def fill(model: FasterRCNN, state: Mapping[str, Tensor], *, where: Path | str) -> None:
    """Copy tensors into a detector, anchors included.

    Raises:
        DataError: names every key that is missing, left over, of the wrong shape or not finite; nothing is copied.
    """
    expected = {k: v for k, v in model.state_dict().items() if not k.endswith(".num_batches_tracked")}
    optional = {CELLS}  # configuration alone gives the anchors of a checkpoint that carries none
    left_over = {name for name in state.keys() - expected.keys() if not name.endswith(".num_batches_tracked")}
    shared = expected.keys() & state.keys()
    shapes = {
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in shared
        if state[name].shape != expected[name].shape
    }
    problems = [
        f"{len(names)} keys {what}: {_listed(names)}"
        for what, names in (
            ("are missing", expected.keys() - state.keys() - optional),
            ("are left over", left_over),
            ("have the wrong shape", shapes),
            ("are not finite", {name for name in shared if not torch.isfinite(state[name]).all()}),
        )
        if names
    ]
    if problems:
        remedy = "give the checkpoint of a C4 detector, or name its keys with --rename OLD=NEW"
        raise DataError("; ".join(problems), where=where, remedy=remedy)
    with torch.no_grad():
        for name in shared:
            expected[name].copy_(state[name])


def save_detector(
    model: FasterRCNN,
    path: Path,
    *,
    about: Mapping[str, Any] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    overwrite: bool = False,
) -> None:
    """Write a detector as one safetensors file that carries its configuration.

    Args:
        model: not yet prepared for inference, which folds weights.
        path: ends in ``.safetensors``.
        about: plain values to keep with it: source, seed, command, the settings of a ``config.yaml``.
        dtype: of the floating point weights in the file; they are loaded as float32.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: the path has another suffix.
        DataError: the file exists.
    """
    from safetensors.torch import save_file

    check_new_detector(path, overwrite=overwrite)
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    stored = {
        name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() and name != CELLS else tensor
        for name, tensor in state.items()
    }
    described = {**(about or {}), "config": model.config.to_json()}
    metadata = {"vltk": json.dumps(described, sort_keys=True, ensure_ascii=False)}
    with new_path(path, overwrite=overwrite) as partial:
        save_file({name: tensor.contiguous() for name, tensor in stored.items()}, partial, metadata=metadata)


def check_new_detector(path: Path, *, overwrite: bool) -> None:
    """Refuse early what :func:`save_detector` could not write.

    Raises:
        UsageError: the name has another suffix.
        DataError: the file exists.
    """
    if path.suffix != ".safetensors":
        raise UsageError(f"the name ends in {path.suffix!r}", where=path, remedy="name it NAME.safetensors")
    if path.exists() and not overwrite:
        raise DataError("exists already", where=path, remedy="choose another path or pass --overwrite")


def locate(source: str | Path, *, offline: bool = False, cache_dir: Path | None = None) -> Path:
    """Return the checkpoint file that ``source`` names, downloading it if it is a hub id.

    Raises:
        UsageError: there is no such file, or a folder holds none or several.
        OfflineError: it would have to be downloaded and cannot be.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        found = sorted(child for child in path.iterdir() if child.suffix in _SUFFIXES and child.is_file())
        if len(found) != 1:
            names = ", ".join(child.name for child in found) or "none"
            problem = f"{len(found)} checkpoints in the folder ({names})"
            raise UsageError(problem, where=path, remedy=f"name one file ({', '.join(_SUFFIXES)})")
        return found[0]
    if not _HUB_ID.fullmatch(str(source)) or path.suffix in _SUFFIXES:
        remedy = "give a file, a folder, or a hub id such as unc-nlp/frcnn-vg-finetuned"
        raise UsageError("there is no such file", where=path, remedy=remedy)
    return _download(str(source), offline=offline, cache_dir=cache_dir)


def _download(repo: str, *, offline: bool, cache_dir: Path | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    unreachable: list[Exception] = []

    def get(name: str) -> Path | None:
        local = offline or bool(unreachable)  # a network that is down for one name is down for the next
        try:
            return Path(hf_hub_download(repo, name, cache_dir=cache_dir, local_files_only=local))
        except LocalEntryNotFoundError as error:  # what a dead network raises as well
            unreachable.append(error)
        except EntryNotFoundError:
            pass
        return None

    try:
        with _quiet_hub():
            weights = next(filter(None, map(get, _FILES)), None)
            if weights is not None and weights.suffix == ".bin":
                next(filter(None, map(get, _SETTINGS)), None)
    except RepositoryNotFoundError as error:
        remedy = "check the name, or give a local copy of the checkpoint"
        raise UsageError("there is no such repository on the hub", where=repo, remedy=remedy) from error
    except OSError as error:
        weights, unreachable = None, [error]
    if weights is None and unreachable:
        problem = "is not in the local cache" if offline else "cannot be downloaded"
        remedy = "run once without --offline" if offline else "check the network"
        remedy += ", or give a local copy of the checkpoint"
        raise OfflineError(problem, where=repo, remedy=remedy) from unreachable[0]
    if weights is None:
        raise UsageError(f"the repository has none of {', '.join(_FILES)}", where=repo, remedy="give a local file")
    return weights


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keep the hub's retries off the terminal; what comes of them is one sentence."""
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(40)  # errors only
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _read_settings(path: Path) -> Mapping[str, Any]:
    """Read the ``config.yaml`` beside a checkpoint, if there is one."""
    for name in _SETTINGS:
        beside = path.parent / name
        if beside.is_file():
            import yaml  # type: ignore[import-untyped]

            try:
                settings = lower_keys(yaml.safe_load(beside.read_text("utf-8")))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise DataError("is not valid YAML", where=beside, remedy="get an undamaged copy") from error
            if not isinstance(settings, dict) or not all(isinstance(value, dict) for value in _sections(settings)):
                raise DataError("has no sections with settings", where=beside, remedy="get an undamaged copy")
            return settings
    return {}


def _sections(settings: Mapping[str, Any]) -> list[Any]:
    names = ("model", "resnets", "rpn", "anchor_generator", "roi_heads", "roi_box_head", "input")
    return [settings[name] for name in names if name in settings]


def _metadata(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    try:
        described = json.loads(checkpoint.metadata["vltk"])
    except ValueError as error:
        raise DataError("has a damaged description", where=path, remedy="get an undamaged copy") from error
    if not isinstance(described, dict) or not isinstance(described.get("config"), dict):
        raise DataError("describes no detector", where=path, remedy="give a file that vltk convert detector wrote")
    return described


def _own_config(described: Mapping[str, Any], path: Path) -> FasterRCNNConfig:
    return FasterRCNNConfig.from_json(described["config"], where=str(path))


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
