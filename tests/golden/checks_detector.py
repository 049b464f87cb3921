"""The bottom-up-attention detector against the published port: operations, pre-processing, networks, selection."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.golden.case import Case
from vltk.detection._checkpoint_layouts import infer_config, lower_keys
from vltk.detection.boxes import (
    BoxCoder,
    ImageSize,
    anchor_grid,
    caffe_cells,
    clip_boxes,
    detectron_cells,
    large_enough,
)
from vltk.detection.faster_rcnn import FasterRCNN
from vltk.detection.preprocessing import (
    CaffePreprocessing,
    Detectron2Preprocessing,
    HuggingFacePreprocessing,
    NetworkImage,
    stack,
)
from vltk.detection.proposals import ProposalOutput, ProposalRule
from vltk.detection.region_ops import nms, roi_align, roi_pool
from vltk.detection.selection import Candidates, ClasswiseRule, MaxClassRule, PerClassRule, Selection, SelectionRule
from vltk.detection.weights import fill

BUTD_SIZES, BUTD_RATIOS = (64, 128, 256, 512), (0.5, 1, 2)


def tensors(case: Case) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in case.tensors().items()}


def equal(ours: Tensor, official: Tensor, name: str) -> None:
    assert torch.equal(ours, official), f"{name}: {ours.tolist()[:20]} instead of {official.tolist()[:20]}"


def near(ours: Tensor, official: Tensor, name: str, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), official.numpy(), rtol=rtol, atol=atol, err_msg=name)


# -- operations -----------------------------------------------------------------------------------------------------


def check_nms(case: Case) -> None:
    values = tensors(case)
    for name, expected in values.items():
        found = re.fullmatch(r"(\w+)\.(batched_)?keep(_plus1)?(_set)?_([\d.]+)", name)
        if found is None:
            continue
        prefix, batched, plus_one, as_set, threshold = found.groups()
        classes = values[f"{prefix}.classes"] if batched else None
        kept = nms(
            values[f"{prefix}.boxes"],
            values[f"{prefix}.scores"],
            float(threshold),
            classes=classes,
            plus_one=bool(plus_one),
        )
        equal(kept.sort().values if as_set else kept, expected, name)


def check_roi_ops(case: Case) -> None:
    values = tensors(case)
    scales = {entry["prefix"]: entry["spatial_scale"] for entry in case.entry["cases"]}
    for name, expected in values.items():
        prefix, operation = name.split(".")
        parts = operation.split("_")
        if prefix == "empty":
            pooled = roi_pool(torch.zeros(1, 2, 5, 5), torch.zeros(0, 5), output_size=7, spatial_scale=1 / 16)
            equal(pooled, expected, name)
        elif parts[:2] == ["roi", "pool"]:
            pooled = roi_pool(
                values[f"{prefix}.map"],
                values[f"{prefix}.rois"],
                output_size=int(parts[2]),
                spatial_scale=scales[prefix],
            )
            equal(pooled, expected, name)
        elif parts[:2] == ["roi", "align"]:
            pooled = roi_align(
                values[f"{prefix}.map"],
                values[f"{prefix}.rois"],
                output_size=int(parts[2]),
                spatial_scale=scales[prefix],
                aligned=parts[3] == "aligned1",
                sampling_ratio=int(parts[4][2:]),
            )
            near(pooled, expected, name, rtol=1e-5, atol=1e-5)


def check_anchors_and_boxes(case: Case) -> None:
    values = tensors(case)
    close = partial(near, rtol=1e-5, atol=1e-3)
    clean = detectron_cells(BUTD_SIZES, BUTD_RATIOS)
    close(clean, values["butd.cell"], "butd.cell")
    close(caffe_cells(BUTD_SIZES, BUTD_RATIOS), values["caffe.cell"], "caffe.cell")
    for name in values:
        if found := re.fullmatch(r"butd\.grid_(\d+)x(\d+)", name):
            close(anchor_grid(clean, int(found[1]), int(found[2]), 16), values[name], name)
    size = ImageSize(400, 600)
    for prefix, weights in (("rpn", (1.0, 1.0, 1.0, 1.0)), ("box", (10.0, 10.0, 5.0, 5.0))):
        source, deltas = values[f"{prefix}.src"], values[f"{prefix}.deltas"]
        coder = BoxCoder(weights=weights)
        close(coder.encode(source, values[f"{prefix}.tgt"]), values[f"{prefix}.encode"], f"{prefix}.encode")
        decoded = coder.decode(deltas.view(len(deltas), -1, 4), source[:, None])
        close(decoded.flatten(1), values[f"{prefix}.decode"], f"{prefix}.decode")
        clipped = clip_boxes(decoded, size)
        close(clipped.flatten(1), values[f"{prefix}.decode_clipped_h400_w600"], f"{prefix} clipped")
        for side in (0, 16):
            name = f"{prefix}.nonempty_{side}"
            equal(large_enough(clipped.view(-1, 4), side), values[name], name)
        caffe = BoxCoder(plus_one=True, scale_clamp=None).decode(values[f"{prefix}.caffe_deltas"], source)
        close(caffe, values[f"{prefix}.caffe_decode"], f"{prefix}.caffe_decode")
        close(clip_boxes(caffe, size, plus_one=True), values[f"{prefix}.caffe_decode_clipped_h400_w600"], prefix)


def check_preprocessing(case: Case) -> None:
    values = tensors(case)
    lineages = {"hf": HuggingFacePreprocessing, "d2": Detectron2Preprocessing, "caffe": CaffePreprocessing}
    made: dict[str, NetworkImage] = {}
    for entry in case.entry["cases"]:
        prefix, bounds = entry["prefix"], {"min_side": entry["min_size"], "max_side": entry["max_size"]}
        picture = values[f"{prefix}.rgb"].numpy()
        for lineage, kind in lineages.items():
            image = kind(**bounds)(picture)
            expected = values[f"{prefix}.{lineage}"]
            near(image.pixels, expected, f"{prefix}.{lineage}", atol=1e-2 if lineage == "caffe" else 1e-3)
            made[f"{prefix}.{lineage}"] = image
        whole = Detectron2Preprocessing(**bounds, mean=(0.0, 0.0, 0.0))(picture).pixels.permute(1, 2, 0)
        equal(whole.to(torch.uint8), values[f"{prefix}.d2_resized_bgr_u8"], f"{prefix} before the mean")
        factors = torch.tensor(made[f"{prefix}.hf"].factors).flip(0)
        near(factors, values[f"{prefix}.scale_yx"], f"{prefix}.scale_yx", rtol=1e-6)
        caffe = made[f"{prefix}.caffe"]
        np.testing.assert_allclose(1 / caffe.factors[0], entry["caffe_im_scale"], rtol=1e-12)
        assert [caffe.size.height, caffe.size.width] == entry["caffe_hw"]
    padded = [made[f"{prefix}.hf"] for prefix in ("c0", "c1", "c4")]
    near(stack(padded, pad=True), values["batch.c0_c1_c4"], "batch", atol=1e-3)
    equal(torch.tensor([image.size[:2] for image in padded]), values["batch.sizes_hw"], "batch.sizes_hw")
    for height, width, shorter, longer, new_height, new_width in values["size_rule"].tolist():
        found = HuggingFacePreprocessing(min_side=shorter, max_side=longer).target(height, width)[:2]
        assert found == (new_height, new_width), (height, width, shorter, longer, found)


# -- selection ------------------------------------------------------------------------------------------------------


def rules(case: Case) -> Iterator[tuple[str, SelectionRule]]:
    thresholds = tuple(case.entry["nms_thresholds_tried"])
    score = case.entry["score_threshold"]
    for low, high in case.entry["variants_min_max"]:
        bounds = {"min_boxes": low, "max_boxes": high}
        yield f"maxclass_{low}_{high}", MaxClassRule(nms_thresholds=thresholds, **bounds)
        yield f"classwise_{low}_{high}", ClasswiseRule(min_score=score, **bounds)
        yield f"classwise_plus1_{low}_{high}", ClasswiseRule(min_score=score, plus_one=True, **bounds)
    for threshold in (0.05, 0.2):
        yield f"perclass_{threshold}", PerClassRule(min_score=threshold)


def check_selected(
    prefix: str,
    found: Selection,
    values: dict[str, Tensor],
    to_raw: Callable[[Tensor], Tensor],
    boxes: dict[str, Any],
    probs: dict[str, Any],
) -> None:
    """Compare a selection with every figure that the reference gives for it."""
    close, exact = partial(near, **probs), partial(near, **boxes)
    ours: dict[str, tuple[Callable[..., None], Any]] = {
        "keep": (equal, found.rows),
        "boxes_net": (exact, found.boxes),
        "boxes_raw": (exact, to_raw(found.boxes)),
        "obj_ids": (equal, found.class_ids),
        "obj_probs": (close, found.class_scores),
        "max_conf": (close, found.scores),
        "nms_thresh_used": (equal, torch.tensor(found.nms_threshold, dtype=torch.float64)),
        "reached_min": (equal, torch.tensor(found.complete)),
    }
    given = {name.removeprefix(prefix) for name in values if name.startswith(prefix)}
    assert "keep" in given, f"{prefix} is not among the figures"
    for name in given & ours.keys():
        compare, value = ours[name]
        compare(value, values[prefix + name], prefix + name)


def check_attributes(prefix: str, logits: Tensor, values: dict[str, Tensor], **tolerance: float) -> None:
    """Compare the attribute of each kept region; "none" is left out before the softmax."""
    if prefix + "attr_ids" in values:
        probs, ids = logits[:, :-1].softmax(dim=-1).max(dim=-1)
        equal(ids, values[prefix + "attr_ids"], prefix + "attr_ids")
        near(probs, values[prefix + "attr_probs"], prefix + "attr_probs", **tolerance)


def check_selection(case: Case) -> None:
    values = tensors(case)
    deltas = values["box_deltas"].view(len(values["proposals"]), -1, 4)
    candidates = Candidates(
        boxes=values["proposals"],
        class_logits=values["obj_logits"],
        deltas=lambda rows, classes: deltas[rows, classes],
        box_weights=tuple(map(float, case.entry["bbox_reg_weights"])),
        size=ImageSize(*values["size_hw"].tolist()),
    )
    factors = values["scale_yx"].flip(0).repeat(2)
    close = {"rtol": 1e-5, "atol": 1e-6}
    for name, rule in rules(case):
        found = rule.select(candidates)
        check_selected(f"{name}.", found, values, factors.mul, {"rtol": 1e-5, "atol": 1e-3}, close)
        check_attributes(f"{name}.", values["attr_logits"][found.rows], values, **close)
        if f"{name}.num_over_threshold" in values:
            above = replace(rule, min_boxes=0, max_boxes=len(deltas)).select(candidates)
            assert len(above.rows) == int(values[f"{name}.num_over_threshold"]), name


# -- whole detectors ------------------------------------------------------------------------------------------------


def build(case: Case) -> tuple[FasterRCNN, dict[str, Any]]:
    """Build the network of a case as a checkpoint with its configuration would be loaded."""
    origin = case.entry.get("config_and_state_from", case.entry["file"])
    described = case.index["files"][origin]
    values = load_file(case.folder / origin)
    state = {name.removeprefix("state."): tensor for name, tensor in values.items() if name.startswith("state.")}
    config = infer_config(state, lower_keys(described["config"]), where=origin)
    model = config.build().eval()
    fill(model, state, where=origin)
    return model, described


def proposal_rule(described: dict[str, Any]) -> ProposalRule:
    rpn = described["config"]["rpn"]
    return ProposalRule(
        before_nms=rpn["pre_nms_topk_test"],
        after_nms=rpn["post_nms_topk_test"],
        nms_threshold=rpn["nms_thresh"],
        min_side=described["config"]["proposal_generator"]["min_size"],
    )


def check_detector(case: Case) -> None:
    for prepare in (lambda model: model, lambda model: model.for_inference()):
        model, described = build(case)
        with torch.no_grad():
            check_network(prepare(model), case, described)


def check_network(model: FasterRCNN, case: Case, described: dict[str, Any]) -> None:
    """Run all pictures together, padded as the reference did, and compare every intermediate."""
    values = tensors(case)
    count = sum(bool(re.fullmatch(r"img\d+\.rgb", name)) for name in values)
    prepare = HuggingFacePreprocessing(min_side=described["min_size"], max_side=described["max_size"])
    images = [prepare(values[f"img{i}.rgb"].numpy()) for i in range(count)]
    for i, image in enumerate(images):
        assert list(image.size[:2]) == values[f"img{i}.size_hw"].tolist()
    near(stack(images, pad=True), values["input"], "input", atol=1e-3)
    check_stages(model, values)
    close = partial(near, rtol=1e-4, atol=1e-3)
    maps = model.maps(values["input"])
    close(maps.region, values["res4"], "res4")
    output = model.proposal_generator(maps.proposal)
    rule = proposal_rule(described)
    check_proposal_network(model, output, values, rule)
    proposals = model.proposal_generator.select(output, [image.size for image in images], rule)
    for i, found in enumerate(proposals):
        near(found.boxes, values[f"img{i}.proposals"], f"img{i}.proposals", atol=0.05)
        close(found.logits, values[f"img{i}.proposal_logits"], f"img{i}.proposal_logits")
    features = model.region_features(maps, [found.boxes for found in proposals])
    logits = model.roi_heads.box_predictor.class_logits(features)
    close(features, values["feat"], "feat")
    close(logits, values["obj_logits"], "obj_logits")
    close(model.roi_heads.box_predictor.box_deltas(features).flatten(1), values["box_deltas"], "box_deltas")
    start = 0
    for i, found in enumerate(proposals):
        rows = slice(start, start := start + len(found.boxes))
        check_picture(model, case, described, f"img{i}.", images[i], found.boxes, features[rows], values)
    attributes = model.roi_heads.box_predictor.attribute_logits(features, logits)["attribute"]
    close(attributes, values["attr_logits"], "attr_logits")


def check_stages(model: FasterRCNN, values: dict[str, Tensor]) -> None:
    """Compare the maps after each stage of the trunk, where the reference gives them."""
    features = values["input"]
    for stage in ("stem", "res2", "res3", "res4"):
        features = model.backbone.get_submodule(stage)(features)
        if stage in values:
            near(features, values[stage], stage, rtol=1e-4, atol=1e-3)
    first = values["pooled_first"]
    boxes = values["img0.proposals"][: len(first)]
    pooled = model.roi_heads.pool(values["res4"], torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1))
    equal(pooled, first, "pooled_first")
    near(model.roi_heads.res5(first), values["res5_first"], "res5_first", rtol=1e-4, atol=1e-3)


def check_proposal_network(
    model: FasterRCNN, output: ProposalOutput, values: dict[str, Tensor], rule: ProposalRule
) -> None:
    """Compare logits, offsets and decoded boxes of every anchor."""
    close = partial(near, rtol=1e-4, atol=1e-3)
    close(output.anchors, values["anchors"], "anchors")
    close(output.logits, values["rpn_scores_flat"], "rpn_scores_flat")
    near(model.proposal_generator.decode(output, rule), values["rpn_decoded"], "rpn_decoded", rtol=1e-4, atol=0.05)
    batch, channels, height, width = values["rpn_deltas"].shape
    deltas = values["rpn_deltas"].view(batch, channels // 4, 4, height, width).permute(0, 3, 4, 1, 2)
    close(output.deltas, deltas.reshape(batch, -1, 4), "rpn_deltas")


def check_picture(
    model: FasterRCNN,
    case: Case,
    described: dict[str, Any],
    prefix: str,
    image: NetworkImage,
    boxes: Tensor,
    features: Tensor,
    values: dict[str, Tensor],
) -> None:
    """Select by every rule and compare, with the heads run only where the rule needs them."""
    predictor = model.roi_heads.box_predictor
    candidates = model.candidates(boxes, features, image.size)
    logits = candidates.class_logits
    for name, rule in rules(replace(case, entry=described)):
        found = rule.select(candidates)
        here = f"{prefix}{name}."
        check_selected(here, found, values, image.to_original, {"atol": 0.05}, {"rtol": 1e-4, "atol": 1e-3})
        attributes = predictor.attribute_logits(features[found.rows], logits[found.rows])["attribute"]
        check_attributes(here, attributes, values, rtol=1e-4, atol=1e-3)
        if here + "features" in values:
            near(features[found.rows], values[here + "features"], here + "features", rtol=1e-4, atol=1e-3)


def check_alone(case: Case) -> None:
    """The pictures of the padded batch one at a time, which is how vltk runs them."""
    values = tensors(case)
    origin = load_file(case.folder / case.entry["config_and_state_from"])
    model, described = build(case)
    model.for_inference()
    prepare = HuggingFacePreprocessing(min_side=described["min_size"], max_side=described["max_size"])
    with torch.no_grad():
        for prefix in ("img0.", "img1."):
            assert values[prefix + "stable"].item(), "the reference itself depends on rounding here"
            image = prepare(origin[prefix + "rgb"].numpy())
            maps = model.maps(image.pixels[None])
            near(maps.region, values[prefix + "res4"], prefix + "res4", rtol=1e-4, atol=1e-3)
            proposals = model.proposals(maps, [image.size], proposal_rule(described))[0]
            near(proposals.boxes, values[prefix + "proposals"], prefix + "proposals", atol=0.05)
            features = model.region_features(maps, [proposals.boxes])
            near(features, values[prefix + "feat"], prefix + "feat", rtol=1e-4, atol=1e-3)
            check_picture(model, case, described, prefix, image, proposals.boxes, features, values)


CHECKS: dict[str, Callable[[Case], None]] = {
    "detector/nms": check_nms,
    "detector/roi_ops": check_roi_ops,
    "detector/anchors_boxes": check_anchors_and_boxes,
    "detector/preprocess": check_preprocessing,
    "detector/selection_*": check_selection,
    "detector/detector_r101_*": check_detector,
    "detector/detector_r50_batch2": check_detector,
    "detector/detector_r50_single": check_detector,
    "detector/detector_r50_batch2_alone": check_alone,
}
