"""Commands as tests run them: what they give, and the one sentence with which they refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from vltk.cli import main


def command_line(name: str, given: Mapping[str, object], *more: str) -> list[str]:
    """Return a command with its options; those given once more win."""
    kept = [word for flag, value in given.items() if flag not in more for word in (flag, str(value))]
    return [name, *kept, "--quiet", *more]


def ran(capsys: pytest.CaptureFixture[str], *line: str, code: int = 0, says: str = "") -> dict[str, Any]:
    """Run a command with --json, expect that it says nothing else or one line with these words; return its result."""
    ended = main([*line, "--json"])
    shown = capsys.readouterr()
    assert (ended, shown.err.count("\n")) == (code, int(bool(says))), shown.err
    assert says in shown.err
    found: dict[str, Any] = json.loads(shown.out)
    return found


def refused(capsys: pytest.CaptureFixture[str], line: list[str], code: int, sentence: str) -> None:
    """Run a command and expect that it ends with a code and one line that holds a sentence."""
    assert main(line) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
