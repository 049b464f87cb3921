from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.small_pages import Page, check
from tests.small_runs import make_evaluation, make_run
from vltk.cli import main
from vltk.errors import DataError, UsageError
from vltk.reporting.drawing import Canvas, Figure
from vltk.reporting.evidence import read_run, read_runs
from vltk.reporting.figure_files import as_png
from vltk.reporting.recall import evaluations
from vltk.reporting.report import write_report


@pytest.fixture
def run(tmp_path):
    path = make_run(tmp_path / "plain")
    make_evaluation(path / "eval" / "test", [1, 1, 2, 3, 1, 30], [1, 2, 1], run=path)
    return path


def test_a_page_of_one_run_is_whole_and_asks_for_nothing(run, tmp_path):
    report = write_report([run], tmp_path / "report.html")
    page = check(report.page)
    assert report.size == report.page.stat().st_size
    for part in (
        "878,081",
        "uniter-<tiny>",
        "Recall, text to image",
        "text to image, R@1 % 6 50.0 [45.0, 55.0]",
        "75 s",
        "Training loss: hard",
    ):
        assert part in page.text, part


def test_a_page_can_be_read_by_those_who_do_not_see_its_figures(run, tmp_path):
    page = check(write_report([run], tmp_path / "report.html").page)
    labels = [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"]
    assert "Recall text to image in percent: R@1 50.0; R@5 83.3; R@10 83.3." in labels


def test_what_a_run_does_not_have_is_said_with_the_command_that_makes_it(tmp_path):
    path = make_run(tmp_path / "plain")
    page = check(write_report([path], tmp_path / "report.html").page)
    assert f"vltk eval {path} --examples STORE --features STORE" in page.text


def test_figures_are_files_as_well(run, tmp_path):
    report = write_report([run], tmp_path / "report.html", figures=tmp_path / "figures", formats=("svg",))
    names = {path.name for path in report.figures}
    assert {"recall-t2i-test.svg", "recall-i2t-test.svg", "learning-hard.svg"} <= names
    for path in report.figures:
        text = path.read_text("utf-8")
        drawn = Page(text)
        assert (drawn.wrong, drawn.open) == ([], [])
        assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
        assert "var(" not in text, "other programs know no variables"


def test_figures_as_png_show_their_text(run, tmp_path):
    pytest.importorskip("resvg_py", reason="PNG needs the extra 'plots'")
    from PIL import Image

    report = write_report([run], tmp_path / "report.html", figures=tmp_path / "figures", formats=("png",))
    picture = Image.open(tmp_path / "figures" / "recall-t2i-test.png").convert("L")
    assert picture.width == 3 * (360 + 2 * 8)
    title = picture.crop((0, 0, 400, 74))
    assert title.getextrema()[0] < 90, "the title is dark on light"
    assert all(path.suffix == ".png" for path in report.figures)


def test_a_machine_without_fonts_still_draws_every_label():
    pytest.importorskip("resvg_py", reason="PNG needs the extra 'plots'")
    import io

    from PIL import Image

    canvas = Canvas()
    canvas.text(0, 14, "Recall", size=14)
    figure = Figure(name="a", title="Recall", alt="a word", body=canvas.body, width=60, height=20)
    drawn = Image.open(io.BytesIO(as_png(figure.file(), system_fonts=False))).convert("L")
    assert drawn.size == (3 * (60 + 16), 3 * (20 + 16))
    darkest, lightest = drawn.getextrema()
    assert (darkest < 90, lightest) == (True, 255)


def test_png_without_its_library_is_refused_before_anything_is_written(run, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(UsageError, match=r"resvg-py.*pip install 'vltk-toolkit\[plots\]'"):
        write_report([run], tmp_path / "report.html", figures=tmp_path / "figures")
    assert not (tmp_path / "report.html").exists()


def test_the_same_run_gives_the_same_page(run, tmp_path):
    first = write_report([run], tmp_path / "a.html").page.read_bytes()
    assert first == write_report([run], tmp_path / "b.html").page.read_bytes()


def test_runs_of_one_name_are_told_apart(tmp_path):
    paths = [make_run(tmp_path / name / "run") for name in ("first", "second")]
    assert [one.name for one in read_runs(paths)] == ["first/run", "second/run"]


def test_an_evaluation_alone_is_reported_on(run, tmp_path):
    found = read_run(run / "eval" / "test")
    assert (found.name, found.trained, [one.kind for one in found.measured]) == ("plain", False, ["evaluation"])
    check(write_report([run / "eval" / "test"], tmp_path / "report.html").page)


def test_evaluations_of_one_split_with_and_without_a_first_stage_are_kept_apart(run, tmp_path):
    other = make_run(tmp_path / "other", seed=1)
    make_evaluation(other / "eval" / "test", [2, 1, 2, 3, 1, 1], [1, 1, 1], run=other)
    staged = {"how": {"rerank_from": "scores"}}
    make_evaluation(run / "eval" / "two-stages", [9, 9, 9, 9, 9, 9], [9, 9, 9], run=run, config=staged)
    found = read_runs([run, other])
    assert [[(one.name, two.path.name) for one, two in group] for group in evaluations(found)] == [
        [("plain", "test"), ("other", "test")],
        [("plain", "two-stages")],
    ]
    assert [one.path.name for one in found[0].examples] == ["test"]
    page = check(write_report([run, other], tmp_path / "report.html").page)
    differences = page.text.split("Difference to plain")[1:]
    assert len(differences) == 1, "what has a first stage is not compared with what has none"


def test_two_runs_are_told_apart_by_chance_or_not(tmp_path):
    runs = [make_run(tmp_path / name) for name in ("worse", "better")]
    for run, rank in zip(runs, (20, 1), strict=True):
        make_evaluation(run / "eval" / "test", [rank] * 40, [rank] * 20, run=run)
    page = check(write_report(runs, tmp_path / "report.html").page)
    assert "better differs from worse in" in page.text
    assert "+100.0" in page.text
    same = [runs[0], make_run(tmp_path / "same")]
    make_evaluation(same[1] / "eval" / "test", [20] * 40, [20] * 20, run=same[1])
    page = check(write_report(same, tmp_path / "report.html").page)
    assert "same does not differ from worse beyond chance" in page.text


def refused(tmp_path: Path, kind: type[Exception], match: str, *runs: Path) -> None:
    with pytest.raises(kind, match=match):
        write_report(list(runs), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_is_no_run_gets_a_sentence(tmp_path):
    (tmp_path / "other").mkdir()
    refused(tmp_path, UsageError, "other: is no run: it holds neither config.json nor results.json", tmp_path / "other")
    refused(tmp_path, UsageError, "absent: is not there; name the folder of a run", tmp_path / "absent")


def test_a_folder_of_runs_names_them(tmp_path):
    make_run(tmp_path / "runs" / "a")
    make_run(tmp_path / "runs" / "b")
    refused(tmp_path, UsageError, r"is no run, but holds 2 \(a, b\); name them", tmp_path / "runs")


def test_damaged_receipts_get_a_sentence(run, tmp_path):
    (run / "eval" / "test" / "results.json").write_text("{", "utf-8")
    refused(tmp_path, DataError, "eval/test/results.json: cannot be read .*; measure again", run)
    (run / "eval" / "test" / "results.json").write_text("[]", "utf-8")
    refused(tmp_path, DataError, "expected a JSON object", run)


def test_a_run_named_twice_and_too_many_runs_are_refused(run, tmp_path):
    refused(tmp_path, UsageError, "is named twice", run, run)
    many = [make_run(tmp_path / f"r{number}") for number in range(7)]
    refused(tmp_path, UsageError, "7 runs are too many for one page; name up to 6", *many)
    refused(tmp_path, UsageError, "nothing to report on")


def test_the_command_writes_the_page_and_says_where(run, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["page"], told["bytes"]) == (str(out), out.stat().st_size)
    assert main(["report", str(run), "--out", str(out)]) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err
    assert main(["report", str(run), "--out", str(out), "--overwrite", "--quiet"]) == 0
    check(out)


def test_a_dry_run_names_what_was_found_and_writes_nothing(run, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(out), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == [{"run": "plain", "measured": [str(run / "eval" / "test")]}]
    assert not out.exists()
