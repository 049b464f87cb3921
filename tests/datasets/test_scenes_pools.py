"""Retrieval pools: every caption true of exactly one scene, families one edit apart, chance and bounds exact."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from vltk.datasets.scenes import (
    ATTRIBUTES,
    FAMILY,
    Caption,
    CaptionSearch,
    Dice,
    Pool,
    Scene,
    SceneConfig,
    families,
    hard_pool,
    is_true,
    judge,
    minimal_pairs,
    random_pool,
    scene,
    understand,
    unique_captions,
    variants,
)
from vltk.errors import DataError, UsageError


@pytest.fixture(scope="module")
def easy() -> Pool:
    return random_pool(40, captions=3, seed=5)


@pytest.fixture(scope="module")
def hard() -> Pool:
    return hard_pool(10, captions=2, seed=5)


def check_captions(pool: Pool, count: int) -> None:
    for owner, own in enumerate(pool.captions):
        assert len({told.text for told in own}) == count
        for told in own:
            verdicts = [judge(told.meaning, drawn) for drawn in pool.scenes]
            assert [i for i, verdict in enumerate(verdicts) if verdict is not False] == [owner]
            assert verdicts[owner] is True
            assert understand(told.text).meaning == told.meaning


def differences(a: Scene, b: Scene) -> list[tuple[int, str]]:
    """Where two scenes of the same objects differ: attributes by name, places as "place"."""
    found = []
    for index, (one, other) in enumerate(zip(a.objects, b.objects, strict=True)):
        found += [(index, name) for name in ATTRIBUTES if one.attribute(name) != other.attribute(name)]
        if (one.x, one.y) != (other.x, other.y):
            found.append((index, "place"))
    return found


def test_random_pools_are_well_posed(easy: Pool) -> None:
    assert len(easy.scenes) == 40
    assert set(easy.edits) == {""}
    assert easy.families == tuple(range(40))
    check_captions(easy, 3)


def test_hard_pools_are_well_posed(hard: Pool) -> None:
    assert len(hard.scenes) == 10 * FAMILY
    check_captions(hard, 2)
    assert hard.family_chance() == 1 / FAMILY


def test_families_differ_by_exactly_one_edit(hard: Pool) -> None:
    for family in range(10):
        members = [i for i, own in enumerate(hard.families) if own == family]
        base, edited = hard.scenes[members[0]], members[1:]
        assert hard.edits[members[0]] == ""
        focus = []
        for i in edited:
            changed = differences(base, hard.scenes[i])
            if hard.edits[i] == "places":
                (a, first), (b, second) = changed
                assert (first, second) == ("place", "place")
                one, other = base.objects[a], base.objects[b]
                assert (hard.scenes[i].objects[a].x, hard.scenes[i].objects[b].x) == (other.x, one.x)
                focus.append({a, b})
            else:
                assert [name for _, name in changed] == [hard.edits[i]]
                focus.append({changed[0][0]})
        assert sum(hard.edits[i] == "places" for i in edited) == 1
        assert len({hard.edits[i] for i in edited}) == FAMILY - 1
        assert set.intersection(*focus), "all edits of a family touch one object"


def test_families_for_training_tell_their_members_apart_and_begin_with_fewer() -> None:
    bases = [scene(5, index) for index in range(60)]
    made = families(6, bases, captions=2, seed=5)
    assert families(3, bases, captions=2, seed=5) == made[:3]
    for family in made:
        assert family.scenes[0] in bases
        assert family.edits[0] == ""
        assert family.edits[-1] == "places"
        for own, drawn in zip(family.captions, family.scenes, strict=True):
            for told in own:
                verdicts = [judge(told.meaning, other) for other in family.scenes]
                assert [other is drawn for other in family.scenes] == [verdict is True for verdict in verdicts]
                assert all(verdict is not None for verdict in verdicts)


def test_more_families_than_the_scenes_allow_are_refused() -> None:
    with pytest.raises(DataError, match="scenes: scenes for 4 families were not found; allow more objects"):
        families(4, [scene(5, index) for index in range(3)], seed=5)


def test_pools_are_a_pure_function(easy: Pool, hard: Pool) -> None:
    assert random_pool(40, captions=3, seed=5) == easy
    assert hard_pool(10, captions=2, seed=5) == hard
    assert random_pool(40, captions=3, seed=6) != easy
    assert random_pool(5, start=100, seed=5).scenes[0].index >= 100


def test_pools_may_speak_in_held_out_templates() -> None:
    pool = hard_pool(3, captions=2, seed=9, held_out=True, config=SceneConfig(min_objects=3))
    templates = {told.sentence.template for own in pool.captions for told in own}
    assert templates <= {"see-pair", "inverted", "exists-relative", "subject-relative"}
    assert all(len(drawn.objects) >= 3 for drawn in pool.scenes)


def test_variants_stay_valid_scenes() -> None:
    kinds = set()
    for index in range(60):
        base = scene(6, index)
        for variant in variants(base, index % len(base.objects), Dice(index)):
            kinds.add(variant.edit)
            assert all(min(o.box) >= 0 and max(o.box) <= base.size for o in variant.scene.objects)
            assert {i for i, _ in differences(base, variant.scene)} == set(variant.objects)
            for a, b in itertools.combinations(range(len(base.objects)), 2):
                one, other = variant.scene.objects[a].box, variant.scene.objects[b].box
                apart = max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3])
                pairs = ((a, b), (b, a))
                assert apart > 0 or any(variant.scene.relation(n, *p) for n in ("on", "inside") for p in pairs)
            for thing, before in zip(variant.scene.objects, base.objects, strict=True):
                assert (thing.radius >= 16) == (thing.size == "large")
                assert thing.size != before.size or thing.radius == before.radius
    assert kinds == {"places", *ATTRIBUTES}


def test_minimal_pairs_are_decided_by_the_edit() -> None:
    pairs = minimal_pairs(40, seed=2)
    assert len(pairs) == 40
    assert {pair.second.edit for pair in pairs} == {"places", *ATTRIBUTES}
    for pair in pairs:
        first, second = pair.first, pair.second.scene
        verdicts = [[judge(c.meaning, s) for s in (first, second)] for c in (pair.first_caption, pair.second_caption)]
        assert verdicts == [[True, False], [False, True]]
        assert {i for i, _ in differences(first, second)} == set(pair.second.objects)


def test_the_bound_of_a_well_posed_pool_is_one(easy: Pool, hard: Pool) -> None:
    for pool in (easy, hard):
        for at in (1, 5):
            assert pool.bound(at) == {"text_to_image": 1.0, "image_to_text": 1.0}


def test_the_bound_of_an_ill_posed_pool_counts_the_true_scenes(easy: Pool) -> None:
    texts = ("you can see a star", "you can see a ring")
    captions = tuple((Caption(sentence=understand(texts[i % 2]), objects=(0,)),) for i in range(len(easy.scenes)))
    pool = replace(easy, captions=captions)
    true = [[is_true(own[0].meaning, drawn) for drawn in pool.scenes] for own in captions]
    for at in (1, 5):
        expected = sum(min(1, at / sum(row)) if row[i] else 0 for i, row in enumerate(true)) / len(true)
        assert pool.bound(at)["text_to_image"] == pytest.approx(expected)
    # Half of the captions say one thing: a reader of pictures cannot tell which of them is its own.
    counts = [sum(row[i] for row in true) for i in range(len(true))]
    expected = sum(1 / count if true[i][i] else 0 for i, count in enumerate(counts)) / len(counts)
    assert pool.bound(1)["image_to_text"] == pytest.approx(expected)


def test_chance_is_what_a_blind_reader_gets(hard: Pool) -> None:
    dice, total = Dice("blind"), len(hard.scenes)
    owners = [i for i, own in enumerate(hard.captions) for _ in own]
    for at in (1, 5, 10):
        hits = sum(0 in [owners[k] for k in dice.shuffled(range(len(owners)))[:at]] for _ in range(4000))
        assert hard.chance(at)["image_to_text"] == pytest.approx(hits / 4000, abs=0.03)
        assert hard.chance(at)["text_to_image"] == at / total
    assert hard.chance(10_000) == {"text_to_image": 1.0, "image_to_text": 1.0}


def test_a_scene_without_a_telling_caption_is_reported() -> None:
    twin = scene(3, 4)
    assert unique_captions([twin, replace(twin, index=5)], 0, 1) is None
    assert CaptionSearch([twin]).find(0, 3) is not None


def test_empty_pools_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^scenes: a pool needs two scenes or more; ask for more$"):
        random_pool(1)
    with pytest.raises(UsageError, match=r"^scenes: 0 captions a scene; ask for one or more$"):
        hard_pool(2, captions=0)


def test_pools_that_no_scene_can_fill_are_reported() -> None:
    lone = SceneConfig(min_objects=1, max_objects=1)
    with pytest.raises(DataError, match=r"^scenes: scenes for 2 families were not found; allow more objects"):
        hard_pool(2, config=lone)
    with pytest.raises(DataError, match=r"^scenes: scenes for 3 minimal pairs were not found; allow more objects"):
        minimal_pairs(3, config=lone, held_out=True)
    with pytest.raises(DataError, match=r"^scenes: scenes for a pool of 3 with 40 captions each were not found; "):
        random_pool(3, captions=40, config=lone)
