"""Progress on a terminal, in a log and in silence; results that programs and people can read."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from vltk.commands._terminal import Terminal
from vltk.errors import DataError


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(**options: bool) -> tuple[Terminal, io.StringIO, io.StringIO, Clock]:
    out, err, clock = io.StringIO(), io.StringIO(), Clock()
    return Terminal(stdout=out, stderr=err, clock=clock, **options), out, err, clock


# -- messages -------------------------------------------------------------------------------------------------------


def test_messages_go_to_stderr_as_they_are() -> None:
    terminal, out, err, _ = made()
    terminal.say("a [bold]b[/bold] " + "x" * 300)
    terminal.warn("careful")
    terminal.detail("unheard")
    assert out.getvalue() == ""
    assert err.getvalue() == "a [bold]b[/bold] " + "x" * 300 + "\nvltk: warning: careful\n"


def test_quiet_keeps_warnings_and_verbose_adds_details() -> None:
    terminal, _, err, _ = made(quiet=True, verbose=True)
    terminal.say("unheard")
    terminal.detail("unheard")
    terminal.warn("careful")
    assert err.getvalue() == "vltk: warning: careful\n"
    terminal, _, err, _ = made(verbose=True)
    terminal.detail("heard")
    assert err.getvalue() == "heard\n"


# -- progress in a log ----------------------------------------------------------------------------------------------


def test_a_log_gets_a_line_at_each_tenth_with_rate_and_time_left() -> None:
    terminal, out, err, clock = made()
    with terminal.progress(1000, "drawing") as advance:
        for _ in range(100):
            clock.now += 2.0
            advance(10)
    lines = err.getvalue().splitlines()
    assert lines[0] == "drawing: 100/1000 (10 %), 5/s, 3:00 left"
    assert lines[1] == "drawing: 200/1000 (20 %), 5/s, 2:40 left"
    assert lines[-1] == "drawing: 1000/1000 (100 %), 5/s, in 3:20"
    assert len(lines) == 10
    assert out.getvalue() == ""


def test_a_slow_job_shows_life_every_half_minute() -> None:
    terminal, _, err, clock = made()
    with terminal.progress(10_000, "reading") as advance:
        for _ in range(7):
            clock.now += 10.0
            advance(1)
    assert [line.split()[1] for line in err.getvalue().splitlines()] == ["3/10000", "6/10000", "7/10000"]


def test_a_quick_job_is_one_line() -> None:
    terminal, _, err, clock = made()
    with terminal.progress(100, "reading") as advance:
        for _ in range(100):
            clock.now += 0.001
            advance(1)
    assert err.getvalue() == "reading: 100/100 (100 %), 1,000/s, in 0.1 s\n"


def test_without_a_total_there_is_no_share_and_nothing_left() -> None:
    terminal, _, err, clock = made()
    with terminal.progress(None, "reading") as advance:
        clock.now += 31.0
        advance(62)
    assert err.getvalue() == "reading: 62, 2/s\nreading: 62, 2/s, in 31 s\n"


def test_the_work_of_an_earlier_run_does_not_count_into_the_rate() -> None:
    terminal, _, err, clock = made()
    with terminal.progress(1000, "reading") as advance:
        clock.now += 1.0
        advance(900)
        for _ in range(100):
            clock.now += 1.0
            advance()
    assert err.getvalue().splitlines()[-1].endswith("reading: 1000/1000 (100 %), 1/s, in 1:41")


def test_an_error_inside_the_progress_passes_and_claims_no_end() -> None:
    terminal, _, err, _ = made()
    with pytest.raises(DataError, match=r"^row 3$"), terminal.progress(5, "reading"):
        raise DataError("row 3")
    assert err.getvalue() == ""


@pytest.mark.parametrize("options", [{"quiet": True}, {"quiet": True, "json": True}])
def test_quiet_progress_is_silent(options: dict[str, bool]) -> None:
    terminal, out, err, _ = made(**options)
    with terminal.progress(5, "reading") as advance:
        advance(5)
    assert (out.getvalue(), err.getvalue()) == ("", "")


# -- on a real terminal ---------------------------------------------------------------------------------------------

ON_TERMINAL = """
import sys
from vltk.commands._terminal import Terminal
terminal = Terminal({options})
with terminal.progress(20, "drawing") as advance:
    for _ in range(20):
        advance(1)
    terminal.say("said in between")
