"""SSRP-Share, SSRP-Visual and SSRP-Cross side by side: both stages on the drawn world, trees, relations, retrieval.

    python benchmarks/ssrp_learning.py --folder ssrp --seeds 0 1 2

Draws a world, lets its grammar paraphrase and parse the training captions, makes views of the pictures, and trains
each variant with the recipes ``ssrp-VARIANT-tiny`` and ``ssrp-VARIANT-tiny-probe``. What every run learnt is then
looked at on scenes that no run saw and on captions of held-out templates, as ``probe_learning.py`` does it: a seed is
that of both stages, of the captions, of the untrained encoder and of the probes at once. Alignment is measured on
captions of the world's validation split, half of them beside another picture. Retrieval is judged by what the scenes
hold; what the runs of a variant gain with a query is averaged over the seeds, and intervals are over queries.

What is in the folder already is not made again, so that the same command goes on where it was stopped; ``--variants``
and ``--seeds`` divide the work among several calls, after the first of them made the stores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from iais_learning import call, figures_of, look, tell
from probe_learning import CONTROLS, prepare, probed, retrieved, show, show_retrieval

VARIANTS = ("share", "visual", "cross")
ALIGNMENT = "itm accuracy"
EPOCHS = 20  # of each probe; there are 34 of them for every run


def make_stores(folder: Path, images: int, seed: int) -> None:
    """Draw the world and make what the runs learn from."""
    world = folder / "world"
    if not world.is_dir():
        call("scenes", "--out", world, "--images", images, "--seed", seed)
    look(folder / "world-features.lmdb", world / "images")
    scenes = world / "dataset_scenes.json"
    for split in ("train", "val"):
        tell(folder / f"world-{split}.lmdb", world, "--karpathy", scenes, "--split", split)
    if not (folder / "said.lmdb").is_dir():
        call("augment", "--examples", folder / "world-train.lmdb", "--out", folder / "said.lmdb", "--grammar",
             "--per-pivot", 2, "--tokenizer", world / "vocab.txt")  # fmt: skip
    if not (folder / "views.lmdb").is_dir():
        call("augment", "--images", world / "images", "--features", folder / "world-features.lmdb", "--out",
             folder / "views.lmdb", "--view", "flip", "--view", "roi-jitter-1.2", "--detector", "demo")  # fmt: skip


def trained(folder: Path, variant: str, seed: int, more: Sequence[str]) -> str:
    """Train both stages of a variant unless they are there; return the run of the second."""
    first, second = (folder / f"{variant}-{seed}-stage{stage}" for stage in (1, 2))
    stores = ["--examples", folder / "said.lmdb", "--features", folder / "world-features.lmdb"]
    stores += ["--views", folder / "views.lmdb", "--device", "cpu", "--seed", seed]
    if not (first / "results.json").is_file():
        held_out = ["--validation-examples", folder / "world-val.lmdb"]
        held_out += ["--validation-features", folder / "world-features.lmdb", "--validation-limit", 1000]
        call("pretrain", "--recipe", f"ssrp-{variant}-tiny", *stores, *held_out, "--out", first, *more)
    if not (second / "results.json").is_file():
        call("pretrain", "--recipe", f"ssrp-{variant}-tiny-probe", "--init", first, *stores, "--out", second)
    return str(second)


def minutes(run: str) -> float:
    """Return how long both stages of a run took."""
    stages = [Path(run.removesuffix("2") + stage) / "results.json" for stage in "12"]
    return sum(json.loads(path.read_text("utf-8"))["seconds"] for path in stages) / 60


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return the mean over seeds, with the least and the largest."""
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def column(runs: Sequence[str], receipts: Sequence[dict], figures: Sequence) -> dict[str, str]:
    """Return the cells of a variant."""
    told = [{row["metric"]: row["value"] for row in receipt["metrics"]} for receipt in receipts]
    cells = {"chosen layers": ", ".join(str(receipt["layer"]) for receipt in receipts)}
    cells |= {name: spread([one[name] for one in told]) for name in ("UUAS", "distance Spearman")}
    for control in CONTROLS:
        cells[f"points over {control}"] = spread([100 * one[f"UUAS over {control}"] for one in told], 1)
    cells["UUAS of its own probe"] = spread([one["UUAS of the own probe"] for one in told])
    for one in figures:
        if "random" not in one.metric:
            low, high = one.interval_95
            cells[one.metric] = f"{one.value:.3f} [{low:.3f}, {high:.3f}]"
    aligned = [figures_of(Path(run.removesuffix("2") + "1") / "results.json").get(ALIGNMENT) for run in runs]
    if all(value is not None for value in aligned):
        cells["alignment accuracy, validation split"] = spread([value for value in aligned if value is not None])
    cells["minutes of both stages"] = spread([minutes(run) for run in runs], 1)
    return cells


def main() -> None:
    """Train what is missing, print every layer of every variant, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is made")
    parser.add_argument("--images", type=int, default=10_000, help="of the world that is learnt from")
    parser.add_argument("--world-seed", type=int, default=7)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scenes", type=int, default=700, help="that are probed; five sevenths train probes")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--more", default="", help="further words for the first stage, in one text")
    options = parser.parse_args()
    begin = time.process_time()
    make_stores(options.folder, options.images, options.world_seed)
    scenes, corpus = prepare(options.folder / "probes", options.scenes, options.seeds)
    columns = {}
    for variant in options.variants:
        runs = [trained(options.folder, variant, seed, options.more.split()) for seed in options.seeds]
        label = f"ssrp-{variant}"
        receipts = [
            probed(run, options.folder / "probes", label, seed, EPOCHS)
            for run, seed in zip(runs, options.seeds, strict=True)
        ]
        show(label, receipts)
        figures = retrieved(runs, corpus, scenes, options.queries)
        show_retrieval(label, figures, options.queries, len(scenes))
        columns[label] = column(runs, receipts, figures)
    print(f"\nmean over the seeds {options.seeds} (least to largest); retrieval: 95 % interval over queries\n")
    print("| figure | " + " | ".join(columns) + " |\n| --- |" + " --- |" * len(columns))
    for name in next(iter(columns.values())):
        print(f"| {name} | " + " | ".join(cells.get(name, "") for cells in columns.values()) + " |")
    print(f"\n{(time.process_time() - begin) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
