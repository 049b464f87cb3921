"""Heads of the downstream tasks, on top of any joint encoder (UNITER, section 4.1 and A.2; SSRP's supplement, A.1-A.5).

A head turns what the encoder says of a batch into scores and knows the names that its authors' checkpoints use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vltk.models._layers import PredictionHead, initialise
from vltk.models._published import Layout, PublishedLayout
from vltk.types import Batch, EncoderOutput

# The published code hides padding from a softmax by this score and not by minus infinity.
HIDDEN_SCORE = -1e4


class Head(PublishedLayout):
    """Scores from an encoder's output.

    Attributes:
        pooled_only: the pooled state is all that it reads.
    """

    pooled_only: ClassVar[bool] = True

    def forward(self, output: EncoderOutput, batch: Batch) -> Tensor:
        """Return the scores; their shape is the head's own."""
        raise NotImplementedError


class AnswerHead(Head):
    """Scores a closed set of answers from the pooled state (VQA, GQA, SNLI-VE).

    Args:
        hidden: H, size of the states.
        answers: C, number of answers.
    """

    layout: ClassVar[Layout] = ((r"mlp\.(\d)\.(\w+)", r"vqa_output.\1.\2"),)

    def __init__(self, *, hidden: int, answers: int) -> None:
        super().__init__()
        self.mlp = PredictionHead(hidden=hidden, inner=2 * hidden, output=answers)
        initialise(self)

    def forward(self, output: EncoderOutput, batch: Batch) -> Tensor:
        """Return [B, C] logits."""
        scores: Tensor = self.mlp(output.pooled)
        return scores


class ChoiceHead(Head):
    """Scores wrong (0) and right (1) for each question with one of its choices (VCR).

    Args:
        hidden: H, size of the states.
    """

    layout: ClassVar[Layout] = ((r"mlp\.(\d)\.(\w+)", r"vcr_output.\1.\2"),)

    def __init__(self, *, hidden: int) -> None:
        super().__init__()
        self.mlp = PredictionHead(hidden=hidden, inner=2 * hidden, output=2, activation=nn.ReLU)
        initialise(self)

    def forward(self, output: EncoderOutput, batch: Batch) -> Tensor:
        """Return [B, 2] logits."""
        scores: Tensor = self.mlp(output.pooled)
        return scores


class TripletHead(Head):
    """Scores false (0) and true (1) for a statement that saw both pictures at once (NLVR2, Triplet).

    Args:
        hidden: H, size of the states.
    """

    layout: ClassVar[Layout] = ((r"output\.(\w+)", r"nlvr2_output.\1"),)

    def __init__(self, *, hidden: int) -> None:
        super().__init__()
        self.output = nn.Linear(hidden, 2)
        initialise(self)

    def forward(self, output: EncoderOutput, batch: Batch) -> Tensor:
        """Return [B, 2] logits."""
        scores: Tensor = self.output(output.pooled)
        return scores


