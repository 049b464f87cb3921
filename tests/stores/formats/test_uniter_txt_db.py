"""UNITER's txt_db: the authors' toy databases, round trips, and databases that lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import lz4.frame
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from vltk.errors import DataError
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.stores.formats import uniter_txt_db
from vltk.stores.formats._lmdb import ForeignLMDB
from vltk.stores.formats._output import write_lmdb
from vltk.stores.formats.uniter_txt_db import ReadOptions, WriteOptions
from vltk.types import AnswersTarget, BoxTarget, ChoiceTarget, Example, LabelTarget, ScoredTarget, Tokens

META = {"CLS": 1, "SEP": 2, "MASK": 3, "UNK": 4, "v_range": [5, 90], "bert": "toy"}
DATABASES = ("vqa_toy.db", "nlvr2_toy.db", "itm_toy.db", "vcr_toy.db", "refcoco_val.db")


@pytest.fixture
def golden(shared: Path) -> Path:
    return shared / "golden" / "uniter"


def official_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records read as the facts describe them."""
    with ForeignLMDB(folder) as environment:
        return {key.decode(): msgpack.unpackb(lz4.frame.decompress(environment.value(key))) for key in environment}


@pytest.mark.parametrize("name", DATABASES)
def test_the_authors_databases_are_read_bit_for_bit(name: str, golden: Path) -> None:
    records = official_records(golden / "db" / name)
    examples = list(uniter_txt_db.read(golden / "db" / name))
    assert sorted(example.id for example in examples) == sorted(records)
    for example in examples:
        record = records[example.id]
        texts = [record["input_ids"], *record.get("input_ids_as", []), *record.get("input_ids_rs", [])]
        assert [list(tokens.ids) for tokens in example.tokens] == texts
        names = record["img_fname"]
        assert [f"{image_id}.npz" for image_id in example.image_ids] == ([names] if isinstance(names, str) else names)


def test_the_rows_of_the_authors_vqa_batch_are_the_examples_in_order(golden: Path) -> None:
    official = load_file(golden / "db_vqa_batch.safetensors")
    examples = list(uniter_txt_db.read(golden / "db" / "vqa_toy.db"))
    assert [example.id for example in examples] == ["1000", "1001", "1002", "1003", "1004"]
    for example, ids, dense in zip(examples, official["out.input_ids"], official["out.targets"], strict=True):
        row = [1, *example.tokens[0].ids, 2]
        assert ids[: len(row)].tolist() == row
        assert isinstance(example.target, ScoredTarget)
        ours = np.zeros(11, np.float32)
        ours[[int(label) for label in example.target.labels]] = example.target.scores
        np.testing.assert_array_equal(ours, dense)


def test_the_targets_of_the_authors_other_batches_are_read(golden: Path) -> None:
    nlvr2 = load_file(golden / "db_nlvr2_paired_batch.safetensors")
    examples = list(uniter_txt_db.read(golden / "db" / "nlvr2_toy.db"))
    assert [int(e.target == LabelTarget(label="True")) for e in examples] == nlvr2["out.targets"].tolist()
    assert [example.group for example in examples] == ["dev-0-0", "dev-1-0", "dev-2-0", "dev-3-0"]
    vcr = load_file(golden / "db_vcr_val_batch.safetensors")
    targets = [e.target for e in uniter_txt_db.read(golden / "db" / "vcr_toy.db")]
    assert all(isinstance(target, ChoiceTarget) for target in targets)
    assert [target.answer for target in targets] == vcr["out.qa_targets"].ravel().tolist()  # type: ignore[union-attr]
    assert [target.rationale for target in targets] == vcr["out.qar_targets"].ravel().tolist()  # type: ignore[union-attr]
    index = json.loads((golden / "index.json").read_text())["cases"]["db_re_eval_batch"]
    for example, (x, y, width, height) in zip(
        uniter_txt_db.read(golden / "db" / "refcoco_val.db"), index["extra"]["tgt_box"], strict=True
    ):
        assert isinstance(example.target, BoxTarget)
        assert example.target.box == (x, y, x + width, y + height)


@pytest.mark.parametrize("name", DATABASES)
def test_what_was_read_is_written_and_read_again(name: str, golden: Path, tmp_path: Path) -> None:
    examples = list(uniter_txt_db.read(golden / "db" / name))
    uniter_txt_db.write_examples(examples, tmp_path / "a", meta=uniter_txt_db.read_meta(golden / "db" / name))
    again = list(uniter_txt_db.read(tmp_path / "a"))
    assert [replace(e, target=None) for e in again] == [replace(e, target=None) for e in examples]
    for ours, theirs in zip(again, examples, strict=True):
        if isinstance(theirs.target, BoxTarget):  # x + w - x is w only up to rounding
            assert isinstance(ours.target, BoxTarget)
            np.testing.assert_allclose(ours.target.box, theirs.target.box, rtol=1e-15)
        else:
            assert ours.target == theirs.target
    for file in (golden / "db" / name).glob("*.json"):
        if file.stem not in ("refs", "annotations", "categories", "images"):
            assert json.loads((tmp_path / "a" / file.name).read_text()) == json.loads(file.read_text()), file.name


