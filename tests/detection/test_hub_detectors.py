"""Detectors of transformers, one tiny random network a family, against their own published post-processing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertModel,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    DFineConfig,
    DFineForObjectDetection,
    HGNetV2Config,
    PreTrainedModel,
    ResNetConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
)

from vltk.detection.extractor import Picture
from vltk.detection.hub_detectors import HubDetector, QuerySelection
from vltk.errors import DataError, OfflineError, UsageError

CLASSES = 5
STAGES = ["stage2", "stage3", "stage4"]
QUERY_DECODER = {
    "d_model": 32,
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [32, 64, 128],
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_in_channels": [32] * 3,
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_queries": 12,
    "num_denoising": 0,
    "num_labels": CLASSES,
}


def rt_detr() -> PreTrainedModel:
    backbone = RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 64, 128], depths=[1] * 4, layer_type="basic", out_features=STAGES
    )
    return RTDetrForObjectDetection(RTDetrConfig(backbone_config=backbone, **QUERY_DECODER))


def d_fine() -> PreTrainedModel:
    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 32, 64],
        stage_mid_channels=[8, 8, 16, 16],
        stage_out_channels=[16, 32, 64, 128],
        stage_num_blocks=[1] * 4,
        stage_numb_of_layers=[1] * 4,
        hidden_sizes=[16, 32, 64, 128],
        depths=[1] * 4,
        out_features=STAGES,
    )
    return DFineForObjectDetection(DFineConfig(backbone_config=backbone, **QUERY_DECODER))


def yolos() -> PreTrainedModel:
    return YolosForObjectDetection(
        YolosConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=[48, 64],
            num_detection_tokens=10,
            num_labels=CLASSES,
        )
    )


def detr() -> PreTrainedModel:
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 32, 64], depths=[1] * 4, out_features=["stage4"])
    return DetrForObjectDetection(
        DetrConfig(
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            backbone=None,
            backbone_config=backbone,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_queries=9,
            num_labels=CLASSES,
        )
    )


SQUARE, EDGES = {"height": 64, "width": 64}, {"shortest_edge": 48, "longest_edge": 96}
FAMILIES: dict[str, tuple[Callable[[], PreTrainedModel], Callable[[], object], int]] = {
    "rt_detr": (rt_detr, lambda: RTDetrImageProcessor(size=SQUARE), 12),
    "d_fine": (d_fine, lambda: RTDetrImageProcessor(size=SQUARE), 12),
    "yolos": (yolos, lambda: YolosImageProcessor(size=EDGES), 10),
    "detr": (detr, lambda: DetrImageProcessor(size=EDGES), 9),
}
ALL = QuerySelection(score_threshold=0.0, min_boxes=0, max_boxes=100)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder a family, as ``save_pretrained`` writes it."""
    made = {}
    for name, (model, processor, _) in FAMILIES.items():
        torch.manual_seed(0)
        made[name] = tmp_path_factory.mktemp(name)
        model().save_pretrained(made[name])
        processor().save_pretrained(made[name])
    return made


