"""IAIS against loops over the paper's equations, and what must not change it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vltk.batching import SpecialTokens
from vltk.config.relations import IAISConfig
from vltk.errors import UsageError
from vltk.models.uniter import UNITERConfig
from vltk.objectives.relations import IAIS, annealed, build_iais, words_of
from vltk.types import Batch

TEXT = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 1, 0, 0, 0, 0]]).bool()
REGIONS = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
EVERY = [(a, f) for a in ("singular", "distributed") for f in ("official", "paper")]


def scores(seed: int = 3, heads: int = 2) -> Tensor:
    mask = torch.cat([TEXT, REGIONS], dim=1)
    drawn = torch.randn(3, heads, 10, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    return drawn.float().masked_fill(~mask[:, None, None, :], -torch.inf)


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def product(a: list[list[float]], b: list[list[float]]) -> list[list[float]]:
    return [[sum(x * y for x, y in zip(row, column, strict=True)) for column in zip(*b, strict=True)] for row in a]


def kl(p: list[list[float]], q: list[list[float]], eps: float = 0.0) -> float:
    pairs = ((x, y) for row, other in zip(p, q, strict=True) for x, y in zip(row, other, strict=True))
    return sum(x * (math.log(x) - math.log(y + eps)) for x, y in pairs)


def blocks(given: Tensor, row: int, head: int) -> dict[str, list[list[float]]]:
    """The four blocks of one pair and head, without padding and special tokens (equation 6)."""
    places = {"L": torch.nonzero(TEXT[row])[:, 0], "V": 6 + torch.nonzero(REGIONS[row])[:, 0]}
    return {a + b: given[row, head][places[a]][:, places[b]].tolist() for a in "LV" for b in "LV"}


def by_equation(parts: dict[str, list[list[float]]], alignment: str, anchor: str) -> float:
    """Equations 10 to 13 for one anchor, of raw scores."""
    other = "V" if anchor == "L" else "L"
    relation = [softmax(row) for row in parts[anchor + anchor]]
    cross, back = parts[anchor + other], parts[other + anchor]
    if alignment == "singular":
        found = [row.index(max(row)) for row in cross]
        mirror = [softmax([parts[other + other][i][j] for j in found]) for i in found]
    else:
        mirror = product([softmax(row) for row in cross], [softmax(row) for row in back])
    return kl(relation, mirror) + kl(mirror, relation)


def as_published(heads: list[dict[str, list[list[float]]]], alignment: str, anchor: str) -> float:
    """What the authors' code computes for one anchor: heads first, a second softmax, epsilons, a mean over rows."""
    other = "V" if anchor == "L" else "L"

    def mean(name: str) -> list[list[float]]:
        each = [[softmax(row) for row in parts[name]] for parts in heads]
        return [[sum(cells) / len(heads) for cells in zip(*rows, strict=True)] for rows in zip(*each, strict=True)]

    relation, eps = mean(anchor + anchor), 0.0
    if alignment == "singular":
        found = [row.index(max(row)) for row in mean(anchor + other)]
        mirror = [softmax([mean(other + other)[i][j] for j in found]) for i in found]
    else:
        mirror, eps = product(mean(anchor + other), mean(other + anchor)), 1e-6
    return (kl(mirror, relation, eps) + kl(relation, mirror, eps)) / len(relation)


@pytest.mark.parametrize("anchor", ["L", "V"])
@pytest.mark.parametrize(("alignment", "form"), EVERY)
def test_every_form_is_its_loop(alignment: str, form: str, anchor: str) -> None:
    given = scores()
    found = IAIS(alignment=alignment, form=form, anchors=(anchor,)).losses(given, TEXT, REGIONS)
    heads = [[blocks(given, row, head) for head in range(2)] for row in range(3)]
    if form == "official":
        expected = [as_published(parts, alignment, anchor) for parts in heads]
    else:
        expected = [sum(by_equation(one, alignment, anchor) for one in parts) / 2 for parts in heads]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("alignment", "form"), EVERY)
def test_the_anchors_add_up(alignment: str, form: str) -> None:
    both = IAIS(alignment=alignment, form=form)
    parts = [both.losses(scores(), TEXT, REGIONS, anchors=(anchor,)) for anchor in ("L", "V")]
    torch.testing.assert_close(both.losses(scores(), TEXT, REGIONS), parts[0] + parts[1])


@pytest.mark.parametrize(("alignment", "form"), EVERY)
def test_padding_and_special_tokens_change_nothing(alignment: str, form: str) -> None:
    loss = IAIS(alignment=alignment, form=form)
    noisy = scores().masked_fill(~torch.cat([TEXT, REGIONS], 1)[:, None, None, :], 7.0)
    torch.testing.assert_close(loss.losses(noisy, TEXT, REGIONS), loss.losses(scores(), TEXT, REGIONS))
    short = torch.cat([scores()[:1, :, :, :5], scores()[:1, :, :, 6:]], 3)
    short = torch.cat([short[:, :, :5], short[:, :, 6:]], 2)
    torch.testing.assert_close(loss.losses(short, TEXT[:1, :5], REGIONS[:1]), loss.losses(scores(), TEXT, REGIONS)[:1])


