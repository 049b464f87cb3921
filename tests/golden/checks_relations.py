"""IAIS and ISDa against the authors' code and the paper's equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from tests.golden.case import Case
from tests.golden.checks_uniter import batch_of, build, compare, tensors, under
from vltk.batching import SpecialTokens
from vltk.metrics.isd import Reading, compress, isda, relations
from vltk.models.uniter import UNITER
from vltk.objectives.ranking import RELATION_WEIGHT, Ranking
from vltk.objectives.relations import IAIS, annealed, words_of
from vltk.types import Batch

BLOCKS = {"txt_attn": "LL", "t2i_attn": "LV", "i2t_attn": "VL", "img_attn": "VV"}
SPECIAL = SpecialTokens(start=1, separator=2)


def parts_of(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the alignment and the anchors that a case's name speaks of."""
    alignment = "singular" if "singular" in name else "distributed"
    anchors = ("L", "V") if "_both" in name else ("L",) if "_L" in name else ("V",)
    return alignment, anchors


def joined(blocks: dict[str, Tensor]) -> Tensor:
    """Lay the four blocks of one pair and one head out as a joint encoder gives them."""
    top = torch.cat([blocks["LL"], blocks["LV"]], dim=1)
    return torch.cat([top, torch.cat([blocks["VL"], blocks["VV"]], dim=1)])[None, None]


def masks(blocks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return tuple(torch.ones(1, len(blocks[name]), dtype=torch.bool) for name in ("LL", "VV"))


def check_matrices(case: Case) -> None:
    """The official functions take probabilities, whose logarithms are scores that give these probabilities."""
    values = tensors(case)
    given = {name: values[f"in.{name}"].requires_grad_() for name in BLOCKS}
    blocks = {BLOCKS[name]: tensor.log() for name, tensor in given.items()}
    alignment, anchors = parts_of(case.name)
    loss = IAIS(alignment=alignment, anchors=anchors).losses(joined(blocks), *masks(blocks))
    compare(case, loss[0], values["out.loss"])
    loss.sum().backward()
    for name, expected in under("grad.", values).items():
        # A block whose rows sum to 1 has no use for the part of a gradient that would change these sums.
        rows = given[name].grad, expected - (expected * given[name]).sum(-1, keepdim=True)
        compare(case, *(row.detach() for row in rows))


def check_equations(case: Case) -> None:
    values = tensors(case)
    blocks = under("in.S_", values)
    for name, expected in under("out.", values).items():
        alignment, anchors = parts_of(f"_{name}")
        found = IAIS(alignment=alignment, anchors=anchors, form="paper").losses(joined(blocks), *masks(blocks))
        compare(case, found[0], expected)


def check_annealing(case: Case) -> None:
    values = tensors(case)
    for name, expected in under("out.", values).items():
        schedule = name.removesuffix("_schedule")
        total = int(values["in.total"])
        found = [annealed(int(step) / total, schedule=schedule) for step in values["in.step"]]
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=1e-7)


def encoder_of(case: Case, values: dict[str, Tensor]) -> tuple[UNITER, Tensor, Tensor]:
    """Return the encoder, and weight and bias of the ranking head, which receive gradients too."""
    state = under("sd.", values)
    encoder = build(case, under("uniter.", state), pretraining=False)
    assert isinstance(encoder, UNITER)
    return encoder, *(state[f"rank_output.{name}"].requires_grad_() for name in ("weight", "bias"))


def positives(case: Case, encoder: UNITER, batch: Batch, rows: slice) -> tuple[Tensor, Tensor]:
    """Return the pooled states of a batch, and the published IAIS loss of its matched rows."""
    alignment, anchors = parts_of(case.name)
    output = encoder(batch, attention_scores=[-1])
    (scores,) = output.attention_scores.values()
    words = words_of(batch, SPECIAL)[rows]
    loss = IAIS(alignment=alignment, anchors=anchors).losses(scores[rows], words, batch.region_mask[rows])
    return output.pooled, loss.mean()


def compare_encoder_gradients(case: Case, encoder: UNITER, head: Tensor, official: dict[str, Tensor]) -> None:
    ours: dict[str, Tensor] = {"rank_output.weight": head.grad}
    for key, parameter in encoder.named_parameters():
        names = encoder.published_keys(key)
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        ours |= {f"uniter.{name}": part for name, part in zip(names, gradient.chunk(len(names)), strict=True)}
    assert official, "the case brings gradients"
    largest = max(float(expected.abs().max()) for expected in official.values())
    for name, expected in official.items():
        # The bias of keys moves a row of scores as a whole, which no softmax sees: its gradient is rounding alone.
        atol = 1e-6 * largest if name.endswith("key.bias") else 1e-5 * float(expected.abs().max())
        np.testing.assert_allclose(ours[name].numpy(), expected.numpy(), rtol=1e-3, atol=atol, err_msg=name)


