"""UNITER's toy databases, read and laid side by side, against what the authors' data sets and collates return.

What is checked here is reading and padding: word pieces, features and locations. What a task makes of them (segments,
targets) is checked with the task.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tests.golden.case import Case
from vltk.batching import SpecialTokens, collate
from vltk.stores.formats import uniter_img_db, uniter_txt_db
from vltk.types import Example, RegionFeatures

Databases = dict[str, RegionFeatures]


def texts(case: Case, name: str) -> tuple[dict[str, Example], SpecialTokens]:
    path = case.folder / "db" / name
    meta = uniter_txt_db.read_meta(path)
    examples = {example.id: example for example in uniter_txt_db.read(path)}
    return examples, SpecialTokens(start=meta["CLS"], separator=meta["SEP"])


def pictures(path: Path) -> Databases:
    return {regions.image_id: regions for regions in uniter_img_db.read(path)}


def toy(case: Case) -> Databases:
    return pictures(case.folder / "db" / "toyimg" / "feat_th0.2_max12_min5")


def both(first: RegionFeatures, second: RegionFeatures) -> RegionFeatures:
    """The regions of one picture after those of another, as published for NLVR2's triplets and VCR."""
    joined = {name: np.concatenate([array, second.arrays()[name]]) for name, array in first.arrays().items()}
    return RegionFeatures.trusted(image_id=f"{first.image_id}+{second.image_id}", size=(1, 1), **joined)


def compare(case: Case, framed: Sequence[Sequence[int]], regions: Sequence[RegionFeatures]) -> None:
    official = case.tensors()
    batch = collate([str(row) for row in range(len(framed))], framed, regions)
    np.testing.assert_array_equal(batch.input_ids.numpy(), official["out.input_ids"])
    np.testing.assert_array_equal(batch.regions.numpy(), official["out.img_feat"])
    np.testing.assert_array_equal(batch.locations.numpy(), official["out.img_pos_feat"])
    lengths = (batch.text_mask.sum(1) + batch.region_mask.sum(1)).numpy()
    np.testing.assert_array_equal(lengths, official["out.attn_masks"].sum(1))


def check_vqa(case: Case) -> None:
    examples, special = texts(case, "vqa_toy.db")
    images = toy(case)
    asked = [examples[key] for key in case.entry["ids"]["qids"]]
    framed = [special.frame(example.tokens[0].ids) for example in asked]
    compare(case, framed, [images[example.image_ids[0]] for example in asked])
    soft = np.zeros_like(case.tensors()["out.targets"])
    for row, example in enumerate(asked):
        for label, score in zip(example.target.labels, example.target.scores, strict=True):
            soft[row, int(label)] = np.float32(score)
    np.testing.assert_array_equal(soft, case.tensors()["out.targets"])


def check_itm_minibatch(case: Case) -> None:
    examples, special = texts(case, "itm_toy.db")
    images, order = toy(case), case.entry["extra"]["all_img_ids"]
    size, number = 3, int(case.name.rsplit("_", 1)[1])
    chosen = [name.removesuffix(".npz") for name in order[number * size : (number + 1) * size]]
    text = list(examples.values())[4]
    compare(case, [special.frame(text.tokens[0].ids)] * len(chosen), [images[name] for name in chosen])


def nlvr2(case: Case) -> tuple[list[Example], SpecialTokens, Databases]:
    examples, special = texts(case, "nlvr2_toy.db")
    images = pictures(case.folder / "db" / "nlvr2_dev" / "feat_th0.2_max12_min5")
    return [examples[key] for key in case.entry["ids"]["qids"]], special, images


def check_nlvr2_paired(case: Case) -> None:
    asked, special, images = nlvr2(case)
    rows = [(special.frame(example.tokens[0].ids), images[image]) for example in asked for image in example.image_ids]
    compare(case, [row[0] for row in rows], [row[1] for row in rows])
    labels = [int(example.target.label == "True") for example in asked]
    assert labels == case.tensors()["out.targets"].tolist()


def check_nlvr2_triplet(case: Case) -> None:
    asked, special, images = nlvr2(case)
    joined = [both(*(images[image] for image in example.image_ids)) for example in asked]
    compare(case, [special.frame(example.tokens[0].ids) for example in asked], joined)


def check_re(case: Case) -> None:
    examples, special = texts(case, "refcoco_val.db")
    images = pictures(case.folder / "db" / "re_coco_gt" / "feat_numbb100")
    refs = json.loads((case.folder / "db" / "refcoco_val.db" / "refs.json").read_text("utf-8"))
    order = [str(sentence) for ref in refs for sentence in ref["sent_ids"]]
    if case.entry["ids"]:
        assert order == case.entry["ids"]["sent_ids"]
    asked = [examples[key] for key in order]
    framed = [special.frame(example.tokens[0].ids) for example in asked]
    compare(case, framed, [images[example.image_ids[0]] for example in asked])


def check_vcr(case: Case) -> None:
    examples, special = texts(case, "vcr_toy.db")
    given = pictures(case.folder / "db" / "toyimg" / "feat_numbb8")
    detected = toy(case)
    framed, regions = [], []
    for example in examples.values():
        question, *choices = (tokens.ids for tokens in example.tokens)
        answers, rationales = choices[:4], choices[4:]
        with_answers = [special.frame(question, answer) for answer in answers]
        right = [answers[example.target.answer]]
        premises = answers if "test" in case.name else right
        with_rationales = [special.frame(question, premise, why) for premise in premises for why in rationales]
        rows = with_rationales if "qar" in case.name else with_answers + with_rationales
        framed += rows
        regions += [both(given[example.image_ids[0]], detected[example.image_ids[1]])] * len(rows)
    compare(case, framed, regions)


CHECKS: dict[str, Callable[[Case], None]] = {
    "uniter/db_vqa_*": check_vqa,
    "uniter/db_itm_*": check_itm_minibatch,
    "uniter/db_nlvr2_paired*": check_nlvr2_paired,
    "uniter/db_nlvr2_triplet*": check_nlvr2_triplet,
    "uniter/db_re_*": check_re,
    "uniter/db_vcr_*": check_vcr,
}
