"""Every task reads its published files through its Source, and one layout at a time."""

from __future__ import annotations

import importlib
import json
import pickle
from collections import Counter
from dataclasses import dataclass, fields

import pytest

from vltk.config import listing
from vltk.config.declaration import field_help
from vltk.errors import UsageError
from vltk.tasks import captions, coco, flickr30k, gqa, nlvr2, refcoco, snli_ve, vcr, vqa
from vltk.tasks._source import Layout, read_one, source_files
from vltk.types import BoxTarget, ChoiceTarget, LabelTarget


@dataclass(frozen=True, kw_only=True)
class Two:
    first: str | None = None
    second: str | None = None
    beside: str | None = None
    choice: int = 3


LAYOUTS = (
    Layout(file="first", takes=("choice",), read=lambda source: iter(["first", source.first])),
    Layout(file="second", needs=("beside",), read=lambda source: iter(["second", source.beside])),
)


def test_the_file_that_is_given_chooses_the_layout():
    assert list(read_one(Two(first="a", choice=4), LAYOUTS)) == ["first", "a"]
    assert list(read_one(Two(second="a", beside="b"), LAYOUTS)) == ["second", "b"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Two(), "no annotation file is given; give one of --first, --second"),
        (Two(first="a", second="b"), "--first and --second are given together; give one of --first, --second"),
        (Two(second="a"), "--second is given without --beside; give --beside as well"),
        (Two(second="a", beside="b", choice=4), "--choice does nothing with --second; leave it out"),
        (Two(first="a", beside="b"), "--beside does nothing with --first; leave it out"),
    ],
)
def test_options_that_do_not_fit_together_are_usage_errors(source, message):
    with pytest.raises(UsageError, match=message):
        read_one(source, LAYOUTS)


@pytest.mark.parametrize("task", listing("vltk.tasks"))
def test_every_option_of_every_task_has_a_help_text(task):
    source = importlib.import_module(f"vltk.tasks.{task}").Source
    assert source.__doc__.endswith(".")
    assert {item.name for item in fields(source)} == field_help(source).keys()


def count(source):
    """Read twice: a source yields the same at every call."""
    examples = list(source.examples())
    assert examples == list(source.examples())
    return len(examples)


@pytest.fixture(scope="module")
def data(shared):
    return shared / "data"


def test_flickr30k_in_its_four_layouts(data):
    entities = data / "flickr30k_entities"
    lists = data / "flickr30k_captions/karpathy_test/flickr30k_test_data.json"
    derived = data / "flickr30k_captions/karpathy_format_derived/dataset_flickr30k.json"
    assert count(flickr30k.Source(karpathy=derived, split="test", tokens=True)) == 3990
    assert count(flickr30k.Source(caption_lists=lists)) == 3990
    assert count(flickr30k.Source(entities=entities / "original_excerpts")) == 50
    captions_file = entities / "captions/test.json"
    phrases = flickr30k.Source(phrases=entities / "phraseloceval/annotation_test.json", phrase_captions=captions_file)
    assert count(phrases) == 4020
    split = entities / "splits/test.txt"
    unrelated = entities / "splits/UNRELATED_CAPTIONS"
    root = entities / "derived_from_phraseloceval"
    kept = count(flickr30k.Source(entities=root, images=split, unrelated=unrelated))
    listed = {line.split()[0] for line in unrelated.read_text(encoding="utf-8").splitlines()[1:]}
    assert kept == 4020 - sum(line in listed for line in split.read_text(encoding="utf-8").split())


def test_coco_and_captions_in_their_layouts(data, tmp_path):
    val = data / "coco/annotations/captions_val2017.json"
    assert count(coco.Source(coco=val)) == count(captions.Source(coco=val)) == 200
    rows = data / "conceptual_captions/Validation_GCC-1.1.0-Validation.tsv"
    source = captions.Source(conceptual=rows, image_id="gcc_{row}")
    assert count(source) == 4000
    assert next(source.examples()).image_ids == ("gcc_0",)
    flickr8k = data / "flickr8k"
    split = flickr8k / "Flickr_8k.testImages.txt"
    assert count(captions.Source(flickr8k=flickr8k / "captions.txt", images=split)) == 4010
    assert count(captions.Source(msrvtt=data / "msrvtt/MSRVTT_JSFUSION_test.csv")) == 803
    assert count(captions.Source(caption_lists=data / "flickr30k_captions/entities_val/validation.json")) == 4065
    path = tmp_path / "dataset_coco.json"
    sentences = [{"sentid": 1, "raw": "A man.", "tokens": ["a", "man"]}]
    path.write_text(json.dumps({"images": [{"filename": "a.jpg", "split": "restval", "sentences": sentences}]}))
    assert count(coco.Source(karpathy=path, split="train")) == 1
    assert count(captions.Source(karpathy=path, split="train")) == 1
    with pytest.raises(UsageError, match="--karpathy is given without --split"):
        coco.Source(karpathy=path).examples()


