"""The plan of a run is a pure function; what it reads is what the stores hold, minus what must not be seen."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.small_pairs import TOKENIZER, caption, picture, write_examples, write_features, write_pairs
from vltk.batching import TokenBuckets
from vltk.errors import DataError, UsageError
from vltk.mixture import Exclusion, JoinedFeatures, Mixture, Names, PairSource, Share, Work, parse_shares
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.types import ChoiceTarget, Example, Tokens

SHARES = [
    Share(source=0, objective="mlm", weight=3),
    Share(source=0, objective="itm", weight=2),
    Share(source=1, objective="itm", weight=1),
]


def open_pairs(paths: tuple[Path, Path], name: str = "set", **options: object) -> PairSource:
    return PairSource(name, ExampleStore.open(paths[0]), FeatureStore.open(paths[1]), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[PairSource]:
    folder = tmp_path_factory.mktemp("pairs")
    return [open_pairs(write_pairs(folder, name, images=count), name) for name, count in (("coco", 20), ("vg", 7))]


def mixture(sources: list[PairSource], *, seed: int = 1, micro_batches: int = 2, official: bool = False) -> Mixture:
    buckets = TokenBuckets(max_tokens=60, bucket_size=16, multiple=2, official=official, drop_last=official)
    settings = {"buckets": buckets, "micro_batches": micro_batches, "seed": seed}
    return Mixture(sources, SHARES, mismatch={"itm": 0.5}, **settings)  # type: ignore[arg-type]


def told(steps: list[list[Work]]) -> list[object]:
    return [(w.objective, w.source, w.rows.tolist(), w.images.tolist(), w.seed) for works in steps for w in works]


def first(plan: Mixture, count: int, start: int = 0) -> list[list[Work]]:
    return list(itertools.islice(plan.steps(start), count))


def test_the_plan_depends_on_the_seed_alone_and_can_begin_anywhere(sources: list[PairSource]) -> None:
    whole = first(mixture(sources), 60)
    assert told(first(mixture(sources), 60)) == told(whole)
    assert told(first(mixture(sources, seed=2), 60)) != told(whole)
    for start in (1, 17, 59):
        assert told(first(mixture(sources), 60 - start, start)) == told(whole[start:])


def test_one_process_sees_what_several_see(sources: list[PairSource]) -> None:
    works = first(mixture(sources, micro_batches=4), 10)
    assert all(len(step) == 4 and len({(w.objective, w.source) for w in step}) == 1 for step in works)
    assert len({work.seed for step in works for work in step}) == 40


def test_objectives_come_by_weight_and_each_passes_over_each_set_once_before_it_repeats(
    sources: list[PairSource],
) -> None:
    works = [work for step in first(mixture(sources, micro_batches=1), 600) for work in step]
    counts = Counter((work.objective, work.source) for work in works)
    assert counts["mlm", 0] / 600 == pytest.approx(3 / 6, abs=0.07)
    assert counts["itm", 1] / 600 == pytest.approx(1 / 6, abs=0.07)
    rows = [row for work in works if work.objective == "mlm" for row in work.rows.tolist()]
    assert sorted(rows[: len(sources[0])]) == list(range(len(sources[0])))
    assert rows[: len(sources[0])] != rows[len(sources[0]) : 2 * len(sources[0])]


def test_mismatched_pictures_are_other_pictures_about_half_the_time_and_new_each_pass(
    sources: list[PairSource],
) -> None:
    drawn = [sources[0].pictures(seed=seed, mismatch=0.5) for seed in range(40)]
    other = np.mean([(images != sources[0].image_of).mean() for images in drawn])
    assert other == pytest.approx(0.5, abs=0.04)
    assert not np.array_equal(drawn[0], drawn[1])
    assert all(images.min() >= 0 and images.max() < len(sources[0].image_ids) for images in drawn)
    assert np.array_equal(sources[0].pictures(seed=3, mismatch=0.0), sources[0].image_of)
    assert (sources[0].pictures(seed=3, mismatch=1.0) != sources[0].image_of).all()


def test_a_batch_holds_the_pairs_of_the_plan(sources: list[PairSource]) -> None:
    plan = mixture(sources)
    work = next(work for step in first(plan, 40) for work in step if work.objective == "itm")
    batch = plan.load(work)
    source = sources[work.source]
    assert batch.ids == tuple(source.ids[row] for row in work.rows)
    assert batch.targets["match"].tolist() == (source.image_of[work.rows] == work.images).astype(int).tolist()
    for row, (name, image) in enumerate(zip(batch.ids, work.images, strict=True)):
        example, regions = source.examples.get(name), source.features.get(source.image_ids[image])
        assert batch.input_ids[row][batch.text_mask[row]].tolist() == [2, *example.tokens[0].ids, 3]
        kept = batch.region_mask[row]
        np.testing.assert_array_equal(batch.regions[row][kept].numpy(), regions.features.astype(np.float32))
        assert regions.class_probs is not None
        np.testing.assert_allclose(batch.targets["class_probs"][row][kept].numpy(), regions.class_probs)
    real, padded = plan.tokens(work)
    assert real == int(batch.text_mask.sum() + batch.region_mask.sum())
    assert real <= padded == len(batch.ids) * int((batch.text_mask.sum(1) + batch.region_mask.sum(1)).max()) <= 60


def test_the_official_rule_counts_no_special_tokens_and_drops_what_is_not_full(sources: list[PairSource]) -> None:
    share = SHARES[0]
    official, full = (mixture(sources, official=rule).epoch(share, 0) for rule in (True, False))
    assert sum(len(work.rows) for work in full) == len(sources[0])
    assert sum(len(work.rows) for work in official) < len(sources[0])
    few = Mixture(
        sources, SHARES, buckets=TokenBuckets(max_tokens=9000, official=True, drop_last=True), micro_batches=1, seed=0
    )
    with pytest.raises(DataError, match="60 pairs do not fill one batch; use --batching full"):
        few.epoch(share, 0)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["mlm=x"], "'mlm=x' is not NAME=WEIGHT; write e.g. mlm=2 or coco:itm=6"),
        (["=2"], "'=2' is not NAME=WEIGHT"),
        (["mlm=-1"], "'mlm=-1' is not NAME=WEIGHT"),
        (["coca:mlm=2"], "no set 'coca'; did you mean coco?"),
        (["mlm=0", "coco:itm=0"], "an empty mixture: no objective has a weight"),
        ([], "an empty mixture"),
    ],
)
def test_shares_that_cannot_be_read(texts: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shares(texts, ["coco", "vg"])
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("--objective: ")


def test_a_share_of_one_set_replaces_that_of_all() -> None:
    shares = parse_shares(["mlm=2", "itm", "vg:mlm=5", "coco:itm=0"], ["coco", "vg"])
    assert [(s.source, s.objective, s.weight) for s in shares] == [(0, "mlm", 2), (1, "mlm", 5), (1, "itm", 1)]


def test_what_must_not_be_seen_is_left_out(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    names = ["COCO_train2014_000000000001", "COCO_train2014_000000000002", "1000092795", "000000007"]
    examples = write_examples(tmp_path / "e", [caption(f"{name}#0", name, dice) for name in names])
    features = write_features(tmp_path / "f", [picture(name, dice) for name in names])
    (tmp_path / "list.txt").write_text("# images of a test set\nCOCO_val2014_000000000002.jpg\n\n")
    (tmp_path / "addresses.txt").write_text("http://farm2.staticflickr.com/1080/1000092795_0a1b2c3d4e_z.jpg\n")
    excluded = Exclusion.of([tmp_path / "list.txt", tmp_path / "addresses.txt"])
    source = open_pairs((examples, features), excluded=excluded)
    assert list(source.image_ids) == ["COCO_train2014_000000000001", "000000007"]
    assert source.excluded == 2
    with pytest.raises(DataError, match=r"no pair is left of 4 \(0 too long, 4 excluded\)"):
        open_pairs((examples, features), excluded=Exclusion.of(stores=[examples]))
    with pytest.raises(DataError, match=r"missing\.txt: cannot be read"):
        Exclusion.of([tmp_path / "missing.txt"])


def test_an_empty_list_leaves_out_nothing() -> None:
    assert "1" not in Exclusion()
    assert "a/b/7.jpg" in Exclusion(["7"])
    assert "8.jpg" not in Exclusion(["7"])


def test_missing_features_unprepared_texts_and_long_ones(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    examples, features = write_pairs(tmp_path, images=4)
    more = write_examples(
        tmp_path / "more.lmdb",
        [*ExampleStore.open(examples), caption("x", "gone-1", dice), caption("y", "gone-2", dice)],
    )
    with pytest.raises(DataError, match=r"set: 2 of 6 images have no features \(gone-1, gone-2\); extract them"):
        open_pairs((more, features))
    raw = write_examples(tmp_path / "raw.lmdb", [Example(id="1", image_ids=("train-0",), texts=("a",))])
    with pytest.raises(DataError, match="example 1 has no word pieces; prepare with --tokenizer"):
        open_pairs((raw, features))
    bare = write_examples(tmp_path / "bare.lmdb", list(ExampleStore.open(examples)), tokenizer=None)
    with pytest.raises(DataError, match=r"names no \[CLS\] and \[SEP\]"):
        open_pairs((bare, features))
    short = open_pairs((examples, features), max_text_length=3)
    assert short.text_lengths.max() <= 3
    assert short.too_long == 12 - len(short) > 0


def test_a_feature_that_is_no_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_pairs(write_pairs(tmp_path, images=3))
    spoilt = replace(source.features.get("train-1"))
    features = spoilt.features.copy()
    features[-1, 2] = np.nan
    object.__setattr__(spoilt, "features", features)
    healthy = source.features.get
    monkeypatch.setattr(source.features, "get", lambda name: spoilt if name == "train-1" else healthy(name))
    source.batch([0], [0])
    with pytest.raises(DataError, match=rf"set: row {len(spoilt) - 1} of image train-1 is not finite"):
        source.batch([0, 1], [0, 1])


def vcr_example(number: int = 0, **changes: object) -> Example:
    tokens = tuple(Tokens(ids=(10 + i,) * (1 + i % 3), words=tuple(range(1 + i % 3))) for i in range(9))
    texts = tuple(" ".join("w" * len(part.ids)) for part in tokens)
    target = ChoiceTarget(answer=2, rationale=1)
    values = {"id": f"q{number}", "image_ids": ("7",), "texts": texts, "tokens": tokens, "target": target}
    return Example(**values | changes)  # type: ignore[arg-type]


def test_the_second_stage_reads_question_answer_and_rationale_of_vcr(tmp_path: Path) -> None:
    features = write_features(tmp_path / "f", [picture("7", np.random.default_rng(0))])
    source = open_pairs((write_examples(tmp_path / "e", [vcr_example()]), features), layout="vcr")
    batch = source.batch([0], [0])
    question, answer, rationale = (10,), (13,), (16,)
    assert batch.input_ids.tolist() == [[2, *question, 3, *answer, 3, *rationale, 3]]
    assert batch.text_types is not None
    assert batch.text_types.tolist() == [[0, 0, 0, 2, 2, 3, 3]]
    assert source.special_count == 4
    unlabelled = write_examples(tmp_path / "t", [vcr_example(target=None)])
    with pytest.raises(DataError, match="example q0 has no right answer and rationale among its 9 texts"):
        open_pairs((unlabelled, features), layout="vcr")


def test_regions_of_several_stores_stand_one_after_the_other(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    given_boxes, detected = picture("7", dice, classes=0), picture("7", dice)
    stores = [FeatureStore.open(write_features(tmp_path / n, [p])) for n, p in (("a", given_boxes), ("b", detected))]
    joined = JoinedFeatures(stores)
    found = joined.get("7")
    np.testing.assert_array_equal(found.features, np.concatenate([given_boxes.features, detected.features]))
    assert found.class_probs is None
    assert joined.region_count("7") == len(found) == len(found.location())
    assert "7" in joined
    assert "8" not in joined
    wide = FeatureStore.open(write_features(tmp_path / "c", [picture("7", dice, width=9)]))
    with pytest.raises(DataError, match="image 7: features of sizes 6 and 9; describe all boxes with one detector"):
        JoinedFeatures([stores[0], wide]).get("7")


@given(st.lists(st.text(max_size=6)))
def test_names_are_what_was_given(texts: list[str]) -> None:
    names = Names(texts)
    assert list(names) == texts
    assert len(names) == len(texts)
    with pytest.raises(IndexError, match=str(len(texts))):
        names[len(texts)]


def test_a_source_survives_pickling_into_a_worker(sources: list[PairSource]) -> None:
    plan = mixture(sources)
    works = [work for step in first(plan, 6) for work in step]
    loader = torch.utils.data.DataLoader(
        _Loading(plan), batch_size=None, sampler=works, num_workers=1, multiprocessing_context="spawn"
    )
    for work, batch in zip(works, loader, strict=True):
        assert torch.equal(batch.regions, plan.load(work).regions)


class _Loading(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, plan: Mixture) -> None:
        self.plan = plan

    def __getitem__(self, work: Work) -> object:
        return self.plan.load(work)


def test_the_tokenizer_of_the_stores_is_kept(sources: list[PairSource]) -> None:
    assert sources[0].examples.metadata.tokenizer == TOKENIZER
