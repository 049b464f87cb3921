"""Image-text retrieval by pairwise ranking (UNITER, section 4.1 and A.2), with random or hard negatives, and IAIS.

A matched pair shall score higher than mismatched ones by a margin, on sigmoids of the scores. Random negatives come in
groups: a matched pair, then pairs with another picture, then pairs with another text. Hard negatives are found while
training: one text meets many pictures (or one picture many texts), all are scored without gradient and dropout, and
the best-scoring mismatched ones are learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vltk.batching import SpecialTokens
from vltk.errors import UsageError
from vltk.models._layers import initialise
from vltk.objectives.relations import IAIS, Half, words_of
from vltk.types import Batch, EncoderOutput, Losses

RANDOM, HARD = "random", "hard"
"""The objectives of a :class:`Ranking`, as a plan names them."""

RELATION_WEIGHT = "relation_weight"
"""Name of the target that holds the weight of the relation loss at the step of the batch."""

# Pairs that are scored at once while negatives are looked for: of a base-size model some 300 MB of activations.
_MINED_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Embedded pairs that share one side: one text with N pictures, or N texts with one picture.

    Attributes:
        text: [1 or N, T, H] embeddings.
        text_mask: [1 or N, T] bool.
        regions: [1 or N, R, H] embeddings.
        region_mask: [1 or N, R] bool.
    """

    text: Tensor
    text_mask: Tensor
    regions: Tensor
    region_mask: Tensor

    def lengths(self) -> Tensor:
        """Return [N] words plus regions of each pair."""
        return self.text_mask.sum(dim=1) + self.region_mask.sum(dim=1)

    def take(self, rows: Tensor | slice) -> Candidates:
        """Return some pairs, the shared side repeated without a copy, and no column that is padding in all of them."""
        count = len(self.lengths())
        sides = {name: getattr(self, name) for name in ("text", "text_mask", "regions", "region_mask")}
        sides = {name: side[rows] if len(side) == count else side for name, side in sides.items()}
        taken = max(map(len, sides.values()))
        sides = {name: side.expand(taken, *side.shape[1:]) for name, side in sides.items()}
        for name, mask in (("text", "text_mask"), ("regions", "region_mask")):
            longest = int(sides[mask].sum(dim=1).max())
            sides |= {name: sides[name][:, :longest], mask: sides[mask][:, :longest]}
        return Candidates(**sides)


