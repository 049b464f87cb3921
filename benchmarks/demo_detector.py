"""What the shipped detector finds in drawn scenes that it never saw, and what its features hold.

python benchmarks/demo_detector.py --scenes 500
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vltk.datasets.scenes import Scene, draw, scene
from vltk.detection.evaluation import Annotated, evaluate
from vltk.detection.extractor import Picture
from vltk.detection.presets import find_preset
from vltk.detection.region_extractors import DEMO_WEIGHTS, DetectedRegions
from vltk.detection.region_head import AttributeHeadsConfig
from vltk.detection.weights import load_detector
from vltk.metrics.detection import match
from vltk.types import RegionFeatures

SEED = 990_001
QUESTIONS = ("shape", "colour", "texture", "size")


def annotated(drawn: Scene, shapes: Sequence[str], attributes: AttributeHeadsConfig) -> Annotated:
    answers = {
        head.name: np.array([head.values.index(thing.attribute(head.name)) for thing in drawn.objects])
        for head in attributes.heads
    }
    classes = np.array([shapes.index(thing.shape) for thing in drawn.objects])
    return Annotated(boxes=np.array([o.box for o in drawn.objects], np.float32), classes=classes, attributes=answers)


def matched(scenes: Sequence[Scene], found: Sequence[RegionFeatures]) -> tuple[Tensor, dict[str, list[str]]]:
    """Features of the regions that match an object, and what the object is."""
    features, truth = [], {question: [] for question in QUESTIONS}
    for drawn, regions in zip(scenes, found, strict=True):
        boxes = np.array([thing.box for thing in drawn.objects], np.float32)
        pairs = match(boxes, regions.boxes, np.argsort(-regions.scores, kind="stable"), iou=0.5)
        for row in np.flatnonzero(pairs >= 0):
            features.append(regions.features[row].astype(np.float16).astype(np.float32))
            for question in QUESTIONS:
                truth[question].append(drawn.objects[pairs[row]].attribute(question))
    return torch.from_numpy(np.stack(features)), truth


def probe(train: Tensor, train_values: list[str], test: Tensor, test_values: list[str]) -> float:
    """Accuracy of a linear classifier on standardised features, trained to convergence with weight decay."""
    names = sorted(set(train_values))
    labels, wanted = (torch.tensor([names.index(v) for v in values]) for values in (train_values, test_values))
    mean, std = train.mean(0), train.std(0) + 1e-3
    torch.manual_seed(0)
    layer = torch.nn.Linear(train.shape[1], len(names))
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")
    inputs = (train - mean) / std

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(layer(inputs), labels) + 1e-3 * layer.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return float((layer((test - mean) / std).argmax(1) == wanted).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=500)
    options = parser.parse_args()
    loaded = load_detector(DEMO_WEIGHTS)
    predictor = loaded.model.config.predictor
    extractor = DetectedRegions(loaded.model.for_inference(), find_preset("demo"), weights_hash=loaded.sha256)

    def regions(scenes: Sequence[Scene]) -> list[RegionFeatures]:
        pictures = [Picture(image_id=str(drawn.index), pixels=draw(drawn)) for drawn in scenes]
        return [one for picture in pictures for one in extractor.extract([extractor.prepare(picture)])]

    unseen = [scene(SEED, index) for index in range(options.scenes)]
    others = [scene(SEED + 1, index) for index in range(2 * options.scenes)]
    found = regions(unseen)
    truth = [annotated(drawn, predictor.names, predictor.attributes) for drawn in unseen]
    report = evaluate(truth, found, attributes=predictor.attributes, names=predictor.names)
    report["regions a scene"] = round(float(np.mean([len(one) for one in found])), 2)
    train, train_truth = matched(others, regions(others))
    test, test_truth = matched(unseen, found)
    report["linear probes on the feature"] = {
        question: probe(train, train_truth[question], test, test_truth[question]) for question in QUESTIONS
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
