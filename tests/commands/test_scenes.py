"""``vltk scenes`` draws a world into a folder, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vltk.cli import main


def drawn(capsys: pytest.CaptureFixture[str], out: Path, *args: str) -> dict[str, Any]:
    assert main(["scenes", "--out", str(out), "--images", "20", "--json", "--quiet", *args]) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    return summary


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["scenes", *args]) == 2
    return capsys.readouterr().err.strip()


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_world_is_drawn_and_summed_up(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    summary = drawn(capsys, tmp_path / "world", "--seed", "4")
    assert (summary["path"], summary["seed"], summary["size"]) == (str(tmp_path / "world"), 4, 128)
    assert summary["images"] == {"train": 16, "val": 2, "test": 2}
    assert {"VQA v2", "GQA (balanced)", "NLVR2", "RefCOCO"} <= {row["task"] for row in summary["tasks"]}
    for row in summary["tasks"]:
        assert row["train"] > 0
        assert 0 < row["chance"] < row["bound"] <= 1 or row["test"] == 0
    assert [pool["bound"] for pool in summary["pools"]] == [1.0, 1.0]
    pictures = sorted((tmp_path / "world" / "images").iterdir())
    assert len(pictures) == 20
    assert Image.open(pictures[0]).size == (128, 128)
    assert Image.open(tmp_path / "world" / "contact_sheet.png").size[0] > 800


def test_the_same_seed_draws_the_same_world(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("one", "two"):
        drawn(capsys, tmp_path / name, "--seed", "4")
    drawn(capsys, tmp_path / "three", "--seed", "5")
    one, two, three = (content(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_the_size_is_that_of_every_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    drawn(capsys, tmp_path / "world", "--size", "64")
    assert {Image.open(path).size for path in (tmp_path / "world" / "images").iterdir()} == {(64, 64)}


def test_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = drawn(capsys, tmp_path / "world", "--dry-run")
    assert plan["would write"] == str(tmp_path / "world")
    assert plan["cost"].startswith("about ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    sentence = refused(capsys, "--out", str(tmp_path))
    assert sentence.splitlines()[-1].endswith("the folder is not empty; name a folder that is empty or absent")
    sentence = refused(capsys, "--out", str(tmp_path), "--overwrite")
    assert sentence.splitlines()[-1].endswith(
        "--overwrite replaces a drawn world, and this folder holds something else; name another folder"
    )
    assert content(tmp_path) == {"notes.txt": b"mine"}


def test_overwrite_replaces_a_world_by_a_whole_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    drawn(capsys, tmp_path / "other", "--seed", "5")
    drawn(capsys, tmp_path / "world", "--seed", "4")
    (tmp_path / "world" / "stale.txt").write_text("old")
    summary = drawn(capsys, tmp_path / "world", "--seed", "5", "--overwrite")
    assert summary["path"] == str(tmp_path / "world")
    assert content(tmp_path / "world") == content(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "world"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--images", "3"), "scenes: images: 3 is not a whole number of 10 to 10000000"),
        (("--seed", "-1"), "--seed: -1 is too small; use 0 or more"),
        (("--size", "7"), "scenes: size: 7 is not a whole number of 32 to 4096"),
    ],
)
def test_impossible_worlds_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, args: tuple[str, str], sentence: str
) -> None:
    assert refused(capsys, "--out", str(tmp_path / "world"), *args, "--quiet").endswith(sentence)
    assert list(tmp_path.iterdir()) == []
