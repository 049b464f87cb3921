"""UNITER: one Transformer over word pieces and regions (Chen et al., ECCV 2020, section 3.1)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vltk.config import option
from vltk.errors import DataError, UsageError
from vltk.models._layers import (
    LAYER_NORM_EPS,
    PredictionHead,
    TextEmbedding,
    TransformerLayer,
    initialise,
    layer_place,
)
from vltk.models._published import JOINED, PublishedLayout
from vltk.types import Batch, EncoderOutput

HEAD_SIZE = 64
"""Dimensions of an attention head in BERT and the published UNITER models."""


@dataclass(frozen=True, kw_only=True)
class UNITERConfig:
    """The size of a UNITER; the defaults are uniter-base.

    Example:
        >>> sum(p.numel() for p in UNITERConfig(hidden=32, heads=4, layers=1, intermediate=64).build().parameters()) > 0
        True
    """

    vocabulary: int = option(28996, least=1)
    """Number of word pieces (28,996 of bert-base-cased; VCR has 81 more)."""
    hidden: int = option(768, least=1)
    """H, size of the states."""
    layers: int = option(12, least=1)
    """Number of Transformer layers."""
    heads: int = option(12, least=1)
    """Number of attention heads."""
    intermediate: int = option(3072, least=1)
    """Size between the feed-forward projections."""
    positions: int = option(512, least=1)
    """Longest text in word pieces."""
    types: int = option(2, least=1)
    """Rows of the segment table (text 0, region 1; NLVR2 has 3, VCR 4)."""
    region_dim: int = option(2048, least=1)
    """D, size of a region feature."""
    region_classes: int = option(1601, least=1)
    """C, classes of masked region classification, background first."""
    dropout: float = 0.1
    """Dropout of embeddings, attention and outputs."""
    initial_deviation: float = 0.02
    """Standard deviation of random weights (published: 0.02, for 768 dimensions; fewer learn faster from more)."""

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise UsageError(f"{self.heads} heads do not divide a hidden size of {self.hidden}", remedy="change one")

    def build(self) -> UNITER:
        """Make the encoder with random weights."""
        return UNITER(self)

    def build_for_pretraining(self) -> UNITERForPretraining:
        """Make the encoder and its pre-training heads with random weights."""
        return UNITERForPretraining(self)


class RegionEmbedding(nn.Module):
    """Feature and location, each projected and normalised, plus segment (section 3.1, Image Embedder)."""

    def __init__(self, config: UNITERConfig) -> None:
        super().__init__()
        self.feature = nn.Linear(config.region_dim, config.hidden)
        self.feature_norm = nn.LayerNorm(config.hidden, eps=LAYER_NORM_EPS)
        self.location = nn.Linear(7, config.hidden)
        self.location_norm = nn.LayerNorm(config.hidden, eps=LAYER_NORM_EPS)
        # The published checkpoint carries two rows; the code sets row 0 to zero whenever it uses the table.
        self.mask = nn.Embedding(2, config.region_dim, padding_idx=0)
        self.norm = nn.LayerNorm(config.hidden, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, regions: Tensor, locations: Tensor, types: Tensor, masked: Tensor | None = None) -> Tensor:
        """Embed regions.

        Args:
            regions: [B, R, D]; the caller zeroes what it hides.
            locations: [B, R, 7], visible even where the feature is hidden.
            types: [B, R, H] rows of the segment table, which text and regions share.
            masked: [B, R] bool, regions that get the mask vector added, or None.

        Returns:
            [B, R, H].
        """
        if masked is not None:
            regions = regions + masked.unsqueeze(-1) * self.mask.weight[1]
        embedded = self.feature_norm(self.feature(regions)) + self.location_norm(self.location(locations)) + types
        normed: Tensor = self.dropout(self.norm(embedded))
        return normed


_ENCODER_LAYOUT = (
    (r"text_embedding\.(word|position)\.weight", r"embeddings.\1_embeddings.weight"),
    (r"text_embedding\.segment\.weight", r"embeddings.token_type_embeddings.weight"),
    (r"text_embedding\.norm\.(\w+)", r"embeddings.LayerNorm.\1"),
    (r"region_embedding\.feature\.(\w+)", r"img_embeddings.img_linear.\1"),
    (r"region_embedding\.feature_norm\.(\w+)", r"img_embeddings.img_layer_norm.\1"),
    (r"region_embedding\.location\.(\w+)", r"img_embeddings.pos_linear.\1"),
    (r"region_embedding\.location_norm\.(\w+)", r"img_embeddings.pos_layer_norm.\1"),
    (r"region_embedding\.mask\.weight", r"img_embeddings.mask_embedding.weight"),
    (r"region_embedding\.norm\.(\w+)", r"img_embeddings.LayerNorm.\1"),
    (r"layers\.(\d+)\.attention\.qkv\.(\w+)", r"encoder.layer.\1.attention.self." + JOINED + r".\2"),
    (r"layers\.(\d+)\.attention\.output\.(\w+)", r"encoder.layer.\1.attention.output.dense.\2"),
    (r"layers\.(\d+)\.attention_norm\.(\w+)", r"encoder.layer.\1.attention.output.LayerNorm.\2"),
    (r"layers\.(\d+)\.expand\.(\w+)", r"encoder.layer.\1.intermediate.dense.\2"),
    (r"layers\.(\d+)\.contract\.(\w+)", r"encoder.layer.\1.output.dense.\2"),
    (r"layers\.(\d+)\.output_norm\.(\w+)", r"encoder.layer.\1.output.LayerNorm.\2"),
    (r"pooler\.(\w+)", r"pooler.dense.\1"),
)
_HEAD_LAYOUT = (
    (r"word_transform\.0\.(\w+)", r"cls.predictions.transform.dense.\1"),
    (r"word_transform\.2\.(\w+)", r"cls.predictions.transform.LayerNorm.\1"),
    (r"word_bias", r"cls.predictions.bias"),
    (r"feature_transform\.(\d)\.(\w+)", r"feat_regress.net.\1.\2"),
    (r"feature_bias", r"feat_regress.bias"),
    (r"region_classifier\.(\d)\.(\w+)", r"region_classifier.net.\1.\2"),
    (r"matching\.(\w+)", r"itm_output.\1"),
)


class UNITER(PublishedLayout):
    """The joint encoder: both embedders and the Transformer (section 3.1, figure 1).

    Inside, each row holds its word pieces, then its regions, then padding up to the longest row of the batch, so
    that no layer computes the padding between the two parts.

    Attributes:
        recomputes_activations: keep only each layer's input for the backward pass and compute the rest again.
    """

    layout = _ENCODER_LAYOUT

    def __init__(self, config: UNITERConfig) -> None:
        super().__init__()
        self.config = config
        self.text_embedding = TextEmbedding(config)
        self.region_embedding = RegionEmbedding(config)
        sizes = {"hidden": config.hidden, "heads": config.heads, "intermediate": config.intermediate}
        self.layers = nn.ModuleList(TransformerLayer(**sizes, dropout=config.dropout) for _ in range(config.layers))
        self.pooler = nn.Linear(config.hidden, config.hidden)
        self.recomputes_activations = False
        initialise(self, std=config.initial_deviation)

    def embed_text(self, batch: Batch) -> Tensor:
        """Return [B, T, H] embeddings of the batch's texts."""
        embedded: Tensor = self.text_embedding(batch.input_ids, batch.text_types)
        return embedded

    def embed_regions(self, batch: Batch) -> Tensor:
        """Return [B, R, H] embeddings of the batch's regions."""
        table = self.text_embedding.segment.weight
        types = table[1] if batch.region_types is None else table[batch.region_types]
        embedded: Tensor = self.region_embedding(batch.regions, batch.locations, types, batch.masked_regions)
        return embedded

    def forward(self, batch: Batch, *, attention_scores: Collection[int] = ()) -> EncoderOutput:
        """Encode a batch.

        Args:
            batch: texts and regions; either may be absent (T = 0 or R = 0).
            attention_scores: layers, counted from 0 or from the end with -1, whose scores are wanted.

        Raises:
            UsageError: a layer that does not exist.
        """
        return self.encode(
            self.embed_text(batch),
            batch.text_mask,
            self.embed_regions(batch),
            batch.region_mask,
            attention_scores=attention_scores,
        )

    def encode(
        self,
        text: Tensor,
        text_mask: Tensor,
        regions: Tensor,
        region_mask: Tensor,
        *,
        attention_scores: Collection[int] = (),
    ) -> EncoderOutput:
        """Encode embeddings that were computed before, e.g. once for a text that meets many pictures.

        Args:
            text: [B, T, H] of :meth:`embed_text`.
            text_mask: [B, T] bool.
            regions: [B, R, H] of :meth:`embed_regions`.
            region_mask: [B, R] bool.
            attention_scores: as in :meth:`forward`.
        """
        wanted = {layer_place(layer, len(self.layers)) for layer in attention_scores}
        compact = _Compact(text_mask, region_mask)
        states = compact.pack(text, regions)
        scores: dict[int, Tensor] = {}
        for index, layer in enumerate(self.layers):
            call: Any = layer
            if self.recomputes_activations and self.training and torch.is_grad_enabled():
                call = partial(checkpoint, layer, use_reentrant=False)
            states, found = call(states, compact.attention_mask, return_scores=index in wanted)
            if found is not None:
                scores[index] = compact.unpack_scores(found)
        pooled = torch.tanh(self.pooler(states[:, 0]))
        text, regions = compact.unpack(states)
        return EncoderOutput(text=text, regions=regions, pooled=pooled, attention_scores=scores)

    def encode_pooled(self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor) -> Tensor:
        """Return the [B, H] pooled states that :meth:`encode` gives, without what is computed for other states only.

        The last layer is a sixth of the others then, because the first position alone attends and goes on.

        Args:
            text: as in :meth:`encode`.
            text_mask: as there.
            regions: as there.
            region_mask: as there.
        """
        return self._shortened(text, text_mask, regions, region_mask, None, slice(0))[0]

    def encode_pooled_and_scores(
        self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor, *, layer: int, rows: slice
    ) -> tuple[Tensor, Tensor]:
        """Return what :meth:`encode_pooled` gives, and the attention scores of some pairs in one layer.

        The scores of :meth:`encode` cost the fused attention of all pairs and the short last layer; these do not.

        Args:
            text: as in :meth:`encode`.
            text_mask: as there.
            regions: as there.
            region_mask: as there.
            layer: counted from 0 or from the end with -1.
            rows: which pairs.

        Returns:
            [B, H], and [pairs, heads, T + R, T + R].
        """
        place = layer_place(layer, len(self.layers))
        return self._shortened(text, text_mask, regions, region_mask, place, rows)

    def _shortened(
        self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor, place: int | None, rows: slice
    ) -> tuple[Tensor, Tensor]:
        compact = _Compact(text_mask, region_mask)
        states, mask = compact.pack(text, regions), compact.attention_mask
        scores = states.new_zeros(0)
        for index, layer in enumerate(self.layers):
            if index == place:
                found = layer.attention.scores(states[rows], mask if mask is None else mask[rows])  # type: ignore[operator,union-attr]
                scores = compact.unpack_scores(found, rows)
            states, _ = layer(states, mask, queries=1 if index == len(self.layers) - 1 else None)
        pooled: Tensor = torch.tanh(self.pooler(states[:, 0]))
        return pooled, scores


