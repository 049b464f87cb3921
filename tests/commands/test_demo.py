"""``vltk demo`` walks the line by the commands that it prints, tells findings, and goes on wherever it stopped."""

from __future__ import annotations

import importlib
import json
import shlex
import shutil
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vltk.cli import main
from vltk.commands import _demo_sizes
from vltk.commands._demo_claims import CLAIMS
from vltk.commands._demo_stages import stages
from vltk.commands._demo_steps import Demo
from vltk.commands._terminal import Terminal
from vltk.commands._walkthrough import Finding, Step
from vltk.metrics.detection import box_iou
from vltk.models import _checkpoints
from vltk.run_folder import file_sha256
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.trainer import Trainer

USERS = _demo_sizes.QUICK
TINY = _demo_sizes.Sizes(
    images=30,
    pretraining=3,
    continuing=2,
    first_stage=2,
    second_stage=2,
    finetuning=2,
    dual=2,
    reasoning=2,
    reranked=2,
    captions=6,
    shuffles=3,
    sentences=60,
    epochs=1,
    queries=2,
)
STORES = [
    *("features", "pool-features", "boxes", "imported", "train", "val", "pool", "entities"),
    *("said-otherwise", "unseen", "views"),
]


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_demo_sizes, "QUICK", TINY)
        yield


