"""A walk along commands: each is run once, what it returned is kept, and a walk that was stopped goes on from there."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vltk.commands._entry import entry
from vltk.commands._terminal import Terminal, as_plain
from vltk.config import layers, spelled
from vltk.config.settings import Settings
from vltk.errors import DataError

FINDINGS = "findings.json"

Results = Mapping[str, Mapping[str, Any]]
"""What each step returned, by the name of the step."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A figure that a walk came to, and what it says.

    Attributes:
        figure: its name.
        value: what was measured.
        interval: its 95 % confidence interval, None where it is exact or has none.
        n: items that it was measured on.
        proves: what it says of the line.
        claim: the claim of a paper that it tries, "" for none.
        outcome: whether that came out.
    """

    figure: str
    value: float
    interval: tuple[float, float] | None = None
    n: int | None = None
    proves: str = ""
    claim: str = ""
    outcome: str = ""

    def row(self) -> dict[str, Any]:
        """Return it as a row of a table."""
        low_high = "-" if self.interval is None else "{:.4g} to {:.4g}".format(*self.interval)
        return {
            "figure": self.figure,
            "value": self.value,
            "95 %": low_high,
            "n": self.n,
            "claim": self.claim or None,
            "outcome": self.outcome or None,
            "proves": self.proves,
        }

    def sentence(self) -> str:
        """Return it as a line."""
        interval = "" if self.interval is None else " [{:.4g}, {:.4g}]".format(*self.interval)
        outcome = f"; {self.claim}: {self.outcome}" if self.claim else ""
        return f"{self.figure} = {self.value:.4g}{interval}: {self.proves}{outcome}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command with its options.

    Attributes:
        name: by which its result is found; unique in a walk.
        command: as it is typed, e.g. "store export".
        options: by their names in Python; a value of several is a tuple.
        made: the file or folder that is there once it is done; None where it only looks.
        resumes: whether the same command goes on with what is half made; else that is deleted first.
        always: do it on every walk.
    """

    name: str
    command: str
    options: Mapping[str, Any]
    made: Path | None = None
    resumes: bool = True
    always: bool = False

    @property
    def line(self) -> str:
        """The command line, as a user types it."""
        kind, _ = entry(self.command)
        known = {target.name: target for target in self._settings(kind).options}
        words = [spelled(known[name], value) for name, value in self.options.items()]
        return shlex.join(["vltk", *self.command.split(), *(word for own in words for word in own)])

    def _settings(self, kind: type[Any]) -> Settings:
        return Settings(kind, layers(kind, self.options))

    def delete(self) -> None:
        """Delete what it made."""
        if self.made is not None:
            delete(self.made)

    def asked(self, root: Path) -> dict[str, Any]:
        """Return what is asked for as plain values; paths below ``root`` are told from there, so that it may move."""
        told = {name: _from_there(value, root) for name, value in self.options.items()}
        return {"command": self.command, "options": as_plain(told)}

    def run(self, terminal: Terminal) -> dict[str, Any]:
        """Run the command's own function; return what it returned as plain values."""
        kind, run = entry(self.command)
        config = self._settings(kind).resolve().config
        if not self.resumes and self.made is not None:
            delete(self.made)
        # Its tables would stand between this walk's results.
        inner = Terminal(json=True, quiet=terminal.quiet, verbose=terminal.verbose, stderr=terminal.stderr)
        found = run(config, inner)
        if inner.failure is not None:
            raise inner.failure
        return dict(as_plain(found or {}))


def _from_there(value: Any, root: Path) -> Any:
    if isinstance(value, tuple):
        return [_from_there(one, root) for one in value]
    # Some commands take a folder or the name of something on the hub, as a text.
    below = isinstance(value, Path | str) and Path(value).is_relative_to(root)
    return Path(value).relative_to(root) if below else value


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Steps that show one thing together.

    Attributes:
        name: what it does, in a word.
        proves: what it shows, in a sentence.
        steps: its commands in their order.
        tell: what came out, from the results of all steps so far.
    """

    name: str
    proves: str
    steps: Sequence[Step]
    tell: Callable[[Results], Iterable[Finding]] = lambda results: ()


class Walk:
    """Stages and the folder in which everything is made.

    A step is done when its result is kept and what it made is still there. Results are kept whole or not at all, and
    commands go on with what they began; so a walk that was stopped anywhere comes to the same figures. Where a step is
    asked for otherwise than it was done, everything from there on is made anew.

    Args:
        root: what the steps make lies below it; results are kept in its folder ``steps``, what
            came out in ``findings.json``.
        stages: what is walked.
    """

    def __init__(self, root: Path, stages: Sequence[Stage]) -> None:
        self.root, self.folder, self.stages = root, root / "steps", stages
        self.results: dict[str, dict[str, Any]] = {}
        self.findings: list[Finding] = []
        self.seconds: dict[str, float] = {}
        self._stale = False

    def go(self, terminal: Terminal) -> None:
        """Run what is not done, and say of each stage what it proves and what came out."""
        from vltk.stores.whole_files import write_whole

        self.folder.mkdir(parents=True, exist_ok=True)
        for number, stage in enumerate(self.stages, 1):
            terminal.say(f"\n[{number}/{len(self.stages)}] {stage.name}: {stage.proves}")
            for step in stage.steps:
                record = self._kept(step)
                if record is None:
                    record = self._made(step, terminal)
                else:
                    terminal.say(f"  {step.name} stands already")
                self.results[step.name] = record["result"]
                self.seconds[stage.name] = self.seconds.get(stage.name, 0.0) + record["seconds"]
            for finding in stage.tell(self.results):
                self.findings.append(finding)
                terminal.say(f"  {finding.sentence()}")
            # After each stage, so that a later one can show them.
            rows = [one.row() for one in self.findings]
            write_whole(self.root / FINDINGS, [json.dumps(rows, indent=2) + "\n"])

    def _file(self, step: Step) -> Path:
        return self.folder / f"{step.name}.json"

    def _kept(self, step: Step) -> dict[str, Any] | None:
        """Return what is kept of a step; None where it is to be done."""
        file = self._file(step)
        if self._stale or not file.is_file():
            return None
        try:
            record: dict[str, Any] = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise DataError("is not JSON", where=file, remedy="delete it, and the step is done again") from error
        self._stale = record.get("asked") != step.asked(self.root)
        there = step.made is None or step.made.exists()
        return record if there and not self._stale and not step.always else None

    def _made(self, step: Step, terminal: Terminal) -> dict[str, Any]:
        from vltk.stores.whole_files import write_whole

        if self._stale:
            self._file(step).unlink(missing_ok=True)
            step.delete()
        terminal.say(f"  $ {step.line}")
        begin = time.monotonic()
        record: dict[str, Any] = {"asked": step.asked(self.root), "result": step.run(terminal)}
        record["seconds"] = round(time.monotonic() - begin, 1)
        write_whole(self._file(step), [json.dumps(record, indent=2) + "\n"])
        return record

    def clear(self) -> None:
        """Delete everything that the steps made."""
        for stage in self.stages:
            for step in stage.steps:
                step.delete()
        delete(self.folder)


def delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
