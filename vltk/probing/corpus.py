"""The sentences with trees that a probe learns from and is tested on, split so that no tree of the test is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vltk.batching import TokenBuckets, collate
from vltk.errors import DataError, first_few
from vltk.metrics.trees import tree_distances
from vltk.mixture.layouts import special_tokens
from vltk.mixture.trees import Told, tree_targets
from vltk.probing.division import Division, template
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureReader
from vltk.types import Batch, Example, Parse, Progress

Fold = Literal["train", "test"]
FOLDS: tuple[Fold, ...] = ("train", "test")
# A tree of one edge is found by any distances.
LEAST_WORDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence with its tree.

    Attributes:
        id: of its example.
        image_id: of its picture.
        parse: words, heads, relations, and the word of each piece.
        group: sentences of one group stand together.
        fold: what it is for.
        store: number of the example store.
        length: word pieces, special tokens and regions.
    """

    id: str
    image_id: str
    parse: Parse
    group: str
    fold: Fold
    store: int
    length: int

    @property
    def distances(self) -> NDArray[np.int32]:
        """[N, N] edges between every two words."""
        return tree_distances(self.parse.heads)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What is probed, and on which data.

    Attributes:
        stores: the example stores.
        features: the pictures' regions.
        sentences: of all folds.
        division: how they were divided.
        left_out: why examples are left out, and how many.
    """

    stores: tuple[ExampleStore, ...]
    features: FeatureReader
    sentences: tuple[Sentence, ...]
    division: Division
    left_out: Counter[str]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """[S + 1] where the words of each sentence begin in a table of all words, and where that ends."""
        return np.cumsum([0, *(len(one.parse.words) for one in self.sentences)])

    def rows(self, *folds: Fold) -> list[int]:
        """Return the numbers of the sentences of some folds."""
        return [row for row, one in enumerate(self.sentences) if one.fold in folds]

    @cached_property
    def parts(self) -> list[list[int]]:
        """The numbers of the training sentences in as many parts as the division has folds."""
        rows = self.rows("train")
        places = self.division.parts([self.sentences[row].group for row in rows])
        return [[rows[place] for place in part] for part in places]

    def images(self, *folds: Fold) -> tuple[str, ...]:
        """Return the pictures of some folds, each once, in the order of the examples."""
        return tuple(dict.fromkeys(self.sentences[row].image_id for row in self.rows(*folds)))

    def batches(self, rows: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Return sentences by similar length, as many as stay within a budget of padded tokens."""
        lengths = np.array([self.sentences[row].length for row in rows], np.int32)
        rule = TokenBuckets(max_tokens=max_tokens, bucket_size=max(1, len(lengths)), multiple=1)
        filled = rule.filled(np.arange(len(lengths), dtype=np.int32), lengths)
        return [[rows[place] for place in batch] for batch in filled]

    def batch(self, rows: Sequence[int]) -> Batch:
        """Read and pad sentences with their pictures, and tell the word of each piece (``word_of_piece`` [B, T]).

        Raises:
            DataError: a damaged record, or a feature that is no number.
        """
        chosen = [self.sentences[row] for row in rows]
        texts = [
            special_tokens(self.stores[one.store]).frame(self.stores[one.store].get(one.id).tokens[0].ids)
            for one in chosen
        ]
        batch = self._collated([one.id for one in chosen], texts, [one.image_id for one in chosen])
        return replace(batch, targets=tree_targets([Told(pieces=one.parse.pieces, parse=one.parse) for one in chosen]))

    def pictures(self, image_ids: Sequence[str]) -> Batch:
        """Read and pad pictures beside an empty sentence, [CLS] [SEP]."""
        frame = special_tokens(self.stores[0]).frame([])
        return self._collated(list(image_ids), [frame] * len(image_ids), image_ids)

    def _collated(self, ids: Sequence[str], texts: Sequence[list[int]], image_ids: Sequence[str]) -> Batch:
        pictures = [self.features.get(image_id) for image_id in image_ids]
        batch = collate(ids, texts, pictures, padding=special_tokens(self.stores[0]).padding)
        finite = torch.isfinite(batch.regions.sum(dim=(1, 2)) + batch.locations.sum(dim=(1, 2)))
        if not finite.all():
            name = image_ids[int((~finite).int().argmax())]
            where = getattr(self.features, "path", "the feature store")
            raise DataError(f"a feature of image {name} is no number", where=where, remedy="extract it again")
        return batch

    def describe(self) -> dict[str, object]:
        """Return what was found, for people and receipts."""
        folds = {fold: self.rows(fold) for fold in FOLDS}
        return {
            "sentences": {fold: len(rows) for fold, rows in folds.items()},
            "templates": {fold: len({template(self.sentences[r].parse) for r in rows}) for fold, rows in folds.items()},
            "groups": {fold: len({self.sentences[row].group for row in rows}) for fold, rows in folds.items()},
            "parts": [len(part) for part in self.parts],
            "images": {fold: len(self.images(fold)) for fold in FOLDS},
            "left_out": dict(self.left_out),
        }


