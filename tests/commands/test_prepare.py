from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from vltk.cli import main
from vltk.language.tokenization import SPECIAL_TOKENS, Tokenizer, build_vocabulary, load_tokenizer, write_vocabulary
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.types import RegionFeatures

CAPTIONS = {"1.jpg": ["A red star .", "Two dots ."], "2.jpg": ["A blue moon ."], "3.jpg": ["A man ."]}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "captions.json").write_text(json.dumps(CAPTIONS))
    write_vocabulary(tmp_path / "vocab.txt", build_vocabulary(text for texts in CAPTIONS.values() for text in texts))
    return tmp_path


def prepare(files, *flags, out="out.lmdb", source=("--task", "captions", "--caption-lists")):
    task = (*source, str(files / "captions.json")) if source else ()
    tokenizer = ("--tokenizer", str(files / "vocab.txt"), "--out", str(files / out))
    return main(["prepare", *task, *tokenizer, *map(str, flags)])


def features(path, *ids):
    with FeatureStore.create(path, FeatureMetadata(detector="drawn", dtype="float16")) as writer:
        for name in ids:
            boxes = np.array([[0, 0, 5, 5]], np.float32)
            writer.put(RegionFeatures(image_id=name, features=np.ones((1, 4), np.float16), boxes=boxes, size=(9, 9)))
    return path


def test_examples_are_written_with_pieces_and_a_record_of_their_making(files, capsys):
    assert prepare(files, "--json") == 0
    store = ExampleStore.open(files / "out.lmdb")
    tokenizer = load_tokenizer(files / "vocab.txt")
    assert store.ids() == ["1#0", "1#1", "2#0", "3#0"]
    assert store.get("1#1").tokens == (tokenizer.tokens("Two dots ."),)
    metadata = store.metadata
    digest = hashlib.sha256((files / "captions.json").read_bytes()).hexdigest()
    assert (metadata.task, metadata.sources) == ("captions", {"captions.json": digest})
    assert metadata.tokenizer == tokenizer.description()
    assert metadata.extra["lower_case"] is True
    summary = json.loads(capsys.readouterr().out)
    pieces = sum(len(e.tokens[0].ids) for e in store)
    assert (summary["examples"], summary["images"], summary["targets"]) == (4, 3, 0)
    assert summary["mean_pieces"] == pieces / 4
    assert summary["unknown_share"] == 0
    assert summary["content_hash"] == store.content_hash


def test_the_split_is_the_option_or_the_files_name(files):
    images = [{"filename": "1.jpg", "split": "val", "sentences": [{"sentid": 1, "raw": "A star", "tokens": ["a"]}]}]
    (files / "captions.json").write_text(json.dumps({"images": images}))
    assert prepare(files, "--split", "val", source=("--task", "coco", "--karpathy"), out="karpathy.lmdb") == 0
    metadata = ExampleStore.open(files / "karpathy.lmdb").metadata
    assert (metadata.task, metadata.split) == ("coco", "val")
    assert metadata.extra["options"] == {"split": "val", "restval": True, "tokens": False}
    record = {"identifier": "dev-1-2-3", "sentence": "A star", "label": "True"}
    (files / "captions.json").write_text(json.dumps(record))
    assert prepare(files, source=("--task", "nlvr2", "--annotations"), out="nlvr2.lmdb") == 0
    assert ExampleStore.open(files / "nlvr2.lmdb").metadata.split == "captions"
    (files / "captions.json").write_text("image,caption\n1_a.jpg,A star\n2_b.jpg,A dot\n")
    (files / "test.txt").write_text("1_a.jpg\n")
    flags = ("--images", files / "test.txt")
    assert prepare(files, *flags, source=("--task", "captions", "--flickr8k"), out="flickr8k.lmdb") == 0
    assert ExampleStore.open(files / "flickr8k.lmdb").metadata.split == "test"


def test_a_dry_run_counts_and_writes_nothing(files, capsys):
    assert prepare(files, "--dry-run", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["examples"], summary["texts"], summary["images"]) == (4, 4, 3)
    assert not (files / "out.lmdb").exists()


def test_a_fault_in_the_last_record_is_found_before_anything_is_written(files, capsys):
    (files / "captions.json").write_text(json.dumps({**CAPTIONS, "4.jpg": ["b'A man .'"]}))
    assert prepare(files) == 3
    assert "4.jpg[0]: has a text that looks like b'A man" in capsys.readouterr().err
    assert not (files / "out.lmdb").exists()


def test_a_limit_takes_the_first_examples(files):
    assert prepare(files, "--limit", 2) == 0
    assert ExampleStore.open(files / "out.lmdb").ids() == ["1#0", "1#1"]


def test_a_file_without_examples_is_refused(files, capsys):
    (files / "captions.json").write_text("{}")
    assert prepare(files) == 3
    assert "the annotation files hold no example" in capsys.readouterr().err