def test_examples_pass_through_a_store(golden: Path, tmp_path: Path) -> None:
    examples = list(uniter_txt_db.read(golden / "db" / "vqa_toy.db"))
    with ExampleStore.create(tmp_path / "a.lmdb", ExampleMetadata(task="vqa")) as writer:
        for example in examples:
            writer.put(example)
    assert list(ExampleStore.open(tmp_path / "a.lmdb")) == examples


def test_a_store_is_exported_with_the_users_tables(golden: Path, tmp_path: Path) -> None:
    with ExampleStore.create(tmp_path / "a.lmdb", ExampleMetadata(task="vqa")) as writer:
        writer.put(example(target=ScoredTarget(labels=("yes",), scores=(1.0,))))
    store = ExampleStore.open(tmp_path / "a.lmdb")
    with pytest.raises(DataError, match=r"does not say what a txt_db says of its tokenizer; pass the meta.json"):
        uniter_txt_db.write(store, tmp_path / "out")
    (tmp_path / "answers.json").write_text('{"yes": 3}')
    meta = golden / "db" / "vqa_toy.db" / "meta.json"
    uniter_txt_db.write(store, tmp_path / "out", WriteOptions(meta=meta, answers=tmp_path / "answers.json"))
    assert next(uniter_txt_db.read(tmp_path / "out")).target == ScoredTarget(labels=("3",), scores=(1.0,))
    assert uniter_txt_db.read_meta(tmp_path / "out") == json.loads(meta.read_text())


IDS = st.lists(st.integers(0, 30000), max_size=9).map(tuple)
TOKENS = IDS.map(lambda ids: Tokens(ids=ids, words=tuple(range(len(ids)))))
WORDS = st.text("abc xyz", min_size=1).filter(str.strip)
SCORED = st.dictionaries(st.integers(0, 3128).map(str), st.floats(0, 1)).map(
    lambda d: ScoredTarget(labels=tuple(d), scores=tuple(d.values()))
)
QUARTERS = st.integers(0, 2000).map(lambda number: number / 4)
BOXED = st.builds(
    lambda x, y, w, h, a, r: BoxTarget(box=(x, y, x + w, y + h), annotation_id=str(a), ref_id=str(r)),
    QUARTERS, QUARTERS, QUARTERS, QUARTERS, st.integers(0, 999), st.integers(0, 999),
)  # fmt: skip


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    target = draw(
        st.sampled_from([st.none(), SCORED, BOXED, st.builds(LabelTarget, label=st.sampled_from(["True", "False"]))])
    )
    ids = draw(st.lists(st.text("abc019-é", min_size=1, max_size=9), min_size=1, max_size=4, unique=True))
    return [
        Example(id=i, image_ids=(f"image {i}",), texts=(draw(WORDS),), tokens=(draw(TOKENS),), target=draw(target))
        for i in ids
    ]


@given(made=examples())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(made: list[Example], tmp_path: Path) -> None:
    uniter_txt_db.write_examples(made, tmp_path / "a", meta=META, overwrite=True)
    assert list(uniter_txt_db.read(tmp_path / "a")) == made


