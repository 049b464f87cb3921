"""Tasks about drawn scenes in published file formats: VQA v2, GQA, NLVR2, SNLI-VE and VCR."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from vltk.datasets._scene_choices import Choice, Words
from vltk.datasets._scene_files import INFO, LICENSE, Json, Picture, polygon, write_json, write_json_lines
from vltk.datasets._scene_model import ATTRIBUTES, Dice
from vltk.datasets._scene_query import Description, annotation_id
from vltk.datasets._scene_questions import Question
from vltk.datasets._scene_statements import PairSet, Statement

QUESTION_TYPES = (
    "what color is the",
    "what is the",
    "what",
    "which",
    "how many",
    "is there a",
    "is there",
    "is the",
    "are there",
    "are the",
)
"""Those of VQA's official question types that the drawn world asks, longer before shorter."""


def question_type(text: str) -> str:
    """Return VQA's question type, the longest of the official beginnings.

    Example:
        >>> question_type("Is there a red circle?"), question_type("Is there an orange circle?")
        ('is there a', 'is there')
    """
    words = f"{text.lower().rstrip('?')} "
    return next((kind for kind in QUESTION_TYPES if words.startswith(f"{kind} ")), "none of the above")


def answer_type(answer: str) -> str:
    """Return VQA's answer type."""
    return "yes/no" if answer in ("yes", "no") else "number" if answer.isdigit() else "other"


def vqa_id(number: int, place: int) -> int:
    """Return VQA's question id: the picture's number and three digits."""
    return 1000 * number + place


def write_vqa(
    root: Path,
    split: str,
    pictures: Sequence[Picture],
    asked: Sequence[Sequence[tuple[Question, Sequence[str]]]],
    dice: Dice,
) -> None:
    """Write VQA v2's questions and annotations of one split; the extra fields are ``family`` and ``clue``.

    Args:
        root: the folder to write to.
        split: the name that goes into the file names and the header.
        pictures: the pictures of the split.
        asked: for each picture its questions, each with ten answers.
        dice: where the annotators' confidence comes from.
    """
    questions, annotations = [], []
    for picture, own in zip(pictures, asked, strict=True):
        for place, (question, answers) in enumerate(own):
            ids = {"image_id": picture.number, "question_id": vqa_id(picture.number, place)}
            questions.append({**ids, "question": question.text})
            annotations.append(
                {
                    "question_type": question_type(question.text),
                    "multiple_choice_answer": question.answer,
                    "answers": _answered(question, answers, dice),
                    **ids,
                    "answer_type": answer_type(question.answer),
                    "family": question.family,
                    "clue": question.clue,
                }
            )
    licence = {"url": LICENSE["url"], "name": LICENSE["name"]}
    head = {"info": INFO, "task_type": "Open-Ended", "data_type": "mscoco", "license": licence, "data_subtype": split}
    write_json(root / f"v2_OpenEnded_mscoco_{split}_questions.json", {**head, "questions": questions})
    write_json(root / f"v2_mscoco_{split}_annotations.json", {**head, "annotations": annotations})


def _answered(question: Question, answers: Sequence[str], dice: Dice) -> list[Json]:
    return [
        {
            "answer": answer,
            "answer_confidence": "yes" if answer == question.answer else dice.pick(("maybe", "maybe", "no", "yes")),
            "answer_id": number,
        }
        for number, answer in enumerate(answers, 1)
    ]


# family -> GQA's detailed, semantic and structural type.
_GQA_TYPES = {
    "exist": ("existAttr", "obj", "verify"),
    "exist_relation": ("existRelS", "rel", "verify"),
    "verify_attribute": ("verifyAttr", "attr", "verify"),
    "verify_relation": ("relVerify", "rel", "verify"),
    "choose_attribute": ("chooseAttr", "attr", "choose"),
    "choose_relation": ("relChooser", "rel", "choose"),
    "query_attribute": ("directOf", "attr", "query"),
    "query_relation": ("relS", "rel", "query"),
    "compare_same": ("twoSame", "attr", "compare"),
    "compare_size": ("comparativeChoose", "attr", "compare"),
}


def write_gqa(root: Path, split: str, pictures: Sequence[Picture], asked: Sequence[Sequence[Question]]) -> None:
    """Write GQA's balanced questions, all questions (with those that the balanced ones entail) and scene graphs.

    Extra fields of a question are ``family`` and ``clue``.
    """
    every: dict[str, Json] = {}
    for picture, own in zip(pictures, asked, strict=True):
        every.update(_numbered(picture, own))
    balanced = {name: record for name, record in every.items() if record["isBalanced"]}
    write_json(root / f"{split}_balanced_questions.json", balanced)
    write_json(root / f"{split}_all_questions.json", every)
    write_json(root / f"{split}_sceneGraphs.json", {picture.image_id: _scene_graph(picture) for picture in pictures})


