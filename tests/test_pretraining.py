"""The parts of a pre-training run: what is measured, what is estimated, what decays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.small_pairs import write_pairs
from vltk.batching import TokenBuckets
from vltk.errors import DataError
from vltk.mixture import PairSource
from vltk.models.uniter import UNITERConfig
from vltk.pretraining import Validation, check_overlap, shared_images, undecayed
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.trainer import join_processes
from vltk.training_run import estimate_memory
from vltk.types import Batch, Losses

BUCKETS = TokenBuckets(max_tokens=80, multiple=2)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> PairSource:
    examples, features = write_pairs(tmp_path_factory.mktemp("pairs"), "val", images=9)
    return PairSource("val", ExampleStore.open(examples), FeatureStore.open(features))


class Guessing(torch.nn.Module):
    """Is right on every pair that matches, and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...], int]] = []

    def forward(self, objective: str, batch: Batch, generator: torch.Generator) -> Losses:
        self.seen.append((objective, batch.ids, generator.initial_seed()))
        match = batch.targets["match"]
        correct = match == 1 if objective == "itm" else None
        return Losses(values=torch.full((len(match),), 0.5), count=len(match), correct=correct)


def validation(source: PairSource, names: Sequence[str] = ("itm", "mrfr"), limit: int = 20) -> Validation:
    return Validation([source], names, mismatch={"itm": 0.5}, buckets=BUCKETS, limit=limit)


def test_the_same_pairs_are_measured_every_time_and_counted_once(held_out: PairSource) -> None:
    runs = [Guessing(), Guessing()]
    results = [validation(held_out)(join_processes(device="cpu"), module) for module in runs]
    assert results[0] == results[1]
    assert runs[0].seen == runs[1].seen
    for name in ("itm", "mrfr"):
        seen = [pair for objective, ids, _ in runs[0].seen if objective == name for pair in ids]
        assert len(seen) == len(set(seen)) == 20
    quality, figures = results[0]
    assert figures == {"itm loss": 0.5, "itm accuracy": quality, "mrfr loss": 0.5}
    assert 0 < quality < 1


def test_guesses_about_one_image_count_as_one_where_it_is_asked_how_sure_a_figure_is(held_out: PairSource) -> None:
    class Thrice(Guessing):
        def forward(self, objective: str, batch: Batch, generator: torch.Generator) -> Losses:
            once = super().forward(objective, batch, generator)
            assert once.correct is not None
            rows = torch.arange(len(once.correct)).repeat(3)
            return replace(once, correct=once.correct[rows], rows=rows)

    rows = []
    for module in (Guessing(), Thrice()):
        measured = validation(held_out, ["itm"])
        rows.append(measured.rows(measured(join_processes(device="cpu"), module)[1]))
    (loss, once), (_, thrice) = rows
    assert (loss["unit"], once["unit"], once["n"], thrice["n"]) == ("nats", "fraction", 20, 60)
    assert once["interval_95"] == thrice["interval_95"]
    assert once["interval_95"][0] < once["value"] < once["interval_95"][1]


def test_without_guesses_the_smaller_loss_is_better(held_out: PairSource) -> None:
    quality, figures = validation(held_out, ["mrfr"])(join_processes(device="cpu"), Guessing())
    assert (quality, figures) == (-0.5, {"mrfr loss": 0.5})


def test_several_processes_share_the_measuring(held_out: PairSource) -> None:
    class Second:
        device, process_index, num_processes = torch.device("cpu"), 1, 2

        @staticmethod
        def reduce(sums: torch.Tensor, how: str) -> torch.Tensor:
            assert how == "sum"
            return sums

    whole, half = Guessing(), Guessing()
    measured = validation(held_out, ["itm"])
    measured(join_processes(device="cpu"), whole)
    measured(Second(), half)
    assert half.seen == whole.seen[1::2]


def test_overlap_is_found_by_any_name_of_a_picture(tmp_path: Path, held_out: PairSource) -> None:
    examples, features = write_pairs(tmp_path, "train", images=3)
    training = PairSource("train", ExampleStore.open(examples), FeatureStore.open(features))
    check_overlap([training], [held_out])
    with pytest.raises(DataError, match=r"val: 9 images of val are trained on \(val-0, val-1, val-2, \.\.\.\)"):
        check_overlap([training, held_out], [held_out])
    assert shared_images([training, held_out], [examples]) == [
        {"set": "train", "evaluation": "train.lmdb", "images": 3, "of": 3, "first": "train-0, train-1, train-2"}
    ]


def test_memory_follows_its_formula() -> None:
    size = UNITERConfig(hidden=8, heads=2, layers=3, intermediate=32, region_dim=6)
    settings = {"parameters": 100, "tokens": 10}
    full = estimate_memory(size, precision="bf16", recomputed=False, **settings)
    assert full == {"weights": 400, "training": 1600, "activations": 10 * 3 * 34 * 8 + 10 * 6 * 4}
    assert estimate_memory(size, precision="fp32", recomputed=False, **settings)["activations"] == 16320 + 240
    less = estimate_memory(size, precision="bf16", recomputed=True, **settings)
    assert less["activations"] < full["activations"]


def test_what_decays_is_what_the_published_names_say() -> None:
    with torch.device("meta"):
        model = UNITERConfig(layers=1).build_for_pretraining()
    names = [name for name, _ in model.named_parameters()]
    decaying = [name for name in names if name.endswith("weight") and "norm" in name and not undecayed(name)]
    # Norms that the published code did not call LayerNorm decay, as its rule looks for the name.
    assert decaying == [
        "encoder.region_embedding.feature_norm.weight",
        "encoder.region_embedding.location_norm.weight",
    ]
    heads = [name for name in names if name.endswith(".2.weight")]
    assert {name: undecayed(name) for name in heads} == {
        "word_transform.2.weight": True,
        "feature_transform.2.weight": False,
        "region_classifier.2.weight": False,
    }
    assert all(undecayed(name) for name in names if name.endswith("bias"))
    assert not any(undecayed(name) for name in names if name.endswith("qkv.weight"))
