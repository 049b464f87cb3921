"""What fine-tuning brings to retrieval on the drawn world, in a random pool and in one of near-identical scenes.

    python benchmarks/retrieval_learning.py --folder retrieval --seeds 0 1 2

Draws a world with families of training scenes that differ in one edit, describes its pictures with the shipped
detector, and fine-tunes ``uniter-tiny`` on the families with the recipe ``uniter-tiny-retrieval``. Printed are the
recalls in per cent of pools that no run saw, before and after, beside what can be reached; the difference that each
run makes, with the interval and the paired test of ``vltk compare``; and the seconds that training took.

What is in the folder already is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from iais_learning import POOLS, START, call, look, recalls, row, tell

from vltk.run_folder.comparison import compare
from vltk.run_folder.outcomes import read_outcomes

SHOWN = ("t2i_r1", "t2i_r5", "i2t_r1", "i2t_r5", "rsum")


def prepare(folder: Path, images: int, families: int, seed: int) -> None:
    """Draw the world, and make the stores of its families, its validation split and its pools."""
    world = folder / "world"
    if not world.is_dir():
        call("scenes", "--out", world, "--images", images, "--families", families, "--seed", seed)
    sets = {"world": world / "images", "families": world / "families" / "images"}
    sets |= {name: world / "pools" / name / "images" for name in POOLS}
    for name, pictures in sets.items():
        look(folder / f"{name}-features.lmdb", pictures)
    files = {"families": (world / "families" / "dataset_families.json", "train")}
    files |= {"val": (world / "dataset_scenes.json", "val")}
    files |= {name: (world / "pools" / name / f"dataset_{name}.json", "test") for name in POOLS}
    for name, (file, split) in files.items():
        tell(folder / f"{name}.lmdb", world, "--karpathy", file, "--split", split)


def finetune(folder: Path, seed: int, more: Sequence[str]) -> Path:
    """Fine-tune with one seed, unless it is there."""
    run = folder / "runs" / str(seed)
    if not (run / "results.json").is_file():
        call("finetune", "--recipe", "uniter-tiny-retrieval", "--examples", folder / "families.lmdb",
             "--features", folder / "families-features.lmdb", "--features", folder / "world-features.lmdb",
             "--validation-examples", folder / "val.lmdb", "--out", run, "--seed", seed, *more)  # fmt: skip
    return run


def evaluate(folder: Path, pool: str, run: Path, out: Path) -> dict[str, float]:
    """Return the recalls in a pool, evaluated unless they are there."""
    start = ["--task", "flickr30k"] if run == START else ["--checkpoint", "last"]
    told = recalls(folder, pool, run, out, *start)
    return {name: told[name] for name in SHOWN}


def difference(first: Path, second: Path) -> str:
    """Return how much text-to-image R@1 rose, with its interval and test."""
    differences = compare([read_outcomes(first)], [read_outcomes(second)])
    found = next(one for one in differences if one.metric == "t2i_r1")
    low, high = found.interval_95
    return f"{found.difference:+.1f} [{low:.1f}, {high:.1f}], p = {found.p:.4f} (n = {found.n})"


def seconds_of(run: Path) -> float:
    """Return how long a run trained."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text("utf-8").splitlines())
    return float([line["seconds"] for line in lines if "seconds" in line][-1])


def main() -> None:
    """Print a table for each pool, then the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is made")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--families", type=int, default=800)
    parser.add_argument("--world-seed", type=int, default=23)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--more", default="", help="further words for vltk finetune, in one text")
    options = parser.parse_args()
    folder = options.folder
    prepare(folder, options.images, options.families, options.world_seed)
    runs = [finetune(folder, seed, options.more.split()) for seed in options.seeds]
    world = json.loads((folder / "world" / "world.json").read_text("utf-8"))
    bounds = {pool["name"]: 100 * pool["bound"] for pool in world["pools"]}
    print("| pool | figure | bound of R@1 | before | after, mean and 95 % interval over the seeds |")
    print("| --- | --- | --- | --- | --- |")
    for pool in POOLS:
        before = evaluate(folder, pool, START, folder / "start" / pool)
        after = [evaluate(folder, pool, run, run / "measured" / pool) for run in runs]
        for name in SHOWN:
            told = row([one[name] for one in after], 1)
            bound = f"{bounds[pool]:.1f}" if name.endswith("r1") else ""
            print(f"| {pool} | {name} | {bound} | {before[name]:.1f} | {told} |")
    for seed, run in zip(options.seeds, runs, strict=True):
        gaps = [f"{pool} {difference(folder / 'start' / pool, run / 'measured' / pool)}" for pool in POOLS]
        print(f"seed {seed}: t2i_r1 {'; '.join(gaps)}; {seconds_of(run):.0f} s")


if __name__ == "__main__":
    main()
