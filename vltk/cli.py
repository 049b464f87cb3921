"""The ``vltk`` command: finds the commands by listing their package, and turns every failure into one sentence."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import os
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

import vltk
from vltk.commands._entry import COMMANDS, Run, config_class
from vltk.commands._terminal import Terminal
from vltk.config import (
    AUTOMATIC,
    MISSING,
    RESERVED,
    Option,
    OutputConfig,
    Settings,
    hub_environment,
    layers,
    listing,
    markup,
    option,
    options,
    parameters,
)
from vltk.errors import UsageError, VltkError, did_you_mean

_CONTEXT = {"help_option_names": ["--help", "-h"]}


@dataclass(frozen=True, kw_only=True)
class RootConfig:
    """Region-based vision-language research: five published systems in one tool, on feature stores that do not lie.

    Examples:
        $ vltk demo                       # walk the whole line on a world that vltk draws
        $ vltk finetune --task vqa --help # the options of a command, and of the task that it is given
        $ vltk store info features.lmdb   # what is in a store, and where it comes from
        $ vltk doctor                     # whether this machine and environment are fit for work
        $ vltk --install-completion       # let the shell complete commands, options and tasks
    """

    version: bool = option(False, switch=True)
    """Print the version."""


@dataclass(frozen=True)
class Job:
    """A command with its configuration, ready to run."""

    run: Run
    config: Any
    output: OutputConfig


def _help_texts(docstring: str | None) -> tuple[str, str]:
    """Split a docstring into prose with its line breaks undone and the block under ``Examples:``."""
    prose, _, examples = inspect.cleandoc(docstring or "").partition("Examples:")
    paragraphs = [
        block if block.startswith((" ", "-", "*")) else " ".join(block.split()) for block in prose.strip().split("\n\n")
    ]
    text = markup("\n\n".join(paragraphs))
    lines = inspect.cleandoc(f"\n{examples}").splitlines() if examples.strip() else []
    # What is copied must run: a line that goes on says so.
    goes_on = [following.startswith(" ") for following in [*lines[1:], ""][: len(lines)]]
    block = [f"   {line} \\" if more else f"   {line}" for line, more in zip(lines, goes_on, strict=True)]
    return text, "\n".join(["[bold] Examples[/bold]", *map(markup, block)]) if block else ""


def _exit_codes(known: Collection[Option]) -> str:
    """Return the exit codes of a command with these options (DESIGN, section 5)."""
    names = {one.path[-1] for one in known}
    codes = {"0": "done", "1": "failed", "2": "usage or configuration", "3": "data or a store"}
    codes |= {"4": "missing while offline"} if "offline" in names else {}
    codes |= {"5": "below --fail-under"} if "fail_under" in names else {}
    codes |= {"75": "stopped by a signal after saving"} if "resume" in names else {}
    codes["130"] = "interrupted"
    return ", ".join(f"{code} {what}" for code, what in codes.items())


def _print_below(examples: str, exit_codes: str = "") -> None:
    """Print what stands under a help text; examples are left whole, so that they can be copied."""
    from rich.console import Console
    from rich.padding import Padding

    console = Console(highlight=False)
    if examples:
        console.print(examples, soft_wrap=True, end="\n\n")
    if exit_codes:
        console.print("[bold] Exit codes[/bold]")
        console.print(Padding(exit_codes, (0, 1, 1, 3)))


class ConfigCommand(TyperCommand):
    """A command whose options are a dataclass."""

    def __init__(self, name: str, run: Run, kind: type[Any] | None = None) -> None:
        self.run, self.kind = run, kind or config_class(run)
        text, self.examples = _help_texts(self.kind.__doc__)
        super().__init__(name, help=text, context_settings=_CONTEXT, rich_markup_mode="rich")
        self.known: list[Option] = []

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse twice: what ``--task`` chooses must be known before its options can be read."""
        self._take(options(self.kind, reserved=RESERVED))
        lenient = {"resilient_parsing": True, "ignore_unknown_options": True, "allow_extra_args": True}
        early = super().make_context(info_name, list(args), parent, **{**extra, **lenient})
        completing = extra.get("resilient_parsing")
        with contextlib.suppress(VltkError) if completing else _naming(early):
            found = layers(self.kind, _given(early.params))
            os.environ.update(hub_environment(self.kind, found))
            os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # our sentence says what the hub's retries came to
            self._take(Settings(self.kind, found).options)
        with _naming(early):
            return super().make_context(info_name, args, parent, **extra)

    def _take(self, own: list[Option]) -> None:
        shared = [replace(one, panel=title) for title, group in AUTOMATIC.items() for one in options(group)]
        self.known = own + shared
        self.params = parameters(self.known)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show what is required, which parsing must not know: a file may give the value."""
        for target, parameter in zip(self.known, self.params, strict=True):
            parameter.required = target.default is MISSING
        super().format_help(ctx, formatter)
        _print_below(self.examples, _exit_codes(self.known))

    def invoke(self, ctx: Any) -> Job:
        """Return what is to run; :func:`main` runs it outside of typer's error handling."""
        flags = _given(ctx.params)
        output = OutputConfig(**{item.name: flags[item.name] for item in fields(OutputConfig) if item.name in flags})
        with _naming(ctx):
            settings = Settings(self.kind, layers(self.kind, flags))
            if flags.get("print_config"):
                return Job(lambda _, terminal: terminal.write(settings.as_toml()), None, output)
            return Job(self.run, settings.resolve().config, output)


