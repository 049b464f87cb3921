"""The example that trains a translation model: what it writes is a directory that vltk translates with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vltk.language.translation import Search, load_translator

SCRIPT = Path(__file__).parents[2] / "examples/train_translation/train.py"


def test_a_model_that_was_trained_on_few_pairs_repeats_them(tmp_path):
    pairs = {"a dog runs": "ein hund rennt", "a cat sleeps": "eine katze schläft", "a man sings": "ein mann singt"}
    for name, lines in (("en", pairs), ("de", pairs.values())):
        (tmp_path / f"text.{name}").write_text("\n".join([*lines] * 8), encoding="utf-8")
    sides = [part for side in ("source", "target") for part in (f"--{side}", {"source": "en", "target": "de"}[side])]
    sides.insert(2, str(tmp_path / "text.en"))
    sides.append(str(tmp_path / "text.de"))
    sizes = ["--hidden", "32", "--layers", "1", "--pieces", "80", "--steps", "150", "--warmup", "20", "--rate", "0.01"]
    command = [sys.executable, str(SCRIPT), *sides, "--out", str(tmp_path / "en-de"), "--dropout", "0", *sizes]
    subprocess.run(command, check=True, capture_output=True, cwd=SCRIPT.parents[2])
    translator = load_translator(tmp_path / "en-de", "en", "de")
    found = translator.translate(list(pairs), settings=Search(max_length_b=20))
    assert [one[0].text for one in found] == list(pairs.values())
