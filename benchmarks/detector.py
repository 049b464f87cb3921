"""How much faster the detector extracts than the same network run plainly.

Plainly: float32, NCHW, unfused, all heads on all proposals, suppression class by class.

    python benchmarks/detector.py --repeats 5

Both run on the same random weights and the same picture, alternating; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vltk.detection.backbone import FrozenBatchNorm2d, ResNetC4Config
from vltk.detection.boxes import BoxCoder, ImageSize, clip_boxes
from vltk.detection.faster_rcnn import FasterRCNN, FasterRCNNConfig
from vltk.detection.presets import PRESETS, Preset
from vltk.detection.region_head import as_rois
from vltk.detection.region_ops import nms


def random_detector(depth: int) -> FasterRCNN:
    """Return the full-size network with weights whose scores are spread like those of a trained one."""
    torch.manual_seed(1)
    model = FasterRCNNConfig(backbone=ResNetC4Config(depth=depth)).build().eval()  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
            module.bias.normal_(std=0.1)
    torch.nn.init.normal_(model.proposal_generator.rpn_head.objectness_logits.weight, std=0.1)
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.1)
    return model.requires_grad_(False)


def plain_class_wise(
    boxes: Tensor, probs: Tensor, *, threshold: float, min_score: float, fewest: int, most: int, plus_one: bool
) -> Tensor:
    """The rule of ``generate_tsv.py``: one suppression for each class, by the fast suppression of one class."""
    confidence = torch.zeros(len(boxes))
    for column in range(probs.shape[1]):
        keep = nms(boxes, probs[:, column], threshold, plus_one=plus_one)
        confidence[keep] = torch.maximum(confidence[keep], probs[keep, column])
    rows = (confidence >= min_score).nonzero()[:, 0]
    if len(rows) < fewest:
        rows = confidence.argsort(descending=True, stable=True)[:fewest]
    elif len(rows) > most:
        rows = confidence.argsort(descending=True, stable=True)[:most]
    return rows


def run_plainly(model: FasterRCNN, preset: Preset, image: Tensor, size: ImageSize) -> tuple[Tensor, Tensor, Tensor]:
    """Run every stage as written in the papers; return features, boxes and kept rows."""
    features = model.backbone(image).region
    output = model.proposal_generator(features, anchors=preset.proposal.anchors)
    rule = preset.proposal
    boxes = clip_boxes(model.proposal_generator.decode(output, rule)[0], size, plus_one=rule.plus_one)
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    good = (sides >= rule.min_side * size.scale).all(dim=1)
    boxes, logits = boxes[good], output.logits[0][good]
    best = logits.argsort(descending=True, stable=True)[: rule.before_nms]
    boxes, logits = boxes[best], logits[best]
    boxes = boxes[nms(boxes, logits, rule.nms_threshold, plus_one=rule.plus_one)[: rule.after_nms]]
    pooled = model.roi_heads.pool(features, as_rois([boxes])).contiguous()  # type: ignore[operator]
    parts = [model.roi_heads.trunk(part).mean(dim=(2, 3)) for part in torch.split(pooled, 64)]
    described = torch.cat(parts)
    predictor = model.roi_heads.box_predictor
    class_logits = predictor.class_logits(described)
    coder = BoxCoder(weights=model.config.predictor.box_weights, plus_one=True, scale_clamp=None)
    clip_boxes(coder.decode(predictor.box_deltas(described), boxes[:, None]), size, plus_one=True)
    predictor.attribute_logits(described, class_logits)["attribute"].softmax(dim=-1)
    rows = plain_class_wise(
        boxes,
        class_logits.softmax(dim=-1)[:, :-1],
        threshold=0.3,
        min_score=0.2,
        fewest=preset.selection.min_boxes,
        most=preset.selection.max_boxes,
        plus_one=True,
    )
    return described, boxes, rows


def run_fast(model: FasterRCNN, preset: Preset, image: Tensor, size: ImageSize) -> tuple[Tensor, Tensor, Tensor]:
    """Extract as the command does."""
    maps = model.maps(image)
    boxes = model.proposals(maps, [size], preset.proposal)[0].boxes
    features = model.region_features(maps, [boxes])
    predictor = model.roi_heads.box_predictor
    candidates = model.candidates(boxes, features, size)
    rows = preset.selection.select(candidates).rows
    attributes = predictor.attribute_logits(features[rows], candidates.class_logits[rows])
    predictor.attribute_probs(attributes, with_none=preset.attribute_none)
    return features, boxes, rows


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def has_native_bf16() -> bool:
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(name in flags.read_text() for name in ("amx_bf16", "avx512_bf16"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=101)
    parser.add_argument("--height", type=int, default=600)
    parser.add_argument("--width", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without-bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--preset", default="butd-36")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    preset, size = PRESETS[options.preset], ImageSize(options.height, options.width, 1.25)
    plain = random_detector(options.depth)
    image = torch.randn(1, 3, options.height, options.width) * 60
    with torch.inference_mode():
        fast, low = (copy.deepcopy(plain).for_inference(precision) for precision in ("fp32", "bf16"))
        runs = {
            "plain fp32": lambda: run_plainly(plain, preset, image, size),
            "vltk fp32": lambda: run_fast(fast, preset, image, size),
            "vltk bf16": lambda: run_fast(low, preset, image, size),
        }
        expected, found = runs["plain fp32"](), runs["vltk fp32"]()
        print(f"ResNet-{options.depth}, {options.height} x {options.width}, {options.threads} threads", end=", ")
        print(f"{len(found[1])} proposals, {len(found[2])} regions, native bf16: {has_native_bf16()}")
        print(f"largest difference of a proposal {float((expected[1] - found[1]).abs().max()):.1e} pixels", end=", ")
        print(f"of a feature {float((expected[0] - found[0]).abs().max()):.1e}", end=" ")
        print(f"(features up to {float(expected[0].max()):.1f}), same regions: {torch.equal(expected[2], found[2])}")
        if options.without_bf16:
            del runs["vltk bf16"]
        else:
            runs["vltk bf16"]()
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.repeats):
            for name, run in runs.items():
                seconds[name].append(timed(run))
    for name, values in seconds.items():
        ratio = statistics.median(seconds["plain fp32"]) / statistics.median(values)
        print(f"{name:12} {statistics.median(values):7.2f} s an image, {ratio:5.2f} x plain")


if __name__ == "__main__":
    main()
