"""Everything on a page that needs models, stores and pictures, on small random ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.small_pages import Page, check
from tests.small_pairs import TINY_MODEL
from tests.small_relations import write_annotated
from vltk.cli import main
from vltk.errors import DataError
from vltk.isd.encoder import load_encoder
from vltk.metrics.isd import distance
from vltk.models._dual_checkpoints import load_dual
from vltk.reporting import report as report_module
from vltk.reporting.attention import read_attention
from vltk.reporting.evidence import read_run, read_runs
from vltk.reporting.material import Material, find_pictures, region_names
from vltk.reporting.pooling import SIZES, coefficients
from vltk.reporting.probing import chosen as chosen_trees
from vltk.reporting.relations import _distances, _matrices, chosen, find_view
from vltk.reporting.report import write_report
from vltk.reporting.retrievals import read_ranking
from vltk.reporting.words import word_regions
from vltk.run_folder.comparison import compare
from vltk.run_folder.outcomes import read_outcomes

SIZES_OF_MODEL = [word for name, size in (TINY_MODEL | {"positions": 32}).items() for word in (f"--{name}", str(size))]


def call(*words: object) -> None:
    assert main([*map(str, words), "--device", "cpu", "--quiet"]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two joint runs and a dual one, all evaluated, the joint ones with their distances of relations."""
    folder = tmp_path_factory.mktemp("made")
    train = write_annotated(folder / "train", images=8, first="t")
    test = write_annotated(folder / "test", images=6)
    stores = ["--examples", test[0], "--features", test[1]]
    (folder / "pictures").mkdir()
    dice = np.random.default_rng(0)
    for number in range(6):
        pixels = dice.integers(0, 255, (100, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"p{number}.png")
    arms = {"before": ["--seed", 0], "after": ["--seed", 1, "--iais", "singular"]}
    common = ["--examples", train[0], "--features", train[1], "--steps", 2, "--warmup", 1, "--pairs", 4]
    for name, more in arms.items():
        run = folder / name
        kept = ["--keep-every", 1, "--save-every", 1]
        call("finetune", "--task", "flickr30k", *common, *SIZES_OF_MODEL, *kept, *more, "--out", run)
        call("eval", run, *stores)
        call("isd", run, *stores, "--out", run / "isd", "--shuffles", 5)
    call("isd", folder / "before", *stores, "--out", folder / "before" / "curve", "--shuffles", 0, "--curve")
    dual = ["--model", "vse", "--text", "bigru", "--word-dim", 8, "--hidden", 8, "--no-drop-words"]
    call("finetune", "--task", "flickr30k", *common, *dual, "--out", folder / "dual")
    call("eval", folder / "dual", *stores)
    return {name: folder / name for name in ("before", "after", "dual", "pictures", "test")} | {"folder": folder}


@pytest.fixture(scope="module")
def page(made: dict[str, Path]) -> Path:
    runs = [made["before"], made["after"], made["dual"]]
    figures = made["folder"] / "figures"
    out = made["folder"] / "report.html"
    return write_report(runs, out, pictures=made["pictures"], figures=figures, formats=["svg"], count=2).page


def test_a_page_with_everything_is_whole_and_asks_for_nothing(page: Path) -> None:
    found = check(page)
    titles = [
        "Runs", "Learning", "Quality", "Paired comparison", "Best and worst retrievals", "Words and regions",
        "Relation consistency (ISDa)", "Relations among words and among regions", "Dependency trees",
        "Pooling coefficients (GPO)",
    ]  # fmt: skip
    links = found.text.split("Runs", 1)[1]
    assert [title for title in titles[1:] if title not in links] == []
    pictures = [attributes for tag, attributes in found.elements if tag == "image"]
    assert len(pictures) > 30
    assert all(one["href"].startswith("data:image/") for one in pictures)


def test_every_figure_of_the_page_is_a_file(page: Path) -> None:
    names = {path.stem for path in (page.parent / "figures").iterdir()}
    wanted = {
        "retrieval-before-t2i-best-1", "words-before-0", "words-table-after-1", "regions-before-0", "heads-before",
        "maps-after", "isd-layers", "isd-heads-after", "relations-1", "relations-maps-1", "gpo-image-dual",
        "gpo-text-dual", "difference-evaluation-examples", "isd-curve-isda",
    }  # fmt: skip
    assert wanted - names == set()
    for path in (page.parent / "figures").iterdir():
        drawn = Page(path.read_text("utf-8"))
        assert (drawn.wrong, drawn.open) == ([], []), path


def test_words_can_be_chosen_without_a_mouse_and_have_a_label_each(page: Path) -> None:
    found = check(page)
    inputs = [attributes for tag, attributes in found.elements if tag == "input"]
    labels = {attributes["for"] for tag, attributes in found.elements if tag == "label"}
    assert {one["type"] for one in inputs} == {"radio"}
    assert {one["id"] for one in inputs} == labels
    groups = {one["name"] for one in inputs}
    assert len(groups) == 4, "two pairs of each of two joint runs"
    assert sum("checked" in one for one in inputs) == len(groups)


def test_attention_of_a_batch_is_that_of_each_pair_alone(made: dict[str, Path]) -> None:
    run = read_run(made["before"])
    split = Material().split(run, run.of("evaluation")[0])
    loaded = load_encoder(str(made["before"]))
    ids = split.ids[:5]
    together = read_attention(loaded, split.examples, split.features, ids)
    assert len({one.scores.shape for one in together}) > 1, "of several lengths, or this shows nothing"
    for name, one in zip(ids, together, strict=True):
        (alone,) = read_attention(loaded, split.examples, split.features, [name])
        np.testing.assert_allclose(one.scores, alone.scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.probabilities().sum(axis=-1), 1)


def test_words_share_their_attention_among_regions_as_a_loop_says(made: dict[str, Path]) -> None:
    run = read_run(made["before"])
    split = Material().split(run, run.of("evaluation")[0])
    (pair,) = read_attention(load_encoder(str(made["before"])), split.examples, split.features, split.ids[:1])
    found = word_regions(pair, 1)
    shares = torch.softmax(torch.from_numpy(pair.scores[1]).double(), dim=-1)
    for word in range(len(pair.words)):
        total = torch.zeros(len(pair.picture), dtype=torch.double)
        for place, owner in enumerate(pair.example.tokens[0].words):
            if owner == word:
                for head in shares:
                    total += head[1 + place, pair.length :]
        np.testing.assert_allclose(found[word], (total / total.sum()).numpy())


def test_matrices_of_relations_have_the_distance_that_isd_measured(made: dict[str, Path]) -> None:
    from vltk.isd.objects import annotated, objects_of
    from vltk.metrics.isd import Reading
    from vltk.stores.examples import ExampleStore
    from vltk.stores.features import FeatureStore

    measured = _distances(made["after"] / "isd")
    examples, features = (
        ExampleStore.open(made["test"] / "examples.lmdb"),
        FeatureStore.open(made["test"] / "features.lmdb"),
    )
    loaded = load_encoder(str(made["after"]))
    ids = list(measured)[:6]
    for pair in read_attention(loaded, examples, features, ids):
        objects = objects_of(pair.example, annotated(pair.picture))
        words, regions = _matrices(pair, objects, loaded.depth - 1, Reading())
        np.testing.assert_allclose(words.sum(axis=1), 1)
        assert distance(words, regions, rows="mean") == pytest.approx(measured[pair.example.id], rel=1e-3)


def test_two_runs_are_compared_as_vltk_compare_does(made: dict[str, Path], page: Path) -> None:
    folders = [made[name] / "eval" / "examples" for name in ("before", "dual")]
    told = compare([read_outcomes(folders[0])], [read_outcomes(folders[1])])
    found = check(page).text
    rsum = next(one for one in told if one.metric == "rsum")
    assert f"{rsum.first:.1f} {rsum.second:.1f} {rsum.difference:+.1f}".replace("-", "\N{MINUS SIGN}") in found


def test_best_and_worst_queries_are_those_of_a_loop(made: dict[str, Path]) -> None:
    ranking = read_ranking(read_run(made["before"]).of("evaluation")[0])
    scores, columns = ranking.scores, ranking.matrix.columns
    ranks, leads = {}, {}
    for row in range(len(scores)):
        own = scores[row, columns[row]]
        others = [scores[row, column] for column in range(scores.shape[1]) if column != columns[row]]
        ranks[row], leads[row] = 1 + sum(other >= own for other in others), own - max(others)
    best, worst = ranking.extremes("t2i", 2)
    wanted = sorted((row for row in ranks if ranks[row] == 1), key=lambda row: -leads[row])
    assert best[:1] == wanted[:1]
    assert ranks[worst[0]] == max(ranks.values())
    assert len({int(columns[row]) for row in worst}) == len(worst), "each of another picture"
    assert ranking.order("t2i", 0)[0] == int(scores[0].argmax())
    assert ranking.right("i2t", 2) == {row for row in range(len(scores)) if columns[row] == 2}


def test_before_and_after_are_two_runs_or_the_ends_of_a_curve(made: dict[str, Path]) -> None:
    two = find_view(read_runs([made["before"], made["after"]]))
    assert (two.before.name, two.after.name) == ("before", "after")
    one = find_view(read_runs([made["before"]]))
    assert (one.before.name, one.after.name) == ("before, step 0", "before, step 2")
    assert find_view(read_runs([made["after"]])) is None


def test_examples_of_relations_go_from_what_fell_most_to_what_rose_most(made: dict[str, Path]) -> None:
    view = find_view(read_runs([made["before"], made["after"]]))
    gaps = {name: view.after.distances[name] - value for name, value in view.before.distances.items()}
    first, _, last = chosen(view, 3)
    assert gaps[first] == min(gaps.values())
    assert gaps[last] == max(gaps.values())


def test_coefficients_are_those_of_the_model_and_sum_to_one(made: dict[str, Path]) -> None:
    model = load_dual(made["dual"]).model
    for side, sizes in SIZES.items():
        found = coefficients(model, side)
        assert list(found) == list(sizes)
        for size, row in found.items():
            assert len(row) == size
            assert sum(row) == pytest.approx(1, abs=1e-5)
    states = torch.randn(1, 9, 8)
    pooled = model.image.pooling(states, torch.ones(1, 9, dtype=torch.bool))
    weights = torch.tensor(coefficients(model, "image")[9])
    loop = sum(weights[k] * states.sort(dim=1, descending=True).values[0, k] for k in range(9))
    torch.testing.assert_close(pooled[0], loop, rtol=1e-4, atol=1e-5)


def test_without_pictures_their_ids_stand_there_and_a_line_says_how_to_have_them(
    made: dict[str, Path], tmp_path: Path
) -> None:
    found = check(write_report([made["before"]], tmp_path / "report.html", count=1).page)
    assert "Pictures stand as their ids. To have it: vltk report ... --pictures DIR" in found.text
    assert not any("photo" in str(attributes) for _, attributes in found.elements)
    assert "p0" in found.text


def test_stores_that_are_gone_are_named_with_the_option(made: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "moved"
    run.mkdir()
    for path in made["after"].rglob("*"):
        if path.is_file():
            target = run / path.relative_to(made["after"])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    for file in run.rglob("config.json"):
        told = json.loads(file.read_text("utf-8"))
        told["all"] |= {"examples": [str(tmp_path / "gone.lmdb")], "features": [str(tmp_path / "gone.lmdb")]}
        file.write_text(json.dumps(told), "utf-8")
    lost = check(write_report([run], tmp_path / "lost.html", count=1).page)
    assert "shows no attention for want of examples: the stores of its measurement are not there" in lost.text
    assert "vltk report ... --examples STORE --features STORE" in lost.text
    stores = {"examples": [made["test"] / "examples.lmdb"], "features": [made["test"] / "features.lmdb"]}
    again = check(write_report([run], tmp_path / "again.html", count=1, **stores).page)
    assert "for want of examples" not in again.text


def test_a_page_that_would_be_too_large_shows_fewer_examples(made, tmp_path, monkeypatch) -> None:
    runs, more = [made["before"]], {"pictures": made["pictures"]}
    full = write_report(runs, tmp_path / "full.html", count=4, **more).size
    said: list[str] = []
    monkeypatch.setattr(report_module, "LARGEST", full - 1)
    assert write_report(runs, tmp_path / "less.html", count=4, say=said.append, **more).size < full
    assert any("fewer examples" in line for line in said)
    monkeypatch.setattr(report_module, "LARGEST", 1000)
    with pytest.raises(DataError, match=r"the page would be .* MB; report on fewer runs"):
        write_report(runs, tmp_path / "none.html", count=1, **more)


def test_regions_are_called_by_attribute_and_class_where_the_store_knows_them(made: dict[str, Path]) -> None:
    run = read_run(made["before"])
    split = Material().split(run, run.of("evaluation")[0])
    assert region_names(split, "p0")[:2] == ["region 1", "region 2"]
    assert set(find_pictures(made["pictures"])) == {f"p{number}" for number in range(6)}


def test_trees_of_a_probe_stand_beside_the_gold_ones(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.mkdir()
    rows = [
        {
            "system": system,
            "layer": layer,
            "uuas": 0.5 + 0.1 * (layer or 0),
            "uuas_interval_95": [0.4, 0.8],
            "spearman": 0.3,
        }
        for system, layer in (("encoder", 0), ("encoder", 1), ("chain", None))
    ]
    told = {
        "task": "probe",
        "model": "uniter",
        "metrics": [{"metric": "UUAS", "value": 0.6, "n": 2, "unit": "fraction"}],
    }
    (probe / "results.json").write_text(json.dumps(told | {"layers": rows, "protocol": {}, "weights": "x"}), "utf-8")
    right = {"heads": [2, 0], "predicted": [[0, 1]], "right": 1, "edges": 1}
    wrong = {"heads": [2, 3, 0], "predicted": [[0, 1], [0, 2]], "right": 1, "edges": 2}
    lines = [
        {"id": "a", "image": "p0", "words": ["a", "<dog>", "runs"], **wrong},
        {"id": "b", "image": "p1", "words": ["red", "ball"], **right},
    ]
    (probe / "sentences.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    report = write_report([probe], tmp_path / "report.html", figures=tmp_path / "figures", formats=["svg"])
    found = check(report.page)
    assert "1 of 2 edges" in found.text
    assert "<dog>" in found.text
    assert {"probe-uuas-probe.svg", "tree-probe-1.svg"} <= {path.name for path in report.figures}
    assert [what for what, _ in chosen_trees([*lines, lines[0]])] == ["Best", "Middle", "Worst"]


def test_a_damaged_probe_gets_a_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.mkdir()
    (probe / "results.json").write_text('{"task": "probe", "layers": [{"uuas": 1, "layer": 0}]}', "utf-8")
    assert "is damaged" in check(write_report([probe], tmp_path / "report.html").page).text
