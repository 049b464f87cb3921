"""The command line as a user meets it: help, suggestions, exit codes, clean streams, a quick start."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import vltk
from vltk import cli
from vltk.cli import main
from vltk.commands._entry import entry
from vltk.config import listing, options

HEAD = """
from __future__ import annotations
import os, sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from vltk.config import CommonConfig, HubConfig, argument, chosen_by
from vltk.errors import DataError, OfflineError
"""

MODULES = {
    "draw_scenes": '''
    """Draw."""
    @dataclass(frozen=True, kw_only=True)
    class DrawConfig:
        """Draw pictures, [R, 4] boxes each.

        A paragraph that is wrapped in the source
        and again by the terminal.

        Examples:
            $ vltk draw-scenes --out world
            $ vltk draw-scenes --out world --images 5
        """

        out: Path
        """Folder to write."""
        images: int = 1000
        """How many pictures."""
        style: Literal["flat", "textured"] = "flat"
        """How they look."""
        tags: tuple[str, ...] = ()
        """Tags of [bold]all[/bold] pictures."""
        pretty: bool = True
        """Whether to smooth."""
        common: CommonConfig = field(default_factory=CommonConfig)
        hub: HubConfig = field(default_factory=HubConfig)

    def run(config: DrawConfig, terminal: Any) -> dict[str, object]:
        terminal.say("drawing")
        terminal.detail("in detail")
        print("a library prints")
        with terminal.progress(config.images, "pictures") as advance:
            advance(config.images)
        return {"out": config.out, "images": config.images, "seed": config.common.seed, "files": {"a.json": 3},
                "offline": os.environ.get("HF_HUB_OFFLINE"), "rate": float("nan")}
    ''',
    "fail": '''
    """Fail."""
    @dataclass(frozen=True, kw_only=True)
    class FailConfig:
        """Fail in a way."""

        how: str = argument("data")

    def run(config: FailConfig, terminal: Any) -> dict[str, object]:
        if config.how == "after":
            terminal.fail_after(DataError("1 record is broken", where="store a"))
            return {"broken": 1}
        if config.how == "pipe":
            raise BrokenPipeError(32, "Broken pipe")
        raise {"data": DataError("row 3 is empty", where="file a", remedy="write it again"),
               "offline": OfflineError("there is no bert"), "bug": ValueError("two\\nlines"), "silent": KeyError(),
               "stop": KeyboardInterrupt(), "disk": OSError(28, "No space left on device", "a.lmdb"),
               "hostile": DataError("row 'a\\x1b[2Jb\\nc' is empty")}[config.how]
    ''',
    "chest": '''
    """Look into chests.

    Examples:
        $ vltk chest open a
    """
    @dataclass(frozen=True, kw_only=True)
    class OpenConfig:
        """Open a chest."""

        path: tuple[Path, ...] = argument()
        """The chests."""

    def run_open(config: OpenConfig, terminal: Any) -> dict[str, object]:
        return {"opened": list(config.path)}

    @dataclass(frozen=True, kw_only=True)
    class LockConfig:
        """Lock a chest."""

    def run_lock(config: LockConfig, terminal: Any) -> None:
        return None

    COMMANDS = {"open": (OpenConfig, run_open), "lock-up": (LockConfig, run_lock)}
    ''',
    "ready": '''
    """Prepare."""
    @dataclass(frozen=True, kw_only=True)
    class ReadyConfig:
        """Prepare a task."""

        task: str
        """The task."""
        source: Any = chosen_by("task", package="toycommands._tasks")

    def run(config: ReadyConfig, terminal: Any) -> dict[str, object]:
        return {"questions": str(config.source.questions), "offline": config.source.offline}
    ''',
    "_private": "raise RuntimeError('listed')",
    "_tasks/__init__": "",
    "_tasks/toy_vqa": '''
    """Questions."""
    @dataclass(frozen=True, kw_only=True)
    class Source:
        """Files of the task."""

        questions: Path
        """The questions of a toy."""
        offline: bool = False
    ''',
    "_tasks/toy_gqa": "raise RuntimeError('imported without being chosen')",
}


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of commands in the place of vltk's own."""
    package = tmp_path / "toycommands"
    (package / "_tasks").mkdir(parents=True)
    (package / "__init__.py").touch()
    for name, body in MODULES.items():
        docstring, _, rest = dedent(body).strip().partition('"""\n@')
        text = f'{docstring}"""\n{HEAD}@{rest}' if rest else dedent(body)
        (package / f"{name}.py").write_text(text, "utf-8")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cli, "COMMANDS", "toycommands")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "toycommands"]:
        del sys.modules[name]


