"""``vltk pretrain`` from stores to a receipt; what is wrong is one sentence, and the run folder stays as it was."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.running import ran, refused
from tests.small_pairs import (
    CLASSES,
    TOKENIZER,
    VOCABULARY,
    arguments,
    caption,
    picture,
    write_examples,
    write_features,
    write_pairs,
)
from tests.test_mixture import vcr_example
from vltk.cli import main
from vltk.models.uniter import UNITERConfig
from vltk.run_folder import file_sha256, read_about, read_weights
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.types import RegionFeatures

Stores = dict[str, Path]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    folder = tmp_path_factory.mktemp("stores")
    train, val = write_pairs(folder, "train", images=16), write_pairs(folder, "val", images=6)
    return {"train": train[0], "train-f": train[1], "val": val[0], "val-f": val[1]}


def words(stores: Stores, out: Path, *more: str) -> list[str]:
    return arguments(stores["train"], stores["train-f"], out, *more)


def measured(stores: Stores) -> list[str]:
    return ["--validation-examples", str(stores["val"]), "--validation-features", str(stores["val-f"])]


def test_a_run_ends_with_a_receipt(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    summary = ran(capsys, *words(stores, out, *measured(stores), "--seed", "3"))
    receipt = json.loads((out / "results.json").read_text())
    assert {name: receipt[name] for name in summary} == summary
    rows = {row["metric"]: row for row in receipt["metrics"]}
    assert set(rows) == {
        "mlm loss",
        "mlm accuracy",
        "itm loss",
        "itm accuracy",
        "mrfr loss",
        "mrckl loss",
        "mrckl accuracy",
    }
    matching = rows["itm accuracy"]
    low, high = matching["interval_95"]
    assert (matching["n"], matching["unit"], matching["higher_is_better"]) == (18, "fraction", True)
    assert 0 <= low <= matching["value"] <= high <= 1
    assert receipt["weights"]["last"] == file_sha256(out / "last" / "model.safetensors")
    assert receipt["inputs"]["examples train"] == ExampleStore.open(stores["train"]).content_hash
    assert receipt["inputs"]["features val-features.lmdb"] == FeatureStore.open(stores["val-f"]).content_hash
    assert (receipt["steps"], receipt["processes"], receipt["config"]["seed"]) == (6, 1, 3)
    assert receipt["peak"]["memory"] > 0 < receipt["seconds"]
    assert receipt["versions"].keys() >= {"vltk", "python", "torch"}
    size = read_about(out / "last" / "model.safetensors")["config"]
    assert (size["vocabulary"], size["region_dim"], size["region_classes"]) == (VOCABULARY, 6, CLASSES)
    assert sum(t.numel() for t in read_weights(out / "last").values()) == receipt["parameters"]


def test_a_finished_run_is_not_run_again(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = ran(capsys, *words(stores, tmp_path / "run"))
    again = ran(capsys, *words(stores, tmp_path / "run", "--resume", "must"))
    assert first["weights"] == again["weights"]
    assert first["figures"] == again["figures"]


def test_a_finished_run_says_as_much_of_its_validation_again(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(stores, tmp_path / "run", *measured(stores))
    first = ran(capsys, *given)["metrics"]
    assert any("interval_95" in row for row in first)
    assert ran(capsys, *given)["metrics"] == first
    # Killed between its last checkpoint and its receipt.
    (tmp_path / "run" / "results.json").unlink()
    journal = (tmp_path / "run" / "metrics.jsonl").read_text("utf-8")
    assert ran(capsys, *given)["metrics"] == first
    assert (tmp_path / "run" / "metrics.jsonl").read_text("utf-8") == journal


def test_the_stores_may_move_and_loading_processes_may_change(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ran(capsys, *words(stores, tmp_path / "a"))
    moved = {**stores, "train": tmp_path / "train.lmdb"}
    moved["train"].symlink_to(stores["train"])
    other = ran(capsys, *words(moved, tmp_path / "b", "--num-workers", "2"))
    assert other["weights"] == plain["weights"]
    assert ran(capsys, *words(moved, tmp_path / "a"))["weights"] == plain["weights"]


def test_another_command_does_not_go_on_with_a_run(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    ran(capsys, *words(stores, out))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = write_pairs(tmp_path, "train", seed=9)
    for line, sentence in (
        (words(stores, out, "--clip", "2"), "was begun with other settings (training.clip: 5.0 then, 2.0 now)"),
        (words(stores, out, "--resume", "never"), "holds a run; use another --out"),
        (arguments(*other, out), "was begun on other data (examples train, features train-features.lmdb)"),
    ):
        refused(capsys, line, 2, sentence)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert ran(capsys, *words(stores, out, "--clip", "2", "--overwrite"))["steps"] == 6


def test_the_plan_writes_nothing_and_says_what_a_run_costs(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*words(stores, tmp_path / "run"), "--micro-batches", "4", "--nproc", "2", "--dry-run"]
    audited = ["--audit-examples", str(stores["val"]), "--audit-examples", str(stores["train"])]
    plan = ran(capsys, *line, *audited, says="are trained on in train")
    assert not (tmp_path / "run").exists()
    assert (plan["steps"], plan["processes"], plan["micro_batches_per_process"]) == (6, 2, 2)
    assert plan["parameters"] > 5_000
    assert 0 < plan["tokens_per_step"] <= 4 * 128
    assert plan["largest_micro_batch"] <= 128
    assert plan["hours"] >= 0 < plan["seconds_per_step"]
    assert plan["memory"].keys() == {"weights", "training", "activations"}
    assert [row["share"] for row in plan["mixture"]] == ["33%", "33%", "17%", "17%"]
    assert plan["shared_images"] == [
        {
            "set": "train",
            "evaluation": "train.lmdb",
            "images": 16,
            "of": 16,
            "first": "train-0, train-1, train-2, train-3, train-4",
        }
    ]


def test_images_of_a_test_set_are_named_and_can_be_left_out(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = np.random.default_rng(0)
    test = write_examples(tmp_path / "test.lmdb", [caption("1", "train-3", dice), caption("2", "elsewhere", dice)])
    line = [*words(stores, tmp_path / "run", "--dry-run"), "--audit-examples", str(test)]
    assert main(line) == 0
    warning = capsys.readouterr().err
    assert "1 of 2 images of test.lmdb are trained on in train: train-3; leave them out with --exclude-exam" in warning
    plan = ran(capsys, *line, "--exclude-examples", str(test))
    assert plan["shared_images"] == []
    assert plan["mixture"][0]["images"] == 15


def test_weights_to_start_from(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = ran(capsys, *words(stores, tmp_path / "first"))
    start = ["--init", str(tmp_path / "first"), "--learning-rate", "0", "--objective", "itm=1"]
    second = ran(capsys, *words(stores, tmp_path / "second", *start))
    assert second["initialised"] == []
    ours, expected = read_weights(tmp_path / "second" / "last"), read_weights(tmp_path / "first" / "last")
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6)
    assert first["weights"].keys() == {"last"}


def test_the_second_stage_of_vcr_extends_what_it_starts_from(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(capsys, *words(stores, tmp_path / "first"))
    start = ["--init", str(tmp_path / "first"), "--types", "4", "--min-score", "0.5", "--min-boxes", "1"]
    summary = ran(capsys, *words(stores, tmp_path / "run", *second_stage(tmp_path), *start, "--objective", "mlm=1"))
    assert summary["initialised"] == ["types extended from 2 to 4"]
    assert sorted(summary["inputs"]) == ["examples vcr", "features detected.lmdb", "features given.lmdb"]


def without_features(stores: Stores, folder: Path) -> list[str]:
    more = [*ExampleStore.open(stores["train"]), caption("x", "gone", np.random.default_rng(0))]
    return ["--examples", str(write_examples(folder / "more.lmdb", more))]


def with_nan(stores: Stores, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    pictures = [replace(regions, features=regions.features.copy()) for regions in FeatureStore.open(stores["train-f"])]
    for regions in pictures:
        regions.features[0, 0] = np.nan
    with monkeypatch.context() as patch:  # what no writer lets through: a store of another program
        patch.setattr(RegionFeatures, "_check_arrays", lambda self: None)
        patch.setattr("vltk.stores.features.FeatureWriter._converted", lambda self, regions: regions.features)
        return ["--features", str(write_features(folder / "nan.lmdb", pictures))]


def of_another_detector(folder: Path, **changes: int) -> list[str]:
    dice = np.random.default_rng(0)
    pictures = [picture(f"val-{number}", dice, **changes) for number in range(6)]
    return ["--validation-features", str(write_features(folder / "other.lmdb", pictures))]


def of_another_vocabulary(stores: Stores, folder: Path) -> list[str]:
    tokenizer = replace(TOKENIZER, name="others", vocab_sha256="b" * 64)
    other = write_examples(folder / "words.lmdb", list(ExampleStore.open(stores["val"])), tokenizer)
    return ["--validation-examples", str(other), "--validation-features", str(stores["val-f"])]


def second_stage(folder: Path) -> list[str]:
    """Return what makes a run the second stage of VCR: annotated boxes first, then detected ones."""
    dice = np.random.default_rng(0)
    names = [str(number) for number in range(12)]
    told = [vcr_example(number, image_ids=(name,)) for number, name in enumerate(names)]
    examples = write_examples(folder / "vcr.lmdb", told)
    given = write_features(folder / "given.lmdb", [picture(name, dice) for name in names])
    detected = write_features(folder / "detected.lmdb", [picture(name, dice) for name in names])
    stores = ["--examples", str(examples), "--first-features", str(given), "--features", str(detected)]
    return [*stores, "--text-layout", "vcr"]


def of_another_size(folder: Path) -> list[str]:
    size = UNITERConfig(vocabulary=VOCABULARY, hidden=32, heads=2, layers=2, intermediate=64, positions=16)
    torch.save(size.build_for_pretraining().published_state(), folder / "large.pt")
    return ["--init", str(folder / "large.pt")]


Case = Callable[[Stores, Path, pytest.MonkeyPatch], list[str]]
BAD: dict[str, tuple[Case, int, str]] = {
    "an image without features": (
        lambda s, f, m: without_features(s, f),
        3,
        "more: 1 of 17 images have no features (gone); extract them, or exclude them with --exclude-images",
    ),
    "NaN in features": (with_nan, 3, "is not finite; extract it again, or exclude it with --exclude-images"),
    "a checkpoint of another size": (
        lambda s, f, m: of_another_size(f),
        3,
        "large.pt: is of another size: hidden 32 instead of 16, intermediate 64 instead of 32, region_classes 1601",
    ),
    "an empty mixture": (
        lambda s, f, m: ["--objective", "mlm=0"],
        2,
        "--objective: an empty mixture: no objective has a weight",
    ),
    "validation that is trained on": (
        lambda s, f, m: ["--validation-examples", str(s["train"])],
        3,
        "train: 16 images of train are trained on (train-0, train-1, train-2, ...)",
    ),
    "a model of nothing": (lambda s, f, m: ["--hidden", "0"], 2, "--hidden: 0 is too small; use 1 or more"),
    "a run of no process": (lambda s, f, m: ["--nproc", "0"], 2, "--nproc: 0 is too small; use 1 or more"),
    "an unknown objective": (lambda s, f, m: ["--objective", "mlmm=1"], 2, "no objective 'mlmm'; did you mean mlm?"),
    "a set that is not there": (lambda s, f, m: ["--objective", "coco:mlm=1"], 2, "no set 'coco'; known are train"),
    "features of another detector": (
        lambda s, f, m: ["--validation-examples", str(s["val"]), *of_another_detector(f, width=9)],
        3,
        "--features: features of sizes 6 (train) and 9 (val)",
    ),
    "no class distributions": (
        lambda s, f, m: ["--validation-examples", str(s["val"]), *of_another_detector(f, classes=0)],
        3,
        "region classification needs class distributions of one detector in every store",
    ),
    "another vocabulary": (lambda s, f, m: of_another_vocabulary(s, f), 3, "2 vocabularies (words, others)"),
    "too few positions": (lambda s, f, m: ["--positions", "4"], 2, "word pieces for a model of 4 positions"),
    "captions in the layout of VCR": (
        lambda s, f, m: ["--text-layout", "vcr"],
        3,
        "has no right answer and rationale among its 1 texts",
    ),
    "too few segments": (
        lambda s, f, m: second_stage(f),
        2,
        "--text-layout: a text layout of segments up to 3 for a model of 2; use --types 4",
    ),
    "a batch that holds nothing": (
        lambda s, f, m: ["--batch-tokens", "8"],
        3,
        "8 of which exceed 8; allow more tokens",
    ),
    "a probability above one": (lambda s, f, m: ["--mismatch", "1.5"], 2, "--mismatch: 1.5 is no probability"),
    "no step": (lambda s, f, m: ["--steps", "0"], 2, "--steps: 0 is too few"),
    "a long warm-up": (lambda s, f, m: ["--warmup", "9"], 2, "a warm-up of 9 updates in a run of 6"),
    "a missing store": (lambda s, f, m: ["--examples", str(f / "gone.lmdb")], 3, "gone.lmdb"),
    "stores that do not pair": (
        lambda s, f, m: ["--features", str(s["train-f"]), "--features", str(s["val-f"])],
        2,
        "--features: 2 feature stores for 1 example stores; give one for all sets or one for each",
    ),
    "half precision on a CPU": (lambda s, f, m: ["--precision", "fp16"], 2, "fp16 needs a GPU"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_one_sentence_before_anything_is_written(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    made, code, sentence = BAD[name]
    refused(capsys, words(stores, tmp_path / "run", *made(stores, tmp_path, monkeypatch)), code, sentence)
    assert not (tmp_path / "run").exists()


# What the published configurations say: steps, warm-up, rate, clipping, tokens, micro-batches (GPUs x accumulation),
# longest text, steps between validations, hidden size.
PUBLISHED = {
    "uniter-base": (200_000, 10_000, 5e-5, 5.0, 10_240, 8 * 6, 60, 5000, 768),
    "uniter-large": (500_000, 10_000, 5e-5, 5.0, 6144, 16 * 4, 60, 10_000, 1024),
    "uniter-base-indomain": (200_000, 10_000, 5e-5, 5.0, 10_240, 8 * 2, 60, 5000, 768),
    "uniter-vcr-base": (45_000, 4500, 3e-5, 0.0, 6144, 4 * 4, 220, 2000, 768),
    "uniter-vcr-large": (45_000, 4500, 3e-5, 0.0, 6144, 4 * 4, 220, 2000, 1024),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_recipes_hold_the_published_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--recipe", name, "--print-config"]) == 0
    found = tomllib.loads(capsys.readouterr().out)
    training, data, size = found["training"], found["data"], found["architecture"]
    assert PUBLISHED[name] == (
        training["steps"],
        training["warmup"],
        training["learning_rate"],
        training["clip"],
        data["batch_tokens"],
        training["micro_batches"],
        data["max_text_length"],
        training["validate_every"],
        size["hidden"],
    )
    assert (data["min_score"], data["min_boxes"], data["max_boxes"], found["seed"]) == (0.2, 10, 100, 42)
    assert (training["optimizer"], training["weight_decay"], size["dropout"]) == ("published", 0.01, 0.1)
    assert (training["normalisation"], data["batching"]) == ("published", "official")
    assert (size["layers"], size["heads"]) == ((24, 16) if size["hidden"] == 1024 else (12, 12))
    assert (size["types"], data["text_layout"]) == ((4, "vcr") if "vcr" in name else (2, "caption"))


def test_every_recipe_of_pre_training_resolves(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(__file__).resolve().parents[2] / "vltk" / "recipes"
    found = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in folder.glob("uniter-*.toml")}
    names = sorted(name for name, settings in found.items() if "task" not in settings)
    assert names == sorted([*PUBLISHED, "uniter-tiny"])
    for name in names:
        assert main(["pretrain", "--recipe", name, "--print-config"]) == 0
        assert f'recipe = "{name}"' in capsys.readouterr().out


def test_stores_with_and_without_a_background_class_do_not_mix(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = FeatureStore.open(stores["val-f"])
    with FeatureStore.create(tmp_path / "f.lmdb", FeatureMetadata(extra={"format": "uniter_img_db"})) as writer:
        for name in val.ids():
            writer.put(val.get(name))
    measured = ["--validation-examples", str(stores["val"]), "--validation-features", str(tmp_path / "f.lmdb")]
    line = words(stores, tmp_path / "run", "--objective", "mrc", *measured)
    refused(capsys, line, 3, "class distributions of val begin with the background, those of train have none")


def test_models_without_pretraining_are_not_offered(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words(stores, tmp_path / "run", "--model", "vsrn")
    refused(capsys, line, 2, "--model: there is no model 'vsrn'; known are ssrp, uniter")