def check_model(case: Case) -> None:
    """Groups of three pairs, of which the first is matched."""
    values = tensors(case)
    encoder, weight, bias = encoder_of(case, values)
    pooled, loss = positives(case, encoder, batch_of(values), slice(None, None, int(values["in.sample_size"])))
    compare(case, nn.functional.linear(pooled, weight, bias), values["out.rank_scores"])
    compare(case, loss, values["out.iais_loss"])
    loss.backward()
    compare_encoder_gradients(case, encoder, weight, under("grad.", values))


def check_hard_negatives(case: Case) -> None:
    """One matched pair, the hardest of its negatives, and the weights that the published trainer gives to the terms."""
    values = tensors(case)
    encoder, weight, bias = encoder_of(case, values)
    alignment, (anchor,) = parts_of(case.name)
    iais, hard = IAIS(alignment=alignment), len(values["out.rank_loss_sorted"])
    settings = case.entry["params"]
    share = torch.tensor(iais.weight(settings["global_step"], settings["num_train_steps"]))
    compare(case, share, values["out.lambda"])
    ranking = Ranking(encoder, hard=hard, iais=iais, special=SPECIAL).eval()
    ranking.head.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
    batch = batch_of(values)
    # The side that stands once has its length repeated for every pair.
    sides = {
        "text_mask": batch.text_mask[: len(batch.input_ids)],
        "region_mask": batch.region_mask[: len(batch.regions)],
    }
    batch = replace(batch, **sides, targets={RELATION_WEIGHT: share})
    assert iais.anchors_of("text" if len(batch.input_ids) == 1 else "image") == (anchor,)
    losses = ranking("hard", batch, torch.Generator())
    *hinges, relation = losses.values.split(1)
    compare(case, hard * torch.cat(hinges).sort(descending=True).values, values["out.rank_loss_sorted"])
    compare(case, relation[0], share * values["out.iais_loss"])
    loss = torch.cat(hinges).sum() / settings["train_batch_size"] + relation[0]
    compare(case, loss, values["out.loss"])
    loss.backward()
    compare_encoder_gradients(case, encoder, ranking.head.weight, under("grad.", values))


READINGS = {
    "isda_probs_unnormalised": Reading(renormalised=False, rows="sum"),
    "isda_probs_renormalised": Reading(rows="sum"),
    "isda_scores_then_softmax": Reading(softmax="after", rows="sum"),
}


def check_isda(case: Case) -> None:
    """Three readings of equations 7 to 9, and the matrices on the way."""
    values = case.tensors()
    groups = {side: case.entry["params"][f"groups_{side}"] for side in "LV"}
    scores = {side: values[f"in.S_{side}{side}"][None] for side in "LV"}
    for name, reading in READINGS.items():
        found = isda(scores["L"], scores["V"], groups["L"], groups["V"], reading=reading)
        np.testing.assert_allclose(found, values[f"out.{name}"], **case.entry["tolerance"])
        count = len(groups["L"])
        mean = isda(scores["L"], scores["V"], groups["L"], groups["V"], reading=replace(reading, rows="mean"))
        np.testing.assert_allclose(mean * count, values[f"out.{name}"], **case.entry["tolerance"])
    for side in "LV":
        plain = relations(scores[side], groups[side], Reading(renormalised=False))[0]
        np.testing.assert_allclose(plain, values[f"out.P_{side}{side}_obj"], **case.entry["tolerance"])
        extracted = values[f"out.S_{side}{side}_obj"]
        np.testing.assert_allclose(compress(scores[side][0], groups[side]), extracted, **case.entry["tolerance"])
        powers = np.exp(extracted)
        after = relations(scores[side], groups[side], Reading(softmax="after"))[0]
        np.testing.assert_allclose(after, powers / powers.sum(-1, keepdims=True), **case.entry["tolerance"])


CHECKS: dict[str, Callable[[Case], None]] = {
    "uniter/iais_*_from_matrices": check_matrices,
    "uniter/iais_paper_formula_from_scores": check_equations,
    "uniter/iais_model_*": check_model,
    "uniter/iais_hardneg_*": check_hard_negatives,
    "uniter/isda_*": check_isda,
    "uniter/iais_annealing": check_annealing,
}
