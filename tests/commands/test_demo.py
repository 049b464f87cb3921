"""``vltk demo`` walks the line: what it makes is whole, exact, made by the commands it names, and resumed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vltk.cli import main
from vltk.commands import demo, prepare
from vltk.metrics.detection import box_iou
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore

STORES = ["features", "imported", "flickr30k-train", "flickr30k-test", "vqa-train"]


def call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any], str]:
    code = main(["demo", *args, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick demo; the tests that share it only read, or run what changes nothing."""
    out = tmp_path_factory.mktemp("made") / "demo"
    assert main(["demo", "--quick", "--out", str(out), "--quiet"]) == 0
    return out


def test_every_store_is_complete_and_speaks_of_drawn_pictures(made: Path) -> None:
    pictures = {path.stem for path in (made / "world" / "images").iterdir()}
    features = FeatureStore.open(made / "features.lmdb")
    assert len(pictures) == demo.QUICK_IMAGES
    assert set(features.ids()) == pictures
    for name in STORES[2:]:
        store = ExampleStore.open(made / f"{name}.lmdb")
        assert {image for example in store for image in example.image_ids} <= pictures
        assert all(example.tokens for example in store)
    assert len(ExampleStore.open(made / "flickr30k-train.lmdb")) == 5 * 48


def test_the_detector_found_the_annotated_boxes(made: Path) -> None:
    file = json.loads((made / "world" / "coco" / "annotations" / "instances_test.json").read_text("utf-8"))
    features = FeatureStore.open(made / "features.lmdb")
    assert features.metadata.preset == "demo"
    hits = total = 0
    for image in file["images"]:
        things = [one for one in file["annotations"] if one["image_id"] == image["id"]]
        regions = features.get(Path(image["file_name"]).stem)
        x, y, width, height = np.array([thing["bbox"] for thing in things], np.float64).T
        overlap = box_iou(np.stack([x, y, x + width, y + height], axis=1), regions.boxes)
        best = overlap.argmax(axis=1)
        classes = np.array([thing["category_id"] for thing in things])
        hits += int(((overlap.max(axis=1) > 0.5) & (regions.class_ids[best] + 1 == classes)).sum())
        total += len(things)
    assert hits > 0.9 * total > 10


def test_the_regions_came_back_from_the_tsv_as_they_were(made: Path) -> None:
    features, imported = (FeatureStore.open(made / f"{name}.lmdb") for name in ("features", "imported"))
    assert imported.ids() == features.ids()
    for own, other in zip(features, imported, strict=True):
        np.testing.assert_array_equal(own.features, other.features)
        np.testing.assert_array_equal(own.boxes, other.boxes)
        np.testing.assert_array_equal(own.class_ids, other.class_ids)


def test_previews_show_what_was_found(made: Path) -> None:
    assert len(list((made / "preview").iterdir())) == 12


def test_the_result_names_what_was_made(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, err = call(capsys, "--quick", "--out", str(made))
    assert code == 0
    rows = {Path(row["path"]).name: row for row in result["made"]}
    assert list(rows) == ["world", "features.lmdb", "regions.tsv", *(f"{n}.lmdb" for n in STORES[1:])]
    assert [rows[f"{name}.lmdb"]["verified"] for name in STORES] == [True] * 5
    assert [rows[f"{name}.lmdb"]["records"] for name in STORES[:3]] == [60, 60, 240]
    assert rows["world"]["verified"] is None
    assert all(row["MB"] > 0 for row in rows.values())
    assert err.count("is there already") == len(rows)


def test_a_second_run_writes_nothing(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.name in ("data.mdb", "regions.tsv")}

    before = times()
    assert call(capsys, "--quick", "--out", str(made))[0] == 0
    assert times() == before
    assert len(before) == 6


def test_the_commands_it_names_make_the_same(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = call(capsys, "--quick", "--out", str(made), "--dry-run")[1]["steps"]
    lines = [line for line in (shlex.split(step["command"]) for step in steps) if line[1] in ("store", "prepare")]
    lines = [line for line in lines if line[2] != "export"]
    assert [line[1] for line in lines] == ["store", "prepare", "prepare", "prepare"]
    for line in lines:
        own = Path(line[line.index("--out") + 1])
        line[line.index("--out") + 1] = str(tmp_path / own.name)
        assert main([*line[1:], "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["content_hash"]) > 0
        kind = FeatureStore if own.name == "imported.lmdb" else ExampleStore
        assert kind.open(tmp_path / own.name).content_hash == kind.open(own).content_hash


def test_a_dry_run_names_commands_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = call(capsys, "--out", str(tmp_path / "demo"), "--seed", "3", "--dry-run")
    assert code == 0
    assert result["steps"][0]["command"] == f"vltk scenes --out {tmp_path}/demo/world --images 300 --seed 3"
    assert not (tmp_path / "demo").exists()


def test_an_interrupted_demo_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(prepare, "run", stop)
        assert call(capsys, "--quick", "--out", str(out))[0] == 130
    assert not (out / "vqa-train.lmdb").exists()
    code, _, err = call(capsys, "--quick", "--out", str(out))
    assert code == 0
    assert err.count("is there already") == 4
    assert ExampleStore.open(out / "vqa-train.lmdb").metadata.task == "vqa"


def test_another_demo_in_the_folder_is_refused_and_replaced_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / "demo.json").write_text('{"quick": true, "seed": 5}', "utf-8")
    (out / "regions.tsv").write_text("old", "utf-8")
    (out / "mine.txt").write_text("mine", "utf-8")
    code, _, err = call(capsys, "--quick", "--out", str(out))
    remedy = "name another folder, or replace it with --overwrite"
    assert (code, err) == (2, f"vltk: error: {out}: holds a demo of 60 pictures with seed 5; {remedy}\n")
    assert call(capsys, "--quick", "--out", str(out), "--overwrite")[0] == 0
    assert (out / "regions.tsv").read_text("utf-8") != "old"
    assert (out / "mine.txt").read_text("utf-8") == "mine"


@pytest.mark.parametrize("folder", ["full", "file"])
def test_a_foreign_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", "utf-8")
    (tmp_path / "file").write_text("mine", "utf-8")
    code, _, err = call(capsys, "--out", str(tmp_path / folder), "--overwrite")
    sentence = f"vltk: error: {tmp_path / folder}: holds something else than a demo; name another folder\n"
    assert (code, err) == (2, sentence)
    assert (tmp_path / "full" / "mine.txt").read_text("utf-8") == "mine"


def test_a_damaged_store_ends_with_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert call(capsys, "--quick", "--out", str(out))[0] == 0
    file = out / "vqa-train.lmdb" / "data.mdb"
    content = bytearray(file.read_bytes())
    content[content.index(b"What")] ^= 1
    file.write_bytes(content)
    code, _, err = call(capsys, "--quick", "--out", str(out))
    assert code == 3
    assert err.splitlines()[-1].startswith(f"vltk: error: {out / 'vqa-train.lmdb'}")
