"""Copy the golden cases that the repository carries, so that a plain clone checks parity too.

python -m tests.golden.carry ../shared/golden
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "data"
CASES = {
    "uniter": [
        "encoder_joint",
        "pretrain_mlm",
        "pretrain_mrfr",
        "pretrain_itm_ot",
        "ot_default",
        "ipot_random_cost",
        "gather_and_ot_index",
        "lr_schedules",
        "adamw_steps",
        "token_bucket_sampler",
        "num_bb_rule",
        "db_img",
        "itr_recall",
        "re_iou",
        "vcr_accuracy",
        "vqa_score",
    ],
    "detector": ["anchors_boxes", "nms", "roi_ops", "selection_a", "selection_b"],
}
# Files that a case reads beside its tensors.
FOLDERS = {"uniter": ["db/toyimg"]}


def carry(golden: Path) -> int:
    """Write the selection and return its size in bytes."""
    shutil.rmtree(HERE, ignore_errors=True)
    for name, wanted in CASES.items():
        source, target = golden / name, HERE / name
        target.mkdir(parents=True)
        index: dict[str, Any] = json.loads((source / "index.json").read_text("utf-8"))
        kept = "cases" if "cases" in index else "files"
        suffix = ".safetensors" if kept == "files" else ""
        index[kept] = {case + suffix: index[kept][case + suffix] for case in wanted}
        (target / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", "utf-8")
        for case, entry in index[kept].items():
            shutil.copyfile(source / entry.get("file", case), target / entry.get("file", case))
        for folder in FOLDERS.get(name, []):
            shutil.copytree(source / folder, target / folder, copy_function=shutil.copyfile)
    for path in HERE.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.stdout.write(f"{carry(Path(sys.argv[1]))} bytes\n")
