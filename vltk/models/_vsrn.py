"""The model of VSRN and its size; ``vsrn.py`` brings it to the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vltk.errors import UsageError
from vltk.models._caption_branch import CaptionBranch
from vltk.models._dual import ADAM, run_packed, word_vectors
from vltk.models._published import Layout, PublishedLayout
from vltk.models._reasoning import RegionReasoner, embedding
from vltk.stores.ordered_features import RegionOrder
from vltk.types import Batch

_MAP = re.compile(r"img_enc\.Rs_GCN_\d+\.(?:theta|phi|g|W\.0)\.weight")
"""Linear maps that the authors wrote as convolutions over one region."""


@dataclass(frozen=True, kw_only=True)
class VSRNConfig:
    """The size of a VSRN; the defaults are the published model on COCO.

    Flickr30k's published model has no norm before the reasoning, and a batch norm.

    Example:
        >>> model = VSRNConfig(hidden=8, region_dim=6, vocabulary=20, word_dim=4).build()
        >>> model.family, len(model.image.relations)
        ('dual', 4)
    """

    relation_layers: int = 4
    """Layers of region relationship reasoning; 0 leaves them out."""
    memory: Literal["gru", "mean"] = "gru"
    """How regions become one vector: read one after the other (global semantic reasoning), or their mean."""
    region_order: RegionOrder = "confidence"
    """In which order: best score first, largest box first, shuffled, or as stored; SCAN's files have no scores."""
    norm_before: bool = True
    """Divide each channel by its length over a picture's regions before the reasoning (published: COCO alone)."""
    norm_after: bool = True
    """The same behind the relation layers (published: always)."""
    batch_norm: bool = False
    """Batch norm on what the memory ends with (published: Flickr30k alone)."""
    normalise: bool = True
    """Scale embeddings of pictures to length one; those of texts always are."""
    absolute: bool = False
    """Drop the signs of embeddings."""
    hidden: int = 2048
    """H, size of the joint space."""
    region_dim: int = 2048
    """D, size of a region feature."""
    vocabulary: int = 10006
    """Number of words (10,006 of the published COCO vocabulary)."""
    word_dim: int = 300
    """Size of a word vector."""
    gru_layers: int = 1
    """Layers of the GRU that reads texts, in one direction."""
    generation: bool = True
    """Also learn to generate the caption from the regions; nothing of it is used in evaluation."""
    caption_hidden: int = 512
    """Size of the caption branch."""
    caption_word_dim: int = 300
    """Size of its word vectors."""
    caption_length: int = 60
    """Longest caption in words that it learns from, its start and end among them; longer ones are cut."""
    caption_bidirectional: bool = False
    """Let it read the regions in both directions."""
    caption_dropout: float = 0.2
    """Dropout of what it is fed."""
    caption_updates: Literal["once", "official"] = "once"
    """Update its weights once a step, or as the authors' code did by mistake: twice, and counted twice in clipping."""

    def __post_init__(self) -> None:
        bounds = {"relation_layers": 0, "hidden": 1, "gru_layers": 1, "caption_hidden": 1, "caption_length": 3}
        for name, least in bounds.items():
            if getattr(self, name) < least:
                where = f"--{name.replace('_', '-')}"
                raise UsageError(f"{getattr(self, name)} is too few", where=where, remedy=f"use {least} or more")

    def build(self) -> VSRN:
        """Make the model with random weights."""
        return VSRN(self)

    def build_from(self, path: Path) -> tuple[VSRN, list[str]]:
        """Make the model with the weights of a VSRN; also say what stayed fresh.

        Raises:
            DataError: no VSRN, or of another size than the stores.
        """
        from vltk.models._vsrn_checkpoints import start_from

        return start_from(self, path)


class TextReader(nn.Module):
    """Word vectors and a GRU, whose last state is the text (VSRN, section 3.4; VSE++).

    Args:
        vocabulary: number of words.
        word_dim: size of a word vector.
        hidden: H.
        layers: of the GRU.
        absolute: drop the signs of the vector.
    """

    def __init__(self, *, vocabulary: int, word_dim: int, hidden: int, layers: int, absolute: bool) -> None:
        super().__init__()
        self.word = word_vectors(vocabulary, word_dim)
        self.gru = nn.GRU(word_dim, hidden, layers, batch_first=True)
        self.absolute = absolute

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, H] of the batch's texts."""
        last = run_packed(self.gru, self.word(batch.input_ids), batch.text_mask)[1][-1]
        return embedding(last, normalise=True, absolute=self.absolute)


