"""Folders of runs as the commands write them, without having trained anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vltk.metrics.protocol import RETRIEVAL_PROTOCOLS
from vltk.run_folder.outcomes import OUTCOMES, Outcomes, Series, write_outcomes


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def make_run(path: Path, *, seed: int = 0, steps: int = 40, task: str = "flickr30k") -> Path:
    """A run that has ended: settings, receipt and journal."""
    draw = np.random.default_rng(seed)
    asked = {
        "out": str(path),
        "task": task,
        "model": "uniter",
        "seed": seed,
        "init": "uniter-<tiny>",
        "training": {"steps": steps},
    }
    write_json(
        path / "config.json",
        {
            "config": asked,
            "all": asked,
            "inputs": {"examples train": "0" * 32},
            "arguments": ["finetune", "--out", str(path)],
        },
    )
    receipt = {
        "run": str(path), "steps": steps, "parameters": 878_081, "config": asked, "metrics": [], "inputs": {},
        "weights": {"last": "1" * 64}, "versions": {"vltk": "0.1.0", "git": "abc"}, "device": "cpu", "seconds": 75.0,
        "peak": {"memory": 2**30}, "date": "2026-01-02T03:04:05+0000",
    }  # fmt: skip
    write_json(path / "results.json", receipt)
    lines = []
    for step in range(10, steps + 1, 10):
        lines.append({"step": step, "hard": float(draw.random()), "gradient norm": 1.0, "rate": 1e-4, "examples": 4})
        lines.append({"step": step, "validation rsum": 500.0 + step, "validation t2i_r1": 50.0 + step / 4})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4', "utf-8")
    return path


def make_evaluation(
    path: Path, t2i: Sequence[int], i2t: Sequence[int], *, run: Path, config: Mapping[str, Any] | None = None
) -> Path:
    """An evaluation of retrieval with the given ranks; every picture has as many captions."""
    share = len(t2i) // len(i2t)
    images = tuple(f"p{number}" for number in range(len(i2t)))
    texts = tuple(f"{image}#{number}" for image in images for number in range(share))
    owners = tuple(image for image in images for _ in range(share))
    rows = []
    for way, ranks in (("i2t", i2t), ("t2i", t2i)):
        for k in (1, 5, 10):
            value = 100 * float(np.mean(np.array(ranks) <= k))
            ends = [max(0.0, value - 5), min(100.0, value + 5)]
            rows.append(
                {
                    "metric": f"{way}_r{k}",
                    "value": value,
                    "n": len(ranks),
                    "unit": "percent",
                    "higher_is_better": True,
                    "interval_95": ends,
                }
            )
    rows.append(
        {
            "metric": "rsum",
            "value": sum(row["value"] for row in rows),
            "n": len(t2i),
            "unit": "percent",
            "higher_is_better": True,
            "interval_95": None,
        }
    )
    card = {"protocol": RETRIEVAL_PROTOCOLS["split"].name, "split": "s" * 64, "ties": "against"}
    write_json(
        path / "results.json", {"task": "flickr30k", "metrics": rows, "protocol": card, "inputs": {}, "versions": {}}
    )
    write_json(path / "config.json", {"all": {"run": str(run), **(config or {})}})
    series = {
        "t2i": Series(
            kind="rank",
            ids=texts,
            values=np.array(t2i, np.float64),
            clusters=owners,
        ),
        "i2t": Series(kind="rank", ids=images, values=np.array(i2t, np.float64), clusters=images),
    }
    write_outcomes(
        path / OUTCOMES, Outcomes(task="flickr30k", split="s" * 64, protocol={"ties": "against"}, series=series)
    )
    return path
