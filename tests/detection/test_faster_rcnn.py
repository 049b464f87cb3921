"""The detector's stages: keys, chunks, batches, given boxes, precision, and the small detector as the same class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vltk.detection import region_head
from vltk.detection._winograd import WinogradStage
from vltk.detection.backbone import Maps, PyramidConfig, ResNetC4Config
from vltk.detection.boxes import BoxCoder, ImageSize, caffe_cells, clip_boxes, detectron_cells
from vltk.detection.faster_rcnn import FasterRCNN, FasterRCNNConfig
from vltk.detection.presets import PRESETS
from vltk.detection.proposals import ProposalConfig, ProposalOutput, ProposalRule
from vltk.detection.region_head import (
    AttributeHead,
    AttributeHeadsConfig,
    EmbeddedAttributesConfig,
    FCHeadConfig,
    PredictorConfig,
    Res5HeadConfig,
)
from vltk.detection.region_ops import nms
from vltk.errors import DataError, UsageError

NARROW = FasterRCNNConfig(
    backbone=ResNetC4Config(depth=50, stem_channels=8, width=4, out_channels=16),
    proposal=ProposalConfig(hidden_channels=16),
    head=Res5HeadConfig(mid_channels=16, out_channels=32),
    predictor=PredictorConfig(classes=9, attributes=EmbeddedAttributesConfig(count=5, embedding=4, hidden=8)),
)
SMALL = FasterRCNNConfig(
    backbone=PyramidConfig(width=12, region_channels=16),
    proposal=ProposalConfig(hidden_channels=32, sizes=(17.0, 27.0, 45.0), ratios=(1.0,)),
    head=FCHeadConfig(),
    predictor=PredictorConfig(
        classes=8,
        class_agnostic_boxes=True,
        attributes=AttributeHeadsConfig(
            heads=(
                AttributeHead(name="colour", values=tuple("rgbyopkw")),
                AttributeHead(name="texture", values=("solid", "striped")),
                AttributeHead(name="size", values=("small", "large")),
            )
        ),
    ),
)
RULE = ProposalRule(before_nms=500, after_nms=40)


def build(config: FasterRCNNConfig, *, seed: int = 0) -> FasterRCNN:
    torch.manual_seed(seed)
    return config.build().eval()


def pictures(count: int, height: int = 160, width: int = 224) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 60


def test_the_default_has_the_keys_and_the_size_of_the_published_detector() -> None:
    with torch.device("meta"):
        model = FasterRCNNConfig().build()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {
        "backbone.stem.conv1.weight": (64, 3, 7, 7),
        "backbone.stem.conv1.norm.running_var": (64,),
        "backbone.res2.0.shortcut.weight": (256, 64, 1, 1),
        "backbone.res3.3.conv2.norm.bias": (128,),
        "backbone.res4.22.conv3.weight": (1024, 256, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": (12, 4),
        "proposal_generator.rpn_head.conv.weight": (512, 1024, 3, 3),
        "proposal_generator.rpn_head.objectness_logits.bias": (12,),
        "proposal_generator.rpn_head.anchor_deltas.weight": (48, 512, 1, 1),
        "roi_heads.res5.0.shortcut.weight": (2048, 1024, 1, 1),
        "roi_heads.res5.2.conv3.norm.weight": (2048,),
        "roi_heads.box_predictor.cls_score.weight": (1601, 2048),
        "roi_heads.box_predictor.bbox_pred.weight": (6400, 2048),
        "roi_heads.box_predictor.cls_embedding.weight": (1601, 256),
        "roi_heads.box_predictor.fc_attr.weight": (512, 2304),
        "roi_heads.box_predictor.attr_score.bias": (401,),
    }
    assert {name: shapes[name] for name in expected} == expected
    learnt = [tensor.numel() for name, tensor in model.state_dict().items() if ".running_" not in name]
    assert round(sum(learnt) / 1e6, 2) == 65.44


@pytest.mark.parametrize(("depth", "blocks"), [(50, 6), (101, 23), (152, 36)])
def test_depths_differ_in_their_blocks(depth: int, blocks: int) -> None:
    with torch.device("meta"):
        model = replace(NARROW, backbone=replace(NARROW.backbone, depth=depth)).build()
    assert len(model.backbone.get_submodule("res4")) == blocks


@pytest.mark.parametrize("config", [NARROW, SMALL])
def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(config: FasterRCNNConfig) -> None:
    model, images = build(config).for_inference(), pictures(3)
    size = ImageSize(160, 224)
    with torch.no_grad():
        maps = model.maps(images)
        together = model.proposals(maps, [size] * 3, RULE)
        features = model.region_features(maps, [found.boxes for found in together]).split(
            [len(t.boxes) for t in together]
        )
        for i, found in enumerate(together):
            maps = model.maps(images[i : i + 1])
            alone = model.proposals(maps, [size], RULE)[0]
            assert torch.equal(alone.boxes, found.boxes)
            assert torch.equal(alone.logits, found.logits)
            assert torch.equal(model.region_features(maps, [alone.boxes]), features[i])


@pytest.mark.parametrize("config", [NARROW, SMALL])
def test_given_boxes_have_the_features_of_equal_proposals(config: FasterRCNNConfig) -> None:
    model = build(config).for_inference()
    with torch.no_grad():
        maps = model.maps(pictures(1))
        boxes = model.proposals(maps, [ImageSize(160, 224)], RULE)[0].boxes
        features = model.region_features(maps, [boxes])
        order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(model.region_features(maps, [boxes[order]]), features[order], rtol=1e-5, atol=1e-5)
        assert model.region_features(maps, [boxes[:0]]).shape == (0, model.feature_size)


def test_regions_in_chunks_are_regions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(NARROW)
    with torch.no_grad():
        maps = model.maps(pictures(1))
        boxes = model.proposals(maps, [ImageSize(160, 224)], RULE)[0].boxes
        whole = model.region_features(maps, [boxes])
        monkeypatch.setattr(region_head, "_CPU_CHUNK", 3)
        monkeypatch.setattr(region_head, "_POOLED_CHUNK", 7)
        torch.testing.assert_close(model.region_features(maps, [boxes]), whole)


def scrambled(model: FasterRCNN) -> FasterRCNN:
    """Give the normalisations statistics, so that folding them has something to do."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif ".norm." in name and tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return model


