"""Word pieces as the systems here were trained on them: split on whitespace, then each word by itself.

UNITER's preparation tokenises every whitespace-separated word alone, which gives each piece the word it belongs to and
exact spans for phrases. The work is done by the BERT tokenizer of ``transformers``, which is given the vocabulary
explicitly: left to find it, it builds one of five special tokens without a word, and everything becomes [UNK].
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vltk.errors import DataError, OfflineError, UsageError
from vltk.stores.examples import TokenizerDescription
from vltk.types import Example, Tokens

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
PROBES = 50

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_VOCABULARY, _SAVED, _SETTINGS = "vocab.txt", "tokenizer.json", "tokenizer_config.json"


class Tokenizer:
    """A WordPiece tokenizer that checked itself: every piece that it should know comes out as itself.

    A text that spells out a special token ("[MASK]") is tokenised as the words it is made of.

    Args:
        vocabulary: the pieces by id.
        lower_case: whether texts are lower-cased (and stripped of accents); None takes it from the vocabulary,
            which has capitals or not.
        name: what the vocabulary is called, for the record of a store.

    Raises:
        DataError: special tokens are missing, a piece occurs twice, or the tokenizer does not know its own pieces.
        UsageError: no lower-casing is asked for, but the vocabulary knows no capital letter.

    Example:
        >>> tokenizer = Tokenizer([*SPECIAL_TOKENS, "a", "dog", "##s", "."])
        >>> tokenizer.tokens("A dogs .")
        Tokens(ids=(5, 6, 7, 8), words=(0, 1, 1, 2))
    """

    def __init__(self, vocabulary: Sequence[str], *, lower_case: bool | None = None, name: str = "") -> None:
        self.vocabulary, self.name = tuple(vocabulary), name
        self.ids = _numbered(self.vocabulary, name)
        has_capitals = any(piece != piece.lower() for piece in self.vocabulary if piece not in SPECIAL_TOKENS)
        self.lower_case = not has_capitals if lower_case is None else lower_case
        if not (self.lower_case or has_capitals):
            problem = f"the vocabulary {name} knows no capital letter, so texts have to be lower-cased"
            raise UsageError(problem, where="lower_case=False", remedy="leave it out, or use a cased vocabulary")
        self.special_ids = {token: self.ids[token] for token in SPECIAL_TOKENS}
        self._backend = _backend(self.ids, self.lower_case)
        self._pieces: dict[str, tuple[int, ...]] = {}
        self._check()

    def __len__(self) -> int:
        return len(self.vocabulary)

    def tokens(self, text: str) -> Tokens:
        """Return the pieces of a text, without special tokens, each with the index of its word.

        A word of characters that BERT drops (control characters) has no piece.
        """
        words = text.split()
        self._learn(words)
        pieces = [(piece, number) for number, word in enumerate(words) for piece in self._pieces[word]]
        return Tokens(ids=tuple(piece for piece, _ in pieces), words=tuple(number for _, number in pieces))

    def tokenised(self, example: Example) -> Example:
        """Return the example with the pieces of each of its texts."""
        return replace(example, tokens=tuple(self.tokens(text) for text in example.texts))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the pieces of ids.

        Example:
            >>> Tokenizer([*SPECIAL_TOKENS, "a"]).pieces([2, 5])
            ['[CLS]', 'a']
        """
        return [self.vocabulary[number] for number in ids]

    def description(self) -> TokenizerDescription:
        """Return what a store records about the tokenizer; the hash is that of the ``vocab.txt`` with these pieces."""
        content = "".join(f"{piece}\n" for piece in self.vocabulary)
        return TokenizerDescription(
            name=self.name,
            vocab_size=len(self),
            vocab_sha256=hashlib.sha256(content.encode()).hexdigest(),
            special_ids=dict(self.special_ids),
        )

    def _learn(self, words: Iterable[str]) -> None:
        # Captions repeat their words, so each is tokenised once.
        if new := [word for word in dict.fromkeys(words) if word not in self._pieces]:
            encoded = self._backend(new, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            self._pieces.update((word, tuple(ids)) for word, ids in zip(new, encoded, strict=True))

    def _check(self) -> None:
        own = [p for p in self.vocabulary if p.isascii() and p.isalnum() and (p.islower() or not self.lower_case)]
        if len(self._backend) != len(self) or not own:
            problem = f"makes a tokenizer of {len(self._backend)} pieces, {len(own)} of them words"
            raise DataError(problem, where=f"vocabulary {self.name}", remedy="give the vocab.txt of a BERT model")
        for piece in own[:: max(1, len(own) // PROBES)]:
            if self.tokens(piece).ids != (self.ids[piece],):
                problem = f"tokenises its own piece {piece!r} as {self.pieces(self.tokens(piece).ids)}"
                raise DataError(problem, where=f"vocabulary {self.name}", remedy="give the vocab.txt of a BERT model")


def _numbered(vocabulary: tuple[str, ...], name: str) -> dict[str, int]:
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    where = f"vocabulary {name}"
    if missing := [token for token in SPECIAL_TOKENS if token not in ids]:
        problem = f"has {len(ids)} pieces but no {', '.join(missing)}"
        raise DataError(problem, where=where, remedy="give the vocab.txt of a BERT model")
    if len(ids) != len(vocabulary):
        piece, count = Counter(vocabulary).most_common(1)[0]
        raise DataError(
            f"holds {piece!r} {count} times", where=where, remedy="each line is one id, remove the repetition"
        )
    return ids


def _backend(ids: dict[str, int], lower_case: bool) -> Any:
    from transformers import BertTokenizer

    return BertTokenizer(vocab=dict(ids), do_lower_case=lower_case)


# -- where a vocabulary comes from ------------------------------------------------------------------------------------


def load_tokenizer(
    source: str | Path, *, lower_case: bool | None = None, offline: bool = False, cache_dir: Path | None = None
) -> Tokenizer:
    """Return the tokenizer of a vocabulary file, of a local model folder, or of a model on the Hugging Face hub.

    Args:
        source: path of a ``vocab.txt``, folder with ``vocab.txt`` or ``tokenizer.json``, or a hub id such as
            ``bert-base-uncased``.
        lower_case: as for :class:`Tokenizer`; None takes it from the model's settings, else from the vocabulary.
        offline: download nothing.
        cache_dir: where downloads are kept, instead of the hub's own folder.

    Raises:
        DataError: nothing is at the path, or it holds no WordPiece vocabulary.
        OfflineError: the files of a hub id are not on this machine and cannot be downloaded.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return Tokenizer(_read_vocabulary(path), lower_case=lower_case, name=path.name)
    if path.is_dir():
        files = {name: path / name for name in (_VOCABULARY, _SAVED, _SETTINGS) if (path / name).is_file()}
        name = path.resolve().name
    elif _HUB_ID.fullmatch(str(source)) and path.suffix not in (".txt", ".json"):
        files, name = _hub_files(str(source), offline, cache_dir), str(source)
    else:
        remedy = "give a vocab.txt, a model folder or a hub id"
        raise DataError("there is no such file or folder", where=source, remedy=remedy)
    settings = _read_object(files[_SETTINGS]) if _SETTINGS in files else {}
    stated = settings.get("do_lower_case")
    if _VOCABULARY in files:
        pieces = _read_vocabulary(files[_VOCABULARY])
    elif _SAVED in files:
        pieces, saved = _read_saved(files[_SAVED])
        stated = saved if stated is None else stated
    else:
        raise DataError(f"holds neither {_VOCABULARY} nor {_SAVED}", where=source, remedy="give a BERT model's folder")
    if lower_case is None and isinstance(stated, bool):
        lower_case = stated
    return Tokenizer(pieces, lower_case=lower_case, name=name)


def _read_vocabulary(path: Path) -> list[str]:
    text = _read(path)
    # Only \n ends a line: BERT's vocabularies hold characters that str.splitlines takes for line ends.
    lines = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    if text.startswith("{"):
        raise DataError("is JSON, not one piece a line", where=path, remedy="give the vocab.txt, or the model's folder")
    for number, line in enumerate(lines, 1):
        if not line:
            raise DataError("is empty", where=f"{path}, line {number}", remedy="a vocabulary has one piece a line")
    return lines


def _read_saved(path: Path) -> tuple[list[str], bool | None]:
    content = _read_object(path)
    model, normalizer = content.get("model"), content.get("normalizer")
    ids = model.get("vocab") if isinstance(model, dict) and model.get("type", "WordPiece") == "WordPiece" else None
    if not isinstance(ids, dict) or not all(type(number) is int for number in ids.values()):
        raise DataError("holds no WordPiece vocabulary", where=path, remedy="give the folder of a BERT model")
    if sorted(ids.values()) != list(range(len(ids))):
        raise DataError("numbers its pieces with gaps", where=path, remedy="give the model's vocab.txt")
    stated = normalizer.get("lowercase") if isinstance(normalizer, dict) else None
    return sorted(ids, key=ids.__getitem__), stated if isinstance(stated, bool) else None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", where=path, remedy="download it again") from error
    if not isinstance(content, dict):
        raise DataError("is not a JSON object", where=path, remedy="download it again")
    return content


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("is not UTF-8 text", where=path, remedy="give the vocab.txt, or the model's folder") from error


# -- the hub ----------------------------------------------------------------------------------------------------------


def _hub_files(model: str, offline: bool, cache_dir: Path | None) -> dict[str, Path]:
    names = (_VOCABULARY, _SETTINGS)
    files = {name: path for name in names if (path := _hub_file(model, name, offline, cache_dir)) is not None}
    if _VOCABULARY not in files and (saved := _hub_file(model, _SAVED, offline, cache_dir)) is not None:
        files[_SAVED] = saved
    if not files.keys() & {_VOCABULARY, _SAVED}:
        remedy = "download it once while online, or give a local vocab.txt or model folder"
        raise OfflineError(f"the tokenizer {model!r} is not on this machine and cannot be downloaded", remedy=remedy)
    return files


def _hub_file(model: str, name: str, offline: bool, cache_dir: Path | None) -> Path | None:
    """Return the local copy of a model's file, downloading it if need be; None where the model has none."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    cached = try_to_load_from_cache(model, name, cache_dir=cache_dir)
    if isinstance(cached, str):
        return Path(cached)
    if offline or cached is not None:
        return None
    remedy = "download it once while online, or give a local vocab.txt or model folder"
    try:
        with _quiet("huggingface_hub"):
            return Path(hf_hub_download(model, name, cache_dir=cache_dir))
    except LocalEntryNotFoundError as error:
        problem = f"the tokenizer {model!r} is not on this machine and the hub cannot be reached"
        raise OfflineError(problem, remedy=remedy) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OfflineError(f"the tokenizer {model!r} cannot be downloaded ({reason})", remedy=remedy) from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    # The hub's client prints a line for each of its retries; our one sentence says it all.
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


# -- a vocabulary of one's own ----------------------------------------------------------------------------------------


def build_vocabulary(
    texts: Iterable[str], *, lower_case: bool = True, min_count: int = 1, size: int | None = None
) -> tuple[str, ...]:
    """Return a small vocabulary for texts: special tokens, their characters, then their words by frequency.

    Every character is there as a beginning and as a continuation, so no word made of them becomes [UNK].

    Args:
        texts: what the vocabulary is for.
        lower_case: whether texts will be lower-cased.
        min_count: words that occur less often are spelled by characters.
        size: how many pieces at most; the rarest words are left out.

    Raises:
        UsageError: the texts hold no word, or ``size`` has no room for the characters.

    Example:
        >>> build_vocabulary(["A dog .", "a dog"])[5:]
        ('.', 'a', 'd', 'g', 'o', '##.', '##a', '##d', '##g', '##o', 'dog')
    """
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normalizer, splitter = BertNormalizer(lowercase=lower_case), BertPreTokenizer()
    count: Counter[str] = Counter()
    for text in texts:
        count.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted({letter for word in count for letter in word})
    if not letters:
        raise UsageError("the texts hold no word", remedy="give the texts that the vocabulary is for")
    pieces = dict.fromkeys((*SPECIAL_TOKENS, *letters, *(CONTINUATION + letter for letter in letters)))
    if size is not None and size < len(pieces):
        problem = f"a vocabulary of {size} has no room for {len(letters)} characters"
        raise UsageError(problem, where="size", remedy=f"allow at least {len(pieces)}")
    words = sorted((word for word, seen in count.items() if seen >= min_count), key=lambda word: (-count[word], word))
    return tuple(dict.fromkeys((*pieces, *words)))[:size]


def write_vocabulary(path: Path, vocabulary: Iterable[str]) -> None:
    """Write a ``vocab.txt``: one piece a line, its id the number of the line."""
    path.write_text("".join(f"{piece}\n" for piece in vocabulary), encoding="utf-8", newline="\n")
