from __future__ import annotations

from collections import Counter

import pytest

from vltk.datasets import karpathy
from vltk.errors import DataError


def sentence(number, raw="A man .", tokens=("a", "man")):
    return {"raw": raw, "tokens": list(tokens), "sentid": number, "imgid": 0}


def image(name, split, *sentences):
    return {"filename": name, "split": split, "sentences": list(sentences), "imgid": 0, "sentids": []}


@pytest.fixture
def file(write):
    images = [
        image("COCO_train2014_01.jpg", "train", sentence(0), sentence(1, " A dog \n")),
        image("COCO_val2014_02.jpg", "restval", sentence(2)),
        image("COCO_val2014_03.jpg", "test", sentence(3), sentence(4)),
    ]
    return write({"images": images, "dataset": "coco"}, "dataset_coco.json")


def test_captions_keep_order_ids_and_file_stems(file):
    found = list(karpathy.read_examples(file, split="train", restval=False))
    assert [(e.id, e.image_ids, e.texts) for e in found] == [
        ("0", ("COCO_train2014_01",), ("A man .",)),
        ("1", ("COCO_train2014_01",), ("A dog",)),
    ]


def test_restval_counts_as_train_unless_refused(file):
    assert [e.id for e in karpathy.read_examples(file, split="train")] == ["0", "1", "2"]
    assert [e.id for e in karpathy.read_examples(file, split="test")] == ["3", "4"]


def test_tokens_are_the_files_own(file):
    assert {e.texts for e in karpathy.read_examples(file, split="test", tokens=True)} == {("a man",)}


def test_an_unknown_split_names_those_that_are_there(file):
    sentence = r"no image of split 'val'; it has restval \(1 images\), test \(1 images\), train \(1 images\)"
    with pytest.raises(DataError, match=sentence):
        list(karpathy.read_examples(file, split="val"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([image("a.jpg", "test", sentence(1), sentence(1))], "sentence id 1 occurs twice"),
        (
            [image("a.jpg", "test", sentence(1, "b'A man'"))],
            r"images\[0\], filename 'a.jpg', sentences\[0\]: has a text",
        ),
        ([image("a.jpg", "test", {"tokens": ["a"], "sentid": 1})], "lacks 'raw'"),
        ([["a.jpg"]], r"images\[0\]: is a list, expected an object"),
        ([{"filename": "a.jpg", "sentences": []}], "lacks 'split'"),
    ],
)
def test_broken_files_are_one_sentence(write, images, message):
    with pytest.raises(DataError, match=message):
        list(karpathy.read_examples(write({"images": images}), split="test"))


def test_a_list_where_the_object_is_expected_is_named(write):
    with pytest.raises(DataError, match="is a list, expected an object with named values"):
        list(karpathy.read_examples(write([]), split="test"))


def test_caption_lists_number_captions_and_drop_the_pictures_own_path(write):
    path = write({"7.jpg": ["One .", "Two .", "images/7.jpg"], "8.jpg": ["Three ."]})
    found = [(e.id, e.image_ids[0], e.texts[0]) for e in karpathy.read_caption_lists(path)]
    assert found == [("7#0", "7", "One ."), ("7#1", "7", "Two ."), ("8#0", "8", "Three .")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"7.jpg": "One"}, "has a text as '7.jpg', expected a list"),
        ({"7.jpg": ["x/7.jpg"]}, "has no caption for 7.jpg"),
        ({"7.jpg": ["One", 2]}, r"7.jpg\[1\]: is 2, expected a caption"),
        ({"7.jpg": ["One", ""]}, r"7.jpg\[1\]: has an empty text"),
    ],
)
def test_broken_caption_lists_are_one_sentence(write, content, message):
    with pytest.raises(DataError, match=message):
        list(karpathy.read_caption_lists(write(content)))


def test_an_image_index_must_run_from_zero(write):
    assert karpathy.read_image_index(write({"1": "b.jpg", "0": "a.jpg"})) == ("a", "b")
    with pytest.raises(DataError, match="does not number its 2 images from 0"):
        karpathy.read_image_index(write({"0": "a.jpg", "2": "b.jpg"}))


def mean_words(examples):
    return sum(len(e.texts[0].split()) for e in examples) / len(examples)


def test_the_published_karpathy_test_captions(data):
    lists = list(karpathy.read_caption_lists(data / "flickr30k_captions/karpathy_test/flickr30k_test_data.json"))
    assert (len({e.image_ids for e in lists}), len(lists)) == (798, 3990)
    assert round(mean_words(lists), 4) == 13.5276
    assert set(Counter(e.image_ids for e in lists).values()) == {5}
    photographs = (data / "flickr30k_captions/karpathy_test/flickr30k-images").glob("*.jpg")
    assert len({path.stem for path in photographs} & {e.image_ids[0] for e in lists}) == 22


def test_the_same_images_in_karpathys_layout(data):
    path = data / "flickr30k_captions/karpathy_format_derived/dataset_flickr30k.json"
    raw = list(karpathy.read_examples(path, split="test"))
    tokens = list(karpathy.read_examples(path, split="test", tokens=True))
    lists = list(karpathy.read_caption_lists(data / "flickr30k_captions/karpathy_test/flickr30k_test_data.json"))
    assert len(raw) == len(tokens) == 3990
    assert round(mean_words(tokens), 4) == 12.4306
    assert [e.image_ids for e in raw] == [e.image_ids for e in lists]
    # sentid = 5 * imgid + k, and imgid is the image's number in the index.
    index = karpathy.read_image_index(data / "flickr30k_captions/id_mapping.json")
    assert all(index[int(e.id) // 5] == e.image_ids[0] for e in raw)
    assert sum(a.texts == b.texts for a, b in zip(raw, lists, strict=True)) >= 6


def test_the_image_index_of_flickr30k(data):
    index = karpathy.read_image_index(data / "flickr30k_captions/id_mapping.json")
    assert (len(index), index[0], len(set(index))) == (31014, "1000092795", 31014)


def test_the_entities_validation_captions(data):
    found = list(karpathy.read_caption_lists(data / "flickr30k_captions/entities_val/validation.json"))
    assert (len({e.image_ids for e in found}), len(found)) == (813, 813 * 5)


def test_the_two_test_splits_share_the_named_images(data):
    readme = (data / "flickr30k_entities/README.md").read_text(encoding="utf-8")
    named = readme.partition("ids in both and in this folder's neighbours: ")[2].partition(".")[0].split()
    karpathys = karpathy.read_caption_lists(data / "flickr30k_captions/karpathy_test/flickr30k_test_data.json")
    entities = karpathy.read_caption_lists(data / "flickr30k_entities/captions/test.json")
    assert {e.image_ids[0] for e in karpathys} & {e.image_ids[0] for e in entities} == set(named)