class PairHead(Head):
    """Scores a statement from its two pooled states (NLVR2, Pair); rows 2k and 2k + 1 are left and right.

    Args:
        hidden: H, size of the states.
    """

    layout: ClassVar[Layout] = ((r"output\.(\w+)", r"nlvr2_output.\1"),)

    def __init__(self, *, hidden: int) -> None:
        super().__init__()
        self.output = nn.Linear(2 * hidden, 2)
        initialise(self)

    def forward(self, output: EncoderOutput, batch: Batch) -> Tensor:
        """Return [B / 2, 2] logits."""
        scores: Tensor = self.output(output.pooled.reshape(len(output.pooled) // 2, -1))
        return scores


class PairAttentionHead(Head):
    """Scores a statement after each of its two sequences attended to the other (NLVR2, Pair-biattn).

    Args:
        hidden: H, size of the states.
        heads: attention heads.
        dropout: of the attention and of what is attended.
    """

    layout: ClassVar[Layout] = (
        (r"left\.(.+)", r"attn1.\1"),
        (r"right\.(.+)", r"attn2.\1"),
        (r"join\.(\w+)", r"fc.0.\1"),
        (r"pool\.(\w+)", r"attn_pool.fc.0.\1"),
        (r"output\.(\w+)", r"nlvr2_output.\1"),
    )
    pooled_only = False

    def __init__(self, *, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.left = nn.MultiheadAttention(hidden, heads, dropout=dropout, batch_first=True)
        self.right = nn.MultiheadAttention(hidden, heads, dropout=dropout, batch_first=True)
        self.join = nn.Linear(2 * hidden, hidden)
        self.pool = nn.Linear(hidden, 1)
        self.output = nn.Linear(2 * hidden, 2)
        self.dropout = nn.Dropout(dropout)
        initialise(self)

    def forward(self, output: EncoderOutput, batch: Batch) -> Tensor:
        """Return [B / 2, 2] logits."""
        states = torch.cat([output.text, output.regions], dim=1)
        mask = torch.cat([batch.text_mask, batch.region_mask], dim=1)
        left, right = states[::2], states[1::2]
        seen_by_left, _ = self.left(left, right, right, key_padding_mask=~mask[1::2], need_weights=False)
        seen_by_right, _ = self.right(right, left, left, key_padding_mask=~mask[::2], need_weights=False)
        pooled = [
            self._pooled(torch.cat([seen, own], dim=-1), side)
            for seen, own, side in ((seen_by_left, left, mask[::2]), (seen_by_right, right, mask[1::2]))
        ]
        scores: Tensor = self.output(torch.cat(pooled, dim=-1))
        return scores

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the [B, H] mean of joined [B, N, 2H] states under learnt weights."""
        joined = self.dropout(F.relu(self.join(states)))
        weights = F.relu(self.pool(joined)).squeeze(-1) + ~mask * HIDDEN_SCORE
        return torch.einsum("bn,bnh->bh", self.dropout(weights.softmax(dim=-1)), joined)


class RegionHead(Head):
    """Scores each region as what an expression refers to (RefCOCO).

    Args:
        hidden: H, size of the states.
        layers: 1 or 2 projections (published: 1 for RefCOCO and RefCOCOg, 2 for RefCOCO+).
    """

    layout: ClassVar[Layout] = ((r"output\.(.+)", r"re_output.\1"),)
    pooled_only = False

    def __init__(self, *, hidden: int, layers: int = 1) -> None:
        super().__init__()
        self.output = nn.Linear(hidden, 1) if layers == 1 else PredictionHead(hidden=hidden, output=1)
        initialise(self)

    def forward(self, output: EncoderOutput, batch: Batch) -> Tensor:
        """Return [B, R] scores, -10,000 on padding."""
        scores: Tensor = self.output(output.regions).squeeze(-1)
        return scores.masked_fill(~batch.region_mask, HIDDEN_SCORE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relations:
    """How far apart the items of each side are, as an encoder with relation probes says it.

    Attributes:
        text: [B, N, N] squared distances of words or word pieces.
        text_mask: [B, N] bool, true on what counts (no special tokens).
        regions: [B, R, R] squared distances of regions.
        region_mask: [B, R] bool.
    """

    text: Tensor
    text_mask: Tensor
    regions: Tensor
    region_mask: Tensor


class GivesRelations(Protocol):
    """An encoder that can say how the words and the regions of a batch are related (SSRP)."""

    def relations(self, output: EncoderOutput, batch: Batch) -> Relations:
        """Return the relations of what was just encoded."""


class RelationSummary(nn.Module):
    """One vector of fixed size from a matrix of distances, whatever its size and the order of its items."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.pair, self.item = nn.Linear(1, size), nn.Linear(size, size)

    def forward(self, distances: Tensor, mask: Tensor) -> Tensor:
        """Return [B, S] of [B, N, N] distances; an item's distance to itself says nothing and is left out."""
        others = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        pairs = F.gelu(self.pair(distances.clamp(min=0).log1p().unsqueeze(-1)))
        items = F.gelu(self.item(_mean(pairs, others)))
        return _mean(items, mask)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the second last dimension of what is marked, 0 where nothing is."""
    weights = mask.unsqueeze(-1).to(values.dtype)
    return (values * weights).sum(dim=-2) / weights.sum(dim=-2).clamp(min=1)


class AlignmentHead(Head):
    """Scores from alignment vectors, with relations (supplement, A.1-A.2, A.4-A.5) or without them (A.3).

    ``q = f_q([f_align; f_vw([R_v; R_w])])`` of each picture, then ``f_FC(f_p(q))`` of one picture or of two side by
    side. The relations enter through a summary that is independent of the numbers of words and regions.

    Args:
        hidden: H, size of the alignment vector, which is the pooled state.
        outputs: C, number of scores.
        pictures: 1, or 2 where rows 2k and 2k + 1 belong together.
        relational: use relations.
    """

    layout: ClassVar[Layout] = ((r"(.+)", r"alignment_head.\1"),)

    def __init__(self, *, hidden: int, outputs: int, pictures: int = 1, relational: bool = False) -> None:
        super().__init__()
        self.pictures, self.relational = pictures, relational
        if relational:
            self.text, self.regions = RelationSummary(hidden), RelationSummary(hidden)
            self.relate = PredictionHead(hidden=2 * hidden, inner=hidden, output=None)
            self.align = PredictionHead(hidden=2 * hidden, inner=hidden, output=None)
        self.join = PredictionHead(hidden=pictures * hidden, inner=hidden, output=None)
        self.output = nn.Linear(hidden, outputs)
        initialise(self)

    def forward(self, output: EncoderOutput, batch: Batch, relations: Relations | None = None) -> Tensor:
        """Return [B / pictures, C] logits; ``relations`` are needed exactly where the head is relational."""
        aligned = output.pooled
        if self.relational and relations is not None:
            of_regions = self.regions(relations.regions, relations.region_mask)
            of_text = self.text(relations.text, relations.text_mask)
            related = self.relate(torch.cat([of_regions, of_text], dim=-1))
            aligned = self.align(torch.cat([aligned, related], dim=-1))
        joined = self.join(aligned.reshape(len(aligned) // self.pictures, -1))
        scores: Tensor = self.output(joined)
        return scores


def begin_head(head: Head, weights: Mapping[str, Tensor]) -> str:
    """Start a head from weights under its published names or under those of vltk; say what became of it.

    Args:
        head: what is started; it stays as it is where the weights do not hold all of it in its size.
        weights: what a checkpoint holds beside the encoder.

    Example:
        >>> head = TripletHead(hidden=4)
        >>> begin_head(head, {"nlvr2_output.weight": torch.ones(2, 4), "nlvr2_output.bias": torch.ones(2)})
        'head of the checkpoint'
        >>> begin_head(head, {})
        'head freshly initialised'
    """
    own = head.state_dict()
    for names in (
        {key: f"head.{key}" for key in own},
        {key: name for key in own for name in head.published_keys(key)},
    ):
        found = {key: weights[name] for key, name in names.items() if name in weights}
        if found.keys() == own.keys():
            wrong = [names[key] for key in own if found[key].shape != own[key].shape]
            if wrong:
                shape = list(weights[wrong[0]].shape)
                return f"head freshly initialised ({wrong[0]} of the checkpoint is {shape})"
            head.load_state_dict(found)
            return "head of the checkpoint"
    return "head freshly initialised"
