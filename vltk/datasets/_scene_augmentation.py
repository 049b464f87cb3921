"""The drawn world's grammar in the place of models: it paraphrases and parses its own sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vltk.datasets._scene_grammar import understand
from vltk.datasets._scene_language import Caption, paraphrases
from vltk.datasets._scene_model import Dice
from vltk.errors import DataError
from vltk.types import Parse, Progress

_NAME = "grammar of the drawn world"


class GrammarParaphraser:
    """Says sentences of the drawn world in other words of the same meaning; stands where a back-translation stands.

    Other templates and the converse relation are used, but none of the templates that only the test split says.

    Args:
        count: paraphrases of a sentence, at most; fewer where the grammar knows fewer.
        seed: with the id of a sentence it decides which ones, whatever the order.

    Example:
        >>> GrammarParaphraser(count=1).paraphrase(["a star is above a ring"], ["7"])
        [('there is a star above a ring',)]
    """

    def __init__(self, *, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self.description: dict[str, Any] = {"kind": _NAME, "per_text": count, "seed": seed}

    def paraphrase(
        self, texts: Sequence[str], ids: Sequence[str], *, progress: Progress | None = None
    ) -> list[tuple[str, ...]]:
        """Return the paraphrases of each text.

        Args:
            texts: sentences of the drawn world.
            ids: their names.
            progress: called with the number of sentences done.

        Raises:
            DataError: a text that the grammar does not know.
        """
        made = []
        for text, name in zip(texts, ids, strict=True):
            sentence = _understood(text, name)
            told = Caption(sentence=sentence, objects=tuple(range(len(sentence.spans))))
            known = sorted({other.text for other in paraphrases(told)})
            made.append(tuple(Dice(self.seed, "paraphrase", name).shuffled(known)[: self.count]))
            if progress is not None:
                progress(1)
        return made


class GrammarParser:
    """Knows the dependency trees of sentences of the drawn world; stands where a parser stands.

    Example:
        >>> GrammarParser().parse(["a star is above a ring"])[0].heads
        (2, 6, 6, 6, 6, 0)
    """

    def __init__(self) -> None:
        self.description: dict[str, Any] = {"kind": _NAME}

    def parse(self, texts: Sequence[str], *, ids: Sequence[str] = (), progress: Progress | None = None) -> list[Parse]:
        """Return the tree of each text.

        Args:
            texts: sentences of the drawn world.
            ids: their names, for errors.
            progress: called with the number of texts done.

        Raises:
            DataError: a text that the grammar does not know.
        """
        found = [_understood(text, name).parse for text, name in zip(texts, ids or [""] * len(texts), strict=True)]
        if progress is not None:
            progress(len(found))
        return found


def _understood(text: str, name: str) -> Any:
    try:
        return understand(text)
    except DataError as error:
        raise DataError(error.problem, where=f"sentence {name}" if name else None, remedy=error.remedy) from error
