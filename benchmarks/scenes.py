"""The drawn world: how fast scenes are sampled, captioned, judged, drawn and written, on one core.

    python benchmarks/scenes.py --scenes 1000 --repetitions 5

Each line is the median of alternating repetitions, on scenes that the repetition makes anew. Drawing is compared with
the plain procedure: the same picture painted at four times its size and reduced as a whole.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from vltk.datasets.scenes import Scene, captions, draw, is_true, random_pool, scene, write_world

Measure = Callable[[int], object]


def fresh(seed: int, count: int) -> list[Scene]:
    return [scene(seed, index) for index in range(count)]


def measures(count: int) -> dict[str, Measure]:
    """Name -> what to time; each takes a seed, so that nothing is remembered from one repetition to the next."""
    kept: dict[int, list[Scene]] = {}

    def sampled(seed: int) -> object:
        kept[seed] = fresh(seed, count)
        return kept[seed]

    def related(seed: int) -> object:
        return [drawn.related for drawn in kept[seed]]

    def captioned(seed: int) -> object:
        return [captions(drawn, 5) for drawn in kept[seed]]

    def judged(seed: int) -> object:
        told = [captions(drawn, 1)[0].meaning for drawn in itertools.islice(kept[seed], 10)]
        return [is_true(meaning, drawn) for meaning in told for drawn in kept[seed]]

    def drawn_small(seed: int) -> object:
        return [draw(one) for one in kept[seed]]

    def drawn_plainly(seed: int) -> object:
        reduced = (Image.fromarray(draw(one, size=4 * one.size)).reduce(4) for one in kept[seed])
        return [np.asarray(picture) for picture in reduced]

    return {
        "sample": sampled,
        "relations": related,
        "5 captions": captioned,
        "judge 10 captions": judged,
        "draw, 128 pixels": drawn_small,
        "draw at 512 and reduce": drawn_plainly,
    }


def timed(work: Measure, seed: int) -> float:
    start = time.perf_counter()
    work(seed)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--without-files", action="store_true", help="do not time the writing of a whole world")
    options = parser.parse_args()

    works = measures(options.scenes)
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repetition in range(options.repetitions):
        for name, work in works.items():
            seconds[name].append(timed(work, repetition))
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:24} {1000 * median / options.scenes:8.3f} ms a scene {options.scenes / median:9.0f} scenes/s")
    small, plain = (statistics.median(seconds[name]) for name in ("draw, 128 pixels", "draw at 512 and reduce"))
    print(f"{'drawing, ratio':24} {plain / small:8.1f} times the scenes of the plain procedure")
    print(f"{'random pool of 100':24} {timed(lambda seed: random_pool(100, seed=seed), 1):8.3f} s")
    if not options.without_files:
        with tempfile.TemporaryDirectory() as folder:
            taken_by_world = timed(
                lambda seed: write_world(Path(folder) / "world", images=options.scenes, seed=seed), 1
            )
        print(f"{'the world with all files':24} {taken_by_world:8.1f} s for {options.scenes} scenes")


if __name__ == "__main__":
    main()
