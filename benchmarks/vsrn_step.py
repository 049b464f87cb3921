"""How much faster VSRN learns from a batch than in the published order of computation.

    OMP_NUM_THREADS=1 python benchmarks/vsrn_step.py --repeats 3

A whole step: forward, both losses, backward, clipping, Adam. The published size (2,048 dimensions, 36 regions, 128
pairs, 10,006 words), captions as long as COCO's (10.5 words on average). The published side is written anew after what
its authors' programs do: maps of the relation layers as convolutions over one region; a caption decoder that takes 59
steps, joins all regions with its state anew at each of them, and scores every word for padding as well; a list of
parameters that names the caption branch twice, which Adam then updates twice. Both sides share their weights, the
learning rate is zero and dropout off in both, and losses and gradients are compared.

``--count`` counts the operations of matrix products instead: most of them both sides need, so that the ratio says how
far the order of computation alone can carry.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.flop_counter import FlopCounterMode

from vltk.models._reasoning import RelationLayer
from vltk.models.vsrn import VSRN, VSRNConfig
from vltk.objectives.hinge import HARDEST, DualTraining
from vltk.optimization import optimizer_of
from vltk.types import Batch

CLIP = 2.0
WATCHED = ("image.relations.2.query.weight", "image.project.weight", "image.gru.weight_hh_l0", "captions.attend.weight")


def real_batch(config: VSRNConfig, *, pairs: int, regions: int) -> Batch:
    """Return pairs of random features and random words, captions as long as COCO's; the longest first."""
    dice = np.random.default_rng(0)
    words = np.sort(np.clip(np.round(dice.normal(10.5, 2.4, pairs)), 6, 49).astype(int))[::-1]
    ids = torch.zeros(pairs, int(words.max()) + 2, dtype=torch.long)
    for row, count in zip(ids, words.tolist(), strict=True):
        drawn = dice.integers(4, config.vocabulary, count).tolist()
        row[: count + 2] = torch.tensor([1, *drawn, 2])
    return Batch(
        ids=tuple(map(str, range(pairs))),
        input_ids=ids,
        text_mask=ids != 0,
        regions=torch.from_numpy(dice.random((pairs, regions, config.region_dim), np.float32)),
        locations=torch.zeros(pairs, regions, 7),
        region_mask=torch.ones(pairs, regions, dtype=torch.bool),
    )


def scaled(states: Tensor, dim: int) -> Tensor:
    return states / states.pow(2).sum(dim=dim, keepdim=True).sqrt()


def published_relations(layer: RelationLayer, states: Tensor) -> Tensor:
    """One relation layer on [B, H, R] states."""
    maps = [F.conv1d(states, one.weight.unsqueeze(-1), one.bias) for one in (layer.query, layer.key, layer.value)]
    query, key, value = maps[0].permute(0, 2, 1), maps[1], maps[2].permute(0, 2, 1)
    affinity = torch.matmul(query, key) / key.shape[-1]
    found = torch.matmul(affinity, value).permute(0, 2, 1).contiguous()
    return layer.norm(F.conv1d(found, layer.output.weight.unsqueeze(-1), layer.output.bias)) + states


def published_images(model: VSRN, regions: Tensor) -> tuple[Tensor, Tensor]:
    states = scaled(model.image.project(regions), 1).permute(0, 2, 1)
    for layer in model.image.relations.values():
        states = published_relations(layer, states)
    states = scaled(states.permute(0, 2, 1), 1)
    _, last = model.image.gru(states)
    return scaled(last[0], 1), states


def published_texts(model: VSRN, ids: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(model.text.word(ids), lengths, batch_first=True)
    states, _ = pad_packed_sequence(model.text.gru(packed)[0], batch_first=True)
    last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, states.shape[2])
    return scaled(states.gather(1, last).squeeze(1), 1)


def published_hinge(images: Tensor, texts: Tensor, margin: float = 0.2) -> Tensor:
    scores = images @ texts.t()
    right = scores.diag().view(-1, 1)
    none = torch.eye(len(scores)) > 0.5
    of_texts = (margin + scores - right.expand_as(scores)).clamp(min=0).masked_fill_(none, 0)
    of_images = (margin + scores - right.t().expand_as(scores)).clamp(min=0).masked_fill_(none, 0)
    return of_texts.max(1)[0].sum() + of_images.max(0)[0].sum()