@pytest.mark.parametrize("config", [NARROW, SMALL])
def test_inference_computes_what_the_plain_network_computes(config: FasterRCNNConfig) -> None:
    plain, fast = scrambled(build(config)), scrambled(build(config)).for_inference()
    boxes = torch.tensor([[5.0, 7.0, 90.0, 60.0], [30.0, 10.0, 200.0, 150.0]])
    with torch.no_grad():
        expected, maps = plain.backbone(pictures(1)), fast.maps(pictures(1))
        for found, official in zip(maps, expected, strict=True):
            torch.testing.assert_close(found, official, rtol=1e-4, atol=1e-3)
        features = plain.region_features(Maps(*expected), [boxes])
        torch.testing.assert_close(fast.region_features(maps, [boxes]), features, rtol=1e-4, atol=1e-3)
    assert not any(".norm." in name for name in fast.state_dict())


@pytest.mark.parametrize("size", [2, 6, 8, 14, 20])
def test_fewer_multiplications_give_the_same_features(size: int) -> None:
    model = scrambled(build(replace(NARROW, head=replace(NARROW.head, pool_size=size)))).for_inference()
    stage = model.roi_heads.winograd
    assert isinstance(stage, WinogradStage)
    pooled = torch.randn(5, 64, size, size, generator=torch.Generator().manual_seed(0)).relu() * 30
    expected = model.roi_heads.res5.double()(pooled.double()).mean(dim=(2, 3)).float()
    torch.testing.assert_close(stage(pooled), expected, rtol=1e-5, atol=1e-5)
    channels_last = pooled.contiguous(memory_format=torch.channels_last)
    assert torch.equal(stage(channels_last), stage(pooled))


