"""UNITER's txt_db: an LMDB of tokenised texts with their pictures and targets, as LZ4 frames of msgpack."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lz4.frame
import msgpack

from vltk.errors import DataError
from vltk.stores.examples import ExampleStore
from vltk.stores.formats._lmdb import ForeignLMDB
from vltk.stores.formats._output import write_lmdb
from vltk.stores.formats._regions import integer
from vltk.stores.whole_files import new_path
from vltk.types import BoxTarget, ChoiceTarget, Example, LabelTarget, Progress, ScoredTarget, Target, Tokens

_LARGEST_RECORD = 16 << 20
_TEXT_FIELDS = ("sent", "sentence", "question", "caption", "text")
Record = dict[str, Any]


HOLDS = "examples"


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a txt_db does not say itself."""

    vocab: Path | None = None
    """The vocab.txt that the word pieces are numbers of: it gives words and, where none is stored, text."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """What an example store does not say itself."""

    meta: Path | None = None
    """The meta.json of a txt_db made with the same tokenizer; not needed for examples that came out of a txt_db."""
    answers: Path | None = None
    """JSON with the number of each answer (ans2label.json); without it the labels must be numbers."""


def read(path: Path, options: ReadOptions | None = None) -> Iterator[Example]:
    """Yield the examples of a txt_db in the order of its id2len.json, tokens and targets bit for bit.

    A txt_db keeps word pieces and only sometimes the text itself. Without it the texts are made of the vocabulary's
    pieces, or stay empty where there is no vocabulary; each piece then counts as a word of its own.

    Args:
        path: the folder with data.mdb, meta.json, id2len.json and, for all but the referring expressions, txt2img.json.
        options: see :class:`ReadOptions`.

    Raises:
        DataError: a damaged record, or a side file that says something else than the records.
    """
    vocab = (options or ReadOptions()).vocab
    pieces = None if vocab is None else vocab.read_text("utf-8").split("\n")
    side = {name: _side_file(path, name) for name in ("id2len", "txt2img")}
    with ForeignLMDB(path) as environment:
        for key in _order(environment, side["id2len"]):
            where = f"{path}, id {key}"
            record = _unpack(environment.value(key.encode()), where)
            example = _example(key, record, pieces, where)
            _check_side_files(example, record, side, where)
            yield example


def read_meta(path: Path) -> dict[str, Any]:
    """Return meta.json: the ids of CLS, SEP, MASK, UNK, the range of word pieces, and the tokenizer's name.

    Raises:
        DataError: it is missing or no JSON object.
    """
    meta = _side_file(path, "meta")
    if meta is None:
        raise DataError("has no meta.json", where=path, remedy="name the folder of a txt_db")
    return meta


def _side_file(path: Path, name: str) -> dict[str, Any] | None:
    file = path / f"{name}.json"
    return _json_object(file) if file.is_file() else None


def _json_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"is no JSON ({error})", where=file) from None
    if not isinstance(content, dict):
        raise DataError("is no JSON object", where=file)
    return content


def _order(environment: ForeignLMDB, lengths: Mapping[str, Any] | None) -> Iterable[str]:
    keys = [key.decode("utf-8", "replace") for key in environment]
    if lengths is None:
        return keys
    if lengths.keys() != set(keys):
        odd = sorted(lengths.keys() ^ set(keys))[0]
        problem = f"id2len.json and data.mdb do not hold the same ids, for example {odd}"
        raise DataError(problem, where=environment.path, remedy="the two files belong to different databases")
    return lengths


def _unpack(value: bytes, where: str) -> Record:
    try:
        decompressor = lz4.frame.LZ4FrameDecompressor()
        content = decompressor.decompress(value, max_length=_LARGEST_RECORD)
        if not decompressor.eof:
            large = len(content) >= _LARGEST_RECORD
            problem = f"does not end within {_LARGEST_RECORD:,} bytes" if large else "is cut off"
            raise DataError(problem, where=where, remedy="get an undamaged copy of the txt_db")
        record = msgpack.unpackb(content, raw=False)
    except (RuntimeError, ValueError, msgpack.UnpackException) as error:
        remedy = "get an undamaged copy of the txt_db"
        raise DataError(f"is no LZ4 frame of msgpack ({error})", where=where, remedy=remedy) from None
    if not isinstance(record, dict) or "input_ids" not in record or "img_fname" not in record:
        raise DataError("has no input_ids or no img_fname", where=where, remedy="name the folder of a txt_db")
    return record


def _example(key: str, record: Record, pieces: Sequence[str] | None, where: str) -> Example:
    choices = [record.get(name, []) for name in ("input_ids_as", "input_ids_rs")]
    if not all(isinstance(choice, list) for choice in choices):
        raise DataError("has answers or rationales that are no list", where=where)
    texts = [record["input_ids"], *choices[0], *choices[1]]
    tokens = tuple(_tokens(ids, pieces, where) for ids in texts)
    raw = next((record[name] for name in _TEXT_FIELDS if isinstance(record.get(name), str)), None)
    if raw is not None and len(texts) == 1:
        written: tuple[str, ...] = (raw,)
    else:
        written = tuple(_spell(entry, pieces) for entry in tokens)
    names = record["img_fname"]
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError("has an img_fname that is no file name", where=where)
    try:
        return Example(
            id=key,
            image_ids=tuple(name.removesuffix(".npz") for name in names),
            texts=written,
            tokens=tokens,
            target=_target(record, where),
            group=_group(record),
        )
    except DataError as error:
        raise DataError(error.problem, where=where, remedy=error.remedy) from None


def _tokens(ids: Any, pieces: Sequence[str] | None, where: str) -> Tokens:
    if not isinstance(ids, list) or not all(isinstance(number, int) and number >= 0 for number in ids):
        raise DataError("has input_ids that are no list of numbers", where=where)
    if pieces is None:
        return Tokens(ids=tuple(ids), words=tuple(range(len(ids))))
    if ids and max(ids) >= len(pieces):
        remedy = "it is the vocabulary of another tokenizer"
        raise DataError(f"word piece {max(ids)} of a vocabulary of {len(pieces)}", where=where, remedy=remedy)
    words, word = [], -1
    for number in ids:
        word += 1 if word < 0 or not pieces[number].startswith("##") else 0
        words.append(word)
    return Tokens(ids=tuple(ids), words=tuple(words))


def _spell(tokens: Tokens, pieces: Sequence[str] | None) -> str:
    if pieces is None:
        return ""
    return " ".join(pieces[number] for number in tokens.ids).replace(" ##", "")


def _target(record: Record, where: str) -> Target | None:
    try:
        if "ann_id" in record and "bbox" in record:
            x, y, width, height = (float(side) for side in record["bbox"])
            box = (x, y, x + width, y + height)
            return BoxTarget(box=box, annotation_id=str(record["ann_id"]), ref_id=str(record.get("ref_id", "")))
        if "qa_target" in record:
            answer, rationale = record["qa_target"], record.get("qar_target", -1)
            return ChoiceTarget(answer=answer, rationale=rationale) if answer >= 0 else None
        target = record.get("target")
        if isinstance(target, dict):
            labels = tuple(str(label) for label in target["labels"])
            return ScoredTarget(labels=labels, scores=tuple(float(score) for score in target["scores"]))
        if target is None:
            return None
        return LabelTarget(label=("False", "True")[target])
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"has a target of an unknown layout ({error!r})", where=where) from None


def _group(record: Record) -> str:
    # NLVR2: one sentence is asked of several pairs of pictures, which its identifier numbers in the third place.
    parts = str(record.get("identifier", "")).split("-")
    return "-".join(parts[:2] + parts[3:]) if len(parts) == 4 else ""


def _check_side_files(example: Example, record: Record, side: dict[str, Any], where: str) -> None:
    lengths, pictures = side["id2len"], side["txt2img"]
    if lengths is not None and lengths[example.id] != len(record["input_ids"]):
        problem = f"has {len(record['input_ids'])} word pieces where id2len.json says {lengths[example.id]}"
        raise DataError(problem, where=where, remedy="the two files belong to different databases")
    if pictures is not None and pictures.get(example.id) != record["img_fname"]:
        problem = f"is of {record['img_fname']} where txt2img.json says {pictures.get(example.id)}"
        raise DataError(problem, where=where, remedy="the two files belong to different databases")


def write(
    store: ExampleStore,
    path: Path,
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a store of tokenised examples as a txt_db.

    Args:
        store: what to read.
        path: the folder to write.
        options: see :class:`WriteOptions`.
        overwrite: replace the folder.
        progress: told the number of examples done.

    Raises:
        DataError: as :func:`write_examples`, or nothing says which tokenizer was used.
    """
    options = options or WriteOptions()
    meta = store.metadata.extra.get("meta") if options.meta is None else _json_object(options.meta)
    if not isinstance(meta, dict):
        remedy = "pass the meta.json of a txt_db made with the same tokenizer with --meta"
        raise DataError("does not say what a txt_db says of its tokenizer", where=store.path, remedy=remedy)
    answers = None if options.answers is None else _json_object(options.answers)
    write_examples(store, path, meta=meta, answers=answers, overwrite=overwrite, progress=progress)


