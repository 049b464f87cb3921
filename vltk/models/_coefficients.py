"""Generators of pooling coefficients: from the size of a set to one weight for each rank (VSE-infinity, section 3.2).

The published design is :class:`RecurrentCoefficients` on sinusoidal positions; the others are those that its
supplement compares (tables 3 and 6 to 8). The supplement gives no sizes for them: they are ours.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

TEMPERATURE = 0.1
"""Of the softmax over the ranks, as published."""


def positional_encoding(length: int, size: int) -> Tensor:
    """Return [length, size] sines (even columns) and cosines (odd columns) of the positions from 0.

    VSE-infinity, section 3.2, after "Attention is all you need".

    Example:
        >>> positional_encoding(2, 2).tolist()[0]
        [0.0, 1.0]
    """
    rate = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
    angle = torch.arange(length).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :size]


def within(lengths: Tensor, width: int) -> Tensor:
    """Return [L, width] bool, true on the ranks that a set of each of the [L] sizes has."""
    return torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)


def softmax_within(scores: Tensor, lengths: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the softmax of [L, N] or [L, N, H] scores over the ranks of each set; exactly 0 beyond its size."""
    real = within(lengths, scores.shape[1])
    real = real if scores.dim() == 2 else real.unsqueeze(-1)
    return (scores / temperature).masked_fill(~real, -torch.inf).softmax(dim=1)


class Coefficients(nn.Module):
    """What every generator promises: ``forward(lengths, width)`` gives [L, width] that sum to 1 over each size.

    A generator whose ``per_dimension`` is set gives [L, width, H]; one that ``reads_features`` is given the sorted
    [B, width, H] elements as a third argument.
    """

    per_dimension = False
    reads_features = False


class _Positions(nn.Module):
    """Vectors of the ranks: sinusoidal, or a table that is learnt and knows only so many ranks."""

    encoding: Tensor

    def __init__(self, size: int, kind: Literal["sinusoid", "index"], most: int = 128) -> None:
        super().__init__()
        self.size = size
        self.table = nn.Embedding(most, size) if kind == "index" else None
        if self.table is None:
            self.register_buffer("encoding", positional_encoding(most, size), persistent=False)

    def forward(self, count: int) -> Tensor:
        if self.table is not None:
            # Ranks beyond the table share its last row.
            rows = torch.arange(count, device=self.table.weight.device).clamp(max=self.table.num_embeddings - 1)
            return self.table(rows)  # type: ignore[no-any-return]
        if count > len(self.encoding):
            self.encoding = positional_encoding(2 * count, self.size).to(self.encoding)
        return self.encoding[:count]