@pytest.mark.parametrize("head", [{"pool_size": 7}, {"halve": True}, {"groups": 2}])
def test_other_stages_are_computed_as_they_are(head: dict[str, int]) -> None:
    model = build(replace(NARROW, head=replace(NARROW.head, **head))).for_inference()
    assert model.roi_heads.winograd is None
    assert build(NARROW).for_inference("bf16").roi_heads.winograd is None
    with torch.no_grad():
        features = model.region_features(model.maps(pictures(1)), [torch.tensor([[5.0, 7.0, 90.0, 60.0]])])
    assert features.shape == (1, 32)


@pytest.mark.parametrize("config", [NARROW, SMALL])
def test_low_precision_stays_in_the_trunks(config: FasterRCNNConfig) -> None:
    exact, low = build(config).for_inference(), build(config).for_inference("bf16")
    boxes = [torch.tensor([[5.0, 7.0, 90.0, 60.0]])]
    with torch.no_grad():
        maps = low.maps(pictures(1))
        assert {maps.proposal.dtype, maps.region.dtype} == {torch.bfloat16}
        output = low.proposal_generator(maps.proposal)
        features = low.region_features(maps, boxes)
        logits = low.roi_heads.box_predictor.class_logits(features)
        assert {output.logits.dtype, output.deltas.dtype, features.dtype, logits.dtype} == {torch.float32}
        expected = exact.region_features(exact.maps(pictures(1)), boxes)
    torch.testing.assert_close(features, expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))
    assert not torch.equal(features, expected)


def test_the_small_detector_is_the_same_class_and_every_weight_of_it_learns() -> None:
    torch.manual_seed(0)
    model = SMALL.build().train()
    assert type(model) is FasterRCNN
    assert sum(weight.numel() for weight in model.parameters()) < 750_000, "3 MB in float32"
    maps = model.maps(pictures(2, 128, 128))
    assert [tuple(one.shape) for one in maps] == [(2, 48, 16, 16), (2, 16, 32, 32)]
    output = model.proposal_generator(maps.proposal)
    boxes = model.proposal_generator.select(output, [ImageSize(128, 128)] * 2, ProposalRule(after_nms=24))
    features = model.region_features(maps, [found.boxes for found in boxes])
    predictor = model.roi_heads.box_predictor
    logits = predictor.class_logits(features)
    attributes = predictor.attribute_logits(features, logits)
    assert {name: scores.shape[1] for name, scores in attributes.items()} == {"colour": 8, "texture": 2, "size": 2}
    parts = [output.logits, output.deltas, logits, predictor.box_deltas(features), *attributes.values()]
    torch.stack([part.square().mean() for part in parts]).sum().backward()
    still = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.abs().sum()]
    assert still == []


@pytest.mark.parametrize("config", [NARROW, SMALL])
def test_offsets_of_one_class_are_those_of_all_classes(config: FasterRCNNConfig) -> None:
    predictor = build(config).roi_heads.box_predictor
    features = torch.rand(6, predictor.cls_score.in_features)
    classes = torch.tensor([0, 3, 7, 7, 1, 2])
    every = predictor.box_deltas(features)
    expected = every[torch.arange(6), classes % every.shape[1]]
    torch.testing.assert_close(predictor.box_deltas_of(features, classes), expected)


def test_a_grid_is_the_head_over_the_whole_map() -> None:
    model = build(NARROW)
    with torch.no_grad():
        maps = model.maps(pictures(2))
        assert model.grid_features(maps).shape == (2, 32, *maps.region.shape[-2:])
    model = build(SMALL)
    maps = model.maps(pictures(1))
    with pytest.raises(UsageError, match="this detector has no grid features; use a detector with a residual head"):
        model.grid_features(maps)