def _numbered(picture: Picture, own: Sequence[Question]) -> Iterator[tuple[str, Json]]:
    """Yield ids and records of a picture's questions; the same question asked twice gets one id."""
    ids: dict[str, str] = {}
    flat = [(question, True) for question in own]
    flat += [(other, False) for question in own for other in (*question.entailed, *question.equivalent)]
    for question, _ in flat:
        ids.setdefault(question.text, f"{picture.number:06d}{len(ids):03d}")
    equivalent = {question.text: {question.text} for question, _ in flat}
    for question in own:
        same = {question.text, *(other.text for other in question.equivalent)}
        for text in same:
            equivalent[text] |= same
    written = set()
    for question, balanced in flat:
        if question.text not in written:
            written.add(question.text)
            entailed = sorted({ids[other.text] for other in question.entailed} - {ids[question.text]})
            same_ids = sorted(ids[text] for text in equivalent[question.text])
            yield ids[question.text], _gqa_record(picture, question, balanced, entailed, same_ids)


def _gqa_record(
    picture: Picture, question: Question, balanced: bool, entailed: list[str], equivalent: list[str]
) -> Json:
    detailed, semantic, structural = _GQA_TYPES[question.family]
    last = question.program[-1]
    subject = question.program[0][2].partition(" ")[0]
    return {
        "semantic": [
            {"operation": operation, "dependencies": list(on), "argument": argument}
            for operation, on, argument in question.program
        ],
        "entailed": entailed,
        "equivalent": equivalent,
        "question": question.text,
        "imageId": picture.image_id,
        "isBalanced": balanced,
        "groups": {
            "global": last[2] if structural == "query" else None,
            "local": f"{len(question.program):02d}-{subject}_{last[2] or last[0]}",
        },
        "answer": question.answer,
        "semanticStr": "->".join(_step(*step) for step in question.program),
        "annotations": {
            "answer": {},
            "question": _spans(picture, question, question.text),
            "fullAnswer": _spans(picture, question, question.full_answer),
        },
        "types": {"detailed": detailed, "semantic": semantic, "structural": structural},
        "fullAnswer": question.full_answer,
        "family": question.family,
        "clue": question.clue,
    }


def _step(operation: str, on: Sequence[int], argument: str) -> str:
    return f"{operation}: {argument}" + (f" [{','.join(map(str, on))}]" if on else "")


def _spans(picture: Picture, question: Question, text: str) -> dict[str, str]:
    """Return where a text names objects: word, or first word and one past the last, -> object id."""
    words = text.lower().rstrip("?.").replace(",", "").split()
    found = {}
    for description, place in question.mentions:
        start = _find(words, description)
        if start is not None:
            end = start + len(description.noun.split())
            found[str(start) if end == start + 1 else f"{start}:{end}"] = str(annotation_id(picture.number, place))
    return found


def _find(words: Sequence[str], description: Description) -> int | None:
    wanted = ["the", *description.noun.split()]
    starts = (k for k in range(len(words)) if list(words[k : k + len(wanted)]) == wanted)
    start = next(starts, None)
    return None if start is None else start + 1


def _scene_graph(picture: Picture) -> Json:
    scene = picture.scene
    objects = {}
    for place, thing in enumerate(scene.objects):
        x1, y1, x2, y2 = thing.box
        relations = [
            {"name": name, "object": str(annotation_id(picture.number, second))}
            for name, pairs in scene.related.items()
            for first, second in pairs
            if first == place
        ]
        objects[str(annotation_id(picture.number, place))] = {
            "name": thing.shape,
            "x": round(x1),
            "y": round(y1),
            "w": round(x2 - x1),
            "h": round(y2 - y1),
            "attributes": [thing.attribute(name) for name in ATTRIBUTES if name != "shape"],
            "relations": relations,
        }
    return {"width": scene.size, "height": scene.size, "objects": objects}


NLVR2_SPLITS = {"train": "train", "val": "dev", "test": "test1"}


def write_nlvr2(
    root: Path, images: Path, split: str, pictures: Sequence[Picture], drawn: Sequence[PairSet], dice: Dice
) -> None:
    """Write NLVR2's statements and its own copies of the pictures, ``<split>-<set>-<pair>-img{0,1}.png``."""
    name = NLVR2_SPLITS[split]
    (root / "images").mkdir(parents=True, exist_ok=True)
    records = []
    for number, group in enumerate(drawn):
        for place, (left, right) in enumerate(group.pairs):
            for side, source in enumerate((left, right)):
                target = root / "images" / f"{name}-{number}-{place}-img{side}.png"
                shutil.copyfile(images / pictures[source].file_name, target)
            for sentence, statements in enumerate(group.sentences):
                identifier = f"{name}-{number}-{place}-{sentence}"
                urls = [f"images/{pictures[source].file_name}" for source in (left, right)]
                records.append(_nlvr2_record(identifier, statements[place], urls, dice))
    write_json_lines(root / f"{name}.json", records)


