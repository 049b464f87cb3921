"""The page shows of every kind of model what it has, and says of the rest why it is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LxmertConfig, LxmertModel, VisualBertConfig, VisualBertModel

from tests.small_pages import check
from tests.small_pairs import VOCABULARY, WIDTH
from tests.small_relations import write_annotated
from tests.small_runs import make_evaluation, make_run
from tests.small_trees import write_ssrp, write_trees
from vltk.cli import main
from vltk.reporting.attention import PairAttention, open_encoder, read_attention
from vltk.reporting.evidence import read_runs
from vltk.reporting.not_shown import reasons
from vltk.reporting.probing import nearness
from vltk.reporting.report import write_report
from vltk.reporting.stacks import seen
from vltk.reporting.words import best_layer
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore

SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
LONGEST = {"max_position_embeddings": 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small SSRPs that were probed, and models of transformers whose relations were measured."""
    folder = tmp_path_factory.mktemp("models")
    examples, features = write_trees(folder, images=12)
    for variant in ("cross", "share"):
        write_ssrp(folder / variant, variant)
        told = ["--examples", examples, "--features", features, "--out", folder / f"{variant}-probe"]
        few = ["--epochs", 1, "--rank", 4, "--queries", 0, "--untrained", "leave-out"]
        call("probe", folder / variant, *told, *few)
    torch.manual_seed(1)
    layers = {"l_layers": 1, "x_layers": 2, "r_layers": 1, "visual_feat_dim": WIDTH, "num_qa_labels": 3}
    LxmertModel(LxmertConfig(**SIZES, **LONGEST, **layers)).save_pretrained(folder / "lxmert")
    size = {"num_hidden_layers": 2, "visual_embedding_dim": WIDTH}
    VisualBertModel(VisualBertConfig(**SIZES, **LONGEST, **size)).save_pretrained(folder / "visual-bert")
    stores = write_annotated(folder / "annotated")
    for name in ("lxmert", "visual-bert"):
        more = ["--out", folder / f"{name}-isd", "--shuffles", 0]
        call("isd", folder / name, "--examples", stores[0], "--features", stores[1], *more)
    return folder


def call(*words: object) -> None:
    assert main([*map(str, words), "--device", "cpu", "--quiet"]) == 0


def files(report: object) -> set[str]:
    return {path.stem for path in report.figures}  # type: ignore[attr-defined]


def test_an_ssrp_shows_its_layers_its_trees_and_its_relations(made: Path, tmp_path: Path) -> None:
    runs = [made / "cross-probe", made / "share-probe"]
    report = write_report(runs, tmp_path / "page.html", figures=tmp_path / "figures", formats=["svg"], count=2)
    page = check(report.page)
    assert {"layers-cross-0", "layers-share-1", "words-cross-0", "words-table-cross-1"} <= files(report)
    assert {"tree-cross-1", "relations-words-cross-1", "relations-regions-share-1"} <= files(report)
    assert "words-share-0" not in files(report)
    assert "In no layer of share a word looks at a region" in page.text
    assert "Shown is joint layer 0" in page.text
    labels = " ".join(str(attributes.get("aria-label")) for tag, attributes in page.elements if tag == "svg")
    assert (
        "text layer 0: words to words; region layer 0: regions to regions; joint layer 0: words to words and" in labels
    )


def test_models_of_transformers_show_their_attention(made: Path, tmp_path: Path) -> None:
    runs = [made / "lxmert-isd", made / "visual-bert-isd"]
    report = write_report(runs, tmp_path / "page.html", figures=tmp_path / "figures", formats=["svg"], count=1)
    page = check(report.page)
    wanted = {"layers-lxmert-0", "words-lxmert-0", "words-visual-bert-0", "heads-visual-bert", "maps-visual-bert"}
    assert wanted <= files(report)
    assert "heads-lxmert" not in files(report)
    assert "lxmert normalises attention within a side and across sides apart" in page.text
    assert {"relations-1", "relations-maps-1"} <= files(report), "before and after are the two models"


