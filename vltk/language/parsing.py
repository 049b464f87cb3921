"""Dependency trees of sentences: Stanza in bulk from a folder on this machine, and the words that pieces belong to.

The trees of a treebank file are read by :mod:`vltk.datasets.conllu`; no parser is needed then.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from vltk.errors import DataError, UsageError, VltkError, did_you_mean
from vltk.language._sentences import named
from vltk.language.preparation import source_hashes
from vltk.language.tokenization import CONTINUATION, Tokenizer
from vltk.types import Parse, Progress, Tokens

NEXT_SENTENCE = "parataxis"
_PROCESSORS = ("tokenize", "mwt", "pos", "lemma", "depparse")
_INSTALL = 'pip install "vltk-toolkit[parse]"'
_REMEDY = "give the folder that stanza.download(LANGUAGE, model_dir=FOLDER) filled"


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """How sentences are put together for the parser, which bounds memory.

    Attributes:
        words: words of a chunk, counted between spaces; a longer sentence goes alone.
        longest: sentences of more words are not parsed at all.
    """

    words: int = 20_000
    longest: int = 500

    def __post_init__(self) -> None:
        if min(self.words, self.longest) < 1:
            raise UsageError(f"got {self}", where="chunks", remedy="each number is at least 1")

    def chunks(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield the rows of each chunk, the shortest sentences first; those that are too long are in none.

        Example:
            >>> list(Chunking(words=5, longest=6).chunks([3, 2, 9, 2, 6]))
            [[1, 3], [0], [4]]
        """
        chunk: list[int] = []
        held = 0
        for row in sorted((row for row, n in enumerate(lengths) if n <= self.longest), key=lengths.__getitem__):
            if chunk and held + lengths[row] > self.words:
                yield chunk
                chunk, held = [], 0
            chunk.append(row)
            held += lengths[row]
        if chunk:
            yield chunk


CHUNKING = Chunking()


class Parser(Protocol):
    """Anything that finds the dependency trees of sentences.

    Attributes:
        description: which models, for the record of a store.
    """

    description: dict[str, Any]

    def parse(self, texts: Sequence[str], *, ids: Sequence[str] = (), progress: Progress | None = None) -> list[Parse]:
        """Return the tree of each text, an empty one where the text is too long.

        Args:
            texts: sentences.
            ids: their names, for errors.
            progress: called with the number of texts just parsed.

        Raises:
            DataError: a text without words.
        """
        ...


