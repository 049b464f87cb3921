"""NLVR2, SNLI-VE and VCR: one JSON object a line."""

from __future__ import annotations

from collections import Counter

import pytest

from vltk.datasets import nlvr2, snli_ve, vcr
from vltk.datasets._record import read_image_list
from vltk.errors import DataError

# -- NLVR2 ------------------------------------------------------------------------------------------------------------


def statement(identifier="dev-850-2-0", **changes):
    record = {"identifier": identifier, "sentence": "Two dogs.", "label": "True", "validation": {"61": "True"}}
    return record | {"extra_validations": {"7": "False"}} | changes


def test_nlvr2_has_two_pictures_a_group_and_votes(write):
    (example,) = nlvr2.read_examples(write([statement()], lines=True))
    assert example.image_ids == ("dev-850-2-img0", "dev-850-2-img1")
    assert (example.id, example.group) == ("dev-850-2-0", "dev-850-0")
    assert (example.target.label, example.target.votes) == ("True", ("True", "False"))


def test_nlvr2_takes_jsons_booleans_and_files_without_labels(write):
    (example,) = nlvr2.read_examples(write([statement(label=False)], lines=True))
    assert example.target.label == "False"
    hidden = {"identifier": "test2-1-0-0", "sentence": "Two dogs."}
    (example,) = nlvr2.read_examples(write([hidden], lines=True))
    assert example.target is None


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([statement("dev-850-0")], "line 1, identifier 'dev-850-0': has not the four parts split-set-pair-sentence"),
        ([statement(), statement()], "identifier dev-850-2-0 occurs twice"),
        ([statement(label="yes")], "has the label 'yes', expected True or False"),
        ([statement(), statement("dev-850-2-1", label=None)], "line 2, .*lacks 'label', which the records before it"),
        ([statement(validation=["True"])], "validation: is a list, expected an object"),
        ([statement(sentence=None)], "has null as 'sentence', expected a text"),
        (["x"], "line 1: is a text, expected an object"),
    ],
)
def test_broken_nlvr2_files_are_one_sentence(write, records, message):
    with pytest.raises(DataError, match=message):
        list(nlvr2.read_examples(write(records, lines=True)))


def test_the_published_nlvr2_development_set(data):
    found = list(nlvr2.read_examples(data / "nlvr2/dev.json"))
    assert len(found) == 6982
    assert Counter(e.target.label for e in found) == {"True": 3551, "False": 3431}
    assert len({e.texts for e in found}) == 2004
    assert len({e.image_ids for e in found}) == 4051
    assert len({e.group for e in found}) == 2018
    assert round(sum(len(e.texts[0].split()) for e in found) / len(found), 4) == 14.4185


def test_groups_and_sets_give_the_published_metrics(data):
    """Consistency and accuracy of two named predictions, which only right groups and set numbers reproduce."""
    found = list(nlvr2.read_examples(data / "nlvr2/dev.json"))
    by_rule = {e.id: "True" if int(e.id.split("-")[1]) % 4 == 0 else e.target.label for e in found}
    for predicted, accuracy, consistency in (
        (dict.fromkeys(by_rule, "True"), 0.5085935262, 0.0386521308),
        (by_rule, 0.8766828989, 0.7616451933),
    ):
        right = Counter(e.group for e in found if predicted[e.id] == e.target.label)
        whole = Counter(e.group for e in found)
        assert round(sum(right.values()) / len(found), 10) == accuracy
        assert round(sum(right[group] == count for group, count in whole.items()) / len(whole), 10) == consistency


def test_the_published_pairs_with_photographs(data):
    found = list(nlvr2.read_examples(data / "nlvr2/with_photos/tiny-dev.json"))
    assert [[e.id, e.target.label] for e in found] == [
        ["dev-850-0-0", "False"],
        ["dev-850-2-0", "True"],
        ["dev-850-3-0", "False"],
        ["dev-850-1-0", "True"],
        ["dev-850-1-1", "True"],
        ["dev-850-0-1", "False"],
        ["dev-850-3-1", "False"],
        ["dev-850-2-1", "True"],
    ]
    photographs = {path.stem for path in (data / "nlvr2/with_photos/images").glob("*.png")}
    assert {image for e in found for image in e.image_ids} == photographs


