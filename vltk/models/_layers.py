"""Transformer layers that several of the systems share (BERT's post-norm layer, as UNITER and SSRP use it)."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vltk.errors import UsageError

# The published code normalises with this epsilon everywhere; torch's default of 1e-5 changes small-variance inputs.
LAYER_NORM_EPS = 1e-12


class TextSizes(Protocol):
    """What a model's configuration says of its texts."""

    @property
    def vocabulary(self) -> int:
        """Number of word pieces."""

    @property
    def hidden(self) -> int:
        """H."""

    @property
    def positions(self) -> int:
        """Longest text in word pieces."""

    @property
    def types(self) -> int:
        """Rows of the segment table."""

    @property
    def dropout(self) -> float:
        """Dropout of embeddings."""


class TextEmbedding(nn.Module):
    """Word piece + position + segment, normalised, as BERT does it (UNITER, section 3.1, Text Embedder).

    Args:
        config: of the model.
    """

    def __init__(self, config: TextSizes) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocabulary, config.hidden)
        self.position = nn.Embedding(config.positions, config.hidden)
        self.segment = nn.Embedding(config.types, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor, types: Tensor | None = None) -> Tensor:
        """Embed [B, T] word pieces as [B, T, H].

        Raises:
            UsageError: a text longer than the position table.
        """
        length = input_ids.shape[1]
        if length > self.position.num_embeddings:
            problem = f"a text of {length} word pieces, the model has {self.position.num_embeddings} positions"
            raise UsageError(problem, remedy="cut the text (--max-text-length)")
        types = torch.zeros_like(input_ids) if types is None else types
        embedded = self.word(input_ids) + self.position.weight[:length] + self.segment(types)
        normed: Tensor = self.dropout(self.norm(embedded))
        return normed


class SelfAttention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values.

    Args:
        hidden: H, size of the states.
        heads: number of heads; must divide ``hidden``.
        dropout: dropout of the attention probabilities.
    """

    def __init__(self, *, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(
        self, states: Tensor, mask: Tensor | None, *, return_scores: bool = False, queries: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            states: [B, N, H].
            mask: [B, 1, 1, N] bool, true where a key may be attended; None when nothing is padding.
            return_scores: also return [B, heads, N, N] scores before the softmax; the fused kernel cannot, so
                only then are probabilities computed in the open.
            queries: only the first so many positions attend (to all); None for all.

        Returns:
            [B, N, H] projected context, N the number of queries, and the scores or None.
        """
        batch, length, hidden = states.shape
        if queries is None:
            query, key, value = self.qkv(states).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(states[:, :queries], weight[:hidden], bias[:hidden])
            query = query.view(batch, -1, self.heads, hidden // self.heads).transpose(1, 2)
            both = F.linear(states, weight[hidden:], bias[hidden:]).view(batch, length, 2, self.heads, -1)
            key, value = both.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        scores = None
        if return_scores:
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf)
            context = F.dropout(scores.softmax(dim=-1), dropout) @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.output(context.transpose(1, 2).flatten(2)), scores

    def scores(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Return the [B, heads, N, N] scores of :meth:`forward` alone; the arguments are the same."""
        hidden = states.shape[-1]
        both = F.linear(states, self.qkv.weight[: 2 * hidden], self.qkv.bias[: 2 * hidden])
        query, key = both.view(*states.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores: Tensor = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        return scores if mask is None else scores.masked_fill(~mask, -torch.inf)


class TransformerLayer(nn.Module):
    """One post-norm Transformer layer of BERT: attention, residual, norm, GELU feed-forward, residual, norm.

    Args:
        hidden: H, size of the states.
        heads: number of attention heads.
        intermediate: size between the two feed-forward projections.
        dropout: dropout of probabilities and of both sub-layers' outputs.
    """

    def __init__(self, *, hidden: int, heads: int, intermediate: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(hidden=hidden, heads=heads, dropout=dropout)
        self.attention_norm = nn.LayerNorm(hidden, eps=LAYER_NORM_EPS)
        self.expand = nn.Linear(hidden, intermediate)
        self.contract = nn.Linear(intermediate, hidden)
        self.output_norm = nn.LayerNorm(hidden, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, states: Tensor, mask: Tensor | None, *, return_scores: bool = False, queries: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the next [B, N, H] states and, if asked, the attention scores of :class:`SelfAttention`.

        With ``queries`` only the first so many states are computed, for a last layer of which no others are read.
        """
        context, scores = self.attention(states, mask, return_scores=return_scores, queries=queries)
        states = self.attention_norm(states[:, :queries] + self.dropout(context))
        return self.output_norm(states + self.dropout(self.contract(F.gelu(self.expand(states))))), scores


class PredictionHead(nn.Sequential):
    """Linear, GELU, LayerNorm, Linear: the head on top of a state that UNITER's objectives and tasks share.

    Args:
        hidden: size of the state.
        output: size of the prediction; None leaves the last projection to the caller (tied weights).
        inner: size after the first projection, ``hidden`` if None.
        activation: after the first projection; VCR's published head has a ReLU.
    """

    def __init__(
        self, *, hidden: int, output: int | None, inner: int | None = None, activation: type[nn.Module] = nn.GELU
    ) -> None:
        inner = inner or hidden
        layers: list[nn.Module] = [nn.Linear(hidden, inner), activation(), nn.LayerNorm(inner, eps=LAYER_NORM_EPS)]
        super().__init__(*layers, *([] if output is None else [nn.Linear(inner, output)]))


def initialise(module: nn.Module, *, std: float = 0.02) -> None:
    """Initialise like BERT: weights of projections and embeddings from N(0, std), biases 0, norms 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        if isinstance(part, nn.Linear | nn.LayerNorm) and part.bias is not None:
            nn.init.zeros_(part.bias)


def layer_place(layer: int, count: int) -> int:
    """Return which of ``count`` layers is meant by a number from 0, or from the end with -1.

    Raises:
        UsageError: there is no such layer.

    Example:
        >>> layer_place(-1, 12)
        11
    """
    if not -count <= layer < count:
        raise UsageError(f"attention scores of layer {layer} of {count}", remedy="ask for one that exists")
    return layer % count
