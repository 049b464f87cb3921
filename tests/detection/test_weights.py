"""Checkpoints of every layout find their way in; damaged and hostile ones are one sentence each."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from tests.detection.test_faster_rcnn import NARROW, SMALL, build
from vltk.detection._checkpoint_layouts import CELLS
from vltk.detection.boxes import caffe_cells, detectron_cells
from vltk.detection.faster_rcnn import FasterRCNN, FasterRCNNConfig
from vltk.detection.region_head import PredictorConfig
from vltk.detection.weights import load_detector, save_detector
from vltk.errors import DataError, OfflineError, UsageError

PREDICTOR = "roi_heads.box_predictor."
RPN = "proposal_generator.rpn_head."


class Payload:
    """What a hostile pickle runs when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def state_of(model: FasterRCNN) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def model() -> FasterRCNN:
    made = build(NARROW, seed=7)
    with torch.no_grad():
        made.proposal_generator.cells.copy_(detectron_cells((60, 128, 256, 512), (0.5, 1, 2)))
    return made


def assert_same(found: FasterRCNN, expected: dict[str, Tensor]) -> None:
    state = found.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    assert not found.training


# -- layouts --------------------------------------------------------------------------------------------------------


def write_pkl(path: Path, state: dict[str, Tensor]) -> Path:
    path.write_bytes(pickle.dumps({"model": {k: v.numpy() for k, v in state.items()}, "__author__": "Caffe"}))
    return path


def write_bin(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({**state, "backbone.stem.conv1.norm.num_batches_tracked": torch.tensor(0)}, path)
    return path


def write_old_torch(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path, _use_new_zipfile_serialization=False)
    return path


def write_gamma(path: Path, state: dict[str, Tensor]) -> Path:
    def old(name: str) -> str:
        return re.sub(r"\.norm\.bias$", ".norm.beta", re.sub(r"\.norm\.weight$", ".norm.gamma", name))

    torch.save({old(name): tensor for name, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [("d2.pkl", write_pkl), ("pytorch_model.bin", write_bin), ("old.pth", write_old_torch), ("tf.pth", write_gamma)],
)
def test_checkpoints_with_our_keys(
    tmp_path: Path, model: FasterRCNN, name: str, write: Callable[[Path, dict[str, Tensor]], Path]
) -> None:
    state = state_of(model)
    loaded = load_detector(write(tmp_path / name, state))
    assert_same(loaded.model, state)
    assert loaded.model.config == NARROW
    assert (loaded.layout, len(loaded.sha256)) == ("detectron2", 64)
    assert torch.equal(loaded.model.proposal_generator.cells, state[CELLS]), "anchors of a checkpoint are honoured"


def test_anchors_are_clean_where_a_checkpoint_has_none(tmp_path: Path, model: FasterRCNN) -> None:
    state = state_of(model)
    del state[CELLS]
    cells = load_detector(write_bin(tmp_path / "a.bin", state)).model.proposal_generator.cells
    assert torch.equal(cells, detectron_cells((64, 128, 256, 512), (0.5, 1, 2)))


@pytest.mark.parametrize("upper", [False, True])
def test_a_config_yaml_tells_what_weights_do_not(tmp_path: Path, model: FasterRCNN, upper: bool) -> None:
    settings: dict[str, Any] = {
        "model": {"max_pool": False},
        "resnets": {"depth": 50, "stride_in_1x1": False},
        "roi_box_head": {"pooler_resolution": 7, "res5halve": True, "bbox_reg_weights": [1, 1, 1, 1]},
        "anchor_generator": {"sizes": [[32, 64, 128, 256]], "aspect_ratios": [[0.5, 1.0, 2.0]], "offset": 0.0},
        "rpn": {"bbox_reg_weights": [2, 2, 2, 2]},
        "min_detections": 36,
    }
    if upper:
        settings = {
            k.upper(): {a.upper(): b for a, b in v.items()} if isinstance(v, dict) else v for k, v in settings.items()
        }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    write_bin(tmp_path / "pytorch_model.bin", state_of(model))
    loaded = load_detector(tmp_path)
    config = loaded.model.config
    assert (config.backbone.caffe_pool, config.backbone.stride_in_1x1) == (False, False)
    assert (config.head.pool_size, config.head.halve) == (7, True)
    assert config.proposal.sizes == (32, 64, 128, 256)
    assert (config.predictor.box_weights, config.proposal.box_weights) == ((1, 1, 1, 1), (2, 2, 2, 2))
    assert loaded.settings["min_detections"] == 36


def test_a_config_yaml_of_another_network_is_refused(tmp_path: Path, model: FasterRCNN) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"resnets": {"depth": 101}}))
    write_bin(tmp_path / "pytorch_model.bin", state_of(model))
    with pytest.raises(DataError, match=r"weights of depth 50 beside a config.yaml of depth 101"):
        load_detector(tmp_path)


