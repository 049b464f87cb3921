"""LXMERT and VisualBERT of transformers as joint encoders that show their attention scores.

Both become what a UNITER is to the rest of vltk: called with a batch, they return states and, for layers that are asked
for, scores before the softmax over text then regions. transformers returns probabilities only, and of LXMERT's
cross-attention only one direction, so that the scores are computed from what the query and key projections gave.

A VisualBERT is one stream; its layers are taken as they are. An LXMERT has two streams: nine layers of language alone,
five of vision alone, and five that cross (Tan and Bansal, 2019, section 2.2). The crossing ones are its joint layers:
language's self-attention gives the scores among words, vision's those among regions, and the cross-attention, whose
weights serve both ways, those between them. In an LXMERT these four are each normalised alone, which is what relations
within and between modalities need anyway.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vltk.detection.hub_detectors import loading_from_hub, quiet
from vltk.errors import DataError, UsageError
from vltk.models._layers import layer_place
from vltk.types import Batch, EncoderOutput

Attention = tuple[nn.Module, int]
"""A module with query and key projections, and which of its calls within one forward pass is meant."""


class HubEncoder(nn.Module):
    """A joint encoder of transformers.

    Args:
        model: the network.

    Attributes:
        model: the network.
        layers: for each joint layer the attention of its blocks: "LL", "LV", "VL" and "VV", or "" for all at once.
        vocabulary: number of word pieces that it knows.
        region_dim: size of a region's feature.
        apart: the blocks of a layer are normalised each alone.
    """

    apart = False

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.eval()
        self.layers: Sequence[Mapping[str, Attention]] = self._layers()
        self.vocabulary: int = model.config.vocab_size
        self.region_dim: int = self._region_dim()

    def _layers(self) -> Sequence[Mapping[str, Attention]]:
        raise NotImplementedError

    def _region_dim(self) -> int:
        raise NotImplementedError

    def _states(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return [B, T, H] states of the text, [B, R, H] of the regions and [B, H] of the pair."""
        raise NotImplementedError

    def forward(self, batch: Batch, *, attention_scores: Collection[int] = ()) -> EncoderOutput:
        """Encode a batch.

        Args:
            batch: texts and regions.
            attention_scores: joint layers, counted from 0 or from the end with -1, whose scores are wanted.

        Raises:
            UsageError: a layer that does not exist.
        """
        wanted = sorted({layer_place(layer, len(self.layers)) for layer in attention_scores})
        modules = {id(module): module for place in wanted for module, _ in self.layers[place].values()}
        with _recorded(modules.values()) as projected:
            text, regions, pooled = self._states(batch)
        scores = {}
        for place in wanted:
            blocks = {name: _scores(projected, *where) for name, where in self.layers[place].items()}
            scores[place] = _joined(blocks, torch.cat([batch.text_mask, batch.region_mask], dim=1))
        text, regions = text * batch.text_mask.unsqueeze(-1), regions * batch.region_mask.unsqueeze(-1)
        return EncoderOutput(text=text, regions=regions, pooled=pooled, attention_scores=scores)


