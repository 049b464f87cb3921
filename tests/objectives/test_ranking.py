"""Ranking: hinges from the equation, mining against all scores, relations beside them, and where the head begins."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.models.test_uniter import TINY, batch
from vltk.batching import SpecialTokens
from vltk.errors import UsageError
from vltk.objectives.ranking import HARD, RANDOM, RELATION_WEIGHT, Ranking, ranking_hinges
from vltk.objectives.relations import IAIS, words_of
from vltk.types import Batch

SPECIAL = SpecialTokens(start=1, separator=2)


def made(**settings: object) -> Ranking:
    torch.manual_seed(0)
    ranking = Ranking(replace(TINY, dropout=0.0).build(), **settings)
    torch.nn.init.normal_(ranking.head.weight)  # scores that differ
    return ranking


SIDES = {"text": ("input_ids", "text_mask"), "image": ("regions", "locations", "region_mask")}


def one_sided(half: str) -> Batch:
    """One text beside six pictures, or six texts beside one picture; the shared side has no padding."""
    whole = batch(text=(6, 6, 2, 5, 4, 3), regions=(5, 2, 5, 3, 1, 4))
    return replace(whole, **{name: getattr(whole, name)[:1] for name in SIDES[half]})


def spread(pairs: Batch) -> Batch:
    """Repeat the shared side, for a model that knows pairs alone."""
    count = max(len(pairs.input_ids), len(pairs.regions))
    sides = {name: getattr(pairs, name) for names in SIDES.values() for name in names}
    return replace(pairs, **{name: side.expand(count, *side.shape[1:]) for name, side in sides.items()})


def scores_of(ranking: Ranking, pairs: Batch) -> Tensor:
    return ranking.match_scores(ranking.model(pairs).pooled)


def test_hinges_follow_the_equation() -> None:
    scores = torch.tensor([[1.0, 0.5, 3.0], [-2.0, -9.0, -2.0]])
    found = ranking_hinges(scores, margin=0.2)
    for row, group in enumerate(scores.tolist()):
        likely = [1 / (1 + math.exp(-value)) for value in group]
        for place, negative in enumerate(likely[1:]):
            assert found[row, place].item() == pytest.approx(max(0.0, 0.2 + negative - likely[0]), abs=1e-6)


@pytest.mark.parametrize("half", ["text", "image"])
def test_the_hardest_candidates_are_learnt_from(half: str) -> None:
    ranking, pairs = made(hard=2), one_sided(half)
    scores = scores_of(ranking, spread(pairs))
    hardest = scores[1:].sort(descending=True).values[:2]
    expected = (0.2 + hardest.sigmoid() - scores[0].sigmoid()).clamp(min=0)
    losses = ranking(HARD, pairs, torch.Generator())
    torch.testing.assert_close(losses.values.sum(), expected.mean())
    assert losses.count == (1 if half == "text" else 0)


@pytest.mark.parametrize("half", ["text", "image"])
def test_gradients_are_those_of_the_chosen_pairs_alone(half: str) -> None:
    ranking, pairs = made(hard=2), one_sided(half)
    ranking(HARD, pairs, torch.Generator()).values.sum().backward()
    found = {name: p.grad.clone() for name, p in ranking.named_parameters() if p.grad is not None}
    ranking.zero_grad()
    scores = scores_of(ranking, spread(pairs))
    hardest = scores[1:].topk(2).values
    (0.2 + hardest.sigmoid() - scores[0].sigmoid()).clamp(min=0).mean().backward()
    assert found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, ranking.get_parameter(name).grad, rtol=1e-3, atol=1e-6)


def test_mining_knows_no_dropout_and_leaves_training_as_it_was() -> None:
    torch.manual_seed(0)
    ranking = Ranking(replace(TINY, dropout=0.5).build(), hard=3).train()
    torch.nn.init.normal_(ranking.head.weight)
    pairs = one_sided("text")
    found = [ranking._mined(pairs, None).tolist() for _ in range(4)]
    assert found == [found[0]] * 4
    assert all(part.training for part in ranking.modules())
    assert ranking.eval()._mined(pairs, None).tolist() == found[0]
    assert not any(part.training for part in ranking.modules())


def test_mining_in_pieces_finds_what_mining_at_once_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    ranking, pairs = made(hard=3), one_sided("image")
    whole = set(ranking._mined(pairs, None).tolist())
    monkeypatch.setattr("vltk.objectives.ranking._MINED_AT_ONCE", 2)
    assert set(ranking._mined(pairs, None).tolist()) == whole


def test_fewer_candidates_than_asked_for_are_all_hard() -> None:
    ranking, pairs = made(hard=31), one_sided("text")
    assert len(ranking(HARD, pairs, torch.Generator()).values) == 5


def test_the_published_cut_changes_what_candidates_see_unless_the_longest_text_is_last() -> None:
    pairs = one_sided("image")
    order = torch.tensor([0, 2, 3, 4, 5, 1])
    longest_last = replace(pairs, input_ids=pairs.input_ids[order], text_mask=pairs.text_mask[order])
    for given, same in ((pairs, False), (longest_last, True)):
        found = [made(hard=5, gather=how)(HARD, given, torch.Generator()) for how in ("correct", "official")]
        correct, official = (losses.values.sum() for losses in found)
        assert torch.allclose(correct, official) == same


def test_random_groups_with_relations_are_a_mean_over_pairs() -> None:
    iais = IAIS(alignment="distributed")
    ranking = made(iais=iais, special=SPECIAL)
    pairs = batch(text=(4, 4, 3, 5, 5, 2), regions=(3, 2, 3, 4, 1, 4))
    weighed = replace(pairs, targets={"group": torch.tensor(3), RELATION_WEIGHT: torch.tensor(0.5)})
    losses = ranking(RANDOM, weighed, torch.Generator())
    output = ranking.model(pairs, attention_scores=[-1])
    (scores,) = output.attention_scores.values()
    relations = iais.losses(scores[::3], words_of(pairs, SPECIAL)[::3], pairs.region_mask[::3])
    hinges = ranking_hinges(ranking.match_scores(output.pooled).view(2, 3), margin=0.2)
    torch.testing.assert_close(losses.mean(), hinges.mean() + 0.5 * relations.mean())


@pytest.mark.parametrize(("half", "anchor"), [("text", "L"), ("image", "V")])
def test_each_half_aligns_its_own_anchor_on_the_matched_pair(half: str, anchor: str) -> None:
    iais = IAIS(alignment="singular")
    pairs = replace(one_sided(half), targets={RELATION_WEIGHT: torch.tensor(2.0)})
    ranking = made(hard=2, iais=iais, special=SPECIAL)
    plain = made(hard=2)(HARD, pairs, torch.Generator()).values.sum()
    first = spread(pairs)
    (scores,) = ranking.model(first, attention_scores=[-1]).attention_scores.values()
    words, regions = words_of(first, SPECIAL)[:1], first.region_mask[:1]
    expected = plain + 2 * iais.losses(scores[:1], words, regions, anchors=(anchor,)).sum()
    torch.testing.assert_close(ranking(HARD, pairs, torch.Generator()).values.sum(), expected)


def test_relations_need_the_special_tokens() -> None:
    with pytest.raises(UsageError, match="relations need to know the special tokens"):
        Ranking(TINY.build(), iais=IAIS())


def test_the_head_begins_with_a_head_or_with_matching_or_afresh() -> None:
    ranking, row = made(), torch.randn(2, TINY.hidden)
    matching = {"matching.weight": row, "matching.bias": torch.tensor([1.0, 2.0])}
    assert ranking.initialise_head(matching) == ["ranking head from image-text matching"]
    assert torch.equal(ranking.head.weight, row[1:])
    for name in ("head", "rank_output"):
        own = {f"{name}.weight": row[:1], f"{name}.bias": torch.zeros(1)}
        assert ranking.initialise_head(matching | own) == ["ranking head taken over"]
        assert torch.equal(ranking.head.weight, row[:1])
    assert ranking.initialise_head({"matching.weight": row[:, :3]}) == ["ranking head freshly initialised"]
