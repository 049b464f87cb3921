"""The parts of SSRP: regions as LXMERT embeds them, layers that cross, probes of distances (SSRP, figure 2).

Gu et al., "Self-Supervised Relationship Probing", NeurIPS 2020.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vltk.models._heads import RelationSummary
from vltk.models._layers import LAYER_NORM_EPS, TransformerLayer

BOX = 4
"""Coordinates of a box that the model sees: x1, y1, x2, y2, each a share of the picture's side."""


class RegionSizes(Protocol):
    """What a model's configuration says of its regions."""

    @property
    def region_dim(self) -> int:
        """D."""

    @property
    def hidden(self) -> int:
        """H."""

    @property
    def dropout(self) -> float:
        """Dropout of embeddings."""


class RegionEmbedding(nn.Module):
    """Feature and box, each projected and normalised, averaged (Tan and Bansal, 2019, section 2.1).

    Args:
        config: of the model.
    """

    def __init__(self, config: RegionSizes) -> None:
        super().__init__()
        self.feature = nn.Linear(config.region_dim, config.hidden)
        self.feature_norm = nn.LayerNorm(config.hidden, eps=LAYER_NORM_EPS)
        self.box = nn.Linear(BOX, config.hidden)
        self.box_norm = nn.LayerNorm(config.hidden, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, regions: Tensor, locations: Tensor) -> Tensor:
        """Embed [B, R, D] features at [B, R, 7] locations as [B, R, H]."""
        both = self.feature_norm(self.feature(regions)) + self.box_norm(self.box(locations[..., :BOX]))
        embedded: Tensor = self.dropout(both / 2)
        return embedded


class CrossAttention(nn.Module):
    """Multi-head attention of one modality to the other, with one projection for queries, keys and values.

    Args:
        hidden: H, size of the states.
        heads: number of heads; must divide ``hidden``.
        dropout: dropout of the attention probabilities.
    """

    def __init__(self, *, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, states: Tensor, others: Tensor, mask: Tensor | None) -> Tensor:
        """Return [B, N, H] projected context.

        Args:
            states: [B, N, H] that attend.
            others: [B, M, H] that are attended to.
            mask: [B, 1, 1, M] bool, true where a key may be attended; None when nothing is padding.
        """
        batch, length, hidden = states.shape
        weight, bias = self.qkv.weight, self.qkv.bias
        query = F.linear(states, weight[:hidden], bias[:hidden])
        query = query.view(batch, length, self.heads, -1).transpose(1, 2)
        both = F.linear(others, weight[hidden:], bias[hidden:]).view(batch, others.shape[1], 2, self.heads, -1)
        key, value = both.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        attended: Tensor = self.output(context.transpose(1, 2).flatten(2))
        return attended

    def scores(self, states: Tensor, others: Tensor, mask: Tensor | None) -> Tensor:
        """Return the [B, heads, N, M] scores of :meth:`forward` before the softmax; the arguments are the same."""
        hidden = states.shape[-1]
        query, key = (
            F.linear(part, self.qkv.weight[rows], self.qkv.bias[rows])
            .view(*part.shape[:-1], self.heads, -1)
            .transpose(1, 2)
            for part, rows in ((states, slice(hidden)), (others, slice(hidden, 2 * hidden)))
        )
        scores: Tensor = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        return scores if mask is None else scores.masked_fill(~mask, -torch.inf)


