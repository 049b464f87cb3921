"""SSRP's losses against slow loops from their equations, and the two defects that they must not have."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.test_ssrp import TINY, pair_batch
from vltk.errors import DataError, UsageError
from vltk.models.ssrp import SSRPConfig, SSRPForPretraining
from vltk.models.uniter import UNITERConfig
from vltk.objectives.contrastive import cross_modality_losses, single_modality_losses
from vltk.objectives.masked import MRM
from vltk.objectives.probing import Probing, probe_losses
from vltk.types import Batch


def slow_distance(matrix: Tensor, first: Tensor, second: Tensor) -> float:
    mapped = matrix @ (first - second)
    return float(mapped @ mapped)


def slow_probe(matrix: Tensor, sentences: list[Tensor], trees: list[Tensor]) -> float:
    """L_S-probe as its equation says it, one pair of words after the other."""
    total = 0.0
    for words, tree in zip(sentences, trees, strict=True):
        missed = 0.0
        for i in range(len(words)):
            for j in range(len(words)):
                missed += abs(float(tree[i, j]) - slow_distance(matrix, words[i], words[j]))
        total += missed / len(words) ** 2
    return total / len(sentences)


def cosine(first: Tensor, second: Tensor) -> float:
    return float(first @ second / (first.norm().clamp(min=1e-3) * second.norm().clamp(min=1e-3)))


def slow_scl(vectors: Tensor, temperature: float) -> list[float]:
    """NT-Xent, one item after the other."""
    half, losses = len(vectors) // 2, []
    for i in range(len(vectors)):
        partner = i + half if i < half else i - half
        others = [math.exp(cosine(vectors[i], vectors[k]) / temperature) for k in range(len(vectors)) if k != i]
        losses.append(-math.log(math.exp(cosine(vectors[i], vectors[partner]) / temperature) / sum(others)))
    return losses


def slow_xcl(queries: Tensor, keys: Tensor, temperature: float) -> list[float]:
    """One direction of the cross-modality loss: own pair against all other pairs."""
    half, losses = len(queries) // 2, []
    for i in range(len(queries)):
        candidates = [k for k in range(len(keys)) if k == i or k % half != i % half]
        total = sum(math.exp(cosine(queries[i], keys[k]) / temperature) for k in candidates)
        losses.append(-math.log(math.exp(cosine(queries[i], keys[i]) / temperature) / total))
    return losses


def random_tree(count: int, dice: torch.Generator) -> Tensor:
    heads = [-1, *(int(torch.randint(0, word, (), generator=dice)) for word in range(1, count))]
    tree = torch.zeros(count, count, dtype=torch.int16)
    for word in range(1, count):
        tree[word, :word] = tree[:word, word] = tree[heads[word], :word] + 1
    return tree


def padded(trees: list[Tensor], size: int) -> Tensor:
    found = torch.full((len(trees), size, size), -1, dtype=torch.int16)
    for row, tree in zip(found, trees, strict=True):
        row[: len(tree), : len(tree)] = tree
    return found


def test_the_probe_loss_is_the_equation_on_sentences_of_any_length() -> None:
    dice = torch.Generator().manual_seed(0)
    lengths = (5, 1, 7, 3)
    sentences = [torch.randn(count, 6, generator=dice) for count in lengths]
    trees = [random_tree(count, dice) for count in lengths]
    probe = SSRPConfig(**TINY | {"hidden": 6}).build().text_probe
    states = torch.nn.utils.rnn.pad_sequence(sentences, batch_first=True, padding_value=9.0)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    found = probe_losses(probe(states), padded(trees, 7), mask)
    expected = slow_probe(probe.map.weight.detach(), sentences, trees)
    torch.testing.assert_close(float(found.mean().detach()), expected, rtol=1e-4, atol=1e-5)


def test_distances_are_squared_once() -> None:
    # The first published defect: the probe squares and the loss squares again, so that a perfect probe is punished.
    tree = random_tree(6, torch.Generator().manual_seed(1))[None]
    exact, mask = tree.float(), torch.ones(1, 6, dtype=torch.bool)
    assert float(probe_losses(exact, tree, mask)) == 0
    assert float(probe_losses(exact.sqrt(), tree, mask)) > 0


def stage_two(*, rows: int = 3, seed: int = 0) -> Batch:
    """Pairs and views of them; every sentence has words of one to three pieces."""
    batch, dice = pair_batch(rows=2 * rows, seed=seed), torch.Generator().manual_seed(seed)
    belongs = torch.full(batch.input_ids.shape, -1)
    trees = []
    for row in range(2 * rows):
        pieces = int(batch.text_mask[row].sum()) - 2
        steps = torch.randint(0, 2, (pieces,), generator=dice)
        steps[0] = 0
        belongs[row, 1 : pieces + 1] = steps.cumsum(0)
        trees.append(random_tree(int(steps.sum()) + 1, dice))
    size = max(map(len, trees))
    return replace(batch, targets={"word_of_piece": belongs, "trees": padded(trees, size)})


def test_trees_are_compared_with_words_and_not_with_pieces() -> None:
    # The second published defect: tree nodes are words, and were compared with word pieces index by index.
    torch.manual_seed(0)
    model, batch = SSRPConfig(**TINY).build_for_pretraining().eval(), stage_two()
    relations = model.encoder.relations(model.encode_frozen(batch), batch)
    states, words, trees = model.encoder(batch).text.detach(), [], []
    for row, belongs in enumerate(batch.targets["word_of_piece"]):
        count = int(belongs.max()) + 1
        assert count < int(batch.text_mask[row].sum()) - 2 or row  # some words have several pieces
        words.append(torch.stack([states[row, belongs == word].mean(dim=0) for word in range(count)]))
        trees.append(batch.targets["trees"][row, :count, :count])
    found = probe_losses(relations.text, batch.targets["trees"], relations.text_mask).mean()
    expected = slow_probe(model.encoder.text_probe.map.weight.detach(), words, trees)
    torch.testing.assert_close(float(found.detach()), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 4])
def test_contrasts_are_their_equations(rows: int) -> None:
    dice = torch.Generator().manual_seed(2)
    text, pictures = (torch.randn(2 * rows, 5, generator=dice) for _ in range(2))
    torch.testing.assert_close(
        single_modality_losses(text, temperature=0.3), torch.tensor(slow_scl(text, 0.3)), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        cross_modality_losses(pictures, text, temperature=0.3),
        torch.tensor(slow_xcl(pictures, text, 0.3)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_objective_is_the_weighted_sum_of_the_three() -> None:
    torch.manual_seed(0)
    model, batch = SSRPConfig(**TINY).build_for_pretraining().train(), stage_two()
    half = replace(batch, targets=batch.targets | {"trees": batch.targets["trees"].clone()})
    half.targets["trees"][::2] = -1  # every second sentence has no tree
    losses = Probing(probe_weight=0.5, single_weight=2.0, cross_weight=3.0, temperature=0.2).forward(model, half)
    relations = model.encoder.relations(model.encode_frozen(half), half)
    text, pictures = (vectors.detach() for vectors in model.relation_vectors(relations))
    probed = probe_losses(relations.text, half.targets["trees"], relations.text_mask)[1::2].mean()
    single = sum(map(sum, (slow_scl(text, 0.2), slow_scl(pictures, 0.2)))) / 6
    crossing = sum(map(sum, (slow_xcl(text, pictures, 0.2), slow_xcl(pictures, text, 0.2)))) / 6
    expected = 0.5 * float(probed.detach()) + 2 * single + 3 * crossing
    assert losses.count == 6
    torch.testing.assert_close(float(losses.mean().detach()), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("variant", ["share", "visual", "cross"])
def test_stage_two_trains_probes_and_projections_and_nothing_else(variant: Any) -> None:
    torch.manual_seed(0)
    model = SSRPConfig(**TINY | {"variant": variant, "dropout": 0.5}).build_for_pretraining().train()
    losses = [Probing().forward(model, stage_two()) for _ in range(2)]
    assert torch.equal(losses[0].values, losses[1].values)  # a frozen encoder draws no dropout
    losses[0].mean().backward()
    reached = {
        name.split(".")[0 if "encoder" not in name else 1] for name, p in model.named_parameters() if p.grad is not None
    }
    assert reached == {"text_probe", "region_probe", "text_projection", "region_projection"}


def test_a_batch_without_any_tree_still_contrasts() -> None:
    torch.manual_seed(0)
    model, batch = SSRPConfig(**TINY).build_for_pretraining(), stage_two()
    bare = replace(batch, targets=batch.targets | {"trees": torch.full_like(batch.targets["trees"], -1)})
    assert Probing(single_weight=0, cross_weight=0).forward(model, bare).values.tolist() == [0.0] * 6
    assert Probing().forward(model, bare).mean().isfinite()


def test_an_encoder_without_probes_is_one_sentence() -> None:
    sizes = {"hidden": 8, "heads": 2, "layers": 1, "intermediate": 8, "vocabulary": 40, "region_dim": 6}
    model = UNITERConfig(**sizes).build_for_pretraining()
    with pytest.raises(UsageError, match="UNITERForPretraining has no relation probes; use --model ssrp"):
        Probing().forward(model, stage_two())


# -- masked regions of stage 1 ----------------------------------------------------------------------------------------


def labelled() -> Batch:
    batch, dice = pair_batch(), torch.Generator().manual_seed(4)
    shape = batch.region_mask.shape
    return replace(
        batch,
        targets={
            "class_ids": torch.randint(0, 5, shape, generator=dice),
            "class_scores": torch.rand(shape, generator=dice),
            "attribute_ids": torch.randint(0, 4, shape, generator=dice),
            "attribute_scores": torch.rand(shape, generator=dice),
        },
    )


def test_hidden_regions_are_named_described_and_regressed() -> None:
    torch.manual_seed(0)
    model: SSRPForPretraining = SSRPConfig(**TINY).build_for_pretraining().eval()
    batch, objective = labelled(), MRM(probability=0.4)
    hidden = objective.corrupt(batch, torch.Generator().manual_seed(0))
    losses = objective.forward(model, hidden)
    states = model.encoder(hidden).regions
    classes, attributes, features = model.region_predictions(states)
    expected, right = [], []
    for row, place in hidden.masked_regions.nonzero().tolist():  # type: ignore[union-attr]
        assert not hidden.regions[row, place].any()
        target = {name: values[row, place] for name, values in batch.targets.items()}
        named = -classes[row, place].log_softmax(0)[target["class_ids"]] * target["class_scores"]
        described = -attributes[row, place].log_softmax(0)[target["attribute_ids"]] * target["attribute_scores"]
        difference = (features[row, place] - batch.regions[row, place]).abs()
        smooth = torch.where(difference < 1, difference.square() / 2, difference - 0.5).mean()
        expected.append(named + described + smooth)
        right.append(bool(classes[row, place].argmax() == target["class_ids"]))
    torch.testing.assert_close(losses.values, torch.stack(expected))
    assert losses.correct is not None
    assert losses.correct.tolist() == right


def test_parts_can_be_left_out_and_missing_labels_are_one_sentence() -> None:
    torch.manual_seed(0)
    model, batch = SSRPConfig(**TINY).build_for_pretraining(), labelled()
    bare = replace(batch, targets={"class_ids": batch.targets["class_ids"]})
    with pytest.raises(
        DataError, match=r"pair 0: MRM needs the attribute of each region, .* leave it out of --region-parts"
    ):
        MRM().corrupt(bare, torch.Generator())
    one = MRM(parts=("feature",))
    losses = one.forward(model, one.corrupt(replace(batch, targets={}), torch.Generator().manual_seed(0)))
    assert losses.correct is None
    assert losses.values.shape == (losses.count,)


def test_a_class_that_the_model_does_not_know_is_one_sentence() -> None:
    model, batch = SSRPConfig(**TINY).build_for_pretraining(), labelled()
    batch.targets["class_ids"][:] = 7
    hidden = MRM().corrupt(batch, torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match="a region has the class 7, the model knows 5; give --region-classes"):
        MRM().forward(model, hidden)
