"""VSRN: what must not change an embedding, its parts against loops from the equations, and its options."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.test_vse import batch
from vltk.errors import UsageError
from vltk.models._caption_branch import CaptionBranch
from vltk.models._reasoning import RelationLayer, norm_of_regions, over_regions
from vltk.models.vsrn import VSRN, VSRNConfig
from vltk.objectives.generation import caption_targets

SMALL = VSRNConfig(
    hidden=8,
    region_dim=6,
    vocabulary=30,
    word_dim=5,
    relation_layers=2,
    caption_hidden=6,
    caption_word_dim=4,
    caption_length=7,
    caption_dropout=0.0,
)


def build(config: VSRNConfig = SMALL, *, seed: int = 7) -> VSRN:
    torch.manual_seed(seed)
    model = config.build().eval()
    for layer in model.image.relations.values():  # fresh layers are the identity
        torch.nn.init.uniform_(layer.norm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(layer.norm.running_var, 0.5, 1.5)
        torch.nn.init.normal_(layer.norm.running_mean)
    return model


@pytest.mark.parametrize(
    "changed",
    [{}, {"memory": "mean"}, {"norm_before": False, "batch_norm": True}, {"norm_after": False, "relation_layers": 0}],
    ids=["gru", "mean", "flickr30k", "plain"],
)
def test_padding_and_neighbours_change_no_embedding(changed: dict[str, Any]) -> None:
    model, narrow, wide = build(replace(SMALL, **changed)), batch(), batch(extra=3)
    with torch.no_grad():
        for embed in (model.embed_images, model.embed_texts):
            together = embed(narrow)
            torch.testing.assert_close(embed(wide), together, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(together.norm(dim=1), torch.ones(4), rtol=0, atol=1e-5)
            torch.testing.assert_close(embed(batch(count=1)), together[:1], rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing_in_training_either() -> None:
    narrow, wide = batch(), batch(extra=3)
    found = []
    for one in (narrow, wide):
        model = build().train()
        embedded, regions = model.represent(one)
        made = caption_targets(one.input_ids, one.text_mask, longest=7)
        loss = embedded.square().sum() + model.captions.losses(regions, one.region_mask, *made).sum()
        loss.backward()
        found.append((embedded, model.image.project.weight.grad, model.image.relations["1"].norm.running_var))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_memory_reads_in_an_order_and_the_mean_in_none() -> None:
    one = batch()
    order = torch.tensor([0, 1, 2, 4, 3])
    full = replace(one, region_mask=torch.ones(4, 5, dtype=torch.bool), regions=torch.rand(4, 5, 6))
    moved = replace(full, regions=full.regions[:, order])
    with torch.no_grad():
        mean = build(replace(SMALL, memory="mean"))
        torch.testing.assert_close(mean.embed_images(moved), mean.embed_images(full), rtol=1e-4, atol=1e-5)
        reader = build()
        assert not torch.allclose(reader.embed_images(moved), reader.embed_images(full), atol=1e-3)


def plain_layer(layer: RelationLayer, regions: Tensor) -> Tensor:
    """Equations 2 and 3, region by region, for one picture of [R, H]."""
    norm = layer.norm
    found = []
    for one in regions:
        message = torch.zeros(layer.value.out_features)
        for other in regions:
            relation = layer.query(one) @ layer.key(other) / len(regions)
            message = message + relation * layer.value(other)
        update = (layer.output(message) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        found.append(update * norm.weight + norm.bias + one)
    return torch.stack(found)


@pytest.mark.parametrize(("inner", "folds"), [(8, True), (3, False)])
def test_a_relation_layer_is_its_equation(inner: int, folds: bool) -> None:
    torch.manual_seed(0)
    layer = RelationLayer(8, inner).eval()
    torch.nn.init.uniform_(layer.norm.weight)
    states = torch.randn(3, 4, 8)
    mask = torch.arange(4) < torch.tensor([4, 1, 3]).unsqueeze(1)
    assert layer.folds(mask.numel()) == folds
    with torch.no_grad():
        found = layer(states, mask)
        for row, count in enumerate(mask.sum(dim=1).tolist()):
            expected = plain_layer(layer, states[row, :count])
            torch.testing.assert_close(found[row, :count], expected, rtol=1e-4, atol=1e-5)
            assert not found[row, count:].any()


def test_both_ways_to_multiply_have_the_same_gradients() -> None:
    torch.manual_seed(0)
    states, mask, found = torch.randn(2, 5, 6).double(), torch.ones(2, 5, dtype=torch.bool), []
    weights = RelationLayer(6).state_dict()
    for folds in (True, False):
        layer = RelationLayer(6).train().double()
        layer.load_state_dict(weights)
        torch.nn.init.ones_(layer.norm.weight)
        layer.folds = lambda regions, folds=folds: folds
        layer(states, mask).square().sum().backward()
        found.append([parameter.grad for parameter in layer.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_a_channel_without_anything_stays_zero() -> None:
    states = torch.tensor([[[0.0, 3.0], [0.0, 4.0]]], requires_grad=True)
    found = over_regions(states, torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.6], [0.0, 0.8]]]))
    found.sum().backward()
    assert torch.isfinite(states.grad).all()


def test_statistics_are_those_of_regions_alone() -> None:
    norm = torch.nn.BatchNorm1d(3, affine=False)
    states, mask = torch.randn(2, 3, 3), torch.tensor([[True, True, False], [True, False, False]])
    found = norm_of_regions(norm, states, mask)
    torch.testing.assert_close(found[mask].mean(dim=0), torch.zeros(3), rtol=0, atol=1e-5)
    assert not found[~mask].any()


def plain_caption(branch: CaptionBranch, regions: Tensor, words: list[int], targets: list[int]) -> float:
    """The published loop for one picture: every region joined anew with the decoder's state at each step."""
    states, hidden = branch.reader(branch.project(regions).unsqueeze(0))
    hidden, total = torch.cat(tuple(hidden), dim=-1), 0.0
    for word, target in zip(words, targets, strict=True):
        joined = torch.cat([states, hidden.unsqueeze(1).expand(-1, states.shape[1], -1)], dim=2)
        weights = branch.energy(torch.tanh(branch.attend(joined))).softmax(dim=1)
        context = (weights * states).sum(dim=1)
        fed = torch.cat([branch.word.weight[word].unsqueeze(0), context], dim=1)
        hidden = branch.decoder(fed, hidden)
        total -= float(branch.out(hidden[0]).log_softmax(dim=-1)[target])
    return total


