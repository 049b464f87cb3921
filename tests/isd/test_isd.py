"""A measurement whole: by a slow way, in any batches, after a kill, of transformers' models, over checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LxmertConfig, LxmertModel, VisualBertConfig, VisualBertModel

from tests.small_pairs import VOCABULARY, WIDTH, write_pairs
from tests.small_relations import write_annotated, write_model, write_run
from vltk.cli import main
from vltk.commands._terminal import Terminal
from vltk.isd.encoder import LoadedEncoder, load_encoder
from vltk.isd.measurement import Procedure, permutations
from vltk.isd.session import Session
from vltk.isd.survey import Survey, survey
from vltk.metrics.isd import Reading, isda
from vltk.models._checkpoints import SHIPPED, read_checkpoint
from vltk.models.uniter import UNITERForPretraining
from vltk.objectives.relations import IAIS
from vltk.run_folder import RESULTS, RunFolder
from vltk.run_folder.outcomes import read_outcomes
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.types import Batch, EncoderOutput

Measured = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relations")
    write_annotated(folder)
    write_model(folder / "model")
    return folder


def command(made: Path, out: Path, *more: object, model: Path | str | None = None) -> list[str]:
    given = {"--examples": made / "examples.lmdb", "--features": made / "features.lmdb", "--out": out}
    flags = [word for flag, value in given.items() if flag not in more for word in (flag, str(value))]
    return ["isd", str(model or made / "model"), *flags, "--device", "cpu", "--quiet", *map(str, more)]


def measured(made: Path, out: Path, *more: object, model: Path | str | None = None) -> Measured:
    assert main(command(made, out, *more, model=model)) == 0
    lines = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    return json.loads((out / RESULTS).read_text()), lines


def value(results: dict[str, Any], name: str) -> float:
    return next(row["value"] for row in results["metrics"] if row["metric"] == name)


def test_every_caption_is_what_it_is_alone(made: Path, tmp_path: Path) -> None:
    """One caption at a time, straight from the stores, with nothing of vltk.isd."""
    results, lines = measured(made, tmp_path / "out", "--seed", 3)
    found = read_checkpoint(UNITERForPretraining, made / "model")
    encoder = found.config.build().eval()
    encoder.load_state_dict(
        {k.removeprefix("encoder."): v for k, v in found.weights.items() if k.startswith("encoder.")}
    )
    examples, features = ExampleStore.open(made / "examples.lmdb"), FeatureStore.open(made / "features.lmdb")
    assert sorted(line["id"] for line in lines) == sorted(examples.ids())
    for line in lines:
        example = examples.get(line["id"])
        picture = features.get(example.image_ids[0])
        batch = Batch(
            ids=(example.id,),
            input_ids=torch.tensor([[2, *example.tokens[0].ids, 3]]),
            text_mask=torch.ones(1, len(example.tokens[0].ids) + 2, dtype=torch.bool),
            regions=torch.from_numpy(picture.features.astype(np.float32))[None],
            locations=torch.from_numpy(picture.location())[None],
            region_mask=torch.ones(1, len(picture), dtype=torch.bool),
        )
        with torch.no_grad():
            scores = encoder(batch, attention_scores=[0, 1, 2]).attention_scores
        chains = list(dict.fromkeys(phrase.entity for phrase in example.phrases))
        spans = {chain: [p for p in example.phrases if p.entity == chain] for chain in chains}
        words = [
            [
                place
                for place, word in enumerate(example.tokens[0].words)
                if any(p.start <= word < p.end for p in spans[c])
            ]
            for c in chains
        ]
        regions = [[row for row, name in enumerate(picture.region_ids) if name == c] for c in chains]
        last = batch.input_ids.shape[1]
        blocks = [(scores[k][0, :, 1 : last - 1, 1 : last - 1], scores[k][0, :, last:, last:]) for k in range(3)]
        expected = [isda(text.numpy(), image.numpy(), words, regions) for text, image in blocks]
        np.testing.assert_allclose(line["layers"], expected, rtol=1e-4)
        assert line["isda"] == line["layers"][-1]
        heads = [
            [isda(t[h : h + 1].numpy(), v[h : h + 1].numpy(), words, regions) for h in range(2)] for t, v in blocks
        ]
        np.testing.assert_allclose(line["heads"], heads, rtol=1e-4)
        inside = torch.zeros_like(batch.text_mask)
        inside[:, 1:-1] = True
        for name in ("singular", "distributed"):
            loss = IAIS(alignment=name).losses(scores[2], inside, batch.region_mask)
            np.testing.assert_allclose(line[name], float(loss), rtol=1e-4)
    assert value(results, "ISDa") == pytest.approx(np.mean([line["isda"] for line in lines]))


def test_the_receipt_tells_what_a_figure_needs(made: Path, tmp_path: Path) -> None:
    results, lines = measured(made, tmp_path / "out")
    assert [row["metric"] for row in results["metrics"]] == ["ISDa", "L(s)", "L(d)"]
    for row in results["metrics"]:
        assert row["interval_95"][0] < row["value"] < row["interval_95"][1]
        assert (row["n"], row["unit"], row["higher_is_better"]) == (18, "nats", False)
    assert [row["layer"] for row in results["layers"]] == [0, 1, 2]
    assert all(len(row["heads"]) == 2 for row in results["layers"])
    assert results["layers"][2]["isda"] == value(results, "ISDa")
    assert 0 < results["chance"]["p"] <= 1
    assert results["chance"]["shuffles"] == 200
    assert set(results["inputs"]) == {"examples", "features", "weights"}
    protocol = results["protocol"]
    assert protocol["reading"] == {"heads": "mean", "softmax": "before", "renormalised": True, "rows": "mean"}
    outcomes = read_outcomes(tmp_path / "out")
    assert outcomes.split == protocol["split"]
    series = outcomes.series["isda"]
    by_id = {line["id"]: line for line in lines}
    assert [by_id[name]["isda"] for name in series.ids] == series.values.tolist()
    assert set(series.clusters) == {f"p{number}" for number in range(6)}


def test_weights_that_come_with_vltk_are_known_by_name() -> None:
    by_name, by_file = (load_encoder(source) for source in ("uniter-tiny", str(SHIPPED / "uniter-tiny.safetensors")))
    assert (by_name.name, by_name.weights) == ("uniter", by_file.weights)


def test_batches_change_nothing_but_rounding(made: Path, tmp_path: Path) -> None:
    whole, small = (measured(made, tmp_path / str(size), "--batch-tokens", size)[1] for size in (4096, 40))
    by_id = {line["id"]: line for line in whole}
    for line in small:
        np.testing.assert_allclose(line["layers"], by_id[line["id"]]["layers"], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(line["shuffled"], by_id[line["id"]]["shuffled"], rtol=1e-3, atol=1e-5)


def test_a_killed_measurement_goes_on_to_the_same_end(made: Path, tmp_path: Path) -> None:
    whole, _ = measured(made, tmp_path / "whole", "--batch-tokens", 60)
    again = tmp_path / "again"
    measured(made, again, "--batch-tokens", 60)
    lines = (again / "examples.jsonl").read_text().splitlines()
    # A kill in the middle of a batch and of a line.
    (again / "examples.jsonl").write_text("\n".join([*lines[:7], lines[7][:20]]))
    (again / RESULTS).unlink()
    resumed, found = measured(made, again, "--batch-tokens", 60)
    for key in ("metrics", "chance", "layers", "correlation", "protocol"):
        assert resumed[key] == whole[key]
    assert sorted(json.dumps(line) for line in found) == sorted(lines)


def test_a_finished_measurement_is_not_made_again(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = measured(made, tmp_path / "out")
    monkeypatch.setattr("vltk.isd.rows.measure", lambda *given: pytest.fail("it was measured already"))
    second, _ = measured(made, tmp_path / "out")
    assert first["metrics"] == second["metrics"]


def test_other_settings_do_not_go_into_the_same_folder(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(made, tmp_path / "out")
    assert main(command(made, tmp_path / "out", "--softmax", "after")) == 2
    assert "was begun with other settings (reading.softmax: before then, after now)" in capsys.readouterr().err
    write_model(tmp_path / "other", seed=5)
    assert main(command(made, tmp_path / "out", model=tmp_path / "other")) == 2
    assert "run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "reading"),
    [
        (("--heads", "each"), Reading(heads="each")),
        (("--softmax", "after"), Reading(softmax="after")),
        (("--no-renormalised", "--rows", "sum"), Reading(renormalised=False, rows="sum")),
    ],
)
def test_readings_are_options(made: Path, tmp_path: Path, flags: tuple[str, ...], reading: Reading) -> None:
    results, _ = measured(made, tmp_path / "out", *flags)
    default, _ = measured(made, tmp_path / "default")
    assert Reading(**results["protocol"]["reading"]) == reading
    assert value(results, "ISDa") != value(default, "ISDa")
    assert value(results, "L(s)") == value(default, "L(s)")


@pytest.mark.parametrize("flags", [("--chains", "first"), ("--special-tokens", "included"), ("--layer", "0")])
def test_other_choices_change_the_figure(made: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    results, _ = measured(made, tmp_path / "out", *flags)
    default, _ = measured(made, tmp_path / "default")
    assert value(results, "ISDa") != value(default, "ISDa")
    if flags[0] == "--layer":
        assert value(results, "ISDa") == default["layers"][0]["isda"]


class Consistent(nn.Module):
    """An encoder that relates objects to each other in the same way on both sides, one way for each caption."""

    def __init__(self, found: Survey) -> None:
        super().__init__()
        self.layers = [None]
        self.anchor = nn.Parameter(torch.zeros(1))
        self.items = {item.id: item for item in found.items}

    def forward(self, batch: Batch, *, attention_scores: Collection[int] = ()) -> EncoderOutput:
        width = batch.input_ids.shape[1]
        scores = torch.full((len(batch.ids), 1, *(2 * [width + batch.regions.shape[1]])), -1e4)
        for row, name in enumerate(batch.ids):
            objects = self.items[name].objects
            relation = torch.rand(len(objects), len(objects), generator=torch.Generator().manual_seed(row)) + 0.01
            for groups, offset in ((objects.words, 1), (objects.regions, width)):
                for i, source in enumerate(groups):
                    for j, target in enumerate(groups):
                        places = torch.tensor(source)[:, None] + offset, torch.tensor(target) + offset
                        scores[row, 0][places] = float((relation[i, j] / len(target)).log())
        states = torch.zeros(len(batch.ids), 1, 1)
        return EncoderOutput(text=states, regions=states, pooled=states[:, 0], attention_scores={0: scores})


def test_a_model_that_relates_words_as_regions_is_told_from_chance(made: Path, tmp_path: Path) -> None:
    found = survey(ExampleStore.open(made / "examples.lmdb"), FeatureStore.open(made / "features.lmdb"))
    sizes = {"vocabulary": VOCABULARY, "region_dim": WIDTH, "positions": 64}
    loaded = LoadedEncoder(module=Consistent(found), name="consistent", weights="none", **sizes)
    session = Session(found=found, how=Procedure(), bar=Terminal(quiet=True).progress)
    tmp_path.joinpath("out").mkdir()
    results = session.measure_one(loaded, RunFolder(tmp_path / "out", Procedure()))
    assert value(results, "ISDa") < 1e-9
    assert results["chance"]["p"] == 1 / 201
    assert results["chance"]["interval_95"][0] > 0.05


def test_losses_without_annotation_need_no_phrases(tmp_path: Path, made: Path) -> None:
    examples, features = write_pairs(tmp_path)
    more = ("--examples", examples, "--features", features, "--surrogates-only")
    results, lines = measured(made, tmp_path / "out", *more)
    assert [row["metric"] for row in results["metrics"]] == ["L(s)", "L(d)"]
    assert (results["layers"], results["chance"], results["captions"]) == ([], {}, 36)
    assert all(set(line) == {"id", "image", "singular", "distributed"} for line in lines)
    paper, _ = measured(made, tmp_path / "paper", *more, "--iais-form", "paper")
    assert value(paper, "L(d)") != value(results, "L(d)")


HUB_SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


def save_lxmert(folder: Path) -> None:
    layers = {"l_layers": 1, "x_layers": 2, "r_layers": 1, "visual_feat_dim": WIDTH}
    LxmertModel(LxmertConfig(**HUB_SIZES, **layers)).save_pretrained(folder)


def save_visual_bert(folder: Path) -> None:
    VisualBertModel(VisualBertConfig(**HUB_SIZES, num_hidden_layers=2, visual_embedding_dim=WIDTH)).save_pretrained(
        folder
    )


@pytest.mark.parametrize("save", [save_lxmert, save_visual_bert])
def test_models_of_transformers_are_measured(made: Path, tmp_path: Path, save: Callable[[Path], None]) -> None:
    torch.manual_seed(0)
    save(tmp_path / "hub")
    results, lines = measured(made, tmp_path / "out", model=tmp_path / "hub")
    assert save.__name__ == f"save_{results['model']}"
    assert len(results["layers"]) == 2
    assert value(results, "ISDa") > 0
    assert len(lines) == 18


def test_a_curve_over_checkpoints_correlates_with_their_quality(made: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    out = tmp_path / "curve"
    assert main(command(made, out, "--curve", model=run)) == 0
    results = json.loads((out / RESULTS).read_text())
    rows = results["checkpoints"]
    assert [(row["step"], row["rsum"]) for row in rows] == [(0, 100), (10, 110), (20, 120), (30, 130)]
    for row in rows:
        alone, _ = measured(made, tmp_path / f"alone-{row['step']}", model=run / f"step-{row['step']}")
        assert row["ISDa"] == value(alone, "ISDa")
    told = results["correlation"]["ISDa with rsum"]
    assert told["pearson"] == pytest.approx(np.corrcoef([row["ISDa"] for row in rows], [100, 110, 120, 130])[0, 1])
    assert told["n"] == 4
    assert main(command(made, tmp_path / "r1", "--curve", "--quality", "r1", model=run)) == 0
    constant = json.loads((tmp_path / "r1" / RESULTS).read_text())["correlation"]["ISDa with r1"]
    assert constant == {"pearson": None, "n": 4}


def test_a_fine_tuned_run_with_relations_is_followed_over_its_kept_checkpoints(made: Path, tmp_path: Path) -> None:
    examples, features = write_annotated(tmp_path, first="train")
    given = {
        "--task": "flickr30k",
        "--examples": examples,
        "--features": features,
        "--validation-examples": made / "examples.lmdb",
        "--validation-features": made / "features.lmdb",
        "--out": tmp_path / "run",
        "--pairs": 3,
        "--iais": "distributed",
        "--iais-annealing": "none",
        "--init": made / "model",
        "--steps": 4,
        "--warmup": 0,
        "--learning-rate": 1e-2,
        "--keep-every": 1,
        "--validate-every": 1,
        "--device": "cpu",
    }
    assert main(["finetune", *(str(word) for pair in given.items() for word in pair), "--quiet"]) == 0
    out = tmp_path / "curve"
    assert main(command(made, out, "--curve", model=tmp_path / "run")) == 0
    results = json.loads((out / RESULTS).read_text())
    rows = results["checkpoints"]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["rsum"] is None for row in rows] == [True, False, False, False, False]
    assert results["correlation"]["ISDa with rsum"]["n"] == 4
    assert rows[4]["L(d)"] < rows[0]["L(d)"], "it is what was minimised"


def test_a_dry_run_writes_nothing(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command(made, tmp_path / "out", "--dry-run"), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["captions"], plan["images"], plan["layers"]) == (18, 6, 3)
    assert plan["estimated_seconds"] >= 0
    assert not (tmp_path / "out").exists()


def test_objects_of_a_picture_are_mixed_up_together_and_evenly() -> None:
    first = permutations("p1", ["a", "b", "c"], count=600, seed=1)
    assert (first == permutations("p1", ["a", "b", "c"], count=600, seed=1)).all()
    assert (first != permutations("p2", ["a", "b", "c"], count=600, seed=1)).any()
    counts = np.unique(first, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert counts.min() > 60
    names = np.array(["c", "a"])[permutations("p1", ["c", "a"], count=600, seed=1)]
    whole = np.array(["a", "b", "c"])[first]
    assert (names == whole[whole != "b"].reshape(600, 2)).all(), "a caption of fewer objects has them in the same order"
