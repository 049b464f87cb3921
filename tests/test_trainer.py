"""The loop: a killed run goes on bit for bit, two processes agree with one, and a batch may come in pieces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.models.test_uniter import TINY, batch
from tests.small_pairs import arguments, write_pairs
from vltk.config.training import TrainingConfig
from vltk.errors import StoppedEarlyError, UsageError, VltkError
from vltk.run_folder import Journal, RunFolder, read_about, read_state, read_weights
from vltk.trainer import Trainer, join_processes
from vltk.types import Batch, Losses

ALL = [word for share in ("mlm=2", "itm=2", "mrfr=1", "mrckl=1") for word in ("--objective", share)]
STEPS = 9

# Kills the process in the middle of a step that it draws itself.
KILLED = """
import os, random, signal, sys
import vltk.run_folder.journal as journal
from vltk.cli import main
name, left = sys.argv[1], random.SystemRandom().randrange(1, int(sys.argv[2]))
step = journal.Journal.step
def counted(self, *args, **kwargs):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), getattr(signal, name))
    step(self, *args, **kwargs)
journal.Journal.step = counted
sys.exit(main(sys.argv[3:]))
"""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def curve(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "second" not in name} for line in found]


def vltk(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vltk", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    examples, features = write_pairs(folder, "train", images=16)
    held_out, held_out_features = write_pairs(folder, "val", images=6)
    return {"folder": folder, "examples": examples, "features": features, "val": held_out, "val-f": held_out_features}


def command(stores: dict[str, Path], out: Path, *more: str) -> list[str]:
    measured = ["--validation-examples", str(stores["val"]), "--validation-features", str(stores["val-f"])]
    run = ["--micro-batches", "2", "--validate-every", "4", "--save-every", "2", "--dropout", "0.2"]
    return arguments(stores["examples"], stores["features"], out, *ALL, *measured, *run, *more, steps=STEPS)


@pytest.fixture(scope="module")
def straight(stores: dict[str, Path]) -> Path:
    out = stores["folder"] / "straight"
    done = vltk(*command(stores, out))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line["step"] for line in curve(out) if "rate" in line] == list(range(1, STEPS + 1))
    return out


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGTERM", 75)])
def test_killed_at_random_steps_and_resumed_equals_the_undisturbed_run(
    stores: dict[str, Path], straight: Path, tmp_path: Path, name: str, code: int
) -> None:
    out = tmp_path / "run"
    for start in (0, 1):
        step = read_state(out / "last")["step"] if (out / "last").exists() else 0
        # A step that is asked to stop ends first; the first time three more are left for the second.
        words = [sys.executable, "-c", KILLED, name, str(STEPS - step - (1 if start else 3)), *command(stores, out)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT)
        assert done.returncode == code, (start, done.stderr)
        assert "Traceback" not in done.stderr
        assert ("the same command resumes" in done.stderr) == (code == 75)
    assert vltk(*command(stores, out)).returncode == 0
    assert curve(out) == curve(straight)
    for kept in ("last", "best"):
        ours, expected = read_weights(out / kept), read_weights(straight / kept)
        assert all(torch.equal(ours[key], expected[key]) for key in expected)


def test_two_processes_come_to_the_weights_of_one(stores: dict[str, Path], straight: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*launcher, "-m", "vltk", *command(stores, tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["processes"] == 2
    ours, expected = curve(tmp_path / "run"), curve(straight)
    assert len(ours) == len(expected)
    for line, other in zip(ours, expected, strict=True):
        assert line == pytest.approx(other, rel=2e-4, abs=1e-6)
    # The sums are the same in another order: single precision over nine updates of rate 1e-3.
    for name, tensor in read_weights(straight / "last").items():
        torch.testing.assert_close(read_weights(tmp_path / "run" / "last")[name], tensor, rtol=1e-3, atol=2e-5)


def test_processes_that_divide_the_weights_come_to_those_of_one_and_go_on_where_they_stopped(
    stores: dict[str, Path], straight: Path, tmp_path: Path
) -> None:
    asked = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_TRANSFORMER_CLS_TO_WRAP": "TransformerLayer"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    stopping = [*launcher, "--no-python", sys.executable, "-c", KILLED, "SIGTERM", "4"]
    for begin, code in ((stopping, 1), ([*launcher, "-m", "vltk"], 0)):  # torchrun ends with 1 whatever its workers say
        words = [*begin, *command(stores, tmp_path / "run")]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT | asked)
        assert done.returncode == code, done.stderr
        assert 0 < read_state(tmp_path / "run" / "last")["step"] <= STEPS
    for line, other in zip(curve(tmp_path / "run"), curve(straight), strict=True):
        assert line == pytest.approx(other, rel=2e-4, abs=1e-6)
    ours, expected = read_weights(tmp_path / "run" / "last"), read_weights(straight / "last")
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=2e-5)


def test_the_launcher_of_the_command_itself_counts_processes_and_saves_when_it_is_stopped(
    stores: dict[str, Path], straight: Path, tmp_path: Path
) -> None:
    # Loaded by every Python that starts; only the first process of the run acts, and only until it has stopped once.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '0' and not os.path.exists(os.environ['MARK']):\n"
        "    import signal, vltk.run_folder.journal as journal\n"
        "    step = journal.Journal.step\n"
        "    def stopped(self, number, *args, **kwargs):\n"
        "        step(self, number, *args, **kwargs)\n"
        "        if number == 3:\n"
        "            open(os.environ['MARK'], 'w').close()\n"
        "            os.kill(os.getppid(), signal.SIGTERM)\n"
        "    journal.Journal.step = stopped\n"
    )
    words = [sys.executable, "-m", "vltk", *command(stores, tmp_path / "run", "--nproc", "2", "--steps", "400")]
    environment = ENVIRONMENT | {"PYTHONPATH": str(tmp_path), "MARK": str(tmp_path / "mark")}
    stopped = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert (stopped.returncode, stopped.stderr.count("vltk: error")) == (75, 1), stopped.stderr
    step = read_state(tmp_path / "run" / "last")["step"]
    assert 3 <= step < 400
    refused = vltk(*command(stores, tmp_path / "other", "--nproc", "2", "--micro-batches", "3"))
    assert refused.returncode == 2
    assert refused.stderr.count("3 micro-batches a step do not divide among 2 processes; use a multiple") == 1
    assert not (tmp_path / "other").exists()


# -- pieces that need no process ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    objective: str
    seed: int
    batch: Batch


@dataclass
class Pieces:
    """A plan that is written down."""

    written: Sequence[Sequence[Piece]]

    def steps(self, start: int = 0) -> Iterator[Sequence[Piece]]:
        yield from self.written[start:]

    def load(self, work: Piece) -> Batch:
        return work.batch


class Matching(nn.Module):
    """ITM without anything random."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = replace(TINY, dropout=0.0).build_for_pretraining()

    def forward(self, objective: str, batch: Batch, generator: torch.Generator) -> Losses:
        logits = self.model.matching_logits(self.model.encoder(batch).pooled)
        values = nn.functional.cross_entropy(logits, batch.targets["match"], reduction="none")
        return Losses(values=values * (float("nan") if objective == "broken" else 1.0), count=len(values))