@pytest.mark.parametrize(("alignment", "form"), EVERY)
def test_gradients_are_finite_and_none_reach_padding(alignment: str, form: str) -> None:
    given = scores().requires_grad_()
    IAIS(alignment=alignment, form=form).losses(given, TEXT, REGIONS).sum().backward()
    used = torch.cat([TEXT, REGIONS], 1)
    pairs = used[:, None, :, None] & used[:, None, None, :]
    assert given.grad.isfinite().all()
    assert given.grad.masked_fill(pairs, 0).abs().max() == 0
    assert all(given.grad[row].abs().max() > 0 for row in range(2))


@pytest.mark.parametrize(("alignment", "form"), EVERY)
def test_attention_so_sharp_that_it_underflows_stays_finite(alignment: str, form: str) -> None:
    """The published singular loss takes the bare logarithm of a probability and becomes infinite there."""
    given = (scores() * 200).requires_grad_()
    losses = IAIS(alignment=alignment, form=form).losses(given, TEXT, REGIONS)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert given.grad.isfinite().all()


def test_a_pair_without_words_has_no_loss() -> None:
    text = TEXT.clone()
    text[1] = False
    losses = IAIS(anchors=("L",)).losses(scores(), text, REGIONS)
    assert losses[1] == 0
    assert losses[0] > 0


def test_minimising_it_aligns_the_relations() -> None:
    given = scores().masked_fill(scores() == -torch.inf, 0).requires_grad_()
    loss = IAIS(alignment="distributed", form="paper")
    optimizer = torch.optim.Adam([given], lr=0.1)
    before = float(loss.losses(given, TEXT, REGIONS).sum().detach())
    for _ in range(60):
        optimizer.zero_grad()
        total = loss.losses(given, TEXT, REGIONS).sum()
        total.backward()
        optimizer.step()
    assert float(total.detach()) < 0.1 * before


def test_scores_of_another_batch_are_refused() -> None:
    with pytest.raises(UsageError, match=r"attention scores \[3, 2, 10, 10\] instead of \[3, heads, 9, 9\]"):
        IAIS().losses(scores(), TEXT[:, :5], REGIONS)
    with pytest.raises(UsageError, match="without words or regions"):
        IAIS().losses(scores()[:, :, :6, :6], TEXT, REGIONS[:, :0])


def test_the_published_halves_take_one_anchor_each_and_the_paper_both() -> None:
    assert [IAIS().anchors_of(half) for half in ("text", "image", None)] == [("L",), ("V",), ("L", "V")]
    assert [IAIS(form="paper").anchors_of(half) for half in ("text", "image")] == [("L", "V")] * 2
    assert [IAIS(anchors=("V",)).anchors_of(half) for half in ("text", "image")] == [(), ("V",)]


def test_the_weight_rises_to_its_end() -> None:
    for schedule in ("exp", "log", "linear"):
        loss = IAIS(annealing=schedule, gamma=10, scale=3.0)
        weights = [loss.weight(step, 20) for step in range(21)]
        assert weights == sorted(weights)
        assert math.isclose(weights[-1], 3.0, rel_tol=1e-4)
    assert IAIS(annealing="none", scale=0.5).weight(0, 20) == 0.5
    with pytest.raises(UsageError, match="no annealing 'cosine'"):
        annealed(0.5, schedule="cosine")


def test_options_make_it() -> None:
    assert build_iais(IAISConfig()) is None
    made = build_iais(IAISConfig(iais="distributed", iais_form="paper", iais_anchors="V", iais_layer=3))
    assert made == IAIS(alignment="distributed", form="paper", anchors=("V",), layer=3)
    with pytest.raises(UsageError, match="-1 is not positive"):
        IAISConfig(iais_gamma=-1)


@pytest.mark.parametrize("layer", [0, -1])
def test_any_layer_of_an_encoder_serves(layer: int) -> None:
    torch.manual_seed(0)
    encoder = UNITERConfig(vocabulary=20, hidden=16, layers=3, heads=2, intermediate=32, region_dim=5).build().eval()
    ids = torch.tensor([[2, 7, 8, 3, 0], [2, 9, 10, 11, 3]])
    batch = Batch(
        ids=("a", "b"),
        input_ids=ids,
        text_mask=ids != 0,
        regions=torch.randn(2, 3, 5),
        locations=torch.rand(2, 3, 7),
        region_mask=torch.tensor([[1, 1, 1], [1, 1, 0]]).bool(),
    )
    words = words_of(batch, SpecialTokens(start=2, separator=3))
    assert words.tolist() == [[False, True, True, False, False], [False, True, True, True, False]]
    (found,) = encoder(batch, attention_scores=[layer]).attention_scores.values()
    losses = IAIS(layer=layer).losses(found, words, batch.region_mask)
    losses.sum().backward()
    trained = encoder.layers[layer].attention.qkv.weight.grad
    assert losses.shape == (2,)
    assert trained.abs().sum() > 0
    later = encoder.layers[2].output_norm.weight.grad
    assert later is None, "nothing behind the scores takes part"
