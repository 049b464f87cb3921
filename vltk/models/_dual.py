"""What encoders that embed pictures and texts apart from each other share (VSE-infinity, VSRN)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vltk.models._recurrence import learns_at_once, run_at_once

WORD_RANGE = 0.1
"""Fresh word vectors are uniform between minus this and this, as published."""
ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8}
"""Of Adam, as the authors of VSE++, VSE-infinity and VSRN ran it."""


def unit_length(states: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Divide [..., H] vectors by their Euclidean length plus ``eps``, as VSE-infinity does; VSRN adds nothing.

    Example:
        >>> unit_length(torch.tensor([[3.0, 4.0]]), eps=0.0).tolist()[0]
        [0.6000000238418579, 0.800000011920929]
    """
    length: Tensor = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    return states / (length + eps)


def initialise_projection(layer: nn.Linear) -> nn.Linear:
    """Initialise a projection of region features as VSE++ does: uniform after Xavier, no bias."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def word_vectors(vocabulary: int, size: int) -> nn.Embedding:
    """Return a fresh table of word vectors."""
    table = nn.Embedding(vocabulary, size)
    nn.init.uniform_(table.weight, -WORD_RANGE, WORD_RANGE)
    return table


def run_packed(rnn: nn.GRU, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Run a GRU over padded sequences, in any order of their lengths.

    Args:
        rnn: with ``batch_first``.
        states: [B, T, E].
        mask: [B, T] bool, true on what is real; padding stands at the right end.

    Returns:
        [B, T, directions * H] states, zero at padding; and [layers * directions, B, H] last states.
    """
    whole, at_once = bool(mask.all()), learns_at_once(rnn, states)
    if whole and not at_once:
        every, last = rnn(states)
        return every, last
    if whole:
        batch, length = mask.shape
        every, last = run_at_once(rnn, states.transpose(0, 1).flatten(0, 1), [batch] * length)
        return every.view(length, batch, -1).transpose(0, 1), last.unsqueeze(0)
    packed = pack_padded_sequence(states, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
    if at_once:
        every, last = run_at_once(rnn, packed.data, packed.batch_sizes.tolist())
        packed, last = packed._replace(data=every), last[packed.unsorted_indices].unsqueeze(0)
    else:
        packed, last = rnn(packed)
    return pad_packed_sequence(packed, batch_first=True, total_length=states.shape[1])[0], last


def compacted(keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return how to move the kept elements of each set to its left end, in their order.

    Args:
        keep: [B, N] bool.

    Returns:
        [B, M] int64 places and the [B, M] mask of those that hold an element; M is the largest number kept.

    Example:
        >>> places, mask = compacted(torch.tensor([[False, True, True], [True, False, False]]))
        >>> places.tolist(), mask.tolist()
        ([[1, 2], [0, 1]], [[True, True], [True, False]])
    """
    count = keep.sum(dim=1)
    width = int(count.max())
    places = (~keep).int().argsort(dim=1, stable=True)[:, :width]
    return places, torch.arange(width, device=keep.device) < count.unsqueeze(1)
