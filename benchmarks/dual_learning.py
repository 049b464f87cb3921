"""What the parts of a dual encoder bring on the drawn world: pooling, warm-up of the negatives, and re-ranking.

    python benchmarks/dual_learning.py --folder dual --seeds 0 1 2
    python benchmarks/dual_learning.py --folder dual --arms "VSRN, four relation layers" "VSRN, mean pooling"

Draws a world, describes its pictures with the shipped detector, and trains dual encoders with the recipe ``vse-tiny``:
as published (GPO, one epoch of all negatives before the hardest ones), with average pooling on both sides (VSE++), and
with the hardest negatives from the first step. Runs of one seed begin alike and see the same pairs in the same order.
Printed are recalls and their sum in a pool of random scenes that no run saw, and in a hard pool of scenes that differ
in one attribute or in one exchange of places, then the differences to the published setting, paired by seed; means with
95 % intervals (Student's t).

Other arms, by name, are VSRN's reasoning over regions against the mean of them, with the recipe ``vsrn-tiny``.

The last row re-ranks: the first arm proposes ``--candidates`` pictures of each text and texts of each picture, and the
shipped ``uniter-tiny``, which sees both sides, puts them in order.

What is in the folder already is not made again; what re-ranks is known by its weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from iais_learning import POOLS, START, call, look, recalls, row, tell

ARMS: dict[str, list[str]] = {
    "GPO": ["--recipe", "vse-tiny"],
    "average pooling": ["--recipe", "vse-tiny", "--image-pooling", "average", "--text-pooling", "average"],
    "GPO, hardest negatives at once": ["--recipe", "vse-tiny", "--mean-warmup", "0"],
}
"""The first is what the others are compared with; each is a recipe and what differs from it."""
VSRN_ARMS: dict[str, list[str]] = {
    "VSRN, four relation layers": ["--recipe", "vsrn-tiny"],
    "VSRN, memory alone": ["--recipe", "vsrn-tiny", "--relation-layers", "0"],
    "VSRN, mean pooling": ["--recipe", "vsrn-tiny", "--relation-layers", "0", "--memory", "mean"],
}
"""VSRN's ablation (Table 4); its own arms, of which the first given is what the others are compared with."""
FIGURES = ("t2i_r1", "t2i_r5", "i2t_r1", "rsum")
RERANKED = "re-ranked by uniter-tiny"


def prepare(folder: Path, *, images: int, captions: int, seed: int) -> None:
    """Draw the world and its pools, and make their stores."""
    world = folder / "world"
    if not world.is_dir():
        call("scenes", "--out", world, "--images", images, "--seed", seed)
    pictures = {"world": world / "images"} | {name: world / "pools" / name / "images" for name in POOLS}
    for name, pixels in pictures.items():
        look(folder / f"{name}-features.lmdb", pixels)
    scenes = world / "dataset_scenes.json"
    tell(folder / "train.lmdb", world, "--karpathy", scenes, "--split", "train", "--limit", captions)
    for name in POOLS:
        file = world / "pools" / name / f"dataset_{name}.json"
        tell(folder / f"{name}.lmdb", world, "--karpathy", file, "--split", "test")


def finetune(folder: Path, arm: str, seed: int, steps: int | None) -> Path:
    """Train one arm with one seed, unless it is there."""
    run = folder / "runs" / f"{arm.replace(' ', '-').replace(',', '')}-{seed}"
    if not (run / "results.json").is_file():
        length = [] if steps is None else ["--steps", steps]
        how = (ARMS | VSRN_ARMS)[arm]
        call("finetune", *how, *length, "--examples", folder / "train.lmdb", "--out", run, "--seed", seed,
             "--features", folder / "world-features.lmdb")  # fmt: skip
    return run


def measure(folder: Path, run: Path, out: Path, *how: object) -> dict[str, float]:
    """Return the recalls in both pools."""
    found: dict[str, float] = {}
    for pool in POOLS:
        told = recalls(folder, pool, run, out / pool, *how)
        found |= {f"{pool} {name}": told[name] for name in FIGURES}
    return found


def table(arms: Mapping[str, Sequence[Mapping[str, float]]], alone: Mapping[str, float]) -> list[str]:
    """Return the lines of the result."""
    names = list(alone)
    first = next(iter(arms))
    head = ["| arm | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    lines = [*head, "| uniter-tiny alone, every pair | " + " | ".join(f"{alone[name]:.1f}" for name in names) + " |"]
    for arm, runs in arms.items():
        lines.append(f"| {arm} | " + " | ".join(row([run[name] for run in runs], 1) for name in names) + " |")
    lines += ["", f"differences to {first}, paired by seed:", "", *head]
    for arm, runs in arms.items():
        if arm != first:
            gaps = [[run[name] - base[name] for run, base in zip(runs, arms[first], strict=True)] for name in names]
            lines.append(f"| {arm} | " + " | ".join(row(gap, 1) for gap in gaps) + " |")
    return lines


def main() -> None:
    """Print a table, and what it was made of as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is made")
    parser.add_argument("--images", type=int, default=10_000, help="scenes of the world")
    parser.add_argument("--captions", type=int, default=6_400, help="captions that are trained on")
    parser.add_argument("--world-seed", type=int, default=7)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=[*ARMS, *VSRN_ARMS])
    parser.add_argument("--steps", type=int, help="updates of each run; the recipe's where left out")
    parser.add_argument("--candidates", type=int, default=10)
    options = parser.parse_args()
    begin = time.perf_counter()
    second = hashlib.sha256(START.read_bytes()).hexdigest()[:8]
    prepare(options.folder, images=options.images, captions=options.captions, seed=options.world_seed)
    arms: dict[str, list[dict[str, float]]] = {arm: [] for arm in [*options.arms, RERANKED]}
    for seed in options.seeds:
        for arm in options.arms:
            run = finetune(options.folder, arm, seed, options.steps)
            arms[arm].append(measure(options.folder, run, run / "measured"))
            print(json.dumps({"arm": arm, "seed": seed, **arms[arm][-1]}), flush=True)
        proposer = finetune(options.folder, options.arms[0], seed, options.steps)
        how = ["--task", "flickr30k", "--rerank-from", proposer, "--candidates", options.candidates]
        arms[RERANKED].append(measure(options.folder, START, proposer / f"reranked-{second}", *how))
        print(json.dumps({"arm": RERANKED, "seed": seed, **arms[RERANKED][-1]}), flush=True)
    alone = measure(options.folder, START, options.folder / f"alone-{second}", "--task", "flickr30k")
    print("\n".join(table(arms, alone)))
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
