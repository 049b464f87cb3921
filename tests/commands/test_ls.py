"""``vltk ls`` names what the command line takes, without importing it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.small_pairs import write_pairs
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
    assert found["commands"]["ls"] == "List what vltk has, or what it made in a folder."
    assert all(found[kind][name] for kind in found for name in found[kind])


def test_one_kind_is_listed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(listed(capsys, "formats")) == ["formats"]


def test_every_model_is_listed_and_recipes_stand_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys)
    assert list(found["models"]) == listing("vltk.models")
    assert found["models"]["ssrp"].startswith("SSRP")
    assert list(found["recipes"]) == sorted(found["recipes"])


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


def test_a_folder_shows_what_was_made_in_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    examples, features = write_pairs(tmp_path)
    folders = {name: tmp_path / "runs" / name for name in ("done", "begun", "measured", "theirs")}
    for folder in folders.values():
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"config": {"task": "vqa", "training": {}}}), "utf-8")
    metrics = [{"metric": "accuracy", "value": 0.51234}]
    (folders["done"] / "results.json").write_text(json.dumps({"steps": 7, "metrics": metrics}), "utf-8")
    (folders["measured"] / "config.json").write_text(json.dumps({"config": {"run": "runs/done"}}), "utf-8")
    (folders["measured"] / "results.json").write_text(json.dumps({"task": "gqa", "metrics": metrics}), "utf-8")
    (folders["theirs"] / "config.json").write_text('{"model_type": "bert"}', "utf-8")
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "world.json").write_text('{"images": {"train": 8, "val": 1}}', "utf-8")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "data.mdb").write_text("not a store", "utf-8")
    assert main(["ls", "--folder", str(tmp_path), "--json"]) == 0
    made = {Path(one["path"]).name: one for one in json.loads(capsys.readouterr().out)["made"]}
    told = {name: (one["kind"], one["holds"], one["state"]) for name, one in made.items()}
    assert told.pop("broken")[0] == "LMDB"
    assert told == {
        examples.name: ("example store", "36 records, captions", "complete"),
        features.name: ("feature store", "12 records, random", "complete"),
        "done": ("run", "vqa, 7 updates, accuracy 0.5123", "complete"),
        "begun": ("run", "vqa", "unfinished"),
        "measured": ("results", "gqa, accuracy 0.5123", "complete"),
        "world": ("world", "8 train, 1 val", "complete"),
    }


def test_no_folder_and_a_kind_beside_a_folder_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["ls", "--folder", str(tmp_path / "nothing")]) == 2
    assert "is no folder; name one that holds runs or stores" in capsys.readouterr().err
    assert main(["ls", "tasks", "--folder", str(tmp_path)]) == 2
    assert "--folder: goes without a kind; leave out tasks" in capsys.readouterr().err


def test_people_see_the_task_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "recipes"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("uniter-vqa-base "))
    assert line.split()[1] == "vqa"
