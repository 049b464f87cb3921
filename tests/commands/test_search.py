"""``vltk search``: exact, kept between calls, honest about what fits, and a page without dependencies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tests.small_pairs import WIDTH, write_pairs
from vltk.cli import main
from vltk.evaluator.search import nearest
from vltk.language.tokenization import SPECIAL_TOKENS, write_vocabulary
from vltk.models._dual_checkpoints import write_own
from vltk.models._vse_checkpoints import describe
from vltk.models.vse import VSE, VSEConfig
from vltk.stores.embedding_files import read_embeddings
from vltk.stores.features import FeatureStore

WORDS = [*SPECIAL_TOKENS, "a", "dog", "cat", "runs"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model file, a store of its pictures' features, a vocabulary, and pictures."""
    write_pairs(tmp_path, "train", images=9)
    torch.manual_seed(0)
    model = VSEConfig(text="bigru", hidden=8, word_dim=4, region_dim=WIDTH, vocabulary=len(WORDS)).build()
    write_own(tmp_path / "vse.safetensors", model.state_dict(), describe(model))
    write_vocabulary(tmp_path / "vocab.txt", WORDS)
    (tmp_path / "pictures").mkdir()
    for number in range(9):
        Image.new("RGB", (40, 30), (number * 20, 0, 99)).save(tmp_path / "pictures" / f"train-{number}.jpg")
    return tmp_path


def given(folder: Path, *more: str) -> list[str]:
    return ["search", str(folder / "vse.safetensors"), "--features", str(folder / "train-features.lmdb"),
            "--tokenizer", str(folder / "vocab.txt"), "--device", "cpu", "--json", "-q", *more]  # fmt: skip