@contextlib.contextmanager
def _naming(ctx: Any) -> Iterator[None]:
    """Turn typer's complaints into ours, and name the command where an error names no place."""
    try:
        yield
    except UsageError as error:
        if error.where is not None:
            raise
        raise UsageError(error.problem, where=ctx.command_path, remedy=error.remedy) from error
    except typer.TyperException as error:
        raise _usage_error(error, ctx) from error


def _usage_error(error: typer.TyperException, ctx: Any) -> UsageError:
    unknown = getattr(error, "option_name", None)
    if unknown and not error.message.startswith("Option"):
        stands_alone = next((one for one in ctx.command.params if f"--{one.name}".replace("_", "-") == unknown), None)
        if stands_alone is not None:
            remedy = f"write its value alone: {ctx.command_path} {str(stands_alone.name).upper()}"
            return UsageError(f"{unknown} is no option but an argument", where=ctx.command_path, remedy=remedy)
        known = [
            spelling for parameter in ctx.command.params for spelling in (*parameter.opts, *parameter.secondary_opts)
        ]
        near = did_you_mean(unknown, known)
        remedy = near if near.startswith("did you mean") else "--help lists all options"
        return UsageError(f"there is no option {unknown}", where=ctx.command_path, remedy=remedy)
    problem = error.format_message().rstrip(".")
    return UsageError(problem[:1].lower() + problem[1:], where=ctx.command_path, remedy="--help lists all options")


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None and value != () and value != []}


class CommandGroup(TyperGroup):
    """Commands that are imported when they are asked for."""

    examples = ""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the commands, then examples."""
        super().format_help(ctx, formatter)
        _print_below(self.examples)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the command; without anything, show the help and exit with 2."""
        if not args and not ctx.resilient_parsing:
            ctx.get_help()
            ctx.exit(2)
        with _naming(ctx):
            return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, sorted."""
        return [name.replace("_", "-") for name in sorted(self.sources())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None where there is none of that name."""
        name = cmd_name.replace("-", "_")
        return self.load(name) if name in self.sources() else None

    def sources(self) -> Collection[str]:
        """Return the names of the modules."""
        return listing(COMMANDS)

    def load(self, name: str) -> Any:
        """Import a module and return its command, or the group of its commands."""
        module = importlib.import_module(f"{COMMANDS}.{name}")
        spelled = name.replace("_", "-")
        return ModuleGroup(spelled, module) if hasattr(module, "COMMANDS") else ConfigCommand(spelled, module.run)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of the first argument, or say which one may be meant."""
        if not args[0].startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            where = " ".join(ctx.command_path.split()[:2])
            raise UsageError(
                f"there is no command {args[0]!r}", where=where, remedy=did_you_mean(args[0], self.list_commands(ctx))
            )
        return super().resolve_command(ctx, args)


class ModuleGroup(CommandGroup):
    """The commands of one module: ``vltk store info``."""

    def __init__(self, name: str, module: ModuleType) -> None:
        text, self.examples = _help_texts(module.__doc__)
        super().__init__(name=name, help=text, context_settings=_CONTEXT, rich_markup_mode="rich")
        self._entries = {key.replace("-", "_"): entry for key, entry in module.COMMANDS.items()}

    def sources(self) -> Collection[str]:
        """Return the names of the module's commands."""
        return self._entries

    def load(self, name: str) -> Any:
        """Return the command of a configuration and its function."""
        kind, run = self._entries[name]
        return ConfigCommand(name.replace("_", "-"), run, kind)