def pictures(count: int, height: int = 50, width: int = 70) -> list[Picture]:
    random = np.random.default_rng(0)
    return [
        Picture(image_id=str(i), pixels=random.integers(0, 256, (height, width, 3)).astype(np.uint8))
        for i in range(count)
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_regions_are_the_queries_of_the_published_network(folders: dict[str, Path], family: str) -> None:
    detector = HubDetector.load(str(folders[family]), selection=ALL)
    (picture,) = pictures(1)
    prepared = detector.prepare(picture)
    (regions,) = detector.extract([prepared])
    with torch.no_grad():
        output = detector.model(pixel_values=prepared.input[None])
    published = detector.processor.post_process_object_detection(
        output, threshold=0.0, target_sizes=torch.tensor([[50, 70]])
    )[0]
    queries = FAMILIES[family][2]
    assert regions.features.shape == (queries, 32)
    assert (regions.size, regions.class_probs.shape) == ((70, 50), (queries, CLASSES))
    # RT-DETR and D-FINE list (query, class) pairs: the best pair of all is the best class of the best query.
    best = int(published["scores"].argmax())
    assert regions.scores[0] == pytest.approx(float(published["scores"][best]), abs=1e-6)
    assert regions.class_ids[0] == int(published["labels"][best])
    expected = published["boxes"][best].clamp(min=0).minimum(torch.tensor([70.0, 50.0] * 2))
    assert np.allclose(regions.boxes[0], expected.numpy(), atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_the_hidden_states_that_the_class_head_reads(folders: dict[str, Path], family: str) -> None:
    detector = HubDetector.load(str(folders[family]), selection=ALL)
    prepared = detector.prepare(pictures(1)[0])
    (regions,) = detector.extract([prepared])
    heads = {
        "rt_detr": lambda m: m.model.decoder.class_embed[-1],
        "d_fine": lambda m: m.model.decoder.class_embed[-1],
        "yolos": lambda m: m.class_labels_classifier,
        "detr": lambda m: m.class_labels_classifier,
    }
    with torch.no_grad():
        logits = heads[family](detector.model)(torch.from_numpy(regions.features))
    if family in ("rt_detr", "d_fine"):
        scores = logits.sigmoid()
        distribution, confidence = scores / scores.sum(dim=1, keepdim=True), scores.amax(dim=1)
    else:
        probabilities = logits.softmax(dim=1)[:, :CLASSES]
        distribution, confidence = probabilities / probabilities.sum(dim=1, keepdim=True), probabilities.amax(dim=1)
    assert np.allclose(regions.class_probs, distribution.numpy(), atol=1e-5)
    assert np.allclose(regions.scores, confidence.numpy(), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_does_not_depend_on_the_others_of_its_batch(folders: dict[str, Path], family: str) -> None:
    detector = HubDetector.load(str(folders[family]), selection=ALL)
    prepared = [detector.prepare(picture) for picture in pictures(4)]
    together = detector.extract(prepared)
    for alone, batched in zip([detector.extract([one])[0] for one in prepared], together, strict=True):
        assert np.allclose(alone.features, batched.features, atol=1e-4)
        assert np.allclose(alone.boxes, batched.boxes, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_stays_near_fp32(folders: dict[str, Path], family: str) -> None:
    prepared = HubDetector.load(str(folders[family])).prepare(pictures(1)[0])
    exact, rough = (
        HubDetector.load(str(folders[family]), selection=ALL, precision=precision).extract([prepared])[0]
        for precision in ("fp32", "bf16")
    )
    assert exact.features.dtype == rough.features.dtype == np.float32
    assert 0 < abs(exact.scores.mean() - rough.scores.mean()) < 0.05


def test_provenance_tells_weights_and_settings_apart(folders: dict[str, Path]) -> None:
    base = HubDetector.load(str(folders["detr"])).provenance
    again = HubDetector.load(str(folders["detr"])).provenance
    fewer = HubDetector.load(str(folders["detr"]), selection=ALL).provenance
    assert base == again
    assert (base.detector, base.labels) == ("hf:detr", tuple(f"LABEL_{i}" for i in range(CLASSES)))
    assert (fewer.weights_hash, fewer.preset_hash == base.preset_hash) == (base.weights_hash, False)
    torch.manual_seed(1)
    other = HubDetector(detr(), DetrImageProcessor(size=EDGES)).provenance
    assert other.weights_hash != base.weights_hash


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.19, 0.2, 0.5, 0.9]), min_size=1, max_size=12),
    low=st.integers(0, 6),
    more=st.integers(0, 6),
)
def test_selection_keeps_confident_queries_within_the_limits(scores: list[float], low: int, more: int) -> None:
    selection = QuerySelection(score_threshold=0.2, min_boxes=low, max_boxes=max(low + more, 1))
    rows = selection.rows(torch.tensor(scores, dtype=torch.float64)).tolist()
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    confident = sum(score >= 0.2 for score in scores)
    assert rows == ranked[: min(max(confident, low), max(low + more, 1))]


def test_selection_limits_must_fit() -> None:
    with pytest.raises(UsageError, match="min_boxes 5 and max_boxes 4; give 0 <= min_boxes <= max_boxes"):
        QuerySelection(min_boxes=5, max_boxes=4)


def test_far_from_every_class_the_distribution_is_still_one(folders: dict[str, Path]) -> None:
    detector = HubDetector.load(str(folders["rt_detr"]), selection=ALL)
    with torch.no_grad():
        for head in detector.model.model.decoder.class_embed:
            head.bias.fill_(-200.0)
    (regions,) = detector.extract([detector.prepare(pictures(1)[0])])
    assert np.allclose(regions.class_probs.sum(axis=1), 1.0)


def test_offline_and_absent_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"hf:nobody/nothing: cannot be had .*; download it once") as caught:
        HubDetector.load("nobody/nothing", offline=True, cache_dir=tmp_path)
    assert caught.value.exit_code == 4


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'/no/such/folder' is neither a folder nor a hub id"):
        HubDetector.load("/no/such/folder")
    with pytest.raises(DataError, match=f"{tmp_path}: holds no config.json"):
        HubDetector.load(str(tmp_path))


def test_another_kind_of_network_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)).save_pretrained(
        tmp_path
    )
    (tmp_path / "preprocessor_config.json").write_bytes((folders["detr"] / "preprocessor_config.json").read_bytes())
    with pytest.raises(UsageError, match=r"is no object detector .*AutoModelForObjectDetection"):
        HubDetector.load(str(tmp_path))


def test_a_folder_without_weights_or_processor_is_incomplete(tmp_path: Path, folders: dict[str, Path]) -> None:
    (tmp_path / "config.json").write_bytes((folders["detr"] / "config.json").read_bytes())
    with pytest.raises(DataError, match=r"is incomplete .*preprocessor_config\.json"):
        HubDetector.load(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_bytes((folders["detr"] / "preprocessor_config.json").read_bytes())
    with pytest.raises(DataError, match=r"is incomplete .*model\.safetensors"):
        HubDetector.load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"num_queries": 11}, "has 1 mismatched keys, first model.query_position_embeddings.weight"),
        ({"decoder_layers": 2}, r"has \d+ missing keys, first model.decoder.layers.1"),
    ],
)
def test_weights_of_another_configuration_are_named(
    tmp_path: Path, folders: dict[str, Path], change: dict[str, int], problem: str
) -> None:
    for file in folders["detr"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | change), "utf-8")
    with pytest.raises(DataError, match=problem):
        HubDetector.load(str(tmp_path))
