"""Contrastive losses on relations: SSRP's single-modality and cross-modality terms (Gu et al., NeurIPS 2020).

Rows b and B + b of 2B vectors belong together: an original and its augmented view. Similarity is the cosine.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# A vector of almost nothing has a gradient of one over this.
EPS = 1e-3


def single_modality_losses(vectors: Tensor, *, temperature: float = 0.07) -> Tensor:
    """Return L_SCL: NT-Xent, whose positive is the other view and whose negatives are all other items.

    Args:
        vectors: [2B, E] of one modality.
        temperature: of the softmax (public code: 0.07).

    Returns:
        [2B] losses.

    Example:
        >>> alike = torch.eye(4).repeat(2, 1)
        >>> bool((single_modality_losses(alike) < 0.01).all())
        True
    """
    scores = _cosines(vectors, vectors) / temperature
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    positives = _partners(len(vectors), vectors.device)
    return F.cross_entropy(scores.masked_fill(itself, -torch.inf), positives, reduction="none")


def cross_modality_losses(queries: Tensor, keys: Tensor, *, temperature: float = 0.07) -> Tensor:
    """Return one direction of L_XCL: queries of one modality find the other side of their pair.

    The negatives are the items of all other pairs. The other view of the own pair is neither: its sentence says the
    same of the same picture.

    Args:
        queries: [2B, E] of one modality.
        keys: [2B, E] of the other one.
        temperature: of the softmax.

    Returns:
        [2B] losses.
    """
    scores = _cosines(queries, keys) / temperature
    rows = torch.arange(len(queries), device=queries.device)
    other_view = F.one_hot(_partners(len(queries), queries.device), len(queries)).bool()
    return F.cross_entropy(scores.masked_fill(other_view, -torch.inf), rows, reduction="none")


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    return F.normalize(first.float(), dim=-1, eps=EPS) @ F.normalize(second.float(), dim=-1, eps=EPS).t()


def _partners(count: int, device: torch.device) -> Tensor:
    """Return for each of 2B rows the row of its other view."""
    return torch.arange(count, device=device).roll(count // 2)