def found(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> dict[str, Any]:
    assert main(given(folder, *more)) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def plain_scores(folder: Path, ids: list[int]) -> dict[str, float]:
    """Score every picture alone against the text, with the model and nothing else."""
    from vltk.batching import collate_regions, collate_texts
    from vltk.models._dual_checkpoints import load_dual

    model: VSE = load_dual(folder / "vse.safetensors").model
    store = FeatureStore.open(folder / "train-features.lmdb")
    with torch.no_grad():
        text = model.embed_texts(collate_texts(["x"], [ids]))
        return {
            name: float(text[0] @ model.embed_images(collate_regions([name], [store.get(name)]).to("cpu"))[0])
            for name in store.ids()
        }


def test_a_text_finds_the_pictures_that_score_highest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = found(capsys, folder, "--text", "a dog runs", "--top", "4")["found"]
    scores = plain_scores(folder, [2, 5, 6, 8, 3])
    best = sorted(scores, key=lambda name: -scores[name])[:4]
    assert [row["image"] for row in rows] == best
    np.testing.assert_allclose([row["score"] for row in rows], [scores[name] for name in best], rtol=1e-4)


def test_a_picture_finds_itself_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(folder / "pictures" / "train-3.jpg")
    rows = found(capsys, folder, "--image", "train-5", "--image", file, "--top", "2")["found"]
    assert [(row["query"], row["image"]) for row in rows if row["rank"] == 1] == [
        ("like train-5", "train-5"), ("like train-3", "train-3")]  # fmt: skip


def test_a_file_that_is_not_in_the_store_is_looked_at_by_its_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, store = tmp_path / "pictures", tmp_path / "features.lmdb"
    pictures.mkdir()
    for number in range(3):
        picture = Image.new("RGB", (160, 120), (230, 230, 240))
        ImageDraw.Draw(picture).rectangle((20 + 20 * number, 30, 70 + 20 * number, 80), fill=(200, 60 * number, 40))
        picture.save(pictures / f"{number}.png")
    looked = ["--images", str(pictures), "--out", str(store), "--detector", "demo", "--num-workers", "0", "-q"]
    assert main(["extract-features", *looked, "--dtype", "float32"]) == 0
    model = VSEConfig(text="bigru", hidden=8, word_dim=4, region_dim=256, vocabulary=9).build()
    write_own(tmp_path / "vse.safetensors", model.state_dict(), describe(model))
    (tmp_path / "elsewhere").mkdir()
    mine = tmp_path / "elsewhere" / "mine.png"
    mine.write_bytes((pictures / "1.png").read_bytes())
    search = ["search", str(tmp_path / "vse.safetensors"), "--features", str(store), "--device", "cpu", "--json", "-q"]
    capsys.readouterr()
    assert main([*search, "--image", "2", "--image", str(mine), "--detector", "demo", "--top", "1"]) == 0
    rows = json.loads(capsys.readouterr().out)["found"]
    assert [(row["query"], row["image"]) for row in rows] == [("like 2", "2"), ("like mine", "1")]
    assert rows[1]["score"] == pytest.approx(1, abs=1e-5)
    assert main([*search, "--image", str(mine)]) == 2
    assert "mine.png is no picture of the store, and no detector is named to look at it" in capsys.readouterr().err
    (tmp_path / "elsewhere" / "text.png").write_text("no picture")
    assert main([*search, "--image", str(tmp_path / "elsewhere" / "text.png"), "--detector", "demo"]) == 3
    assert "text.png" in capsys.readouterr().err


def test_a_store_of_another_detector_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = folder / "mine.jpg"
    Image.new("RGB", (40, 30)).save(mine)
    assert main(given(folder, "--image", str(mine), "--detector", "demo", "--preset", "demo")) == 3
    assert "give the detector and weights that made it" in capsys.readouterr().err


def test_words_that_the_run_does_not_know_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud = [word for word in given(folder, "--text", "a zebra runs", "--text", "a dog") if word != "-q"]
    assert main(loud) == 0
    told = capsys.readouterr().err
    assert "'a zebra runs': 1 of its 3 words are unknown to the run" in told
    assert "'a dog'" not in told


def test_embeddings_are_kept_and_made_anew_for_another_model(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(folder / "kept")
    first = found(capsys, folder, "--text", "a dog", "--embeddings", name)
    with monkeypatch.context() as patch:
        patch.setattr(VSE, "embed_images", None)
        again = found(capsys, folder, "--text", "a dog", "--embeddings", name, "--overwrite")
        assert again["found"] == first["found"]
    model = VSEConfig(text="bigru", hidden=8, word_dim=4, region_dim=WIDTH, vocabulary=len(WORDS)).build()
    write_own(folder / "vse.safetensors", model.state_dict(), describe(model))
    assert found(capsys, folder, "--text", "a dog", "--embeddings", name)["found"] != first["found"]
    assert read_embeddings(folder / "kept").vectors.shape == (9, 8)


def test_the_page_needs_no_other_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = folder / "page.html"
    more = ["--text", "a <b>dog</b>", "--html", str(page), "--pictures", str(folder / "pictures")]
    (folder / "pictures" / "train-0.jpg").write_bytes(b"broken")
    found(capsys, folder, *more)
    content = page.read_text()
    assert "a &lt;b&gt;dog&lt;/b&gt;" in content
    assert content.count("data:image/jpeg;base64,") == 8
    assert content.count("no picture") == 1
    assert "http" not in content
    assert "<script" not in content
    assert main(given(folder, *more)) == 2
    assert "add --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "problem"),
    [
        ([], 2, "there is nothing to look for"),
        (["--text", "dog", "--top", "0"], 2, "0 is too few"),
        (["--image", "nowhere"], 3, "holds no picture 'nowhere'; its ids look like 'train-0'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    more: list[str], code: int, problem: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given(folder, *more)) == code
    assert problem in capsys.readouterr().err


def test_another_vocabulary_or_model_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_vocabulary(folder / "vocab.txt", [*WORDS, "more"])
    assert main(given(folder, "--text", "dog")) == 3
    assert "is not the vocabulary of the run (10 words, 9 there)" in capsys.readouterr().err
    write_own(folder / "vse.safetensors", {"a": torch.ones(1)}, {"model": "uniter", "config": {}})
    assert main(given(folder, "--text", "dog")) == 3
    assert "holds a uniter, which does not embed the sides apart" in capsys.readouterr().err


def test_nearest_equals_sorting_all_scores_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vltk.evaluator.search._BLOCK", 7)
    dice = np.random.default_rng(0)
    queries, vectors = (dice.integers(-2, 3, (count, 3)).astype(np.float32) for count in (4, 50))
    places, scores = nearest(queries, vectors, k=11)
    every = queries @ vectors.T
    expected = np.argsort(-every, axis=1, kind="stable")[:, :11]
    assert np.array_equal(places, expected)
    assert np.array_equal(scores, np.take_along_axis(every, expected, axis=1))
    assert nearest(queries, vectors[:3], k=11)[0].shape == (4, 3)
