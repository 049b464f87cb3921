"""A run folder is whole at every moment, and says no to a run that is another one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vltk.run_folder.checkpoint as checkpoint_module
from vltk.config import option
from vltk.errors import DataError, UsageError, VltkError
from vltk.run_folder import (
    STATE,
    WEIGHTS,
    Journal,
    RunFolder,
    find_checkpoint,
    read_about,
    read_state,
    read_weights,
    write_checkpoint,
)


@dataclass(frozen=True, kw_only=True)
class Group:
    rate: float = 0.1
    every: int = option(5, incidental=True)


@dataclass(frozen=True, kw_only=True)
class Config:
    seed: int = 0
    out: str = option("x", incidental=True)
    group: Group = field(default_factory=Group)


def save(path: Path, value: float) -> None:
    write_checkpoint(path, {"w": torch.full((3,), value)}, {"step": int(value)}, about={"model": "uniter"})


def test_a_run_is_begun_and_gone_on_with(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", Config())
    with pytest.raises(UsageError, match="holds no run to resume; use --resume auto to begin one"):
        folder.begin(resume="must")
    assert not folder.path.exists()
    assert folder.begin(resume="auto") is None
    assert folder.begin(resume="auto") is None
    save(folder.last, 3)
    assert folder.begin(resume="must") == folder.last
    with pytest.raises(UsageError, match="holds a run; use another --out"):
        folder.begin(resume="never")
    assert folder.begin(resume="auto", overwrite=True) is None
    assert not folder.last.exists()


def test_only_what_changes_a_result_is_compared_groups_included(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", Config()).begin(resume="auto")
    before = (tmp_path / "run" / "config.json").read_bytes()
    for same in (replace(Config(), out="elsewhere"), replace(Config(), group=Group(every=9))):
        assert RunFolder(tmp_path / "run", same).check(resume="auto") is None
    for other, sentence in (
        (Config(group=Group(rate=0.2)), r"group\.rate: 0\.1 then, 0\.2 now"),
        (Config(seed=4), "seed: 0 then, 4 now"),
    ):
        with pytest.raises(UsageError, match=f"was begun with other settings \\({sentence}\\)"):
            RunFolder(tmp_path / "run", other).begin(resume="auto")
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_the_same_data_may_lie_elsewhere_and_other_data_may_not(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", Config(), inputs={"examples coco": "a1"}).begin(resume="auto")
    assert RunFolder(tmp_path / "run", Config(), inputs={"examples coco": "a1"}).check(resume="auto") is None
    with pytest.raises(UsageError, match=r"was begun on other data \(examples coco\)"):
        RunFolder(tmp_path / "run", Config(), inputs={"examples coco": "b2"}).check(resume="auto")


def test_a_folder_that_is_used_for_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is not empty and holds no run; use another --out"):
            RunFolder(tmp_path, Config()).begin(resume="auto", overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_checkpoint_is_read_back_and_says_what_it_is(tmp_path: Path) -> None:
    save(tmp_path / "last", 2)
    assert read_state(tmp_path / "last") == {"step": 2, "model": {"w": pytest.approx(torch.full((3,), 2.0))}}
    assert read_about(tmp_path / "last" / WEIGHTS) == {"model": "uniter"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    for number in range(8):  # the format's writer orders several entries by chance
        save(tmp_path / str(number), 3)
    assert len({(tmp_path / str(number) / WEIGHTS).read_bytes() for number in range(8)}) == 1


@pytest.mark.parametrize("moment", ["before the first rename", "between the renames", "before the old one is gone"])
def test_a_kill_during_a_save_leaves_a_whole_checkpoint(tmp_path: Path, moment: str) -> None:
    last, fresh, old = (tmp_path / name for name in ("last", ".last.new", ".last.old"))
    save(last, 1)
    save(tmp_path / "next", 2)
    (tmp_path / "next").rename(fresh)
    if moment != "before the first rename":
        last.rename(old)
    if moment == "before the old one is gone":
        fresh.rename(last)
    found = find_checkpoint(last)
    assert found is not None
    assert read_state(last)["step"] == (1 if moment == "before the first rename" else 2)
    save(last, 3)
    assert read_state(last)["step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]


def test_the_old_checkpoint_stays_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "last", 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "sync", full)
    with pytest.raises(VltkError, match=r"last: cannot be written .*No space left.*; make room; the old one stays"):
        save(tmp_path / "last", 2)
    monkeypatch.undo()
    assert read_state(tmp_path / "last")["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_nothing_of_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "last", 1)
    torch.save({"step": _Evil()}, tmp_path / "last" / STATE)
    with pytest.raises(DataError, match=rf"{STATE}: cannot be read"):
        read_state(tmp_path / "last")
    assert not (tmp_path / "executed").exists()


def test_a_damaged_or_absent_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    save(tmp_path / "last", 1)
    (tmp_path / "last" / WEIGHTS).write_bytes(b"\xff" * 100)
    with pytest.raises(DataError, match=rf"{WEIGHTS}: cannot be read .*; use another checkpoint"):
        read_weights(tmp_path / "last")
    with pytest.raises(DataError, match="gone: is no checkpoint"):
        read_weights(tmp_path / "gone")


def lines(folder: RunFolder) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "second" not in name} for line in found]


def feed(journal: Journal, steps: range) -> None:
    for step in steps:
        journal.step(step, "mlm" if step % 3 else "itm", total=float(step), count=2.0, examples=4, rate=0.1)


def test_a_line_holds_the_means_since_the_last_and_resuming_writes_the_same_lines(tmp_path: Path) -> None:
    straight = RunFolder(tmp_path / "a", Config())
    straight.begin(resume="auto")
    feed(Journal(straight, every=4, clock=lambda: 0.0), range(1, 13))
    assert lines(straight)[0] == {
        "step": 4, "mlm": (1 + 2 + 4) / 6, "itm": 1.5, "rate": 0.1, "examples": 16
    }  # fmt: skip
    broken = RunFolder(tmp_path / "b", Config())
    broken.begin(resume="auto")
    journal = Journal(broken, every=4, clock=lambda: 0.0)
    feed(journal, range(1, 7))
    state = json.loads(json.dumps(journal.state_dict()))
    feed(journal, range(7, 10))
    with (broken.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    again = Journal(broken, every=4, clock=lambda: 0.0)
    again.resume(state, step=6)
    feed(again, range(7, 13))
    assert lines(broken) == lines(straight)


def test_the_last_step_has_a_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", Config())
    folder.begin(resume="auto")
    feed(Journal(folder, every=4, last=6), range(1, 7))
    assert [line["step"] for line in lines(folder)] == [4, 6]


def test_time_is_counted_over_all_parts_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", Config())
    folder.begin(resume="auto")
    clock = iter(range(100, 10_000, 10))
    journal = Journal(folder, every=2, clock=lambda: float(next(clock)))
    feed(journal, range(1, 3))
    line = json.loads((folder.path / "metrics.jsonl").read_text())
    assert (line["seconds"], line["examples per second"]) == (20.0, 8 / 20)
    again = Journal(None, clock=lambda: 5000.0)
    again.resume({**journal.state_dict(), "seconds": 40.0}, step=2)
    assert again.seconds == 40.0


def test_a_second_process_keeps_figures_and_writes_nothing(tmp_path: Path) -> None:
    journal = Journal(None, every=2)
    feed(journal, range(1, 3))
    assert journal.figures["mlm"] == 0.75
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard (extra: train) is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path / "run", Config())
    folder.begin(resume="auto")
    journal = Journal(folder, every=2, tensorboard=True)
    feed(journal, range(1, 5))
    journal.close()
    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("mlm")] == [(2, 0.75), (4, 2.0)]


def test_without_tensorboard_the_remedy_is_an_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run", Config())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"TensorBoard is not installed; pip install 'vltk-toolkit\[train\]'"):
        Journal(folder, tensorboard=True)
    assert not folder.path.exists()


def test_a_folder_is_removed_whole(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", Config())
    folder.begin(resume="auto")
    folder.remove()
    assert not folder.path.exists()
    shutil.rmtree(tmp_path)


def test_a_run_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(UsageError, match=r"run: is a file, and a run is a folder; use another --out"):
        RunFolder(tmp_path / "run", Config()).check(resume="auto")
