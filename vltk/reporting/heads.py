"""The patterns of a model's attention heads (UNITER, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

from vltk.metrics.attention_patterns import PATTERNS, HeadShape, Pattern, head_shapes
from vltk.reporting.attention import PairAttention
from vltk.reporting.attention_maps import AttentionMap, draw_maps
from vltk.reporting.drawing import WIDTH, Canvas, Figure, shortened

_LETTERS: dict[Pattern, tuple[str, int, str]] = {
    "vertical": ("V", 0, "to [CLS] or [SEP]"),
    "diagonal": ("D", 1, "to itself and its neighbours"),
    "vertical + diagonal": ("VD", 3, "both of these"),
    "block": ("B", 2, "words to words, regions to regions"),
    "reversed block": ("R", 4, "words to regions and back"),
    "heterogeneous": ("H", 5, "none of these"),
}
_KEYS = (
    "Each square is one head; a layer has several, and each learns what to attend to. The letter says where most of "
    "its attention goes (the patterns of UNITER's figure 2)."
)


def shapes_of(pairs: Sequence[PairAttention]) -> list[list[HeadShape]]:
    """Return the shape of every head, by layer; [CLS] and [SEP] are the special tokens."""
    shares = [pair.probabilities() for pair in pairs]
    lengths = [pair.length for pair in pairs]
    specials = [(0, length - 1) for length in lengths]
    depth = len(shares[0])
    return [head_shapes([one[layer] for one in shares], lengths, specials) for layer in range(depth)]


def patterns_figure(shapes: Sequence[Sequence[HeadShape]], *, name: str, title: str, count: int) -> Figure:
    """Draw a square for each head with the letter and colour of its pattern."""
    canvas = Canvas()
    top = canvas.heading(title, f"mean over {count} pair{'s' if count > 1 else ''} of text and picture") + 12
    heads = max(map(len, shapes))
    left = 54.0
    cell = min(40.0, (WIDTH - left) / heads)
    step = min(cell, 28.0)
    for head in range(heads):
        canvas.text(left + cell * (head + 0.5), top - 4, str(head), kind="muted", size=11, anchor="middle")
    canvas.text(0, top - 4, "head", kind="muted", size=11)
    for layer, row in enumerate(shapes):
        y = top + layer * step
        canvas.text(0, y + step / 2 + 4, f"layer {layer}", kind="muted", size=11)
        for head, shape in enumerate(row):
            letter, colour, _ = _LETTERS[shape.pattern]
            x = left + cell * head
            canvas.rectangle(x + 1, y + 1, cell - 2, step - 2, kind=f"f{colour}", rx=3)
            canvas.text(x + cell / 2, y + step / 2 + 4, letter, kind="paper", size=11, anchor="middle", bold=True)
    y = top + len(shapes) * step + 18
    counts = {pattern: sum(one.pattern == pattern for row in shapes for one in row) for pattern in PATTERNS}
    for place, pattern in enumerate(PATTERNS):
        letter, colour, where = _LETTERS[pattern]
        line = y + place * 18
        canvas.rectangle(0, line - 11, 22, 14, kind=f"f{colour}", rx=3)
        canvas.text(11, line, letter, kind="paper", size=10, anchor="middle", bold=True)
        canvas.text(28, line, f"{counts[pattern]} {pattern}: {where}", size=11)
    told = ", ".join(f"{count} {pattern}" for pattern, count in counts.items() if count)
    alt = f"{title}: {told}."
    height = y + 18 * (len(PATTERNS) - 1) + 6
    return Figure(name=name, title=title, alt=alt, body=canvas.body, width=WIDTH, height=height, caption=_KEYS)


def maps_figure(pair: PairAttention, shapes: Sequence[Sequence[HeadShape]], *, name: str, title: str) -> Figure:
    """Draw the map of the strongest head of each pattern on one pair: who attends (rows) to whom (columns)."""
    canvas = Canvas()
    top = canvas.heading(title, "rows attend to columns")
    shares = pair.probabilities()
    found = strongest(shapes)
    maps = [
        AttentionMap(shortened(pattern, 20), shares[layer, head], f"layer {layer}, head {head}")
        for pattern, (layer, head) in found.items()
    ]
    bottom = draw_maps(canvas, top, maps, pair.length)
    told = "; ".join(f"{pattern}: layer {layer}, head {head}" for pattern, (layer, head) in found.items())
    text = shortened(" ".join(pair.words), 80)
    return Figure(
        name=name,
        title=title,
        alt=f"{title} for {text!r}, the strongest head of each pattern: {told}.",
        body=canvas.body,
        width=WIDTH,
        height=bottom,
        caption=f"The clearest head of each pattern that there is, on “{text}” with {len(pair.picture)} regions; "
        "lines part words from regions. The bluer, the more attention; shades grow with the root of a share.",
    )


def strongest(shapes: Sequence[Sequence[HeadShape]]) -> dict[Pattern, tuple[int, int]]:
    """Return the layer and head that is most of each pattern, for those that there are."""
    found: dict[Pattern, tuple[int, int]] = {}
    for pattern in PATTERNS:
        heads = [
            (one.strength, layer, head)
            for layer, row in enumerate(shapes)
            for head, one in enumerate(row)
            if one.pattern == pattern
        ]
        if heads:
            _, layer, head = max(heads, key=lambda one: one[0])
            found[pattern] = (layer, head)
    return found