def read_corpus(
    examples: ExampleStore,
    features: FeatureReader,
    *,
    tests: ExampleStore | None = None,
    division: Division | None = None,
    skip_missing: bool = False,
    limit: int | None = None,
    progress: Progress = lambda items: None,
) -> Corpus:
    """Find the sentences that can be probed.

    Args:
        examples: texts with word pieces and trees.
        features: the pictures' regions.
        tests: the sentences that are tested on; without it a share of ``examples`` is. Of these, sentences whose
            template or image ``examples`` has are left out.
        division: of ``examples``.
        skip_missing: leave out sentences whose picture has no features.
        limit: look at the first so many examples of each store only.
        progress: told how many examples were looked at.

    Raises:
        DataError: no word pieces, no trees, pictures without features, or a fold without a sentence.
    """
    look = _Look(features, division or Division(), limit=limit, progress=progress)
    look.take(examples, 0, tested=tests is None)
    if tests is not None:
        look.take(tests, 1, tested=True)
    return look.corpus((examples,) if tests is None else (examples, tests), skip_missing=skip_missing)


class _Look:
    def __init__(self, features: FeatureReader, division: Division, *, limit: int | None, progress: Progress) -> None:
        self.features, self.division, self.limit, self.progress = features, division, limit, progress
        self.sentences: list[Sentence] = []
        self.left_out: Counter[str] = Counter()
        self.missing: dict[str, None] = {}
        self.known: set[str] = set()

    def take(self, store: ExampleStore, number: int, *, tested: bool) -> None:
        """Add the sentences of a store that can be probed, and count what is left out.

        Args:
            store: examples with trees.
            number: of the store; all sentences but those of the first are tested on.
            tested: whether the division takes test sentences out of the first store.

        Raises:
            DataError: an example without word pieces or tree, or a tree over other pieces.
        """
        for example in islice(store, self.limit):
            self.progress(1)
            parse = self._parse(store, example)
            if parse is None:
                continue
            image_id = example.image_ids[0]
            key = self.division.key(parse, image_id)
            if number and key in self.known:
                self.left_out[f"test sentences whose {self.division.held_out.removesuffix('s')} is trained on"] += 1
                continue
            self.known |= set() if number else {key}
            group = self.division.group(parse, image_id)
            self.sentences.append(
                Sentence(
                    id=example.id,
                    image_id=image_id,
                    parse=parse,
                    group=group,
                    fold="test" if number or (tested and self.division.tested(group)) else "train",
                    store=number,
                    length=len(parse.pieces) + 2 + self.features.region_count(image_id),
                )
            )

    def _parse(self, store: ExampleStore, example: Example) -> Parse | None:
        """Return the tree of an example whose every word has pieces; None where it cannot be probed."""
        if not example.tokens:
            raise DataError("has no word pieces", where=f"example {example.id}", remedy="prepare with --tokenizer")
        if not example.parses:
            remedy = "make trees with vltk augment --parser FOLDER or --conllu FILE"
            raise DataError(f"example {example.id} has no dependency tree", where=store.path, remedy=remedy)
        parse = example.parses[0]
        if example.image_ids[0] not in self.features:
            self.missing[example.image_ids[0]] = None
            self.left_out["no features of the picture"] += 1
        elif len(parse.words) < LEAST_WORDS:
            self.left_out[f"fewer than {LEAST_WORDS} words"] += 1
        elif len(parse.pieces) != len(example.tokens[0].ids):
            remedy = "make the trees again with vltk augment and the tokenizer of the word pieces"
            problem = f"example {example.id} has a tree over {len(parse.pieces)} of {len(example.tokens[0].ids)} pieces"
            raise DataError(problem, where=store.path, remedy=remedy)
        elif len(set(parse.pieces)) < len(parse.words):
            # Parts of a multiword token share one spelling, so that a word of theirs has no piece of its own.
            self.left_out["a word without word pieces"] += 1
        elif not self.features.region_count(example.image_ids[0]):
            self.left_out["no region"] += 1
        else:
            return parse
        return None

    def corpus(self, stores: tuple[ExampleStore, ...], *, skip_missing: bool) -> Corpus:
        """Return what was taken, divided.

        Args:
            stores: that were taken.
            skip_missing: whether pictures may lack features.

        Raises:
            DataError: pictures lack features, no sentence is left to test, or a fold is empty.
        """
        if self.missing and not (skip_missing and self.sentences):
            remedy = "extract them, or leave their captions out with --missing-images skip"
            where = getattr(self.features, "path", "the feature store")
            raise DataError(f"lacks {len(self.missing)} images ({first_few(self.missing)})", where=where, remedy=remedy)
        found = Corpus(
            stores=stores,
            features=self.features,
            sentences=tuple(self.sentences),
            division=self.division,
            left_out=self.left_out,
        )
        told = ", ".join(f"{why}: {count}" for why, count in self.left_out.items()) or "nothing left out"
        if not found.rows("test"):
            problem = f"no test sentence among {len(self.sentences)} ({told})"
            remedy = "give more sentences or another --test-share, or --held-out images"
            raise DataError(problem, where=stores[-1].path, remedy=remedy)
        if not all(found.parts):
            groups = len({found.sentences[row].group for row in found.rows("train")})
            what = "shapes of trees" if self.division.held_out == "templates" else "images"
            problem = (
                f"{groups} {what} among {len(self.sentences)} sentences do not fill {len(found.parts)} folds ({told})"
            )
            remedy = "give more sentences, fewer --folds, or --held-out images"
            raise DataError(problem, where=stores[0].path, remedy=remedy)
        return found


def gold_distances(sentences: Sequence[Sentence]) -> Iterator[NDArray[np.int32]]:
    """Yield the tree distances of each sentence; sentences of one template share one computation."""
    known: dict[tuple[int, ...], NDArray[np.int32]] = {}
    for one in sentences:
        if one.parse.heads not in known:
            known[one.parse.heads] = one.distances
        yield known[one.parse.heads]
