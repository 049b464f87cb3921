"""What a command says: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from vltk.errors import VltkError
    from vltk.types import Progress

# A log gets a line when a tenth more is done, but not every moment, and at least every half minute to show life.
LOG_SHARE = 0.1
LOG_SECONDS = (1.0, 30.0)


class Terminal:
    """The one place that a command prints through.

    Args:
        json: print the result as JSON and keep stdout clean of anything else.
        quiet: print nothing but errors (and that JSON).
        verbose: print what :meth:`detail` says.
        stdout: where results go; the process's by default.
        stderr: where messages go; the process's by default.
        clock: seconds, for rates.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.json, self.quiet, self.verbose = json, quiet, verbose
        self.stdout, self.stderr = stdout or sys.stdout, stderr or sys.stderr
        self._clock = clock
        self.failure: VltkError | None = None

    def say(self, text: str) -> None:
        """Write a line to stderr, not with --quiet."""
        if not self.quiet:
            _console(self.stderr).print(text, markup=False, highlight=False, soft_wrap=True)

    def detail(self, text: str) -> None:
        """Write a line to stderr with --verbose."""
        if self.verbose:
            self.say(text)

    def warn(self, text: str) -> None:
        """Write a warning to stderr, even with --quiet."""
        _console(self.stderr).print(f"vltk: warning: {text}", markup=False, highlight=False, soft_wrap=True)

    def fail_after(self, error: VltkError) -> None:
        """Let the command end with this error once its result has been printed (``store verify``)."""
        self.failure = self.failure or error

    @contextmanager
    def progress(self, total: int | None, label: str) -> Iterator[Progress]:
        """Show how far a piece of work is: yields a callable that takes the number of items just done."""
        console = _console(self.stderr)
        if self.quiet:
            yield _nothing
        elif console.is_terminal and not console.is_dumb_terminal:
            with _bar(console, total, label) as advance:
                yield advance
        else:
            log = _Log(self.say, self._clock, total, label)
            yield log.advance
            log.finish()

    def write(self, text: str) -> None:
        """Write text to stdout as it is: for a command whose result is a text."""
        self.stdout.write(text)

    def table(self, rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
        """Print rows of equal keys as a table on stdout, not with --json or --quiet."""
        if not (self.json or self.quiet) and rows:
            self.stdout.write(_table(_console(self.stdout), rows, title))

    def result(self, summary: Mapping[str, Any] | None) -> None:
        """Print what a command returned: JSON with --json, else sections and lines."""
        if summary is None:
            return
        if self.json:
            self.stdout.write(_as_json(summary, self.stdout.encoding or "utf-8") + "\n")
        elif not self.quiet:
            self.stdout.write("\n".join(_section(_console(self.stdout), summary, "")))
        self.stdout.flush()


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    # A pipe has no width: long paths must reach the next program in one piece.
    width = None if stream.isatty() else 10_000
    return Console(file=stream, width=width, highlight=False)


def _nothing(_: int = 1) -> None:
    """Take the progress of a quiet command."""


@contextmanager
def _bar(console: Console, total: int | None, label: str) -> Iterator[Progress]:
    from rich import progress as rich

    speed = _speed_column()
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(), speed)
    with rich.Progress(*columns, rich.TimeRemainingColumn(elapsed_when_finished=True), console=console) as shown:
        task = shown.add_task(label, total=total)

        def advance(count: int = 1) -> None:
            # A first report of several may be the work of an earlier run, which says nothing of this one's speed.
            if count > 1 and not shown.tasks[task].completed:
                shown.reset(task, completed=count)
            else:
                shown.advance(task, count)

        yield advance


def _speed_column() -> Any:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{_number(speed)}/s", style="progress.data.speed")

    return Speed()


class _Log:
    """Progress as lines for a file: one at each tenth, or after half a minute."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float], total: int | None, label: str) -> None:
        self._say, self._clock, self._total, self._label = say, clock, total, label
        self._start = self._last_time = self._resumed_at = clock()
        self._done = self._last_done = self._restored = 0

    def advance(self, count: int = 1) -> None:
        if count > 1 and not self._done:  # may be the work of an earlier run, which says nothing of this one's speed
            self._restored, self._resumed_at = count, self._clock()
        self._done += count
        share = (self._done - self._last_done) / self._total if self._total else 0.0
        seconds = self._clock() - self._last_time
        if self._done != self._total and seconds >= LOG_SECONDS[0 if share >= LOG_SHARE else 1]:
            self._write()

    def finish(self) -> None:
        self._write(final=True)

    def _write(self, *, final: bool = False) -> None:
        self._last_time, self._last_done = self._clock(), self._done
        seconds = self._last_time - self._start
        rate = self._rate(seconds)
        of = f"/{self._total} ({100 * self._done // self._total} %)" if self._total else ""
        left = (self._total - self._done) / rate if self._total and rate else 0.0
        end = f"in {_duration(seconds)}" if final else f"{_duration(left)} left" if self._total else ""
        self._say(", ".join(part for part in (f"{self._label}: {self._done}{of}", f"{_number(rate)}/s", end) if part))

    def _rate(self, seconds: float) -> float:
        done = self._done
        if self._restored and done > self._restored:
            done, seconds = done - self._restored, self._last_time - self._resumed_at
        return done / seconds if seconds > 0 else 0.0


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}" if minutes else f"{seconds:.2g} s"


# -- results --------------------------------------------------------------------------------------------------------


def _as_json(summary: Mapping[str, Any], encoding: str) -> str:
    text = json.dumps(as_plain(summary), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # a file name of stray bytes, a terminal that knows ASCII only
        return json.dumps(as_plain(summary), indent=2, allow_nan=False)
    return text


def as_plain(value: Any) -> Any:
    """Return a value as JSON knows it: no tuples, paths, numpy scalars, NaN."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_plain(one) for one in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return as_plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def shown(value: Any) -> str:
    """Return a value as results show it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(one)}" for key, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "-"
    return str(value)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _section(console: Console, summary: Mapping[str, Any], title: str) -> Iterator[str]:
    """Yield a result as blocks of text: plain values as lines, mappings as sections, rows as tables."""
    from rich.table import Table

    lines = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    nested = {key: value for key, value in summary.items() if isinstance(value, Mapping) or _is_rows(value)}
    for key, value in summary.items():
        if key not in nested:
            lines.add_row(key, _text(value))
    if lines.row_count or not nested:
        yield _block(console, title, lines if lines.row_count else "none")
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _section(console, value, f"{title} / {key}" if title else key)
        else:
            yield _table(console, value, key)


def _table(console: Console, rows: Sequence[Mapping[str, Any]], title: str) -> str:
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        numeric = all(row.get(name) is None or isinstance(row[name], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in names))
    return _block(console, title, table)


def _block(console: Console, title: str, body: Any) -> str:
    """Return a table under its title, without the blanks that fill its last column."""
    with console.capture() as captured:
        if title:
            console.print(title, style="bold", markup=False)
        console.print(body)
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


def _text(value: Any) -> Any:
    from rich.text import Text

    return Text(shown(value))
