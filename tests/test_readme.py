"""The README's commands are the ones that CI runs, and every shell block says which it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.readme_commands import README, Block, blocks

ROOT = README.parent


def test_every_shell_block_runs_in_ci_or_says_what_it_needs() -> None:
    unmarked = [block.text for block in blocks() if not block.mark]
    assert unmarked == [], "mark it <!-- runs: NAME --> or <!-- needs: WHAT -->"


@pytest.mark.parametrize("name", ["install", "test"])
def test_the_two_commands_are_there_and_ci_runs_them(name: str) -> None:
    assert [block.name for block in blocks() if block.mark == "runs"].count(name) == 1
    assert f"readme_commands.py {name}" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_every_other_block_that_runs_is_run_by_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert [block.name for block in blocks() if block.mark == "runs" and block.name not in ci] == []


def test_links_to_files_of_the_repository_are_not_dead() -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", README.read_text("utf-8"))
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_no_figure_of_a_benchmark_stands_without_its_command() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")
    named = set(re.findall(r"benchmarks/(\w+\.py)", results))
    scripts = {path.name for path in (ROOT / "benchmarks").glob("[a-z]*.py")}
    assert named == scripts, "each benchmark's last result stands in RESULTS.md with its command"


def test_block_parsing_reads_marks(tmp_path: Path) -> None:
    text = "<!-- runs: a -->\n```bash\nx\n```\n\n```bash\ny\n```\n<!-- needs: COCO -->\n```console\nz\n```\n"
    (tmp_path / "r.md").write_text(text)
    assert blocks(tmp_path / "r.md") == [Block("runs", "a", "x\n"), Block("", "", "y\n"), Block("needs", "COCO", "z\n")]
