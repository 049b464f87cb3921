"""Vocabularies of whole words, as VSE++, SCAN, VSRN and VSE-infinity with a GRU read their captions.

Their files are ``{name}_precomp_vocab.json`` (SCAN, VSE-infinity) and ``{name}_precomp_vocab.pkl`` (VSE++, VSRN), which
is read without running it. A store prepared with one holds the ids of words, and frames them as their authors did:
the start and end of a caption stand where BERT has [CLS] and [SEP].
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vltk.errors import DataError
from vltk.stores.examples import TokenizerDescription
from vltk.stores.pickle_reader import read_pickle
from vltk.types import Example, Tokens

PADDING, START, END, UNKNOWN, MASK = "<pad>", "<start>", "<end>", "<unk>", "<mask>"
SPECIAL_WORDS = (PADDING, START, END, UNKNOWN)
LEAST_COUNT = 4
"""Words that occur as often in training and validation texts are known, as published."""

# The Penn Treebank's rules (Robert MacIntyre's tokenizer.sed, public domain), which nltk's word_tokenize follows.
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^\"", r" `` "),
        (r"([ (\[{<])\"", r"\1 `` "),
        (r"\.{2,}", r" \g<0> "),
        (r"([:,])([^\d])", r" \1 \2"),
        (r"([:,])$", r" \1 "),
        (r"[;@#$%&?!]", r" \g<0> "),
        (r"([^.])(\.)([\])}>\"']*)\s*$", r"\1 \2\3 "),
        (r"([^'])' ", r"\1 ' "),
        (r"[\]\[(){}<>]", r" \g<0> "),
        (r"--", r" -- "),
        (r"\"", r" '' "),
        (r"([^' ])('s|'m|'d|'ll|'re|'ve|n't|') ", r"\1 \2 "),
        (r"\b(can)(not)\b", r"\1 \2"),
        (r"\b(gon|wan)(na)\b", r"\1 \2"),
    )
)
# A text of several sentences ends each of them; these words end in a period of their own.
_SENTENCE = re.compile(r"(?<=[^\s.][.?!])\s+(?=\S)")
_ABBREVIATIONS = re.compile(r"(?:^|\s)(?:mr|mrs|ms|dr|st|ave|vs|jr|sr|etc|no|[a-z]|(?:\w\.)+\w)\.$")


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words and punctuation, by the rules of the Penn Treebank.

    The published code calls nltk's ``word_tokenize`` on the lower-cased caption, which needs a trained model to find
    the sentences of a caption that has several; here a short list of abbreviations takes its place.

    Example:
        >>> words_of("A man's dog isn't here, it ran. The cat stays.")
        ['a', 'man', "'s", 'dog', 'is', "n't", 'here', ',', 'it', 'ran', '.', 'the', 'cat', 'stays', '.']
    """
    parts: list[str] = []
    for piece in _SENTENCE.split(text.lower().strip()):
        if parts and _ABBREVIATIONS.search(parts[-1]):
            parts[-1] += f" {piece}"
        else:
            parts.append(piece)
    return [word for part in parts for word in _sentence_words(part)]


def _sentence_words(text: str) -> list[str]:
    for pattern, replacement in _RULES[:-4]:
        text = pattern.sub(replacement, text)
    text = f" {text} "
    for pattern, replacement in _RULES[-4:]:
        text = pattern.sub(replacement, text)
    return text.split()


