"""How much faster suppression runs for all classes at once than class by class, with the same boxes kept.

    python benchmarks/classwise_nms.py --repeats 5

300 proposals of the sizes that a detector makes, 1600 classes with peaked probabilities; the ratio is that of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vltk.detection.boxes import box_iou
from vltk.detection.region_ops import class_wise_nms, nms


def random_regions(count: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return clustered boxes and class probabilities with a few likely classes a box."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([700.0, 500.0])
    sides = torch.rand(count, 2, generator=generator) * 250 + 20
    centres = corners[torch.randint(count // 6, (count,), generator=generator)]
    shifted = centres + torch.randn(count, 2, generator=generator) * 15
    logits = torch.randn(count, classes + 1, generator=generator) * 2.5
    return torch.cat([shifted, shifted + sides], dim=1), logits.softmax(dim=-1)[:, :-1]


def plain_nms(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    """Greedy suppression, box by box, as in the Python version of the Caffe code."""
    waiting = scores.sort(descending=True, stable=True).indices
    keep = []
    while len(waiting):
        keep.append(int(waiting[0]))
        overlap = box_iou(boxes[waiting[:1]], boxes[waiting[1:]])[0]
        waiting = waiting[1:][~(overlap > threshold)]
    return keep


def class_by_class(boxes: Tensor, probs: Tensor, one: Callable[[Tensor, Tensor], Tensor | list[int]]) -> Tensor:
    """Call a suppression for each class; the better of two baselines is the one that counts."""
    keep = torch.zeros(probs.shape, dtype=torch.bool)
    for column in range(probs.shape[1]):
        keep[one(boxes, probs[:, column]), column] = True
    return keep


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=int, default=300)
    parser.add_argument("--classes", type=int, default=1600)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    boxes, probs = random_regions(options.boxes, options.classes)
    threshold = 0.3
    runs: dict[str, Callable[[], Tensor]] = {
        "greedy loop a class": lambda: class_by_class(boxes, probs, lambda b, s: plain_nms(b, s, threshold)),
        "vltk nms a class": lambda: class_by_class(boxes, probs, lambda b, s: nms(b, s, threshold)),
        "all classes": lambda: class_wise_nms(boxes, probs, threshold),
        "all, score >= 0.2": lambda: class_wise_nms(boxes, probs, threshold, min_score=0.2),
    }
    kept = {name: run() for name, run in runs.items()}
    same = torch.equal(kept["greedy loop a class"], kept["all classes"])
    above = torch.equal(kept["all classes"] & (probs >= 0.2), kept["all, score >= 0.2"])
    print(f"{options.boxes} boxes, {options.classes} classes, {int(kept['all classes'].sum())} kept", end=", ")
    print(f"same keeps: {same}, same keeps of score >= 0.2: {above}")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            seconds[name].append(timed(run))
    baseline = min(statistics.median(seconds[name]) for name in ("greedy loop a class", "vltk nms a class"))
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:20} {median * 1000:9.1f} ms, {baseline / median:7.1f} x the faster loop")


if __name__ == "__main__":
    main()