class _Compact:
    """The layout inside the encoder: where each position of text-then-regions went, and the way back."""

    def __init__(self, text_mask: Tensor, region_mask: Tensor) -> None:
        self.text_length = text_mask.shape[1]
        mask = torch.cat([text_mask, region_mask], dim=1)
        self.full_length = mask.shape[1]
        length = int(mask.sum(dim=1).max())
        self.order = mask.int().argsort(dim=1, descending=True, stable=True)[:, :length]
        self.kept = mask.gather(1, self.order)
        self.attention_mask = None if bool(self.kept.all()) else self.kept[:, None, None, :]

    def pack(self, text: Tensor, regions: Tensor) -> Tensor:
        joint = torch.cat([text, regions], dim=1)
        return joint.gather(1, self.order.unsqueeze(-1).expand(-1, -1, joint.shape[-1]))

    def unpack(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Scatter [B, N, H] back to the padded [B, T, H] and [B, R, H], zeros on padding."""
        index = self.order.unsqueeze(-1).expand_as(states)
        full = states.new_zeros(len(states), self.full_length, states.shape[-1])
        full = full.scatter(1, index, states * self.kept.unsqueeze(-1))
        return full[:, : self.text_length], full[:, self.text_length :]

    def unpack_scores(self, scores: Tensor, rows: slice = slice(None)) -> Tensor:
        """Scatter [B, heads, N, N] back to [B, heads, T + R, T + R], minus infinity in columns of padding."""
        batch, heads, length, _ = scores.shape
        order, full = self.order[rows], self.full_length
        columns = order[:, None, None, :].expand(-1, heads, length, -1)
        wide = scores.new_full((batch, heads, length, full), -torch.inf).scatter(3, columns, scores)
        places = order[:, None, :, None].expand(-1, heads, -1, full)
        return scores.new_full((batch, heads, full, full), -torch.inf).scatter(2, places, wide)


class UNITERForPretraining(PublishedLayout):
    """UNITER with the heads of its pre-training objectives (section 3.2).

    The masked-word decoder shares the word embedding, the feature regression shares the feature projection.
    """

    layout = (*((rf"encoder\.{ours}", f"uniter.{official}") for ours, official in _ENCODER_LAYOUT), *_HEAD_LAYOUT)
    tied: ClassVar[Mapping[str, str]] = {
        "cls.predictions.decoder.weight": "uniter.embeddings.word_embeddings.weight",
        "feat_regress.weight": "uniter.img_embeddings.img_linear.weight",
    }

    parts: ClassVar[Mapping[str, str]] = {
        "regions": r"encoder\.region_embedding\..+",
        "masked words": r"word_(transform\..+|bias)",
        "feature regression": r"feature_(transform\..+|bias)",
        "region classification": r"region_classifier\..+",
        "matching": r"matching\..+",
    }
    """What a checkpoint may lack as a whole: BERT knows no regions, a fine-tuned model has no pre-training heads."""

    def __init__(self, config: UNITERConfig) -> None:
        super().__init__()
        self.encoder = UNITER(config)
        self.word_transform = PredictionHead(hidden=config.hidden, output=None)
        self.word_bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.feature_transform = PredictionHead(hidden=config.hidden, output=None)
        self.feature_bias = nn.Parameter(torch.zeros(config.region_dim))
        self.region_classifier = PredictionHead(hidden=config.hidden, output=config.region_classes)
        self.matching = nn.Linear(config.hidden, 2)
        for head in (self.word_transform, self.feature_transform, self.region_classifier, self.matching):
            initialise(head, std=config.initial_deviation)

    @classmethod
    def infer_config(cls, weights: Mapping[str, Tensor], *, where: Path, heads: int | None = None) -> UNITERConfig:
        """Return the size of a UNITER from the shapes of its weights.

        Args:
            weights: under vltk's names.
            where: what to call them in an error.
            heads: number of attention heads; one for every 64 dimensions where it is not given.

        Raises:
            DataError: a weight is missing that tells a size, or the heads must be given.
        """

        def size(key: str, axis: int, default: int | None = None) -> int:
            tensor = weights.get(key)
            if tensor is None and default is not None:
                return default
            if tensor is None or tensor.dim() <= axis:
                problem = f"{key} is missing" if tensor is None else f"{key} is {list(tensor.shape)}"
                raise DataError(problem, where=where, remedy="use a whole checkpoint of a UNITER or BERT")
            return tensor.shape[axis]

        hidden = size("encoder.text_embedding.word.weight", 1)
        if heads is None and hidden % HEAD_SIZE:
            problem = f"a hidden size of {hidden} does not tell the number of attention heads"
            raise DataError(problem, where=where, remedy="give --heads")
        layers = {int(found[1]) for key in weights if (found := re.match(r"encoder\.layers\.(\d+)\.", key))}
        standard = UNITERConfig()
        return UNITERConfig(
            vocabulary=size("encoder.text_embedding.word.weight", 0),
            hidden=hidden,
            layers=len(layers),
            heads=heads or hidden // HEAD_SIZE,
            intermediate=size("encoder.layers.0.expand.weight", 0),
            positions=size("encoder.text_embedding.position.weight", 0),
            types=size("encoder.text_embedding.segment.weight", 0),
            region_dim=size("encoder.region_embedding.feature.weight", 1, standard.region_dim),
            region_classes=size("region_classifier.3.weight", 0, standard.region_classes),
        )

    @classmethod
    def shapes(cls, config: UNITERConfig) -> dict[str, Tensor]:
        """Return the weights of a size without memory behind them."""
        with torch.device("meta"):
            return cls(config).state_dict()

    @classmethod
    def published_names(cls, layers: int) -> dict[str, list[str]]:
        """Return the keys of a model of so many layers with their published names."""
        smallest = UNITERConfig(
            hidden=1, heads=1, intermediate=1, layers=layers, vocabulary=1, positions=1, region_dim=1, region_classes=1
        )
        return {key: cls.published_keys(key) for key in cls.shapes(smallest)}

    def word_logits(self, states: Tensor) -> Tensor:
        """Score the vocabulary for [M, H] states of word pieces."""
        return F.linear(self.word_transform(states), self.encoder.text_embedding.word.weight, self.word_bias)

    def region_features(self, states: Tensor) -> Tensor:
        """Predict [M, D] features for [M, H] states of regions."""
        weight = self.encoder.region_embedding.feature.weight.t()
        return F.linear(self.feature_transform(states), weight, self.feature_bias)

    def region_logits(self, states: Tensor) -> Tensor:
        """Score the C classes for [M, H] states of regions."""
        scores: Tensor = self.region_classifier(states)
        return scores

    def matching_logits(self, pooled: Tensor) -> Tensor:
        """Score mismatch (0) and match (1) for [B, H] pooled states."""
        scores: Tensor = self.matching(pooled)
        return scores


Config = UNITERConfig
"""What ``--model uniter`` brings to a command line."""