# -- SNLI-VE ----------------------------------------------------------------------------------------------------------


def snli_pair(number="7.jpg#0r1n", **changes):
    record = {"pairID": number, "Flickr30K_ID": "7", "sentence1": "A man sits.", "sentence2": "A man rests."}
    return record | {"gold_label": "neutral", "annotator_labels": ["neutral", "entailment"]} | changes


def test_snli_ve_takes_the_hypothesis_and_the_picture(write):
    first, second = snli_ve.read_examples(write([snli_pair(), snli_pair("b", Flickr30K_ID="8.jpg")], lines=True))
    assert (first.id, first.image_ids, first.texts) == ("7.jpg#0r1n", ("7",), ("A man rests.",))
    assert (first.target.label, first.target.votes) == ("neutral", ("neutral", "entailment"))
    assert second.image_ids == ("8",)


def test_snli_ve_with_premise_split_list_and_undecided_pairs(write):
    records = [snli_pair("a"), snli_pair("b", gold_label="-"), snli_pair("c", Flickr30K_ID="8")]
    path = write(records, lines=True)
    assert [e.id for e in snli_ve.read_examples(path)] == ["a", "c"]
    chosen = list(snli_ve.read_examples(path, images=write("8\n", "test.lst"), premise=True))
    assert [(e.id, e.texts) for e in chosen] == [("c", ("A man rests.", "A man sits."))]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([snli_pair(gold_label="maybe")], "line 1, pairID .*: has the label 'maybe', expected contradiction, entail"),
        ([snli_pair(), snli_pair()], "pairID 7.jpg#0r1n occurs twice"),
        ([snli_pair(annotator_labels="neutral")], "has a text as 'annotator_labels', expected a list"),
        ([{"pairID": "a", "sentence2": "A man."}], "lacks 'Flickr30K_ID'"),
        ([snli_pair("a"), snli_pair("b", gold_label=None)], "line 2, .*lacks 'gold_label', which the records"),
    ],
)
def test_broken_snli_ve_files_are_one_sentence(write, records, message):
    with pytest.raises(DataError, match=message):
        list(snli_ve.read_examples(write(records, lines=True)))


def test_the_published_snli_ve_pairs(data):
    found = list(snli_ve.read_examples(data / "snli_ve/sample_pairs.jsonl"))
    assert len(found) == 16
    assert Counter(e.target.label for e in found) == {"contradiction": 4, "neutral": 6, "entailment": 6}
    assert {e.image_ids[0] for e in found} == {"2248275918", "402978771"}
    photographs = {path.stem for path in (data / "snli_ve/images").glob("*.jpg")}
    assert len(photographs - {e.image_ids[0] for e in found}) == 2
    assert photographs >= {e.image_ids[0] for e in found}


def test_the_published_test_split_is_the_entities_test_split(data):
    ids = read_image_list(data / "snli_ve/flickr30k_test.lst")
    assert len(ids) == 1000
    assert set(read_image_list(data / "flickr30k_entities/splits/test.txt")) < set(ids)


# -- VCR --------------------------------------------------------------------------------------------------------------


def vcr_record(**changes):
    choices = [["[x]", "yes"], ["No", "."], [[1], "is", "."], ["It", "rains"]]
    return {
        "annot_id": "val-0",
        "img_fn": "lsmdc_1/1_00.01.46.736@0.jpg",
        "metadata_fn": "lsmdc_1/1_00.01.46.736@0.json",
        "objects": ["person", "person", "wine glass"],
        "question": ["Why", "is", [0, 1], "near", [2], "?"],
        "answer_choices": choices,
        "rationale_choices": choices,
        "answer_label": 2,
        "rationale_label": 3,
    } | changes


def metadata(**changes):
    boxes = [[0, 0, 10, 10, 0.9], [5, 5, 20, 20, 0.8], [1.5, 2, 30, 40.2, 0.7]]
    names = ["person", "person", "wine glass"]
    return {"boxes": boxes, "names": names, "width": 50, "height": 40, "segms": []} | changes