def as_milvlg(state: dict[str, Tensor], *, softmax: bool) -> dict[str, Tensor]:
    """Undo what the converter does: background first, offsets not normalised, other names."""
    theirs = dict(state)
    for name in ("cls_score.weight", "cls_score.bias", "cls_embedding.weight", "attr_score.weight", "attr_score.bias"):
        theirs[PREDICTOR + name] = theirs[PREDICTOR + name].roll(1, dims=0)
    for name in ("bbox_pred.weight", "bbox_pred.bias"):
        ours = theirs[PREDICTOR + name]
        factors = torch.tensor([10.0, 10.0, 5.0, 5.0]).repeat(len(ours) // 4)
        divided = ours / (factors[:, None] if ours.dim() == 2 else factors)
        background = torch.full((4, *ours.shape[1:]), 9.0)
        theirs[PREDICTOR + name] = torch.cat([background, divided])
    if softmax:
        for name in ("objectness_logits.weight", "objectness_logits.bias"):
            half = theirs[RPN + name] / 2
            theirs[RPN + name] = torch.cat([-half, half])
    for old, new in (("cls_embedding", "cls_embed"), ("fc_attr", "attr_linear1"), ("attr_score", "attr_linear2")):
        theirs = {name.replace(PREDICTOR + old, PREDICTOR + new): tensor for name, tensor in theirs.items()}
    del theirs[CELLS]
    return theirs


@pytest.mark.parametrize("softmax", [False, True])
def test_milvlg_keeps_caffes_conventions(tmp_path: Path, model: FasterRCNN, softmax: bool) -> None:
    state = state_of(model)
    path = tmp_path / "bua.pth"
    torch.save({"model": as_milvlg(state, softmax=softmax), "iteration": 5}, path)
    loaded = load_detector(path)
    assert loaded.layout == "milvlg"
    found = loaded.model.state_dict()
    assert torch.equal(found.pop(CELLS), caffe_cells((64, 128, 256, 512), (0.5, 1, 2)))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, state[name], msg=name)


def test_other_names_can_be_given(tmp_path: Path, model: FasterRCNN) -> None:
    state = state_of(model)
    renamed = {name.replace("roi_heads.", "box_heads."): tensor for name, tensor in state.items()}
    path = write_bin(tmp_path / "a.bin", renamed)
    with pytest.raises(DataError, match=r"has no roi_heads.res5.0.conv2.weight; .* --rename OLD=NEW"):
        load_detector(path)
    assert_same(load_detector(path, renames={"box_heads.": "roi_heads."}).model, state)


# -- own files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [NARROW, SMALL])
def test_our_file_carries_its_configuration(tmp_path: Path, config: FasterRCNNConfig) -> None:
    named = replace(config, predictor=replace(config.predictor, names=tuple("abcdefghi")[: config.predictor.classes]))
    made = build(named)
    state = state_of(made)
    save_detector(made, tmp_path / "d.safetensors", about={"command": "vltk train-detector", "seed": 3})
    loaded = load_detector(tmp_path / "d.safetensors")
    assert_same(loaded.model, state)
    assert (loaded.model.config, loaded.layout) == (named, "vltk")
    assert [path.name for path in tmp_path.iterdir()] == ["d.safetensors"]


