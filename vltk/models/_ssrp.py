"""SSRP-Share, SSRP-Visual and SSRP-Cross: two intra-modality encoders, one inter-modality encoder, two probes.

Gu et al., "Self-Supervised Relationship Probing", NeurIPS 2020; figure 2 and section 0.2.1 of its supplement.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vltk.errors import UsageError
from vltk.models._heads import Relations
from vltk.models._layers import PredictionHead, TextEmbedding, TransformerLayer, initialise
from vltk.models._ssrp_layers import (
    CrossLayer,
    DistanceProbe,
    RegionEmbedding,
    RelationProjection,
    average_pieces,
    keys_of,
)
from vltk.types import Batch, EncoderOutput

Variant = Literal["share", "visual", "cross"]
Stage = tuple[Tensor, Tensor]
"""[B, T, H] states of the text and [B, R, H] states of the regions."""


@dataclass(frozen=True, kw_only=True)
class SSRPConfig:
    """The kind and size of an SSRP; the defaults are the published SSRP-Cross.

    Example:
        >>> size = SSRPConfig(hidden=32, heads=4, text_layers=2, region_layers=1, joint_layers=1, intermediate=64)
        >>> size.layers, len(size.build().text_layers)
        (4, 2)
    """

    variant: Variant = "cross"
    """One encoder shared by both modalities, text that looks at the picture, or both looking at each other."""
    vocabulary: int = 30522
    """Number of word pieces (30,522 of bert-base-uncased)."""
    hidden: int = 768
    """H, size of the states."""
    text_layers: int = 9
    """Transformer layers of text alone."""
    region_layers: int = 5
    """Transformer layers of regions alone."""
    joint_layers: int = 5
    """Layers of the inter-modality encoder."""
    heads: int = 12
    """Number of attention heads."""
    intermediate: int = 3072
    """Size between the feed-forward projections."""
    positions: int = 512
    """Longest text in word pieces."""
    types: int = 2
    """Rows of the segment table of texts."""
    region_dim: int = 2048
    """D, size of a region feature."""
    region_classes: int = 1600
    """Object classes of masked regions, as the detector numbers them."""
    attribute_classes: int = 400
    """Attributes of masked regions, as the detector numbers them."""
    probe_rank: int = 1024
    """Rows of each probe's map."""
    relation_summary: int = 512
    """Size of what sums up a relation matrix before the contrastive losses."""
    relation_dim: int = 256
    """Size of the vectors that the contrastive losses compare."""
    dropout: float = 0.1
    """Dropout of embeddings, attention and outputs."""
    initial_deviation: float = 0.02
    """Standard deviation of random weights (BERT's: 0.02, for 768 dimensions; fewer learn faster from more)."""

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise UsageError(f"{self.heads} heads do not divide a hidden size of {self.hidden}", remedy="change one")

    @property
    def layers(self) -> int:
        """All Transformer layers that a pair goes through, one modality counted after the other."""
        return self.text_layers + self.region_layers + self.joint_layers

    def build(self) -> SSRP:
        """Make the encoder and its probes with random weights."""
        return SSRP(self)

    def build_for_pretraining(self) -> SSRPForPretraining:
        """Make the encoder, its probes and its pre-training heads with random weights."""
        return SSRPForPretraining(self)

    def build_from(self, path: Path) -> tuple[SSRP, list[str]]:
        """Make an encoder of the size of a run, or of this size with the weights of an LXMERT.

        Returns:
            The encoder, and what stayed fresh, for people.

        Raises:
            DataError: no SSRP and no LXMERT, or one of another size.
        """
        from vltk.models._ssrp_checkpoints import encoder_from

        return encoder_from(self, path)


