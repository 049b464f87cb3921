"""A task is one file: README's example of one is prepared, trained, evaluated and offered by every command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vltk.tasks
from tests.running import command_line, ran, refused
from tests.small_pairs import TINY_MODEL, picture, write_features

FILE = Path(__file__).resolve().parents[2] / "examples" / "new_task" / "caption_check.py"
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "dog")


@pytest.fixture(autouse=True)
def beside_the_other_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the package of tasks look into the folder of the file, as if the file had been copied there."""
    monkeypatch.setattr(vltk.tasks, "__path__", [*vltk.tasks.__path__, str(FILE.parent)])
    yield
    if hasattr(vltk.tasks, FILE.stem):
        delattr(vltk.tasks, FILE.stem)


def annotations(path: Path, label: str = "true") -> Path:
    told = [
        {"id": f"{number}", "image": f"p{number % 6}", "caption": f"a {WORDS[6 + number % 2]} dog", "label": label}
        for number in range(12)
    ]
    told[0]["label"] = "false"
    path.write_text("".join(f"{json.dumps(one)}\n" for one in told), "utf-8")
    return path


def test_one_file_is_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dice = np.random.default_rng(0)
    features = write_features(tmp_path / "f.lmdb", [picture(f"p{number}", dice) for number in range(6)])
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    examples, run = tmp_path / "e.lmdb", tmp_path / "run"
    stores = {"--examples": examples, "--features": features}
    preparing = {"--task": "caption-check", "--tokenizer": tmp_path / "vocab.txt", "--features": features}
    made = {"--annotations": annotations(tmp_path / "a.jsonl"), "--out": examples}
    assert ran(capsys, *command_line("prepare", preparing | made))["examples"] == 12
    sizes = {f"--{name}": size for name, size in TINY_MODEL.items()} | {"--steps": 2, "--warmup": 1, "--device": "cpu"}
    ran(capsys, *command_line("finetune", {"--task": "caption_check", "--out": run} | stores | sizes))
    (accuracy,) = ran(capsys, "eval", str(run), *command_line("", stores)[1:])["metrics"]
    assert (accuracy["metric"], accuracy["n"], accuracy["unit"]) == ("accuracy", 12, "fraction")
    assert ran(capsys, "ls", "tasks")["tasks"]["caption_check"].startswith("Caption checking")
    wrong = {"--annotations": annotations(tmp_path / "b.jsonl", "maybe"), "--out": tmp_path / "wrong.lmdb"}
    ran(capsys, *command_line("prepare", preparing | wrong))
    training = {"--task": "caption_check", "--examples": tmp_path / "wrong.lmdb", "--features": features}
    line = command_line("finetune", training | sizes | {"--out": tmp_path / "other"})
    refused(capsys, line, 3, "has the label 'maybe', which is outside the vocabulary of 2 answers")