def call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any], str]:
    code = main(["demo", *args, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def interrupt(patched: pytest.MonkeyPatch, command: str) -> None:
    """Let a command stop at once as Ctrl-C stops it."""
    module = importlib.import_module(f"vltk.commands.{command}")

    @wraps(module.run)
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    patched.setattr(module, "run", stop)


def findings(folder: Path) -> Any:
    return json.loads((folder / "findings.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo that nothing stopped; the tests that share it only read, or run what changes nothing."""
    out = tmp_path_factory.mktemp("made") / "demo"
    assert main(["demo", "--quick", "--out", str(out), "--quiet"]) == 0
    return out


def test_every_store_is_complete_and_speaks_of_drawn_pictures(made: Path) -> None:
    pictures = {path.stem for path in (made / "world" / "images").iterdir()}
    assert len(pictures) == TINY.images
    assert set(FeatureStore.open(made / "features.lmdb").ids()) == pictures
    for name in ("train", "val", "entities", "said-otherwise"):
        store = ExampleStore.open(made / f"{name}.lmdb")
        assert {image for example in store for image in example.image_ids} <= pictures
        assert all(example.tokens for example in store)
    said = ExampleStore.open(made / "said-otherwise.lmdb")
    assert len(said) == 5 * 24
    assert all(1 <= len(example.paraphrases[0]) <= 2 for example in said)
    assert all(example.parses for example in said)
    assert len(list((made / "preview").iterdir())) == 12
    assert set(FeatureStore.open(made / "views.lmdb").ids()) == {f"{picture}@flip" for picture in pictures}


def test_the_detector_found_the_annotated_boxes(made: Path) -> None:
    file = json.loads((made / "world" / "coco" / "annotations" / "instances_train.json").read_text("utf-8"))
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


def test_each_claim_of_a_paper_has_an_outcome_with_an_interval_and_its_seeds(made: Path) -> None:
    rows = findings(made)
    tried = [row for row in rows if row["claim"]]
    papers = {row["claim"].rpartition("(")[2].partition(",")[0] for row in tried}
    assert papers == {"UNITER", "IAIS", "VSE-infinity", "VSRN", "SSRP", "SSRP's probe"}
    assert [row["claim"] for row in tried if row["figure"].startswith(("rsum", "ISDa"))] == [one.text for one in CLAIMS]
    for row in tried:
        assert " to " in row["95 %"]
        low, high = map(float, row["95 %"].split(" to "))
        assert low - 1e-3 <= row["value"] <= high + 1e-3
        verdict, seeds = row["outcome"].rsplit(", ", 1)
        assert verdict in ("came out", "did not come out at this size", "not decided at this size")
        assert seeds == "1 seed"
    assert [row["value"] for row in rows if row["figure"] == "unchanged pictures"] == [TINY.images]
    sound = next(row for row in rows if row["figure"] == "sound records")
    assert sound["proves"] == f"of {sound['value']:,} in {len(STORES)} stores"


def test_the_summary_has_every_stage_and_every_finding(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, err = call(capsys, "--quick", "--out", str(made))
    assert code == 0
    assert result["next"][0]["try"] == f"open {result['report']}"
    line = stages(Demo(out=made, sizes=TINY, seed=0))
    assert list(result["seconds"]) == [stage.name for stage in line]
    told = [(row["figure"], row["value"]) for row in findings(made) if not row["claim"]]
    assert [(row["figure"], row["value"]) for row in result["figures"]] == told
    told = [(row["claim"], row["outcome"], row["value"]) for row in findings(made) if row["claim"]]
    assert [(row["claim"], row["outcome"], row["difference"]) for row in result["claims"]] == told
    for stage in line:
        assert f"] {stage.name}: {stage.proves}" in err


def test_a_second_run_makes_nothing_but_verifies(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def times() -> dict[Path, int]:
        written = ("data.mdb", "results.json", "regions.tsv", "model.safetensors")
        return {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.name in written}

    before = times()
    code, _, err = call(capsys, "--quick", "--out", str(made))
    assert (code, times()) == (0, before)
    assert len(before) > 20
    done_anew = [line.split()[1:4] for line in err.splitlines() if line.startswith("  $ ")]
    assert done_anew == [["vltk", "store", "verify"]] * len(STORES)


def test_a_demo_that_moved_stands_as_it_was(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = made.rename(made.with_name("moved"))
    try:
        monkeypatch.chdir(moved.parent)
        code, _, err = call(capsys, "--quick", "--out", "moved")
        assert code == 0
        assert err.count("$ vltk") == len(STORES)
    finally:
        moved.rename(made)


def test_the_commands_it_prints_are_what_a_user_can_type(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = call(capsys, "--quick", "--out", str(made), "--dry-run")[1]["steps"]
    lines = [shlex.split(step["command"]) for step in steps]
    lines = [line for line in lines if line[1] == "prepare" or line[1:3] == ["store", "import"]]
    assert len(lines) == 5
    for line in lines:
        own = Path(line[line.index("--out") + 1])
        line[line.index("--out") + 1] = str(tmp_path / own.name)
        assert main([*line[1:], "--quiet"]) == 0
        kind = FeatureStore if own.name == "imported.lmdb" else ExampleStore
        assert kind.open(tmp_path / own.name).content_hash == kind.open(own).content_hash


# -- interrupted ----------------------------------------------------------------------------------------------------


def test_stopped_in_the_midst_and_at_the_end_of_every_command_it_comes_to_the_same_figures(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, progress, update, run = tmp_path / "demo", Terminal.progress, Trainer._update, Step.run
    stopped: set[str] = set()

    def stop(at: str) -> None:
        if at not in stopped:
            stopped.add(at)
            raise KeyboardInterrupt

    def shown(self: Terminal, total: int | None, label: str) -> Any:
        place = f"{label} {total} after {len(list((out / 'steps').iterdir()))} steps"
        bar = progress(self, total, label)

        class Stopping:
            def __enter__(self) -> Any:
                advance = bar.__enter__()

                def told(count: int = 1) -> None:
                    advance(count)
                    stop(place)

                return told

            def __exit__(self, *raised: Any) -> Any:
                return bar.__exit__(*raised)

        return Stopping()

    def cut(self: Trainer, batches: Any) -> bool:
        if self.step == 1:
            stop(f"update of {self.folder}")
        return update(self, batches)

    def finished(self: Step, terminal: Terminal) -> dict[str, Any]:
        result = run(self, terminal)
        stop(f"end of {self.name}")  # before its result is kept
        return result

    with monkeypatch.context() as patched:
        patched.setattr(Terminal, "progress", shown)
        patched.setattr(Trainer, "_update", cut)
        patched.setattr(Step, "run", finished)
        codes = []
        while (code := call(capsys, "--quick", "--out", str(out))[0]) == 130 and len(codes) < 400:
            codes.append(code)
    assert code == 0
    assert sum(at.startswith("update of") for at in stopped) == 13
    assert sum(at.startswith("end of") for at in stopped) == len(list((out / "steps").iterdir()))
    assert len(codes) == len(stopped) > 100
    assert findings(out) == findings(made)


@pytest.mark.slow
def test_the_quick_demo_of_users_stopped_now_and_then_comes_to_the_same_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_demo_sizes, "QUICK", USERS)
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    assert call(capsys, "--out", str(straight), "--quick")[0] == 0
    update, steps = Trainer._update, iter(range(10_000))

    def stopping(self: Trainer, batches: Any) -> bool:
        if next(steps) % 23 == 22:
            raise KeyboardInterrupt
        return update(self, batches)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_update", stopping)
        codes = [call(capsys, "--out", str(cut), "--quick")[0] for _ in range(3)]
    assert 130 in codes
    assert call(capsys, "--out", str(cut), "--quick")[0] == 0
    assert findings(cut) == findings(straight)


# -- what is asked for otherwise ------------------------------------------------------------------------------------


def test_a_step_that_is_asked_for_otherwise_is_made_anew_with_all_that_follows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    with monkeypatch.context() as patched:
        interrupt(patched, "augment")
        assert call(capsys, "--quick", "--out", str(out))[0] == 130
    record = out / "steps" / "import.json"
    told = json.loads(record.read_text("utf-8"))
    told["asked"]["options"]["format"] = "another"
    record.write_text(json.dumps(told), "utf-8")
    with monkeypatch.context() as patched:
        interrupt(patched, "augment")
        code, _, err = call(capsys, "--quick", "--out", str(out))
    assert code == 130
    ran = [" ".join(shlex.split(line)[2:4]) for line in err.splitlines() if line.startswith("  $ ")]
    assert ran[0] == "store import"
    assert sum(one.startswith("prepare") for one in ran) == 4
    (out / "steps" / "train.json").write_text("{", "utf-8")
    code, _, err = call(capsys, "--quick", "--out", str(out))
    assert code == 3
    assert "train.json: is not JSON; delete it, and the step is done again" in err


def test_a_step_is_known_by_its_recipe_and_by_the_weights_behind_a_name(tmp_path: Path) -> None:
    step = Demo(out=tmp_path, sizes=TINY, seed=0).uniter("pretrain", 3, init=Path("uniter-tiny"))
    asked = step.asked(tmp_path)
    assert asked["options"]["out"] == "runs/pretrain"
    assert asked["recipe"]["hidden"] == 128
    assert asked["starts from"] == file_sha256(_checkpoints.SHIPPED / "uniter-tiny.safetensors")


def test_other_weights_behind_a_name_are_noticed_also_where_the_walk_was_stopped_at_once(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, other, half = tmp_path / "demo", tmp_path / "other", tmp_path / "demo" / "runs" / "pretrain" / "half"
    shutil.copytree(made, out)
    other.mkdir()
    content = bytearray((_checkpoints.SHIPPED / "uniter-tiny.safetensors").read_bytes())
    content[-1] ^= 1
    (other / "uniter-tiny.safetensors").write_bytes(content)
    interrupt(monkeypatch, "pretrain")
    for shipped, goes_on in ((other, False), (other, True), (_checkpoints.SHIPPED, False)):
        monkeypatch.setattr(_checkpoints, "SHIPPED", shipped)
        half.mkdir(parents=True, exist_ok=True)
        code, _, err = call(capsys, "--quick", "--out", str(out))
        assert code == 130
        (line,) = [shlex.split(line) for line in err.splitlines() if line.startswith("  $ ")]
        assert line[line.index("--out") + 1] == str(half.parent)
        assert half.exists() == goes_on
    names = [step.name for stage in stages(Demo(out=out, sizes=TINY, seed=0)) for step in stage.steps]
    assert {path.stem for path in (out / "steps").iterdir()} == set(names[: names.index("pretrain") + 1])
    assert [path.name for path in (out / "runs").iterdir()] == ["pretrain-fresh"]


def test_a_dry_run_names_commands_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = call(capsys, "--out", str(tmp_path / "demo"), "--seed", "3", "--dry-run")
    assert code == 0
    assert result["steps"][0] == {
        "stage": "scenes",
        "command": f"vltk scenes --out {tmp_path}/demo/world --images {_demo_sizes.FULL.images} --seed 3",
    }
    assert not (tmp_path / "demo").exists()


def test_another_demo_in_the_folder_is_refused_and_cleared_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    (out / "train.lmdb").mkdir(parents=True)
    (out / "demo.json").write_text('{"quick": true, "seed": 5}', "utf-8")
    (out / "regions.tsv").write_text("old", "utf-8")
    (out / "mine.txt").write_text("mine", "utf-8")
    code, _, err = call(capsys, "--quick", "--out", str(out))
    remedy = "name another folder, or replace it with --overwrite"
    assert (code, err) == (2, f"vltk: error: {out}: holds a quick demo with seed 5; {remedy}\n")
    interrupt(monkeypatch, "scenes")
    assert call(capsys, "--quick", "--out", str(out), "--overwrite")[0] == 130
    assert sorted(path.name for path in out.iterdir()) == ["demo.json", "mine.txt", "steps"]


@pytest.mark.parametrize("folder", ["full", "file"])
def test_a_foreign_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", "utf-8")
    (tmp_path / "file").write_text("mine", "utf-8")
    code, _, err = call(capsys, "--out", str(tmp_path / folder), "--overwrite")
    sentence = f"vltk: error: {tmp_path / folder}: holds something else than a demo; name another folder\n"
    assert (code, err) == (2, sentence)
    assert (tmp_path / "full" / "mine.txt").read_text("utf-8") == "mine"


def test_a_damaged_store_ends_with_its_exit_code(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = made / "train.lmdb" / "data.mdb"
    sound = file.read_bytes()
    content = bytearray(sound)
    content[content.index(b"shows")] ^= 1
    file.write_bytes(content)
    try:
        code, _, err = call(capsys, "--quick", "--out", str(made))
    finally:
        file.write_bytes(sound)
    assert code == 3
    assert err.splitlines()[-1].startswith(f"vltk: error: {made / 'train.lmdb'}")


def test_a_claim_comes_out_by_the_side_of_0_that_its_interval_lies_on() -> None:
    from vltk.commands._demo_findings import came_out

    higher, lower = CLAIMS[0], CLAIMS[-1]
    assert (higher.lower_is_better, lower.lower_is_better) == (False, True)
    good, bad, open_ = ({"interval_95": ends} for ends in ([1, 2], [-2, -1], [-1, 2]))
    assert came_out(higher, good) == came_out(lower, bad) == "came out, 1 seed"
    assert came_out(higher, bad) == came_out(lower, good) == "did not come out at this size, 1 seed"
    assert came_out(higher, open_) == came_out(lower, open_) == "not decided at this size, 1 seed"


@pytest.mark.parametrize(
    ("value", "said"), [(878081, "weights = 878081: of a run"), (0.25, "weights = 0.25 [0.1 to 0.4]: of a run")]
)
def test_numbers_of_things_are_told_whole(value: float, said: str) -> None:
    interval = (0.1, 0.4) if isinstance(value, float) else None
    assert Finding(figure="weights", value=value, interval=interval, proves="of a run").sentence() == said