def published_captions(model: VSRN, regions: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
    branch, longest = model.captions, model.config.caption_length
    labels = F.pad(ids, (0, longest + 1 - ids.shape[1]))
    masks = (torch.arange(longest + 1) <= lengths.unsqueeze(1)).float()
    words = branch.word(labels)
    states, memory = branch.reader(branch.project(regions))
    hidden, scores = memory[0], []
    for place in range(longest - 1):
        repeated = hidden.unsqueeze(1).repeat(1, states.shape[1], 1)
        joined = torch.cat((states, repeated), 2).view(-1, 2 * states.shape[2])
        energies = branch.energy(torch.tanh(branch.attend(joined))).view(len(states), -1)
        context = torch.bmm(F.softmax(energies, dim=1).unsqueeze(1), states).squeeze(1)
        hidden = branch.decoder(torch.cat([words[:, place], context], dim=1), hidden)
        scores.append(F.log_softmax(branch.out(hidden), dim=1).unsqueeze(1))
    found = torch.cat(scores, 1)
    flat = -found.reshape(-1, found.shape[2]).gather(1, labels[:, 1:longest].reshape(-1, 1))
    return (flat * masks[:, 1:longest].reshape(-1, 1)).sum() / len(ids)


def published(model: VSRN, batch: Batch) -> Tensor:
    """Run the authors' forward pass and both losses."""
    lengths = batch.text_mask.sum(dim=1)
    images, regions = published_images(model, batch.regions)
    texts = published_texts(model, batch.input_ids, lengths)
    return published_hinge(images, texts) + published_captions(model, regions, batch.input_ids, lengths)


def published_parameters(model: VSRN) -> list[torch.nn.Parameter]:
    """Return the authors' list of parameters, in which the caption branch stands twice."""
    return [*model.parameters(), *model.captions.parameters()]


class Side(NamedTuple):
    """One of the two programs.

    Attributes:
        loss: of a batch.
        parameters: that are clipped.
        optimizer: of them.
    """

    loss: Callable[[], Tensor]
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer


def sides(model: VSRN, batch: Batch) -> dict[str, Side]:
    """Return both programs on the same weights; their optimisers share their states, which spares memory."""
    training = DualTraining(model, count_same=True).train()
    groups = [group | {"lr": 0.0} for group in model.parameter_groups()]
    ours = optimizer_of(groups, form="torch")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="optimizer contains a parameter group with duplicate parameters")
        theirs = torch.optim.Adam(published_parameters(model), lr=0.0)
    theirs.state = ours.state
    return {
        "vltk": Side(lambda: training(HARDEST, batch, torch.Generator()).mean(), list(model.parameters()), ours),
        "published": Side(lambda: published(model, batch), published_parameters(model), theirs),
    }


def timed(side: Side) -> tuple[float, float, float]:
    """Return seconds, seconds of processor time (all threads), which a busy machine changes less, and the loss."""
    start, busy = time.perf_counter(), time.process_time()
    side.optimizer.zero_grad()
    loss = side.loss()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(side.parameters, CLIP)
    side.optimizer.step()
    return time.perf_counter() - start, time.process_time() - busy, float(loss.detach())


def gradients(side: Side, model: VSRN) -> dict[str, Tensor]:
    """Return some gradients of one program, not clipped."""
    side.optimizer.zero_grad()
    side.loss().backward()
    return {name: model.get_parameter(name).grad.clone() for name in WATCHED}


def count(runs: dict[str, Side]) -> None:
    """Print how many multiplications and additions the matrix products of one step take."""
    found = {}
    for name, side in runs.items():
        with FlopCounterMode(display=False) as counter:
            side.loss().backward()
        found[name] = counter.get_total_flops()
        print(f"{name}: {found[name] / 1e9:,.0f} thousand million operations in matrix products", flush=True)
    print(f"ratio of operations: {found['published'] / found['vltk']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--regions", type=int, default=36)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--count", action="store_true", help="count operations instead")
    options = parser.parse_args()
    config = VSRNConfig(hidden=options.hidden, caption_dropout=0.0)
    torch.manual_seed(0)
    model = config.build().train()
    for layer in model.image.relations.values():  # fresh layers are the identity
        torch.nn.init.constant_(layer.norm.weight, 0.5)
    batch = real_batch(config, pairs=options.pairs, regions=options.regions)
    lengths = batch.text_mask.sum(dim=1)
    print(f"captions of {float(lengths.float().mean()):.1f} tokens, the longest {int(lengths.max())}", flush=True)
    runs = sides(model, batch)
    if options.count:
        count(runs)
        return
    first, second = (gradients(runs[name], model) for name in ("vltk", "published"))
    for name in WATCHED:
        apart = float((first[name] - second[name]).norm() / second[name].norm())
        print(f"{name}: gradients differ by {apart:.1e} of their norm")
    del first, second
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, side in runs.items():
            took, busy, loss = timed(side)
            seconds[name].append((took, busy))
            print(f"{name}: {took:.2f} s, {busy:.2f} s of processor time, loss {loss:.4f}", flush=True)
    medians = {name: [statistics.median(kind) for kind in zip(*rows, strict=True)] for name, rows in seconds.items()}
    wall, busy = (medians["published"][kind] / medians["vltk"][kind] for kind in (0, 1))
    print(f"ratio of medians: {wall:.2f} (processor time: {busy:.2f})", flush=True)


if __name__ == "__main__":
    main()