def test_half_precision_halves_the_file_and_keeps_the_anchors(tmp_path: Path, model: FasterRCNN) -> None:
    for dtype in ("float32", "float16"):
        save_detector(model, tmp_path / f"{dtype}.safetensors", dtype=dtype)
    whole, half = ((tmp_path / f"{dtype}.safetensors").stat().st_size for dtype in ("float32", "float16"))
    assert half < 0.65 * whole
    loaded = load_detector(tmp_path / "float16.safetensors").model
    assert torch.equal(loaded.proposal_generator.cells, model.proposal_generator.cells)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    weight = model.roi_heads.box_predictor.cls_score.weight
    assert torch.equal(loaded.roi_heads.box_predictor.cls_score.weight, weight.half().float())


def test_a_file_is_not_replaced_unasked(tmp_path: Path, model: FasterRCNN) -> None:
    path = tmp_path / "d.safetensors"
    path.write_text("precious")
    with pytest.raises(DataError, match=r"d\.safetensors: exists already; choose another path or pass --overwrite"):
        save_detector(model, path)
    assert path.read_text() == "precious"
    with pytest.raises(UsageError, match=r"the name ends in '.bin'; name it NAME.safetensors"):
        save_detector(model, tmp_path / "d.bin")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [({"vltk": "{"}, "has a damaged description"), ({"vltk": "{}"}, "describes no detector")],
)
def test_a_damaged_description_is_refused(tmp_path: Path, metadata: dict[str, str], reason: str) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "d.safetensors", metadata=metadata)
    with pytest.raises(DataError, match=reason):
        load_detector(tmp_path / "d.safetensors")


# -- what does not fit ----------------------------------------------------------------------------------------------


def test_every_key_that_does_not_fit_is_named_and_nothing_is_copied(tmp_path: Path, model: FasterRCNN) -> None:
    state = state_of(model)
    del state["backbone.res3.1.conv2.weight"]
    state["backbone.fpn.weight"] = torch.zeros(1)
    state[PREDICTOR + "cls_score.bias"] = torch.zeros(3)
    state[RPN + "conv.bias"] = torch.full((16,), float("nan"))
    path = write_pkl(tmp_path / "d2.pkl", state)
    with pytest.raises(DataError) as caught:
        load_detector(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: 1 keys are missing: backbone.res3.1.conv2.weight; ")
    assert "1 keys are left over: backbone.fpn.weight; " in sentence
    assert f"1 keys have the wrong shape: {PREDICTOR}cls_score.bias (3,) instead of (10,); " in sentence
    assert f"1 keys are not finite: {RPN}conv.bias; " in sentence


def test_a_detector_without_attributes_has_none(tmp_path: Path) -> None:
    made = build(replace(NARROW, predictor=PredictorConfig(classes=9, attributes=None)))
    loaded = load_detector(write_pkl(tmp_path / "d2.pkl", state_of(made)))
    assert loaded.model.config.predictor.attributes is None


@pytest.mark.parametrize("name", ["d2.pkl", "pytorch_model.bin", "old.pth"])
def test_a_payload_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    path, trace = tmp_path / name, tmp_path / "trace"
    hostile = {"model": {"a": torch.zeros(2).numpy() if name.endswith("pkl") else torch.zeros(2), "b": Payload(trace)}}
    if name == "d2.pkl":
        path.write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile, path, _use_new_zipfile_serialization=name.endswith("bin"))
    with pytest.raises(DataError, match=rf"{name}: .*mkdir") as caught:
        load_detector(path)
    assert caught.value.exit_code == 3
    assert not trace.exists()
    if name == "d2.pkl":
        pickle.loads(path.read_bytes())
        assert trace.exists(), "the payload is one that runs"


