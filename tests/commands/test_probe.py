"""``vltk probe``: receipts with controls, resume, files that say what they are, a page without dependencies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.small_pairs import TOKENIZER, write_examples
from tests.small_relations import write_model
from tests.small_trees import write_ssrp, write_trees
from vltk.cli import main
from vltk.errors import StoppedEarlyError
from vltk.metrics.trees import minimum_spanning_tree, score_tree, uuas
from vltk.probing.loading import load_probed
from vltk.probing.relations import read_relations
from vltk.run_folder.outcomes import read_outcomes
from vltk.stores.examples import ExampleStore

LAYERS = 4  # embeddings counted
FITS = 2 * (1 + (LAYERS - 1) * 3)  # of the encoder and of the untrained one; a layer is chosen with three folds


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    write_trees(folder, images=20)
    write_model(folder / "model")
    write_ssrp(folder / "ssrp")
    (folder / "pictures").mkdir()
    for number in range(20):
        Image.new("RGB", (100, 100), (number * 10, 90, 0)).save(folder / "pictures" / f"trees-{number}.png")
    return folder


def command(made: Path, out: Path, *more: object, model: str = "model") -> list[str]:
    given = {"--examples": made / "trees.lmdb", "--features": made / "trees-features.lmdb", "--out": out}
    given |= {"--epochs": 2, "--folds": 3, "--rank": 4, "--queries": 4, "--top": 2, "--device": "cpu"}
    flags = [word for flag, value in given.items() if flag not in more for word in (flag, str(value))]
    return ["probe", str(made / model), *flags, "--quiet", *map(str, more)]


def probed(made: Path, out: Path, *more: object, model: str = "model") -> dict[str, Any]:
    assert main(command(made, out, *more, model=model)) == 0
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    return results


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def out(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "probe"
    probed(made, folder)
    return folder


def test_every_layer_and_every_control_is_there(out: Path) -> None:
    results = json.loads((out / "results.json").read_text())
    told = [(row["system"], row["layer"]) for row in results["layers"]]
    layers = range(LAYERS)
    assert told == [
        *(("encoder", k) for k in layers),
        *(("untrained encoder", k) for k in layers),
        ("linear chain", None),
    ]
    by_name = {row["metric"]: row for row in results["metrics"]}
    values = {(row["system"], row["layer"]): row["uuas"] for row in results["layers"]}
    assert results["layer"] in range(1, LAYERS)
    best = values["encoder", results["layer"]]
    assert by_name["UUAS"]["value"] == best
    assert by_name["UUAS over linear chain"]["value"] == pytest.approx(best - values["linear chain", None])
    assert by_name["UUAS over word and position"]["value"] == pytest.approx(best - values["encoder", 0])
    assert "UUAS over untrained encoder" in by_name
    assert all(row["interval_95"][0] <= row["value"] <= row["interval_95"][1] for row in results["metrics"])
    chosen = [row["validation_parts"] for row in results["layers"][1:LAYERS]]
    assert [len(parts) for parts in chosen] == [3] * (LAYERS - 1)
    best = max(chosen, key=np.mean)
    least = np.mean(best) - np.std(best, ddof=1) / 3**0.5
    assert results["layer"] == 1 + next(place for place, parts in enumerate(chosen) if np.mean(parts) >= least)


def test_trees_and_matrices_say_the_same(out: Path) -> None:
    sentences, matrices = lines(out / "sentences.jsonl"), read_relations(out / "relations.safetensors")
    results = json.loads((out / "results.json").read_text())
    assert len(sentences) == len(matrices) == results["sentences"]["test"]
    scores = []
    for line in sentences:
        words, regions = matrices[line["id"]]
        scores.append(score_tree(line["heads"], words, line["relations"]))
        assert (line["right"], line["edges"]) == (scores[-1].right, scores[-1].edges)
        keep = [relation != "punct" for relation in line["relations"]]
        assert line["predicted"] == minimum_spanning_tree(words, keep).tolist()
        assert line["region_edges"] == minimum_spanning_tree(regions).tolist()
    assert uuas(scores) == results["metrics"][0]["value"]
    series = read_outcomes(out).series["right edges of a sentence"]
    assert series.values.tolist() == [one.right / one.edges for one in scores if one.edges]


def test_the_probes_are_kept(out: Path) -> None:
    kept = load_file(out / "probes.safetensors")
    assert set(kept) == {f"{name}/{k}" for name in ("encoder", "untrained encoder") for k in range(LAYERS)}
    assert {matrix.shape for matrix in kept.values()} == {(4, 16)}
    assert not (out / "states").exists()


def test_pictures_are_found_and_never_the_query(out: Path) -> None:
    found = lines(out / "retrieval.jsonl")
    results = json.loads((out / "results.json").read_text())
    for line in found:
        for way in ("Obj.", "Obj. + Rel."):
            assert len(line["found"][way]["images"]) == 2
            assert line["query"] not in line["found"][way]["images"]
    figures = {row["metric"]: row["value"] for row in results["metrics"]}
    for way in ("Obj.", "Obj. + Rel."):
        gains = [line["found"][way]["gains"]["words"] for line in found]
        assert figures[f"{way} nDCG@2 of words"] == pytest.approx(np.mean(gains))
    change = figures["Obj. + Rel. over Obj. of words"]
    assert change == pytest.approx(figures["Obj. + Rel. nDCG@2 of words"] - figures["Obj. nDCG@2 of words"])


def test_a_finished_probing_is_not_done_again_but_its_page_is(
    made: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vltk.probing.session.Session.probe", lambda *given: pytest.fail("it was probed already"))
    page = tmp_path / "page.html"
    assert main(command(made, out, "--html", page, "--pictures", made / "pictures")) == 0
    text = page.read_text()
    assert text.count('class="sentence-trees"') == min(12, len(lines(out / "sentences.jsonl")))
    assert 'class="picture-tree"' in text
    assert "data:image/jpeg;base64," in text
    assert "http" not in text
    assert main(command(made, out, "--html", page)) == 2


def test_a_stopped_probing_goes_on_to_the_same_figures(
    made: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vltk.probing import session

    calls: list[int] = []
    original = session.fit

    def stopping(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise StoppedEarlyError("stopped", remedy="again")
        return original(*given, **options)

    monkeypatch.setattr(session, "fit", stopping)
    again = tmp_path / "again"
    assert main(command(made, again)) == 75
    assert not (again / "results.json").exists()
    resumed = probed(made, again)
    assert len(calls) == 3 + FITS - 2
    whole = json.loads((out / "results.json").read_text())
    for key in ("metrics", "layers", "protocol", "layer"):
        assert resumed[key] == whole[key]


def test_other_settings_do_not_go_into_the_same_folder(
    made: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(made, out, "--rank", 3)) == 2
    assert "was begun with other settings (fitting.rank: 4 then, 3 now)" in capsys.readouterr().err


def test_an_ssrp_is_measured_with_its_own_probes(made: Path, tmp_path: Path) -> None:
    results = probed(made, tmp_path / "out", "--untrained", "leave-out", model="ssrp")
    assert results["model"] == "ssrp-visual"
    assert [row["system"] for row in results["layers"]] == [*["encoder"] * 3, "linear chain", "own probe"]
    figures = {row["metric"]: row["value"] for row in results["metrics"]}
    assert figures["UUAS of the own probe"] == results["layers"][-1]["uuas"]
    assert "UUAS over untrained encoder" not in figures
    right = sum(line["right"] for line in lines(tmp_path / "out" / "sentences.jsonl"))
    edges = sum(line["edges"] for line in lines(tmp_path / "out" / "sentences.jsonl"))
    assert figures["UUAS of the own probe"] == pytest.approx(right / edges)
    chain = next(row["uuas"] for row in results["layers"] if row["system"] == "linear chain")
    assert figures["UUAS of the own probe over linear chain"] == pytest.approx(right / edges - chain)


def test_an_ssrp_without_its_second_stage_has_no_probe_of_its_own(made: Path, tmp_path: Path) -> None:
    first = write_ssrp(tmp_path / "first", objectives=["mlm", "itm"])
    results = probed(made, tmp_path / "out", "--untrained", "leave-out", model=str(first))
    assert [row["system"] for row in results["layers"]] == [*["encoder"] * 3, "linear chain"]
    assert "as their states are" in safe_open(tmp_path / "out" / "relations.safetensors", "numpy").metadata()["about"]
    second = write_ssrp(tmp_path / "second", objectives=["probing"])
    assert load_probed(str(second)).own_probes


def test_the_plan_writes_nothing(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command(made, tmp_path / "out", "--dry-run"), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["layers"], plan["probes"]) == (LAYERS - 1, FITS)
    assert sum(plan["sentences"].values()) == 60
    assert not (tmp_path / "out").exists()


def test_less_can_be_asked_for(made: Path, tmp_path: Path) -> None:
    results = probed(made, tmp_path / "out", "--queries", 0, "--matrices", 2, "--held-out", "images")
    assert not [row for row in results["metrics"] if "nDCG" in row["metric"]]
    assert not (tmp_path / "out" / "retrieval.jsonl").exists()
    assert len(read_relations(tmp_path / "out" / "relations.safetensors")) == 2


@pytest.mark.parametrize(("more", "code", "problem"), [
    (("--matrices", "-1"), 2, "--matrices: -1 is too small"),
    (("--queries", "-2"), 2, "--queries: -2 is too small"),
    (("--test-share", "1"), 2, "a share of 1 leaves nothing"),
    (("--folds", "1"), 2, "1 leave nothing to learn"),
    (("--rank", "0"), 2, "each number is positive"),
    (("--limit", "2"), 3, "among 2"),
])  # fmt: skip
def test_what_cannot_be_is_one_sentence(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], code: int, problem: str
) -> None:
    assert main(command(made, tmp_path / "out", *more)) == code
    told = capsys.readouterr().err
    assert problem in told
    assert told.count("\n") == 1


def test_a_store_of_other_word_pieces_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = list(ExampleStore.open(made / "trees.lmdb"))
    for name, tokenizer, problem in (
        ("none", None, "names no tokenizer"),
        ("other", replace(TOKENIZER, vocab_size=41), "has a vocabulary of 41 word pieces, the model one of 40"),
    ):
        store = write_examples(tmp_path / f"{name}.lmdb", told, tokenizer)
        assert main(command(made, tmp_path / name, "--examples", store)) == 3
        assert problem in capsys.readouterr().err


def test_a_page_of_something_else_is_refused(made: Path, tmp_path: Path) -> None:
    from vltk.errors import DataError
    from vltk.reporting.probe_page import probe_page
    from vltk.stores.features import FeatureStore

    features = FeatureStore.open(made / "trees-features.lmdb")
    with pytest.raises(DataError, match="cannot be read"):
        probe_page(tmp_path, features=features, pictures={})
    (tmp_path / "results.json").write_text('{"task": "vqa"}')
    with pytest.raises(DataError, match="is no receipt of vltk probe"):
        probe_page(tmp_path, features=features, pictures={})
    (tmp_path / "results.json").write_text('{"task": "probe", "metrics": [{}]}')
    (tmp_path / "sentences.jsonl").write_text("")
    with pytest.raises(DataError, match="is damaged"):
        probe_page(tmp_path, features=features, pictures={})
