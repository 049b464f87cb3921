"""``vltk store import``, ``export`` and ``compare`` as a user types them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stores.formats.samples import MemoryStore, make
from vltk.cli import main
from vltk.config import listing
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.stores.formats import lxmert_tsv, mmf_npy, uniter_txt_db
from vltk.stores.transfer import load_format


@pytest.fixture
def tsv(tmp_path: Path) -> Path:
    path = tmp_path / "a.tsv"
    lxmert_tsv.write(MemoryStore(make(str(number), seed=number) for number in range(5)), path)
    return path


def run(*words: object) -> int:
    return main(["store", *map(str, words)])


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert run(*words, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def sentence(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    assert run(*words) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return next(line for line in error.splitlines() if "error" in line)


@pytest.mark.parametrize("name", listing("vltk.stores.formats"))
def test_every_format_reads_and_writes_with_options_that_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = load_format(name)
    assert callable(module.read)
    assert callable(module.write)
    for command in ("import", "export"):
        assert run(command, "--format", name, "--help") == 0
        assert "Examples" in capsys.readouterr().out


def test_a_file_goes_into_a_store_and_comes_back(tsv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = answer(
        capsys,
        "import",
        tsv,
        "--format",
        "lxmert_tsv",
        "--out",
        tmp_path / "s",
        "--dtype",
        "float32",
        "--detector",
        "mine",
    )
    store = FeatureStore.open(tmp_path / "s")
    assert made["records"] == len(store) == 5
    assert made["content_hash"] == store.content_hash
    assert (store.metadata.detector, store.metadata.extra["format"]) == ("mine", "lxmert_tsv")
    assert (
        answer(capsys, "export", tmp_path / "s", "--format", "lxmert_tsv", "--out", tmp_path / "b.tsv")["records"] == 5
    )
    assert (tmp_path / "b.tsv").read_bytes() == tsv.read_bytes()


def test_the_plan_shows_the_first_record_and_writes_nothing(
    tsv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = answer(capsys, "import", tsv, "--format", "lxmert_tsv", "--out", tmp_path / "s", "--dry-run")
    assert plan["first"]["image_id"] == "0"
    assert plan["first"]["features"] == [3, 4]
    assert not (tmp_path / "s").exists()
    answer(capsys, "import", tsv, "--format", "lxmert_tsv", "--out", tmp_path / "s")
    answer(capsys, "export", tmp_path / "s", "--format", "lxmert_tsv", "--out", tmp_path / "b.tsv", "--dry-run")
    assert not (tmp_path / "b.tsv").exists()


def test_a_limit_reads_the_first_records(tsv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        answer(capsys, "import", tsv, "--format", "lxmert_tsv", "--out", tmp_path / "s", "--limit", 2)["records"] == 2
    )


def test_a_broken_first_record_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.tsv").write_text("7\t480\t640\n")
    error = sentence(capsys, 3, "import", tmp_path / "bad.tsv", "--format", "lxmert_tsv", "--out", tmp_path / "s")
    assert "bad.tsv, line 1: has 3 columns, expected 10 or 6" in error
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", listing("vltk.stores.formats"))
def test_what_is_of_no_format_is_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("no features\n")
    for source in ("folder", "file", "nothing"):
        error = sentence(capsys, 3, "import", tmp_path / source, "--format", name, "--out", tmp_path / "s")
        assert f"{tmp_path / source}" in error
    assert not (tmp_path / "s").exists()


def test_a_payload_is_one_sentence_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mmf").mkdir()
    np.save(tmp_path / "mmf" / "7.npy", np.ones((2, 3), np.float32))
    (tmp_path / "victim").touch()
    payload = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(127) + b"\n"
    payload += b"cposix\nunlink\n(S'" + str(tmp_path / "victim").encode() + b"'\ntR."
    (tmp_path / "mmf" / "7_info.npy").write_bytes(payload)
    error = sentence(capsys, 3, "import", tmp_path / "mmf", "--format", "mmf_npy", "--out", tmp_path / "s")
    assert "7_info.npy: refers to posix.unlink" in error
    assert (tmp_path / "victim").exists()
    assert not (tmp_path / "s").exists()


def test_a_later_broken_record_keeps_the_others_and_the_same_command_goes_on(
    tsv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tsv.read_text().splitlines(keepends=True)
    tsv.write_text("".join([*lines[:3], lines[3][:50] + "\n", *lines[4:]]))
    words = ("import", tsv, "--format", "lxmert_tsv", "--out", tmp_path / "s")
    error = sentence(capsys, 3, *words)
    assert "line 4" in error
    assert f"what came before it is kept in {tmp_path / 's'}, and the same command goes on there" in error
    tsv.write_text("".join(lines))
    assert answer(capsys, *words)["records"] == 5


def test_captions_of_precomputed_features_become_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "dev_ims.npy", np.ones((2, 3, 4), np.float32))
    (tmp_path / "dev_caps.txt").write_text("".join(f"caption {number}\n" for number in range(10)))
    found = answer(
        capsys,
        "import",
        tmp_path,
        "--format",
        "scan_npy",
        "--out",
        tmp_path / "s",
        "--captions",
        tmp_path / "c",
        "--split",
        "dev",
    )
    assert (found["records"], found["caption_records"]) == (2, 10)
    assert ExampleStore.open(tmp_path / "c").get("dev_1#0").texts == ("caption 5",)
    again = (
        "export",
        tmp_path / "s",
        "--format",
        "scan_npy",
        "--out",
        tmp_path / "out",
        "--captions",
        tmp_path / "c",
        "--split",
        "dev",
    )
    answer(capsys, *again)
    for name in ("dev_ims.npy", "dev_caps.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_captions_of_a_format_without_them_are_refused(
    tsv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("import", tsv, "--format", "lxmert_tsv", "--out", tmp_path / "s", "--captions", tmp_path / "c")
    assert "the format lxmert_tsv holds no captions; leave --captions out" in sentence(capsys, 2, *words)


def test_a_text_database_becomes_examples_and_comes_back(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shared / "golden" / "uniter" / "db" / "vqa_toy.db"
    assert answer(capsys, "import", source, "--format", "uniter_txt_db", "--out", tmp_path / "s")["records"] == 5
    store = ExampleStore.open(tmp_path / "s")
    assert store.metadata.tokenizer is not None
    assert store.metadata.tokenizer.special_ids == {"[CLS]": 1, "[SEP]": 2, "[MASK]": 3, "[UNK]": 4}
    assert "data.mdb" in store.metadata.sources
    answer(capsys, "export", tmp_path / "s", "--format", "uniter_txt_db", "--out", tmp_path / "out")
    assert list(uniter_txt_db.read(tmp_path / "out")) == list(uniter_txt_db.read(source))


def test_a_store_of_the_other_kind_is_refused(tsv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("import", tsv, "--format", "lxmert_tsv", "--out", tmp_path / "s")
    capsys.readouterr()
    error = sentence(capsys, 2, "export", tmp_path / "s", "--format", "uniter_txt_db", "--out", tmp_path / "out")
    assert "is a store of vltk.features, and the format holds vltk.examples" in error


def test_an_unknown_format_and_a_foreign_option_are_refused(
    tsv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean lxmert_tsv?" in sentence(
        capsys, 2, "import", tsv, "--format", "lxmert", "--out", tmp_path / "s"
    )
    assert "--repeated" in sentence(
        capsys, 2, "import", tsv, "--format", "lxmert_tsv", "--repeated", "no", "--out", tmp_path / "s"
    )
    assert not (tmp_path / "s").exists()


def test_an_export_keeps_what_exists(tsv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("import", tsv, "--format", "lxmert_tsv", "--out", tmp_path / "s")
    capsys.readouterr()
    before = tsv.read_bytes()
    words = ("export", tmp_path / "s", "--format", "lxmert_tsv", "--out", tsv, "--layout", "butd")
    assert "exists already; choose another path or pass --overwrite" in sentence(capsys, 3, *words)
    assert tsv.read_bytes() == before
    answer(capsys, *words, "--overwrite")
    assert len(tsv.read_text().splitlines()[0].split("\t")) == 6


def two_stores(tmp_path: Path) -> tuple[Path, Path]:
    records = [make(str(number), seed=number) for number in range(4)]
    for name, changed in (("a", records), ("b", [replace(record, features=-record.features) for record in records])):
        mmf_npy.write(MemoryStore(changed), tmp_path / f"{name}.mmf")
        assert run("import", tmp_path / f"{name}.mmf", "--format", "mmf_npy", "--out", tmp_path / name) == 0
    return tmp_path / "a", tmp_path / "b"


def test_two_stores_are_compared_in_numbers_and_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = two_stores(tmp_path)
    capsys.readouterr()
    found = answer(capsys, "compare", first, second)
    assert found["verdict"].startswith(
        "The two extractions differ: 100.0% of the regions match, with a median cosine of -1"
    )
    assert found["histogram"]["-1 to 0"] == 12
    assert len(found["worst"]) == 4
    assert run("compare", first, second) == 0
    shown = capsys.readouterr().out
    assert "-1 to 0             12  100.0%  ########################################" in shown


def test_a_comparison_can_fail_a_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = two_stores(tmp_path)
    capsys.readouterr()
    assert run("compare", first, first, "--fail-under", "0.99") == 0
    capsys.readouterr()
    assert "the agreement is -1.0000, below 0.99" in sentence(
        capsys, 5, "compare", first, second, "--fail-under", "0.99"
    )


def test_no_module_of_the_stores_loads_pickles() -> None:
    folder = Path(load_format("lxmert_tsv").__file__ or "").parents[1]
    for file in folder.rglob("*.py"):
        text = file.read_text("utf-8")
        assert not any(word in text for word in ("pickle.load", "Unpickler", "allow_pickle=True", "np.load")), file
