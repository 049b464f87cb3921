"""Translation with published weights: WMT'19 directories of fairseq, and any seq2seq model of transformers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vltk.errors import DataError, UsageError, did_you_mean
from vltk.language._fairseq_directory import checkpoint_files, load_transformer
from vltk.language._search import Hypothesis, Search
from vltk.language._subwords import BytePairs, Dictionary, Moses
from vltk.language._translator import Bucketing, Ensemble, MosesBytePairs, SearchTranslator, Translator
from vltk.language.preparation import source_hashes

if TYPE_CHECKING:
    import torch

__all__ = [
    "Bucketing",
    "Hypothesis",
    "Search",
    "Translator",
    "find_weights",
    "languages_of",
    "load_ensemble",
    "load_translator",
    "read_weights_options",
]

_LANGUAGE = r"[A-Za-z]{2,3}(?:_[A-Za-z]{2,4})?"
# In opus-mt-de-en the last pair that could be languages is the one.
_DIRECTION = re.compile(rf"(?:^|.*[-._])({_LANGUAGE})-({_LANGUAGE})(?=$|[-._])")


def load_translator(
    weights: str | Path,
    source: str,
    target: str,
    *,
    engine: Literal["auto", "fairseq"] = "auto",
    checkpoints: tuple[str, ...] = (),
    device: torch.device | None = None,
    offline: bool = False,
) -> Translator:
    """Return what translates from one language into another.

    Args:
        weights: a WMT'19 directory of fairseq (``model*.pt``, ``dict.xx.txt``, ``bpecodes``), the folder of a
            seq2seq model of transformers (FSMT, Marian, NLLB), or its hub id.
        source: language of the texts, as the model names it.
        target: language of the translations.
        engine: auto reads a fairseq directory without fairseq; fairseq lets the installed one translate.
        checkpoints: names of checkpoints in a fairseq directory; without it all ``model*.pt`` as an ensemble.
        device: where to compute.
        offline: download nothing.

    Raises:
        DataError: a folder without a model, or files that do not fit each other.
        OfflineError: a hub id that is not on this machine.
        VltkError: sacremoses, or the asked-for fairseq, is not installed.
    """
    folder = Path(weights).expanduser()
    is_fairseq = folder.is_dir() and any(folder.glob("dict.*.txt"))
    if is_fairseq:
        return _load_directory(folder, source, target, engine, checkpoints, device)
    if engine == "fairseq":
        raise DataError("holds no dict.*.txt", where=weights, remedy="--engine fairseq takes fairseq's directories")
    from vltk.language._hub_translation import load_hub_translator

    return load_hub_translator(str(weights), source, target, device=device, offline=offline)


def _load_directory(
    folder: Path, source: str, target: str, engine: str, checkpoints: tuple[str, ...], device: torch.device | None
) -> Translator:
    files = checkpoint_files(folder, checkpoints)
    described = {"kind": "fairseq directory", "engine": engine, "files": source_hashes([*files, folder / "bpecodes"])}
    if engine == "fairseq":
        from vltk.language._fairseq_library import FairseqTranslator

        return FairseqTranslator(
            folder,
            source,
            target,
            coding=_read_coding(folder, source, target),
            checkpoints=[path.name for path in files],
            description=described,
            device=device,
        )
    coding, ensemble = load_ensemble(folder, source, target, checkpoints=checkpoints, device=device)
    return SearchTranslator(source, target, coding=coding, decoder=ensemble, description=described)


def _read_coding(folder: Path, source: str, target: str) -> MosesBytePairs:
    paths = {language: folder / f"dict.{language}.txt" for language in (source, target)}
    for language, path in paths.items():
        if not path.is_file():
            present = sorted(found.name.split(".")[1] for found in folder.glob("dict.*.txt"))
            remedy = did_you_mean(language, present)
            raise DataError(f"has no dictionary of language {language!r}", where=folder, remedy=remedy)
    return MosesBytePairs(
        source=Moses(source),
        target=Moses(target),
        pairs=BytePairs.read(folder / "bpecodes"),
        source_dictionary=Dictionary.read(paths[source]),
        target_dictionary=Dictionary.read(paths[target]),
    )


def load_ensemble(
    folder: Path,
    source: str,
    target: str,
    *,
    checkpoints: tuple[str, ...] = (),
    device: torch.device | None = None,
) -> tuple[MosesBytePairs, Ensemble]:
    """Return the pieces and the models of a WMT'19 directory, see :func:`load_translator`."""
    coding = _read_coding(folder, source, target)
    pair = coding.source_dictionary, coding.target_dictionary
    models = [load_transformer(path, *pair) for path in checkpoint_files(folder, checkpoints)]
    sizes = {model.config.target_vocabulary for model in models}
    if len(sizes) > 1:
        raise DataError(f"its models have {sorted(sizes)} target pieces", where=folder, remedy="join equal models only")
    return coding, Ensemble(models, device)


