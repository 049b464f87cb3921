"""Which sentences are probed: no template stands in two folds, what cannot be probed is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.small_pairs import picture, write_examples, write_features
from tests.small_trees import parsed_caption, write_trees
from vltk.errors import DataError, UsageError
from vltk.probing.corpus import Corpus, gold_distances, read_corpus
from vltk.probing.division import Division, frame, template
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.types import Example, Parse, Tokens


def opened(paths: tuple[Path, Path]) -> tuple[ExampleStore, FeatureStore]:
    return ExampleStore.open(paths[0]), FeatureStore.open(paths[1])


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return read_corpus(*opened(write_trees(tmp_path, images=20)))


def test_no_template_stands_in_two_folds_or_parts(corpus: Corpus) -> None:
    rows = [corpus.rows("test"), *corpus.parts]
    assert sorted(row for part in rows for row in part) == list(range(60))
    frames = [{frame(corpus.sentences[row].parse) for row in part} for part in rows]
    assert len(frames) == 5
    assert all(frames)
    assert sum(map(len, frames)) == len(set.union(*frames))
    templates = [{template(corpus.sentences[row].parse) for row in part} for part in rows]
    assert sum(map(len, templates)) == 20


def test_parts_are_of_about_one_size() -> None:
    groups = [f"g{place % 40}" for place in range(400)]
    parts = Division(folds=4, seed=1).parts(groups)
    assert [len(part) for part in parts] == [100] * 4
    assert parts != Division(folds=4, seed=2).parts(groups)


def test_a_frame_knows_no_leaves() -> None:
    short = Parse(words=("ring", "is", "on", "star"), heads=(4, 4, 4, 0), relations=("nsubj", "cop", "case", "root"))
    long = Parse(words=("a", "b", "c", "d"), heads=(2, 3, 0, 3), relations=("amod", "nsubj", "root", "obj"))
    alone = Parse(words=("ring",), heads=(0,), relations=("root",))
    assert [frame(one) for one in (short, long, alone)] == ["0:root", "2:nsubj 0:root", "0:root"]


def test_images_can_be_held_out_instead(tmp_path: Path) -> None:
    found = read_corpus(*opened(write_trees(tmp_path, images=20)), division=Division(held_out="images", test=0.3))
    folds = [set(found.images("test")), *({found.sentences[row].image_id for row in part} for part in found.parts)]
    assert sum(map(len, folds)) == len(set.union(*folds)) == 20


def test_the_seed_decides_the_division(tmp_path: Path) -> None:
    stores = opened(write_trees(tmp_path, images=20))
    divided = [read_corpus(*stores, division=Division(seed=s)).parts for s in (0, 0, 3)]
    assert divided[0] == divided[1] != divided[2]


def test_of_a_store_of_test_sentences_known_templates_are_left_out(tmp_path: Path) -> None:
    train, features = opened(write_trees(tmp_path, images=12, captions=1, shapes=12))
    dice = np.random.default_rng(0)
    told = [parsed_caption(f"t{shape}", f"trees-{shape % 12}", dice, shape=shape) for shape in range(8, 16)]
    tests = ExampleStore.open(write_examples(tmp_path / "tests.lmdb", told))
    found = read_corpus(train, features, tests=tests, division=Division(folds=2))
    assert [one.id for one in found.sentences if one.fold == "test"] == ["t12", "t13", "t14", "t15"]
    assert {one.store for one in found.sentences if one.fold == "test"} == {1}
    assert found.left_out == {"test sentences whose template is trained on": 4}
    assert sum(map(len, found.parts)) == 12


def test_a_batch_tells_the_word_of_each_piece(corpus: Corpus) -> None:
    rows = [0, 7, 3]
    batch = corpus.batch(rows)
    belongs = batch.targets["word_of_piece"]
    for row, place in zip(rows, belongs.tolist(), strict=True):
        pieces = corpus.sentences[row].parse.pieces
        assert place == [-1, *pieces, *[-1] * (belongs.shape[1] - 1 - len(pieces))]
    assert batch.ids == tuple(corpus.sentences[row].id for row in rows)


def test_a_picture_is_read_beside_an_empty_sentence(corpus: Corpus) -> None:
    batch = corpus.pictures(["trees-1", "trees-4"])
    assert batch.input_ids.tolist() == [[2, 3], [2, 3]]
    lengths = [corpus.features.region_count(name) for name in ("trees-1", "trees-4")]
    assert batch.region_mask.sum(dim=1).tolist() == lengths


def test_words_stand_behind_each_other_in_one_table(corpus: Corpus) -> None:
    sizes = [len(one.parse.words) for one in corpus.sentences]
    assert np.diff(corpus.starts).tolist() == sizes
    for one, found in zip(corpus.sentences, gold_distances(corpus.sentences), strict=True):
        np.testing.assert_array_equal(found, one.distances)


def written(folder: Path, examples: Sequence[Example]) -> tuple[ExampleStore, FeatureStore]:
    dice = np.random.default_rng(0)
    names = dict.fromkeys(one.image_ids[0] for one in examples if one.image_ids[0] != "lost")
    features = write_features(folder / "f.lmdb", [picture(name, dice) for name in names])
    return opened((write_examples(folder / "e.lmdb", examples), features))


def sentences(count: int = 30) -> list[Example]:
    dice = np.random.default_rng(1)
    return [parsed_caption(f"c{k}", f"p{k}", dice, shape=k) for k in range(count)]


def test_what_cannot_be_probed_is_counted(tmp_path: Path) -> None:
    told = sentences()
    short = Parse(words=("a", "b"), heads=(2, 0), relations=("det", "root"), pieces=(0, 1))
    told[0] = replace(told[0], parses=(short,), tokens=(Tokens(ids=(5, 6), words=(0, 1)),))
    parts = Parse(words=("a", "b", "c"), heads=(2, 0, 2), relations=("det", "root", "obj"), pieces=(0, 2))
    told[1] = replace(told[1], parses=(parts,), tokens=(Tokens(ids=(5, 6), words=(0, 1)),))
    told[2] = replace(told[2], image_ids=("lost",))
    found = read_corpus(*written(tmp_path, told), skip_missing=True)
    assert found.left_out == {"fewer than 3 words": 1, "a word without word pieces": 1, "no features of the picture": 1}
    assert len(found.sentences) == 27


@pytest.mark.parametrize(("change", "problem"), [
    ({"tokens": (), "parses": ()}, "has no word pieces"),
    ({"parses": ()}, "example c2 has no dependency tree"),
    ({"parses": (Parse(words=("a", "b", "c"), heads=(2, 0, 2), relations=("x", "root", "y")),)},
     "example c2 has a tree over 0 of"),
    ({"image_ids": ("lost",)}, r"lacks 1 images \(lost\)"),
])  # fmt: skip
def test_a_store_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    told = sentences()
    told[2] = replace(told[2], **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=problem):
        read_corpus(*written(tmp_path, told))


def test_a_fold_without_a_sentence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no test sentence among 1 \(nothing left out\)"):
        read_corpus(*written(tmp_path, sentences(1)), division=Division(test=0.001))


def test_folds_that_cannot_be_filled_are_refused(tmp_path: Path) -> None:
    train, features = opened(write_trees(tmp_path, images=3, captions=2))
    with pytest.raises(DataError, match=r"\d images among 6 sentences do not fill 4 folds \(nothing left out\)"):
        read_corpus(train, features, division=Division(held_out="images", test=0.4))


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="a share of 1 leaves nothing to test or to learn"):
        Division(test=1.0)
    with pytest.raises(UsageError, match="a share of 0 leaves"):
        Division(test=0.0)
    with pytest.raises(UsageError, match="1 leave nothing to learn or to choose with"):
        Division(folds=1)


def test_a_feature_that_is_no_number_is_named(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    from vltk.probing import corpus as module

    original = module.collate

    def broken(*given: object, **options: object) -> object:
        made = original(*given, **options)  # type: ignore[arg-type]
        made.regions[1, 0, 0] = torch.inf
        return made

    monkeypatch.setattr(module, "collate", broken)
    with pytest.raises(DataError, match="a feature of image trees-4 is no number"):
        corpus.pictures(["trees-1", "trees-4"])
