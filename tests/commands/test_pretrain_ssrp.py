"""``vltk pretrain --model ssrp``: both stages of every variant end to end, and what is wrong is one sentence."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_pairs import write_pairs
from tests.small_views import write_augmented
from vltk.cli import main
from vltk.commands import _training
from vltk.models.ssrp import SSRPConfig
from vltk.run_folder import read_about, read_weights

SIZE = {
    "hidden": 16,
    "text-layers": 1,
    "region-layers": 1,
    "joint-layers": 1,
    "heads": 2,
    "intermediate": 24,
    "positions": 32,
    "probe-rank": 8,
    "relation-summary": 8,
    "relation-dim": 8,
}
STAGE_1 = ["--objective", "mlm=1", "--objective", "mrm=1", "--objective", "itm=1", "--augmented", "0.5"]
STAGE_2 = ["--objective", "probing=1"]
OBJECTIVES = ("mlm", "mrm", "itm", "probing")
Stores = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    return write_augmented(tmp_path_factory.mktemp("stores"))


def arguments(stores: Stores, out: Path, *more: str, variant: str = "cross", steps: int = 6) -> list[str]:
    examples, features, views = stores
    given = ["--examples", str(examples), "--features", str(features), "--views", str(views), "--out", str(out)]
    given += ["--model", "ssrp", "--variant", variant, "--steps", str(steps), "--warmup", "2", "--log-every", "1"]
    given += [word for name, size in SIZE.items() for word in (f"--{name}", str(size))]
    return ["pretrain", *given, "--batch-tokens", "400", "--learning-rate", "1e-3", "--device", "cpu", "--quiet", *more]


@pytest.fixture(scope="module", params=["share", "visual", "cross"])
def runs(request: pytest.FixtureRequest, stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, variant = tmp_path_factory.mktemp(request.param), request.param
    assert main(arguments(stores, folder / "one", *STAGE_1, variant=variant, steps=9)) == 0
    second = [*STAGE_2, "--init", str(folder / "one")]
    assert main(arguments(stores, folder / "two", *second, variant=variant, steps=12)) == 0
    return folder, variant


def losses(run: Path) -> list[tuple[str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(name, value) for row in rows for name, value in row.items() if name in OBJECTIVES]


def test_both_stages_train_and_the_second_leaves_the_encoder_alone(runs: Any) -> None:
    folder, variant = runs
    before, after = (read_weights(folder / run / "last") for run in ("one", "two"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    moved = ("text_probe", "region_probe", "text_projection", "region_projection")
    assert {part for name in changed for part in name.split(".") if part in moved} == set(moved)
    assert all(any(part in name for part in moved) for name in changed)
    about = read_about(folder / "two" / "last" / "model.safetensors")
    assert about["model"] == "ssrp"
    # The detector's labels tell how many classes there are.
    told = {name: about["config"][name] for name in ("variant", "region_classes", "attribute_classes", "region_dim")}
    assert told == {"variant": variant, "region_classes": 5, "attribute_classes": 3, "region_dim": 6}
    receipt = json.loads((folder / "two" / "results.json").read_text())
    assert receipt["initialised"] == []
    assert {name for name, _ in losses(folder / "one")} == {"mlm", "mrm", "itm"}
    assert {name for name, _ in losses(folder / "two")} == {"probing"}


@pytest.mark.parametrize("stage", [STAGE_1, STAGE_2], ids=["one", "two"])
def test_a_stopped_run_of_either_stage_goes_on_bit_for_bit(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: list[str]
) -> None:
    assert main(arguments(stores, tmp_path / "whole", *stage)) == 0
    asked = itertools.count(1)
    stopping = contextlib.nullcontext(lambda: next(asked) == 3)
    with monkeypatch.context() as patch:
        patch.setattr(_training, "stoppable", lambda terminal: stopping)
        assert main(arguments(stores, tmp_path / "halves", *stage)) == 75
    assert main(arguments(stores, tmp_path / "halves", *stage)) == 0
    assert_same(*(read_weights(tmp_path / run / "last") for run in ("whole", "halves")))
    assert losses(tmp_path / "whole") == losses(tmp_path / "halves")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_workers_change_nothing(stores: Stores, tmp_path: Path) -> None:
    for workers in ("0", "2"):
        out = tmp_path / workers
        assert main(arguments(stores, out, *STAGE_2, "--num-workers", workers, steps=3)) == 0
    assert_same(*(read_weights(tmp_path / workers / "last") for workers in ("0", "2")))


@pytest.mark.slow
def test_two_processes_come_to_the_probes_of_one(stores: Stores, tmp_path: Path) -> None:
    # The frozen encoder gets no gradient in any process, which the exchange between them must bear.
    more = [*STAGE_2, "--micro-batches", "2"]
    assert main(arguments(stores, tmp_path / "one", *more, steps=4)) == 0
    line = [sys.executable, "-m", "vltk", *arguments(stores, tmp_path / "two", *more, "--nproc", "2", steps=4)]
    subprocess.run(line, check=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"})
    one, two = (read_weights(tmp_path / run / "last") for run in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-6)
    assert torch.equal(
        one["model.encoder.text_layers.0.expand.weight"], two["model.encoder.text_layers.0.expand.weight"]
    )


def test_a_held_out_set_is_measured_with_its_own_views(stores: Stores, tmp_path: Path) -> None:
    examples, features, views = write_augmented(tmp_path, "val", images=4)
    held_out = ["--validation-examples", str(examples), "--validation-features", str(features)]
    out = tmp_path / "run"
    code = main(arguments(stores, out, *STAGE_2, *held_out, "--validation-views", str(views), steps=3))
    assert code == 0
    metrics = json.loads((out / "results.json").read_text())["metrics"]
    assert [row["metric"] for row in metrics] == ["probing loss"]


def test_a_dry_run_says_what_it_would_cost(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(stores, tmp_path / "run", *STAGE_2, "--dry-run", "--json")) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["mixture"][0]["objective"] == "probing"
    assert plan["parameters"] == sum(p.numel() for p in _model().parameters())
    assert not (tmp_path / "run").exists()


def _model() -> torch.nn.Module:
    sizes = {name.replace("-", "_"): size for name, size in SIZE.items()}
    stored = {"vocabulary": 40, "region_dim": 6, "region_classes": 5, "attribute_classes": 3}
    return SSRPConfig(**sizes, **stored).build_for_pretraining()  # type: ignore[arg-type]


def test_stage_two_of_another_kind_or_size_is_refused(
    runs: Any, stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, variant = runs
    other = "cross" if variant != "cross" else "share"
    second = [*STAGE_2, "--init", str(folder / "one"), "--probe-rank", "4"]
    assert main(arguments(stores, tmp_path / "x", *second, variant=other)) == 3
    error = capsys.readouterr().err
    assert f"is of another kind or size: variant {variant} instead of {other}, probe_rank 8 instead of 4" in error
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        (["--views", ""], 2, "probing needs views of the pictures"),
        (["--augmented", "1.5"], 2, "1.5 is no share"),
        (["--temperature", "0"], 2, "0.0 is not positive"),
        (["--probe-weight", "-1"], 2, "--probe-weight: -1.0 is too small"),
        (["--region-parts", "shape"], 2, "there is no 'shape'"),
        (["--model", "uniter"], 2, ""),
        (["--positions", "8"], 2, "word pieces for a model of 8 positions"),
        (["--text-layout", "vcr"], 2, ""),
        (["--hidden", "15"], 2, "2 heads do not divide a hidden size of 15"),
    ],
)
def test_bad_options_are_one_sentence(
    stores: Stores,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    sentence: str,
) -> None:
    given = arguments(stores, tmp_path / "run", *STAGE_2)
    if more == ["--views", ""]:
        place = given.index("--views")
        del given[place : place + 2]
        more = []
    found = main([*given, *more])
    error = capsys.readouterr().err
    assert sentence in error
    assert found in (code, 3)
    assert len(error.strip().splitlines()) == 1 or error.startswith("vltk: error: ") or "Usage" in error
    assert not (tmp_path / "run" / "last").exists()


def test_examples_without_trees_are_one_sentence(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_pairs(tmp_path, "plain", images=4)
    given = (plain[0], plain[1], stores[2])
    assert main(arguments(given, tmp_path / "run", *STAGE_2)) == 3
    error = capsys.readouterr().err
    assert "plain: has no dependency trees with their word pieces, which probing needs; make them with" in error