def matched(rows: int, seed: int) -> Batch:
    made = batch(text=(5,) * rows, regions=(4,) * rows, seed=seed)
    return replace(made, targets={"match": torch.arange(rows) % 2})


def joined(first: Batch, second: Batch) -> Batch:
    tensors = ("input_ids", "text_mask", "regions", "locations", "region_mask")
    both = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in tensors}
    match = torch.cat([first.targets["match"], second.targets["match"]])
    return replace(first, ids=first.ids + second.ids, targets={"match": match}, **both)


def trainer(
    folder: Path, steps: Sequence[Sequence[Batch]], *, objective: str = "itm", **options: Any
) -> tuple[Matching, Trainer]:
    module = Matching()
    plan = Pieces([[Piece(objective, 1, piece) for piece in step] for step in steps])
    extra = {name: options.pop(name) for name in ("validate", "stop", "num_workers") if name in options}
    config = TrainingConfig(steps=len(steps), warmup=0, learning_rate=1.0, micro_batches=len(steps[0]), **options)
    run = RunFolder(folder, config)
    run.begin(resume="auto")
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    joined_processes = join_processes(device="cpu")
    return module, Trainer(
        module,
        plan,
        optimizer,
        config,
        folder=folder,
        processes=joined_processes,
        journal=Journal(run),
        **extra,
    )