@pytest.mark.parametrize("name", ["d2.pkl", "pytorch_model.bin", "old.pth", "d.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_file_is_refused(tmp_path: Path, model: FasterRCNN, name: str, share: float) -> None:
    path = tmp_path / name
    if name == "d.safetensors":
        save_detector(model, path)
    else:
        {"d2.pkl": write_pkl, "pytorch_model.bin": write_bin, "old.pth": write_old_torch}[name](path, state_of(model))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=rf"{name}: (is not a|holds 0 bytes|claims|is not a pickle)"):
        load_detector(path)


def test_claims_beyond_the_file_are_not_believed(tmp_path: Path) -> None:
    inflated = tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(1_000_000)}, inflated)
    with zipfile.ZipFile(inflated) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(inflated, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    with pytest.raises(DataError, match=r"bomb.pth: claims 4,\d+,\d+ bytes in a file of \d+,\d+"):
        load_detector(inflated)

    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, buffer, _use_new_zipfile_serialization=False)
    legacy = tmp_path / "legacy.pth"
    claimed = buffer.getvalue().replace(struct.pack("<BH", 0x4D, 1000), struct.pack("<Bi", 0x4A, 2_000_000_000))
    assert len(claimed) > len(buffer.getvalue())
    legacy.write_bytes(claimed)
    with pytest.raises(DataError, match=r"legacy.pth: claims 8,000,000,000 bytes in a file of \d,\d+"):
        load_detector(legacy)

    header = b'{"a":{"dtype":"F32","shape":[3000000000],"data_offsets":[0,12000000000]}}'
    (tmp_path / "d.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    with pytest.raises(DataError, match="is not a safetensors file"):
        load_detector(tmp_path / "d.safetensors")


@pytest.mark.parametrize("content", [[1, 2], {"a": "text"}, "text", {"model": {}}])
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "d2.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"d2.pkl: (holds no named arrays|holds \d+ bytes)"):
        load_detector(tmp_path / "d2.pkl")


# -- where from -----------------------------------------------------------------------------------------------------


def test_a_folder_with_several_checkpoints_is_ambiguous(tmp_path: Path, model: FasterRCNN) -> None:
    with pytest.raises(UsageError, match=r"0 checkpoints in the folder \(none\)"):
        load_detector(tmp_path)
    write_bin(tmp_path / "a.bin", state_of(model))
    write_pkl(tmp_path / "b.pkl", state_of(model))
    with pytest.raises(UsageError, match=r"2 checkpoints in the folder \(a.bin, b.pkl\); name one file"):
        load_detector(tmp_path)


@pytest.mark.parametrize("source", ["nowhere/detector.pkl", "detector", "a/b/c"])
def test_a_missing_file_is_a_usage_error(source: str) -> None:
    with pytest.raises(UsageError, match=f"{source}: there is no such file; give a file, a folder, or a hub id"):
        load_detector(source)


def test_a_hub_id_offline_is_exit_code_4(tmp_path: Path) -> None:
    with pytest.raises(
        OfflineError, match="someone/detector: is not in the local cache; run once without --offline"
    ) as caught:
        load_detector("someone/detector", offline=True, cache_dir=tmp_path)
    assert caught.value.exit_code == 4


def test_a_hub_id_in_the_cache_is_read_offline(tmp_path: Path, model: FasterRCNN) -> None:
    commit = "0" * 40
    snapshot = tmp_path / "models--someone--detector" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(commit)
    write_bin(snapshot / "pytorch_model.bin", state_of(model))
    (snapshot / "config.yaml").write_text(yaml.safe_dump({"resnets": {"depth": 50}, "min_detections": 10}))
    loaded = load_detector("someone/detector", offline=True, cache_dir=tmp_path)
    assert_same(loaded.model, state_of(model))
    assert loaded.settings["min_detections"] == 10
