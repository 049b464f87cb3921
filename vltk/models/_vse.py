"""The model of VSE-infinity and its size; ``vse.py`` brings it to the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vltk.errors import UsageError
from vltk.models._dual import ADAM
from vltk.models._grids import BLOCKS, HubTrunk, ResidualTrunk, Trunk
from vltk.models._image_encoders import FrameEncoder, GridEncoder, GridHead, RegionEncoder, RegionGridEncoder
from vltk.models._pooling import Pooling, build_pooling
from vltk.models._published import Layout, PublishedLayout
from vltk.models._text_encoders import BERTText, BiGRUText
from vltk.types import Batch

BERT_RATE = 0.1
"""BERT is trained at a tenth of the rate (supplement, section 1.1)."""


@dataclass(frozen=True, kw_only=True)
class VSEConfig:
    """The size of a VSE-infinity; the defaults are the published model on regions with BERT.

    Example:
        >>> model = VSEConfig(text="bigru", hidden=8, region_dim=6, vocabulary=20, word_dim=4).build()
        >>> model.family
        'dual'
    """

    image: Literal["region", "grid", "region+grid", "frame"] = "region"
    """What a picture is: regions of a detector, the grid of a network that is trained from pixels, or both; "frame" is
    a video, read and initialised as HGR does."""
    text: Literal["bert", "bigru"] = "bert"
    """What reads a text: BERT, or a bidirectional GRU over the words of the examples' own vocabulary."""
    image_pooling: Pooling = "gpo"
    """How a picture's set becomes a vector; "average" is VSE++."""
    text_pooling: Pooling = "gpo"
    """How a text's set becomes a vector; VSE++ is "first" on BERT and "average" on the GRU."""
    k: int = 5
    """How many values k-max pooling averages."""
    hidden: int = 1024
    """H, size of the joint space."""
    region_dim: int = 2048
    """D, size of a region feature."""
    vocabulary: int = 30522
    """Number of words or word pieces (30,522 of bert-base-uncased)."""
    word_dim: int = 300
    """Size of the GRU's word vectors."""
    gru_layers: int = 1
    """Layers of the GRU."""
    input_dropout: float = 0.0
    """Dropout of the GRU's word vectors and of mapped frames (HGR: 0.2; VSE-infinity has none)."""
    bert_hidden: int = 768
    """Size of BERT's states."""
    layers: int = 12
    """Number of BERT's layers."""
    heads: int = 12
    """Number of BERT's attention heads."""
    intermediate: int = 3072
    """Size between BERT's feed-forward projections."""
    positions: int = 512
    """Longest text in word pieces."""
    dropout: float = 0.1
    """Dropout of BERT."""
    backbone: Literal["detector", "imagenet", "resnext", "folder"] = "detector"
    """Network of the grid: bottom-up attention's or ImageNet's ResNet (Caffe's graph), a ResNeXt 32x8d, or a folder."""
    backbone_depth: Literal[50, 101, 152] = 101
    """Layers of the network."""
    backbone_folder: Path | None = None
    """A network of transformers (config.json and weights) for --backbone folder."""
    normalise: bool = True
    """Scale embeddings to length one."""

    def __post_init__(self) -> None:
        if self.text == "bert" and self.bert_hidden % self.heads:
            problem = f"{self.heads} heads do not divide BERT's size of {self.bert_hidden}"
            raise UsageError(problem, where="--heads", remedy="change one")
        if self.text == "bigru" and self.text_pooling == "first":
            problem = "the first state of a GRU has seen one word in one direction"
            raise UsageError(problem, where="--text-pooling", remedy="use average for a VSE++ with a GRU")
        if (self.backbone == "folder") != (self.backbone_folder is not None):
            problem = f"is {self.backbone_folder} with --backbone {self.backbone}"
            raise UsageError(problem, where="--backbone-folder", remedy="give both or none")

    def build(self) -> VSE:
        """Make the model with random weights."""
        return VSE(self)

    def build_from(self, path: Path) -> tuple[VSE, list[str]]:
        """Make the model with the weights of a VSE-infinity, a BERT or a network; also say what stayed fresh.

        Raises:
            DataError: nothing that the model could begin with, or of another size than the stores.
        """
        from vltk.models._vse_checkpoints import start_from

        return start_from(self, path)


