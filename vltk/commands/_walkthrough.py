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
from vltk.commands._terminal import Terminal, as_plain, shown
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
        unit: of the value, as receipts name it; "" for a number of things.
    """

    figure: str
    value: float
    interval: tuple[float, float] | None = None
    n: int | None = None
    proves: str = ""
    claim: str = ""
    outcome: str = ""
    unit: str = ""

    @property
    def ends(self) -> str:
        """The interval in words, "" where there is none."""
        return "" if self.interval is None else "{:.4g} to {:.4g}".format(*self.interval)

    def row(self) -> dict[str, Any]:
        """Return all of it as a row of ``findings.json``."""
        return {
            "figure": self.figure,
            "value": self.value,
            "unit": self.unit or None,
            "95 %": self.ends or "-",
            "n": self.n,
            "claim": self.claim or None,
            "outcome": self.outcome or None,
            "proves": self.proves,
        }

    def sentence(self) -> str:
        """Return it as a line, with the claim that it tries as two."""
        interval = f" [{self.ends}]" if self.interval else ""
        told = f"{self.figure} = {shown(self.value)}{interval}: {self.proves}"
        return f"{self.claim}: {self.outcome}\n    {told}" if self.claim else told


Tell = Callable[[Results], Iterable[Finding]]


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
        starts_from: finds the file of weights that come with vltk and that it starts from; None for none.
    """

    name: str
    command: str
    options: Mapping[str, Any]
    made: Path | None = None
    resumes: bool = True
    always: bool = False
    starts_from: Callable[[], Path] | None = None

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
        """Return what is asked for as plain values, with the recipe and the hash of the weights behind their names.

        Paths below ``root`` are told from there, so that it may move.
        """
        from vltk.run_folder import file_sha256

        kind, _ = entry(self.command)
        told = {name: _from_there(value, root) for name, value in self.options.items()}
        # The first layer is that of the options.
        recipe = {
            ".".join(path): value for layer in layers(kind, self.options)[1:] for path, value in layer.values.items()
        }
        weights = None if self.starts_from is None else file_sha256(self.starts_from())
        return {"command": self.command, **as_plain({"options": told, "recipe": recipe, "starts from": weights})}

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
    tell: Tell = lambda results: ()


class Walk:
    """Stages and the folder in which everything is made.

    A step is done when its result is kept and what it made is still there. Results are kept whole or not at all, and
    commands go on with what they began; so a walk that was stopped anywhere comes to the same figures. Where a step is
    asked for otherwise than it was done, or starts from other weights, everything from there on is made anew.

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
        if not file.is_file():
            return None
        try:
            record: dict[str, Any] = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise DataError("is not JSON", where=file, remedy="delete it, and the step is done again") from error
        if record.get("asked") != step.asked(self.root):
            self._forget_from(step)
            return None
        there = "result" in record and (step.made is None or step.made.exists())
        return record if there and not step.always else None

    def _forget_from(self, step: Step) -> None:
        """Delete what was made from a step on, itself last: stopped in the midst, the next walk finds it again."""
        steps = [one for stage in self.stages for one in stage.steps]
        for one in reversed(steps[steps.index(step) :]):
            one.delete()
            self._file(one).unlink(missing_ok=True)

    def _made(self, step: Step, terminal: Terminal) -> dict[str, Any]:
        from vltk.stores.whole_files import write_whole

        terminal.say(f"  $ {step.line}")
        record: dict[str, Any] = {"asked": step.asked(self.root)}
        # What is half made must not go on as something else.
        write_whole(self._file(step), [json.dumps(record, indent=2) + "\n"])
        begin = time.monotonic()
        record["result"] = step.run(terminal)
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
