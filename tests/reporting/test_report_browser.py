"""A page as a browser takes it: no word on its console, no request, something to see on wide and narrow screens."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.small_runs import make_evaluation, make_run
from vltk.reporting.report import write_report

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]


def shot(page: Path, out: Path, width: int, *more: str) -> tuple[str, Image.Image]:
    """Return what a browser says of a page, and what it shows."""
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        f"--user-data-dir={out.parent / 'profile'}", f"--window-size={width},1600", f"--screenshot={out}",
        *more, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stderr, Image.open(out).convert("L")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    runs = [make_run(folder / name, seed=seed) for seed, name in enumerate(("first", "second"))]
    for place, run in enumerate(runs):
        make_evaluation(run / "eval" / "test", [1, 1 + place, 2, 3, 1, 30], [1, 2, 1], run=run)
    return write_report(runs, folder / "report.html").page


@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_the_page_without_complaint(page: Path, tmp_path: Path, width: int) -> None:
    said, seen = shot(page, tmp_path / "shot.png", width)
    assert "CONSOLE" not in said
    assert seen.width == width
    darkest, lightest = seen.getextrema()
    assert lightest - darkest > 150, "text on its ground"


def test_what_a_page_must_not_do_would_be_seen(page: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.html"
    picture = '<img src="http://example.invalid/picture.png" alt="a picture">'
    wrong.write_text(page.read_text("utf-8").replace("</body>", f"{picture}</body>"), "utf-8")
    assert "CONSOLE" in shot(wrong, tmp_path / "shot.png", 500)[0]


def width_on_a_phone(page: Path, out: Path) -> int:
    """Return how wide a page comes out where 390 pixels are there."""
    frame = out / "frame.html"
    measure = "console.log('wide ' + this.contentDocument.documentElement.scrollWidth)"
    frame.write_text(f'<iframe src="{page.as_uri()}" width="390" height="800" onload="{measure}"></iframe>', "utf-8")
    said, _ = shot(frame, out / "frame.png", 800, "--allow-file-access-from-files")
    return int(said.split("wide ")[1].split('"')[0])


def test_nothing_is_wider_than_a_phone(page: Path, tmp_path: Path) -> None:
    found = width_on_a_phone(page, tmp_path)
    assert 300 < found <= 390
    wrong = tmp_path / "wrong.html"
    wide = '<p style="width:900px">wide</p></body>'
    wrong.write_text(page.read_text("utf-8").replace("</body>", wide), "utf-8")
    assert width_on_a_phone(wrong, tmp_path) > 390