_STAGES = {"res2": "base.4", "res3": "base.5", "res4": "base.6", "res5": "top.0"}


def _stage(ours: str, official: str) -> tuple[tuple[str, str], ...]:
    start, stage = rf"image\.trunk\.{ours}\.(\d+)\.", f"img_enc.backbone.{official}."
    return (
        (start + r"conv(\d)\.weight", stage + r"\1.conv\2.weight"),
        (start + r"conv(\d)\.norm\.(\w+)", stage + r"\1.bn\2.\3"),
        (start + r"shortcut\.weight", stage + r"\1.downsample.0.weight"),
        (start + r"shortcut\.norm\.(\w+)", stage + r"\1.downsample.1.\2"),
    )


class VSE(PublishedLayout):
    """A dual encoder: the score of a picture and a text is the inner product of their embeddings.

    Args:
        config: its size.

    Attributes:
        config: its size.
        image: pictures to [B, H].
        text: texts to [B, H].
    """

    family: ClassVar[str] = "dual"
    layout: ClassVar[Layout] = (
        (r"image\.projection\.project\.(\w+)", r"img_enc.fc.\1"),
        (r"image\.projection\.expand\.(\w+)", r"img_enc.mlp.layers.0.\1"),
        (r"image\.projection\.norm\.(\w+)", r"img_enc.mlp.bns.0.\1"),
        (r"image\.projection\.contract\.(\w+)", r"img_enc.mlp.layers.1.\1"),
        (r"image\.trunk\.stem\.(weight)", r"img_enc.backbone.base.0.\1"),
        (r"image\.trunk\.stem\.norm\.(\w+)", r"img_enc.backbone.base.1.\1"),
        *(pair for ours, official in _STAGES.items() for pair in _stage(ours, official)),
        (r"image\.trunk\.model\.(.+)", r"img_enc.backbone.model.\1"),
        (r"image\.(?:head\.)?project\.(\w+)", r"img_enc.image_encoder.fc.\1"),
        (r"image\.pooling\.coefficients\.(.+)", r"img_enc.gpool.\1"),
        (r"image\.head\.pooling\.coefficients\.(.+)", r"img_enc.image_encoder.gpool.\1"),
        (r"text\.word\.(\w+)", r"txt_enc.embed.\1"),
        (r"text\.gru\.(\w+)", r"txt_enc.rnn.\1"),
        (r"text\.bert\.(.+)", r"txt_enc.bert.\1"),
        (r"text\.project\.(\w+)", r"txt_enc.linear.\1"),
        (r"text\.pooling\.coefficients\.(.+)", r"txt_enc.gpool.\1"),
        (r"image\.pooling\.score\.(\w+)", r"img_enc.ft_attn.\1"),
        (r"image\.head\.pooling\.score\.(\w+)", r"img_enc.image_encoder.ft_attn.\1"),
        (r"text\.pooling\.score\.(\w+)", r"txt_enc.ft_attn.\1"),
    )

    def __init__(self, config: VSEConfig) -> None:
        super().__init__()
        self.config = config
        self.image = _image_encoder(config)
        self.text = _text_encoder(config)

    @property
    def trunk(self) -> Trunk | None:
        """The network below the grid, None in a model of regions."""
        found = getattr(self.image, "trunk", None)
        return found if isinstance(found, Trunk) else None

    def embed_images(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Return [B, H] embeddings of the batch's pictures.

        Args:
            batch: with regions or pixels.
            generator: drops grids (size augmentation); None in evaluation and for regions.
        """
        embedded: Tensor = self.image(batch, generator)
        return embedded

    def embed_texts(self, batch: Batch) -> Tensor:
        """Return [B, H] embeddings of the batch's texts."""
        embedded: Tensor = self.text(batch)
        return embedded

    def parameter_groups(
        self, *, weight_decay: float | None = None, backbone_rate: float | None = None
    ) -> list[dict[str, Any]]:
        """Return the published groups of AdamW, in their order: text, BERT, the network's top and rest, picture.

        Args:
            weight_decay: of all groups; None for the published ones: 1e-4, 1e-2 for regions with a GRU, where the
                authors left torch's default, and none for frames.
            backbone_rate: share of the rate for the network of the grid; None for the published 0.01 (bottom-up
                attention, WSL) or 0.1 (ImageNet).
        """
        frames = self.config.image == "frame"
        if self.config.text == "bigru" and self.trunk is None:
            decay = (0.0 if frames else 1e-2) if weight_decay is None else weight_decay
            return [{"params": list(self.parameters()), "multiplier": 1.0, "weight_decay": decay, **ADAM}]
        decay = (0.0 if frames else 1e-4) if weight_decay is None else weight_decay
        bert = list(self.text.bert.parameters()) if isinstance(self.text, BERTText) else []
        groups = [(self._others(self.text, bert), 1.0), (bert, BERT_RATE)]
        network: list[nn.Parameter] = []
        if self.trunk is not None:
            rate = (0.1 if self.config.backbone == "imagenet" else 0.01) if backbone_rate is None else backbone_rate
            *lower, top = [list(stage) for stage in self.trunk.stages()]
            groups += [(top, rate), ([parameter for stage in lower for parameter in stage], rate)]
            network = list(self.trunk.parameters())
        groups.append((self._others(self.image, network), 1.0))
        return [
            {"params": parameters, "multiplier": rate, "weight_decay": decay, **ADAM}
            for parameters, rate in groups
            if parameters
        ]

    @staticmethod
    def _others(module: nn.Module, left_out: list[nn.Parameter]) -> list[nn.Parameter]:
        known = {id(parameter) for parameter in left_out}
        return [parameter for parameter in module.parameters() if id(parameter) not in known]


def _image_encoder(config: VSEConfig) -> nn.Module:
    pooling = build_pooling(config.image_pooling, hidden=config.hidden, k=config.k)
    normalise = config.normalise
    if config.image == "region":
        return RegionEncoder(config.region_dim, config.hidden, pooling, normalise=normalise)
    if config.image == "frame":
        dropout = config.input_dropout
        return FrameEncoder(config.region_dim, config.hidden, pooling, dropout=dropout, normalise=normalise)
    trunk = _trunk(config)
    if config.image == "grid":
        return GridEncoder(trunk, GridHead(trunk.channels, config.hidden, pooling, normalise=normalise))
    return RegionGridEncoder(config.region_dim, trunk, config.hidden, pooling, normalise=normalise)


def _trunk(config: VSEConfig) -> Trunk:
    if config.backbone_folder is not None:
        return HubTrunk.load(config.backbone_folder)
    blocks = BLOCKS[config.backbone_depth]
    if config.backbone == "resnext":
        return ResidualTrunk(blocks=blocks, width=8, groups=32, caffe=False)
    return ResidualTrunk(blocks=blocks)


def _text_encoder(config: VSEConfig) -> nn.Module:
    pooling = build_pooling(config.text_pooling, hidden=config.hidden, k=config.k)
    if config.text == "bigru":
        return BiGRUText(
            vocabulary=config.vocabulary,
            word_dim=config.word_dim,
            hidden=config.hidden,
            layers=config.gru_layers,
            pooling=pooling,
            normalise=config.normalise,
            dropout=config.input_dropout,
            orthogonal=config.image == "frame",
        )
    from transformers import BertConfig, BertModel

    size = BertConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.bert_hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate,
        max_position_embeddings=config.positions,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
    )
    return BERTText(BertModel(size), hidden=config.hidden, pooling=pooling, normalise=config.normalise)
