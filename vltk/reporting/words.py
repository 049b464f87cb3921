"""Which regions a word attends to, on the picture (UNITER, figures 3 and 7), and the regions themselves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.reporting.attention import PairAttention
from vltk.reporting.charts import heat_chart
from vltk.reporting.drawing import WIDTH, Canvas, Figure, fitted, number, shortened
from vltk.reporting.material import Ground, label_boxes, shade
from vltk.types import RegionFeatures

_SHOWN_WORDS = 6
_MOST_WORDS = 40


def word_regions(pair: PairAttention, layer: int) -> NDArray[np.float64]:
    """Return [words, R] how much each word attends to each region in one layer, the mean over heads and word pieces.

    Rows sum to 1: what goes to other words is left out, as in the paper's figure.
    """
    shares = pair.probabilities()[layer].mean(axis=0)
    rows = []
    for word in range(len(pair.words)):
        pieces = pair.pieces(word)
        row = shares[pieces, pair.length :].mean(axis=0) if pieces else np.zeros(len(pair.picture))
        rows.append(row / row.sum() if row.sum() > 0 else row)
    return np.array(rows)


def best_layer(pairs: Sequence[PairAttention]) -> int | None:
    """Return the layer whose words attend to regions the most sharply: where a word's first region stands out most.

    None where words look at regions in no layer.
    """
    met = [layer for layer in range(len(pairs[0].scores)) if pairs[0].meets(layer)]
    sharp = [np.mean([_sharpness(word_regions(pair, layer)) for pair in pairs]) for layer in met]
    return met[int(np.argmax(sharp))] if met else None


def _sharpness(shares: NDArray[np.float64]) -> float:
    """Return the mean over words of how far the largest share is above an equal one."""
    count = shares.shape[1]
    return float((shares.max(axis=1) - 1 / count).mean()) if count > 1 else 0.0


def regions_figure(picture: RegionFeatures, labels: list[str], address: str | None, *, name: str) -> Figure:
    """Draw the regions of a picture with their labels."""
    canvas = Canvas()
    title = f"Picture {picture.image_id}"
    top = canvas.heading(title, f"{len(picture)} regions")
    ground = Ground(size=picture.size, address=address, y=top, width=WIDTH)
    ground.draw(canvas)
    label_boxes(canvas, ground, _boxes(picture), labels)
    alt = f"{len(picture)} regions of picture {picture.image_id}: {', '.join(labels[:14])}."
    return Figure(name=name, title=title, alt=alt, body=canvas.body, width=WIDTH, height=top + ground.height + 2)


def words_figure(
    pair: PairAttention, shares: NDArray[np.float64], address: str | None, *, name: str, title: str
) -> Figure:
    """Draw the picture once for each of the words that attend most sharply, its regions shaded."""
    canvas = Canvas()
    top = canvas.heading(title, "regions by the attention of a word")
    order = sorted(np.argsort(-shares.max(axis=1), kind="stable")[:_SHOWN_WORDS].tolist())
    columns, gap = 3, 8
    width = (WIDTH - gap * (columns - 1)) / columns
    height = 0.0
    for place, word in enumerate(order):
        row, column = divmod(place, columns)
        size = _ground(pair, address, width=width)
        ground = _ground(pair, address, x=column * (width + gap), y=top + 16 + row * (size.height + 24), width=width)
        canvas.text(ground.x, ground.y - 4, f"{shortened(pair.words[word], 16)}", size=12, bold=True)
        ground.draw(canvas)
        canvas.mark("g", "shade", shade(ground, _boxes(pair.picture), shares[word].tolist()) or "<g/>")
        height = ground.y + ground.height
    words = ", ".join(f"{pair.words[word]} {shares[word].max():.0%}" for word in order)
    alt = f"{title}. Largest share of a region for each word: {words}."
    return Figure(name=name, title=title, alt=alt, body=canvas.body, width=WIDTH, height=height + 2)


def words_table(
    pair: PairAttention, shares: NDArray[np.float64], labels: Sequence[str], *, name: str, title: str
) -> Figure:
    """Draw the shares of all words and regions as a table."""
    best = [
        f"{word} → {labels[int(row.argmax())]} {row.max():.0%}" for word, row in zip(pair.words, shares, strict=True)
    ]
    return heat_chart(
        shares,
        rows=pair.words,
        columns=list(labels),
        name=name,
        title=title,
        subtitle=f"each row sums to 1 over the regions; the bluest is {100 * shares.max():.0f} %",
        alt=f"{title}. The first region of each word: {'; '.join(best)}.",
    )


def _boxes(picture: RegionFeatures) -> NDArray[np.float32]:
    if picture.boxes is None:
        raise DataError("has no boxes", where=f"image {picture.image_id}", remedy="extract it again with boxes")
    return picture.boxes


def _ground(pair: PairAttention, address: str | None, *, x: float = 0, y: float = 0, width: float = WIDTH) -> Ground:
    return Ground(size=pair.picture.size, address=address, x=x, y=y, width=width)


# -- the part of a page that answers to a finger or a mouse, without a script -----------------------------------------


def words_widget(
    pair: PairAttention, shares: NDArray[np.float64], labels: Sequence[str], address: str | None, *, key: str
) -> str:
    """Return the sentence above its picture: a word that is pointed at, tapped or chosen by key shades its regions.

    At first the mean over all words is shown. It works with rules alone; where these do not, all is shaded.

    Args:
        pair: the text and the regions.
        shares: [words, R].
        labels: of the regions.
        address: the picture.
        key: no other part of the page has it.
    """
    words = pair.words[:_MOST_WORDS]
    ground = _ground(pair, address)
    canvas = Canvas()
    ground.draw(canvas)
    rows = [shares.mean(axis=0), *shares[: len(words)]]
    groups = []
    for place, row in enumerate(rows):
        best = int(row.argmax())
        where = f"{'all words' if not place else words[place - 1]}: {labels[best]}, {100 * row[best]:.0f} %"
        said = escape(fitted(where, WIDTH, 13))
        told = f'<text class="ink" x="0" y="{number(ground.height + 18)}" font-size="13">{said}'
        marks = shade(ground, _boxes(pair.picture), row.tolist())
        groups.append(f'<g class="w w{place}">{marks}{told}</text></g>')
    names = [escape(word) for word in ("all words", *words)]
    inputs = "".join(
        f'<input type="radio" name="{key}" id="{key}-{place}"{"" if place else " checked"} aria-label="{word}">'
        for place, word in enumerate(names)
    )
    spoken = "".join(f'<label for="{key}-{place}">{word}</label> ' for place, word in enumerate(names))
    alt = f"Picture {pair.picture.image_id}; {len(pair.picture)} regions shaded by the attention of the chosen word."
    view = f'viewBox="0 0 {WIDTH} {number(ground.height + 24)}"'
    drawn = f'<svg {view} role="img" aria-label="{escape(alt)}">{canvas.body}{"".join(groups)}</svg>'
    return f'<figure class="words">{inputs}<p>{spoken}</p>{drawn}</figure>\n'


def widget_style() -> str:
    """Return the rules that show the regions of the word that is pointed at, else of the word that is chosen."""
    rules = [
        ".words input{position:absolute;opacity:0;width:1px;height:1px}.words p{margin:0 0 .5rem;line-height:2}",
        ".words label{cursor:pointer;padding:.15em .3em;border-radius:4px}",
        ".words label:first-child{color:var(--muted);font-size:.85em}",
        ".words label:hover{background:var(--panel)}.words .w{display:none}",
        ".words:has(label:hover) .w{display:none!important}",
    ]
    for place in range(_MOST_WORDS + 1):
        child = place + 1
        chosen = f".words input:nth-of-type({child}):checked~"
        rules.append(
            f"{chosen}svg .w{place}{{display:inline}}"
            f"{chosen}p label:nth-of-type({child}){{background:var(--c1);color:var(--paper)}}"
            f".words input:nth-of-type({child}):focus-visible~p "
            f"label:nth-of-type({child}){{outline:2px solid var(--c0)}}"
            f".words:has(label:nth-of-type({child}):hover) .w{place}{{display:inline!important}}"
        )
    return "".join(rules)
