"""One golden case: figures of the authors' code, wherever their folder lies and whatever it is called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open


@dataclass(frozen=True)
class Case:
    """A named set of inputs, weights and outputs.

    Attributes:
        set: which family the index belongs to: uniter, vse, detector, fairseq, stanza.
        name: the name of the case in its index.
        folder: where the files of the set lie.
        entry: what the index says of this case.
        index: the whole index, for what it says of all cases (default tolerances, conventions).
    """

    set: str
    name: str
    folder: Path
    entry: dict[str, Any]
    index: dict[str, Any]

    @property
    def key(self) -> str:
        """The name that checks and pending entries are matched against."""
        return f"{self.set}/{self.name}"

    def tensors(self) -> dict[str, np.ndarray]:
        """Read every tensor of the case; a case without a file of tensors has none."""
        if "file" not in self.entry:
            return {}
        with safe_open(self.folder / self.entry["file"], framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def read_set(folder: Path) -> list[Case]:
    """List the cases of one set; the layout of its index tells the family, never the folder's name."""
    index = json.loads((folder / "index.json").read_text("utf-8"))
    family, entries = _entries(index, folder)
    return [Case(family, name, folder, entry, index) for name, entry in entries]


def _entries(index: dict[str, Any], folder: Path) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    if "files" in index:
        files = index["files"].items()
        return "detector", [(name.removesuffix(".safetensors"), {"file": name, **entry}) for name, entry in files]
    if "models" in index:
        return "fairseq", [(model["dir"], model) for model in index["models"]]
    if "raw_text" in index:
        return "stanza", [(part, {"content": index[part]}) for part in ("raw_text", "pretokenized", "dev")]
    if isinstance(index.get("cases"), dict):
        return "uniter", list(index["cases"].items())
    if isinstance(index.get("cases"), list):
        return "vse", [(entry["name"], {k: v for k, v in entry.items() if v is not None}) for entry in index["cases"]]
    raise ValueError(f"{folder}/index.json: none of the known layouts of a golden set")


def find_sets(folder: Path) -> Iterator[Path]:
    """Yield the sets of a folder: itself if it has an index, else the folders in it that have one."""
    if (folder / "index.json").is_file():
        yield folder
    else:
        yield from sorted(index.parent for index in folder.glob("*/index.json"))