class StanzaParser:
    """Stanza (Qi et al. 2020) from a folder on this machine; nothing is ever downloaded.

    A text of several sentences becomes one tree: the root of each further sentence hangs on the first root, with
    the relation ``parataxis``.

    Args:
        folder: what ``stanza.download`` filled: ``resources.json`` and a folder for each language.
        language: e.g. "en".
        pretokenised: take the words between spaces as they are, instead of looking for words and sentences.
        chunking: how sentences are put together.
        gpu: whether to compute on the GPU.

    Raises:
        VltkError: Stanza is not installed.
        DataError: no models there, or not of that language, or damaged.
    """

    def __init__(
        self,
        folder: Path,
        language: str = "en",
        *,
        pretokenised: bool = False,
        chunking: Chunking = CHUNKING,
        gpu: bool = False,
    ) -> None:
        processors = _processors(folder, language)
        try:
            import stanza
        except ImportError as error:
            raise VltkError("parsing needs Stanza", remedy=f"{_INSTALL}, or give --conllu files") from error
        try:
            self._pipeline: Any = stanza.Pipeline(
                lang=language,
                dir=str(folder),
                download_method=None,
                processors=",".join(processors),
                tokenize_pretokenized=pretokenised,
                use_gpu=gpu,
                verbose=False,
            )
        except (OSError, ValueError, KeyError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
            raise DataError(f"its models cannot be loaded ({reason})", where=folder, remedy=_REMEDY) from error
        self._stanza: Any = stanza
        self._pretokenised, self._chunking = pretokenised, chunking
        self.description = {
            "kind": "stanza",
            "version": stanza.__version__,
            "language": language,
            "pretokenised": pretokenised,
            "files": source_hashes([folder / language]),
        }

    def parse(self, texts: Sequence[str], *, ids: Sequence[str] = (), progress: Progress | None = None) -> list[Parse]:
        """Return the tree of each text, see :class:`Parser`."""
        named(texts, ids)
        found = [Parse(words=(), heads=(), relations=())] * len(texts)
        for rows in self._chunking.chunks([len(text.split()) for text in texts]):
            for row, sentences in zip(rows, self._parsed([texts[row] for row in rows]), strict=True):
                found[row] = joined(sentences)
            if progress is not None:
                progress(len(rows))
        return found

    def _parsed(self, texts: Sequence[str]) -> list[list[Parse]]:
        if self._pretokenised:
            return [[_parse_of(one)] for one in self._pipeline([text.split() for text in texts]).sentences]
        documents = [self._stanza.Document([], text=text) for text in texts]
        return [[_parse_of(one) for one in made.sentences] for made in self._pipeline.bulk_process(documents)]


def _processors(folder: Path, language: str) -> list[str]:
    """Return what the folder has models for, after a look at its table."""
    try:
        table = json.loads((folder / "resources.json").read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError("holds no resources.json", where=folder, remedy=_REMEDY) from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=folder / "resources.json", remedy=_REMEDY) from error
    # The table of a download names every language of Stanza; those that are here have a folder.
    present = sorted(name for name in table if (folder / name).is_dir()) if isinstance(table, dict) else []
    if language not in present:
        have = ", ".join(present) or "none"
        remedy = did_you_mean(language, present) if present else _REMEDY
        raise DataError(f"holds parser models of {have}, asked for is {language!r}", where=folder, remedy=remedy)
    processors = [name for name in _PROCESSORS if (folder / language / name).is_dir()]
    if missing := [name for name in _PROCESSORS if name not in processors and name != "mwt"]:
        raise DataError(f"lacks models for {', '.join(missing)}", where=folder / language, remedy=_REMEDY)
    return processors


def _parse_of(sentence: Any) -> Parse:
    return Parse(
        words=tuple(word.text for word in sentence.words),
        heads=tuple(word.head for word in sentence.words),
        relations=tuple(word.deprel for word in sentence.words),
    )


def joined(sentences: Sequence[Parse]) -> Parse:
    """Return one tree of several sentences: further roots hang on the first one.

    Example:
        >>> one = Parse(words=("Go", "!"), heads=(0, 1), relations=("root", "punct"))
        >>> joined([one, one]).heads
        (0, 1, 1, 3)
    """
    if len(sentences) == 1:
        return sentences[0]
    heads: list[int] = []
    relations: list[str] = []
    for sentence in sentences:
        start, first = len(heads), heads.index(0) + 1 if heads else 0
        heads += [head + start if head else first for head in sentence.heads]
        marked = [NEXT_SENTENCE if first and not head else own for head, own in _pairs(sentence)]
        relations += marked
    return Parse(
        words=tuple(word for sentence in sentences for word in sentence.words),
        heads=tuple(heads),
        relations=tuple(relations),
    )


def _pairs(sentence: Parse) -> Iterator[tuple[int, str]]:
    return zip(sentence.heads, sentence.relations, strict=True)


# -- which word a word piece belongs to -------------------------------------------------------------------------------


def word_spans(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Return where each word of a parse stands in its text, as (start, end) in characters.

    Words that the text does not spell, such as the parts of a multiword token, share what stands between their
    neighbours.

    Example:
        >>> word_spans("They don't.", ["They", "do", "n't", "."])
        [(0, 4), (5, 7), (7, 10), (10, 11)]
        >>> word_spans("loin du parc", ["loin", "de", "le", "parc"])
        [(0, 4), (5, 7), (5, 7), (8, 12)]
    """
    spans: list[tuple[int, int]] = []
    cursor = waiting = 0
    for word in words:
        start = text.find(word, cursor)
        # Between two spelled words stands at most one that is not; farther away is another word.
        if start < 0 or len(text[cursor:start].split()) > 1:
            waiting += 1
            continue
        spans += [_between(text, cursor, start)] * waiting
        spans.append((start, start + len(word)))
        cursor, waiting = start + len(word), 0
    return spans + [_between(text, cursor, len(text))] * waiting


def _between(text: str, start: int, end: int) -> tuple[int, int]:
    gap = text[start:end]
    return start + len(gap) - len(gap.lstrip()), max(start, end - len(gap) + len(gap.rstrip()))


def with_pieces(parse: Parse, text: str, tokens: Tokens, tokenizer: Tokenizer) -> Parse:
    """Return the parse with the syntactic word of each word piece: the one that its middle character stands in.

    Probes need it (Hewitt and Manning 2019 average the pieces of a word); a piece and a word may split a text
    differently: BERT cuts "don't" into don ' t, a treebank into do n't.

    Args:
        parse: the tree of the text.
        text: what was tokenised and parsed.
        tokens: its word pieces.
        tokenizer: which made them.

    Raises:
        DataError: pieces that another text was cut into.

    Example:
        >>> from vltk.language.tokenization import SPECIAL_TOKENS
        >>> tokenizer = Tokenizer([*SPECIAL_TOKENS, "a", "dog", "##s", "."])
        >>> parse = Parse(words=("A", "dogs", "."), heads=(2, 0, 2), relations=("det", "root", "punct"))
        >>> with_pieces(parse, "A dogs.", tokenizer.tokens("A dogs."), tokenizer).pieces
        (0, 1, 1, 2)
    """
    if not parse.words:
        return parse
    starts = _starts_of_words(text)
    if tokens.words and max(tokens.words) >= len(starts):
        problem = f"has a piece of word {max(tokens.words)} and {len(starts)} words"
        raise DataError(problem, where=f"text {text[:40]!r}", remedy="tokenise it again")
    spans = word_spans(text, parse.words)
    middles = _middles(text, tokens, tokenizer, starts)
    return replace(parse, pieces=tuple(_word_at(middle, spans) for middle in middles))


def _starts_of_words(text: str) -> list[tuple[int, int]]:
    found, cursor = [], 0
    for word in text.split():
        start = text.index(word, cursor)
        cursor = start + len(word)
        found.append((start, cursor))
    return found


def _middles(text: str, tokens: Tokens, tokenizer: Tokenizer, starts: list[tuple[int, int]]) -> list[float]:
    sizes = [len(piece.removeprefix(CONTINUATION)) for piece in tokenizer.pieces(tokens.ids)]
    middles, first = [], 0
    while first < len(sizes):
        last = first
        while last < len(sizes) and tokens.words[last] == tokens.words[first]:
            last += 1
        start, end = starts[tokens.words[first]]
        # Lower-casing and [UNK] change lengths; the pieces of a word then share its characters in proportion.
        scale = (end - start) / sum(sizes[first:last])
        before = 0
        for size in sizes[first:last]:
            middles.append(start + scale * (before + size / 2))
            before += size
        first = last
    return middles


def _word_at(place: float, spans: list[tuple[int, int]]) -> int:
    """Return the word whose span holds the place, or the nearest one."""
    return min(range(len(spans)), key=lambda word: max(spans[word][0] - place, place - spans[word][1], 0.0))
