from __future__ import annotations

import gzip
import json
import math

import pytest

from vltk.datasets._box import clip_box, corners
from vltk.datasets._image_id import filled
from vltk.datasets._record import (
    Record,
    clean_text,
    read_image_list,
    read_json,
    read_json_lines,
    read_lines,
    read_table,
    stem,
)
from vltk.errors import DataError, UsageError


def test_json_is_read_gzipped_or_plain_and_told_by_content_not_by_name(tmp_path):
    plain, zipped = tmp_path / "a.gzip", tmp_path / "b.json"
    plain.write_text('{"a": "ü"}', encoding="utf-8")
    zipped.write_bytes(gzip.compress('{"a": "ü"}'.encode()))
    assert read_json(plain) == read_json(zipped) == {"a": "ü"}


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path) == [1]


def test_json_lines_pass_over_empty_lines_and_name_their_line(write):
    path = write('{"a": 1}\n\n{"a": 2}\n', "a.jsonl")
    records = list(read_json_lines(path))
    assert [record.integer("a") for record in records] == [1, 2]
    assert records[1].where == f"{path}, line 3"


def test_lines_end_at_a_line_feed_only(write):
    path = write("", "a.tsv")
    content = "a\rb\u2028c\nd\x0be\r\n".encode()
    for written in (content, gzip.compress(content)):
        path.write_bytes(written)
        assert list(read_lines(path)) == [(1, "a\rb\u2028c"), (2, "d\x0be")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"a\.json: there is no such file; check the path"),
        (b"", r"a\.json, line 1, column 1: is not JSON"),
        (b'{"a": 1,\n "b": }', r"a\.json, line 2, column 7: is not JSON \(Expecting value\); download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"is a Git LFS pointer, not the data; fetch"),
        (b"\xff\xfe{", r"is not UTF-8 text \(byte 0\); convert it"),
        (gzip.compress(b"[" * 5000, mtime=0)[:-20], r"cannot be read to its end"),
        (gzip.compress(b"[1, 2, 3]", mtime=0)[:-4] + b"\0\0\0\0", r"cannot be read to its end"),
        (gzip.compress(b"[1, 2, 3]", mtime=0)[:10] + b"\xff" * 20, r"cannot be read to its end"),
        (b"[" * 100_000, r"holds a number or a nesting that no annotation file has"),
        (b"[" + b"9" * 10_000 + b"]", r"holds a number or a nesting that no annotation file has"),
    ],
)
def test_an_unreadable_file_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as caught:
        read_json(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_folder_in_the_place_of_a_file_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"cannot be opened \(Is a directory\)"):
        read_json(tmp_path)


def test_json_over_many_lines_is_no_json_lines(write):
    path = write(json.dumps({"a": 1}, indent=1))
    with pytest.raises(DataError, match=r"line 1: is not JSON; this is one JSON document over many lines"):
        list(read_json_lines(path))


def test_a_json_line_that_is_a_list_is_refused_with_its_number(write):
    path = write('{"a": 1}\n[2]\n')
    with pytest.raises(DataError, match=r"line 2: is a list, expected an object"):
        list(read_json_lines(path))


def test_a_table_names_the_line_also_behind_a_row_of_two_lines(write):
    path = write('a,b\n"x\ny",1\n2\n', "a.csv")
    rows = read_table(path, separator=",", header="a,b")
    assert next(rows).values == {"a": "x\ny", "b": "1"}
    with pytest.raises(DataError, match=r"line 4: has 1 columns, the header has 2"):
        next(rows)


def test_a_quote_that_never_closes_is_one_sentence(write):
    path = write('a,b\n1,"x\n2,y\n', "a.csv")
    with pytest.raises(DataError, match=r"is no row \(unexpected end of data\); close its quotes"):
        list(read_table(path, separator=",", header="a,b"))


def test_an_image_list_takes_names_and_ids_and_refuses_doubles(write):
    assert read_image_list(write("b_1.jpg\n\n22\n", "list.txt")) == ("b_1", "22")
    with pytest.raises(DataError, match=r"line 2: names image 22\.jpg twice, first in line 1"):
        read_image_list(write("22\n22.jpg\n", "list.txt"))
    with pytest.raises(DataError, match="lists no image"):
        read_image_list(write("\n", "list.txt"))


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("val2014/COCO_val2014_000000391895.jpg", "COCO_val2014_000000391895"),
        ("1007129816.jpg", "1007129816"),
        ("1007129816", "1007129816"),
        ("movie.v2/01.46.736-00.50@0.JPEG", "01.46.736-00.50@0"),
        (r"C:\images\a.png", "a"),
    ],
)
def test_the_stem_of_a_file_name_is_the_image_id(name, image_id):
    assert stem(name) == image_id