@pytest.mark.parametrize("config", [FasterRCNNConfig(), NARROW, SMALL])
def test_a_configuration_survives_json(config: FasterRCNNConfig) -> None:
    assert FasterRCNNConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"backbone": {"part": "os.system"}}, r"\('os.system'\)"),
        ({"backbone": {"part": "ResNetC4Config", "layers": 3}}, "unexpected keyword argument 'layers'"),
        ({"neck": 1}, "unexpected keyword argument 'neck'"),
    ],
)
def test_an_unknown_part_is_named(change: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=f"w.safetensors: is not a detector's configuration .*{reason}"):
        FasterRCNNConfig.from_json({**NARROW.to_json(), **change}, where="w.safetensors")


# -- proposals ------------------------------------------------------------------------------------------------------


def test_caffes_anchors_take_the_place_of_the_clean_ones_in_the_channel_order_of_the_network() -> None:
    generator = build(NARROW).proposal_generator
    legacy = generator.caffe_counterpart()
    clean = detectron_cells(NARROW.proposal.sizes, NARROW.proposal.ratios)
    assert sorted(legacy.tolist()) == sorted(caffe_cells(NARROW.proposal.sizes, NARROW.proposal.ratios).tolist())
    for ours, theirs in zip(clean, legacy, strict=True):
        sides = (theirs[2:] - theirs[:2] + 1) / (ours[2:] - ours[:2])
        assert bool(((sides - 1).abs() < 0.07).all()), "each is the rounded twin of the other"
        assert ((theirs[:2] + theirs[2:]) / 2).tolist() == [7.5, 7.5]


def test_anchors_of_a_checkpoint_are_honoured() -> None:
    model = build(NARROW)
    own = model.proposal_generator.cells.clone() * 1.5
    model.proposal_generator.cells.copy_(own)
    maps = Maps(torch.zeros(1, 64, 3, 4), torch.zeros(1, 64, 3, 4))
    for lineage in ("network", "caffe"):
        assert torch.equal(model.proposal_generator(maps.proposal, anchors=lineage).anchors[:12], own)


def slow_proposals(output: ProposalOutput, size: ImageSize, rule: ProposalRule) -> Tensor:
    """The proposal layer of py-faster-rcnn and the one of detectron2, step by step."""
    boxes = BoxCoder(plus_one=rule.plus_one, scale_clamp=rule.scale_clamp).decode(output.deltas[0], output.anchors)
    boxes, extra = clip_boxes(boxes, size, plus_one=rule.plus_one), int(rule.plus_one)
    least = rule.min_side * (size.scale if rule.min_side_scales else 1)
    order = sorted(range(len(boxes)), key=lambda i: (-output.logits[0, i].item(), i))

    def good(i: int) -> bool:
        side = min((boxes[i, 2:] - boxes[i, :2] + extra).tolist())
        return side >= least if rule.plus_one else side > least

    if rule.filter_first:
        order = [i for i in order if good(i)][: rule.before_nms]
    else:
        order = [i for i in order[: rule.before_nms] if good(i)]
    keep = nms(boxes[order], output.logits[0, order], rule.nms_threshold, plus_one=rule.plus_one)
    return boxes[order][keep[: rule.after_nms]]


@pytest.mark.parametrize("preset", ["butd-36", "d2-maxnms"])
def test_proposals_follow_their_lineage(preset: str) -> None:
    rule = replace(PRESETS[preset].proposal, before_nms=300, after_nms=25)
    generator = build(NARROW).proposal_generator
    with torch.no_grad():
        output = generator(torch.randn(1, 64, 9, 12, generator=torch.Generator().manual_seed(0)), anchors=rule.anchors)
        wild = torch.randn(output.deltas.shape, generator=torch.Generator().manual_seed(1)) * 3
        output = output._replace(deltas=wild, logits=(output.logits * 1000).round())
        found = generator.select(output, [ImageSize(140, 190, 1.5)], rule)[0]
        assert torch.equal(found.boxes, slow_proposals(output, ImageSize(140, 190, 1.5), rule))
    assert 0 < len(found.boxes) <= 25