class CrossLayer(nn.Module):
    """One inter-modality layer: attention to the other modality, then a Transformer layer of its own for each.

    The attention's weights serve both directions (Tan and Bansal, 2019, section 2.2).

    Args:
        hidden: H, size of the states.
        heads: number of attention heads.
        intermediate: size between the feed-forward projections.
        dropout: dropout of probabilities and of the sub-layers' outputs.
        both: regions attend to words as well (SSRP-Cross); without, they see the picture alone (SSRP-Visual).
    """

    def __init__(self, *, hidden: int, heads: int, intermediate: int, dropout: float, both: bool) -> None:
        super().__init__()
        self.both = both
        sizes = {"hidden": hidden, "heads": heads, "intermediate": intermediate}
        self.cross = CrossAttention(hidden=hidden, heads=heads, dropout=dropout)
        self.cross_norm = nn.LayerNorm(hidden, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.text = TransformerLayer(**sizes, dropout=dropout)
        self.regions = TransformerLayer(**sizes, dropout=dropout)

    def forward(
        self, text: Tensor, text_mask: Tensor | None, regions: Tensor, region_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the next [B, T, H] and [B, R, H] states; masks as for :class:`CrossAttention`."""
        if text.shape[1] and regions.shape[1]:
            seen, told = self.cross(text, regions, region_mask), None
            if self.both:
                told = self.cross(regions, text, text_mask)
            text = self.cross_norm(text + self.dropout(seen))
            regions = regions if told is None else self.cross_norm(regions + self.dropout(told))
        if text.shape[1]:
            text, _ = self.text(text, text_mask)
        if regions.shape[1]:
            regions, _ = self.regions(regions, region_mask)
        return text, regions


def keys_of(mask: Tensor) -> Tensor | None:
    """Return [B, 1, 1, N] of a [B, N] mask, None where nothing is padding.

    A row of nothing but padding attends to its padding: what it gives is not read, and a softmax over nothing is no
    number.
    """
    if bool(mask.all()):
        return None
    return (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]


class DistanceProbe(nn.Module):
    """The squared distance of two states under a learnt map (Hewitt and Manning, 2019, section 2.2).

    ``d_B(h_i, h_j)^2 = (B (h_i - h_j))^T (B (h_i - h_j))``. What is returned is squared already.

    Args:
        hidden: H, size of the states.
        rank: k, rows of B.
    """

    def __init__(self, *, hidden: int, rank: int) -> None:
        super().__init__()
        self.map = nn.Linear(hidden, rank, bias=False)

    def initialise(self) -> None:
        """Draw B so that two unrelated states of unit variance are some 4 apart, the scale of distances in a tree."""
        rank, hidden = self.map.weight.shape
        nn.init.normal_(self.map.weight, std=math.sqrt(2 / (rank * hidden)))

    def forward(self, states: Tensor) -> Tensor:
        """Return the [B, N, N] squared distances of [B, N, H] states, exactly 0 on the diagonal."""
        # fp32, because the difference of two large numbers is small; distances do not change under a shift.
        with torch.autocast(states.device.type, enabled=False):
            mapped = F.linear(states.float(), self.map.weight.float())
            mapped = mapped - mapped.mean(dim=1, keepdim=True)
            norms = mapped.square().sum(dim=-1)
            squared = norms.unsqueeze(2) + norms.unsqueeze(1) - 2 * mapped @ mapped.transpose(1, 2)
            same = torch.eye(states.shape[1], dtype=torch.bool, device=states.device)
            return squared.clamp(min=0).masked_fill(same, 0)


def average_pieces(states: Tensor, word_of_piece: Tensor, words: int) -> tuple[Tensor, Tensor]:
    """Return states of words: the mean over the pieces of each (Hewitt and Manning, 2019, section 4).

    Args:
        states: [B, T, H] of word pieces.
        word_of_piece: [B, T] the index of each piece's word, -1 for special tokens and padding.
        words: N, at least as many as the indices tell.

    Returns:
        [B, N, H], and [B, N] bool, false for a word without pieces.

    Example:
        >>> found, known = average_pieces(torch.tensor([[[9.0], [1], [3], [9]]]), torch.tensor([[-1, 0, 0, -1]]), 2)
        >>> found.tolist(), known.tolist()
        ([[[2.0], [0.0]]], [[True, False]])
    """
    places = torch.where(word_of_piece < 0, words, word_of_piece)
    sums = states.new_zeros(len(states), words + 1, states.shape[-1])
    sums = sums.scatter_add(1, places.unsqueeze(-1).expand_as(states), states)[:, :words]
    counts = torch.zeros(len(states), words + 1, dtype=states.dtype, device=states.device)
    counts = counts.scatter_add(1, places, torch.ones_like(places, dtype=states.dtype))[:, :words]
    return sums / counts.clamp(min=1).unsqueeze(-1), counts > 0


class RelationProjection(nn.Module):
    """One vector for the relations of a sentence or picture, to be compared with those of others.

    The published projection flattens a matrix of 36 x 36 and so knows pictures of 36 regions only. Here a summary
    that is independent of the number of items and of their order takes the place of its first layer.

    Args:
        summary: size of the summary (published first layer: 512).
        size: of the vector and of the layer before it (published: 256).
    """

    def __init__(self, *, summary: int, size: int) -> None:
        super().__init__()
        self.summary = RelationSummary(summary)
        self.mlp = nn.Sequential(nn.ReLU(), nn.Linear(summary, size), nn.ReLU(), nn.Linear(size, size))

    def initialise(self) -> None:
        """Draw weights that tell matrices apart, and a vector that is not zero for what has no relation at all."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
                nn.init.normal_(layer.bias, std=0.1)

    def forward(self, distances: Tensor, mask: Tensor) -> Tensor:
        """Return [B, E] of [B, N, N] squared distances and their [B, N] mask."""
        vectors: Tensor = self.mlp(self.summary(distances, mask))
        return vectors
