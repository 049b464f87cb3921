"""``vltk eval`` from a run and stores to a receipt, resumed, re-ranked, from files; mistakes are one sentence."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import ran, refused
from tests.small_pairs import arguments, caption, picture, write_examples, write_features, write_pairs
from vltk.cli import main
from vltk.commands.eval import EvalConfig
from vltk.config import listing, options
from vltk.run_folder import file_sha256
from vltk.run_folder.outcomes import read_outcomes
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.score_files import read_scores, write_scores
from vltk.stores.score_matrix import ScoreMatrix
from vltk.types import LabelTarget

Stores = dict[str, Path]
IMAGES, TEXTS = 7, 21


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    folder = tmp_path_factory.mktemp("stores")
    train, test = write_pairs(folder, "train", images=10), write_pairs(folder, "test", images=IMAGES)
    assert main(arguments(*train, folder / "pretrained", steps=3)) == 0
    found = {"train": train[0], "train-f": train[1], "test": test[0], "test-f": test[1], "folder": folder}
    for name, more in {"joint": [], "dual": ["--model", "vse", "--text", "bigru", "--word-dim", "8"]}.items():
        found[name] = folder / name
        init = ["--init", str(folder / "pretrained")] if name == "joint" else ["--hidden", "8", "--no-drop-words"]
        assert main([*finetuning(found, found[name]), *init, *more]) == 0
    return found | {"pretrained": folder / "pretrained"}


def finetuning(stores: Stores, out: Path, task: str = "flickr30k") -> list[str]:
    given = {"--examples": stores["train"], "--features": stores["train-f"], "--out": out, "--steps": 3, "--warmup": 1}
    given |= {"--pairs": 4} if task == "flickr30k" else {}
    line = [str(word) for pair in given.items() for word in pair]
    return ["finetune", "--task", task, *line, "--device", "cpu", "--quiet"]


def words(stores: Stores, run: str, out: Path, *more: object) -> list[str]:
    given = ["--examples", stores["test"], "--features", stores["test-f"], "--out", out, "--device", "cpu", "--quiet"]
    return ["eval", str(stores[run]), *map(str, given), *map(str, more)]


def figures(results: dict[str, Any]) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in results["metrics"]}


def test_a_receipt_says_all_that_a_figure_depends_on(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    found = ran(capsys, *words(stores, "joint", out, "--metric-compat", "uniter"))
    receipt = json.loads((out / "results.json").read_text())
    assert {name: receipt[name] for name in found} == found
    rows = {row["metric"]: row for row in receipt["metrics"]}
    assert rows["t2i_r1"]["n"] == TEXTS
    assert rows["i2t_r1"]["n"] == IMAGES
    low, high = rows["rsum"]["interval_95"]
    assert low <= rows["rsum"]["value"] <= high
    assert "t2i_r1 as uniter prints it" in rows
    assert receipt["protocol"]["ties"] == "against"
    assert receipt["inputs"]["weights"] == file_sha256(stores["joint"] / "last" / "model.safetensors")
    assert receipt["inputs"]["examples test"] == ExampleStore.open(stores["test"]).content_hash
    assert (receipt["task"], receipt["cost"]["pairs"]) == ("flickr30k", IMAGES * TEXTS)
    assert receipt["cost"]["flops"] > 0
    matrix = read_scores(out / "scores")
    assert matrix.scores.shape == (TEXTS, IMAGES)
    assert matrix.provenance["weights"] == receipt["inputs"]["weights"]
    ranks = read_outcomes(out)
    assert ranks.series["t2i"].ids == tuple(matrix.text_ids)
    own = matrix.scores[np.arange(TEXTS), matrix.columns]
    expected = (matrix.scores >= own[:, None]).sum(axis=1)
    np.testing.assert_array_equal(ranks.series["t2i"].values, expected)


def test_results_lie_in_the_run_where_no_folder_is_named(stores: Stores, capsys: pytest.CaptureFixture[str]) -> None:
    line = words(stores, "joint", Path())
    place = line.index("--out")
    found = ran(capsys, *[*line[:place], *line[place + 2 :]])
    assert found["out"] == str(stores["joint"] / "eval" / "test")
    assert (stores["joint"] / "eval" / "test" / "results.json").is_file()


def test_stored_scores_measure_the_same_without_a_model(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ran(capsys, *words(stores, "joint", tmp_path / "a"))
    again = ran(capsys, *["eval", "--scores", str(tmp_path / "a" / "scores"), "--quiet"])
    assert again["metrics"] == whole["metrics"]
    assert again["protocol"] == whole["protocol"]


def test_the_mean_of_two_runs_is_measured_and_kept(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in ("joint", "dual"):
        ran(capsys, *words(stores, run, tmp_path / run))
    paths = [word for run in ("joint", "dual") for word in ("--scores", str(tmp_path / run / "scores"))]
    line = ["eval", *paths, "--weight", "3", "--weight", "1", "--out", str(tmp_path / "mean"), "--quiet"]
    ran(capsys, *line)
    one, two, mean = (read_scores(tmp_path / name / "scores").scores for name in ("joint", "dual", "mean"))
    np.testing.assert_allclose(mean, (3 * one + two) / 4, rtol=1e-6)
    assert main(["compare", str(tmp_path / "joint"), str(tmp_path / "mean"), "--quiet"]) == 0


def test_a_dual_encoder_leaves_its_embeddings(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vltk.stores.embedding_files import read_embeddings

    ran(capsys, *words(stores, "dual", tmp_path / "out"))
    texts, images = read_embeddings(tmp_path / "out" / "texts"), read_embeddings(tmp_path / "out" / "images")
    scores = read_scores(tmp_path / "out" / "scores").scores
    np.testing.assert_allclose(scores, texts.vectors @ images.vectors.T, rtol=1e-5, atol=1e-6)


# -- re-ranking -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["run", "file"])
def test_reranking_all_candidates_is_full_scoring(
    source: str, stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = stores["dual"]
    if source == "file":
        ran(capsys, *words(stores, "dual", tmp_path / "first"))
        first = tmp_path / "first" / "scores.npy"
    full = ran(capsys, *words(stores, "joint", tmp_path / "full"))
    reranked = ran(capsys, *words(stores, "joint", tmp_path / "re", "--rerank-from", first, "--candidates", TEXTS))
    assert reranked["metrics"] == full["metrics"]
    assert reranked["cost"]["recall_ceiling"] == {"t2i": 1.0, "i2t": 1.0}
    second = read_scores(tmp_path / "re" / "second-stage").scores
    np.testing.assert_array_equal(second, read_scores(tmp_path / "full" / "scores").scores)


def test_the_plan_of_reranking_is_counted_and_said_before_it_starts(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words(stores, "joint", tmp_path / "out", "--rerank-from", stores["dual"], "--candidates", "2")
    loud = [word for word in line if word != "--quiet"]
    planned = ran(capsys, *[*line, "--dry-run"])
    assert not (tmp_path / "out").exists()
    assert main(loud) == 0
    said = capsys.readouterr().err
    ceiling = planned["recall_ceiling"]
    assert f"re-ranks {planned['pairs']} of {IMAGES * TEXTS} pairs" in said
    assert f"text to image {100 * ceiling['t2i']:.2f} %" in said
    assert said.index("re-ranks") < said.index("score pairs")
    second = read_scores(tmp_path / "out" / "second-stage")
    assert second.pairs() == planned["pairs"] < IMAGES * TEXTS
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert figures(results)["t2i_r1"] <= 100 * ceiling["t2i"]


# -- splits and protocols -------------------------------------------------------------------------------------------


def test_a_file_of_images_is_searched_alone(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "split.txt").write_text("test-4\ntest-1\ntest-2\n")
    found = ran(capsys, *words(stores, "joint", tmp_path / "part", "--protocol", tmp_path / "split.txt"))
    assert (found["protocol"]["images"], found["protocol"]["captions"]) == (3, 9)
    whole = ran(capsys, *words(stores, "joint", tmp_path / "whole"))
    assert whole["protocol"]["images"] == IMAGES
    again = ["eval", "--scores", str(tmp_path / "whole" / "scores"), "--protocol", str(tmp_path / "split.txt")]
    stored = ran(capsys, *[*again, "--quiet"])
    assert stored["protocol"]["split"] == found["protocol"]["split"]
    assert stored["metrics"] == found["metrics"]


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        (["--protocol", "flickr30k-1k"], 3, "the split has 7 images, the protocol 1000"),
        (["--protocol", "flickr"], 2, "'flickr' is no protocol and no file; known are split, flickr30k-1k"),
        (["--fail-under", "r1"], 2, "'r1' is no threshold; write METRIC=VALUE"),
        (["--task", "coco"], 2, "was fine-tuned for flickr30k; leave --task coco out"),
        (["--task", "flickr30k", "--margin", "0.5"], 2, "options of the task are those that the run was fine-tuned"),
        (["--checkpoint", "best"], 2, "has no checkpoint best"),
        (["--candidates", "0", "--rerank-from", "{dual}"], 2, "0 candidates leave nothing to rank"),
        (["--rerank-from", "{joint}"], 2, "is a uniter fine-tuned for flickr30k, which embeds no side alone"),
        (["--rerank-from", "nothing"], 3, "nothing.json: there is no such card"),
        (["--scores", "x"], 2, "a run, --scores and --predictions are given together"),
        (["--weight", "1"], 2, "--weight: weighs --scores or --predictions"),
        (["--standardise"], 2, "--standardise: does nothing without --scores"),
        (["--min-score", "0.5", "--min-boxes", "9", "--max-boxes", "3"], 2, "leave nothing to select"),
    ],
)
def test_options_that_do_not_fit(
    more: list[str], code: int, sentence: str, stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.format(**stores) for word in more]
    refused(capsys, words(stores, "joint", tmp_path / "out", *filled), code, sentence)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["eval"], "nothing to evaluate; give one of RUN, --scores and --predictions"),
        (["eval", "{joint}"], "--examples: is missing"),
        (["eval", "--predictions", "p", "--examples", "{test}", "--features", "{test-f}"], "--task: is missing"),
        (["eval", "--scores", "p", "--rerank-from", "x"], "--rerank-from: needs a run that re-ranks"),
        (
            ["eval", "{pretrained}", "--examples", "{test}", "--features", "{test-f}"],
            "was not fine-tuned; name a --task",
        ),
        (["eval", "absent", "--examples", "{test}", "--features", "{test-f}"], "absent: there is no such run"),
    ],
)
def test_what_is_missing_is_named(
    line: list[str], sentence: str, stores: Stores, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, [word.format(**stores) for word in line], 2, sentence)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("test-1\nmoon\n", "1 of 2 images of the split have no caption (moon)"),
        ("", "names no image; one id a line"),
    ],
)
def test_a_split_file_that_names_unknown_ids(
    lines: str, sentence: str, stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "split.txt").write_text(lines)
    line = words(stores, "joint", tmp_path / "out", "--protocol", tmp_path / "split.txt")
    refused(capsys, line, 3, sentence)


def test_captions_without_features_of_their_images(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = np.random.default_rng(0)
    told = [caption(f"c{image}", image, dice) for image in ("test-0", "moon", "sun")]
    write_examples(tmp_path / "more.lmdb", told)
    line = words(stores | {"test": tmp_path / "more.lmdb"}, "joint", tmp_path / "out")
    refused(capsys, line, 3, "more: captions of 2 of 3 images have no features (moon, sun)")


def test_examples_of_two_images_are_no_captions(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = replace(caption("c", "test-0", np.random.default_rng(0)), image_ids=("test-0", "test-1"))
    write_examples(tmp_path / "more.lmdb", [pair])
    line = words(stores | {"test": tmp_path / "more.lmdb"}, "joint", tmp_path / "out")
    refused(capsys, line, 3, "example c has 2 images, retrieval compares one")


@pytest.mark.parametrize("run", ["joint", "pretrained"])
def test_features_of_another_preset_are_refused_unless_allowed(
    run: str, stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FeatureStore.create(tmp_path / "f.lmdb", FeatureMetadata(detector="random", preset="other")) as writer:
        for one in FeatureStore.open(stores["test-f"]):
            writer.put(one)
    task = ["--task", "flickr30k"] if run == "pretrained" else []
    line = words(stores | {"test-f": tmp_path / "f.lmdb"}, run, tmp_path / "out", *task)
    refused(capsys, line, 3, "the features have preset 'other', the run was trained on ''")
    assert main([*line, "--other-features", "allow"]) == 0


def test_a_matrix_of_the_wrong_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = {"text_ids": ("a", "b"), "image_ids": ("x",), "image_of": ("x", "x")}
    write_scores(tmp_path / "m", ScoreMatrix(scores=np.zeros((2, 1), np.float32), **ids))  # type: ignore[arg-type]
    np.save(tmp_path / "m.npy", np.zeros((1, 2), np.float32))
    refused(capsys, ["eval", "--scores", str(tmp_path / "m")], 3, "has the shape (1, 2) for 2 texts and 1 images")


def test_below_a_threshold_the_exit_code_is_five(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words(stores, "joint", tmp_path / "out", "--fail-under", "t2i_r10=101", "--fail-under", "i2t_r10=0")
    assert main(line) == 5
    assert "t2i_r10 is 100, asked for 101" in capsys.readouterr().err
    assert (tmp_path / "out" / "results.json").is_file()
    assert main(words(stores, "joint", tmp_path / "out", "--fail-under", "t2i_mean_rank=1")) == 5
    capsys.readouterr()
    refused(capsys, words(stores, "joint", tmp_path / "out", "--fail-under", "t2i_r2=1"), 2, "t2i_r2 was not measured")


def test_the_texts_can_be_cut_to_a_number(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ran(capsys, *words(stores, "joint", tmp_path / "out", "--limit", "6"))
    assert (found["protocol"]["images"], found["protocol"]["captions"]) == (2, 6)


# -- zero-shot ------------------------------------------------------------------------------------------------------


def test_zero_shot_ranks_by_the_head_of_matching(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vltk.models._checkpoints import read_checkpoint
    from vltk.models.uniter import UNITERForPretraining

    ran(capsys, *words(stores, "pretrained", tmp_path / "out", "--task", "flickr30k"))
    scores = read_scores(tmp_path / "out" / "scores")
    found = read_checkpoint(UNITERForPretraining, stores["pretrained"])
    model = found.config.build_for_pretraining().eval()
    model.load_state_dict(found.weights)
    import torch

    from tests.small_retrieval import sides_of, split_of

    sides = sides_of(split_of(stores["test"], stores["test-f"]), model.encoder, scores.image_ids)
    with torch.no_grad():
        for row, column in ((0, 0), (5, 3), (20, 6)):
            text, image = sides.texts([row]), sides.images([column])
            pair = replace(image, input_ids=text.input_ids, text_mask=text.text_mask, regions=image.regions.float())
            logit = model.matching_logits(model.encoder(pair).pooled)[0, 1]
            assert scores.scores[row, column] == pytest.approx(float(logit), abs=1e-5)


@pytest.mark.parametrize("task", listing("vltk.tasks"))
def test_a_task_takes_no_name_from_the_options_of_eval(task: str) -> None:
    chosen = importlib.import_module(f"vltk.tasks.{task}").Config
    own = {one.path: one.name for one in options(EvalConfig)}
    with_task = {one.path: one.name for one in options(EvalConfig, {("options",): chosen})}
    assert {path: with_task[path] for path in own} == own


def test_answers_need_fine_tuning(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = words(stores, "pretrained", tmp_path / "out", "--task", "nlvr2")
    refused(capsys, line, 2, "was not fine-tuned, and nlvr2 has answers that pre-training does not know")


# -- going on, processes --------------------------------------------------------------------------------------------


def test_what_another_evaluation_left_is_not_mixed_in(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(capsys, *words(stores, "joint", tmp_path / "out"))
    refused(capsys, words(stores, "joint", tmp_path / "out", "--precision", "bf16"), 2, "begun with other settings")
    refused(capsys, words(stores, "dual", tmp_path / "out"), 2, "was begun")
    ran(capsys, *words(stores, "dual", tmp_path / "out", "--overwrite"))


def test_half_a_matrix_is_gone_on_with(stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = ran(capsys, *words(stores, "joint", tmp_path / "whole", "--batch-tokens", "30"))
    ran(capsys, *words(stores, "joint", tmp_path / "half", "--batch-tokens", "30"))
    card = tmp_path / "half" / "scores.json"
    told = json.loads(card.read_text())
    begun = {name: value for name, value in told.items() if name not in ("pairs", "sha256")}
    card.write_text(json.dumps(begun))
    scores = np.lib.format.open_memmap(tmp_path / "half" / "scores.npy", mode="r+")
    scores[np.random.default_rng(0).random(scores.shape) < 0.5] = np.nan
    scores.flush()
    again = ran(capsys, *words(stores, "joint", tmp_path / "half", "--batch-tokens", "30"))
    assert again["metrics"] == whole["metrics"]
    assert json.loads(card.read_text()) == told
    assert (tmp_path / "half" / "scores.npy").read_bytes() == (tmp_path / "whole" / "scores.npy").read_bytes()


def test_a_signal_stops_it_and_the_same_command_goes_on(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words(stores, "joint", tmp_path / "out", "--batch-tokens", "1")
    slow = (
        "import sys, time, vltk.objectives.ranking as r; from vltk.cli import main\n"
        "score = r.Ranking.match_scores\n"
        "r.Ranking.match_scores = lambda self, pooled: (time.sleep(0.1), score(self, pooled))[1]\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", slow, *line], cwd=root, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while time.monotonic() < until and not _begun(tmp_path / "out" / "scores.npy"):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1].decode()
    assert (process.returncode, "pairs left; the same command resumes" in error) == (75, True)
    left = np.isnan(np.load(tmp_path / "out" / "scores.npy", allow_pickle=False)).sum()
    assert 0 < left < IMAGES * TEXTS
    again = ran(capsys, *line)
    assert again["metrics"] == ran(capsys, *words(stores, "joint", tmp_path / "x", "--batch-tokens", "1"))["metrics"]


def _begun(path: Path) -> bool:
    return path.exists() and not np.isnan(np.load(path, allow_pickle=False)).all()


@pytest.mark.parametrize("run", ["joint", pytest.param("dual", marks=pytest.mark.slow)])
def test_two_processes_find_what_one_does(run: str, stores: Stores, tmp_path: Path) -> None:
    assert main(words(stores, run, tmp_path / "one", "--batch-tokens", "30")) == 0
    line = words(stores, run, tmp_path / "two", "--batch-tokens", "30", "--nproc", "2")
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-m", "vltk", *line], cwd=root, check=True, timeout=120)
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    assert one["metrics"] == two["metrics"]
    assert (tmp_path / "one" / "scores.npy").read_bytes() == (tmp_path / "two" / "scores.npy").read_bytes()


# -- answers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entailment(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Stores:
    folder, dice = tmp_path_factory.mktemp("entailment"), np.random.default_rng(0)
    labels = ("contradiction", "entailment", "neutral")
    found = {"folder": folder}
    for name in ("train", "test"):
        pictures = [picture(f"{name}{number}", dice) for number in range(6)]
        told = [caption(f"e{number}", f"{name}{number % 6}", dice) for number in range(24)]
        labelled = [replace(one, target=LabelTarget(label=labels[n % 3])) for n, one in enumerate(told)]
        found[name] = write_examples(folder / f"{name}.lmdb", labelled)
        found[f"{name}-f"] = write_features(folder / f"{name}-f.lmdb", pictures)
    for seed in ("0", "1"):
        found[f"run{seed}"] = folder / f"run{seed}"
        line = [*finetuning(found, found[f"run{seed}"], "snli_ve"), "--init", str(stores["pretrained"])]
        assert main([*line, "--seed", seed]) == 0
    return found


def test_answers_are_predicted_and_measured_blind_as_well(
    entailment: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ran(capsys, *words(entailment, "run0", tmp_path / "out", "--blind"))
    rows = {row["metric"]: row for row in found["metrics"]}
    assert rows["accuracy"]["n"] == rows["accuracy (blind)"]["n"] == 24
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines[1:]] == [f"e{number}" for number in range(24)]
    seen, unseen = (
        [json.loads(line)["scores"] for line in (tmp_path / "out" / name).read_text().splitlines()[1:]]
        for name in ("predictions.jsonl", "blind-predictions.jsonl")
    )
    assert seen != unseen
    assert not list((tmp_path / "out").glob(".*part*"))
    outcomes = read_outcomes(tmp_path / "out")
    assert outcomes.series["accuracy"].values.mean() == pytest.approx(rows["accuracy"]["value"])


def test_stored_predictions_measure_the_same_without_a_model(
    entailment: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ran(capsys, *words(entailment, "run0", tmp_path / "out"))
    stores = ["--examples", str(entailment["test"]), "--features", str(entailment["test-f"])]
    line = ["eval", "--task", "snli_ve", "--predictions", str(tmp_path / "out" / "predictions.jsonl"), *stores]
    again = ran(capsys, *[*line, "--quiet", "--out", str(tmp_path / "again")])
    assert again["metrics"] == whole["metrics"]
    assert main(["compare", str(tmp_path / "out"), str(tmp_path / "again"), "--quiet"]) == 0


def test_two_runs_are_averaged(entailment: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for run in ("run0", "run1"):
        ran(capsys, *words(entailment, run, tmp_path / run))
        files.append(tmp_path / run / "predictions.jsonl")
    from vltk.evaluation import averaged_predictions

    mean = averaged_predictions(files, task="snli_ve", weights=[2, 1])
    single = [averaged_predictions([file], task="snli_ve") for file in files]
    labels = ("contradiction", "entailment", "neutral")
    for key, one in mean.items():
        expected = (2 * single[0][key].scores + single[1][key].scores) / 3
        np.testing.assert_allclose(one.scores, expected, rtol=1e-5)  # type: ignore[arg-type]
        assert one.answer == labels[int(np.argmax(expected))]
    stores = ["--examples", str(entailment["test"]), "--features", str(entailment["test-f"])]
    given = [word for file in files for word in ("--predictions", str(file))]
    ran(capsys, *["eval", "--task", "snli_ve", *given, *stores, "--quiet"])


def test_predictions_of_another_split_are_refused(
    entailment: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "e0", "answer": "neutral"}\n')
    stores = ["--examples", str(entailment["test"]), "--features", str(entailment["test-f"])]
    line = ["eval", "--task", "snli_ve", "--predictions", str(tmp_path / "p.jsonl"), *stores]
    refused(capsys, line, 3, "23 of 24 examples have no prediction")


def test_a_half_predicted_split_is_gone_on_with(
    entailment: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ran(capsys, *words(entailment, "run0", tmp_path / "whole", "--batch-tokens", "20"))
    ran(capsys, *words(entailment, "run0", tmp_path / "half", "--batch-tokens", "20"))
    out = tmp_path / "half"
    lines = (out / "predictions.jsonl").read_text().splitlines(keepends=True)
    (out / ".predictions.jsonl.part0").write_text("".join(lines[:9]) + lines[9][:-8])
    (out / "predictions.jsonl").unlink()
    again = ran(capsys, *words(entailment, "run0", tmp_path / "half", "--batch-tokens", "20"))
    assert again["metrics"] == whole["metrics"]
    assert (out / "predictions.jsonl").read_bytes() == (tmp_path / "whole" / "predictions.jsonl").read_bytes()


# -- real captions --------------------------------------------------------------------------------------------------


def test_captions_of_karpathys_test_split_run_through(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shared / "data" / "flickr30k_captions" / "karpathy_test" / "flickr30k_test_data.json"
    vocabulary = shared / "data" / "bert_vocab" / "vocab.txt"
    sources = ["--caption-lists", str(file), "--tokenizer", str(vocabulary), "--limit", "40"]
    line = ["prepare", "--task", "flickr30k", *sources, "--out", str(tmp_path / "test.lmdb"), "--quiet"]
    assert main(line) == 0
    dice = np.random.default_rng(0)
    images = [name.removesuffix(".jpg") for name in json.loads(file.read_text())][:8]
    write_features(tmp_path / "f.lmdb", [picture(image, dice) for image in images])
    found = {"test": tmp_path / "test.lmdb", "test-f": tmp_path / "f.lmdb", "run": tmp_path / "run"}
    more = ["--positions", "64", "--batch-tokens", "512", "--objective", "itm=1"]
    assert main(arguments(found["test"], found["test-f"], found["run"], *more, steps=3)) == 0
    results = ran(capsys, *words(found, "run", tmp_path / "out", "--task", "flickr30k"))
    assert (results["protocol"]["images"], results["protocol"]["captions"]) == (8, 40)