def test_a_model_that_is_gone_gets_a_line_and_nothing_is_downloaded(made: Path, tmp_path: Path) -> None:
    told = made / "lxmert-isd" / "config.json"
    text = told.read_text("utf-8")
    told.write_text(text.replace(str(made / "lxmert"), "nobody/lxmert-that-is-not-there"), "utf-8")
    try:
        page = check(write_report([made / "lxmert-isd"], tmp_path / "page.html").page)
    finally:
        told.write_text(text, "utf-8")
    assert (
        "lxmert-that-is-not-there shows no attention: nobody/lxmert-that-is-not-there: is not on this machine"
        in page.text
    )


def test_measurements_of_one_model_are_told_apart(made: Path) -> None:
    again = made / "again"
    again.mkdir(exist_ok=True)
    for name in ("results.json", "config.json"):
        (again / name).write_bytes((made / "lxmert-isd" / name).read_bytes())
    found = read_runs([made / "lxmert-isd", again, made / "visual-bert-isd"])
    assert [one.name for one in found] == ["lxmert-isd", "again", "visual-bert"]
    assert [one.model for one in found] == ["lxmert", "lxmert", "visual_bert"]


def test_shares_of_two_streams_sum_to_one_on_each_side_as_a_loop_says(made: Path) -> None:
    examples, features = ExampleStore.open(made / "trees.lmdb"), FeatureStore.open(made / "trees-features.lmdb")
    for name in ("cross", "share", "lxmert"):
        (pair,) = read_attention(open_encoder(str(made / name)), examples, features, ["trees-0#1"])
        shares, halves = pair.probabilities(), (range(pair.length), range(pair.length, pair.scores.shape[-1]))
        for layer, head in np.ndindex(shares.shape[:2]):
            for row in range(shares.shape[2]):
                for half in halves:
                    scores = [float(pair.scores[layer, head, row, column]) for column in half]
                    total = sum(np.exp(scores))
                    wanted = [np.exp(score) / total if total else 0.0 for score in scores]
                    np.testing.assert_allclose(shares[layer, head, row, list(half)], wanted, rtol=1e-5)
        assert (best_layer([pair]) is None) == (name == "share")


def test_what_a_layer_does_not_look_at_is_not_said_to_be_seen() -> None:
    scores = np.full((2, 1, 5, 5), -np.inf, np.float32)
    scores[0, :, :3, :3] = scores[1, :, :3, 3:] = 0
    pair = PairAttention(example=None, picture=[0, 0], scores=scores, apart=True)  # type: ignore[arg-type]
    assert [seen(pair, layer) for layer in (0, 1)] == [["words to words"], ["words to regions"]]
    assert [pair.meets(layer) for layer in (0, 1)] == [False, True]
    assert np.isfinite(pair.probabilities()).all()


def test_the_nearest_is_darkest_and_one_place_is_no_distance() -> None:
    np.testing.assert_allclose(nearness(np.array([[0, 1, 4], [1, 0, 2], [4, 2, 0.0]]))[0], [1, 0.75, 0])
    assert nearness(np.zeros((2, 2))).min() == 1


@pytest.mark.parametrize("model", ["uniter", "ssrp", "vse", "vsrn", "lxmert", "visual_bert"])
def test_every_kind_of_run_says_what_it_cannot_show(model: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for file in ("config.json", "results.json"):
        (run / file).write_text((run / file).read_text("utf-8").replace('"uniter"', f'"{model}"'), "utf-8")
    make_evaluation(run / "eval" / "test", [1, 1, 2], [1, 2, 1], run=run)
    page = check(write_report([run], tmp_path / "page.html").page)
    told = page.text.split("What these models do not have")[-1]
    assert reasons(model)
    for view, reason in reasons(model).items():
        assert view in told
        assert f"{model} {reason}." in told
