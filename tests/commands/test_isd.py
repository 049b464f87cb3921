"""What `vltk isd` refuses, each with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.small_pairs import TOKENIZER, WIDTH, picture, write_examples, write_features, write_pairs
from tests.small_relations import annotated_caption, write_annotated, write_model, write_run
from vltk.cli import main
from vltk.run_folder import write_checkpoint
from vltk.stores.examples import ExampleStore
from vltk.types import RegionFeatures


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relations")
    write_annotated(folder)
    write_model(folder / "model")
    write_pairs(folder, "plain")
    return folder


Refused = Callable[..., str]


@pytest.fixture
def refused(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run the command, expect its exit code, and return the one sentence that it says."""

    def call(code: int, *more: object, model: Path | str | None = None) -> str:
        given = {"--examples": made / "examples.lmdb", "--features": made / "features.lmdb", "--out": tmp_path / "out"}
        flags = [word for flag, value in given.items() if flag not in more for word in (flag, str(value))]
        words = ["isd", str(model or made / "model"), *flags, "--device", "cpu", "--quiet", *map(str, more)]
        assert main(words) == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert not (tmp_path / "out" / "results.json").exists()
        return error

    return call


def test_examples_without_phrases(refused: Refused, made: Path) -> None:
    said = refused(3, "--examples", made / "plain.lmdb", "--features", made / "plain-features.lmdb")
    assert "plain.lmdb: none of 36 examples has a phrase" in said
    assert "--surrogates-only" in said


def test_detected_regions_in_place_of_annotated_boxes(refused: Refused, tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    detected = write_features(tmp_path / "detected.lmdb", [picture(f"p{number}", dice) for number in range(6)])
    said = refused(3, "--features", detected)
    assert "holds no region of any of" in said
    assert "vltk extract-features --boxes" in said


def test_pictures_without_features(refused: Refused, made: Path, tmp_path: Path) -> None:
    said = refused(3, "--features", made / "plain-features.lmdb")
    assert "lacks 6 images (p0, p1, p2, ...)" in said
    assert "--missing-images skip" in said
    said = refused(3, "--features", made / "plain-features.lmdb", "--missing-images", "skip")
    assert "lacks 6 images" in said, "none is left, which is no reason to go on"


def test_some_pictures_can_be_left_out(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dice = np.random.default_rng(2)
    more = [annotated_caption("other#0", "other", dice, 3), *ExampleStore.open(made / "examples.lmdb")]
    path = write_examples(tmp_path / "more.lmdb", more)
    words = ["isd", str(made / "model"), "--examples", str(path), "--features", str(made / "features.lmdb")]
    assert main([*words, "--out", str(tmp_path / "out"), "--missing-images", "skip", "--device", "cpu"]) == 0
    assert "no features of the picture  1" in capsys.readouterr().out


def test_captions_of_one_object(refused: Refused, made: Path, tmp_path: Path) -> None:
    captions = [replace(one, phrases=one.phrases[1:2]) for one in ExampleStore.open(made / "examples.lmdb")]
    said = refused(3, "--examples", write_examples(tmp_path / "single.lmdb", captions))
    assert "nothing can be measured (fewer than 2 objects: 18)" in said


def test_examples_without_word_pieces(refused: Refused, made: Path, tmp_path: Path) -> None:
    captions = [replace(one, tokens=()) for one in ExampleStore.open(made / "examples.lmdb")]
    said = refused(3, "--examples", write_examples(tmp_path / "raw.lmdb", captions, None))
    assert "example p0#0: has no word pieces" in said


def test_another_vocabulary(refused: Refused, tmp_path: Path) -> None:
    examples, _ = write_annotated(tmp_path, tokenizer=replace(TOKENIZER, vocab_size=41))
    said = refused(3, "--examples", examples)
    assert "has a vocabulary of 41 word pieces, the model one of 40" in said


def test_features_of_another_size(refused: Refused, made: Path, tmp_path: Path) -> None:
    wide = [
        RegionFeatures(
            image_id=f"p{number}",
            features=np.ones((4, WIDTH + 1), np.float16),
            boxes=np.array([[0, 0, 9, k + 1] for k in range(4)], np.float32),
            size=(10, 10),
            region_ids=("0", "1", "2", "3"),
        )
        for number in range(6)
    ]
    said = refused(3, "--features", write_features(tmp_path / "wide.lmdb", wide))
    assert f"features of size {WIDTH + 1}, the model takes {WIDTH}" in said


def test_features_of_another_detector(refused: Refused, made: Path, tmp_path: Path) -> None:
    trained_on = {"trained_on": {"weights_hash": "f" * 64, "preset": "butd-36"}}
    said = refused(3, model=write_model(tmp_path / "model", about=trained_on))
    assert "the features have weights hash '', the run was trained on 'fff" in said
    words = ["isd", str(tmp_path / "model"), "--examples", str(made / "examples.lmdb"), "--quiet"]
    stores = ["--features", str(made / "features.lmdb"), "--out", str(tmp_path / "allowed")]
    assert main([*words, *stores, "--other-features", "allow"]) == 0


def test_weights_that_are_no_numbers(refused: Refused, tmp_path: Path) -> None:
    said = refused(3, model=write_model(tmp_path / "broken", broken=True))
    assert "example p" in said
    assert "an attention score is no finite number" in said


def test_a_model_whose_sides_do_not_meet(refused: Refused, tmp_path: Path) -> None:
    about = {"model": "vse", "config": {}}
    write_checkpoint(tmp_path / "dual", {"image.weight": torch.zeros(2, 2)}, {"step": 0}, about=about)
    said = refused(2, model=tmp_path / "dual")
    assert "is a vse, in which words and regions do not attend to each other" in said


@pytest.mark.parametrize(("layer", "said"), [("3", "layer 3 of 3"), ("-4", "layer -4 of 3")])
def test_a_layer_that_is_not_there(refused: Refused, layer: str, said: str) -> None:
    assert said in refused(2, "--layer", layer)


def test_a_model_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    assert "is not there" in refused(3, model=tmp_path / "absent")
    assert "cannot be had" in refused(4, "--offline", "--cache-dir", tmp_path, model="nobody/nothing")


def test_curves_need_checkpoints_and_a_quality(refused: Refused, made: Path, tmp_path: Path) -> None:
    assert "train with --keep-every N" in refused(3, "--curve")
    run = write_run(tmp_path / "run")
    said = refused(2, "--curve", "--quality", "rsun", model=run)
    assert "has a figure 'rsun'" in said
    assert "did you mean rsum?" in said
    assert "does nothing without --curve" in refused(2, "--quality", "rsum")


def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("runs/gone", "gone.safetensors"):
        assert f"{name}: is not there; give a run, a checkpoint" in refused(3, model=name)


def test_numbers_that_make_no_sense(refused: Refused) -> None:
    assert "-1 is too small" in refused(2, "--shuffles", "-1")
    assert "--batch-tokens" in refused(3, "--batch-tokens", "5")
