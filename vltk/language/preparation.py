"""From annotation files to an example store: look through all of it first, then tokenise and write."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vltk.errors import DataError, first_few
from vltk.language.tokenization import load_tokenizer
from vltk.language.unframed_vocabulary import UnframedVocabulary, read_unframed_vocabulary
from vltk.language.word_vocabulary import is_word_vocabulary, read_word_vocabulary
from vltk.stores.examples import ExampleMetadata, ExampleStore, TokenizerDescription
from vltk.types import Example, Progress, Tokens

_CHUNK = 1 << 20
_SHOWN = 5


class TextTokenizer(Protocol):
    """What turns texts into ids: word pieces, or a vocabulary of whole words."""

    special_ids: dict[str, int]
    lower_case: bool

    def tokens(self, text: str) -> Tokens:
        """Return the ids of a text."""

    def tokenised(self, example: Example) -> Example:
        """Return the example with the ids of each of its texts."""

    def description(self) -> TokenizerDescription:
        """Return what a store records about it."""


def load_text_tokenizer(
    source: str, *, lower_case: bool | None = None, offline: bool = False, cache_dir: Path | None = None
) -> TextTokenizer:
    """Return the tokenizer of word pieces, or the vocabulary of words where a file of words is named.

    Args:
        source: as for :func:`~vltk.language.tokenization.load_tokenizer`, the .json or .pkl of VSE-infinity, SCAN or
            VSRN, or HGR's word2int.json.
        lower_case: as there.
        offline: as there.
        cache_dir: as there.

    Raises:
        DataError: nothing is at the path, or it holds no vocabulary.
        OfflineError: it would have to be downloaded and cannot be.
    """
    if is_word_vocabulary(source):
        unframed: UnframedVocabulary | None = read_unframed_vocabulary(Path(source))
        return unframed or read_word_vocabulary(Path(source))
    return load_tokenizer(source, lower_case=lower_case, offline=offline, cache_dir=cache_dir)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is in the annotation files, before anything is written.

    Attributes:
        examples: how many there are.
        texts: how many texts they have.
        targets: how many have a target.
        images: for each image id the number of examples that need it.
    """

    examples: int
    texts: int
    targets: int
    images: Counter[str]

    def missing(self, present: Container[str]) -> list[str]:
        """Return the images that are not there, in order of appearance."""
        return [image for image in self.images if image not in present]


def survey(examples: Iterable[Example], *, progress: Progress | None = None) -> Survey:
    """Read all examples once, which checks every record of the files, and count them."""
    count = texts = targets = 0
    images: Counter[str] = Counter()
    for example in examples:
        count += 1
        texts += len(example.texts)
        targets += example.target is not None
        images.update(dict.fromkeys(example.image_ids, 1))
        if progress is not None:
            progress(1)
    return Survey(examples=count, texts=texts, targets=targets, images=images)


def missing_images(missing: Sequence[str], total: int, *, known: str | None, where: str) -> DataError:
    """Return the error that says which images a feature store lacks, and what its ids look like."""
    shown = first_few(missing, _SHOWN)
    looks = f" (ids there look like {known!r})" if known is not None else ""
    remedy = "extract them, name the images alike, or leave their examples out with --missing-images skip"
    return DataError(f"lacks {len(missing)} of {total} images: {shown}{looks}", where=where, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What :func:`write_examples` wrote.

    Attributes:
        examples: how many.
        texts: how many texts they have.
        left_out: examples without picture.
        pieces: word pieces of all texts.
        longest: word pieces of the longest text.
        unknown: how many pieces are [UNK].
    """

    examples: int
    texts: int
    left_out: int
    pieces: int
    longest: int
    unknown: int


def write_examples(
    examples: Iterable[Example],
    path: Path,
    metadata: ExampleMetadata,
    tokenizer: TextTokenizer,
    *,
    without: Container[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Tokenise examples and write them into a store, in their order; the same call again resumes.

    What a resumed store already holds is compared with what would be written: annotation files that changed
    meanwhile are noticed.

    Args:
        examples: what to write.
        path: folder of the store.
        metadata: what the store says about itself.
        tokenizer: makes the word pieces.
        without: image ids whose examples are left out.
        overwrite: begin anew where a store stands.
        progress: called with the number of examples just done.

    Raises:
        DataError: the store was begun with other settings, or an id occurs twice with other content.
    """
    count = texts = left_out = pieces = longest = unknown = 0
    unknown_id = tokenizer.special_ids["[UNK]"]
    with ExampleStore.create(path, metadata, overwrite=overwrite) as writer:
        for example in examples:
            if progress is not None:
                progress(1)
            if any(image in without for image in example.image_ids):
                left_out += 1
                continue
            example = tokenizer.tokenised(example)
            writer.put(example)
            count += 1
            texts += len(example.texts)
            for tokens in example.tokens:
                pieces += len(tokens.ids)
                longest = max(longest, len(tokens.ids))
                unknown += tokens.ids.count(unknown_id)
    return Written(examples=count, texts=texts, left_out=left_out, pieces=pieces, longest=longest, unknown=unknown)


def source_hashes(paths: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of each annotation file by its name, with the folder's name where two files share one.

    Of a folder the names and sizes of the files in it are hashed: it may hold a million of them.

    Raises:
        DataError: a path is not there.
    """
    names = Counter(path.name for path in paths)
    return {path.name if names[path.name] == 1 else f"{path.parent.name}/{path.name}": _hash(path) for path in paths}


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for file in sorted(file for file in path.rglob("*") if file.is_file()):
                digest.update(f"{file.relative_to(path).as_posix()}\t{file.stat().st_size}\n".encode())
        else:
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=path, remedy="check the path") from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path, remedy="check its permissions") from error
    return digest.hexdigest()