class Ranking(nn.Module):
    """A joint encoder with a ranking head, and the loss of the published fine-tuning.

    Args:
        model: gives ``embed_text``, ``embed_regions`` and ``encode``, e.g. a UNITER; ``model.config.hidden`` is H.
        margin: by how much a matched pair shall score higher (published: 0.2).
        hard: how many of the candidates are learnt from (published: 31 of 399).
        gather: "official" keeps the published bug of texts as candidates: regions are looked for behind the last
            text of the batch where they stand behind the longest.
        iais: the relation loss of the matched pairs, or None.
        special: what frames a text; needed for ``iais``.

    Example:
        >>> from vltk.models.uniter import UNITERConfig
        >>> size = UNITERConfig(vocabulary=9, hidden=8, heads=2, layers=1, intermediate=8, positions=8, region_dim=4)
        >>> Ranking(size.build()).head.weight.shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        margin: float = 0.2,
        hard: int = 31,
        gather: Literal["correct", "official"] = "correct",
        iais: IAIS | None = None,
        special: SpecialTokens | None = None,
    ) -> None:
        super().__init__()
        if iais is not None and special is None:
            raise UsageError("relations need to know the special tokens", remedy="give those of the example store")
        self.model, self.margin, self.hard, self.gather = model, margin, hard, gather
        self.iais, self.special = iais, special
        encoder: Any = model
        self.head = nn.Linear(encoder.config.hidden, 1)
        initialise(self.head)

    @property
    def encoder(self) -> Any:
        """The model with its own methods."""
        return self.model

    def embed_text(self, batch: Batch) -> Tensor:
        """Return [B, T, H] embeddings of texts."""
        embedded: Tensor = self.encoder.embed_text(batch)
        return embedded

    def embed_regions(self, batch: Batch) -> Tensor:
        """Return [B, R, H] embeddings of regions."""
        embedded: Tensor = self.encoder.embed_regions(batch)
        return embedded

    def encode(self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor, **more: Any) -> Any:
        """Encode embeddings as pairs; see the ``encode`` of the model."""
        return self.encoder.encode(text, text_mask, regions, region_mask, **more)

    def encode_pooled(self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor) -> Tensor:
        """Return the [B, H] pooled states of :meth:`encode`, by the shorter way where the model has one."""
        sides = (text, text_mask, regions, region_mask)
        shorter = hasattr(self.model, "encode_pooled")
        pooled: Tensor = self.encoder.encode_pooled(*sides) if shorter else self.encode(*sides).pooled
        return pooled

    def match_scores(self, pooled: Tensor) -> Tensor:
        """Return [B] raw scores of [B, H] pooled states."""
        scores: Tensor = self.head(pooled).squeeze(-1)
        return scores

    def initialise_head(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Begin with a ranking head, or with the row of image-text matching that says "match", as published."""
        own = next((part for part in ("head", "rank_output") if f"{part}.weight" in weights), None)
        known = {name: weights.get(f"{own or 'matching'}.{name}") for name in ("weight", "bias")}
        note = "ranking head taken over"
        if own is None:
            known = {name: None if value is None else value[1:2] for name, value in known.items()}
            note = "ranking head from image-text matching"
        fits = all(value is not None and value.shape == getattr(self.head, name).shape for name, value in known.items())
        if not fits:
            return ["ranking head freshly initialised"]
        self.head.load_state_dict({name: value for name, value in known.items() if value is not None})
        return [note]

    def forward(self, objective: str, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch.

        Args:
            objective: "random" for groups of pairs, with ``targets["group"]`` [] their size; "hard" for one text with
                N pictures or one picture with N texts, of which the first matches.
            batch: ``targets["relation_weight"]`` [] weighs the relation loss at this step, where there is one.
            generator: not used; the plan draws.
        """
        return self._hard(batch) if objective == HARD else self._random(batch)

    def _random(self, batch: Batch) -> Losses:
        size = int(batch.targets["group"])
        pairs = self._embedded(batch, None)
        matched = slice(None, None, size)
        pooled, scores = self._encoded(pairs, None, matched)
        hinges = ranking_hinges(self.match_scores(pooled).view(-1, size), margin=self.margin)
        relations = self._relations(scores, batch, matched, batch.region_mask[matched], None)
        # Divided by the count of hinges, the relation losses are a mean over the matched pairs.
        return Losses(values=torch.cat([hinges.flatten(), relations * (size - 1)]), count=hinges.numel())

    def _hard(self, batch: Batch) -> Losses:
        half: Half = "text" if len(batch.input_ids) == 1 else "image"
        last = int(batch.text_mask[-1].sum()) if half == "image" and self.gather == "official" else None
        mined = self._mined(batch, last)
        pairs = self._embedded(_rows(batch, torch.cat([mined.new_zeros(1), mined])), last).take(slice(None))
        pooled, scores = self._encoded(pairs, half, slice(1))
        hinges = ranking_hinges(self.match_scores(pooled).view(1, -1), margin=self.margin).flatten()
        relations = self._relations(scores, batch, slice(1), pairs.region_mask[:1], half)
        # Both halves of a matched pair are summed and divided by the number of pairs, as published: one of them counts.
        return Losses(values=torch.cat([hinges / len(hinges), relations]), count=int(half == "text"))

    @torch.no_grad()
    def _mined(self, batch: Batch, last: int | None) -> Tensor:
        """Return the places of the candidates that score highest, without gradient and without dropout."""
        training = self.training
        self.eval()
        candidates = self._embedded(batch, last)
        order = candidates.lengths().argsort(descending=True, stable=True)
        scores = candidates.text.new_empty(len(order), dtype=torch.float32)
        for rows in torch.split(order, _MINED_AT_ONCE):
            some = candidates.take(rows)
            pooled = self.encode_pooled(some.text, some.text_mask, some.regions, some.region_mask)
            scores[rows] = self.match_scores(pooled).float()
        self.train(training)
        # Weights that autocast has converted here would be used again below, without a gradient.
        torch.clear_autocast_cache()
        found: Tensor = scores[1:].topk(min(self.hard, len(scores) - 1)).indices + 1
        return found

    def _embedded(self, batch: Batch, last: int | None) -> Candidates:
        """Embed each side once; ``last`` is the length of the last text where the published bug is wanted."""
        text, regions, region_mask = self.embed_text(batch), self.embed_regions(batch), batch.region_mask
        if last is not None:
            count, length = len(text), regions.shape[1]
            regions = torch.cat([text[:, last:], regions.expand(count, -1, -1)], dim=1)[:, :length]
            region_mask = region_mask.expand(count, -1)
        return Candidates(text=text, text_mask=batch.text_mask, regions=regions, region_mask=region_mask)

    def _encoded(self, pairs: Candidates, half: Half | None, matched: slice) -> tuple[Tensor, Tensor | None]:
        """Return the pooled states, and the attention scores of matched pairs where relations are to be aligned."""
        sides = (pairs.text, pairs.text_mask, pairs.regions, pairs.region_mask)
        recomputes = getattr(self.model, "recomputes_activations", False)
        if self.iais is None or not self.iais.anchors_of(half):
            return (self.encode(*sides).pooled if recomputes else self.encode_pooled(*sides)), None
        if hasattr(self.model, "encode_pooled_and_scores") and not recomputes:
            found: tuple[Tensor, Tensor] = self.encoder.encode_pooled_and_scores(
                *sides, layer=self.iais.layer, rows=matched
            )
            return found
        output: EncoderOutput = self.encode(*sides, attention_scores=(self.iais.layer,))
        (scores,) = output.attention_scores.values()
        return output.pooled, scores[matched]

    def _relations(
        self, scores: Tensor | None, batch: Batch, matched: slice, region_mask: Tensor, half: Half | None
    ) -> Tensor:
        """Return the weighed relation losses of the matched pairs, none where there is nothing to align."""
        if self.iais is None or self.special is None or scores is None:
            return batch.locations.new_zeros(0)
        words = words_of(batch, self.special)[matched, : scores.shape[-1] - region_mask.shape[1]]
        losses = self.iais.losses(scores, words, region_mask, anchors=self.iais.anchors_of(half))
        return losses * batch.targets[RELATION_WEIGHT]


def ranking_hinges(scores: Tensor, *, margin: float) -> Tensor:
    """Return how far mismatched pairs come within the margin of the matched one of their group, on sigmoids.

    Args:
        scores: [G, N] raw scores, the matched pair first.
        margin: published 0.2.

    Returns:
        [G, N - 1].

    Example:
        >>> ranking_hinges(torch.tensor([[9.0, -9.0, 9.0]]), margin=0.2)
        tensor([[0.0000, 0.2000]])
    """
    likely = scores.float().sigmoid()
    return (margin + likely[:, 1:] - likely[:, :1]).clamp(min=0)


def _rows(batch: Batch, rows: Tensor) -> Batch:
    """Return some of the candidates of a batch beside its shared side."""
    texts, pictures = len(batch.input_ids) > 1, len(batch.regions) > 1
    names = (("input_ids", "text_mask", "text_types") if texts else ()) + (
        ("regions", "locations", "region_mask", "region_types") if pictures else ()
    )
    sides = {name: getattr(batch, name) for name in names}
    return replace(batch, **{name: side[rows] for name, side in sides.items() if side is not None})