class RecurrentCoefficients(Coefficients):
    """A bidirectional GRU over the ranks (equations 4 and 5), the published design.

    Args:
        positions: "sinusoid" as published, or "index": a learnt table (supplement, table 6).
        size: of a rank's vector.
        hidden: of the GRU; its two directions are averaged.
        outputs: 1, or H for a coefficient in each dimension (supplement, table 7).
    """

    def __init__(
        self,
        *,
        positions: Literal["sinusoid", "index"] = "sinusoid",
        size: int = 32,
        hidden: int = 32,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.per_dimension = outputs > 1
        self.positions = _Positions(size, positions)
        self.gru = nn.GRU(size, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(hidden, outputs, bias=False)

    def forward(self, lengths: Tensor, width: int) -> Tensor:
        """Return the coefficients of sets of [L] sizes."""
        ranks = self.positions(width).expand(len(lengths), -1, -1)
        return softmax_within(_scores(self.gru, self.linear, ranks, lengths), lengths)


def _scores(gru: nn.GRU, linear: nn.Linear, ranks: Tensor, lengths: Tensor) -> Tensor:
    """Return [L, N] or [L, N, H] scores of the [L, N, E] vectors of ranks."""
    width = ranks.shape[1]
    packed = pack_padded_sequence(ranks, lengths.cpu(), batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=width)
    forward, backward = states.chunk(2, dim=-1)
    scores: Tensor = linear((forward + backward) / 2)
    return scores.squeeze(-1)


class FeatureCoefficients(Coefficients):
    """The published design that also sees the elements: their sorted values join the ranks (supplement, table 8).

    Args:
        features: H, size of the elements.
        size: of a rank's vector, and of the projected elements.
        hidden: of the GRU.
    """

    reads_features = True

    def __init__(self, *, features: int, size: int = 32, hidden: int = 32) -> None:
        super().__init__()
        self.positions = _Positions(size, "sinusoid")
        self.project = nn.Linear(features, size)
        self.gru = nn.GRU(2 * size, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(hidden, 1, bias=False)

    def forward(self, lengths: Tensor, width: int, features: Tensor) -> Tensor:
        """Return [B, width] coefficients of sets whose sorted elements are [B, width, H]."""
        ranks = self.positions(width).expand(len(lengths), -1, -1)
        joined = torch.cat([ranks, self.project(features)], dim=-1)
        return softmax_within(_scores(self.gru, self.linear, joined, lengths), lengths)


class PerceptronCoefficients(Coefficients):
    """A perceptron on each rank's sinusoids, which cannot know the size of the set (supplement, table 6).

    Args:
        size: of a rank's vector.
        hidden: of both inner layers.
    """

    def __init__(self, *, size: int = 32, hidden: int = 32) -> None:
        super().__init__()
        self.positions = _Positions(size, "sinusoid")
        self.layers = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1, bias=False)
        )

    def forward(self, lengths: Tensor, width: int) -> Tensor:
        """Return the coefficients of sets of [L] sizes."""
        scores = self.layers(self.positions(width)).squeeze(-1)
        return softmax_within(scores.expand(len(lengths), -1), lengths)


class InterpolatedCoefficients(Coefficients):
    """A vector of scores that is stretched linearly to the size of the set (supplement, table 6; FSPool).

    Args:
        points: scores that are learnt.
    """

    def __init__(self, *, points: int = 20) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(points))

    def forward(self, lengths: Tensor, width: int) -> Tensor:
        """Return the coefficients of sets of [L] sizes."""
        last = len(self.scores) - 1
        ranks = torch.arange(width, device=lengths.device) / (lengths.unsqueeze(1) - 1).clamp(min=1) * last
        ranks = ranks.clamp(max=last)
        below = ranks.floor().long().clamp(max=max(last - 1, 0))
        share = ranks - below
        scores = self.scores[below] * (1 - share) + self.scores[(below + 1).clamp(max=last)] * share
        return softmax_within(scores, lengths, temperature=1.0)


class TransformerCoefficients(Coefficients):
    """A Transformer encoder over the ranks in place of the GRU (supplement, table 3).

    Args:
        size: of a rank's vector.
        heads: of attention.
        layers: of the encoder.
    """

    def __init__(self, *, size: int = 32, heads: int = 4, layers: int = 1) -> None:
        super().__init__()
        self.positions = _Positions(size, "sinusoid")
        layer = nn.TransformerEncoderLayer(size, heads, 2 * size, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.linear = nn.Linear(size, 1, bias=False)

    def forward(self, lengths: Tensor, width: int) -> Tensor:
        """Return the coefficients of sets of [L] sizes."""
        ranks = self.positions(width).expand(len(lengths), -1, -1)
        states = self.encoder(ranks, src_key_padding_mask=~within(lengths, width))
        return softmax_within(self.linear(states).squeeze(-1), lengths)


GENERATORS = ("gpo", "interpolated", "perceptron", "index", "transformer", "per-dimension", "feature")
"""Designs of :func:`build_coefficients`; "gpo" is the published one."""


def build_coefficients(design: str, *, hidden: int) -> Coefficients:
    """Make a generator.

    Args:
        design: of :data:`GENERATORS`.
        hidden: H, size of the elements that are pooled.
    """
    if design == "feature":
        return FeatureCoefficients(features=hidden)
    if design == "per-dimension":
        return RecurrentCoefficients(outputs=hidden)
    if design == "index":
        return RecurrentCoefficients(positions="index")
    kinds = {
        "interpolated": InterpolatedCoefficients,
        "perceptron": PerceptronCoefficients,
        "transformer": TransformerCoefficients,
    }
    return kinds[design]() if design in kinds else RecurrentCoefficients()