def test_questions(data):
    folder = data / "vqa_v2/with_photos"
    files = {"questions": folder / "questions.json", "annotations": folder / "annotations.json"}
    genome = data / "visual_genome_qa/question_answers.json"
    assert count(vqa.Source(**files)) == 55
    assert count(vqa.Source(**files, visual_genome=genome)) == 55 + 8
    assert count(vqa.Source(visual_genome=genome)) == 8
    assert [e.target for e in vqa.Source(questions=files["questions"]).examples()] == [None] * 55
    assert count(gqa.Source(questions=data / "gqa/question_dir", balanced=True)) == 1
    assert count(gqa.Source(questions=data / "gqa/question_dir")) == 2
    with pytest.raises(UsageError, match="no annotation file is given; give --questions or --visual-genome"):
        vqa.Source().examples()
    with pytest.raises(UsageError, match="--annotations is given without --questions"):
        vqa.Source(annotations=files["annotations"], visual_genome=genome).examples()


def test_statements(data):
    nlvr2_examples = list(nlvr2.Source(annotations=data / "nlvr2/with_photos/tiny-dev.json").examples())
    assert Counter(type(e.target) for e in nlvr2_examples) == {LabelTarget: 8}
    pairs = data / "snli_ve/sample_pairs.jsonl"
    assert count(snli_ve.Source(annotations=pairs)) == 16
    chosen = snli_ve.Source(annotations=pairs, images=data / "snli_ve/flickr30k_test.lst", premise=True)
    assert {len(e.texts) for e in chosen.examples()} <= {2}


def test_vcr(tmp_path):
    record = {
        "annot_id": "val-0",
        "img_fn": "a/b.jpg",
        "metadata_fn": "a/b.json",
        "objects": ["person"],
        "question": ["Why", [0]],
        "answer_choices": [["a"]] * 4,
        "rationale_choices": [["b"]] * 4,
        "answer_label": 1,
        "rationale_label": 2,
    }
    annotations = tmp_path / "val.jsonl"
    annotations.write_text(json.dumps(record))
    (tmp_path / "a").mkdir()
    metadata = {"boxes": [[0, 0, 5, 5, 1.0]], "names": ["person"], "width": 9, "height": 9}
    (tmp_path / "a/b.json").write_text(json.dumps(metadata))
    source = vcr.Source(annotations=annotations, pictures=tmp_path, references="numbers")
    (example,) = source.examples()
    assert isinstance(example.target, ChoiceTarget)
    assert (example.texts[0], example.phrases[0].boxes) == ("Why [0]", ((0, 0, 5, 5),))
    assert source_files(source) == (annotations, tmp_path)


def test_refcoco_in_its_two_layouts(data, tmp_path):
    expressions = data / "refcoco/phraseloceval/refcoco+/annotation_testA.json"
    assert count(refcoco.Source(phrases=expressions)) == 4458
    references, instances = tmp_path / "refs(unc).p", tmp_path / "instances.json"
    sentence = {"sent_id": 1, "sent": "the man"}
    references.write_bytes(
        pickle.dumps([{"ref_id": 3, "ann_id": 7, "split": "val", "sentences": [sentence]}], protocol=2)
    )
    instances.write_text(
        json.dumps(
            {
                "images": [{"id": 9, "file_name": "9.jpg", "width": 10, "height": 10}],
                "annotations": [{"id": 7, "image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]}],
                "categories": [{"id": 1, "name": "person"}],
            }
        )
    )
    (example,) = refcoco.Source(references=references, instances=instances, split="val").examples()
    assert isinstance(example.target, BoxTarget)
    with pytest.raises(UsageError, match="--references is given without --instances"):
        refcoco.Source(references=references).examples()
    with pytest.raises(UsageError, match="--split does nothing with --phrases"):
        refcoco.Source(phrases=expressions, split="testA").examples()