@pytest.mark.parametrize("text", ["b'a man sits .'", 'b"a man\'s hat"', "  b'a man'\n"])
def test_text_printed_from_bytes_is_refused(text):
    with pytest.raises(DataError, match=r"x: has a text that looks like b.*written by str\(\) from undecoded bytes"):
        clean_text(text, "x")


@pytest.mark.parametrize("text", ["b'day party", "b", "'b'", "about b'nai b'rith"])
def test_text_that_only_begins_so_is_kept(text):
    assert clean_text(f" {text}\n", "x") == text


def test_empty_text_and_half_characters_are_refused():
    with pytest.raises(DataError, match="x: has an empty text"):
        clean_text(" \t", "x")
    with pytest.raises(DataError, match="x: has half a character"):
        clean_text("a \ud83d", "x")


def test_a_missing_key_names_the_closest_one():
    record = Record.of({"image": 1, "caption": "x"}, "f.json, id 7")
    with pytest.raises(DataError, match=r"f\.json, id 7: lacks 'captions'; did you mean caption\?"):
        record.text("captions")


@pytest.mark.parametrize(
    ("take", "value", "sentence"),
    [
        ("text", 3, "has a number as 'k', expected a text"),
        ("integer", True, "has a boolean as 'k', expected an integer"),
        ("integer", "3", "has a text as 'k', expected an integer"),
        ("identifier", [1], r"has a list as 'k', expected an id"),
        ("identifier", "", r"has a text as 'k', expected an id"),
        ("identifier", True, r"has a boolean as 'k', expected an id"),
        ("number", math.nan, "has nan as 'k', expected a number"),
        ("number", "1", "has '1' as 'k', expected a number"),
        ("flag", 1, "has a number as 'k', expected true or false"),
        ("texts", ["a", 1], "has 'k' with items that are not texts"),
        ("items", {"a": 1}, "has an object as 'k', expected a list"),
        ("record", None, "k: is null, expected an object"),
        ("box", [1, 2, 3], "has 3 items in 'k', expected 4"),
        ("box", [1, 2, 3, math.inf], r"has 'k' .* expected four numbers"),
        ("box", [1, 2, 3, "4"], r"has 'k' .* expected four numbers"),
    ],
)
def test_a_value_of_another_type_is_named(take, value, sentence):
    with pytest.raises(DataError, match=sentence):
        getattr(Record.of({"k": value}, "f.json"), take)("k")


def test_a_box_is_cut_by_a_rounding_and_refused_beyond():
    assert clip_box((-1.0, 0.0, 640.4, 481.0), (640, 480), "x") == (0.0, 0.0, 640.0, 480.0)
    assert clip_box((1.0, 2.0, 9000.0, 8000.0), None, "x") == (1.0, 2.0, 9000.0, 8000.0)
    with pytest.raises(DataError, match=r"x: has box \[0.0, 0.0, 700.0, 10.0\].* outside the picture of 640 x 480"):
        clip_box((0.0, 0.0, 700.0, 10.0), (640, 480), "x")
    with pytest.raises(DataError, match="outside the picture; check"):
        clip_box((-9.0, 0.0, 70.0, 10.0), None, "x")
    with pytest.raises(DataError, match="x2 < x1 or y2 < y1"):
        clip_box(corners((5.0, 5.0, -2.0, 1.0)), (640, 480), "x")
    with pytest.raises(DataError, match="not finite"):
        clip_box((math.nan, 0.0, 1.0, 1.0), None, "x")


@pytest.mark.parametrize("pattern", ["{id}", "{image_id:s}", "{0}", "{image_id", "{image_id.x}", "{image_id[0]}"])
def test_an_image_id_pattern_that_cannot_be_filled_is_a_usage_error(pattern):
    with pytest.raises(UsageError, match=r"cannot be filled .* it may use \{image_id\}"):
        filled(pattern, image_id=3)


def test_an_image_id_pattern_without_a_value_is_a_usage_error():
    with pytest.raises(UsageError, match=r"'photo' gives every picture one id"):
        filled("photo", image_id=3)
