"""References to objects as tokens: what is replaced, how a model grows for it, what a run keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.small_pairs import VOCABULARY
from tests.small_tasks import encoder, small_examples, split_of
from vltk.errors import DataError, UsageError
from vltk.tasks import vcr
from vltk.tasks._object_tokens import ObjectTokens
from vltk.tasks._task import Split
from vltk.types import Example, Phrase, Tokens


def example() -> Example:
    # "why is [person] near [person] and [car] ?": two neighbours of one name stay two tokens
    words = ("why", "is", "person", "near", "person", "traffic", "light")
    pieces = (10, 11, 12, 13, 12, 20, 21)
    phrases = tuple(
        Phrase(text=0, start=start, end=end, entity=str(entity), kinds=(kind,))
        for entity, (start, end, kind) in enumerate(((2, 3, "person"), (4, 5, "person"), (5, 7, "traffic light")))
    )
    return Example(
        id="1",
        image_ids=("train-0",),
        texts=(" ".join(words),),
        tokens=(Tokens(ids=pieces, words=tuple(range(7))),),
        phrases=phrases,
    )


def test_each_reference_becomes_one_token() -> None:
    objects = ObjectTokens(("person", "traffic light"), 40)
    assert objects.pieces(example()) == [(10, 11, 40, 13, 40, 41)]


def test_a_name_that_training_never_saw_has_the_last_token() -> None:
    assert ObjectTokens(("person",), 40).pieces(example()) == [(10, 11, 40, 13, 40, 41)]
    assert ObjectTokens(("traffic light",), 40).pieces(example()) == [(10, 11, 41, 13, 41, 40)]


def test_a_reference_of_several_pieces_is_one_token_and_neighbours_stay_apart() -> None:
    told = replace(example(), phrases=tuple(replace(p, kinds=("person",)) for p in example().phrases))
    assert ObjectTokens(("person",), 40).pieces(told) == [(10, 11, 40, 13, 40, 40)]


@pytest.fixture
def split(tmp_path: Path) -> Split:
    examples, pictures = small_examples("vcr")
    named = [
        replace(one, phrases=(Phrase(text=0, start=0, end=1, entity="0", kinds=("person" if k % 2 else "car",)),))
        for k, one in enumerate(examples)
    ]
    return split_of(tmp_path, named, pictures)


def test_a_model_grows_once_and_a_run_keeps_the_names(split: Split) -> None:
    config = vcr.Config(object_tokens=True)
    model = encoder(config.model_sizes())
    before = model.text_embedding.word.weight.detach().clone()
    built = config.build(model, split)
    assert built.describe() == {"objects": ["car", "person"], "first_object": VOCABULARY}
    assert model.config.vocabulary == VOCABULARY + 3
    assert torch.equal(model.text_embedding.word.weight[:VOCABULARY], before)
    assert int(built.batch(split, range(4)).input_ids.max()) == VOCABULARY + 1
    again = config.build(model, split, kept=built.describe())
    assert (model.config.vocabulary, again.describe()) == (VOCABULARY + 3, built.describe())
    with torch.no_grad():
        assert len(again.predict(again.batch(split, range(4)))) == 4


def test_other_encoders_and_texts_without_references_are_refused(split: Split, tmp_path: Path) -> None:
    objects = ObjectTokens.learnt(split)
    with pytest.raises(UsageError, match="Linear has no table of 40 word pieces to extend"):
        objects.extend(nn.Linear(2, 2))
    examples, pictures = small_examples("vcr")
    with pytest.raises(DataError, match="plain: has no reference to an object; prepare with --references names"):
        ObjectTokens.learnt(split_of(tmp_path, examples, pictures, "plain"))
