"""The folder itself: begun once, gone on with, compared with what is asked for now."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vltk.config import telling, to_dict
from vltk.errors import UsageError
from vltk.run_folder.checkpoint import find_checkpoint
from vltk.run_folder.receipt import versions
from vltk.stores.whole_files import write_whole

CONFIG, METRICS, RESULTS = "config.json", "metrics.jsonl", "results.json"


class RunFolder:
    """A run on disk: ``config.json``, ``metrics.jsonl``, the checkpoints ``last`` and ``best``, ``results.json``.

    Args:
        path: the folder.
        config: what the run was asked for; a dataclass. Options that are marked incidental may change.
        inputs: a hash for each thing that the run reads; they must be the same when it goes on, wherever they lie.
    """

    def __init__(self, path: Path, config: Any, *, inputs: Mapping[str, str] | None = None) -> None:
        self.path, self.config, self.inputs = path, config, dict(inputs or {})

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "last"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation."""
        return self.path / "best"

    def begin(self, *, resume: str, overwrite: bool = False) -> Path | None:
        """Make the folder, or find the checkpoint to go on from.

        Args:
            resume: "auto" goes on where there is a run, "must" refuses to begin one, "never" refuses to go on.
            overwrite: delete the run that is there.

        Returns:
            The checkpoint to resume from, None for a fresh run.

        Raises:
            UsageError: the folder does not fit ``resume``, is used for something else, or holds a run that was asked
                for something else.
        """
        found = self.check(resume=resume, overwrite=overwrite)
        if overwrite:
            self.remove()
        self.path.mkdir(parents=True, exist_ok=True)
        self._write_config()
        if found is None:
            self.trim_metrics(0)  # a run that was killed before its first checkpoint begins anew
        return found

    def check(self, *, resume: str, overwrite: bool = False) -> Path | None:
        """Do what :meth:`begin` does without touching anything."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError("is a file, and a run is a folder", where=self.path, remedy="use another --out")
        exists = (self.path / CONFIG).is_file()
        if not exists and self.path.is_dir() and any(self.path.iterdir()):
            raise UsageError("is not empty and holds no run", where=self.path, remedy="use another --out")
        found = None if overwrite else find_checkpoint(self.last)
        if resume == "must" and found is None:
            raise UsageError("holds no run to resume", where=self.path, remedy="use --resume auto to begin one")
        if exists and resume == "never" and not overwrite:
            raise UsageError("holds a run", where=self.path, remedy="use another --out, or --resume auto to go on")
        if exists and not overwrite:
            self._compare()
        return found

    def _compare(self) -> None:
        before = json.loads((self.path / CONFIG).read_text("utf-8"))
        now = telling(self.config)
        then, asked = dict(flat(before.get("config", {}))), dict(flat(now))
        changed = [f"{key}: {then.get(key)} then, {asked[key]} now" for key in asked if then.get(key) != asked[key]]
        if changed:
            problem = f"was begun with other settings ({'; '.join(changed[:3])})"
            raise UsageError(problem, where=self.path, remedy="use the same settings or another --out")
        inputs = before.get("inputs", {})
        other = [name for name in sorted(inputs.keys() | self.inputs) if inputs.get(name) != self.inputs.get(name)]
        if other:
            problem = f"was begun on other data ({', '.join(other[:3])})"
            raise UsageError(problem, where=self.path, remedy="give the same stores or use another --out")

    def _write_config(self) -> None:
        """Write what was asked for, and by which program."""
        content = {
            "config": telling(self.config),
            "inputs": self.inputs,
            "all": to_dict(self.config),
            "versions": versions(),
            "arguments": sys.argv[1:],
        }
        self.write_json(CONFIG, content)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file of the folder so that it is there whole or as before."""
        self._replace(name, json.dumps(content, indent=2, default=str) + "\n")

    def _replace(self, name: str, text: str) -> None:
        write_whole(self.path / name, [text])

    def trim_metrics(self, step: int) -> None:
        """Drop the lines after ``step``, which a run that goes on from there will write again."""
        path = self.path / METRICS
        if path.is_file():
            kept = [line for line in path.read_text("utf-8").splitlines() if _step_of(line) <= step]
            self._replace(METRICS, "".join(f"{line}\n" for line in kept))

    def remove(self) -> None:
        """Delete the folder, for runs whose result lies elsewhere or that are begun anew."""
        shutil.rmtree(self.path, ignore_errors=True)

    def append_metrics(self, figures: Mapping[str, float]) -> None:
        """Add a line to ``metrics.jsonl``."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(figures)) + "\n")


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of all levels by their dotted names.

    Example:
        >>> list(flat({"a": {"b": 1}, "c": 2}))
        [('a.b', 1), ('c', 2)]
    """
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**62  # a line that a kill cut short