def _nlvr2_record(identifier: str, statement: Statement, urls: Sequence[str], dice: Dice) -> Json:
    writer, *others = (str(worker) for worker in dice.shuffled(range(100))[:5])
    return {
        "validation": {others[0]: statement.label},
        "sentence": statement.text,
        "left_url": urls[0],
        "writer": writer,
        "label": statement.label,
        "right_url": urls[1],
        "synset": "shape",
        "query": statement.family,
        "identifier": identifier,
        "extra_validations": dict.fromkeys(others[1:], statement.label),
        "clue": statement.clue,
    }


SNLI_VE_SPLITS = {"train": "train", "val": "dev", "test": "test"}
_VOTES = 5


def write_snli_ve(
    root: Path, split: str, pictures: Sequence[Picture], drawn: Sequence[Sequence[Statement]], dice: Dice
) -> None:
    """Write SNLI-VE's pairs; ``sentence1`` is one of the picture's captions. SNLI's parses are left out."""
    records = []
    for picture, statements in zip(pictures, drawn, strict=True):
        for number, statement in enumerate(statements):
            caption = number % len(picture.captions)
            caption_id = f"{picture.file_name}#{caption}"
            records.append(
                {
                    "Flickr30K_ID": picture.image_id,
                    "annotator_labels": _votes(statement.label, dice),
                    "captionID": caption_id,
                    "gold_label": statement.label,
                    "pairID": f"{caption_id}r{number}{statement.label[0]}",
                    "sentence1": picture.captions[caption].text,
                    "sentence2": statement.text,
                    "family": statement.family,
                    "clue": statement.clue,
                }
            )
    write_json_lines(root / f"snli_ve_{SNLI_VE_SPLITS[split]}.jsonl", records)


def _votes(label: str, dice: Dice) -> list[str]:
    """Return five votes: the author's, then four of which at most one differs."""
    votes = [label] * _VOTES
    if dice.chance(0.15):
        others = [other for other in ("contradiction", "entailment", "neutral") if other != label]
        votes[1 + dice.below(_VOTES - 1)] = dice.pick(others)
    return votes


def write_vcr(root: Path, split: str, pictures: Sequence[Picture], drawn: Sequence[Sequence[Choice]]) -> None:
    """Write VCR's questions and the pictures' metadata; ``img_fn`` is a picture of the world's folder ``images``.

    Unlike VCR's own test file this one has its labels.
    """
    records: list[Json] = []
    for picture, choices in zip(pictures, drawn, strict=True):
        write_json(root / "vcr1images" / f"{picture.image_id}.json", _metadata(picture))
        for number, choice in enumerate(choices):
            records.append(_vcr_record(picture, split, number, len(records), choice))
    write_json_lines(root / f"{split}.jsonl", records)


def _metadata(picture: Picture) -> Json:
    things = picture.scene.objects
    return {
        "boxes": [[*(round(value, 2) for value in thing.box), 1.0] for thing in things],
        "segms": [[[list(point) for point in polygon(thing)]] for thing in things],
        "names": [thing.shape for thing in things],
        "width": picture.scene.size,
        "height": picture.scene.size,
    }


def _vcr_record(picture: Picture, split: str, number: int, index: int, choice: Choice) -> Json:
    annot_id = f"{split}-{index}"
    four = range(len(choice.answers))
    return {
        "movie": "the drawn world",
        "objects": [thing.shape for thing in picture.scene.objects],
        "interesting_scores": [1],
        "answer_likelihood": "likely",
        "img_fn": picture.file_name,
        "metadata_fn": f"{picture.image_id}.json",
        "answer_orig": _original(choice.answers[choice.answer]),
        "question_orig": _original(choice.question),
        "rationale_orig": _original(choice.rationales[choice.rationale]),
        "question": _listed(choice.question),
        "answer_match_iter": list(four),
        "answer_sources": [index] * len(four),
        "answer_choices": [_listed(words) for words in choice.answers],
        "answer_label": choice.answer,
        "rationale_choices": [_listed(words) for words in choice.rationales],
        "rationale_sources": [index] * len(four),
        "rationale_match_iter": list(four),
        "rationale_label": choice.rationale,
        "img_id": f"{split}-{picture.number}",
        "question_number": number,
        "annot_id": annot_id,
        "match_fold": f"{split}-0",
        "match_index": index,
        "family": choice.family,
        "clue": choice.clue,
    }


def _listed(words: Words) -> list[str | list[int]]:
    return [word if isinstance(word, str) else list(word) for word in words]


def _original(words: Words) -> str:
    """Return the text as an annotator typed it: objects count from 1."""
    return " ".join(
        word if isinstance(word, str) else " and ".join(f"[{place + 1}]" for place in word) for word in words
    )
