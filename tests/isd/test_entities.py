"""The test split of Flickr30k Entities: both layouts lead to the same objects, and photographs to figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.small_pairs import write_features
from vltk.cli import main
from vltk.commands._given_boxes import read_boxes
from vltk.detection.extraction import Extraction
from vltk.detection.faster_rcnn import FasterRCNNConfig
from vltk.detection.images import list_images
from vltk.detection.loading import Loading
from vltk.detection.presets import PRESETS
from vltk.detection.region_extractors import GivenRegions
from vltk.isd.survey import survey
from vltk.models._checkpoints import about_weights
from vltk.models.uniter import UNITERConfig
from vltk.run_folder import write_checkpoint
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.types import RegionFeatures

SIZE = UNITERConfig(
    vocabulary=30522, hidden=32, layers=2, heads=4, intermediate=64, positions=128, region_dim=2048, region_classes=3
)


def photographs(shared: Path) -> list[str]:
    return sorted(path.stem for path in (shared / "data/flickr30k_entities/flickr30k-images").glob("*.jpg"))


def prepare(shared: Path, out: Path, features: Path, *source: str | Path) -> ExampleStore:
    words = ["prepare", "--task", "flickr30k", *map(str, source), "--out", str(out), "--quiet"]
    vocabulary = str(shared / "data/bert_vocab/vocab.txt")
    assert main([*words, "--tokenizer", vocabulary, "--features", str(features), "--missing-images", "skip"]) == 0
    return ExampleStore.open(out)


def layouts(shared: Path) -> dict[str, tuple[str | Path, ...]]:
    data = shared / "data/flickr30k_entities"
    return {
        "original": ("--entities", data / "derived_from_phraseloceval"),
        "phraseloceval": (
            *("--phrases", data / "phraseloceval/annotation_test.json"),
            *("--phrase-captions", data / "captions/test.json"),
        ),
    }


def model(folder: Path) -> Path:
    torch.manual_seed(0)
    weights = {name: tensor * 4 for name, tensor in SIZE.build_for_pretraining().state_dict().items()}
    write_checkpoint(folder, weights, {"step": 0}, about=about_weights(SIZE))
    return folder


def test_both_layouts_of_the_real_split_lead_to_the_same_objects(shared: Path, tmp_path: Path) -> None:
    """Features are drawn; the boxes, chains and captions of the photographs' pictures are the published ones."""
    given = read_boxes([shared / "data/flickr30k_entities/derived_from_phraseloceval/Annotations"], "auto")
    dice = np.random.default_rng(0)
    names = photographs(shared)
    pictures = [
        RegionFeatures(
            image_id=name,
            features=dice.normal(size=(len(given[name].boxes), 4)).astype(np.float16),
            boxes=given[name].boxes,
            size=(2000, 2000),
            region_ids=given[name].region_ids,
        )
        for name in names
    ]
    path = write_features(tmp_path / "boxes.lmdb", pictures)
    anonymous = write_features(tmp_path / "anonymous.lmdb", [replace(one, region_ids=None) for one in pictures])
    found = {}
    for layout, source in layouts(shared).items():
        examples = prepare(shared, tmp_path / f"{layout}.lmdb", path, *source)
        named, unnamed = (survey(examples, FeatureStore.open(one)) for one in (path, anonymous))
        found[layout] = {item.id: item.objects for item in named.items}
        by_box = {item.id: item.objects for item in unnamed.items}
        assert {name: one.words for name, one in found[layout].items()} == {
            name: one.words for name, one in by_box.items() if name in found[layout]
        }
        # Where two chains have one box in the annotation, a box alone finds the regions of both.
        for name, one in found[layout].items():
            assert all(set(a) <= set(b) for a, b in zip(one.regions, by_box[name].regions, strict=True))
    assert len(found["original"]) > 100
    assert found["original"] == found["phraseloceval"]


@pytest.mark.slow
def test_photographs_go_through_the_full_size_detector_to_figures(shared: Path, tmp_path: Path) -> None:
    """A test of the path alone: detector and encoder have random weights, so that the figures mean nothing."""
    data = shared / "data/flickr30k_entities"
    files = list_images(data / "flickr30k-images").files
    torch.manual_seed(0)
    network = FasterRCNNConfig().build().for_inference("bf16")
    given = read_boxes([data / "derived_from_phraseloceval/Annotations"], "auto")
    given = {name: given[name] for name in photographs(shared)}
    extractor = GivenRegions(network, PRESETS["butd-36"], given, weights_hash="random")
    metadata = extractor.provenance.metadata(precision="bf16")
    loading = Loading(num_workers=0)
    with Extraction(files, extractor, tmp_path / "boxes.lmdb", metadata=metadata, loading=loading) as extraction:
        extraction.extract()
        assert extraction.finish().failures == ()
    encoder = model(tmp_path / "model")
    figures = []
    for layout, source in layouts(shared).items():
        prepare(shared, tmp_path / f"{layout}.lmdb", tmp_path / "boxes.lmdb", *source)
        stores = ("--examples", tmp_path / f"{layout}.lmdb", "--features", tmp_path / "boxes.lmdb")
        assert main(["isd", *map(str, (encoder, *stores, "--out", tmp_path / layout)), "--quiet"]) == 0
        figures.append(json.loads((tmp_path / layout / "results.json").read_text()))
    for results in figures:
        assert results["images"] == len(photographs(shared))
        assert [row["metric"] for row in results["metrics"]] == ["ISDa", "L(s)", "L(d)"]
        assert all(np.isfinite(row["value"]) and row["value"] > 0 for row in results["metrics"])
    # The captions stand in another order, so that others are encoded together.
    values = [[row["value"] for row in results["metrics"]] for results in figures]
    np.testing.assert_allclose(*values, rtol=1e-2)
    assert figures[0]["captions"] == figures[1]["captions"]