class VSRN(PublishedLayout):
    """A dual encoder: the score of a picture and a text is the inner product of their embeddings.

    Args:
        config: its size.

    Attributes:
        config: its size.
        image: pictures to [B, H].
        text: texts to [B, H].
        captions: generates captions beside, in training; None without.
    """

    family: ClassVar[str] = "dual"
    layout: ClassVar[Layout] = (
        (r"image\.project\.(\w+)", r"img_enc.fc.\1"),
        (r"image\.relations\.(\d+)\.query\.(\w+)", r"img_enc.Rs_GCN_\1.theta.\2"),
        (r"image\.relations\.(\d+)\.key\.(\w+)", r"img_enc.Rs_GCN_\1.phi.\2"),
        (r"image\.relations\.(\d+)\.value\.(\w+)", r"img_enc.Rs_GCN_\1.g.\2"),
        (r"image\.relations\.(\d+)\.output\.(\w+)", r"img_enc.Rs_GCN_\1.W.0.\2"),
        (r"image\.relations\.(\d+)\.norm\.(\w+)", r"img_enc.Rs_GCN_\1.W.1.\2"),
        (r"image\.gru\.(\w+)", r"img_enc.img_rnn.\1"),
        (r"image\.norm\.(\w+)", r"img_enc.bn.\1"),
        (r"text\.word\.(\w+)", r"txt_enc.embed.\1"),
        (r"text\.gru\.(\w+)", r"txt_enc.rnn.\1"),
        (r"captions\.project\.(\w+)", r"caption_model.encoder.vid2hid.\1"),
        (r"captions\.reader\.(\w+)", r"caption_model.encoder.rnn.\1"),
        (r"captions\.word\.(\w+)", r"caption_model.decoder.embedding.\1"),
        (r"captions\.attend\.(\w+)", r"caption_model.decoder.attention.linear1.\1"),
        (r"captions\.energy\.(\w+)", r"caption_model.decoder.attention.linear2.\1"),
        (r"captions\.decoder\.(\w+)", r"caption_model.decoder.rnn.\1_l0"),
        (r"captions\.out\.(\w+)", r"caption_model.decoder.out.\1"),
    )

    def __init__(self, config: VSRNConfig) -> None:
        super().__init__()
        self.config = config
        self.image = RegionReasoner(
            config.region_dim,
            config.hidden,
            layers=config.relation_layers,
            memory=config.memory,
            norm_before=config.norm_before,
            norm_after=config.norm_after,
            batch_norm=config.batch_norm,
            normalise=config.normalise,
            absolute=config.absolute,
        )
        self.text = TextReader(
            vocabulary=config.vocabulary,
            word_dim=config.word_dim,
            hidden=config.hidden,
            layers=config.gru_layers,
            absolute=config.absolute,
        )
        self.captions = _caption_branch(config) if config.generation else None

    @classmethod
    def published(cls, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return some or all of a model's weights under the published keys and in the published shapes."""
        found = super().published(weights)
        return {name: tensor.unsqueeze(-1) if _MAP.fullmatch(name) else tensor for name, tensor in found.items()}

    def load_published(self, official: Mapping[str, Tensor], *, where: str) -> None:
        """Copy a published state dict.

        Raises:
            DataError: keys missing, left over, or of another shape, all named.
        """
        maps = {name: tensor.squeeze(-1) for name, tensor in official.items() if _MAP.fullmatch(name)}
        super().load_published({**official, **maps}, where=where)

    def represent(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return [B, H] embeddings of the batch's pictures and the [B, R, H] regions that they were read from."""
        embedded: tuple[Tensor, Tensor] = self.image(batch)
        return embedded

    def embed_images(self, batch: Batch) -> Tensor:
        """Return [B, H] embeddings of the batch's pictures."""
        return self.represent(batch)[0]

    def embed_texts(self, batch: Batch) -> Tensor:
        """Return [B, H] embeddings of the batch's texts."""
        embedded: Tensor = self.text(batch)
        return embedded

    def region_correlations(self, batch: Batch) -> Tensor:
        """Return [B, R] inner products of each picture's embedding with its relation-enhanced regions (section 4.5).

        :func:`vltk.metrics.attention_map.rank_weights` makes the weights of the paper's pictures of one row; columns of
        padding mean nothing.
        """
        embedded, regions = self.represent(batch)
        return (regions @ embedded.unsqueeze(-1)).squeeze(-1)

    @torch.no_grad()
    def generate(self, batch: Batch, *, start: int = 1) -> tuple[Tensor, Tensor]:
        """Caption the batch's pictures, word by likeliest word; see :meth:`CaptionBranch.greedy`.

        Args:
            batch: with regions.
            start: id that begins a caption.

        Raises:
            UsageError: the model has no branch that generates captions, as a published checkpoint.
        """
        if self.captions is None:
            raise UsageError("generates no captions", where="model", remedy="train one with --generation")
        steps = self.config.caption_length - 2
        return self.captions.greedy(self.represent(batch)[1], batch.region_mask, steps=steps, start=start)

    def parameter_groups(self, *, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return the groups of Adam: what matches, and what generates captions.

        Args:
            weight_decay: of both; published: none.
        """
        captions = [] if self.captions is None else list(self.captions.parameters())
        known = {id(parameter) for parameter in captions}
        matching = [parameter for parameter in self.parameters() if id(parameter) not in known]
        repeats = 2 if self.config.caption_updates == "official" else 1
        made = {"multiplier": 1.0, "weight_decay": weight_decay, **ADAM}
        groups = [{"params": matching, "repeats": 1, **made}, {"params": captions, "repeats": repeats, **made}]
        return [group for group in groups if group["params"]]


def _caption_branch(config: VSRNConfig) -> CaptionBranch:
    return CaptionBranch(
        vocabulary=config.vocabulary,
        region_hidden=config.hidden,
        hidden=config.caption_hidden,
        word_dim=config.caption_word_dim,
        bidirectional=config.caption_bidirectional,
        dropout=config.caption_dropout,
    )