@pytest.mark.parametrize("bidirectional", [False, True])
def test_captions_cost_what_the_published_loop_says(bidirectional: bool) -> None:
    model, one = build(replace(SMALL, caption_bidirectional=bidirectional)), batch()
    with torch.no_grad():
        _, regions = model.represent(one)
        made = caption_targets(one.input_ids, one.text_mask, longest=7)
        found = model.captions.losses(regions, one.region_mask, *made)
        for row, count in enumerate(made.counts.tolist()):
            own = regions[row][one.region_mask[row]]
            words, targets = made.words[row, :count].tolist(), made.targets[row, :count].tolist()
            assert float(found[row]) == pytest.approx(plain_caption(model.captions, own, words, targets), rel=1e-4)


def test_a_caption_is_the_likeliest_word_after_the_likeliest() -> None:
    model, one = build(), batch()
    ids, scores = model.generate(one, start=2)
    assert ids.shape == scores.shape == (4, SMALL.caption_length - 2)
    with torch.no_grad():
        _, regions = model.represent(one)
        words = torch.cat([torch.full((4, 1), 2), ids[:, :-1]], dim=1)
        cost = model.captions.losses(regions, one.region_mask, words, ids, torch.full((4,), ids.shape[1]))
    torch.testing.assert_close(-scores.sum(dim=1), cost, rtol=1e-4, atol=1e-4)


def test_a_model_without_the_branch_has_no_captions() -> None:
    model = build(replace(SMALL, generation=False))
    assert model.captions is None
    with pytest.raises(UsageError, match=r"generates no captions.*--generation"):
        model.generate(batch())


def test_regions_that_the_embedding_speaks_of() -> None:
    model, one = build(), batch()
    with torch.no_grad():
        embedded, regions = model.represent(one)
        found = model.region_correlations(one)
        assert float(found[0, 1]) == pytest.approx(float(embedded[0] @ regions[0, 1]), rel=1e-5)


def test_the_groups_tell_the_caption_branch_apart() -> None:
    model = build()
    groups = model.parameter_groups(weight_decay=0.1)
    assert [group["repeats"] for group in groups] == [1, 1]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    official = build(replace(SMALL, caption_updates="official")).parameter_groups()
    assert [group["repeats"] for group in official] == [1, 2]
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in model.captions.parameters()}
    assert len(build(replace(SMALL, generation=False)).parameter_groups()) == 1


def test_fresh_relation_layers_change_nothing() -> None:
    torch.manual_seed(0)
    model, one = replace(SMALL, norm_after=False, memory="mean").build().eval(), batch()
    with torch.no_grad():
        _, regions = model.represent(one)
        expected = model.image.projected(one).masked_fill(~one.region_mask.unsqueeze(-1), 0)
        assert torch.equal(regions, expected)
    vectors = model.text.word.weight.detach()
    assert float(vectors.abs().max()) <= 0.1
    assert float(model.image.project.weight.detach().abs().max()) <= math.sqrt(6 / (6 + 8))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"relation_layers": -1}, r"--relation-layers: -1 is too few"),
        ({"gru_layers": 0}, r"--gru-layers: 0 is too few"),
        ({"caption_length": 2}, r"--caption-length: 2 is too few"),
    ],
)
def test_impossible_sizes_are_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        VSRNConfig(**values)