def test_vcr_writes_references_as_names(write):
    (example,) = vcr.read_examples(write([vcr_record()], lines=True))
    assert len(example.texts) == 9
    assert example.texts[0] == "Why is person and person near wine glass ?"
    assert example.texts[3] == example.texts[7] == "person is ."
    assert (example.id, example.image_ids) == ("val-0", ("1_00.01.46.736@0",))
    assert (example.target.answer, example.target.rationale) == (2, 3)
    assert example.target.objects == ("person", "person", "wine glass")
    spans = [(p.text, p.start, p.end, p.entity, p.kinds) for p in example.phrases]
    assert spans == [
        (0, 2, 3, "0", ("person",)),
        (0, 4, 5, "1", ("person",)),
        (0, 6, 8, "2", ("wine glass",)),
        (3, 0, 1, "1", ("person",)),
        (7, 0, 1, "1", ("person",)),
    ]
    assert {p.boxes for p in example.phrases} == {()}


def test_vcr_writes_references_as_numbers(write):
    (example,) = vcr.read_examples(write([vcr_record()], lines=True), references="numbers")
    assert example.texts[0] == "Why is [0,1] near [2] ?"
    assert [(p.start, p.end, p.entity) for p in example.phrases[:3]] == [(2, 3, "0"), (2, 3, "1"), (4, 5, "2")]


def test_vcr_links_references_to_boxes(write, tmp_path):
    write(metadata(), "vcr1images/lsmdc_1/1_00.01.46.736@0.json")
    records = write([vcr_record()], "val.jsonl", lines=True)
    (example,) = vcr.read_examples(records, pictures=tmp_path / "vcr1images")
    assert [p.boxes for p in example.phrases[:3]] == [((0, 0, 10, 10),), ((5, 5, 20, 20),), ((1.5, 2, 30, 40),)]
    frame = vcr.read_frame(tmp_path / "vcr1images/lsmdc_1/1_00.01.46.736@0.json")
    assert (frame.size, frame.scores) == ((50, 40), (0.9, 0.8, 0.7))


def test_vcr_test_records_have_no_target(write):
    hidden = {key: value for key, value in vcr_record().items() if not key.endswith("_label")}
    (example,) = vcr.read_examples(write([hidden], lines=True))
    assert example.target is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer_label": 4}, "annot_id 'val-0': has the labels 4 and 3, expected 0 to 3"),
        ({"answer_choices": [["a"]] * 3}, "has 3 items in 'answer_choices', expected 4"),
        ({"question": ["Why", [3]]}, r"refers to objects \[3\], it has 3 \(numbered from 0\)"),
        ({"question": ["Why", [-1]]}, r"refers to objects \[-1\]"),
        ({"question": ["Why", []]}, r"refers to objects \[\]"),
        ({"question": ["Why", [True]]}, r"refers to objects \[True\]"),
        ({"question": ["Why", 2]}, "has 2 in a text, expected a word or a list of object numbers"),
        ({"question": []}, "has an empty text"),
        ({"question": [" "]}, "has an empty text"),
        ({"answer_choices": [["a"], ["b"], ["c"], "d"]}, "has 'd' where a list of words is expected"),
        ({"objects": "person"}, "has a text as 'objects', expected a list"),
    ],
)
def test_broken_vcr_records_are_one_sentence(write, changes, message):
    with pytest.raises(DataError, match=message):
        list(vcr.read_examples(write([vcr_record(**changes)], lines=True)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ["person"] * 3}, r"has objects \['person', 'person', 'wine glass'\], its metadata has"),
        ({"boxes": [[0, 0, 1, 1, 0.5]]}, "has 1 boxes for 3 names"),
        ({"boxes": [[0, 0, 1, 1]] * 3}, r"has \[0, 0, 1, 1\] as box 0, expected x1, y1, x2, y2, score"),
        ({"boxes": [[0, 0, 1, "1", 0.5]] * 3}, r"boxes\[0\]: has 'box' .* expected four numbers"),
        ({"boxes": [[0, 0, 60, 1, 0.5]] * 3}, "outside the picture of 50 x 40"),
        ({"width": 0}, "has the size 0 x 40"),
    ],
)
def test_broken_vcr_metadata_is_one_sentence(write, tmp_path, changes, message):
    write(metadata(**changes), "vcr1images/lsmdc_1/1_00.01.46.736@0.json")
    with pytest.raises(DataError, match=message):
        list(vcr.read_examples(write([vcr_record()], lines=True), pictures=tmp_path / "vcr1images"))
