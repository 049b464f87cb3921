"""Train a detector on annotated boxes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vltk.commands._stopping import stoppable
from vltk.config import WriteConfig, option
from vltk.config.training import DetectorTrainingConfig
from vltk.errors import DataError, StoppedEarlyError, UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal
    from vltk.detection.annotated import AnnotatedPictures
    from vltk.detection.faster_rcnn import FasterRCNN
    from vltk.detection.presets import Preset
    from vltk.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class TrainDetectorConfig:
    """Train a Faster R-CNN on COCO instances, with attributes where the file has them.

    The architecture "demo" is the small detector of the drawn world that vltk ships; r50, r101 and r152 are the full
    networks of bottom-up attention. Crowds are left out. A killed training goes on with the same command.

    Examples:
        $ vltk scenes --out world --images 10000
        $ vltk train-detector --images world/images --instances instances_train.json --out d.safetensors
        $ vltk extract-features --images photos --weights d.safetensors --preset demo --out features.lmdb
    """

    images: Path
    """Folder of the pictures."""
    instances: Path
    """COCO instances file to train on."""
    out: Path = option(incidental=True)
    """File to write, NAME.safetensors; it carries its architecture, class and attribute names."""
    validation: Path | None = None
    """COCO instances file to measure on at the end, pictures in the same folder."""
    architecture: Literal["demo", "r50", "r101", "r152"] = "demo"
    """Which network."""
    preset: str = "demo"
    """Pre-processing and selection rule, see vltk extract-features."""
    weights: str | None = None
    """Detector to start from (file, folder or hub id); weights of another shape, such as other classes, begin anew."""
    dtype: Literal["float32", "float16"] = "float16"
    """Type of the weights in the file; rounding to float16 halves it and changes no measured digit."""
    seed: int = 0
    """Seed of the fresh weights and of the order."""
    save_every: int = option(500, incidental=True)
    """Steps between two saves of the state that a killed training goes on from."""
    threads: int = option(0, incidental=True)
    """Processor threads; 0 leaves it to torch."""
    training: DetectorTrainingConfig = field(default_factory=DetectorTrainingConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: TrainDetectorConfig, terminal: Terminal) -> dict[str, object]:
    """Train, save, and measure."""
    import torch

    from vltk.commands._annotated import read_annotated
    from vltk.detection.architectures import architecture
    from vltk.detection.presets import find_preset
    from vltk.detection.weights import save_detector
    from vltk.run_folder import RunFolder

    if config.out.exists() and not (config.write.overwrite or config.write.dry_run):
        raise UsageError("exists", where=config.out, remedy="add --overwrite or name another file")
    if config.threads:
        torch.set_num_threads(config.threads)
    preset = find_preset(config.preset)
    pictures = read_annotated(config.images, config.instances, preset)
    torch.manual_seed(config.seed)
    built = architecture(config.architecture, classes=pictures.classes, questions=pictures.questions).build()
    predictor = built.config.predictor
    # Read before the training, so that a wrong file is not found out after it.
    held_out = config.validation and read_annotated(config.images, config.validation, preset, like=predictor)
    plan = {
        "pictures": len(pictures),
        "objects": pictures.object_count,
        "classes": len(pictures.classes),
        "attributes": {name: len(values) for name, values in pictures.questions.items()},
        "parameters": sum(p.numel() for p in built.parameters()),
        "steps": config.training.iterations,
        "epochs": round(config.training.iterations * config.training.batch_size / len(pictures), 2),
    }
    if config.write.dry_run:
        return plan
    if config.weights is not None:
        _start_from(built, config.weights, terminal)
    folder = RunFolder(config.out.with_name(f".{config.out.name}.training"), config)
    _train(built, pictures, folder, config, terminal)
    about = {"preset": config.preset, "seed": config.seed, "arguments": " ".join(sys.argv[1:]), **plan}
    save_detector(built, config.out, about=about, dtype=config.dtype, overwrite=config.write.overwrite)
    # Only now is nothing lost by a kill.
    folder.remove()
    measured = {"validation": _measure(config.out, held_out, preset, terminal)} if held_out else {}
    return {"weights": str(config.out), "bytes": config.out.stat().st_size, **plan, **measured}


def _start_from(built: FasterRCNN, source: str, terminal: Terminal) -> None:
    """Copy the weights that fit, and say which begin anew."""
    from vltk.detection.weights import load_detector

    own, given = built.state_dict(), load_detector(source).model.state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise DataError("shares no weight with this architecture", where=source, remedy="name its --architecture")
    built.load_state_dict(fitting, strict=False)
    fresh = sorted(own.keys() - fitting.keys())
    terminal.say(f"{len(fitting)} of {len(own)} tensors come from {source}; anew: {', '.join(fresh) or 'none'}")


def _train(
    built: FasterRCNN,
    pictures: AnnotatedPictures,
    folder: RunFolder,
    config: TrainDetectorConfig,
    terminal: Terminal,
) -> None:
    from vltk.detection.training import TrainingOrder, TrainingState, train
    from vltk.run_folder import read_state, write_checkpoint

    checkpoint = folder.begin(resume="auto")
    state = TrainingState.begin(built, config.training)
    if checkpoint is not None:
        saved = read_state(checkpoint)
        state.restore(saved)
        terminal.say(f"going on after step {state.step}")
    order = TrainingOrder(pictures.sizes, batch_size=config.training.batch_size, seed=config.seed)
    with stoppable(terminal) as stop, terminal.progress(config.training.iterations, "train") as progress:
        progress(state.step)
        for losses in train(state, pictures.load, order, config.training, seed=config.seed):
            progress(1)
            done = state.step == config.training.iterations
            if state.step % 100 == 0 or done:
                terminal.detail(f"step {state.step}: " + ", ".join(f"{name} {v:.3f}" for name, v in losses.items()))
            if stop() or (state.step % config.save_every == 0 and not done):
                kept = state.to_dict()
                write_checkpoint(folder.last, built.state_dict(), {k: v for k, v in kept.items() if k != "model"})
            if stop() and not done:
                remedy = "the same command goes on"
                raise StoppedEarlyError(f"stopped after step {state.step}", where=config.out, remedy=remedy)


def _measure(weights: Path, pictures: AnnotatedPictures, preset: Preset, terminal: Terminal) -> dict[str, object]:
    """Measure what was saved, as it will be loaded."""
    from vltk.detection.evaluation import evaluate
    from vltk.detection.extractor import Picture
    from vltk.detection.region_extractors import DetectedRegions
    from vltk.detection.region_head import AttributeHeadsConfig
    from vltk.detection.weights import load_detector

    loaded = load_detector(weights)
    predictor = loaded.model.config.predictor
    extractor = DetectedRegions(loaded.model.for_inference(), preset, weights_hash=loaded.sha256)
    found = []
    with terminal.progress(len(pictures), "measure") as progress:
        for index, image_id in enumerate(pictures.image_ids):
            found += extractor.extract([extractor.prepare(Picture(image_id=image_id, pixels=pictures.pixels(index)))])
            progress(1)
    questions = predictor.attributes if isinstance(predictor.attributes, AttributeHeadsConfig) else None
    truth = [pictures.truth(index) for index in range(len(pictures))]
    return evaluate(truth, found, attributes=questions, names=predictor.names)
