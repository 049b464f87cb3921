"""Stage 2 of SSRP: probes that find relations in a frozen encoder (Gu et al., NeurIPS 2020).

A batch holds every pair twice: rows 0 to B - 1 as they are, rows B to 2B - 1 as augmented views of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vltk.config.training import ObjectivesConfig
from vltk.errors import UsageError
from vltk.objectives.contrastive import cross_modality_losses, single_modality_losses
from vltk.stores.examples import TokenizerDescription
from vltk.types import Batch, Losses


def probe_losses(distances: Tensor, trees: Tensor, mask: Tensor) -> Tensor:
    """Return L_S-probe of each sentence: the mean over pairs of words of ``|d_T(i, j) - d_B(i, j)^2|``.

    As Hewitt and Manning (2019, section 2.2) do it, all pairs (i, j) of the words count, in both orders. What the
    probe gives is squared already and is not squared again.

    Args:
        distances: [B, N, N] squared distances of the probe.
        trees: [B, N, N] edges between two words of the dependency tree; -1 where there is no tree.
        mask: [B, N] bool, words that count.

    Returns:
        [B], 0 for a sentence without tree.

    Example:
        >>> tree = torch.tensor([[[0, 1], [1, 0]]])
        >>> probe_losses(torch.tensor([[[0.0, 3], [3, 0]]]), tree, torch.ones(1, 2, dtype=torch.bool)).tolist()
        [1.0]
    """
    pairs = (trees >= 0) & mask.unsqueeze(1) & mask.unsqueeze(2)
    missed = (distances.float() - trees).abs().masked_fill(~pairs, 0)
    return missed.sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Probing:
    """Train the probes on trees of sentences and on augmented views; the encoder stands still.

    The loss is L_S-probe + L_SCL (of sentences and of pictures) + L_XCL (both directions). No gradient reaches the
    encoder, and it runs without dropout.

    Args:
        probe_weight: weight of L_S-probe.
        single_weight: weight of L_SCL.
        cross_weight: weight of L_XCL.
        temperature: of both contrastive losses.
    """

    needs_views: ClassVar[bool] = True
    """Its batches hold pairs and augmented views of them."""

    probe_weight: float = 1.0
    single_weight: float = 1.0
    cross_weight: float = 1.0
    temperature: float = 0.07

    @classmethod
    def build(cls, settings: ObjectivesConfig, tokenizer: TokenizerDescription) -> Self:
        """Make it as configured."""
        return cls(
            probe_weight=settings.probe_weight,
            single_weight=settings.single_weight,
            cross_weight=settings.cross_weight,
            temperature=settings.temperature,
        )

    def corrupt(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch as it is: nothing is hidden."""
        return batch

    def forward(self, model: Any, batch: Batch) -> Losses:
        """Return one loss a row.

        Args:
            model: an SSRPForPretraining.
            batch: with ``targets["word_of_piece"]`` [2B, T] and ``targets["trees"]`` [2B, N, N].

        Raises:
            UsageError: a model without probes.
        """
        if not hasattr(model, "relation_vectors"):
            problem = f"{type(model).__name__} has no relation probes"
            raise UsageError(problem, where="--objective probing", remedy="use --model ssrp")
        relations = model.encoder.relations(model.encode_frozen(batch), batch)
        trees = batch.targets["trees"]
        values = probe_losses(relations.text, trees, relations.text_mask)
        # The mean over sentences is over those that have a tree.
        parsed = (trees >= 0).flatten(1).any(dim=1).sum().clamp(min=1)
        values = self.probe_weight * values * len(values) / parsed
        if self.single_weight or self.cross_weight:
            text, pictures = model.relation_vectors(relations)
            values = values + self.contrastive(text, pictures)
        return Losses(values=values, count=len(values))

    def contrastive(self, text: Tensor, pictures: Tensor) -> Tensor:
        """Return [2B] weighted L_SCL + L_XCL of [2B, E] vectors of relations."""
        one = {"temperature": self.temperature}
        single = single_modality_losses(text, **one) + single_modality_losses(pictures, **one)
        crossing = cross_modality_losses(pictures, text, **one) + cross_modality_losses(text, pictures, **one)
        return self.single_weight * single + self.cross_weight * crossing
