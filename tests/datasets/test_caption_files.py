"""Flickr8k, Conceptual Captions, MSR-VTT: captions in tables."""

from __future__ import annotations

import pytest

from vltk.datasets import conceptual_captions, flickr8k, msrvtt
from vltk.errors import DataError, UsageError


def mean_words(examples):
    return sum(len(e.texts[0].split()) for e in examples) / len(examples)


# -- Flickr8k ---------------------------------------------------------------------------------------------------------


def test_flickr8k_captions_may_hold_commas_and_quotes(write):
    path = write('image,caption\n1_a.jpg,A man .\n1_a.jpg,"A "" sign "" , red ."\n2_b.jpg,A dog .\n', "captions.txt")
    found = [(e.id, e.image_ids[0], e.texts[0]) for e in flickr8k.read_examples(path)]
    assert found == [("1_a#0", "1_a", "A man ."), ("1_a#1", "1_a", 'A " sign " , red .'), ("2_b#0", "2_b", "A dog .")]


def test_flickr8ks_token_file_gives_the_same_examples(write):
    table = write('image,caption\n1_a.jpg,A man .\n1_a.jpg,"One , two ."\n', "captions.txt")
    tokens = write("1_a.jpg#0\tA man .\n1_a.jpg#1\tOne , two .\n", "Flickr8k.token.txt")
    assert list(flickr8k.read_examples(table)) == list(flickr8k.read_examples(tokens))


def test_flickr8k_split_lists_choose_and_must_be_covered(write):
    path = write("image,caption\n1_a.jpg,A man .\n2_b.jpg,A dog .\n", "captions.txt")
    assert [e.id for e in flickr8k.read_examples(path, images=write("2_b.jpg\n", "split.txt"))] == ["2_b#0"]
    with pytest.raises(
        DataError, match=r"split\.txt: 1 images of captions\.txt's split have no caption there, first 3_c"
    ):
        list(flickr8k.read_examples(path, images=write("2_b.jpg\n3_c.jpg\n", "split.txt")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption\n1_a.jpg,A man, red\n", r"line 2: has 3 columns, the header has 2; put a text that holds ','"),
        ("image,caption\n1_a.jpg,\n", "line 2, caption: has an empty text"),
        ("name;text\n1_a.jpg;A man\n", "begins with 'name;text'; expected the header 'image,caption'"),
        ("", "begins with ''"),
        ("1_a.jpg#0\tA man .\n1_a.jpg#0\tA dog .\n", "caption 1_a#0 occurs twice"),
        ("1_a.jpg#0\tA man .\nA dog .\n", "line 2: is 'A dog .', expected"),
        ("1_a.jpg#0\tb'A man .'\n", "line 1: has a text that looks like b'A man"),
    ],
)
def test_broken_flickr8k_files_are_one_sentence(write, text, message):
    with pytest.raises(DataError, match=message):
        list(flickr8k.read_examples(write(text, "captions.txt")))


def test_the_published_flickr8k_test_captions(data):
    captions, split = data / "flickr8k/captions.txt", data / "flickr8k/Flickr_8k.testImages.txt"
    found = list(flickr8k.read_examples(captions, images=split))
    assert (len({e.image_ids for e in found}), len(found)) == (802, 4010)
    assert round(mean_words(found), 3) == 11.912
    assert found == list(flickr8k.read_examples(captions))


# -- Conceptual Captions ----------------------------------------------------------------------------------------------


def test_conceptual_captions_take_the_row_number_as_image_id(write):
    path = write("a man .\thttp://x/1.jpg\n\nhttps://x/2.jpg\ta dog\n", "cc.tsv")
    assert [(r.row, r.caption, r.url) for r in conceptual_captions.read_captions(path)] == [
        (0, "a man .", "http://x/1.jpg"),
        (1, "a dog", "https://x/2.jpg"),
    ]
    assert [e.image_ids for e in conceptual_captions.read_examples(path)] == [("000000000",), ("000000001",)]
    named = conceptual_captions.read_examples(path, image_id="gcc_{row}")
    assert [e.image_ids for e in named] == [("gcc_0",), ("gcc_1",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a man .\n", "line 1: has 1 columns, expected caption and url"),
        ("a man .\tno address\n", "line 1: has no address"),
        ("\thttp://x/1.jpg\n", "line 1: has an empty text"),
    ],
)
def test_broken_conceptual_captions_are_one_sentence(write, text, message):
    with pytest.raises(DataError, match=message):
        list(conceptual_captions.read_examples(write(text, "cc.tsv")))


def test_a_pattern_without_the_row_is_refused(write):
    with pytest.raises(UsageError, match=r"cannot be filled \('image'\); it may use \{row\}"):
        list(conceptual_captions.read_examples(write("a\thttp://x\n"), image_id="{image}"))


def test_the_published_conceptual_captions_rows(data):
    rows = list(conceptual_captions.read_captions(data / "conceptual_captions/Validation_GCC-1.1.0-Validation.tsv"))
    assert (len(rows), len({row.url for row in rows})) == (4000, 4000)
    assert round(sum(len(row.caption.split()) for row in rows) / len(rows), 3) == 10.261


# -- MSR-VTT ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", ","])
def test_msrvtt_is_read_with_both_separators(write, separator):
    lines = ["key;vid_key;video_id;sentence", "ret0;msr1;video9;a man runs", "ret1;msr2;video8;a dog"]
    path = write("\n".join(lines).replace(";", separator) + "\n", "test.csv")
    found = [(e.id, e.image_ids[0], e.texts[0]) for e in msrvtt.read_examples(path)]
    assert found == [("ret0", "video9", "a man runs"), ("ret1", "video8", "a dog")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,sentence\nret0,a man\n", "has no column vid_key, video_id in 'key,sentence'"),
        ("key,vid_key,video_id,sentence\nret0,m,v,a man, red\n", "line 2: has 5 columns, the header has 4"),
        ("key,vid_key,video_id,sentence\nret0,m,v,a man\nret0,m,w,a dog\n", "key ret0 occurs twice"),
        ("key,vid_key,video_id,sentence\nret0,m,,a man\n", "has a text as 'video_id', expected an id"),
        ("", "has no column key, vid_key, video_id, sentence"),
    ],
)
def test_broken_msrvtt_files_are_one_sentence(write, text, message):
    with pytest.raises(DataError, match=message):
        list(msrvtt.read_examples(write(text, "test.csv")))


def test_the_published_msrvtt_list(data):
    found = list(msrvtt.read_examples(data / "msrvtt/MSRVTT_JSFUSION_test.csv"))
    assert len(found) == len({e.image_ids for e in found}) == 803
    assert all(int(e.image_ids[0].removeprefix("video")) % 5 for e in found)
