"""The look of every figure and page: colours that colour-blind readers tell apart, on paper, in light and in dark."""

from __future__ import annotations

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'
FILE_FONT = '"Helvetica Neue", Helvetica, "Liberation Sans", Arial, "DejaVu Sans", Aileron, sans-serif'
"""Of files, by name alone: what draws them may know no font of the system. Aileron comes with Pillow."""
LIGHT = {
    "paper": "#ffffff",
    "panel": "#f5f6f8",
    "ink": "#1b1f24",
    "muted": "#59636e",
    "grid": "#dfe3e8",
    "shade": "#c9d0d8",
    "c0": "#0069a8",
    "c1": "#b84a00",
    "c2": "#00735a",
    "c3": "#9b2d7f",
    "c4": "#7a5c00",
    "c5": "#4b5563",
}
DARK = {
    "paper": "#14171b",
    "panel": "#1f242a",
    "ink": "#e6e9ed",
    "muted": "#a3adb8",
    "grid": "#343b44",
    "shade": "#4a535e",
    "c0": "#6cb6ff",
    "c1": "#ff9e64",
    "c2": "#4fd1a5",
    "c3": "#e59bd0",
    "c4": "#e3c04b",
    "c5": "#aab4c0",
}
SERIES = 6
"""So many runs can be told apart on one page: each has a colour, a dash and its name beside it."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "1 4")
HEAT = (38, 120, 190)
"""Red, green and blue of what is shaded by a share: full where the share is one, clear where it is zero."""


def _classes(value: dict[str, str]) -> str:
    """Return the rules of drawings, with every colour as ``value`` spells it."""
    rules = [
        f".ink{{fill:{value['ink']}}}.muted{{fill:{value['muted']}}}.paper{{fill:{value['paper']}}}",
        f".grid{{stroke:{value['grid']};fill:none}}.axis{{stroke:{value['muted']};fill:none}}",
        ".heat{image-rendering:pixelated}",
        f".edge{{stroke:{value['paper']};fill:none}}",
    ]
    for number, dash in enumerate(DASHES):
        stroke = f"stroke:{value[f'c{number}']};fill:none"
        rules.append(f".l{number}{{{stroke}}}.d{number}{{stroke-dasharray:{dash or 'none'}}}")
        rules.append(f".f{number}{{fill:{value[f'c{number}']}}}")
    return "".join(rules)


def file_style() -> str:
    """Return the style of a figure that stands alone: light, without variables, which not every program knows."""
    return _classes(LIGHT)


def page_style() -> str:
    """Return the colours of a page as variables, light or dark as the reader's device asks, light on paper."""
    light, dark = (";".join(f"--{name}:{value}" for name, value in theme.items()) for theme in (LIGHT, DARK))
    return (
        f":root{{{light};color-scheme:light dark}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"@media print{{:root{{{light};color-scheme:light}}}}" + _classes({name: f"var(--{name})" for name in LIGHT})
    )
