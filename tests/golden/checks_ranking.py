"""Image-text retrieval: ranking with random and with hard negatives against the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tests.golden.case import Case
from tests.golden.checks_uniter import batch_of, build, compare, mask_of, tensors, under
from vltk.models.uniter import UNITERConfig
from vltk.objectives.ranking import HARD, RANDOM, Ranking
from vltk.types import Batch


def ranking(case: Case, values: dict[str, Tensor], **settings: object) -> Ranking:
    state = under("sd.", values)
    made = Ranking(build(case, under("uniter.", state), pretraining=False), **settings)
    made.head.load_state_dict(under("rank_output.", state))
    # The golden runs have no dropout, which the mode that mining leaves the module in must not bring.
    return made.eval()


def pairs_of(values: dict[str, Tensor]) -> Batch:
    """Return a batch whose shared side has one row."""
    batch = batch_of(values)
    texts, regions = values["in.txt_lens"][: len(batch.input_ids)], values["in.num_bbs"][: len(batch.regions)]
    text_mask = mask_of(texts, batch.input_ids.shape[1])
    return replace(batch, text_mask=text_mask, region_mask=mask_of(regions, batch.regions.shape[1]))


def compare_gradients(case: Case, made: Ranking, official: dict[str, Tensor]) -> None:
    ours = {"rank_output.weight": made.head.weight.grad}
    for key, parameter in made.model.named_parameters():
        names = made.model.published_keys(key)
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        ours |= {f"uniter.{name}": part for name, part in zip(names, gradient.chunk(len(names)), strict=True)}
    assert official, "the case brings gradients"
    for name, expected in official.items():
        atol = 1e-5 * float(expected.abs().max())
        np.testing.assert_allclose(ours[name].numpy(), expected.numpy(), rtol=1e-3, atol=atol, err_msg=name)


def check_random(case: Case) -> None:
    values = tensors(case)
    made = ranking(case, values)
    batch = replace(batch_of(values), targets={"group": values["in.sample_size"]})
    compare(case, made.match_scores(made.model(batch).pooled), values["out.rank_scores"][:, 0])
    losses = made(RANDOM, batch, torch.Generator())
    compare(case, losses.values, values["out.rank_loss"].flatten())
    compare(case, losses.mean(), values["out.loss"])
    losses.mean().backward()
    compare_gradients(case, made, under("grad.", values))


def check_warm_start(case: Case) -> None:
    values = tensors(case)
    size = UNITERConfig(vocabulary=9, hidden=32, heads=4, layers=1, intermediate=8, region_dim=4)
    made = Ranking(size.build())
    notes = made.initialise_head({f"matching.{name}": values[f"in.itm_output.{name}"] for name in ("weight", "bias")})
    assert notes == ["ranking head from image-text matching"]
    for name in ("weight", "bias"):
        torch.testing.assert_close(made.head.state_dict()[name], values[f"out.rank_output.{name}"], rtol=0, atol=0)


def check_hard(case: Case) -> None:
    values = tensors(case)
    gather = "official" if "official_gather" in case.name else "correct"
    made = ranking(case, values, hard=len(values["out.rank_loss_sorted"]), gather=gather)
    batch = pairs_of(values)
    last = int(values["in.txt_lens"][-1]) if gather == "official" else None
    pairs = made._embedded(batch, last).take(slice(None))
    pooled = made.encode(pairs.text, pairs.text_mask, pairs.regions, pairs.region_mask).pooled
    compare(case, made.match_scores(pooled), values["out.all_scores"][:, 0])
    assert set(made._mined(batch, last).tolist()) == set(values["out.hard_indices"].tolist()) - {0}
    losses = made(HARD, batch, torch.Generator())
    hinges = losses.values * len(losses.values)
    compare(case, hinges.sort(descending=True).values, values["out.rank_loss_sorted"])
    loss = losses.values.sum()
    compare(case, loss, values["out.loss"])
    loss.backward()
    if gather == "official":
        # The bug shows padding to the encoder; the authors' table of words keeps that row out of its gradients.
        made.model.text_embedding.word.weight.grad[0] = 0
    compare_gradients(case, made, under("grad.", values))


CHECKS: dict[str, Callable[[Case], None]] = {
    "uniter/itr_rank": check_random,
    "uniter/itr_init_output": check_warm_start,
    "uniter/itr_hardneg_*": check_hard,
}