class LXMERTEncoder(HubEncoder):
    """An LXMERT; its joint layers are those that cross."""

    apart = True

    def _layers(self) -> Sequence[Mapping[str, Attention]]:
        return [
            {
                "LL": (layer.lang_self_att.self, 0),
                "LV": (layer.visual_attention.att, 0),
                "VL": (layer.visual_attention.att, 1),
                "VV": (layer.visn_self_att.self, 0),
            }
            for layer in self.model.encoder.x_layers
        ]

    def _region_dim(self) -> int:
        return int(self.model.config.visual_feat_dim)

    def _states(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        found = self.model(
            input_ids=batch.input_ids,
            attention_mask=batch.text_mask.float(),
            visual_feats=batch.regions,
            visual_pos=batch.locations[..., :4],
            visual_attention_mask=batch.region_mask.float(),
        )
        return found.language_output, found.vision_output, found.pooled_output


class VisualBERTEncoder(HubEncoder):
    """A VisualBERT; it sees no boxes."""

    def _layers(self) -> Sequence[Mapping[str, Attention]]:
        if self.model.config.bypass_transformer:
            remedy = "use one whose regions go through the Transformer"
            raise UsageError("is a VisualBERT with bypass_transformer, which has no joint layer", remedy=remedy)
        return [{"": (layer.attention.self, 0)} for layer in self.model.encoder.layer]

    def _region_dim(self) -> int:
        return int(self.model.config.visual_embedding_dim)

    def _states(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        found = self.model(
            input_ids=batch.input_ids,
            attention_mask=batch.text_mask.long(),
            visual_embeds=batch.regions,
            visual_attention_mask=batch.region_mask.long(),
            visual_token_type_ids=torch.ones_like(batch.region_mask, dtype=torch.long),
        )
        states = found.last_hidden_state
        text, regions = states.split([batch.input_ids.shape[1], batch.regions.shape[1]], dim=1)
        return text, regions, states[:, 0] if found.pooler_output is None else found.pooler_output


KINDS: Mapping[str, type[HubEncoder]] = {"lxmert": LXMERTEncoder, "visual_bert": VisualBERTEncoder}
"""The architectures of transformers that can be read, by the ``model_type`` of their config.json."""


def load_hub_encoder(source: str, *, offline: bool = False, cache_dir: Path | None = None) -> HubEncoder:
    """Load an LXMERT or VisualBERT from a folder or from the Hugging Face hub.

    Args:
        source: a folder with config.json and weights, or a hub id such as "unc-nlp/lxmert-base-uncased".
        offline: download nothing.
        cache_dir: where downloads are kept.

    Raises:
        UsageError: another architecture, or one without joint layers.
        OfflineError: it is not in the cache and cannot be downloaded.
        DataError: a weight is missing or has another shape than the configuration says.
    """
    from transformers import AutoConfig, AutoModel

    local = Path(source).is_dir()
    if local and not (Path(source) / "config.json").is_file():
        raise DataError("holds no config.json", where=source, remedy="give the folder that save_pretrained wrote")
    where: dict[str, Any] = {"local_files_only": offline or local, "cache_dir": cache_dir}
    # A weight of another shape stands in the report then, which names it; without, the library names none.
    weights = {"output_loading_info": True, "ignore_mismatched_sizes": True, "weights_only": True}
    files, give = "config.json and model.safetensors", f"a folder or hub id of one of {', '.join(KINDS)}"
    with loading_from_hub(source, local=local, files=files, what="model", give=give):
        kind = AutoConfig.from_pretrained(source, **where).model_type
        if kind not in KINDS:
            problem = f"is a {kind}, whose attention between words and regions cannot be read"
            raise UsageError(problem, where=source, remedy=f"use one of {', '.join(KINDS)}, or a run of vltk")
        with quiet():
            model, report = AutoModel.from_pretrained(source, **weights, **where)
    _check_whole(report, source)
    return KINDS[kind](model)


def _check_whole(report: Mapping[str, Any], source: str) -> None:
    for kind in ("missing_keys", "mismatched_keys"):
        names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in report[kind])
        # Attention does not pass through the pooler, which some checkpoints come without.
        if wrong := [name for name in names if not name.startswith("pooler.")]:
            problem = f"has {len(wrong)} {kind.replace('_', ' ')}, first {wrong[0]}"
            raise DataError(problem, where=source, remedy="take weights and config.json of one model")


Projected = dict[tuple[int, str], list[Tensor]]


@contextmanager
def _recorded(modules: Collection[nn.Module]) -> Iterator[Projected]:
    """Keep what the query and key projections of attention modules give while the block lasts."""
    found: Projected = {}

    def keep(owner: int, name: str) -> Any:
        return lambda module, given, result: found.setdefault((owner, name), []).append(result)

    handles = [
        getattr(module, name).register_forward_hook(keep(id(module), name))
        for module in modules
        for name in ("query", "key")
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _scores(projected: Projected, module: nn.Module, call: int) -> Tensor:
    """Return [B, heads, rows, columns] scores of one call of an attention module."""
    heads, size = int(module.num_attention_heads), int(module.attention_head_size)  # type: ignore[arg-type]
    query, key = (projected[id(module), name][call] for name in ("query", "key"))
    query, key = (part.view(*part.shape[:2], heads, size).transpose(1, 2) for part in (query, key))
    scores: Tensor = query @ key.transpose(-1, -2) / math.sqrt(size)
    return scores


def _joined(blocks: Mapping[str, Tensor], mask: Tensor) -> Tensor:
    """Return [B, heads, T + R, T + R] of a layer's blocks, minus infinity in the columns of padding."""
    if "" in blocks:
        whole = blocks[""]
    else:
        rows = [torch.cat([blocks[f"{side}L"], blocks[f"{side}V"]], dim=3) for side in "LV"]
        whole = torch.cat(rows, dim=2)
    return whole.masked_fill(~mask[:, None, None, :], -torch.inf)
