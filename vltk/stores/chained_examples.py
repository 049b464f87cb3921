"""The examples of several stores as one, e.g. the train and val questions of VQA with those of Visual Genome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from vltk.errors import DataError, UsageError
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.types import Example


class ChainedExamples:
    """The examples of stores one after the other, read like one store.

    Args:
        parts: stores of one task and one vocabulary.

    Raises:
        UsageError: no parts.
        DataError: the stores are of two tasks or vocabularies, or an id is in two of them.
    """

    def __init__(self, parts: Sequence[ExampleStore]) -> None:
        if not parts:
            raise UsageError("a chain of no stores", remedy="give at least one store")
        self.parts = tuple(parts)
        first = parts[0].metadata
        for part in parts[1:]:
            other = part.metadata
            if (other.task, _vocabulary(other)) != (first.task, _vocabulary(first)):
                problem = f"is of another task or vocabulary than {parts[0].path}"
                raise DataError(problem, where=part.path, remedy="prepare all with one --task and --tokenizer")
        if len(self._part_of) < len(self):
            where = ", ".join(str(part.path) for part in parts)
            problem = f"{len(self) - len(self._part_of)} ids stand in two stores"
            raise DataError(problem, where=where, remedy="give each example once")

    @cached_property
    def _part_of(self) -> dict[str, int]:
        return {name: place for place, part in enumerate(self.parts) for name in part.ids()}

    @property
    def metadata(self) -> ExampleMetadata:
        """What the first part was made from."""
        return self.parts[0].metadata

    @property
    def path(self) -> Path:
        """Where the first part lies."""
        return self.parts[0].path

    def ids(self) -> list[str]:
        """Return all ids in the order of writing, part after part."""
        return [name for part in self.parts for name in part.ids()]

    def get(self, example_id: str) -> Example:
        """Return one example.

        Raises:
            DataError: no such example, or a damaged record.
        """
        return self.parts[self._part_of.get(example_id, 0)].get(example_id)

    def __iter__(self) -> Iterator[Example]:
        for part in self.parts:
            yield from part

    def __len__(self) -> int:
        return sum(map(len, self.parts))


Examples = ExampleStore | ChainedExamples
"""Examples to read, from one store or several."""


def _vocabulary(metadata: ExampleMetadata) -> str | None:
    return None if metadata.tokenizer is None else metadata.tokenizer.vocab_sha256