# -- which weights translate what -------------------------------------------------------------------------------------


def languages_of(chain: str) -> list[tuple[str, str]]:
    """Return the directions that a pivot chain needs, back to its first language.

    Args:
        chain: languages separated by hyphens, the language of the texts first.

    Raises:
        UsageError: fewer than two languages, or one that follows itself.

    Example:
        >>> languages_of("en-de"), languages_of("en-de-fr")
        ([('en', 'de'), ('de', 'en')], [('en', 'de'), ('de', 'fr'), ('fr', 'en')])
    """
    names = [name.strip() for name in chain.split("-")]
    closed = names if len(names) > 2 and names[-1] == names[0] else [*names, names[0]]
    directions = list(itertools.pairwise(closed))
    if len(names) < 2 or any(not a or not b or a == b for a, b in directions):
        raise UsageError(f"got {chain!r}, expected languages such as en-de or en-de-fr", where="--pivot")
    return directions


def read_weights_options(options: Iterable[str]) -> dict[tuple[str, str], str]:
    """Return the weights of each direction from texts such as ``en-de=FOLDER``, or from folders named like that.

    Args:
        options: ``xx-yy=FOLDER``, ``xx-yy=HUB/ID``, a folder or hub id whose name tells its direction
            (``wmt19.en-de.joined-dict.ensemble``, ``facebook/wmt19-en-de``), or a folder of such folders.

    Raises:
        UsageError: a name that tells no direction, or two weights for one.

    Example:
        >>> read_weights_options(["facebook/wmt19-en-de", "de-en=mine"])
        {('en', 'de'): 'facebook/wmt19-en-de', ('de', 'en'): 'mine'}
    """
    found: dict[tuple[str, str], str] = {}
    for option in options:
        for direction, weights in _directions(option).items():
            if direction in found:
                problem = f"both {found[direction]} and {weights} translate {'-'.join(direction)}"
                raise UsageError(problem, where="--translator", remedy="name one of them as xx-yy=FOLDER")
            found[direction] = weights
    return found


def _directions(option: str) -> dict[tuple[str, str], str]:
    name, equals, weights = option.partition("=")
    if equals and (told := re.fullmatch(rf"({_LANGUAGE})-({_LANGUAGE})", name)):
        return {(told[1], told[2]): weights}
    folder = Path(option).expanduser()
    if told := _DIRECTION.match(folder.name):
        return {(told[1], told[2]): option}
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = {(told[1], told[2]): str(path) for path in inside if (told := _DIRECTION.match(path.name))}
    if not found:
        remedy = "write it as en-de=FOLDER"
        raise UsageError(f"the name of {option} tells no direction", where="--translator", remedy=remedy)
    return found


def find_weights(chains: Sequence[str], weights: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Return the weights of every direction that the chains need.

    Raises:
        UsageError: a direction without weights.
    """
    needed = {direction: chain for chain in chains for direction in languages_of(chain)}
    for direction, chain in needed.items():
        if direction not in weights:
            have = ", ".join("-".join(pair) for pair in sorted(weights)) or "nothing"
            problem = f"{chain} needs weights for {'-'.join(direction)}, and there are some for {have}"
            raise UsageError(problem, where="--pivot", remedy=f"add --translator {'-'.join(direction)}=FOLDER")
    return {direction: weights[direction] for direction in needed}
