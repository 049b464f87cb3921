"""``vltk ls`` names what the command line takes, without importing it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vltk.cli import main
from vltk.config import listing


def listed(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, dict[str, str]]:
    assert main(["ls", *args, "--json"]) == 0
    found: dict[str, dict[str, str]] = json.loads(capsys.readouterr().out)
    return found


def test_everything_is_listed_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys)
    assert list(found) == ["tasks", "formats", "commands", "models", "recipes"]
    assert list(found["tasks"]) == listing("vltk.tasks")
    assert list(found["formats"]) == listing("vltk.stores.formats")
    assert found["commands"]["ls"] == "List what vltk has: tasks, formats, commands, recipes, models."
    assert all(found[kind][name] for kind in found for name in found[kind])


def test_one_kind_is_listed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(listed(capsys, "formats")) == ["formats"]


def test_a_model_is_a_file_with_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    models = listed(capsys, "models")["models"]
    assert models["uniter"].startswith("UNITER")
    assert "layers" not in models


def test_commands_are_spelled_as_they_are_typed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "spelledcommands"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "extract_features.py").write_text('"""Extract.\n\nMore."""\nraise RuntimeError("imported")\n', "utf-8")
    (package / "_private.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(__import__("vltk.commands.ls", fromlist=["PACKAGES"]).PACKAGES, "commands", "spelledcommands")
    assert listed(capsys, "commands") == {"commands": {"extract-features": "Extract."}}


def test_recipes_come_with_their_description(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uniter.toml").write_text('description = "As published."\nrate = 1', "utf-8")
    (tmp_path / "commented.toml").write_text("# In a comment.\nrate = 1", "utf-8")
    (tmp_path / "plain.json").write_text("{}", "utf-8")
    monkeypatch.setattr("vltk.config.settings.RECIPES", tmp_path)
    assert listed(capsys, "recipes") == {
        "recipes": {"commented": "In a comment.", "plain": "", "uniter": "As published."}
    }


def test_a_wrong_kind_is_answered_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "taks"]) == 2
    assert capsys.readouterr().err.endswith("; did you mean tasks?\n")
