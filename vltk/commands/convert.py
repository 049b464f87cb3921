"""Turn published checkpoints into files that carry their configuration and run nothing when they are read.

Examples:
    $ vltk convert detector faster_rcnn_from_caffe_attr.pkl detector.safetensors
    $ vltk convert uniter uniter-base.pt uniter.safetensors
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vltk.commands._convert_uniter import ConvertUniterConfig, run_uniter
from vltk.commands._convert_vse import ConvertVSEConfig, run_vse
from vltk.commands._convert_vsrn import ConvertVSRNConfig, run_vsrn
from vltk.config import HubConfig, WriteConfig, argument
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class ConvertDetectorConfig:
    """Convert a bottom-up-attention detector into one safetensors file.

    Reads detectron2's .pkl, pytorch_model.bin with config.yaml, MILVLG's .pth, or a hub id. Nothing in them is
    executed. A key that is missing, left over or of the wrong shape is named, and nothing is written.

    Examples:
        $ vltk convert detector faster_rcnn_from_caffe_attr.pkl detector.safetensors
        $ vltk convert detector unc-nlp/frcnn-vg-finetuned detector.safetensors
    """

    source: str = argument()
    """A checkpoint, a folder with one, or a hub id."""
    out: Path = argument()
    """The file to write; its name ends in .safetensors."""
    layout: Literal["auto", "detectron2", "milvlg"] = "auto"
    """Whose conventions the checkpoint has: MILVLG keeps Caffe's (background first), the others detectron2's."""
    rename: tuple[str, ...] = ()
    """OLD=NEW: the beginning of a key in the checkpoint and what stands for it here."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type of the weights in the file; float16 halves it and rounds."""
    hub: HubConfig = field(default_factory=HubConfig)
    common: WriteConfig = field(default_factory=WriteConfig)


def run_detector(config: ConvertDetectorConfig, terminal: Terminal) -> dict[str, object]:
    """Write the converted detector."""
    from vltk.detection.weights import check_new_detector, load_detector, save_detector

    check_new_detector(config.out, overwrite=config.common.overwrite)
    loaded = load_detector(
        config.source,
        layout=config.layout,
        renames=dict(map(_renaming, config.rename)),
        offline=config.hub.offline,
        cache_dir=config.hub.cache_dir and config.hub.cache_dir / "hub",
    )
    predictor = loaded.model.config.predictor
    summary: dict[str, object] = {
        "source": str(loaded.path),
        "layout": loaded.layout,
        "sha256": loaded.sha256,
        "parameters": sum(weight.numel() for weight in loaded.model.parameters()),
        "classes": predictor.classes,
        "attributes": getattr(predictor.attributes, "count", 0),
        "out": str(config.out),
    }
    if not config.common.dry_run:
        about = {"source_sha256": loaded.sha256, "source_layout": loaded.layout, "settings": loaded.settings}
        save_detector(loaded.model, config.out, about=about, dtype=config.dtype, overwrite=config.common.overwrite)
    return summary


def _renaming(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not old or not equals:
        raise UsageError(f"{text!r} is not OLD=NEW", where="--rename", remedy="e.g. --rename head.cls=roi_heads.cls")
    return old, new


COMMANDS = {
    "detector": (ConvertDetectorConfig, run_detector),
    "uniter": (ConvertUniterConfig, run_uniter),
    "vse": (ConvertVSEConfig, run_vse),
    "vsrn": (ConvertVSRNConfig, run_vsrn),
}
