"""Published checkpoint layouts in and out: which official key is which parameter of ours.

A layout is a list of pairs of patterns (our key, official key). Several official keys may be one parameter of ours,
stacked along the first dimension. What is missing, left over or of another shape is named, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vltk.errors import DataError

JOINED = "(query, key, value)"
"""Stands for the three published projections that are one of ours."""

Layout = Sequence[tuple[str, str]]
"""Regular expressions over our whole keys, and templates of the official ones."""


class PublishedLayout(nn.Module):
    """A model that knows the names that its authors' checkpoints use.

    Attributes:
        layout: pairs of patterns.
        tied: official keys that repeat another one.
    """

    layout: ClassVar[Layout] = ()
    tied: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def published_keys(cls, key: str) -> list[str]:
        """Return the official keys of one of our keys, three for a joint query-key-value projection.

        Raises:
            DataError: the layout does not know the key.
        """
        for pattern, template in cls.layout:
            found = re.fullmatch(pattern, key)
            if found:
                names = [template.replace(JOINED, part) for part in ("query", "key", "value")]
                return [found.expand(name) for name in (names if JOINED in template else [template])]
        raise DataError(f"parameter {key} has no published name", where=cls.__name__, remedy="add it to the layout")

    def load_published(self, official: Mapping[str, Tensor], *, where: str) -> None:
        """Copy a published state dict; BERT's old ``gamma`` and ``beta`` are understood.

        Args:
            official: the published keys.
            where: what to call the checkpoint in an error.

        Raises:
            DataError: keys missing, left over, or of another shape, all named.
        """
        state = {modern_name(key): tensor for key, tensor in official.items()}
        for copy in self.tied:
            state.pop(copy, None)
        ours = self.state_dict()
        names = {key: self.published_keys(key) for key in ours}
        _check_keys(state, names.values(), where)
        merged = {key: _joined([state[name] for name in found]) for key, found in names.items()}
        wrong = [
            f"{names[key][0]} {list(merged[key].shape)} instead of {list(ours[key].shape)}"
            for key in ours
            if merged[key].shape != ours[key].shape
        ]
        if wrong:
            raise DataError(f"shapes differ: {'; '.join(wrong[:5])}", where=where, remedy="build a model of that size")
        self.load_state_dict(merged)

    def published_state(self) -> dict[str, Tensor]:
        """Return the weights under the published keys, tied duplicates included."""
        return self.published(self.state_dict())

    @classmethod
    def published(cls, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return some or all of a model's weights under the published keys."""
        official: dict[str, Tensor] = {}
        for key, tensor in weights.items():
            names = cls.published_keys(key)
            official |= dict(zip(names, _parted(tensor, len(names)), strict=True))
        return official | {copy: official[name] for copy, name in cls.tied.items() if name in official}


def modern_name(key: str) -> str:
    """Return a key with ``weight`` and ``bias`` where BERT's first release wrote ``gamma`` and ``beta``."""
    if key.endswith((".gamma", ".beta")):
        return key.removesuffix("gamma").removesuffix("beta") + ("weight" if key.endswith("gamma") else "bias")
    return key


def _joined(parts: list[Tensor]) -> Tensor:
    """Return the parts of a joint parameter as one; a number of its own (a counter) stays as it is."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _parted(tensor: Tensor, count: int) -> Sequence[Tensor]:
    return tensor.chunk(count) if count > 1 else (tensor,)


def _check_keys(state: Mapping[str, Tensor], names: Iterable[Sequence[str]], where: str) -> None:
    expected = {name for group in names for name in group}
    missing, left = sorted(expected - state.keys()), sorted(state.keys() - expected)
    found = [(keys, what) for keys, what in ((missing, "missing"), (left, "left over")) if keys]
    if found:
        parts = [
            f"{len(keys)} {what} ({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''})" for keys, what in found
        ]
        raise DataError(f"keys do not fit: {' and '.join(parts)}", where=where, remedy="name the right model for it")
