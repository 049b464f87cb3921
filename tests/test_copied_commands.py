"""Whatever a reader copies, from a README or from --help, is a command that vltk understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.readme_commands import README, blocks
from vltk.cli import main
from vltk.commands._entry import entry
from vltk.config import listing

ROOT = README.parent
# Its task is not in the package until a reader puts it there; tests/examples/test_new_task.py does.
COPIED_FIRST = {ROOT / "examples" / "new_task" / "README.md"}
VARIABLES = {"$split": "train"}


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words after ``vltk`` of each command in lines of a shell, without comments."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for part in re.split(r"&&|[;|>]", line):
            words = [VARIABLES.get(word, word) for word in shlex.split(part, comments=True)]
            if words and words[0].endswith("vltk") and len(words) > 1:
                yield words[1:]


def of_readmes() -> Iterator[tuple[str, list[str]]]:
    for path in (README, *sorted(ROOT.glob("examples/*/README.md"))):
        if path not in COPIED_FIRST:
            for block in blocks(path):
                yield from ((path.relative_to(ROOT).as_posix(), words) for words in commands(block.text))


def of_help() -> Iterator[tuple[str, list[str]]]:
    for name in listing("vltk.commands"):
        module = __import__(f"vltk.commands.{name}", fromlist=["COMMANDS"])
        shown = name.replace("_", "-")
        inner = [f"{shown} {one}" for one in getattr(module, "COMMANDS", {})] or [shown]
        for command in inner:
            text = (entry(command)[0].__doc__ or "").partition("Examples:")[2]
            for example in re.split(r"\n\s*\$ ", text)[1:]:
                yield from ((command, words) for words in commands(" ".join(example.split())))


FOUND = [*of_readmes(), *of_help()]


def test_there_is_much_to_copy() -> None:
    assert len(FOUND) > 100
    assert any(Path(place).name == "README.md" for place, _ in FOUND)


@pytest.mark.parametrize(("place", "words"), FOUND, ids=[f"{place}: {' '.join(words)}"[:80] for place, words in FOUND])
def test_a_command_that_is_shown_is_understood(
    place: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # Its settings are resolved and printed; nothing is opened and nothing is done.
    stop = [] if "--help" in words or words[0].startswith("--") else ["--print-config"]
    code = main([*words, *stop])
    assert (code, capsys.readouterr().err) == (0, "")
