"""Does IAIS make relations more consistent, and does it raise recall? Tried on the drawn world, several seeds.

    python benchmarks/iais_learning.py --folder iais --seeds 0 1 2 3 4

Draws a world, describes its pictures with the shipped detector, and fine-tunes ``uniter-tiny`` with the recipe
``uniter-tiny-retrieval``, the hardest of 63 candidates as negatives: without IAIS, with its singular and with its
distributed form, each as published (the relation loss weighs as much as the pairs of an update, here one). Runs of one
seed see the same pairs in the same order. Printed are, beside the untrained start and the exact bounds:

* recalls and Meta-Sum (the sum of the six recalls) in a pool of random scenes that no run saw, and in a hard pool of
  scenes that differ in one attribute or in one exchange of places;
* ISDa on the annotated boxes of the test scenes, lower is more consistent, and the surrogates L(s) and L(d);
* the differences to the runs without IAIS, paired by seed, with 95 % intervals (Student's t) and the p-value of an
  exact permutation of signs (with five seeds never below 0.0625);
* Pearson's correlation of ISDa with Meta-Sum over the checkpoints of each run (the paper's figure 3).

What is in the folder already is not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from vltk.cli import main as vltk
from vltk.metrics.significance import over_seeds, paired_permutation

ARMS: dict[str, list[str]] = {
    "without": [],
    "singular": ["--iais", "singular"],
    "distributed": ["--iais", "distributed"],
}
# Hard negatives as published, with fewer candidates: each pair meets 63 others, the 5 hardest are learnt from.
MINED = ["--negatives", "hard", "--candidates", 63, "--hard", 5, "--alike", 0, "--micro-batches", 2,
         "--learning-rate", 1e-4]  # fmt: skip
START = Path(__file__).resolve().parents[1] / "vltk" / "models" / "uniter-tiny.safetensors"
POOLS = ("random", "hard")
POINTS = 5  # checkpoints of a run that are measured
CAPTIONS = 500  # captions that ISDa is measured on


def call(*words: object) -> None:
    """Run a command of vltk and be quiet about it."""
    with redirect_stdout(StringIO()):
        code = vltk([*map(str, words), "--quiet"])
    if code:
        raise SystemExit(f"vltk {' '.join(map(str, words))}: exit code {code}")


def prepare(folder: Path, images: int, seed: int) -> None:
    """Draw the world and its pools, and make their stores."""
    world = folder / "world"
    if not world.is_dir():
        call("scenes", "--out", world, "--images", images, "--seed", seed)
    test = world / "flickr30k_entities" / "Annotations"
    sets = {"world": (world / "images", []), "boxes": (world / "images", ["--boxes", test])}
    sets |= {name: (world / "pools" / name / "images", []) for name in POOLS}
    for name, (pictures, more) in sets.items():
        look(folder / f"{name}-features.lmdb", pictures, *more)
    files = {split: (world / "dataset_scenes.json", split) for split in ("train", "val")}
    files |= {name: (world / "pools" / name / f"dataset_{name}.json", "test") for name in POOLS}
    for name, (file, split) in files.items():
        tell(folder / f"{name}.lmdb", world, "--karpathy", file, "--split", split)
    entities = world / "flickr30k_entities"
    tell(folder / "entities.lmdb", world, "--entities", entities, "--images", entities / "test.txt")


def look(out: Path, pictures: Path, *words: object) -> None:
    """Describe pictures with the shipped detector unless they are there."""
    if not out.is_dir():
        call("extract-features", "--images", pictures, "--out", out, "--detector", "demo", *words)


def tell(out: Path, world: Path, *words: object) -> None:
    """Prepare captions unless they are there."""
    if not out.is_dir():
        call("prepare", "--task", "flickr30k", *words, "--out", out, "--tokenizer", world / "vocab.txt")


def finetune(folder: Path, arm: str, seed: int, steps: int, more: Sequence[str]) -> Path:
    """Fine-tune one arm with one seed, unless it is there."""
    run = folder / "runs" / f"{arm}-{seed}"
    if not (run / "results.json").is_file():
        call("finetune", "--recipe", "uniter-tiny-retrieval", *MINED, *ARMS[arm], "--iais-weight", 1, "--steps", steps,
             "--validate-every", steps // POINTS, "--keep-every", steps // POINTS, "--save-every", steps,
             "--examples", folder / "train.lmdb", "--features", folder / "world-features.lmdb",
             "--validation-examples", folder / "val.lmdb", "--out", run, "--seed", seed, *more)  # fmt: skip
    return run


def figures_of(results: Path) -> dict[str, float]:
    """Return the figures of a receipt by name."""
    return {row["metric"]: row["value"] for row in json.loads(results.read_text("utf-8"))["metrics"]}


def recalls(folder: Path, pool: str, run: Path, out: Path, *how: object) -> dict[str, float]:
    """Return the figures of a run in a pool, which is evaluated unless that is there."""
    if not (out / "results.json").is_file():
        stores = ["--examples", folder / f"{pool}.lmdb", "--features", folder / f"{pool}-features.lmdb"]
        call("eval", run, *how, *stores, "--out", out)
    return figures_of(out / "results.json")


def measure(folder: Path, run: Path, out: Path) -> dict[str, float]:
    """Return the recalls in both pools, and the distances of relations."""
    start = ["--task", "flickr30k"] if run == START else ["--checkpoint", "last"]
    found: dict[str, float] = {}
    for pool in POOLS:
        told = recalls(folder, pool, run, out / pool, *start)
        found |= {f"{pool} {name}": told[name] for name in ("t2i_r1", "t2i_r5", "i2t_r1", "rsum")}
    return found | distances(folder, run, out)


def distances(folder: Path, run: Path, out: Path) -> dict[str, float]:
    """Return ISDa and its surrogates of the last checkpoint; of a run also how they go together with Meta-Sum."""
    stores = ["--examples", folder / "entities.lmdb", "--features", folder / "boxes-features.lmdb"]
    here, curve = out / "isd", [] if run == START else ["--curve"]
    if not (here / "results.json").is_file():
        call("isd", run, *stores, "--out", here, "--limit", CAPTIONS, "--shuffles", 0, *curve,
             "--other-features", "allow")  # fmt: skip
    results = json.loads((here / "results.json").read_text("utf-8"))
    found = {row["metric"]: row["value"] for row in results["metrics"]}
    together = (results.get("correlation") or {}).get("ISDa with rsum") or {}
    return found | ({} if together.get("pearson") is None else {"pearson": together["pearson"]})


def row(values: Sequence[float], digits: int) -> str:
    """Return mean and interval over the seeds."""
    found = over_seeds(values)
    low, high = found.interval_95 or (float("nan"), float("nan"))
    return f"{found.mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(start: Mapping[str, float], arms: Mapping[str, list[dict[str, float]]], seeds: int) -> list[str]:
    """Return the lines of the result."""
    digits = {"ISDa": 4, "L(s)": 4, "L(d)": 4, "pearson": 2}
    names = [name for name in arms["without"][0] if all(name in run for runs in arms.values() for run in runs)]
    lines = ["| figure | start | " + " | ".join(arms) + " |", "| --- | --- |" + " --- |" * len(arms)]
    for name in names:
        shown = digits.get(name, 1)
        told = f"{start[name]:.{shown}f}" if name in start else ""
        cells = [row([run[name] for run in runs], shown) for runs in arms.values()]
        lines.append(f"| {name} | {told} | " + " | ".join(cells) + " |")
    lines += ["", f"differences to the runs without IAIS, paired over {seeds} seeds:", ""]
    lines += ["| figure | arm | difference [95 %] | p (signs) |", "| --- | --- | --- | --- |"]
    for name in names:
        for arm, runs in arms.items():
            if arm != "without":
                gaps = [run[name] - plain[name] for run, plain in zip(runs, arms["without"], strict=True)]
                p = paired_permutation(np.array(gaps))
                lines.append(f"| {name} | {arm} | {row(gaps, digits.get(name, 1))} | {p:.4f} |")
    return lines


def main() -> None:
    """Print a table, and what it was made of as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is made")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--world-seed", type=int, default=23)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--more", default="", help="further words for vltk finetune, in one text")
    options = parser.parse_args()
    begin = time.perf_counter()
    prepare(options.folder, options.images, options.world_seed)
    start: dict[str, float] = measure(options.folder, START, options.folder / "start")
    arms: dict[str, list[dict[str, Any]]] = {arm: [] for arm in options.arms}
    for seed in options.seeds:
        for arm in options.arms:
            run = finetune(options.folder, arm, seed, options.steps, options.more.split())
            arms[arm].append(measure(options.folder, run, run / "measured"))
            print(json.dumps({"arm": arm, "seed": seed, **arms[arm][-1]}), flush=True)
    world = json.loads((options.folder / "world" / "world.json").read_text("utf-8"))
    print("\n".join(table(start, arms, len(options.seeds))))
    print("bounds of R@1:", {pool["name"]: pool["bound"] for pool in world["pools"]})
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