def test_the_same_command_resumes_and_then_changes_nothing(files, monkeypatch, capsys):
    whole = Tokenizer.tokenised

    def stops_at_the_third(self, example):
        if example.id == "2#0":
            raise KeyboardInterrupt
        return whole(self, example)

    monkeypatch.setattr(Tokenizer, "tokenised", stops_at_the_third)
    assert prepare(files) == 130
    monkeypatch.undo()
    assert prepare(files) == 0
    assert prepare(files, out="straight.lmdb") == 0
    resumed, straight = (ExampleStore.open(files / name) for name in ("out.lmdb", "straight.lmdb"))
    assert list(resumed) == list(straight)
    assert resumed.content_hash == straight.content_hash
    before = (files / "out.lmdb/data.mdb").read_bytes()
    assert prepare(files) == 0
    assert (files / "out.lmdb/data.mdb").read_bytes() == before


def test_another_source_does_not_go_into_the_same_store(files, capsys):
    assert prepare(files) == 0
    assert prepare(files, "--limit", 2) == 3
    assert "was begun with other settings" in capsys.readouterr().err
    assert prepare(files, "--limit", 2, "--overwrite") == 0
    assert len(ExampleStore.open(files / "out.lmdb")) == 2


def test_pictures_that_are_not_in_the_features_are_named(files, capsys):
    store = features(files / "f.lmdb", "1", "COCO_2")
    assert prepare(files, "--features", store) == 3
    error = capsys.readouterr().err
    assert "f.lmdb: lacks 2 of 3 images: 2, 3 (ids there look like '1'); extract them" in error
    assert not (files / "out.lmdb").exists()


def test_pictures_may_be_in_several_stores(files):
    stores = features(files / "f.lmdb", "1", "2"), features(files / "g.lmdb", "3")
    assert prepare(files, "--features", stores[0], "--features", stores[1]) == 0
    assert len(ExampleStore.open(files / "out.lmdb")) == 4


def test_examples_without_picture_can_be_left_out(files, capsys):
    store = features(files / "f.lmdb", "1")
    assert prepare(files, "--features", store, "--missing-images", "skip", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    found = ExampleStore.open(files / "out.lmdb")
    assert found.ids() == ["1#0", "1#1"]
    assert (summary["examples"], summary["left_out"], summary["missing_images"]) == (2, 2, 2)
    assert summary["mean_pieces"] == sum(len(e.tokens[0].ids) for e in found) / 2
    assert found.metadata.extra["images_left_out"] == 2


def test_features_of_none_of_the_pictures_are_a_mistake_even_when_skipping(files, capsys):
    store = features(files / "f.lmdb", "COCO_1")
    assert prepare(files, "--features", store, "--missing-images", "skip") == 3
    assert "lacks 3 of 3 images: 1, 2, 3" in capsys.readouterr().err


def test_pictures_shared_with_another_split_are_a_warning(files, capsys):
    assert prepare(files, out="train.lmdb") == 0
    (files / "captions.json").write_text(json.dumps({"3.jpg": ["A man ."], "9.jpg": ["A moon ."]}))
    assert prepare(files, "--disjoint-from", files / "train.lmdb", "--json") == 0
    captured = capsys.readouterr()
    assert f"warning: 1 of 2 images are in {files / 'train.lmdb'} too, first 3" in captured.err


def test_a_vocabulary_of_another_world_is_a_warning(files, capsys):
    write_vocabulary(files / "vocab.txt", [*SPECIAL_TOKENS, "a", "man", "."])
    assert prepare(files) == 0
    assert "% of the word pieces are [UNK]; is " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--tokenizer", "gone/vocab.txt"), 3, "gone/vocab.txt: there is no such file or folder"),
        (("--tokenizer", "no-such/model", "--offline"), 4, "the tokenizer 'no-such/model' is not on this machine"),
        (("--lower-case", "--no-such"), 2, "there is no option --no-such"),
        (("--no-lower-case",), 2, "knows no capital letter"),
        (("--images", "x.txt"), 2, "--images does nothing with --caption-lists; leave it out"),
        (("--karpathy", "x.json"), 2, "--karpathy and --caption-lists are given together"),
    ],
)
def test_wrong_flags_have_their_exit_codes(files, capsys, flags, code, message):
    assert prepare(files, *flags) == code
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (files / "out.lmdb").exists()


def test_an_unknown_task_names_the_closest(files, capsys):
    assert prepare(files, source=("--task", "caption", "--caption-lists")) == 2
    assert "did you mean captions?" in capsys.readouterr().err


def test_help_shows_the_options_of_the_task(capsys):
    assert main(["prepare", "--task", "refcoco", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--references" in shown
    assert "--visual-genome" not in shown


def test_real_questions_become_a_store(shared, tmp_path):
    data = shared / "data"
    folder = data / "vqa_v2"
    flags = ["--questions", folder / "vqa_questions_test.gzip", "--annotations", folder / "vqa_annotatons_test.gzip"]
    target = ["--tokenizer", data / "bert_vocab", "--out", tmp_path / "vqa.lmdb", "--quiet"]
    assert main(["prepare", "--task", "vqa", *map(str, flags), *map(str, target)]) == 0
    store = ExampleStore.open(tmp_path / "vqa.lmdb")
    assert len(store) == 2353
    assert {len(e.target.answers) for e in store} == {10}
    assert store.metadata.tokenizer.vocab_size == 30522
