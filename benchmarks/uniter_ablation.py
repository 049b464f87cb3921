"""Does word-region alignment help, does conditional masking beat joint masking: pre-training on the drawn world.

    python benchmarks/uniter_ablation.py --world world --examples train.lmdb --features features.lmdb --out ablation

Trains the recipe uniter-tiny once for every setting and seed, measures each run on scenes that it never saw, and
prints the means over seeds with 95 % intervals of Student's t, and the differences from the recipe paired by seed.
Runs that are finished are not repeated, so that it can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from uniter_learning import load, measure

SETTINGS = {
    "recipe: conditional masking, no alignment": [],
    "with word-region alignment (0.1)": ["--wra-weight", "0.1"],
    "joint masking": ["--masking", "joint"],
}
FIGURES = {
    "masked colour / bound": ("masked colour", "share of bound"),
    "masked shape / bound": ("masked shape", "share of bound"),
    "matching": ("matching", "accuracy"),
    "one-edit pairs": ("one-edit neighbour", "accuracy"),
}
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Quantiles of Student's t for a two-sided interval of 95 %, by degrees of freedom."""


def train(options: argparse.Namespace, extra: list[str], seed: int, out: Path) -> None:
    files = {
        "--examples": options.examples,
        "--features": options.features,
        "--focus-words": options.world / "attribute_words.txt",
        "--vocab": options.world / "vocab.txt",
        "--out": out,
        "--seed": seed,
        "--steps": options.steps,
    }
    told = [str(part) for pair in files.items() for part in pair]
    command = [sys.executable, "-m", "vltk", "pretrain", "--recipe", "uniter-tiny", "--device", "cpu", *told, *extra]
    subprocess.run([*command, "--quiet"], check=True)


def figures_of(options: argparse.Namespace, name: str, seed: int) -> dict[str, float]:
    folder = options.out / f"{list(SETTINGS).index(name)}-seed{seed}"
    measured = folder / "learning.json"
    if not measured.is_file():
        train(options, SETTINGS[name], seed, folder)
        measured.write_text(json.dumps(measure(load(folder / "last"), options.scenes, None)))
    found: dict[str, Any] = json.loads(measured.read_text())
    return {figure: float(found[group][key]) for figure, (group, key) in FIGURES.items()}


def interval(values: list[float]) -> str:
    if len(values) < 2:
        return f"{statistics.mean(values):+.3f} (one seed)"
    half = T_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3f} +- {half:.3f}"


def table(runs: dict[str, dict[int, dict[str, float]]]) -> str:
    first = runs[next(iter(SETTINGS))]
    lines = []
    for name, seeds in runs.items():
        means = [f"{figure} {interval([found[figure] for found in seeds.values()])}" for figure in FIGURES]
        lines.append(f"{name}, {len(seeds)} seeds: " + "; ".join(means))
        shared = sorted(seeds.keys() & first.keys())
        if seeds is not first and shared:
            gains = {figure: [seeds[s][figure] - first[s][figure] for s in shared] for figure in FIGURES}
            lines.append("    minus the recipe: " + "; ".join(f"{f} {interval(g)}" for f, g in gains.items()))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--examples", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=600)
    options = parser.parse_args()
    runs: dict[str, dict[int, dict[str, float]]] = {name: {} for name in SETTINGS}
    for seed in range(options.seeds):
        for name in SETTINGS:
            runs[name][seed] = figures_of(options, name, seed)
            print(f"seed {seed}, {name}: {runs[name][seed]}", flush=True)
    print(table(runs))


if __name__ == "__main__":
    main()
