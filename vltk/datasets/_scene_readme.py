"""The README of a drawn world: what lies where, what can be reached, and how that was computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vltk.datasets._scene_bounds import TaskSummary
    from vltk.datasets._scene_world import PoolSummary, WorldSummary

_HEAD = """# A drawn world

{total} pictures of {size} x {size} pixels ({images}), drawn by vltk with seed {seed}.
Everything here is in the file formats of the published data sets, so what reads those reads this.

![The first scenes](contact_sheet.png)

| path | format |
| --- | --- |
| `images/` | the pictures; the name without suffix is the image id everywhere (`COCO_<split>_<number>`) |
| `coco/annotations/` | COCO captions and instances (extra field `attributes`; whole boxes, hidden parts too) |
| `dataset_scenes.json` | Karpathy's split file, five captions a picture (extra field `template`) |
| `flickr30k_entities/` | Flickr30k Entities: `Sentences/`, `Annotations/`, ids of each split |
| `conllu/` | dependency trees of the captions; `sent_id` is the caption id |
| `vqa_v2/` | VQA v2 questions and annotations, ten answers each |
| `gqa/` | GQA questions (balanced, and all with those they entail) and scene graphs |
| `nlvr2/` | NLVR2 statements (train, dev, test1) and their pictures, copies of those in `images/` |
| `snli_ve/` | SNLI-VE pairs (train, dev, test), without SNLI's parses |
| `vcr/` | VCR questions and metadata; `img_fn` is a file of `images/`; the test file has its labels |
| `refcoco/` | RefCOCO, RefCOCO+, RefCOCOg: `refs(...).p`, `instances.json`; testA, testB are every other test picture |
| `pools/` | retrieval pools of further scenes; `hard` has families of four that differ in one edit |
| `families/` | where asked for: training scenes and three edits of each, with captions that tell them apart |
| `vocab.txt` | word pieces of all that is said here, for `vltk prepare --tokenizer`; the same in every world |
| `attribute_words.txt` | the words that name a size, texture, colour or shape, for `vltk pretrain --focus-words` |
| `world.json` | the numbers of this page |

Scenes are numbered from 0; of ten in a row eight train, the ninth validates, the tenth tests, so a
longer world with the same seed holds the pictures of this one in the same splits. In val and test a
caption is true of one picture of its split, where such a caption was found; the last caption of a test
picture is said by a template that training never uses.
"""

_TASKS = """
## What can be reached

Shares, computed from the test items. An item needs a relation when the list of the objects' sizes,
textures, colours and shapes does not settle it (the extra field `clue` of each item says which).

| task | measure | train | val | test | chance | by kind | by text | bound | attributes suffice | relation needed |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""

_HOW = """
How each was computed:

- **chance**: a uniform guess. VQA, GQA: among the answers that the question leaves open (yes and no,
  the two that it offers, all values of the attribute; for numbers those that training has), scored like
  any answer. NLVR2: of 2, SNLI-VE: of 3, VCR: of 4 labels. RefCOCO, Entities: among the objects of the
  picture. Retrieval: among the pictures of the split. Masked words: of 8 values.
- **by kind**, **by text**: what language alone predicts; a model that does not see the picture should
  score about this. By kind: the most frequent training answer of each kind of item; where the question
  offers two answers, the more frequent place. By text: the most frequent training answer to the exact
  text, else that of its kind; VCR: the choice whose text, references left out, was right most often.
  RefCOCO has no such text; there by kind is the best of six rules that ignore the words (largest,
  smallest, leftmost, rightmost, topmost, lowest object), chosen on train.
- **bound**: perfect sight and reading. VQA: the mean over questions of the best answer's accuracy, given
  the ten answers. GQA, NLVR2, SNLI-VE, VCR, RefCOCO: 1, as an item is admitted only after the truth
  checker found exactly one right answer, and none that hangs on a relation in the margin. Retrieval: the
  mean of 1 / (number of pictures that the caption is true of). Entities and masked words: the mean of the
  largest share of an object, or of a value, among all choices of objects that make the caption true.
- **attributes suffice, relation needed**: shares of the test items. Retrieval, Entities and masked words
  have a rest that stays ambiguous.
- **SNLI-VE's labels**: "The circle is red" speaks of one circle. Entailment: true whichever circle of the
  picture is meant. Contradiction: false whichever is meant. Neutral: true of one and false of another, so
  that the picture does not settle it.
- **balance**: in each kind of question, for each form of words, no answer is more than one ahead of another
  (counts of objects two, colours and shapes five). Each sentence of NLVR2 is true of two pairs and false of
  two. The four answers of a VCR question are the same four in other order, its reasons are built alike.
"""

_POOLS = """
## Retrieval pools

Each caption is certainly true of one scene of its pool and certainly false of all others.

| pool | scenes | captions | chance R@1 | chance inside the right family | bound R@1 |
| --- | --- | --- | --- | --- | --- |
"""


def readme(summary: WorldSummary) -> str:
    """Return the page as Markdown."""
    images = ", ".join(f"{count} {name}" for name, count in summary.images.items())
    head = _HEAD.format(total=sum(summary.images.values()), size=summary.size, images=images, seed=summary.seed)
    tasks = "".join(_task_row(task) for task in summary.tasks)
    pools = "".join(_pool_row(pool) for pool in summary.pools)
    return head + _TASKS + tasks + _HOW + _POOLS + pools


def _task_row(task: TaskSummary) -> str:
    counts = [str(task.items[name]) for name in ("train", "val", "test")]
    if not task.items["test"]:
        return _row([task.task, task.measure, *counts, *["-"] * 6])
    shares = (task.chance, task.prior, task.prior_text, task.bound, task.attributes, task.relation)
    return _row([task.task, task.measure, *counts, *map(_share, shares)])


def _pool_row(pool: PoolSummary) -> str:
    families = pool.family_chance if pool.family_chance < 1 else None
    shares = (pool.chance, families, pool.bound)
    return _row([pool.name, str(pool.scenes), str(pool.captions), *map(_share, shares)])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
