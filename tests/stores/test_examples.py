"""What goes into an example store comes out of it in its order, or a sentence says why not."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any, get_args

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from vltk.errors import DataError
from vltk.stores.examples import ExampleMetadata, ExampleStore, TokenizerDescription
from vltk.types import (
    AnswersTarget,
    BoxTarget,
    ChoiceTarget,
    Example,
    LabelTarget,
    Parse,
    Phrase,
    ScoredTarget,
    Target,
    Tokens,
)

TARGETS = [
    AnswersTarget(answers=("yes",) * 9 + ("no",), question_type="is the", answer_type="yes/no"),
    LabelTarget(label="entailment", votes=("entailment", "neutral")),
    ChoiceTarget(answer=3, rationale=0, objects=("person", "dog")),
    BoxTarget(box=(0.1, 2.5, 3.0, 1e-3 + 4), annotation_id="77", ref_id="5"),
    ScoredTarget(labels=("yes", "3"), scores=(1.0, 0.3)),
]
TOKENIZER = TokenizerDescription(name="bert", vocab_size=30522, vocab_sha256="07ec", special_ids={"[CLS]": 101})


def fill(path: Path, *examples: Example, **metadata: Any) -> ExampleStore:
    with ExampleStore.create(path, ExampleMetadata(**metadata)) as writer:
        for example in examples:
            writer.put(example)
    return ExampleStore.open(path)


def simple(number: int, **more: Any) -> Example:
    return Example(**{"id": f"e{number}", "image_ids": ("1",), "texts": (f"text {number}",), **more})


def rich(target: Target | None = None) -> Example:
    """An example with everything."""
    return Example(
        id="rich#0",
        image_ids=("left", "right"),
        texts=("A dog runs .", "Zwei Hünde 狗"),
        target=target,
        tokens=(Tokens(ids=(5, 6, 7, 8), words=(0, 1, 2, 3)), Tokens(ids=(9,), words=(0,))),
        parses=(
            Parse(words=("A", "dog", "runs"), heads=(2, 3, 0), relations=("det", "nsubj", "root"), pieces=(0, 1, 2, 2)),
            Parse(words=(), heads=(), relations=()),
        ),
        paraphrases=(("One dog runs .", "Runs ."), ()),
        paraphrase_tokens=((Tokens(ids=(5, 8), words=(0, 1)), Tokens(ids=(7, 8), words=(0, 1))), ()),
        paraphrase_parses=(
            (
                Parse(words=("One", "dog", "runs"), heads=(2, 3, 0), relations=("nummod", "nsubj", "root")),
                Parse(words=("Runs",), heads=(0,), relations=("root",), pieces=(0, 0)),
            ),
            (),
        ),
        phrases=(
            Phrase(text=0, start=0, end=2, entity="12", kinds=("animals",), boxes=((1.0, 2.25, 3.0, 1 / 3),)),
            Phrase(text=1, start=0, end=1, entity=""),
        ),
        group="pair 3",
    )


@pytest.mark.parametrize("target", [None, *TARGETS])
def test_everything_comes_back(tmp_path: Path, target: Target | None) -> None:
    store = fill(tmp_path / "a.lmdb", rich(target), simple(1, target=target))
    assert store.get("rich#0") == rich(target)
    assert list(store) == [rich(target), simple(1, target=target)]
    assert type(store.get("e1").target) is type(target)


def test_every_kind_of_target_is_tried_here() -> None:
    assert {type(target) for target in TARGETS} == set(get_args(Target))


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Zs", "Zl", "Zp", "Cc")), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(words, min_size=1, max_size=20, unique=True),
    texts=st.lists(words, min_size=1, max_size=4),
    box=st.tuples(*[st.floats(-1e6, 1e6)] * 4),
)
def test_ids_come_back_in_the_order_of_writing(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], texts: list[str], box: tuple[float, ...]
) -> None:
    examples = [
        Example(
            id=name,
            image_ids=(name,),
            texts=tuple(texts),
            target=BoxTarget(box=box, annotation_id=name),  # type: ignore[arg-type]
        )
        for name in ids
    ]
    store = fill(tmp_path_factory.mktemp("order") / "a.lmdb", *examples)
    assert store.ids() == ids
    assert list(store) == examples
    assert [store.get(name) for name in ids] == examples
    assert len(store) == len(ids)


def test_numbers_of_numpy_are_stored_as_numbers(tmp_path: Path) -> None:
    example = simple(1, tokens=(Tokens(ids=tuple(np.array([1, 2])), words=(0, 1)),))
    assert fill(tmp_path / "a.lmdb", example).get("e1").tokens == (Tokens(ids=(1, 2), words=(0, 1)),)


def test_the_store_says_what_it_was_made_from(tmp_path: Path) -> None:
    metadata = {
        "task": "flickr30k",
        "split": "val",
        "tokenizer": TOKENIZER,
        "sources": {"dataset.json": "ab"},
        "extra": {"limit": 3},
    }
    store = fill(tmp_path / "a.lmdb", simple(1), **metadata)
    assert store.metadata == ExampleMetadata(**metadata)
    assert pickle.loads(pickle.dumps(store)).metadata == ExampleMetadata(**metadata)
    assert set(store.header.fields) == {field.name for field in dataclasses.fields(Example)}
    other = dataclasses.replace(TOKENIZER, vocab_size=5)
    with pytest.raises(
        DataError, match=r"was begun with other settings: tokenizer \{.*30522.*\} against \{.*5.*\}; use"
    ):
        ExampleStore.create(tmp_path / "a.lmdb", ExampleMetadata(**{**metadata, "tokenizer": other}))


def test_one_id_with_two_contents_is_refused(tmp_path: Path) -> None:
    store = fill(tmp_path / "a.lmdb", simple(1), simple(2), simple(1))
    assert store.ids() == ["e1", "e2"]
    with pytest.raises(DataError, match=r"'e1' is in the store already, with other content; give every record an id"):
        fill(tmp_path / "b.lmdb", simple(1), simple(1, texts=("other",)))


@dataclasses.dataclass(frozen=True)
class SecretTarget:
    """A target that vltk does not know."""

    answer: int


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    sentence = r"example e1: has a target of kind SecretTarget, a store knows AnswersTarget, LabelTarget, ChoiceTarget"
    with pytest.raises(DataError, match=sentence):
        fill(tmp_path / "a.lmdb", simple(1, target=SecretTarget(1)))
    with pytest.raises(DataError, match=r"example e1: cannot be stored \(a value of set\); fix the reader"):
        fill(tmp_path / "a.lmdb", simple(1, target=LabelTarget(label="a", votes=({1},))))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_unknown_ids_are_answered_with_one_that_is_there(tmp_path: Path) -> None:
    store = fill(tmp_path / "a.lmdb", simple(1))
    with pytest.raises(DataError, match=r"holds no 'x'; its ids look like 'e1'"):
        store.get("x")
    assert "x" not in store
    assert "e1" in store


def test_a_flipped_bit_anywhere_in_a_record_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    store = fill(path, rich(TARGETS[0]), simple(1))
    record = bytes(store._environment.get(b"n" + bytes(8)) or b"")
    start = (path / "data.mdb").read_bytes().find(record)
    for place in range(0, len(record), 3):
        with (path / "data.mdb").open("r+b") as file:
            file.seek(start + place)
            file.write(bytes([record[place] ^ 16]))
        with pytest.raises(
            DataError, match=r"a\.lmdb, id rich#0: damaged record, its checksum does not match; save the"
        ):
            store.get("rich#0")
        with pytest.raises(DataError, match=r"a\.lmdb, id number 0: damaged record, its checksum does not match"):
            list(store)
        assert store.get("e1") == simple(1)
        with (path / "data.mdb").open("r+b") as file:
            file.seek(start + place)
            file.write(record[place : place + 1])
    assert store.get("rich#0") == rich(TARGETS[0])


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"\xdd\xff\xff\xff\xff", "it is no example"),
        (b"\xdb\xff\xff\xff\xff", "it is no example"),
        (msgpack.packb({"id": "e1"}), "it is no example"),
        (msgpack.packb([1, 2]), "it is no example"),
        (msgpack.packb({"id": "e1", "image_ids": ["1"], "texts": ["a"], "target": ["Path", {}]}), "it is no example"),
        (msgpack.packb({"id": "e2", "image_ids": ["1"], "texts": ["a"]}), "the index leads to 'e2'"),
        (msgpack.packb({"id": "e1", "image_ids": ["1"], "texts": ["a"], "phrases": [5]}), "it is no example"),
        (b"\x81" * 5000, "it is no example"),
    ],
)
def test_a_record_of_something_else_is_refused(tmp_path: Path, body: bytes, sentence: str) -> None:
    path, key = tmp_path / "a.lmdb", b"n" + bytes(8)
    with ExampleStore.create(path, ExampleMetadata()) as writer:
        writer.put(simple(1))
        writer._pending[key] = xxh3_64_intdigest(body, xxh3_64_intdigest(key)).to_bytes(8, "little") + body
    with pytest.raises(DataError, match=rf"id e1: damaged record, {sentence}"):
        ExampleStore.open(path).get("e1")


def test_the_content_hash_knows_content_only(tmp_path: Path) -> None:
    a = fill(tmp_path / "a", simple(1), simple(2), task="x")
    b = fill(tmp_path / "b", simple(2), simple(1), task="y")
    c = fill(tmp_path / "c", simple(1), simple(2, target=LabelTarget(label="x")))
    assert a.content_hash == b.content_hash != c.content_hash