class WordVocabulary:
    """A tokenizer of whole words with an id each; what ``vltk prepare --tokenizer`` takes beside word pieces.

    Args:
        words: by id; the first four are <pad>, <start>, <end> and <unk>. <mask>, for size augmentation, is added at
            the end where it is missing, as the published code does.
        name: what the vocabulary is called, for the record of a store.

    Raises:
        DataError: the special words are not where the published models have them, or a word occurs twice.

    Example:
        >>> vocabulary = WordVocabulary([*SPECIAL_WORDS, "a", "dog"])
        >>> vocabulary.tokens("A dog's")
        Tokens(ids=(4, 5, 3), words=(0, 1, 1))
        >>> vocabulary.description().special_ids["[MASK]"]
        6
    """

    lower_case = True

    def __init__(self, words: Sequence[str], *, name: str = "") -> None:
        where = f"vocabulary {name}"
        if tuple(words[: len(SPECIAL_WORDS)]) != SPECIAL_WORDS:
            problem = f"begins with {', '.join(map(str, words[:4]))}, not with {', '.join(SPECIAL_WORDS)}"
            raise DataError(problem, where=where, remedy="use a vocabulary of VSE++, SCAN, VSRN or VSE-infinity")
        self.vocabulary = tuple(words) if MASK in words else (*words, MASK)
        self.name = name
        self.ids = {word: number for number, word in enumerate(self.vocabulary)}
        if len(self.ids) != len(self.vocabulary):
            word, count = Counter(self.vocabulary).most_common(1)[0]
            raise DataError(f"holds {word!r} {count} times", where=where, remedy="each word has one id")
        special = (("[PAD]", PADDING), ("[CLS]", START), ("[SEP]", END), ("[UNK]", UNKNOWN), ("[MASK]", MASK))
        self.special_ids = {name: self.ids[word] for name, word in special}

    def __len__(self) -> int:
        return len(self.vocabulary)

    def tokens(self, text: str) -> Tokens:
        """Return the ids of a text's words, each with the index of the whitespace-separated word it stands in."""
        unknown = self.special_ids["[UNK]"]
        found, places = words_of(text), _Places(text)
        ids = tuple(self.ids.get(word, unknown) for word in found)
        return Tokens(ids=ids, words=tuple(places.place_of(word) for word in found))

    def tokenised(self, example: Example) -> Example:
        """Return the example with the ids of each of its texts."""
        return replace(example, tokens=tuple(self.tokens(text) for text in example.texts))

    def description(self) -> TokenizerDescription:
        """Return what a store records about the vocabulary."""
        content = "".join(f"{word}\n" for word in self.vocabulary)
        special = self.special_ids | {MASK: self.ids[MASK]}
        digest = hashlib.sha256(content.encode()).hexdigest()
        return TokenizerDescription(name=self.name, vocab_size=len(self), vocab_sha256=digest, special_ids=special)


class _Places:
    """Follows the words of a text through the whitespace-separated words that they stand in."""

    def __init__(self, text: str) -> None:
        self.left = text.lower().split()
        self.place, self.used = 0, 0

    def place_of(self, word: str) -> int:
        length = 1 if word in ("``", "''") else len(word)
        while self.place < len(self.left) - 1 and self.used >= len(self.left[self.place]):
            self.place, self.used = self.place + 1, 0
        self.used += length
        return self.place


def build_word_vocabulary(texts: Iterable[str], *, least: int = LEAST_COUNT) -> tuple[str, ...]:
    """Return a vocabulary as published: special words, then words that occur ``least`` times, as they first come.

    Example:
        >>> build_word_vocabulary(["a dog", "a cat"], least=2)
        ('<pad>', '<start>', '<end>', '<unk>', 'a')
    """
    count = Counter(word for text in texts for word in words_of(text))
    return (*SPECIAL_WORDS, *(word for word, seen in count.items() if seen >= least))


def is_word_vocabulary(source: str | Path) -> bool:
    """Say whether a path names a file of words rather than of word pieces."""
    path = Path(source)
    return path.suffix in (".json", ".pkl", ".pickle") and path.is_file()


def read_word_vocabulary(path: Path) -> WordVocabulary:
    """Read a published vocabulary: JSON, or a pickle, of which nothing is run.

    Raises:
        DataError: neither, or its ids have gaps.
    """
    try:
        held = read_pickle(path, where=str(path)) if path.suffix in (".pkl", ".pickle") else _json(path)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path, remedy="check the path") from error
    ids = held.get("word2idx") if isinstance(held, Mapping) else None
    if not isinstance(ids, Mapping) or not all(type(number) is int for number in ids.values()):
        problem = "holds no word2idx with a number for each word"
        raise DataError(problem, where=path, remedy="use the vocabulary of VSE++, SCAN, VSRN or VSE-infinity")
    if sorted(ids.values()) != list(range(len(ids))):
        raise DataError("numbers its words with gaps", where=path, remedy="get an undamaged copy")
    return WordVocabulary(sorted((str(word) for word in ids), key=lambda word: int(ids[word])), name=path.name)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", where=path, remedy="get an undamaged copy") from error


def write_word_vocabulary(path: Path, vocabulary: WordVocabulary) -> None:
    """Write the authors' JSON; the mask is left to their code, which adds it itself."""
    words = [word for word in vocabulary.vocabulary if word != MASK or vocabulary.ids[MASK] != len(vocabulary) - 1]
    content = {
        "word2idx": {word: number for number, word in enumerate(words)},
        "idx2word": {str(number): word for number, word in enumerate(words)},
        "idx": len(words),
    }
    path.write_text(json.dumps(content), "utf-8")
