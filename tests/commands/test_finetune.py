"""``vltk finetune`` from stores to a receipt and back: every task, resumed, in processes; mistakes are one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.running import command_line, ran, refused
from tests.small_pairs import (
    TINY_MODEL,
    TOKENIZER,
    VOCABULARY,
    WIDTH,
    arguments,
    caption,
    picture,
    write_examples,
    write_features,
    write_pairs,
)
from tests.small_tasks import MAKERS, small_examples
from vltk.cli import main
from vltk.finetuning import open_run
from vltk.models.uniter import UNITERConfig
from vltk.run_folder import Journal, read_about, read_weights
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.tasks._task import RetrievalTask, Split

Stores = dict[str, Path]
STEPS = 6
HARD = ["--negatives", "hard", "--candidates", "5", "--hard", "2", "--micro-batches", "2"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    folder = tmp_path_factory.mktemp("stores")
    train, val = write_pairs(folder, "train", images=10), write_pairs(folder, "val", images=5)
    assert main(arguments(*train, folder / "pretrained", steps=3)) == 0
    found = {"train": train[0], "train-f": train[1], "val": val[0], "val-f": val[1]}
    return found | {"folder": folder, "pretrained": folder / "pretrained"}


def words(stores: Stores, out: Path, *more: str) -> list[str]:
    """Return the command line of a short run; what is given more wins."""
    given = {
        "--task": "flickr30k",
        "--examples": stores["train"],
        "--features": stores["train-f"],
        "--out": out,
        "--init": stores["pretrained"],
        "--steps": STEPS,
        "--warmup": 2,
        "--log-every": 1,
        "--pairs": 4,
        "--learning-rate": 1e-3,
        "--device": "cpu",
    }
    return command_line("finetune", given, *more)


def fresh(line: list[str]) -> list[str]:
    """Return a command line without the weights to start from."""
    place = line.index("--init")
    return [*line[:place], *line[place + 2 :]]


def measured(stores: Stores) -> list[str]:
    return ["--validation-examples", str(stores["val"]), "--validation-features", str(stores["val-f"])]


def curve(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "second" not in name} for line in found]


def validation(stores: Stores) -> Split:
    return Split(name="val", examples=ExampleStore.open(stores["val"]), features=FeatureStore.open(stores["val-f"]))


def test_a_run_ends_with_a_receipt_and_gives_its_task_back(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    summary = ran(capsys, *words(stores, out, *measured(stores), "--validate-every", "3"))
    assert summary["initialised"] == ["ranking head from image-text matching"]
    rows = {row["metric"]: row for row in summary["metrics"]}
    assert {"i2t_r1", "t2i_r1", "t2i_r10", "t2i_median_rank", "rsum"} <= rows.keys()
    assert (rows["t2i_r1"]["n"], rows["i2t_r1"]["n"], rows["rsum"]["unit"]) == (15, 5, "percent")
    assert not rows["t2i_mean_rank"]["higher_is_better"]
    assert summary["weights"].keys() == {"last", "best"}
    about = read_about(out / "last" / "model.safetensors")
    assert (about["model"], about["task"], about["config"]["hidden"]) == ("uniter", "flickr30k", TINY_MODEL["hidden"])
    split = validation(stores)
    found = open_run(out, split, checkpoint="last")
    assert isinstance(found.task, RetrievalTask)
    assert (found.name, found.model, found.task.module.training) == ("flickr30k", "uniter", False)
    expected = read_weights(out / "last")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.task.module.state_dict().items())


def test_the_pool_can_be_made_small(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--validation-images", "3", "--validation-captions", "2"]
    summary = ran(capsys, *words(stores, tmp_path / "run", *measured(stores), *small))
    assert {row["metric"]: row["n"] for row in summary["metrics"] if row["metric"].endswith("r1")} == {
        "t2i_r1": 6,
        "i2t_r1": 3,
    }


@pytest.mark.parametrize("extra", [[], [*HARD, "--iais", "singular"]], ids=["random", "hard with IAIS"])
def test_stopped_and_resumed_equals_the_undisturbed_run(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: list[str]
) -> None:
    more = [*extra, "--dropout", "0.2", *measured(stores), "--validate-every", "2"]
    assert main(words(stores, tmp_path / "straight", *more)) == 0
    step = Journal.step

    def stopping(self: Journal, number: int, *args: Any, **kwargs: Any) -> None:
        step(self, number, *args, **kwargs)
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "step", stopping)
        assert main(words(stores, tmp_path / "run", *more)) == 75
    assert len(curve(tmp_path / "run")) < len(curve(tmp_path / "straight"))
    assert main(words(stores, tmp_path / "run", *more, "--num-workers", "1")) == 0
    assert curve(tmp_path / "run") == curve(tmp_path / "straight")
    for kept in ("last", "best"):
        ours, expected = read_weights(tmp_path / "run" / kept), read_weights(tmp_path / "straight" / kept)
        assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


@pytest.mark.slow
def test_two_processes_come_to_the_weights_of_one(stores: Stores, tmp_path: Path) -> None:
    more = [*HARD[:-1], "4", "--iais", "distributed", *measured(stores)]
    assert main(words(stores, tmp_path / "one", *more)) == 0
    line = [sys.executable, "-m", "vltk", *words(stores, tmp_path / "two", *more, "--nproc", "2")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    for ours, expected in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(expected, rel=5e-4, abs=1e-5)


@pytest.mark.parametrize("task", MAKERS)
def test_every_task_is_fine_tuned_measured_and_found_again(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    given: Stores = {"pretrained": stores["pretrained"]}
    for name in ("train", "val"):
        examples, pictures = small_examples(task, name, images=8 if name == "train" else 4)
        given[name] = write_examples(tmp_path / f"{name}.lmdb", examples)
        given[f"{name}-f"] = write_features(tmp_path / f"{name}-features.lmdb", pictures)
    own = {"vqa": ["--min-answers", "1"], "gqa": ["--min-answers", "1"]}.get(task, [])
    line = words(given, tmp_path / "run", "--task", task, *own, *measured(given), "--batch-tokens", "2000")
    place = line.index("--pairs")
    summary = ran(capsys, *line[:place], *line[place + 2 :])
    split = validation(given)
    found = open_run(tmp_path / "run", split)
    assert found.name == task
    assert found.task.primary in {row["metric"] for row in summary["metrics"]}
    assert all(row["n"] > 0 for row in summary["metrics"])


def test_a_dual_encoder_is_fine_tuned_by_the_same_command(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--model", "vse", "--text", "bigru", "--word-dim", "8", "--no-drop-words", "--schedule", "step"]
    line = fresh(words(stores, tmp_path / "run", *measured(stores), *own))
    summary = ran(capsys, *line)
    assert {row["metric"] for row in summary["metrics"]} >= {"rsum", "t2i_r1"}
    rates = [row["rate"] for row in curve(tmp_path / "run") if "rate" in row]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4])
    found = open_run(tmp_path / "run", validation(stores))
    assert (found.model, found.task.family) == ("vse", "dual")
    again = words(stores, tmp_path / "next", *own, "--init", str(tmp_path / "run"), "--learning-rate", "0")
    assert ran(capsys, *again)["initialised"] == []
    before, after = read_weights(tmp_path / "run" / "best"), read_weights(tmp_path / "next" / "last")
    torch.testing.assert_close(after["model.text.word.weight"], before["model.text.word.weight"], rtol=0, atol=1e-6)


def test_the_head_learns_at_its_own_rate(stores: Stores, tmp_path: Path) -> None:
    for name, rate in (("a", "1"), ("b", "0")):
        assert main(words(stores, tmp_path / name, "--head-rate", rate, "--weight-decay", "0", "--steps", "3")) == 0
    start = read_weights(stores["pretrained"] / "last")["model.matching.weight"][1:]
    moved, still = (read_weights(tmp_path / name / "last")["head.weight"] for name in ("a", "b"))
    assert torch.equal(still, start)
    assert not torch.equal(moved, start)


def test_sizes_come_from_the_weights(stores: Stores, tmp_path: Path) -> None:
    size = UNITERConfig(
        vocabulary=VOCABULARY, hidden=24, heads=3, layers=1, intermediate=40, positions=20, region_dim=6
    )
    torch.save(size.build_for_pretraining().published_state(), tmp_path / "published.pt")
    assert main(words(stores, tmp_path / "run", "--init", str(tmp_path / "published.pt"), "--heads", "3")) == 0
    told = read_about(tmp_path / "run" / "last" / "model.safetensors")["config"]
    assert {name: told[name] for name in ("hidden", "heads", "layers", "positions")} == {
        "hidden": 24,
        "heads": 3,
        "layers": 1,
        "positions": 20,
    }


def test_several_stores_are_trained_on_as_one(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [("--examples", "train"), ("--examples", "val"), ("--features", "train-f"), ("--features", "val-f")]
    summary = ran(capsys, *words(stores, tmp_path / "run", *(w for f, n in given for w in (f, str(stores[n])))))
    assert sorted(summary["inputs"]) == [
        "examples train",
        "examples val",
        "features train-features.lmdb",
        "features val-features.lmdb",
    ]


def test_the_plan_writes_nothing(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ran(capsys, *words(stores, tmp_path / "run", *HARD, "--dry-run"))
    assert not (tmp_path / "run").exists()
    assert (plan["steps"], plan["micro_batches_per_process"]) == (STEPS, 2)
    assert plan["memory"].keys() == {"weights", "training", "activations"}


def test_help_shows_the_options_of_task_and_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--task", "flickr30k", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(
        flag in shown for flag in ("--negatives", "--candidates", "--iais", "--margin", "--hidden", "--head-rate")
    )


def other_preset(folder: Path) -> list[str]:
    dice = np.random.default_rng(0)
    path = folder / "other.lmdb"
    with FeatureStore.create(path, FeatureMetadata(detector="another")) as writer:
        for number in range(5):
            writer.put(picture(f"val-{number}", dice))
    return ["--validation-features", str(path)]


def other_words(stores: Stores, folder: Path) -> list[str]:
    tokenizer = replace(TOKENIZER, name="others", vocab_sha256="b" * 64)
    other = write_examples(folder / "words.lmdb", list(ExampleStore.open(stores["val"])), tokenizer)
    return ["--validation-examples", str(other), "--validation-features", str(stores["val-f"])]


def without_features(folder: Path) -> list[str]:
    dice = np.random.default_rng(0)
    told = [caption(f"{n}", f"gone-{n}", dice) for n in range(3)]
    return ["--examples", str(write_examples(folder / "more.lmdb", told))]


def without_pool(stores: Stores, folder: Path) -> list[str]:
    dice = np.random.default_rng(0)
    told = [caption("x", "gone", dice), *ExampleStore.open(stores["val"])]
    return ["--validation-examples", str(write_examples(folder / "pool.lmdb", told)), *measured(stores)[2:]]


def few_positions(folder: Path) -> Path:
    size = UNITERConfig(vocabulary=VOCABULARY, hidden=64, heads=1, layers=1, positions=5, region_dim=WIDTH)
    torch.save(size.build_for_pretraining().published_state(), folder / "short.pt")
    return folder / "short.pt"


BAD: dict[str, tuple[Any, int, str]] = {
    "mixed presets": (
        lambda s, f: [*measured(s)[:2], *other_preset(f)],
        3,
        "--validation-features: has detector 'another', the features trained on have 'random'; extract both with one",
    ),
    "mixed vocabularies": (other_words, 3, "words: was prepared with the vocabulary others, train with words"),
    "captions without images": (lambda s, f: without_features(f), 3, "no 'gone-0'"),
    "a pool without features": (without_pool, 3, "pool: 1 of 6 images have no features (first gone)"),
    "validation that is trained on": (
        lambda s, f: ["--validation-examples", str(s["train"])],
        3,
        "train: 10 images of train are trained on (train-0, train-1, train-2, ...); leave them out of one of the two",
    ),
    "weights that are not there": (lambda s, f: ["--init", str(f / "gone")], 3, "gone: is not there"),
    "an odd number of halves": (
        lambda s, f: [*HARD[:-2], "--micro-batches", "3"],
        2,
        "--micro-batches: 3 micro-batches are no whole number of picture and text halves",
    ),
    "too few positions": (
        lambda s, f: ["--init", str(few_positions(f))],
        2,
        "train: a text of 9 word pieces for a model of 5 positions; lower --max-text-length",
    ),
    "a dual encoder with candidates": (
        lambda s, f: ["--model", "vse", "--text", "bigru", *HARD],
        2,
        "--negatives: hard negatives from candidates and IAIS need an encoder that sees both sides",
    ),
    "a task that is not there": (
        lambda s, f: ["--task", "flickr"],
        2,
        "there is no task 'flickr'; did you mean flickr30k",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_one_sentence_before_anything_is_written(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    made, code, sentence = BAD[name]
    given = made(stores, tmp_path)
    line = words(stores, tmp_path / "run", *given)
    refused(capsys, fresh(line) if "vse" in given else line, code, sentence)
    assert not (tmp_path / "run").exists()


# Steps, warm-up, rate, clipping, micro-batches (GPUs x accumulation x halves), steps between validations.
PUBLISHED = {
    "uniter-flickr30k-base": (20_000, 2000, 5e-5, 2.0, 8 * 4, 2000),
    "uniter-flickr30k-base-hard": (5000, 500, 5e-5, 2.0, 16 * 8 * 2, 500),
    "uniter-flickr30k-large-hard": (5000, 500, 5e-5, 2.0, 16 * 8 * 2, 500),
    "uniter-coco-base-hard": (5000, 500, 5e-5, 2.0, 16 * 8 * 2, 500),
    "uniter-coco-large-hard": (5000, 500, 3e-5, 2.0, 16 * 8 * 2, 500),
    "iais-flickr30k-base": (5000, 500, 5e-5, 2.0, 8 * 8 * 2, 500),
    "iais-flickr30k-large": (5000, 500, 5e-5, 2.0, 8 * 8 * 2, 500),
    "iais-coco-base": (5000, 500, 5e-5, 2.0, 8 * 8 * 2, 500),
    "iais-coco-large": (5000, 500, 3e-5, 2.0, 8 * 8 * 2, 500),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_recipes_hold_the_published_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--recipe", name, "--print-config"]) == 0
    found = tomllib.loads(capsys.readouterr().out)
    training, data, options = found["training"], found["data"], found["options"]
    names = ("steps", "warmup", "learning_rate", "clip", "micro_batches", "validate_every")
    assert PUBLISHED[name] == tuple(training[one] for one in names)
    assert (data["min_score"], data["min_boxes"], data["max_boxes"], data["max_text_length"]) == (0.2, 10, 100, 60)
    assert (found["seed"], training["weight_decay"], options["margin"]) == (42, 0.01, 0.2)
    hard = name != "uniter-flickr30k-base"
    assert training["normalisation"] == ("global" if hard else "published")
    assert options["negatives"] == ("hard" if hard else "random")
    if hard:
        assert (options["candidates"], options["hard"], options["gather"]) == (399, 31, "correct")
    relations = options["relations"]
    assert (relations["iais"], relations["iais_weight"]) == (("singular", 8.0) if "iais" in name else ("off", 1.0))