terminal.result({{"out": "w", "files": {{"a": 1}}}})
"""


def on_a_terminal(options: str, **env: str) -> str:
    """What a pseudo-terminal of 100 columns shows."""
    pid, descriptor = pty.fork()
    if pid == 0:
        clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "CI")}
        full = {**clean, "TERM": "xterm-256color", "COLUMNS": "100", **env}
        os.execve(sys.executable, [sys.executable, "-c", ON_TERMINAL.format(options=options)], full)
    shown = b""
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # Linux reports the end of a pseudo-terminal so
            break
        if not chunk:
            break
        shown += chunk
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown.decode()


def test_a_terminal_shows_a_bar_with_rate_and_messages_above_it() -> None:
    shown = on_a_terminal("")
    assert "20/20" in shown
    assert "/s" in shown
    assert "said in between" in shown
    assert "\x1b[1mfiles" in shown


def test_no_color_is_respected() -> None:
    shown = on_a_terminal("", NO_COLOR="1")
    assert "20/20" in shown
    assert re.findall(r"\x1b\[[0-9;]*3[0-9](?:;[0-9;]*)?m", shown) == []


def test_a_dumb_terminal_gets_lines() -> None:
    shown = on_a_terminal("", TERM="dumb")
    assert "drawing: 20/20 (100 %)" in shown
    assert "\x1b" not in shown


def test_a_quiet_terminal_shows_the_json_and_nothing_else() -> None:
    assert json.loads(on_a_terminal("quiet=True, json=True")) == {"out": "w", "files": {"a": 1}}


# -- results --------------------------------------------------------------------------------------------------------


def test_json_knows_paths_tuples_numpy_and_no_nan() -> None:
    terminal, out, _, _ = made(json=True)
    terminal.result(
        {
            "path": Path("a/b"), "tuple": (1, 2), "float": np.float32(0.5), "array": np.arange(2), "nan": float("nan"),
            "inf": [float("inf")], 7: True, "text": "é", "none": None, "deep": {"set": {3}},
        }
    )  # fmt: skip
    assert json.loads(out.getvalue()) == {
        "path": "a/b", "tuple": [1, 2], "float": 0.5, "array": [0, 1], "nan": None,
        "inf": [None], "7": True, "text": "é", "none": None, "deep": {"set": [3]},
    }  # fmt: skip
    assert "é" in out.getvalue()


def test_a_pipe_gets_whole_lines_however_long() -> None:
    terminal, out, _, _ = made()
    terminal.result({"path": "x" * 500, "flag": True, "none": None, "rate": 1 / 3, "list": [1, "b"], "empty": []})
    assert [line.split(maxsplit=1) for line in out.getvalue().splitlines()] == [
        ["path", "x" * 500], ["flag", "yes"], ["none", "-"], ["rate", "0.3333"], ["list", "1, b"], ["empty", "-"]
    ]  # fmt: skip
    assert all(line == line.rstrip() for line in out.getvalue().splitlines())


def test_mappings_are_sections_and_rows_are_tables() -> None:
    terminal, out, _, _ = made()
    rows = [{"name": "a_b", "n": 1}, {"name": "[red]c", "n": 22, "more": 0.5, "parts": {"a": 1, "b": None}}]
    terminal.result({"n": 1, "stores": {"kind": "x", "parts": {"count": 2}}, "rows": rows, "tasks": {}})
    assert out.getvalue() == (
        "n  1\n\nstores\nkind  x\n\nstores / parts\ncount  2\n\n"
        "rows\nname     n  more  parts\na_b      1     -  -\n[red]c  22   0.5  a 1, b -\n\ntasks\nnone\n"
    )


def test_a_table_is_printed_for_people_only() -> None:
    terminal, out, _, _ = made()
    terminal.table([{"name": "a", "n": 1}], title="found")
    terminal.table([], title="nothing")
    assert out.getvalue() == "found\nname  n\na     1\n"
    for options in ({"json": True}, {"quiet": True}):
        terminal, out, _, _ = made(**options)
        terminal.table([{"name": "a"}])
        assert out.getvalue() == ""


def test_no_result_prints_nothing_and_quiet_prints_only_json() -> None:
    terminal, out, _, _ = made(json=True)
    terminal.result(None)
    assert out.getvalue() == ""
    terminal, out, _, _ = made(quiet=True)
    terminal.result({"a": 1})
    assert out.getvalue() == ""


def test_the_first_failure_is_kept() -> None:
    terminal, *_ = made()
    first = DataError("one")
    terminal.fail_after(first)
    terminal.fail_after(DataError("two"))
    assert terminal.failure is first
