"""VQA v2, Visual Genome's questions, GQA and the answer vocabularies."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

from vltk.datasets import answers, gqa, visual_genome, vqa
from vltk.errors import DataError, UsageError


def question(number=1, **changes):
    return {"question_id": number, "image_id": 42, "question": "What is it?"} | changes


def annotation(number=1, count=10, **changes):
    given = [{"answer": "a cat", "answer_id": i + 1, "answer_confidence": "yes"} for i in range(count)]
    return {"question_id": number, "image_id": 42, "answers": given, "answer_type": "other"} | changes


@pytest.fixture
def pair(write):
    def build(questions, annotations, **header):
        return (
            write({"questions": questions} | header, "questions.json"),
            write({"annotations": annotations} | header, "annotations.json"),
        )

    return build


# -- VQA --------------------------------------------------------------------------------------------------------------


def test_vqa_joins_questions_and_ten_answers(pair):
    questions, annotations = pair([question(2), question(1)], [annotation(1), annotation(2, question_type="what is")])
    first, second = vqa.read_examples(questions, annotations=annotations)
    assert (first.id, second.id, first.texts) == ("2", "1", ("What is it?",))
    assert first.target.answers == ("a cat",) * 10
    assert (first.target.question_type, second.target.question_type, first.target.answer_type) == (
        "what is",
        "",
        "other",
    )


@pytest.mark.parametrize(
    ("header", "pattern", "image_id"),
    [
        ({}, None, "000000000042"),
        ({"data_subtype": "val2014"}, None, "COCO_val2014_000000000042"),
        ({"data_subtype": "test2015"}, None, "COCO_test2015_000000000042"),
        ({"data_subtype": "test-dev2015"}, None, "COCO_test2015_000000000042"),
        ({}, "COCO_train2014_{image_id:012d}", "COCO_train2014_000000000042"),
        ({"data_subtype": "val2014"}, "{subset}/{image_id}", "val2014/42"),
    ],
)
def test_vqa_names_pictures_as_coco_does(pair, header, pattern, image_id):
    questions, _ = pair([question()], [], **header)
    (example,) = vqa.read_examples(questions, image_id=pattern)
    assert (example.image_ids, example.target) == ((image_id,), None)


def test_a_pattern_with_the_subset_needs_a_header(pair):
    questions, _ = pair([question()], [])
    with pytest.raises(UsageError, match=r"cannot be filled \('subset'\); it may use \{image_id\}"):
        list(vqa.read_examples(questions, image_id="COCO_{subset}_{image_id}"))


def test_vqa_is_read_gzipped(pair, tmp_path):
    questions, annotations = pair([question()], [annotation()])
    for path in (questions, annotations):
        path.with_suffix(".gzip").write_bytes(gzip.compress(path.read_bytes()))
    zipped = vqa.read_examples(questions.with_suffix(".gzip"), annotations=annotations.with_suffix(".gzip"))
    assert list(zipped) == list(vqa.read_examples(questions, annotations=annotations))


def test_nine_answers_are_refused_unless_allowed(pair):
    questions, annotations = pair([question()], [annotation(count=9)])
    with pytest.raises(DataError, match=r"question_id 1: has 9 answers, expected 10; .*--no-ten-answers"):
        list(vqa.read_examples(questions, annotations=annotations))
    (example,) = vqa.read_examples(questions, annotations=annotations, ten_answers=False)
    assert len(example.target.answers) == 9


@pytest.mark.parametrize(
    ("questions", "annotations", "message"),
    [
        ([question(), question()], [annotation()], "question_id 1 occurs twice"),
        ([question()], [annotation(), annotation()], "question_id 1 occurs twice"),
        ([question(2)], [annotation()], r"question_id 2: has no answers in .*annotations\.json"),
        ([question()], [annotation(), annotation(7)], "1 of its 2 annotations have no question in .*, first 7"),
        ([{"question_id": 1, "question": "What?"}], [annotation()], "question_id 1: lacks 'image_id'"),
        ([question(image_id="42")], [annotation()], "has a text as 'image_id', expected an integer"),
        ([question(question=" ")], [annotation()], "question: has an empty text"),
        ([question()], [annotation(answers=["cat"] * 10)], r"answers\[0\]: is a text, expected an object"),
        ([question()], [annotation(answers=[])], "has 0 answers, expected 10"),
    ],
)
def test_broken_vqa_files_are_one_sentence(pair, questions, annotations, message):
    questions, annotations = pair(questions, annotations)
    with pytest.raises(DataError, match=message):
        list(vqa.read_examples(questions, annotations=annotations))


def test_swapped_vqa_files_are_named(pair):
    questions, annotations = pair([question()], [annotation()])
    with pytest.raises(DataError, match=r"questions\.json: lacks 'annotations'; known are questions"):
        list(vqa.read_examples(annotations, annotations=questions))


def test_vqa_results_are_one_answer_a_question(write):
    assert vqa.read_results(write([{"question_id": 3, "answer": "yes"}])) == {"3": "yes"}
    with pytest.raises(DataError, match="question_id 3 occurs twice"):
        vqa.read_results(write([{"question_id": 3, "answer": "yes"}] * 2))


VALID = ("vqa_questions_valid.gzip", "vqa_annotatons_valid.gzip")
TEST = ("vqa_questions_test.gzip", "vqa_annotatons_test.gzip")
PHOTOS = ("with_photos/questions.json", "with_photos/annotations.json")
PUBLISHED = [
    (
        VALID,
        (7158, 6603, 65, 6.2516),
        {"other": 2448, "yes/no": 2356, "number": 2354},
        [("no", 1185), ("yes", 1178), ("2", 537), ("1", 490), ("3", 291)],
    ),
    (
        TEST,
        (2353, 2283, 65, 6.1713),
        {"yes/no": 811, "other": 772, "number": 770},
        [("yes", 426), ("no", 387), ("1", 171), ("2", 169), ("3", 89)],
    ),
    (
        PHOTOS,
        (55, 29, 25, 6.2909),
        {"yes/no": 16, "other": 13, "number": 26},
        [("no", 9), ("1", 9), ("yes", 7), ("4", 5), ("3", 4)],
    ),
]


@pytest.mark.parametrize(("files", "counts", "types", "top"), PUBLISHED, ids=["valid", "test", "with_photos"])
def test_the_published_questions(data, files, counts, types, top):
    questions, annotations = (data / "vqa_v2" / name for name in files)
    found = list(vqa.read_examples(questions, annotations=annotations))
    mean = round(sum(len(e.texts[0].split()) for e in found) / len(found), 4)
    assert (len(found), len({e.image_ids for e in found}), len({e.target.question_type for e in found}), mean) == counts
    assert Counter(e.target.answer_type for e in found) == types
    assert {len(e.target.answers) for e in found} == {10}
    listed = set(vqa.read_question_types(data / "vqa_v2/QuestionTypes/mscoco_question_types.txt"))
    assert {e.target.question_type for e in found} <= listed | {"none of the above"}
    # The README counts `multiple_choice_answer`, which is a most frequent one of the ten.
    chosen = {
        str(item["question_id"]): item["multiple_choice_answer"]
        for item in json.loads(
            gzip.decompress(annotations.read_bytes()) if annotations.suffix == ".gzip" else annotations.read_bytes()
        )["annotations"]
    }
    counted = Counter(chosen[e.id] for e in found)
    assert [counted[answer] for answer, _ in top] == [count for _, count in top]
    assert [count for _, count in counted.most_common(5)] == [count for _, count in top]
    for example in found:
        votes = Counter(example.target.answers)
        assert votes[chosen[example.id]] == max(votes.values())


def test_questions_with_photographs_name_them(data):
    found = list(vqa.read_examples(data / "vqa_v2/with_photos/questions.json"))
    photographs = {path.stem for path in (data / "coco/train2017").glob("*.jpg")}
    assert {e.image_ids[0] for e in found} <= photographs


def test_questions_with_region_features_name_them(data):
    folder = data / "vqa_v2/with_butd_features"
    pattern = "COCO_train2014_{image_id:012d}"
    found = list(
        vqa.read_examples(folder / "questions.json", annotations=folder / "annotations.json", image_id=pattern)
    )
    rows = (data / "butd_coco/train2014_obj36.tsv").read_text(encoding="ascii").splitlines()
    assert (len(found), len({e.image_ids for e in found})) == (6, 5)
    assert {e.image_ids[0] for e in found} <= {row.partition("\t")[0] for row in rows}


def test_the_official_header_names_the_photographs(data):
    folder = data / "vqa_v2/official_header_sample"
    found = list(vqa.read_examples(folder / "questions.json", annotations=folder / "annotations.json"))
    assert len(found) == 3
    assert {e.image_ids[0] for e in found} <= {path.stem for path in (folder / "images").glob("*.jpg")}


@pytest.mark.parametrize("name", ["all_yes", "most_frequent_answer", "annotator_1", "surface_variants"])
@pytest.mark.parametrize(("split", "files"), [("valid", VALID), ("with_photos", PHOTOS)])
def test_the_published_results_answer_all_questions(data, split, files, name):
    results = vqa.read_results(data / f"vqa_v2/results/{split}_{name}_results.json")
    assert results.keys() == {e.id for e in vqa.read_examples(data / "vqa_v2" / files[0])}


# -- Visual Genome ----------------------------------------------------------------------------------------------------


def test_visual_genome_has_one_answer_a_question(write):
    qas = [{"qa_id": 5, "image_id": 4, "question": "What?", "answer": "Sailboats.", "a_objects": []}]
    (example,) = visual_genome.read_examples(write([{"id": 4, "qas": qas}]))
    assert (example.id, example.image_ids, example.target.answers) == ("vg-5", ("4",), ("Sailboats.",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"qas": []}, "has an object as 'images', expected a list"),
        ([{"id": 4}], r"images\[0\], id 4: lacks 'qas'"),
        ([{"id": 4, "qas": [{"qa_id": 5, "question": "What?", "answer": "A"}]}], r"qas\[0\]: lacks 'image_id'"),
        (
            [{"id": 4, "qas": [{"qa_id": 5, "image_id": 4, "question": "What?", "answer": "A"}] * 2}],
            "vg-5 occurs twice",
        ),
    ],
)
def test_broken_visual_genome_files_are_one_sentence(write, content, message):
    with pytest.raises(DataError, match=message):
        list(visual_genome.read_examples(write(content)))


def test_the_published_visual_genome_questions(data):
    found = list(visual_genome.read_examples(data / "visual_genome_qa/question_answers.json"))
    assert Counter(e.image_ids[0] for e in found) == {"4": 5, "5": 3}


# -- GQA --------------------------------------------------------------------------------------------------------------


def gqa_question(**changes):
    types = {"structural": "query", "semantic": "rel", "detailed": "relS"}
    record = {"question": "What?", "imageId": "n5", "answer": "a cat", "isBalanced": True, "types": types}
    return record | changes


def test_gqa_reads_a_file_and_a_folder(write, tmp_path):
    write({"1": gqa_question()}, "all/questions0.json")
    write({"2": gqa_question(isBalanced=False, imageId=77)}, "all/questions1.json")
    first, second = gqa.read_examples(tmp_path / "all")
    assert (first.id, first.image_ids, first.target.answers) == ("1", ("n5",), ("a cat",))
    assert first.target.question_type == "query"
    assert (second.id, second.image_ids) == ("2", ("77",))
    assert [e.id for e in gqa.read_examples(tmp_path / "all", balanced=True)] == ["1"]
    assert [e.id for e in gqa.read_examples(tmp_path / "all/questions1.json")] == ["2"]


def test_gqa_test_questions_have_no_target(write):
    bare = {"question": "What?", "imageId": "n5"}
    assert [e.target for e in gqa.read_examples(write({"1": bare, "2": bare}))] == [None, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"1": gqa_question(), "2": {"question": "What?", "imageId": "n5"}}, "2: lacks 'answer', which the records"),
        ({"1": {"question": "What?", "imageId": "n5"}, "2": gqa_question()}, "2: has 'answer', unlike those before"),
        ({"1": gqa_question(types={})}, "types: lacks 'structural'"),
        ({"1": []}, "1: is a list, expected an object"),
        ([], "is a list, expected an object"),
        ({"1": {"question": "What?"}}, "1: lacks 'imageId'"),
    ],
)
def test_broken_gqa_files_are_one_sentence(write, content, message):
    with pytest.raises(DataError, match=message):
        list(gqa.read_examples(write(content)))


def test_a_gqa_folder_without_questions_and_a_question_in_two_files_are_refused(write, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no \.json file in it"):
        list(gqa.read_examples(tmp_path / "empty"))
    write({"1": gqa_question()}, "all/questions0.json")
    write({"1": gqa_question()}, "all/questions1.json")
    with pytest.raises(DataError, match="question id 1 occurs twice"):
        list(gqa.read_examples(tmp_path / "all"))


def test_the_published_gqa_questions(data):
    found = list(gqa.read_examples(data / "gqa/question_dir"))
    assert [(e.id, e.image_ids[0], e.texts[0], e.target.answers[0]) for e in found] == [
        ("202218649", "n578564", "What is hanging above the chalkboard?", "picture"),
        ("20240871", "n166008", "Does the table below the water look wooden and round?", "yes"),
    ]
    assert list(gqa.read_examples(data / "gqa/questions.json")) == found[:1]
    assert {e.image_ids[0] for e in found} <= {path.stem for path in (data / "gqa/images").glob("*.jpg")}


# -- answer vocabularies ----------------------------------------------------------------------------------------------


def test_both_layouts_of_a_vocabulary_agree(write):
    assert answers.read_answers(write({"yes": 1, "no": 0})) == ("no", "yes")
    assert answers.read_answers(write(["no", "yes"], "list.json")) == ("no", "yes")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"yes": 1, "no": 2}, "gives 2 answers labels that do not run from 0"),
        ({"yes": True, "no": False}, "gives 2 answers labels that do not run from 0"),
        ({"yes": "1", "no": 0}, "gives 2 answers labels that do not run from 0"),
        (["no", "no"], "answer 'no' occurs twice"),
        (["no", 1], "is no answer vocabulary"),
        ([], "is no answer vocabulary"),
        ("yes", "is not JSON"),
    ],
)
def test_broken_vocabularies_are_one_sentence(write, content, message):
    with pytest.raises(DataError, match=message):
        answers.read_answers(write(content))


@pytest.mark.parametrize(("folder", "count"), [("vqa_v2", 3129), ("gqa", 1842)])
def test_the_published_vocabularies(data, folder, count):
    by_answer = answers.read_answers(data / folder / "trainval_ans2label.json")
    assert len(by_answer) == count
    assert by_answer == answers.read_answers(data / folder / "trainval_label2ans.json")