class SSRP(nn.Module):
    """The encoder of all three variants, with its probes.

    Args:
        config: kind and size.

    Attributes:
        recomputes_activations: keep only each layer's input for the backward pass and compute the rest again.
    """

    def __init__(self, config: SSRPConfig) -> None:
        super().__init__()
        self.config = config
        sizes = {"hidden": config.hidden, "heads": config.heads, "intermediate": config.intermediate}
        layer = partial(TransformerLayer, **sizes, dropout=config.dropout)
        self.text_embedding = TextEmbedding(config)
        self.region_embedding = RegionEmbedding(config)
        self.text_layers = nn.ModuleList(layer() for _ in range(config.text_layers))
        self.region_layers = nn.ModuleList(layer() for _ in range(config.region_layers))
        both = config.variant == "cross"
        crossing = partial(CrossLayer, **sizes, dropout=config.dropout, both=both)
        kind: Any = layer if config.variant == "share" else crossing
        self.joint_layers = nn.ModuleList(kind() for _ in range(config.joint_layers))
        self.align = None if both else nn.Linear(2 * config.hidden, config.hidden)
        self.text_probe = DistanceProbe(hidden=config.hidden, rank=config.probe_rank)
        self.region_probe = DistanceProbe(hidden=config.hidden, rank=config.probe_rank)
        self.recomputes_activations = False
        initialise(self, std=config.initial_deviation)
        for probe in (self.text_probe, self.region_probe):
            probe.initialise()

    @property
    def layers(self) -> nn.ModuleList:
        """All layers."""
        return nn.ModuleList([*self.text_layers, *self.region_layers, *self.joint_layers])

    def embed_text(self, batch: Batch) -> Tensor:
        """Return [B, T, H] embeddings of the batch's texts."""
        embedded: Tensor = self.text_embedding(batch.input_ids, batch.text_types)
        return embedded

    def embed_regions(self, batch: Batch) -> Tensor:
        """Return [B, R, H] embeddings of the batch's regions; a hidden region is zeros with its box."""
        if not batch.regions.shape[1]:
            return self.region_embedding.feature.weight.new_zeros(len(batch.ids), 0, self.config.hidden)
        embedded: Tensor = self.region_embedding(batch.regions, batch.locations)
        return embedded

    def forward(self, batch: Batch) -> EncoderOutput:
        """Encode a batch; SSRP-Share and SSRP-Visual also encode pictures or texts alone (T = 0 or R = 0).

        Raises:
            UsageError: SSRP-Cross without text or without regions.
        """
        return self.encode(self.embed_text(batch), batch.text_mask, self.embed_regions(batch), batch.region_mask)

    def encode(self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor) -> EncoderOutput:
        """Encode embeddings that were computed before, e.g. once for a text that meets many pictures.

        Args:
            text: [B, T, H] of :meth:`embed_text`.
            text_mask: [B, T] bool.
            regions: [B, R, H] of :meth:`embed_regions`.
            region_mask: [B, R] bool.

        Returns:
            The states; ``pooled`` is f_align: the state of [CLS] (SSRP-Cross), or g_align of it beside the mean of
            the regions (section 0.2.1).

        Raises:
            UsageError: SSRP-Cross without text or without regions.
        """
        # Only the last stage is kept: those before it may go as soon as nothing needs them.
        text, regions = deque(self._stages(text, text_mask, regions, region_mask), maxlen=1)[0]
        text, regions = text * text_mask.unsqueeze(-1), regions * region_mask.unsqueeze(-1)
        return EncoderOutput(text=text, regions=regions, pooled=self._aligned(text, regions, region_mask))

    def layer_states(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Return the states before the first layer and after each one, for probes of every layer.

        Returns:
            Embeddings, then layers: 1 + ``text_layers`` + ``joint_layers`` times [B, T, H] of the text, and
            1 + ``region_layers`` + ``joint_layers`` times [B, R, H] of the regions; padding holds anything.
        """
        stages = list(
            self._stages(self.embed_text(batch), batch.text_mask, self.embed_regions(batch), batch.region_mask)
        )
        alone = 1 + self.config.text_layers
        both = alone + self.config.region_layers
        text = [stage[0] for stage in (*stages[:alone], *stages[both:])]
        regions = [stage[1] for stage in (stages[0], *stages[alone:both], *stages[both:])]
        return text, regions

    def relations(self, output: EncoderOutput, batch: Batch) -> Relations:
        """Return the squared distances of the probes, R^w and R^v.

        They are those of words where ``batch.targets["word_of_piece"]`` says which word each piece belongs to, else
        those of word pieces; special tokens take no part.

        Args:
            output: of :meth:`forward` on the batch.
            batch: what was encoded.
        """
        if "word_of_piece" in batch.targets:
            belongs = batch.targets["word_of_piece"]
            trees = batch.targets.get("trees")
            count = trees.shape[1] if trees is not None else 1 + int(belongs.max()) if belongs.numel() else 0
            text, text_mask = average_pieces(output.text, belongs, count)
        else:
            text, text_mask = output.text, pieces_without_frame(batch)
        return Relations(
            text=self.text_probe(text),
            text_mask=text_mask,
            regions=self.region_probe(output.regions),
            region_mask=batch.region_mask,
        )

    def _stages(self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor) -> Iterator[Stage]:
        """Yield the states before the first layer and after each."""
        if self.config.variant == "cross" and not (text.shape[1] and regions.shape[1]):
            missing = "regions" if text.shape[1] else "words"
            remedy = "use SSRP-Share or SSRP-Visual for one modality alone"
            raise UsageError(f"SSRP-Cross was given no {missing}, which its layers look at", remedy=remedy)
        words, boxes = keys_of(text_mask), keys_of(region_mask)
        yield text, regions
        for layer in self.text_layers:
            text = self._alone(layer, text, words)
            yield text, regions
        for layer in self.region_layers:
            regions = self._alone(layer, regions, boxes)
            yield text, regions
        for layer in self.joint_layers:
            if self.config.variant == "share":
                text, regions = self._alone(layer, text, words), self._alone(layer, regions, boxes)
            else:
                text, regions = self._call(layer)(text, words, regions, boxes)
            yield text, regions

    def _alone(self, layer: nn.Module, states: Tensor, mask: Tensor | None) -> Tensor:
        if not states.shape[1]:
            return states
        after: Tensor = self._call(layer)(states, mask)[0]
        return after

    def _call(self, layer: nn.Module) -> Any:
        if self.recomputes_activations and self.training and torch.is_grad_enabled():
            return partial(checkpoint, layer, use_reentrant=False)
        return layer

    def _aligned(self, text: Tensor, regions: Tensor, region_mask: Tensor) -> Tensor:
        """Return f_align [B, H] of states whose padding is zero."""
        start = text[:, 0] if text.shape[1] else regions.new_zeros(len(regions), self.config.hidden)
        if self.align is None:
            return start
        mean = regions.sum(dim=1) / region_mask.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.tanh(self.align(torch.cat([start, mean], dim=-1)))


def pieces_without_frame(batch: Batch) -> Tensor:
    """Return [B, T] bool, true on word pieces that are neither the start nor a separator.

    The first token of a text and its last one tell which ids these are.
    """
    ids, mask = batch.input_ids, batch.text_mask
    if not ids.shape[1]:
        return mask
    last = ids.gather(1, (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0))
    return mask & (ids != ids[:, :1]) & (ids != last)


class SSRPForPretraining(nn.Module):
    """An SSRP with the heads of both stages: what is hidden, what belongs together, which relations are alike.

    The masked-word decoder shares the word embedding; class, attribute and feature of a hidden region share a
    transform (LXMERT).

    Args:
        config: kind and size.
    """

    def __init__(self, config: SSRPConfig) -> None:
        super().__init__()
        self.encoder = SSRP(config)
        self.word_transform = PredictionHead(hidden=config.hidden, output=None)
        self.word_bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.region_transform = PredictionHead(hidden=config.hidden, output=None)
        self.region_classifier = nn.Linear(config.hidden, config.region_classes)
        self.attribute_classifier = nn.Linear(config.hidden, config.attribute_classes)
        self.feature_regressor = nn.Linear(config.hidden, config.region_dim)
        self.matching_transform = nn.Linear(config.hidden, config.hidden)
        self.matching = nn.Linear(config.hidden, 2)
        sizes = {"summary": config.relation_summary, "size": config.relation_dim}
        self.text_projection = RelationProjection(**sizes)
        self.region_projection = RelationProjection(**sizes)
        for name, head in self.named_children():
            if name != "encoder":
                initialise(head, std=config.initial_deviation)
        for projection in (self.text_projection, self.region_projection):
            projection.initialise()

    def start_from(self, path: Path) -> list[str]:
        """Start from a run of this kind and size or, as SSRP-Cross, from an LXMERT; return what stayed fresh.

        Raises:
            DataError: no SSRP and no LXMERT, or one of another kind or size, all differences named.
        """
        from vltk.models._ssrp_checkpoints import start_from

        return start_from(self, path)

    def encode_frozen(self, batch: Batch) -> EncoderOutput:
        """Encode without dropout and without gradients, as stage 2 reads the encoder."""
        training = self.encoder.training
        self.encoder.eval()
        try:
            with torch.no_grad():
                return cast(EncoderOutput, self.encoder(batch))
        finally:
            self.encoder.train(training)

    def word_logits(self, states: Tensor) -> Tensor:
        """Score the vocabulary for [M, H] states of word pieces."""
        return F.linear(self.word_transform(states), self.encoder.text_embedding.word.weight, self.word_bias)

    def region_predictions(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score the classes and the attributes of [M, H] states of regions, and predict their features.

        Returns:
            [M, C], [M, A] and [M, D].
        """
        shared = self.region_transform(states)
        return self.region_classifier(shared), self.attribute_classifier(shared), self.feature_regressor(shared)

    def matching_logits(self, pooled: Tensor) -> Tensor:
        """Score mismatch (0) and match (1) for [B, H] alignment vectors."""
        scores: Tensor = self.matching(torch.tanh(self.matching_transform(pooled)))
        return scores

    def relation_vectors(self, relations: Relations) -> tuple[Tensor, Tensor]:
        """Return the [B, E] vectors of the texts' and of the pictures' relations, which contrastive losses compare."""
        text: Tensor = self.text_projection(relations.text, relations.text_mask)
        regions: Tensor = self.region_projection(relations.regions, relations.region_mask)
        return text, regions
