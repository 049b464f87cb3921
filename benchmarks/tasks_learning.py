"""What each downstream task reaches on the drawn world, beside a blind look, what text alone gives away, and the bound.

    python benchmarks/tasks_learning.py --folder tasks

Draws a world, describes its pictures with the shipped detector, and fine-tunes each task from the shipped weights with
its recipe ``uniter-tiny-TASK`` and several seeds. The default world is the one whose training pictures the weights saw
in pre-training; neither they nor the fine-tuning saw the test pictures. Figures are of the test split: the mean over
the seeds with its 95 % interval (Student's t), the same models shown another picture's regions, and the items that
attributes alone resolve apart from those that need a relation. What is in the folder already is not made again; a
table that was interrupted goes on with the same command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from vltk.cli import main as vltk
from vltk.config.settings import recipes
from vltk.evaluator import Execution
from vltk.evaluator.prediction import predict
from vltk.finetuning import open_run
from vltk.metrics.significance import over_seeds
from vltk.models._checkpoints import SHIPPED
from vltk.run_folder import file_sha256
from vltk.run_folder.predictions import PredictionLog
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.stores.pickle_reader import read_pickle
from vltk.tasks._task import Split

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the result.

    Attributes:
        task: name of the task.
        source: words for ``vltk prepare``, made of the world's folder and the name of a split.
        clues: what resolves each item of the test split, by example id.
        summary: name of the task in the world's ``world.json``.
        features: of which folder of pictures.
        options: further words for ``vltk finetune``.
    """

    task: str
    source: Callable[[Path, str], Sequence[Any]]
    clues: Callable[[Path], Mapping[str, str]]
    summary: str
    features: str = "regions"
    options: tuple[str, ...] = ()


def _vqa(world: Path, split: str) -> list[Any]:
    files = [world / "vqa_v2" / f"v2_{name}_{split}" for name in ("OpenEnded_mscoco", "mscoco")]
    return ["--questions", f"{files[0]}_questions.json", "--annotations", f"{files[1]}_annotations.json"]


def _lines(path: Path, key: str) -> dict[str, str]:
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {str(record[key]): record["clue"] for record in records}


def _vqa_clues(world: Path) -> dict[str, str]:
    content = json.loads((world / "vqa_v2" / "v2_mscoco_test_annotations.json").read_text("utf-8"))
    return {str(record["question_id"]): record["clue"] for record in content["annotations"]}


def _gqa_clues(world: Path) -> dict[str, str]:
    content = json.loads((world / "gqa" / "test_balanced_questions.json").read_text("utf-8"))
    return {name: record["clue"] for name, record in content.items()}


def _refcoco(world: Path, split: str) -> list[Any]:
    folder = world / "refcoco" / "refcoco"
    return ["--references", folder / "refs(unc).p", "--instances", folder / "instances.json", "--split",
            "testA" if split == "test" else split]  # fmt: skip


def _refcoco_clues(world: Path) -> dict[str, str]:
    file = world / "refcoco" / "refcoco" / "refs(unc).p"
    references = read_pickle(file, where=str(file))
    return {str(told["sent_id"]): told["clue"] for one in references for told in one["sentences"]}


_NLVR2 = {"train": "train", "val": "dev", "test": "test1"}
_SNLI_VE = {"train": "train", "val": "dev", "test": "test"}


def _nlvr2(setting: str) -> Entry:
    return Entry(
        task="nlvr2",
        source=lambda world, split: ["--annotations", world / "nlvr2" / f"{_NLVR2[split]}.json"],
        clues=lambda world: _lines(world / "nlvr2" / "test1.json", "identifier"),
        summary="NLVR2",
        features="nlvr2",
        options=("--setting", setting),
    )


ENTRIES: dict[str, Entry] = {
    "vqa": Entry(task="vqa", source=_vqa, clues=_vqa_clues, summary="VQA v2"),
    "gqa": Entry(
        task="gqa",
        source=lambda world, split: ["--questions", world / "gqa" / f"{split}_balanced_questions.json"],
        clues=_gqa_clues,
        summary="GQA (balanced)",
    ),
    "nlvr2-triplet": _nlvr2("triplet"),
    "nlvr2-pair": _nlvr2("pair"),
    "nlvr2-pair-biattn": _nlvr2("pair-biattn"),
    "snli_ve": Entry(
        task="snli_ve",
        source=lambda world, split: ["--annotations", world / "snli_ve" / f"snli_ve_{_SNLI_VE[split]}.jsonl"],
        clues=lambda world: _lines(world / "snli_ve" / "snli_ve_test.jsonl", "pairID"),
        summary="SNLI-VE",
    ),
    "vcr": Entry(
        task="vcr",
        source=lambda world, split: [
            "--annotations", world / "vcr" / f"{split}.jsonl", "--pictures", world / "vcr" / "vcr1images"
        ],
        clues=lambda world: _lines(world / "vcr" / "test.jsonl", "annot_id"),
        summary="VCR Q to AR",
    ),
    "refcoco": Entry(
        task="refcoco", source=_refcoco, clues=_refcoco_clues, summary="RefCOCO", features="given"
    ),
}  # fmt: skip


def call(*words: Any) -> None:
    """Run a command of vltk quietly; end where it fails."""
    with redirect_stdout(StringIO()):
        code = vltk([*map(str, words), "--quiet"])
    if code:
        raise SystemExit(f"vltk {words[0]} ended with {code}")