def root() -> Any:
    """Build the root of the command line."""
    text, examples = _help_texts(RootConfig.__doc__)
    app = typer.Typer(cls=RootGroup, help=text, context_settings=_CONTEXT, rich_markup_mode="rich")
    app.callback(invoke_without_command=True)(lambda: None)
    group: Any = typer.main.get_command(app)
    group.examples = examples
    group.params[:0] = parameters(options(RootConfig))
    return group


class RootGroup(CommandGroup):
    """``vltk`` itself."""

    def invoke(self, ctx: Any) -> Any:
        """Print the version, or go on to the command."""
        if ctx.params.pop("version", None):
            sys.stdout.write(f"vltk {vltk.__version__}\n")
            return 0
        return super().invoke(ctx)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (DESIGN, section 5).

    Args:
        argv: the arguments after the program's name; those of the process by default.
    """
    _share_the_machine()
    args = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name need not be text in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        job = root().main(args=args, prog_name="vltk", standalone_mode=False)
        return _work(job) if isinstance(job, Job) else int(job or 0)
    except VltkError as error:
        return _report(str(error), error.exit_code, args)
    except KeyboardInterrupt:
        return _report("interrupted", 130, args)
    except BrokenPipeError:
        return _leave_pipe()
    except Exception as error:
        remedy = "check the path, its permissions and its space; " if getattr(error, "filename", None) else ""
        return _report(f"{_problem(error)}; {remedy}--debug shows where", 1, args)


def _share_the_machine() -> None:
    """Let threads of a computation that wait for each other sleep soon, unless the user said how they shall wait."""
    # By default they spin so long that small models crawl on a machine that has other work: 0.2 updates of uniter-tiny
    # a second in place of 13. On a quiet machine this costs two per cent. It is read when torch is imported, later.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _problem(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"


def _work(job: Job) -> int:
    terminal = Terminal(json=job.output.json, quiet=job.output.quiet, verbose=job.output.verbose)
    _set_up_logging(verbose=job.output.verbose)
    # A library that prints must not break a program that reads the JSON.
    with contextlib.redirect_stdout(sys.stderr) if job.output.json else contextlib.nullcontext():
        try:
            summary = job.run(job.config, terminal)
        except BrokenPipeError as error:  # a worker died; only the reader of our stdout may go in silence
            problem = "a process or pipe that the command writes to has ended"
            raise VltkError(problem, remedy="see what it said") from error
    terminal.result(summary)
    if terminal.failure is not None:
        raise terminal.failure
    return 0


def _set_up_logging(*, verbose: bool) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("vltk").setLevel(logging.INFO if verbose else logging.WARNING)


def _report(sentence: str, code: int, args: Sequence[str]) -> int:
    if "--debug" in args and sys.exc_info()[0] is not None:
        traceback.print_exc(file=sys.stderr)
    # A name from a foreign file must not move the cursor or end the sentence.
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
    sys.stderr.write(f"vltk: error: {shown}\n")
    return code


def _leave_pipe() -> int:
    # The reader is gone; Python would complain once more when it flushes stdout at its end.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    sys.exit(main())
