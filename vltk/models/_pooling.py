"""From a set of states to one vector: generalized pooling (VSE-infinity) and the simple poolings beside it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from vltk.models._coefficients import Coefficients, build_coefficients, within
from vltk.models._sorting import sort_descending

Pooling = Literal[
    "gpo",
    "interpolated",
    "perceptron",
    "index",
    "transformer",
    "per-dimension",
    "feature",
    "average",
    "max",
    "k-max",
    "first",
    "attention",
]
"""How a set becomes a vector; "gpo" is published, "average" and "first" are the VSE++ rows of its tables, "attention"
is how HGR makes one vector of a video's frames."""


class GeneralizedPooling(nn.Module):
    """The Generalized Pooling Operator (Chen et al., CVPR 2021, equations 2 to 5).

    Each dimension is sorted, and the k-th largest values of all dimensions get one weight, which depends on k and on
    the size of the set. Weights are made once for each size that occurs; in evaluation they are kept between batches.

    Args:
        coefficients: makes the weights.

    Example:
        >>> pooling = GeneralizedPooling(build_coefficients("interpolated", hidden=2)).eval()
        >>> sets = torch.tensor([[[1.0, 4.0], [3.0, 2.0], [9.0, 9.0]]])
        >>> pooling(sets, torch.tensor([[True, True, False]])).tolist()  # fresh scores are equal: the mean
        [[2.0, 3.0]]
    """

    def __init__(self, coefficients: Coefficients) -> None:
        super().__init__()
        self.coefficients = coefficients
        self._kept: tuple[Any, dict[int, Tensor]] = (None, {})

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool.

        Args:
            states: [B, N, H].
            mask: [B, N] bool, true on elements, wherever they stand; at least one in each set.

        Returns:
            [B, H].
        """
        lengths = mask.sum(dim=1)
        width = int(lengths.max())
        if width < states.shape[1] and bool(mask[:, :width].sum() == lengths.sum()):
            states, mask = states[:, :width], mask[:, :width]
        if bool(mask.all()):
            ordered = sort_descending(states)
        else:
            ordered = sort_descending(states.masked_fill(~mask.unsqueeze(-1), -torch.inf))[:, :width]
            # Minus infinity times a coefficient of zero would be no number.
            ordered = ordered.masked_fill(~within(lengths, width).unsqueeze(-1), 0)
        weights = self.weights(lengths, width, ordered).to(ordered.dtype)
        if weights.dim() == 3:
            return (weights * ordered).sum(dim=1)
        return (weights.unsqueeze(1) @ ordered).squeeze(1)

    def weights(self, lengths: Tensor, width: int, ordered: Tensor | None = None) -> Tensor:
        """Return the coefficients of sets of [B] sizes: [B, width], or [B, width, H] with one for each dimension."""
        if self.coefficients.reads_features:
            return self.coefficients(lengths, width, ordered)  # type: ignore[no-any-return]
        sizes, place = torch.unique(lengths, return_inverse=True)
        if self.training or torch.is_grad_enabled():
            return self.coefficients(sizes, width)[place]  # type: ignore[no-any-return]
        return self._cached(sizes, width)[place]

    def _cached(self, sizes: Tensor, width: int) -> Tensor:
        """Return the coefficients of distinct sizes, those that are known without a calculation."""
        # Any update, load or move of the weights changes this.
        state = tuple((weight.data_ptr(), weight._version) for weight in self.coefficients.parameters())
        if self._kept[0] != state:
            self._kept = (state, {})
        known = self._kept[1]
        new = [size for size in sizes.tolist() if size not in known]
        if new:
            fresh = self.coefficients(torch.tensor(new, device=sizes.device), max(new))
            known |= {size: row[:size] for size, row in zip(new, fresh, strict=True)}
        rows = [known[size] for size in sizes.tolist()]
        result = rows[0].new_zeros(len(rows), width, *rows[0].shape[1:])
        for place, row in zip(result, rows, strict=True):
            place[: len(row)] = row
        return result

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": (None, {})}


class AveragePooling(nn.Module):
    """The mean of the elements."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool [B, N, H] under a [B, N] mask to [B, H]."""
        real = mask.unsqueeze(-1)
        return states.masked_fill(~real, 0).sum(dim=1) / real.sum(dim=1)


class KMaxPooling(nn.Module):
    """The mean of the k largest values of each dimension; k = 1 is max pooling.

    Args:
        k: how many; a set with fewer elements uses those it has.
        official: keep the published loop's bug: a set with fewer than k elements also lowers k for all sets after it
            in the batch.
    """

    def __init__(self, k: int = 1, *, official: bool = False) -> None:
        super().__init__()
        self.k, self.official = k, official

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool [B, N, H] under a [B, N] mask to [B, H]."""
        largest = states.masked_fill(~mask.unsqueeze(-1), -torch.inf).topk(min(self.k, states.shape[1]), dim=1).values
        counts = mask.sum(dim=1).clamp(max=self.k)
        if self.official:
            counts = counts.cummin(dim=0).values
        used = torch.arange(largest.shape[1], device=mask.device) < counts.unsqueeze(1)
        return largest.masked_fill(~used.unsqueeze(-1), 0).sum(dim=1) / counts.unsqueeze(1)


class FirstPooling(nn.Module):
    """The first element: BERT's [CLS]."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return [B, H] of [B, N, H]."""
        return states[:, 0]


class AttentionPooling(nn.Module):
    """The mean of the elements, weighted by a softmax over one score of each (HGR, CVPR 2020, section 3.2).

    Args:
        hidden: H.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden, 1)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool [B, N, H] under a [B, N] mask to [B, H]."""
        scores = self.score(states).squeeze(2).masked_fill(~mask, -torch.inf)
        pooled: Tensor = scores.softmax(dim=1).unsqueeze(1) @ states.masked_fill(~mask.unsqueeze(-1), 0)
        return pooled.squeeze(1)


def build_pooling(kind: Pooling, *, hidden: int, k: int = 5) -> nn.Module:
    """Make a pooling of [B, N, H] states under a [B, N] mask.

    Args:
        kind: which one.
        hidden: H.
        k: of "k-max".

    Example:
        >>> states, mask = torch.tensor([[[1.0], [3.0], [5.0]]]), torch.tensor([[True, True, False]])
        >>> [build_pooling(kind, hidden=1, k=2)(states, mask).item() for kind in ("average", "max", "k-max", "first")]
        [2.0, 3.0, 2.0, 1.0]
    """
    if kind == "average":
        return AveragePooling()
    if kind == "first":
        return FirstPooling()
    if kind == "attention":
        return AttentionPooling(hidden)
    if kind in ("max", "k-max"):
        return KMaxPooling(1 if kind == "max" else k)
    return GeneralizedPooling(build_coefficients(kind, hidden=hidden))
