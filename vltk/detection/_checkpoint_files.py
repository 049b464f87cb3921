"""Opens checkpoint files of any age as tensors, without running anything that they hold."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vltk.errors import DataError
from vltk.stores.pickle_reader import read_pickle

_ZIP = b"PK\x03\x04"
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of torch.save before 1.6
_REMEDY = "get an undamaged copy of the checkpoint"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        state: tensors by their key in the file.
        metadata: texts that a safetensors file carries beside its tensors.
        sha256: of the file.
    """

    state: dict[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    sha256: str


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a safetensors file, a torch checkpoint or a pickle of numpy arrays, whatever it is called.

    Raises:
        DataError: it is damaged, claims more than it holds, or holds anything but arrays and plain values.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if len(start) < 16:
            raise DataError(f"holds {len(start)} bytes", where=path, remedy=_REMEDY)
        if path.suffix == ".safetensors" or start[8:9] == b"{":
            state, metadata = _read_safetensors(path)
            return Checkpoint(state=state, metadata=metadata, sha256=sha256)
        if start.startswith((_ZIP, _LEGACY_TORCH)):
            content = _read_torch(path, is_zip=start.startswith(_ZIP))
        else:
            content = read_pickle(path, where=str(path))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path, remedy="give another file") from error
    return Checkpoint(state=_tensors(content, path), sha256=sha256)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, ValueError) as error:
        raise DataError(f"is not a safetensors file ({error})", where=path, remedy=_REMEDY) from error


def _read_torch(path: Path, *, is_zip: bool) -> Any:
    try:
        claimed = _zip_size(path) if is_zip else _legacy_size(path)
        held = path.stat().st_size
        if claimed > held:
            raise DataError(f"claims {claimed:,} bytes in a file of {held:,}", where=path, remedy=_REMEDY)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), "")
        problem = f"holds something other than arrays and plain values ({reason.strip() or 'refused'})"
        raise DataError(problem, where=path, remedy="only load checkpoints of tensors") from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"is not a complete torch checkpoint ({reason})", where=path, remedy=_REMEDY) from error


def _zip_size(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _legacy_size(path: Path) -> int:
    """Add up what the old format announces; loading for real would allocate it before reading."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        content = torch.load(path, weights_only=True)
    return sum(tensor.numel() * tensor.element_size() for tensor in _named_tensors(content).values())


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    state = _named_tensors(content)
    if not state:
        raise DataError("holds no named arrays", where=path, remedy="give a checkpoint of a detector")
    return state


def _named_tensors(content: Any) -> dict[str, Tensor]:
    """Find the state dict: the content itself, or what it keeps under the usual names."""
    for name in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        return {}
    found = {str(name): _tensor(value) for name, value in content.items()}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        native = value.astype(value.dtype.newbyteorder("="))  # a copy, so that nothing writes to the file's bytes
        return torch.from_numpy(native)
    return value.detach() if isinstance(value, Tensor) else None
