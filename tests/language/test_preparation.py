from __future__ import annotations

import hashlib

import pytest

from vltk.errors import DataError
from vltk.language.preparation import missing_images, source_hashes, survey, write_examples
from vltk.language.tokenization import Tokenizer, build_vocabulary
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.types import Example, LabelTarget


def example(number, *images, target=None):
    return Example(id=str(number), image_ids=images, texts=("a dog", "two dogs"), target=target)


EXAMPLES = (example(1, "a", "b", target=LabelTarget(label="True")), example(2, "a", "a"), example(3, "c"))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(build_vocabulary(["a dog"]))


def test_a_survey_counts_examples_texts_targets_and_pictures():
    done = []
    found = survey(EXAMPLES, progress=done.append)
    assert (found.examples, found.texts, found.targets) == (3, 6, 1)
    assert found.images == {"a": 2, "b": 1, "c": 1}
    assert found.missing({"b"}) == ["a", "c"]
    assert done == [1, 1, 1]


def test_only_some_missing_pictures_are_shown():
    error = missing_images([f"p{i}" for i in range(9)], 12, known="x1", where="f.lmdb")
    assert str(error).startswith(
        "f.lmdb: lacks 9 of 12 images: p0, p1, p2, p3, p4, ... (ids there look like 'x1'); extract them"
    )


def test_what_is_written_is_counted(tmp_path, tokenizer):
    written = write_examples(EXAMPLES, tmp_path / "s.lmdb", ExampleMetadata(), tokenizer, without={"b"})
    assert (written.examples, written.texts, written.left_out) == (2, 4, 1)
    # "two dogs" are two words of characters: t is unknown, so is w, and s.
    stored = [tokens for e in ExampleStore.open(tmp_path / "s.lmdb") for tokens in e.tokens]
    assert written.pieces == sum(len(tokens.ids) for tokens in stored)
    assert written.longest == max(len(tokens.ids) for tokens in stored)
    assert written.unknown == sum(tokens.ids.count(tokenizer.ids["[UNK]"]) for tokens in stored) == 4


def test_a_resumed_store_notices_annotations_that_changed(tmp_path, tokenizer):
    write_examples(EXAMPLES, tmp_path / "s.lmdb", ExampleMetadata(), tokenizer)
    changed = Example(id="2", image_ids=("a", "a"), texts=("a cat",))
    with pytest.raises(DataError, match="'2' is in the store already, with other content"):
        write_examples([EXAMPLES[0], changed], tmp_path / "s.lmdb", ExampleMetadata(), tokenizer)


def test_sources_are_hashed_by_name_and_folders_by_their_listing(tmp_path):
    for name in ("x/q.json", "y/q.json", "y/z/deep.json", "one.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    paths = (tmp_path / "x/q.json", tmp_path / "y/q.json", tmp_path / "one.json", tmp_path / "y")
    hashes = source_hashes(paths)
    assert list(hashes) == ["x/q.json", "y/q.json", "one.json", "y"]
    assert hashes["one.json"] == hashlib.sha256(b"one.json").hexdigest()
    (tmp_path / "y/z/deep.json").write_text("longer than before")
    assert source_hashes(paths)["y"] != hashes["y"]
    with pytest.raises(DataError, match=r"gone\.json: there is no such file"):
        source_hashes([tmp_path / "gone.json"])