def write_examples(
    examples: Iterable[Example],
    path: Path,
    *,
    meta: Mapping[str, Any],
    answers: Mapping[str, int] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write tokenised examples as a txt_db with all its side files.

    Args:
        examples: with tokens.
        path: the folder to write.
        meta: CLS, SEP, MASK, UNK and v_range of the tokenizer; ``toker``, ``tokenizer`` and ``bert``, which
            different parts of the published code ask for, are each filled in from the others.
        answers: number of each label (ans2label.json); without it the labels must be numbers.
        overwrite: replace the folder.
        progress: told the number of examples done.

    Raises:
        DataError: the folder exists, an example has no tokens, or a target that a txt_db cannot hold.
    """
    missing = {"CLS", "SEP", "MASK", "UNK", "v_range"} - meta.keys()
    if missing:
        raise DataError(f"lacks {', '.join(sorted(missing))}", where="meta", remedy="take them from the tokenizer")
    name = next((meta[key] for key in ("bert", "tokenizer", "toker") if key in meta), "")
    full = {"bert": name, "tokenizer": name, "toker": name, **meta}
    files = _SideFiles()

    def items() -> Iterator[tuple[bytes, bytes]]:
        for example in examples:
            record = _record(example, answers)
            files.add(example, record)
            yield example.id.encode(), lz4.frame.compress(msgpack.packb(record, use_bin_type=True))
            if progress:
                progress(1)

    with new_path(path, overwrite=overwrite, folder=True) as partial:
        write_lmdb(partial, items())
        for name, content in {"meta": full, **files.content()}.items():
            (partial / f"{name}.json").write_text(json.dumps(content), "utf-8")


class _SideFiles:
    """What the JSON files beside the environment say."""

    def __init__(self) -> None:
        self._lengths: dict[str, dict[str, int]] = {}
        self._pictures: dict[str, str | list[str]] = {}

    def add(self, example: Example, record: Record) -> None:
        text = len(record["input_ids"])
        lengths = {"id2len": text}
        if "input_ids_as" in record:
            # VCR: the longest of the four sequences, the right answer before a rationale; their SEPs count, CLS not.
            answers, right = [len(ids) for ids in record["input_ids_as"]], max(record["qa_target"], 0)
            rationales = [len(ids) for ids in record["input_ids_rs"]]
            lengths = {"id2len_qa": text + max(answers) + 1, "id2len_qar": text + answers[right] + max(rationales) + 2}
        for name, length in lengths.items():
            self._lengths.setdefault(name, {})[example.id] = length
        self._pictures[example.id] = record["img_fname"]

    def content(self) -> dict[str, Any]:
        texts: dict[str, list[str]] = {}
        for example_id, picture in self._pictures.items():
            if isinstance(picture, str):
                texts.setdefault(picture, []).append(example_id)
        files: dict[str, Any] = {**(self._lengths or {"id2len": {}}), "txt2img": self._pictures}
        return {**files, "img2txts": texts} if texts else files


def _record(example: Example, answers: Mapping[str, int] | None) -> Record:
    where = f"example {example.id}"
    if not example.tokens:
        raise DataError("has no tokens", where=where, remedy="prepare the examples with a tokenizer")
    pictures = [f"{image_id}.npz" for image_id in example.image_ids]
    record: Record = {
        "input_ids": list(example.tokens[0].ids),
        "img_fname": pictures[0] if len(pictures) == 1 else pictures,
    }
    choices = [list(tokens.ids) for tokens in example.tokens[1:]]
    if choices:
        if len(choices) != 8:
            raise DataError(f"has {len(choices)} choices; a txt_db holds 4 answers and 4 rationales", where=where)
        record |= {"input_ids_as": choices[:4], "input_ids_rs": choices[4:], "qa_target": -1, "qar_target": -1}
    elif example.texts[0]:
        record["sent" if isinstance(example.target, BoxTarget) else "sentence"] = example.texts[0]
    if example.group:
        record["identifier"] = example.id
    return record | _target_fields(example, answers, where)


def _target_fields(example: Example, answers: Mapping[str, int] | None, where: str) -> Record:
    target = example.target
    if target is None:
        return {}
    writer = _TARGET_WRITERS.get(type(target))
    if writer is None:
        remedy = "score the answers first: UNITER stores labels with scores"
        raise DataError(f"has a target {type(target).__name__}, which a txt_db cannot hold", where=where, remedy=remedy)
    return writer(target, example, answers or {})


def _scored(target: ScoredTarget, example: Example, answers: Mapping[str, int]) -> Record:
    where = f"label of example {example.id}"
    labels = [answers[label] if label in answers else integer(label, "label", where=where) for label in target.labels]
    return {"target": {"labels": labels, "scores": list(target.scores)}}


def _boxed(target: BoxTarget, example: Example, _: Mapping[str, int]) -> Record:
    x1, y1, x2, y2 = target.box
    digits = re.search(r"\d+$", example.image_ids[0])
    fields: Record = {"sent_id": example.id, "ref_id": target.ref_id, "ann_id": target.annotation_id}
    fields["image_id"] = digits[0].lstrip("0") or "0" if digits else example.image_ids[0]
    numbers = {name: int(value) if value.isdecimal() else value for name, value in fields.items()}
    return {**numbers, "bbox": [x1, y1, x2 - x1, y2 - y1]}


_TARGET_WRITERS: dict[type, Callable[[Any, Example, Mapping[str, int]], Record]] = {
    ScoredTarget: _scored,
    BoxTarget: _boxed,
    LabelTarget: lambda target, *_: {"label": target.label, "target": int(target.label == "True")},
    ChoiceTarget: lambda target, *_: {"qa_target": target.answer, "qar_target": target.rationale},
}
