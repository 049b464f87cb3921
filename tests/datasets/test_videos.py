"""Sentences of videos: HGR's ref_captions.json and MSR-VTT's own file."""

from __future__ import annotations

import numpy as np
import pytest

from vltk.datasets import hgr, msrvtt
from vltk.errors import DataError

CAPTIONS = {"video1": ["a dog runs", "a dog runs"], "clips/2.gif": ["a cat sits"], "video3": []}


def test_hgr_goes_through_the_videos_of_a_split_and_keeps_repeated_sentences(write, tmp_path):
    np.save(tmp_path / "trn_names.npy", np.array(["clips/2.gif", "video1"]))
    found = list(hgr.read_examples(write(CAPTIONS), names=tmp_path / "trn_names.npy"))
    assert [(e.id, e.image_ids[0], e.texts[0]) for e in found] == [
        ("clips/2.gif#0", "clips/2.gif", "a cat sits"),
        ("video1#0", "video1", "a dog runs"),
        ("video1#1", "video1", "a dog runs"),
    ]


@pytest.mark.parametrize("name", ["video3", "video9"])
def test_a_video_without_sentences_is_named(name, write):
    with pytest.raises(DataError, match=f"has no sentence of video {name}"):
        list(hgr.read_examples(write(CAPTIONS), names=write(f"{name}\n", "names.txt")))


def video_data():
    videos = [{"video_id": f"video{n}", "split": split} for n, split in enumerate(["train", "validate", "train"])]
    sentences = [{"sen_id": 10 + n, "video_id": f"video{n % 3}", "caption": f"sentence {n}"} for n in range(6)]
    return {"info": {}, "videos": videos, "sentences": sentences}


def test_msrvtts_own_file_is_cut_by_its_splits(write):
    path = write(video_data())
    train = [(e.id, e.image_ids[0]) for e in msrvtt.read_video_data(path, split="train")]
    assert train == [("10", "video0"), ("12", "video2"), ("13", "video0"), ("15", "video2")]
    assert [e.texts[0] for e in msrvtt.read_video_data(path, split="validate")] == ["sentence 1", "sentence 4"]
    with pytest.raises(DataError, match="has no video of split 'test'; it has train, validate"):
        list(msrvtt.read_video_data(path, split="test"))


def test_a_sentence_that_comes_twice_is_refused(write):
    content = video_data()
    content["sentences"][3]["sen_id"] = 10
    with pytest.raises(DataError, match="sen_id 10 occurs twice"):
        list(msrvtt.read_video_data(write(content), split="train"))