@pytest.fixture
def call(commands: None, capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(capsys)


class Call:
    """Runs the command line and keeps what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, line: str) -> tuple[int, str, str]:
        code = main(line.split())
        out, err = self._capsys.readouterr()
        return code, out, err


def squeezed(text: str) -> str:
    """Help without its frames and line breaks."""
    return " ".join(text.replace("│", " ").split())


# -- help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
    ids=["nothing", "count", "policy"],
)
def test_threads_wait_as_the_user_says_or_not_for_long(
    call: Call, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], expected: str | None
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that what main sets is taken back
        monkeypatch.delenv(name)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    call("--version")
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_the_root_lists_commands_with_their_first_sentence(call: Call) -> None:
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    text = squeezed(out)
    assert "draw-scenes Draw pictures, [R, 4] boxes each." in text
    assert "chest Look into chests." in text
    assert "private" not in text


@pytest.mark.parametrize("line", ["", "chest"])
def test_nothing_asked_shows_the_help_and_is_a_usage_error(call: Call, line: str) -> None:
    code, out, _ = call(line)
    assert code == 2
    assert "Usage: vltk" in out


def test_an_argument_that_is_given_as_an_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--predictions", "p.jsonl", "--task", "vqa", "--examples", "e", "--out", "o"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "vltk: error: vltk submit: --predictions is no option but an argument; "
        "write its value alone: vltk submit PREDICTIONS\n"
    )


@pytest.mark.parametrize("columns", ["80", "100"])
def test_a_command_explains_every_option(call: Call, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, _ = call("draw-scenes --help")
    text = squeezed(out)
    assert code == 0
    assert max(map(len, out.splitlines())) <= int(columns)
    for part in [
        "A paragraph that is wrapped in the source and again by the terminal.",
        "--out <path> Folder to write. [required]",
        "--images <int> How many pictures. [default: 1000]",
        "--style <flat|textured> How they look. [default: flat]",
        "Tags of [bold]all[/bold] pictures. May be given several times.",
        "--pretty --no-pretty Whether to smooth. [default: on]",
        "--seed <int> Seed of everything random. [default: 0]",
        "--json Print the result as JSON on stdout.",
        "--config <path> Read options from a TOML, JSON or YAML file; flags win over it.",
    ]:
        assert part in text
    panels = [line.split()[1] for line in out.splitlines() if line.startswith("╭")]
    assert panels == ["Options", "Common", "Hub", "Output", "Settings"]
    examples = out[out.index("Examples") :].splitlines()
    assert [line.strip() for line in examples[1:3]] == [
        "$ vltk draw-scenes --out world",
        "$ vltk draw-scenes --out world --images 5",
    ]


def test_a_group_lists_its_commands_and_each_has_its_own_help(call: Call) -> None:
    text = squeezed(call("chest --help")[1])
    assert "open Open a chest." in text
    assert "lock-up Lock a chest." in text
    assert "PATH <path> The chests. [required]" in squeezed(call("chest open --help")[1])


def test_help_without_a_task_lists_the_tasks_and_imports_none(call: Call) -> None:
    code, out, _ = call("ready --help")
    assert code == 0
    assert "--task <task> The task. One of: toy_gqa, toy_vqa. [required]" in squeezed(out)
    assert "--questions" not in out
    assert "toycommands._tasks.toy_vqa" not in sys.modules


@pytest.mark.parametrize("line", ["ready --task toy_vqa --help", "ready --help --task=toy-vqa"])
def test_help_with_a_task_shows_the_tasks_options(call: Call, line: str) -> None:
    code, out, _ = call(line)
    assert code == 0
    assert "╭─ Options of --task toy_vqa ─" in out
    assert "--questions <path> The questions of a toy. [required]" in squeezed(out)


def test_the_version(call: Call) -> None:
    assert call("--version") == (0, f"vltk {vltk.__version__}\n", "")


# -- results and streams --------------------------------------------------------------------------------------------


def test_json_leaves_stdout_to_the_result(call: Call) -> None:
    code, out, err = call("draw-scenes --out w --images 7 --seed 3 --json")
    assert code == 0
    assert json.loads(out) == {
        "out": "w", "images": 7, "seed": 3, "files": {"a.json": 3}, "offline": None, "rate": None
    }  # fmt: skip
    assert err.splitlines()[:2] == ["drawing", "a library prints"]


def test_a_person_reads_lines_and_sections(call: Call) -> None:
    code, out, _ = call("draw-scenes --out w --images 7")
    assert code == 0
    lines = out.replace("a library prints\n", "").splitlines()
    assert [line.split() for line in lines] == [
        ["out", "w"], ["images", "7"], ["seed", "0"], ["offline", "-"], ["rate", "nan"], [], ["files"], ["a.json", "3"]
    ]  # fmt: skip


def test_quiet_says_nothing_and_verbose_says_more(call: Call) -> None:
    code, out, err = call("draw-scenes --out w -q")
    assert (code, out, err) == (0, "a library prints\n", "")
    assert "in detail" in call("draw-scenes --out w -v")[2]
    assert "in detail" not in call("draw-scenes --out w")[2]
    assert json.loads(call("draw-scenes --out w --quiet --json")[1])["out"] == "w"


def test_several_arguments_and_no_result(call: Call) -> None:
    assert json.loads(call("chest open a b --json")[1]) == {"opened": ["a", "b"]}
    assert call("chest lock-up") == (0, "", "")


def test_a_chosen_task_gives_its_options_and_takes_its_values(call: Call) -> None:
    line = "ready --task toy_vqa --questions q.json --offline --json"
    assert json.loads(call(line)[1]) == {"questions": "q.json", "offline": True}


def test_offline_is_in_the_environment_before_the_command_runs(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert json.loads(call("draw-scenes --out w --offline --json")[1])["offline"] == "1"


def test_print_config_is_a_file_for_config(call: Call, tmp_path: Path) -> None:
    code, out, _ = call("draw-scenes --images 3 --tags x --tags y --no-pretty --print-config")
    assert code == 0
    assert out.splitlines()[:2] == ["# out =  # required", "images = 3  # flag"]
    file = tmp_path / "c.toml"
    file.write_text(out, "utf-8")
    assert json.loads(call(f"draw-scenes --out w --config {file} --json")[1])["images"] == 3
    assert json.loads(call(f"draw-scenes --out w --config {file} --images 4 --json")[1])["images"] == 4


# -- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("draw-scene", "vltk: there is no command 'draw-scene'; did you mean draw-scenes?"),
        ("chest opne a", "vltk chest: there is no command 'opne'; did you mean open?"),
        ("_private", "vltk: there is no command '_private'; known are chest, draw-scenes, fail, ready"),
        ("--verison", "vltk: there is no option --verison; did you mean --version?"),
        ("draw-scenes", "vltk draw-scenes: missing --out; --help lists all options"),
        ("draw-scenes --imges 3", "vltk draw-scenes: there is no option --imges; did you mean --images?"),
        ("draw-scenes --no-prety", "vltk draw-scenes: there is no option --no-prety; did you mean --no-pretty?"),
        ("draw-scenes -z", "vltk draw-scenes: there is no option -z; --help lists all options"),
        ("draw-scenes --out", "vltk draw-scenes: option '--out' requires an argument; --help lists all options"),
        ("draw-scenes --out w x", "vltk draw-scenes: got unexpected extra argument(s) (x); --help lists all options"),
        ("draw-scenes --out w --pretty=1", "vltk draw-scenes: option '--pretty' does not take a value; --help"),
        ("draw-scenes --out w --images many", "--images: got 'many', expected a whole number"),
        ("draw-scenes --out w --style flt", "--style: got 'flt', expected one of flat, textured; did you mean flat?"),
        ("draw-scenes --out w --config no.toml", "no.toml: cannot be read: No such file or directory; name another"),
        ("chest open", "vltk chest open: missing PATH; --help lists all options"),
        ("ready", "vltk ready: missing --task; --help lists all options"),
        ("ready --task toy_vaq", "--task: there is no task 'toy_vaq'; did you mean toy_vqa?"),
        ("ready --task toy_vaq --help", "--task: there is no task 'toy_vaq'; did you mean toy_vqa?"),
        ("ready --task toy_vqa", "vltk ready: missing --questions; --help lists all options"),
        ("ready --task toy_vqa --question q", "vltk ready: there is no option --question; did you mean --questions?"),
        ("ready --questions q", "vltk ready: there is no option --questions; "),
    ],
)
def test_a_usage_error_is_one_sentence_and_exits_with_2(call: Call, line: str, sentence: str) -> None:
    code, out, err = call(line)
    assert (code, out) == (2, "")
    assert err.startswith(f"vltk: error: {sentence}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("how", "code", "sentence"),
    [
        ("data", 3, "file a: row 3 is empty; write it again"),
        ("offline", 4, "there is no bert"),
        ("stop", 130, "interrupted"),
        ("bug", 1, "ValueError: two lines; --debug shows where"),
        ("silent", 1, "KeyError: no reason given; --debug shows where"),
        ("hostile", 3, r"row 'a\x1b[2Jb\nc' is empty"),
        (
            "disk",
            1,
            "a.lmdb: No space left on device; check the path, its permissions and its space; --debug shows where",
        ),
    ],
)
def test_a_failure_is_one_sentence_with_its_exit_code(call: Call, how: str, code: int, sentence: str) -> None:
    assert call(f"fail {how} --json") == (code, "", f"vltk: error: {sentence}\n")


def test_debug_shows_the_traceback_above_the_sentence(call: Call) -> None:
    for how in ("bug", "data"):
        err = call(f"fail {how} --debug")[2]
        assert err.startswith("Traceback (most recent call last):")
        assert "in run" in err
        assert err.splitlines()[-1].startswith("vltk: error: ")


def test_a_result_may_be_printed_before_the_failure(call: Call) -> None:
    code, out, err = call("fail after --json")
    assert (code, json.loads(out), err) == (3, {"broken": 1}, "vltk: error: store a: 1 record is broken\n")


def test_a_broken_pipe_inside_a_command_is_no_quiet_success(call: Call) -> None:
    code, _, err = call("fail pipe")
    assert (code, err) == (1, "vltk: error: a process or pipe that the command writes to has ended; see what it said\n")


# -- the process ----------------------------------------------------------------------------------------------------


def process(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-m", "vltk.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**clean, **env}, timeout=120)


def test_a_name_that_the_terminal_cannot_show_is_no_failure(tmp_path: Path) -> None:
    line = "import sys; from vltk.cli import main; sys.exit(main(['ls', 'recipes', '--json']))"
    code = f"import vltk.config.settings as s, pathlib; s.RECIPES = pathlib.Path({str(tmp_path)!r}); {line}"
    (tmp_path / "réseau.toml").write_text('description = "Ω"', "utf-8")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env, timeout=120)
    assert json.loads(done.stdout) == {"recipes": {"réseau": "Ω"}}
    assert json.loads(done.stdout.decode("ascii"))


def test_a_closed_pipe_ends_quietly() -> None:
    line = f"{sys.executable} -m vltk.cli ls | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stderr, done.stdout) == ("", "")
    assert done.returncode in (0, 1)


HEAVY = {"torch", "numpy", "transformers", "lmdb", "PIL", "accelerate", "stanza", "tokenizers", "huggingface_hub"}


@pytest.mark.parametrize("args", [["--help"], ["ls", "--help"], ["ls", "--json"], ["sl"]])
def test_the_start_imports_nothing_heavy(args: list[str]) -> None:
    code = f"import sys, vltk.cli\nvltk.cli.main({args!r})\nprint('loaded', sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["vltk", "l"], ["ls"]),
        (["vltk", "ls", "f"], ["formats"]),
        (["vltk", "ls", "--js"], ["--json"]),
    ],
)
def test_the_shell_completes_commands_choices_and_options(words: list[str], expected: list[str]) -> None:
    env = {"_VLTK_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = process(**env)
    assert (done.returncode, done.stdout.split()) == (0, expected)


@pytest.mark.usefixtures("commands")
def test_the_shell_completes_a_chosen_tasks_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def complete(words: str) -> list[str]:
        monkeypatch.setenv("_VLTK_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        with pytest.raises(SystemExit, match="0"):
            main([])
        return capsys.readouterr().out.split()

    assert complete("vltk ready --task toy_v") == ["toy_vqa"]
    assert complete("vltk ready --task toy_vqa --qu") == ["--questions", "--quiet"]
    assert complete("vltk ready --task wrong --qu") == ["--quiet"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_show_completion_prints_a_script(shell: str) -> None:
    # Typer looks for the shell among the processes above it; a test may run under none.
    done = process("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert "_VLTK_COMPLETE" in done.stdout
    assert f"complete_{shell}" in done.stdout


# -- the help of the real commands ----------------------------------------------------------------------------------


def real_commands() -> list[str]:
    names = []
    for name in listing("vltk.commands"):
        inner = getattr(importlib.import_module(f"vltk.commands.{name}"), "COMMANDS", None)
        names += [f"{name.replace('_', '-')} {one}" for one in inner] if inner else [name.replace("_", "-")]
    return names


@pytest.mark.parametrize("name", real_commands())
def test_the_help_of_a_command_says_what_it_is_for_with_examples_and_exit_codes(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main([*name.split(), "--help"]) == 0
    out = capsys.readouterr().out
    purpose, _, below = out.partition("\n Examples\n")
    examples, _, codes = below.partition("\n Exit codes\n")
    assert len(purpose[: purpose.index("╭")].split()) > 10
    assert any(line.strip().startswith(f"$ vltk {name}") for line in examples.splitlines())
    assert squeezed(codes).startswith("0 done, 1 failed, 2 usage or configuration, 3 data or a store")
    kind, _ = entry(name)
    assert [one.flag for one in options(kind) if not one.help] == [], "every option says what it does"


def test_examples_are_whole_lines_that_can_be_copied(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    out = call("draw-scenes --help")[1]
    assert "   $ vltk draw-scenes --out world --images 5\n" in out


def test_a_group_shows_examples_and_the_root_says_how_to_complete(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("store", "convert"):
        assert main([name, "--help"]) == 0
        assert f"$ vltk {name} " in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert "$ vltk --install-completion" in capsys.readouterr().out