def moved(module: Matching) -> list[torch.Tensor]:
    return [
        (after - before).detach() for after, before in zip(module.parameters(), Matching().parameters(), strict=True)
    ]


def test_two_micro_batches_are_one_batch_of_both_whatever_their_sizes(tmp_path: Path) -> None:
    small, large = matched(2, 0), matched(6, 1)
    pieces, loop = trainer(tmp_path / "pieces", [[small, large]], clip=0.0)
    loop.train()
    whole, loop = trainer(tmp_path / "whole", [[joined(small, large)]], clip=0.0)
    loop.train()
    assert curve(tmp_path / "pieces")[0] == pytest.approx(curve(tmp_path / "whole")[0], rel=1e-5)
    for ours, expected in zip(moved(pieces), moved(whole), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-8)


def test_the_published_normalisation_sums_the_means_of_the_micro_batches(tmp_path: Path) -> None:
    batches = matched(2, 0), matched(6, 1)
    both, loop = trainer(tmp_path / "both", [list(batches)], normalisation="published", clip=0.0)
    loop.train()
    alone = []
    for number, one in enumerate(batches):
        module, loop = trainer(tmp_path / f"{number}", [[one]], clip=0.0)
        loop.train()
        alone.append(moved(module))
    for ours, first, second in zip(moved(both), *alone, strict=True):
        torch.testing.assert_close(ours, first + second, rtol=1e-4, atol=1e-8)


def test_gradients_are_clipped_to_the_norm_that_is_reported_before(tmp_path: Path) -> None:
    module, loop = trainer(tmp_path / "run", [[matched(4, 0)]], clip=0.01)
    loop.train()
    assert curve(tmp_path / "run")[0]["gradient norm"] > 0.01
    rate = curve(tmp_path / "run")[0]["rate"]
    length = torch.stack([delta.norm() for delta in moved(module)]).norm()
    assert float(length) == pytest.approx(0.01 * rate, rel=1e-3, abs=1e-9)


def test_weights_of_heads_that_no_step_trains_stay(tmp_path: Path) -> None:
    module, loop = trainer(tmp_path / "run", [[matched(4, 0)], [matched(4, 1)]])
    loop.train()
    untouched = dict(module.model.word_transform.named_parameters())
    assert all(
        torch.equal(p, dict(Matching().model.word_transform.named_parameters())[n]) for n, p in untouched.items()
    )


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_pairs(tmp_path: Path) -> None:
    _, loop = trainer(tmp_path / "run", [[matched(2, 0)]] * 2, objective="broken")
    with pytest.raises(
        VltkError, match=r"the broken loss of step 1 is nan \(pairs 0, 1, \.\.\.\); lower --learning-rate"
    ) as caught:
        loop.train()
    assert caught.value.exit_code == 1
    assert not (tmp_path / "run" / "last").exists()


