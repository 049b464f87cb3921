"""Real questions of VQA v2 about pictures with the detector's real features, through a whole task."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch

from tests.small_pairs import SPECIAL, TINY_MODEL
from vltk.datasets import vqa as files
from vltk.models.uniter import UNITERConfig
from vltk.stores.examples import ExampleMetadata, ExampleStore, TokenizerDescription
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.formats import lxmert_tsv
from vltk.tasks import vqa
from vltk.tasks._task import Split
from vltk.types import Example, Prediction, Tokens


def with_tokens(example: Example) -> Example:
    # Word pieces do not matter here: one made-up piece a word.
    words = range(len(example.texts[0].split()))
    tokens = Tokens(ids=tuple(5 + word for word in words), words=tuple(words))
    return Example(
        id=example.id, image_ids=example.image_ids, texts=example.texts, target=example.target, tokens=(tokens,)
    )


def test_real_questions_with_real_features_run_and_are_scored(shared: Path, tmp_path: Path) -> None:
    data = shared / "data"
    folder = data / "vqa_v2" / "with_butd_features"
    name = "COCO_train2014_{image_id:012d}"
    asked = files.read_examples(folder / "questions.json", annotations=folder / "annotations.json", image_id=name)
    tokenizer = TokenizerDescription(name="words", vocab_size=40, vocab_sha256="0" * 64, special_ids=SPECIAL)
    with ExampleStore.create(tmp_path / "vqa.lmdb", ExampleMetadata(task="vqa", tokenizer=tokenizer)) as examples:
        for example in asked:
            examples.put(with_tokens(example))
    with FeatureStore.create(tmp_path / "regions.lmdb", FeatureMetadata()) as features:
        for regions in lxmert_tsv.read(data / "butd_coco" / "train2014_obj36.tsv"):
            features.put(regions)
    split = Split(
        name="real",
        examples=ExampleStore.open(tmp_path / "vqa.lmdb"),
        features=FeatureStore.open(tmp_path / "regions.lmdb"),
    )
    config = vqa.Config(answers=data / "vqa_v2" / "trainval_ans2label.json")
    size = UNITERConfig(**TINY_MODEL | {"vocabulary": 40, "positions": 32}, dropout=0.0)
    task = config.build(size.build(), split)
    assert len(task.vocabulary) == 3129
    batch = task.batch(split, range(len(split)))
    assert tuple(batch.regions.shape[1:]) == (36, 2048)
    losses = task.module("task", batch.to("cpu"), torch.Generator())
    assert losses.values.shape == (len(split), 3129)
    with torch.no_grad():
        found = {one.id: one for one in task.predict(batch)}
    assert found.keys() == set(split.ids)
    people = {example.id: example.target.answers for example in split.examples}
    best = {key: Prediction(id=key, answer=Counter(given).most_common(1)[0][0]) for key, given in people.items()}
    assert task.measure(split, best)[0].value > 0.8 > task.measure(split, found)[0].value
