"""Paraphrases by back-translation: a sentence goes through pivot languages and comes back in other words.

SSRP (Gu et al. 2020) takes En-De-En and En-Ru-En with the WMT'19 models, so two paraphrases a sentence.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from vltk.errors import UsageError
from vltk.language._search import SEARCH, Search
from vltk.language._sentences import named
from vltk.language._translator import BUCKETING, Bucketing, Translator
from vltk.language.translation import languages_of
from vltk.types import Progress


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which translations count as paraphrases.

    Attributes:
        identical: keep those that say the same words (compared without case, accents and punctuation).
        repeated: keep those that two pivots both found.
        shortest: words of a paraphrase over words of the sentence, at least.
        longest: words of a paraphrase over words of the sentence, at most.
    """

    identical: bool = False
    repeated: bool = False
    shortest: float = 0.5
    longest: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.shortest <= self.longest:
            raise UsageError(f"got length ratios {self.shortest} to {self.longest}", where="--shortest, --longest")

    def reason(self, text: str, candidate: str, others: Iterable[str] = ()) -> str | None:
        """Return why a candidate is no paraphrase of a text, or None where it is one.

        Example:
            >>> Filter().reason("A dog runs.", "a dog runs"), Filter().reason("A dog runs.", "The dog is running.")
            ('identical', None)
        """
        said = _words(candidate)
        ratio = len(said) / max(1, len(_words(text)))
        if not said or not self.shortest <= ratio <= self.longest:
            return "length"
        if not self.identical and said == _words(text):
            return "identical"
        if not self.repeated and any(said == _words(other) for other in others):
            return "repeated"
        return None


FILTER = Filter()


def _words(text: str) -> list[str]:
    letters = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(letter if letter.isalnum() else " " for letter in letters if not unicodedata.combining(letter))
    return kept.split()


@dataclass(kw_only=True)
class Tally:
    """What became of the translations.

    Attributes:
        sentences: how many were paraphrased.
        paraphrases: how many paraphrases they got.
        without: sentences that got none.
        too_long: translations that were not tried because the sentence has too many pieces.
        left_out: candidates by the reason why they were left out.
    """

    sentences: int = 0
    paraphrases: int = 0
    without: int = 0
    too_long: int = 0
    left_out: dict[str, int] = field(default_factory=lambda: {"identical": 0, "length": 0, "repeated": 0})


class SaysOtherwise(Protocol):
    """Anything that says sentences in other words."""

    @property
    def description(self) -> Mapping[str, Any]:
        """What does it, for the record of a store."""
        ...

    def paraphrase(
        self, texts: Sequence[str], ids: Sequence[str], *, progress: Progress | None = None
    ) -> list[tuple[str, ...]]:
        """Return the paraphrases of each text; a text may get none."""
        ...


class Paraphraser:
    """Sends sentences through chains of translators and keeps what comes back in other words.

    Args:
        chains: e.g. ("en-de", "en-ru"); each goes back to its first language.
        translators: one for each direction that the chains need.
        settings: how to search; the last step returns ``n_best`` candidates a chain.
        bucketing: how batches are made.
        allowed: which candidates count.
        per_pivot: paraphrases that a chain may add, the best candidates first.

    Raises:
        UsageError: a direction without translator.
    """

    def __init__(
        self,
        chains: Sequence[str],
        translators: Mapping[tuple[str, str], Translator],
        *,
        settings: Search = SEARCH,
        bucketing: Bucketing = BUCKETING,
        allowed: Filter = FILTER,
        per_pivot: int = 1,
    ) -> None:
        self.chains = {chain: languages_of(chain) for chain in chains}
        for chain, directions in self.chains.items():
            for direction in directions:
                if direction not in translators:
                    raise UsageError(f"{chain} needs a translator for {'-'.join(direction)}", where="translators")
        self.translators, self.settings, self.bucketing = translators, settings, bucketing
        self.allowed, self.per_pivot = allowed, per_pivot
        self.tally = Tally()

    @property
    def description(self) -> dict[str, Any]:
        """Which models paraphrase, and how."""
        return {
            "pivots": list(self.chains),
            "search": asdict(self.settings),
            "filter": asdict(self.allowed),
            "per_pivot": self.per_pivot,
            "longest": self.bucketing.longest,
            "weights": {"-".join(pair): one.description for pair, one in self.translators.items()},
        }

    def paraphrase(
        self, texts: Sequence[str], ids: Sequence[str], *, progress: Progress | None = None
    ) -> list[tuple[str, ...]]:
        """Return the paraphrases of each text; a text may get none.

        Args:
            texts: sentences.
            ids: their names; with a seed they decide what sampling draws, whatever the order.
            progress: called with the number of sentences just translated, once a step of every chain.

        Raises:
            DataError: a sentence without words.
        """
        named(texts, ids)
        kept: list[list[str]] = [[] for _ in texts]
        for chain in self.chains:
            for number, candidates in enumerate(self._candidates(chain, texts, ids, progress)):
                self._keep(texts[number], candidates, kept[number])
        self.tally.sentences += len(texts)
        self.tally.paraphrases += sum(map(len, kept))
        self.tally.without += sum(not one for one in kept)
        return [tuple(one) for one in kept]

    def _candidates(
        self, chain: str, texts: Sequence[str], ids: Sequence[str], progress: Progress | None
    ) -> list[list[str]]:
        directions = self.chains[chain]
        rows = list(range(len(texts)))
        current = list(texts)
        found: list[list[str]] = [[] for _ in texts]
        for number, direction in enumerate(directions):
            last = number == len(directions) - 1
            hypotheses = self.translators[direction].translate(
                current,
                ids=[f"{chain}/{number}/{ids[row]}" for row in rows],
                settings=self.settings if last else replace(self.settings, n_best=1),
                bucketing=self.bucketing,
                progress=progress,
            )
            self.tally.too_long += sum(not one for one in hypotheses)
            going = [(row, one) for row, one in zip(rows, hypotheses, strict=True) if one and one[0].text.strip()]
            rows, current = [row for row, _ in going], [one[0].text for _, one in going]
            if last:
                for row, one in going:
                    found[row] = [hypothesis.text for hypothesis in one]
        return found

    def _keep(self, text: str, candidates: Sequence[str], kept: list[str]) -> None:
        added = 0
        for candidate in candidates:
            if added == self.per_pivot:
                break
            reason = self.allowed.reason(text, candidate, kept)
            if reason is None:
                kept.append(candidate)
                added += 1
            else:
                self.tally.left_out[reason] += 1