def test_the_best_validation_is_kept_and_the_last_step_saved(tmp_path: Path) -> None:
    qualities = iter([0.2, 0.9, 0.5])

    def validate(processes: object, module: nn.Module) -> tuple[float, dict[str, float]]:
        assert not module.training
        assert not torch.is_grad_enabled()
        return (quality := next(qualities)), {"accuracy": quality}

    _, loop = trainer(
        tmp_path / "run", [[matched(2, n)] for n in range(3)], validate=validate, validate_every=1, save_every=100
    )
    loop.train()
    assert read_state(tmp_path / "run" / "best")["step"] == 2
    assert read_state(tmp_path / "run" / "last")["step"] == 3
    assert [line["validation accuracy"] for line in curve(tmp_path / "run") if "rate" not in line] == [0.2, 0.9, 0.5]
    assert loop.module.training


def test_checkpoints_can_be_kept_on_the_way(tmp_path: Path) -> None:
    steps = [[matched(2, n)] for n in range(5)]
    _, loop = trainer(tmp_path / "run", steps, keep_every=2, save_every=4)
    before = {name: tensor.clone() for name, tensor in loop.core.state_dict().items()}
    loop.train()
    kept = sorted(path.name for path in (tmp_path / "run").glob("step-*"))
    assert kept == ["step-0", "step-2", "step-4"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in read_weights(tmp_path / "run/step-0").items())
    assert read_about(tmp_path / "run/step-4/model.safetensors")["step"] == 4
    assert read_about(tmp_path / "run/last/model.safetensors")["step"] == 5
    assert "optimizer" not in read_state(tmp_path / "run/step-2")
    asked = iter([False, True])
    _, half = trainer(tmp_path / "half", steps, stop=lambda: next(asked))
    with pytest.raises(StoppedEarlyError, match="stopped after step 2"):
        half.train()
    at_two = read_weights(tmp_path / "half/last")
    assert all(torch.equal(tensor, at_two[name]) for name, tensor in read_weights(tmp_path / "run/step-2").items())


def test_a_request_to_stop_is_obeyed_after_the_step(tmp_path: Path) -> None:
    asked = iter([False, True])
    _, loop = trainer(tmp_path / "run", [[matched(2, n)] for n in range(5)], stop=lambda: next(asked))
    with pytest.raises(StoppedEarlyError, match="stopped after step 2; the same command resumes"):
        loop.train()
    assert read_state(tmp_path / "run" / "last")["step"] == 2


def test_loading_processes_change_nothing(tmp_path: Path) -> None:
    curves = []
    for workers in (0, 2):
        _, loop = trainer(tmp_path / f"{workers}", [[matched(3, n)] for n in range(6)], num_workers=workers)
        loop.train()
        curves.append(curve(tmp_path / f"{workers}"))
    assert curves[0] == curves[1]


def test_processes_that_did_not_find_each_other_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(VltkError, match="2 processes were started, 1 found each other; start them with torchrun"):
        join_processes(device="cpu")


def test_the_first_fsdp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match="accelerate: FSDP 1 is configured; set fsdp_version: 2"):
        join_processes(device="cpu")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "cpu", "precision": "fp16"}, "--precision: fp16 needs a GPU; use bf16 or fp32 on a CPU"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
        ({"device": "gpu"}, "there is no device 'gpu'"),
    ],
)
def test_devices_that_are_not_there(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        join_processes(**options)
    assert sentence in str(caught.value)


def test_half_precision_on_a_cpu_trains(tmp_path: Path) -> None:
    found = join_processes(device="cpu", precision="bf16")
    module = Matching()
    config = TrainingConfig(steps=1, warmup=0)
    run = RunFolder(tmp_path / "run", config)
    run.begin(resume="auto")
    loop = Trainer(
        module,
        Pieces([[Piece("itm", 1, matched(2, 0))]]),
        torch.optim.SGD(module.parameters(), lr=1.0),
        config,
        folder=run.path,
        processes=found,
        journal=Journal(run),
    )
    loop.train()
    assert any(bool(delta.any()) for delta in moved(module))
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
