"""Texts as fairseq's published translation models take them: Moses tokens, cut into pieces by fastBPE, by id."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vltk.errors import DataError, VltkError
from vltk.language._transformer import EOS, UNK

JOINT = "@@ "
_WORD_END = "</w>"
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_REMEMBERED = 200_000


class Dictionary:
    """The pieces of one language by id: ``<s> <pad> </s> <unk>``, then those of a ``dict.xx.txt``.

    Args:
        pieces: the pieces behind the four special ones.

    Example:
        >>> Dictionary(["a", "dog"]).encode("a cat")
        (4, 3, 2)
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self.pieces = (*_SPECIAL, *pieces)
        self._ids = {piece: number for number, piece in enumerate(self.pieces)}

    @classmethod
    def read(cls, path: Path) -> Dictionary:
        """Read a ``dict.xx.txt``: a piece and its count on each line.

        Raises:
            DataError: the file is missing, not UTF-8, or a line has no count.
        """
        pieces = []
        for number, line in _lines(path):
            piece, space, count = line.removesuffix("#fairseq:overwrite").rstrip().rpartition(" ")
            if not space or not count.isdecimal():
                problem = f"has {line[:40]!r}, expected a piece and its count"
                raise DataError(problem, where=f"{path}, line {number}", remedy="give the dict.xx.txt of the model")
            pieces.append(piece)
        return cls(pieces)

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, pieces: str) -> tuple[int, ...]:
        """Return the ids of pieces that are separated by spaces, and the end of sentence."""
        return (*(self._ids.get(piece, UNK) for piece in pieces.split()), EOS)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the pieces of ids, without the special ones but <unk>."""
        return " ".join(self.pieces[number] for number in ids if number >= UNK)


class BytePairs:
    """fastBPE: the pairs of letters of a ``bpecodes`` file are merged in its order, within words.

    Args:
        merges: the pairs.

    Example:
        >>> BytePairs([("l", "o"), ("lo", "w</w>")]).apply("low lot")
        'low lo@@ t'
    """

    def __init__(self, merges: Iterable[tuple[str, str]]) -> None:
        self._ranks: dict[tuple[str, str], int] = {}
        for pair in merges:
            self._ranks.setdefault(pair, len(self._ranks))
        self._known: dict[str, str] = {}

    @classmethod
    def read(cls, path: Path) -> BytePairs:
        """Read a ``bpecodes`` file: two pieces (and their frequency) on each line.

        Raises:
            DataError: the file is missing, not UTF-8, or a line has no pair.
        """
        merges = []
        for number, line in _lines(path):
            if line.startswith("#version"):
                continue
            parts = line.split(" ")
            if len(parts) not in (2, 3):
                problem = f"has {line[:40]!r}, expected two pieces and their frequency"
                raise DataError(problem, where=f"{path}, line {number}", remedy="give the bpecodes of the model")
            merges.append((parts[0], parts[1]))
        return cls(merges)

    def apply(self, text: str) -> str:
        """Cut each word of a text; pieces inside a word end in ``@@``."""
        return " ".join(self._cut(word) for word in text.split())

    def _cut(self, word: str) -> str:
        if (known := self._known.get(word)) is not None:
            return known
        pieces = [*word[:-1], word[-1] + _WORD_END]
        while len(pieces) > 1:
            pairs = itertools.pairwise(pieces)
            rank, left, right = min((self._ranks.get(pair, len(self._ranks)), *pair) for pair in pairs)
            if rank == len(self._ranks):
                break
            pieces = _merged(pieces, left, right)
        cut = JOINT.join(pieces).removesuffix(_WORD_END)
        if len(self._known) < _REMEMBERED:
            self._known[word] = cut
        return cut


def _merged(pieces: list[str], left: str, right: str) -> list[str]:
    joined, position = [], 0
    while position < len(pieces):
        together = pieces[position : position + 2] == [left, right]
        joined.append(left + right if together else pieces[position])
        position += 2 if together else 1
    return joined


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        remedy = "give the folder of a published WMT'19 model"
        raise DataError(f"cannot be read ({error.strerror})", where=path, remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise DataError("is not UTF-8 text", where=path, remedy="download it again") from error
    # Only \n ends a line: dictionaries hold U+2028 and its like as pieces.
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line]


class Moses:
    """Moses' tokens of one language and back, as fairseq's hub interface calls sacremoses.

    Args:
        language: e.g. "en".

    Raises:
        VltkError: sacremoses is not installed.
    """

    def __init__(self, language: str) -> None:
        try:
            import sacremoses
        except ImportError as error:
            remedy = 'pip install "vltk-toolkit[translate]"'
            raise VltkError("translating with a fairseq model needs sacremoses", remedy=remedy) from error
        self._tokenizer: Any = sacremoses.MosesTokenizer(language)
        self._detokenizer: Any = sacremoses.MosesDetokenizer(language)

    def split(self, text: str) -> str:
        """Return the tokens of a text, separated by spaces."""
        return str(self._tokenizer.tokenize(text, aggressive_dash_splits=True, return_str=True, escape=True))

    def join(self, tokens: str) -> str:
        """Return the running text of tokens."""
        return str(self._detokenizer.detokenize(tokens.split()))


def without_joints(pieces: str) -> str:
    """Put the pieces of each word together again.

    Example:
        >>> without_joints("the d@@ o@@ g .")
        'the dog .'
    """
    return re.sub(r"@@( |$)", "", pieces).rstrip()
