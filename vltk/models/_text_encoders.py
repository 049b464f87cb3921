"""Texts as one vector: a bidirectional GRU over words, or BERT over word pieces (VSE-infinity, section 4.1)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vltk.models._dual import run_packed, unit_length, word_vectors
from vltk.models._shared_states import run_shared, shares_states
from vltk.types import Batch


class BiGRUText(nn.Module):
    """Word vectors, a bidirectional GRU whose directions are averaged, and a pooling.

    Args:
        vocabulary: number of words.
        word_dim: size of a word vector.
        hidden: H.
        layers: of the GRU.
        pooling: of [B, T, H] states under a mask.
        normalise: scale the vector to length one.
        dropout: of the word vectors (HGR: 0.2; VSE-infinity has none).
        orthogonal: begin with orthogonal weights and no bias in the GRU, as HGR does.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        word_dim: int,
        hidden: int,
        layers: int,
        pooling: nn.Module,
        normalise: bool = True,
        dropout: float = 0.0,
        orthogonal: bool = False,
    ) -> None:
        super().__init__()
        self.word = word_vectors(vocabulary, word_dim)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(word_dim, hidden, layers, batch_first=True, bidirectional=True)
        if orthogonal:
            for weight in self.gru.parameters():
                nn.init.orthogonal_(weight) if weight.dim() == 2 else nn.init.zeros_(weight)
        self.pooling, self.normalise = pooling, normalise

    def states(self, batch: Batch) -> Tensor:
        """Return [B, T, H] states of the words."""
        dropped = self.training and self.dropout.p > 0
        if not dropped and shares_states(self.gru, batch.input_ids.device):
            return run_shared(self.gru, self.word, batch.input_ids, batch.text_mask)
        every, _ = run_packed(self.gru, self.dropout(self.word(batch.input_ids)), batch.text_mask)
        forward, backward = every.chunk(2, dim=-1)
        return (forward + backward) / 2

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, H] of the batch's texts."""
        pooled: Tensor = self.pooling(self.states(batch), batch.text_mask)
        return unit_length(pooled) if self.normalise else pooled


class BERTText(nn.Module):
    """BERT, a projection and a pooling over all word pieces, [CLS] and [SEP] among them, as published.

    Args:
        bert: a ``transformers.BertModel``.
        hidden: H.
        pooling: of [B, T, H] states under a mask.
        normalise: scale the vector to length one.
    """

    def __init__(self, bert: Any, *, hidden: int, pooling: nn.Module, normalise: bool = True) -> None:
        super().__init__()
        self.bert = bert
        self.project = nn.Linear(bert.config.hidden_size, hidden)
        self.pooling, self.normalise = pooling, normalise

    def states(self, batch: Batch) -> Tensor:
        """Return [B, T, BERT's size] states of the word pieces."""
        states: Tensor = self.bert(batch.input_ids, attention_mask=batch.text_mask.long()).last_hidden_state
        return states

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, H] of the batch's texts."""
        pooled: Tensor = self.pooling(self.project(self.states(batch)), batch.text_mask)
        return unit_length(pooled) if self.normalise else pooled
