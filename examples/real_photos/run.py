"""The whole line on photographs: extract, prepare, fine-tune, eval, and isd where phrases have boxes.

    python examples/real_photos/run.py --images flickr30k-images --captions dataset_flickr30k.json \
        --detector faster_rcnn_from_caffe_attr.pkl --init uniter-base.pt --tokenizer bert-base-uncased \
        --entities flickr30k_entities --entity-images flickr30k_entities/test.txt --out work
    python examples/real_photos/run.py --images val2017 --captions captions_train2017.json \
        --test-captions captions_val2017.json --detector frcnn/ --tokenizer vocab.txt --out work

Captions are Karpathy's file, whose splits are used, or COCO's own; which of them is told by what stands in it. Captions
whose photograph is not in the folder are left out. Without ``--detector`` or ``--init`` the full-size detector or the
UNITER begins with random weights, and the figures then say nothing of photographs; that is said on every line of the
result. Stopped anywhere, the same command goes on.

Every line that is printed after a dollar is a command that can be typed by itself.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from vltk.cli import main as vltk

RANDOM = "RANDOM WEIGHTS"


def call(*words: object) -> dict[str, Any]:
    """Run a command of vltk and return its result."""
    line = [str(word) for word in words]
    print("$", shlex.join(["vltk", *line]), flush=True)
    with redirect_stdout(StringIO()) as result:
        code = vltk([*line, "--json"])
    if code:
        raise SystemExit(code)
    found: dict[str, Any] = json.loads(result.getvalue())
    return found


def random_detector(path: Path) -> Path:
    """Write the full-size detector of bottom-up attention with random weights."""
    if not path.is_file():
        import torch

        from vltk.detection.faster_rcnn import FasterRCNNConfig
        from vltk.detection.weights import save_detector

        torch.manual_seed(0)
        save_detector(FasterRCNNConfig().build(), path, about={"source": "random weights, seed 0"}, dtype="float16")
    return path


def layout(captions: Path) -> str:
    """Return "coco" for COCO's own layout and "karpathy" for that of a dataset_*.json."""
    with captions.open(encoding="utf-8") as file:
        content = json.load(file)
    return "coco" if "annotations" in content else "karpathy"


def prepare(options: argparse.Namespace, out: Path, features: Path) -> dict[str, Path]:
    """Make the example stores of both splits; return them with the task that they are of."""
    stores = {}
    for name, split in (("train", options.train_split), ("test", options.test_split)):
        file = options.test_captions if name == "test" and options.test_captions else options.captions
        karpathy = layout(file) == "karpathy"
        source = ["--karpathy", file, "--split", split] if karpathy else ["--coco", file]
        stores[name] = out / f"{name}.lmdb"
        call("prepare", "--task", options.task, *source, "--tokenizer", options.tokenizer, "--features", features,
             "--missing-images", "skip", "--out", stores[name])  # fmt: skip
    return stores


def consistency(options: argparse.Namespace, out: Path, detector: Sequence[object], run: Path) -> dict[str, Any]:
    """Measure how consistently words and annotated regions relate."""
    boxes, entities = out / "entities-boxes.lmdb", out / "entities.lmdb"
    call("extract-features", "--images", options.images, *detector, "--boxes", options.entities / "Annotations",
         "--on-error", "skip", "--out", boxes)  # fmt: skip
    listed = ["--images", options.entity_images] if options.entity_images else []
    call("prepare", "--task", "flickr30k", "--entities", options.entities, *listed, "--tokenizer", options.tokenizer,
         "--features", boxes, "--missing-images", "skip", "--out", entities)  # fmt: skip
    return call("isd", run, "--examples", entities, "--features", boxes, "--other-features", "allow",
                "--shuffles", options.shuffles, "--out", out / "isd")  # fmt: skip


def rows(results: Mapping[str, Mapping[str, Any]], made_with: str) -> list[str]:
    """Return a line for each figure: name, value, interval, number of items, and with which weights."""
    found = []
    for name, result in results.items():
        for row in result["metrics"]:
            low, high = row.get("interval_95") or (float("nan"), float("nan"))
            shown = f"{row['value']:9.4f}  [{low:.4f}, {high:.4f}]  n {row['n']}"
            found.append(f"{name:5} {row['metric']:12} {shown}  {made_with}".rstrip())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Walk the line and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--captions", type=Path, required=True, help="Karpathy's dataset_*.json or COCO's captions")
    parser.add_argument("--test-captions", type=Path, help="captions to evaluate on, where --captions holds one split")
    parser.add_argument("--train-split", default="train", help="split of Karpathy's file to learn from")
    parser.add_argument("--test-split", default="test", help="split of Karpathy's file to evaluate on")
    parser.add_argument("--task", default="flickr30k", choices=["flickr30k", "coco"], help="coco for COCO's captions")
    parser.add_argument("--tokenizer", required=True, help="vocab.txt, folder or hub id")
    parser.add_argument("--detector", help="weights of bottom-up attention's detector; random ones without")
    parser.add_argument("--preset", default="butd-36", help="how regions are chosen")
    parser.add_argument("--init", help="weights of UNITER; random ones without")
    parser.add_argument("--entities", type=Path, help="folder of Flickr30k Entities, for isd")
    parser.add_argument("--entity-images", type=Path, help="list of the images of a split of it")
    parser.add_argument("--shuffles", type=int, default=200, help="how often isd mixes objects up")
    parser.add_argument("--extract", default="", help="further words for vltk extract-features, in one text")
    parser.add_argument("--finetune", default="--recipe uniter-flickr30k-base", help="and for vltk finetune")
    parser.add_argument("--out", type=Path, required=True, help="where everything is made")
    options = parser.parse_args(arguments)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    random = [name for name in ("detector", "init") if getattr(options, name) is None]
    made_with = f"({RANDOM}: {' and '.join(random)})" if random else ""
    if random:
        print(f"{RANDOM}: no --{' and no --'.join(random)}; the figures show that the line holds, and nothing else")
    weights = options.detector or random_detector(out / "random-detector.safetensors")
    detector = ["--weights", weights, "--preset", options.preset, *options.extract.split()]
    features, run = out / "features.lmdb", out / "run"
    call("extract-features", "--images", options.images, *detector, "--on-error", "skip", "--out", features)
    stores = prepare(options, out, features)
    start = ["--init", options.init] if options.init else []
    call("finetune", *options.finetune.split(), "--task", options.task, *start, "--examples", stores["train"],
         "--features", features, "--out", run)  # fmt: skip
    results = {"eval": call("eval", run, "--examples", stores["test"], "--features", features, "--out", out / "eval")}
    if options.entities:
        results["isd"] = consistency(options, out, detector, run)
    print("\n".join(rows(results, made_with)))


if __name__ == "__main__":
    main()
