"""Count the recalls of 5,000 images x 25,000 captions: vltk against the argsort loop of VSE++-style code.

    OMP_NUM_THREADS=1 python benchmarks/recall.py --repetitions 3

Compared, on one float32 score matrix in one run, alternating:

* ``vltk``: ``evaluate_retrieval`` (ranks both ways, recalls, card; NaN refused);
* ``loop``: every row and every column sorted with ``argsort``, the right answers looked up with ``where``
  (evaluation.py of VSE++, SCAN, VSRN and VSE-infinity).

The memory is what the process holds at most while vltk counts, beyond what it held with the matrix alone.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from vltk.metrics.protocol import Ties
from vltk.metrics.retrieval import evaluate_retrieval

CAPTIONS = 5


def draw(images: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    scores = np.empty((images, CAPTIONS * images), np.float32)
    for row in scores:
        generator.standard_normal(dtype=np.float32, out=row)
    owner = np.arange(scores.shape[1]) // CAPTIONS
    scores[owner, np.arange(scores.shape[1])] += 3
    return scores


def loop(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images = len(scores)
    i2t, t2i = np.zeros(images), np.zeros(CAPTIONS * images)
    for index in range(images):
        order = np.argsort(scores[index])[::-1]
        i2t[index] = min(np.where(order == CAPTIONS * index + n)[0][0] for n in range(CAPTIONS))
    turned = scores.T
    for index in range(images):
        for caption in range(CAPTIONS * index, CAPTIONS * index + CAPTIONS):
            order = np.argsort(turned[caption])[::-1]
            t2i[caption] = np.where(order == index)[0][0]
    return i2t + 1, t2i + 1


def count(scores: np.ndarray, ties: Ties = "against") -> tuple[np.ndarray, np.ndarray]:
    images, captions = scores.shape
    names = [str(n) for n in range(captions)]
    owner = np.arange(captions) // CAPTIONS
    result = evaluate_retrieval(scores, owner, image_ids=names[:images], caption_ids=names, ties=ties)
    return result.i2t, result.t2i


def seconds_of(work: Callable[[np.ndarray], object], scores: np.ndarray) -> float:
    start = time.perf_counter()
    work(scores)
    return time.perf_counter() - start


def held() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    scores = draw(options.images)
    before = held()
    count(scores)
    memory = held() - before
    seconds: dict[str, list[float]] = {"vltk": [], "loop": []}
    for _ in range(options.repetitions):
        for name, work in (("vltk", count), ("loop", loop)):
            seconds[name].append(seconds_of(work, scores))
    # Among 125 million float32 some are equal: the loop puts those in an order of chance.
    for worst, sorted_, best in zip(count(scores), loop(scores), count(scores, "for"), strict=True):
        assert ((best <= sorted_) & (sorted_ <= worst)).all(), "the two do not agree"
        assert np.mean(best != worst) < 0.05
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        print(f"{name}: {value:.2f} s ({min(seconds[name]):.2f} to {max(seconds[name]):.2f})")
    print(
        f"recalls of {scores.shape[0]:,} x {scores.shape[1]:,}: {median['loop'] / median['vltk']:.1f} x the argsort "
        f"loop, same ranks up to ties, {memory / 1e6:.0f} MB beyond the matrix of {scores.nbytes / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
