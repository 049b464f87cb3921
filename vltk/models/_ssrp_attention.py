"""The attention scores of an SSRP, layer by layer, in the layout that joint encoders give them in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from vltk.models._layers import layer_place
from vltk.models._ssrp import SSRP
from vltk.models._ssrp_layers import CrossLayer
from vltk.types import Batch, EncoderOutput

Call = tuple[nn.Module, int]
"""An attention module, and which of its calls within one forward pass is meant."""


class SSRPWithScores(nn.Module):
    """An SSRP that is called as a joint encoder is: the scores of layers that are asked for come with its output.

    Its layers are those of text alone, those of regions alone, and those of both. In each the words among themselves
    ("LL"), the regions among themselves ("VV"), words that look at regions ("LV") and regions that look at words
    ("VL") are normalised each alone; what a layer does not have stays minus infinity.

    Args:
        model: the encoder.

    Attributes:
        model: the encoder.
        layers: for each layer the attention of its blocks.
        apart: the blocks of a layer are normalised each alone.
    """

    apart = True

    def __init__(self, model: SSRP) -> None:
        super().__init__()
        self.model = model
        alone = {"LL": model.text_layers, "VV": model.region_layers}
        self.layers: Sequence[Mapping[str, Call]] = [
            *({name: (_attention(layer), 0)} for name, stack in alone.items() for layer in stack),
            *(_blocks(layer) for layer in model.joint_layers),
        ]

    @property
    def layer_names(self) -> list[str]:
        """What each layer is called: which stack it is of, and its number there."""
        stacks = {"text": self.model.text_layers, "region": self.model.region_layers, "joint": self.model.joint_layers}
        return [f"{name} layer {number}" for name, stack in stacks.items() for number in range(len(stack))]

    def forward(self, batch: Batch, *, attention_scores: Collection[int] = ()) -> EncoderOutput:
        """Encode a batch.

        Args:
            batch: texts and regions.
            attention_scores: layers, counted from 0 or from the end with -1, whose scores are wanted.

        Raises:
            UsageError: a layer that does not exist.
        """
        wanted = sorted({layer_place(layer, len(self.layers)) for layer in attention_scores})
        modules = {id(module): module for place in wanted for module, _ in self.layers[place].values()}
        with _recorded(modules.values()) as found:
            output: EncoderOutput = self.model(batch)
        sizes = batch.input_ids.shape[1], batch.regions.shape[1]
        scores = {}
        for place in wanted:
            blocks = {name: found[id(module)][call] for name, (module, call) in self.layers[place].items()}
            scores[place] = _joined(blocks, sizes)
        return replace(output, attention_scores=scores)


def _attention(layer: Any) -> nn.Module:
    return cast(nn.Module, layer.attention)


def _blocks(layer: nn.Module) -> Mapping[str, Call]:
    """Return the attention of a layer of both modalities; SSRP-Share's sees each alone, with the same weights."""
    if not isinstance(layer, CrossLayer):
        return {"LL": (_attention(layer), 0), "VV": (_attention(layer), 1)}
    blocks: dict[str, Call] = {"LL": (layer.text.attention, 0), "VV": (layer.regions.attention, 0)}
    return blocks | {"LV": (layer.cross, 0)} | ({"VL": (layer.cross, 1)} if layer.both else {})


@contextmanager
def _recorded(modules: Collection[nn.Module]) -> Iterator[dict[int, list[Tensor]]]:
    """Keep the scores of every call of attention modules while the block lasts."""
    found: dict[int, list[Tensor]] = {}

    def keep(module: Any, given: Any) -> None:
        found.setdefault(id(module), []).append(module.scores(*given))

    handles = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _joined(blocks: dict[str, Tensor], sizes: tuple[int, int]) -> Tensor:
    """Return [B, heads, T + R, T + R] of a layer's blocks, minus infinity where it has none."""
    first = next(iter(blocks.values()))
    whole = first.new_full((*first.shape[:2], sum(sizes), sum(sizes)), -torch.inf)
    place = {"L": slice(0, sizes[0]), "V": slice(sizes[0], sum(sizes))}
    for name, scores in blocks.items():
        whole[:, :, place[name[0]], place[name[1]]] = scores
    return whole