def prepare(folder: Path, names: Sequence[str], images: int, seed: int) -> None:
    """Draw the world, describe its pictures, prepare the examples."""
    world = folder / "world"
    if not (world / "world.json").is_file():
        call("scenes", "--out", world, "--images", images, "--seed", seed)
    boxes = [
        word for split in SPLITS for word in ("--boxes", world / "coco" / "annotations" / f"instances_{split}.json")
    ]
    pictures = {"regions": ("images", []), "nlvr2": ("nlvr2/images", []), "given": ("images", boxes)}
    for kind in {ENTRIES[name].features for name in names}:
        where, more = pictures[kind]
        out = folder / f"{kind}.lmdb"
        if not out.is_dir():
            call("extract-features", "--images", world / where, "--out", out, "--detector", "demo",
                 "--batch-size", 32, *more)  # fmt: skip
    for entry in (ENTRIES[name] for name in names):
        for split in SPLITS:
            out = folder / f"{entry.task}-{split}.lmdb"
            if not out.is_dir():
                call("prepare", "--task", entry.task, *entry.source(world, split), "--out", out,
                     "--tokenizer", world / "vocab.txt")  # fmt: skip


def made_of(recipe: str, weights: Path, more: Sequence[str]) -> str:
    """Return a name for what decides a run beside its seed, so that other weights or settings begin anew."""
    told = [file_sha256(file) for file in (weights, recipes()[recipe])]
    return hashlib.sha256(" ".join([*told, *more]).encode()).hexdigest()[:8]


def finetune(folder: Path, name: str, seed: int, init: Path | None, more: Sequence[str]) -> tuple[Path, float]:
    """Fine-tune a task and return its run with the processor's seconds that it took, on however busy a machine."""
    entry = ENTRIES[name]
    recipe = f"uniter-tiny-{entry.task.replace('_', '-')}"
    run = folder / "runs" / made_of(recipe, init or SHIPPED / "uniter-tiny.safetensors", more) / f"{name}-{seed}"
    start = ["--init", init] if init is not None else []
    took = run.with_name(f"{run.name}.seconds")
    if not (run / "results.json").is_file():
        began, before = time.process_time(), float(took.read_text("utf-8")) if took.is_file() else 0.0
        took.parent.mkdir(parents=True, exist_ok=True)
        try:
            call("finetune", "--recipe", recipe, *entry.options, *start,
                 "--examples", folder / f"{entry.task}-train.lmdb", "--features", folder / f"{entry.features}.lmdb",
                 "--validation-examples", folder / f"{entry.task}-val.lmdb", "--validation-limit", 300,
                 "--out", run, "--seed", seed, *more)  # fmt: skip
        finally:
            took.write_text(str(before + time.process_time() - began), "utf-8")
    return run, float(took.read_text("utf-8"))


def outcomes(folder: Path, name: str, run: Path, *, blind: bool) -> dict[str, float]:
    """Return what each test item counts in the primary figure."""
    entry = ENTRIES[name]
    split = Split(
        name=name,
        examples=ExampleStore.open(folder / f"{entry.task}-test.lmdb"),
        features=FeatureStore.open(folder / f"{entry.features}.lmdb"),
    )
    task: Any = open_run(run, split).task
    task.blind = blind
    file = run / ("blind.jsonl" if blind else "predictions.jsonl")
    log = PredictionLog(file, {"run": str(run), "blind": blind}, all_scores=False)
    predict(task, split, log, execution=Execution())
    pairs = task.paired(split, log.predictions())
    return {example.id: task.counted(example, given, split)[task.primary] for example, given in pairs}


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and interval over the seeds."""
    found = over_seeds(values)
    interval = None if found.interval_95 is None else [round(bound, 3) for bound in found.interval_95]
    return {"mean": round(found.mean, 3), "interval_95": interval, "seeds": [round(value, 3) for value in values]}


def learn(folder: Path, name: str, seeds: Sequence[int], init: Path | None, more: Sequence[str]) -> dict[str, Any]:
    """Return the row of a task."""
    clues = ENTRIES[name].clues(folder / "world")
    figures: dict[str, list[float]] = {"accuracy": [], "blind": [], "attributes": [], "relation": []}
    seconds = []
    for seed in seeds:
        run, took = finetune(folder, name, seed, init, more)
        seconds.append(took)
        seen, unseen = (outcomes(folder, name, run, blind=blind) for blind in (False, True))
        figures["accuracy"].append(float(np.mean(list(seen.values()))))
        figures["blind"].append(float(np.mean(list(unseen.values()))))
        for clue in ("attributes", "relation"):
            kept = [value for key, value in seen.items() if clues[key] == clue]
            figures[clue].append(float(np.mean(kept)) if kept else float("nan"))
    found = {figure: summary(values) for figure, values in figures.items()}
    seen_interval, blind_interval = found["accuracy"]["interval_95"], found["blind"]["interval_95"]
    world = json.loads((folder / "world" / "world.json").read_text("utf-8"))
    known = next(one for one in world["tasks"] if one["task"] == ENTRIES[name].summary)
    return {
        "task": name,
        "items": len(seen),
        **found,
        "gain over blind": summary(np.subtract(figures["accuracy"], figures["blind"]).tolist()),
        "intervals apart": None if seen_interval is None else seen_interval[0] > blind_interval[1],
        "text alone": known["prior_text"],
        "chance": known["chance"],
        "bound": known["bound"],
        "processor seconds": [round(value) for value in seconds],
    }


def main() -> None:
    """Print one JSON line a task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is made")
    parser.add_argument("--init", type=Path, help="other weights than the recipes' uniter-tiny")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--world-seed", type=int, default=7)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(ENTRIES), choices=list(ENTRIES))
    parser.add_argument("--more", default="", help="further words for vltk finetune, in one text")
    options = parser.parse_args()
    prepare(options.folder, options.tasks, options.images, options.world_seed)
    for name in options.tasks:
        row = learn(options.folder, name, options.seeds, options.init, options.more.split())
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