def test_a_vocabulary_gives_words_and_text_back(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\na\nskate\n##board\n.\n")
    uniter_txt_db.write_examples([example(ids=(1, 2, 3, 4), text="")], tmp_path / "a", meta=META)
    again = next(uniter_txt_db.read(tmp_path / "a", ReadOptions(vocab=tmp_path / "vocab.txt")))
    assert again.texts == ("a skateboard .",)
    assert again.tokens[0].words == (0, 1, 1, 2)


def test_a_word_piece_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb")
    uniter_txt_db.write_examples([example(ids=(5,))], tmp_path / "a", meta=META)
    with pytest.raises(DataError, match="word piece 5 of a vocabulary of 2; it is the vocabulary of another tokenizer"):
        list(uniter_txt_db.read(tmp_path / "a", ReadOptions(vocab=tmp_path / "vocab.txt")))


def test_answers_are_numbered_by_the_users_table(tmp_path: Path) -> None:
    target = ScoredTarget(labels=("yes", "7"), scores=(1.0, 0.3))
    uniter_txt_db.write_examples([example(target=target)], tmp_path / "a", meta=META, answers={"yes": 3})
    again = next(uniter_txt_db.read(tmp_path / "a"))
    assert again.target == ScoredTarget(labels=("3", "7"), scores=(1.0, 0.3))


def example(ids: tuple[int, ...] = (5, 6), text: str = "a b", **changes: Any) -> Example:
    tokens = (Tokens(ids=ids, words=tuple(range(len(ids)))),)
    return replace(Example(id="1", image_ids=("7",), texts=(text,), tokens=tokens), **changes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tokens": ()}, "has no tokens; prepare the examples with a tokenizer"),
        ({"target": AnswersTarget(answers=("yes",))}, "has a target AnswersTarget, which a txt_db cannot hold"),
        ({"target": ScoredTarget(labels=("yes",), scores=(1.0,))}, "label is 'yes', expected a whole number"),
    ],
)
def test_what_a_txt_db_cannot_hold_is_refused_and_nothing_is_left(change: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        uniter_txt_db.write_examples([example(**change)], tmp_path / "a", meta=META)
    assert list(tmp_path.iterdir()) == []


def test_meta_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks SEP, UNK"):
        uniter_txt_db.write_examples([], tmp_path / "a", meta={"CLS": 1, "MASK": 3, "v_range": [5, 9]})


def test_meta_answers_to_every_name_that_the_published_code_asks_for(tmp_path: Path) -> None:
    uniter_txt_db.write_examples([example()], tmp_path / "a", meta={**META, "bert": "bert-base-cased"})
    meta = uniter_txt_db.read_meta(tmp_path / "a")
    assert meta["bert"] == meta["toker"] == meta["tokenizer"] == "bert-base-cased"


GOOD = {"input_ids": [5, 6], "img_fname": "7.npz"}
HOSTILE = {
    "no frame": (b"hello, this is no frame", "is no LZ4 frame of msgpack"),
    "empty": (b"", "is cut off"),
    "cut off": (lz4.frame.compress(msgpack.packb(GOOD))[:-6], "is cut off"),
    "bomb": (lz4.frame.compress(bytes(100 << 20)), "does not end within 16,777,216 bytes"),
    "no msgpack": (lz4.frame.compress(b"\xc1"), "is no LZ4 frame of msgpack"),
    "claim": (lz4.frame.compress(b"\xdd\xff\xff\xff\xff"), "is no LZ4 frame of msgpack"),
    "list as key": (lz4.frame.compress(b"\x81\x90\xc0"), "is no LZ4 frame of msgpack"),
    "list": (lz4.frame.compress(msgpack.packb([1])), "has no input_ids or no img_fname"),
    "texts": (lz4.frame.compress(msgpack.packb({**GOOD, "input_ids": "ab"})), "input_ids that are no list of numbers"),
    "negative": (lz4.frame.compress(msgpack.packb({**GOOD, "input_ids": [-1]})), "no list of numbers"),
    "image": (lz4.frame.compress(msgpack.packb({**GOOD, "img_fname": 7})), "has an img_fname that is no file name"),
    "target": (lz4.frame.compress(msgpack.packb({**GOOD, "target": {"labels": [1]}})), "target of an unknown layout"),
    "box": (lz4.frame.compress(msgpack.packb({**GOOD, "ann_id": 1, "bbox": [1, 2]})), "target of an unknown layout"),
    "choices": (lz4.frame.compress(msgpack.packb({**GOOD, "input_ids_as": 7})), "rationales that are no list"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_record_that_lies_is_one_sentence(name: str, tmp_path: Path) -> None:
    value, sentence = HOSTILE[name]
    write_lmdb(tmp_path / "a", [(b"1", value)])
    with pytest.raises(DataError, match=sentence):
        list(uniter_txt_db.read(tmp_path / "a"))


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("id2len", '{"1": 3}', "has 2 word pieces where id2len.json says 3"),
        ("id2len", '{"2": 2}', "do not hold the same ids, for example 1"),
        ("id2len", "[]", "is no JSON object"),
        ("txt2img", '{"1": "8.npz"}', "is of 7.npz where txt2img.json says 8.npz"),
        ("txt2img", "{", "is no JSON"),
    ],
)
def test_a_side_file_of_another_database_is_one_sentence(
    file: str, content: str, sentence: str, tmp_path: Path
) -> None:
    write_lmdb(tmp_path / "a", [(b"1", lz4.frame.compress(msgpack.packb(GOOD)))])
    (tmp_path / "a" / f"{file}.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        list(uniter_txt_db.read(tmp_path / "a"))
