"""``vltk augment --images``: views of pictures and regions, as a user makes them."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from vltk.cli import main
from vltk.detection.views import PUBLISHED, ViewExtractor, find_view
from vltk.stores.feature_reader import FeatureReader
from vltk.stores.features import ChainedFeatures, FeatureStore

SMALL = ("--detector", "demo", "--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("views")
    assert main(["scenes", "--out", str(folder / "world"), "--images", "10", "--size", "96", "--quiet"]) == 0
    (folder / "few").mkdir()
    for path in sorted((folder / "world").rglob("*.png"))[:2] or sorted((folder / "world").rglob("*.jpg"))[:2]:
        Image.open(path).crop((0, 0, 96, 80)).save(folder / "few" / f"{path.stem}.png")
    named = ("--images", folder / "few", "--out", folder / "in.lmdb", "--max-boxes", "5")
    assert main(["extract-features", *map(str, named), *SMALL]) == 0
    return folder


def augment(world, *flags, out="views.lmdb"):
    named = ("--images", world / "few", "--features", world / "in.lmdb", "--out", world / out)
    return main(["augment", *map(str, (*named, *SMALL, *flags))])


def test_every_published_view_of_every_picture_is_in_the_store(world, capsys):
    assert augment(world, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    originals, views = (FeatureStore.open(world / name) for name in ("in.lmdb", "views.lmdb"))
    assert set(views.ids()) == {f"{image}@{view}" for image in originals.ids() for view in PUBLISHED}
    assert (summary["stored"], summary["failures"]) == (14, 0)
    assert views.metadata.extra["views"] == list(PUBLISHED)
    assert views.metadata.extra["views_of"] == originals.content_hash
    for image in originals.ids():
        original = originals.get(image)
        for name in PUBLISHED:
            found, view = views.get(f"{image}@{name}"), find_view(name)
            assert len(found) == len(original)
            expected = (
                view.kept(original.boxes, original.size) if view.regions_only else view.boxes(original.boxes, (96, 80))
            )
            np.testing.assert_allclose(found.boxes, expected, atol=1e-4)
    # Originals and views are read as one.
    both: FeatureReader = ChainedFeatures([originals, views])
    assert f"{originals.ids()[0]}@flip" in both
    assert originals.ids()[0] in both


def test_a_view_is_described_as_the_turned_picture_is(world):
    name = sorted((world / "few").glob("*.png"))[0].stem
    assert (
        augment(world, "--view", "rotate-90", "--view", "roi-rotate-90", "--dtype", "float32", out="turned.lmdb") == 0
    )
    turned, views = world / "turned", FeatureStore.open(world / "turned.lmdb")
    turned.mkdir()
    Image.open(world / "few" / f"{name}.png").transpose(Image.Transpose.ROTATE_90).save(turned / f"{name}.png")
    whole, regions = views.get(f"{name}@rotate-90"), views.get(f"{name}@roi-rotate-90")
    annotation = {"image": name, "boxes": whole.boxes.tolist()}
    entries = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1, "iscrowd": 0}
        for n, (x1, y1, x2, y2) in enumerate(annotation["boxes"])
    ]
    instances = {
        "images": [{"id": 1, "file_name": f"{name}.png", "width": 80, "height": 96}],
        "annotations": entries,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (world / "turned.json").write_text(json.dumps(instances))
    named = ("--images", turned, "--boxes", world / "turned.json", "--out", world / "direct.lmdb", "--dtype", "float32")
    assert main(["extract-features", *map(str, named), *SMALL]) == 0
    direct = FeatureStore.open(world / "direct.lmdb").get(name)
    np.testing.assert_allclose(whole.features, direct.features, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(whole.features, regions.features)
    assert (whole.size, regions.size) == ((80, 96), (96, 80))


def test_killed_work_resumes_to_the_same_store(world, monkeypatch, capsys):
    flags = ("--chunk-size", 3, "--num-workers", 0)
    whole, calls = ViewExtractor.extract, []

    def dies_at_the_fifth(self, images):
        calls.append(images[0].image_id)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, images)

    monkeypatch.setattr(ViewExtractor, "extract", dies_at_the_fifth)
    assert augment(world, *flags, out="killed.lmdb") == 75
    assert "the same command goes on from there" in capsys.readouterr().err
    assert augment(world, *flags, out="killed.lmdb") == 0
    assert len(calls) == len(set(calls)) == 14
    assert augment(world, out="straight.lmdb") == 0
    resumed, straight = (FeatureStore.open(world / name) for name in ("killed.lmdb", "straight.lmdb"))
    assert resumed.content_hash == straight.content_hash


def test_a_dry_run_counts_and_writes_nothing(world, capsys):
    assert augment(world, "--dry-run", "--view", "flip", "--json", out="none.lmdb") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["pictures"], plan["views"], plan["records"], plan["done already"]) == (2, ["flip"], 2, 0)
    assert not (world / "none.lmdb").exists()


def test_pictures_that_are_not_those_of_the_store_are_refused(world, tmp_path, capsys):
    Image.new("RGB", (20, 20)).save(tmp_path / "other.png")
    assert augment(world, "--images", tmp_path, out="none.lmdb") == 3
    assert "none of its 1 pictures is in" in capsys.readouterr().err
    name = FeatureStore.open(world / "in.lmdb").ids()[0]
    (tmp_path / "other.png").rename(tmp_path / f"{name}.png")
    assert augment(world, "--images", tmp_path, "--view", "flip", out="none.lmdb") == 3
    assert "first: is 20 x 20, the store knows it as 96 x 80; give the pictures" in capsys.readouterr().err


def test_features_of_another_detector_are_refused(world, capsys):
    from dataclasses import replace

    originals = FeatureStore.open(world / "in.lmdb")
    with FeatureStore.create(world / "foreign.lmdb", replace(originals.metadata, weights_hash="a" * 64)) as writer:
        for regions in originals:
            writer.put(regions)
    assert augment(world, "--features", world / "foreign.lmdb", out="none.lmdb") == 3
    assert "(weights aaaaaaaaaaaa), not by faster-rcnn-" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--view", "flap"), "there is no view 'flap'; did you mean flip?"),
        (("--conllu", "x"), "--pivot, --parser, --conllu, --grammar: goes with --examples"),
        (("--examples", "x"), "--examples, --images: give one of them"),
        (("--detector", "faster-rcnn"), "faster-rcnn needs weights"),
    ],
)
def test_options_that_do_not_fit_are_refused(world, capsys, flags, sentence):
    assert augment(world, *flags, out="none.lmdb") == 2
    assert sentence in capsys.readouterr().err


def test_views_need_the_store_of_the_originals(world, capsys):
    assert main(["augment", "--images", str(world / "few"), "--out", str(world / "none.lmdb")]) == 2
    assert (
        "--images, --features: views need the pictures and the store with their boxes; give both"
        in capsys.readouterr().err
    )
