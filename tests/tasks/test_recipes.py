"""The recipes of the tasks that answer each example hold what their authors ran."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from vltk.cli import main

# The published configurations: rate, rate of the head, tokens of a micro-batch, micro-batches (GPUs times
# accumulation), steps, warm-up, clipping, longest text, seed.
PUBLISHED = {
    "uniter-vqa-base": (8e-5, 10, 5120, 4 * 5, 6000, 600, 2, 60, 42),
    "uniter-vqa-large": (5e-5, 10, 3072, 8 * 4, 5000, 500, 2, 60, 42),
    "uniter-nlvr2-base": (3e-5, 1, 10240, 1, 8000, 800, 2, 60, 77),
    "uniter-nlvr2-large": (2e-5, 1, 5120, 2 * 2, 5000, 500, 2, 60, 24),
    "uniter-snli-ve-base": (8e-5, 1, 4096, 2 * 4, 4000, 400, 2, 60, 42),
    "uniter-snli-ve-large": (3e-5, 1, 4096, 4 * 2, 4000, 400, 2, 60, 42),
    # One of a question's four sequences counts in the published budget, the whole question here.
    "uniter-vcr-base-finetune": (6e-5, 1, 4 * 4000, 4 * 5, 8000, 800, 2, 220, 42),
    "uniter-vcr-large-finetune": (6e-5, 1, 4 * 4000, 4 * 5, 8000, 800, 2, 220, 42),
    # 128 expressions with about 20 words and boxes each.
    "uniter-refcoco-base": (1e-4, 1, 128 * 20, 1, 24_000, 1500, 2, 60, 24),
    "uniter-refcoco-plus-base": (6e-5, 1, 128 * 20, 1, 10_000, 1000, 2, 60, 24),
    "uniter-refcocog-base": (1e-4, 1, 128 * 20, 1, 24_000, 1500, 2, 60, 24),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "uniter-nlvr2-base": {"setting": "pair-biattn"},
    "uniter-snli-ve-base": {"loss": "bce", "label_scores": "gold"},
    "uniter-refcoco-base": {"head_layers": 1, "loss": "cross-entropy", "reduction": "sum"},
    "uniter-refcoco-plus-base": {"head_layers": 2, "loss": "cross-entropy", "reduction": "sum"},
    "uniter-refcocog-base": {"head_layers": 1, "loss": "cross-entropy", "reduction": "sum"},
}


def resolved(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([command, "--recipe", name, "--print-config"]) == 0
    return tomllib.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = resolved("finetune", name, capsys)
    training, data = found["training"], found["data"]
    rates = (training["learning_rate"], training["head_rate"])
    sizes = (data["batch_tokens"], training["micro_batches"], training["steps"], training["warmup"], training["clip"])
    assert (*rates, *sizes, data["max_text_length"], found["seed"]) == PUBLISHED[name]
    assert training["normalisation"] == "published"
    assert training["weight_decay"] == 0.01
    assert found["architecture"]["dropout"] == 0.1
    if "refcoco" not in name:
        assert (data["min_score"], data["min_boxes"], data["max_boxes"]) == (0.2, 10, 100)
        assert data["batching"] == "official"
    assert OPTIONS.get(name, {}).items() <= found["options"].items()


@pytest.mark.parametrize("size", ["base", "large"])
def test_the_second_stage_of_vcr(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = resolved("pretrain", f"uniter-vcr-{size}", capsys)
    training, data = found["training"], found["data"]
    shape = (training["steps"], training["warmup"], training["learning_rate"], training["clip"])
    assert shape == (45_000, 4500, 3e-5, 0)
    assert (training["micro_batches"], data["batch_tokens"], data["max_text_length"]) == (4 * 4, 6144, 220)
    words = "mlm=2" if size == "base" else "mlm=10"
    assert data["objective"] == [words, "mrfr=1", "mrckl=1"]
    assert data["text_layout"] == "vcr"
