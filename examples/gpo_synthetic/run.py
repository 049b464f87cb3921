"""Can GPO learn a given pooling? Table 6 of the supplement of VSE-infinity, trained anew beside the paper's figures.

    python examples/gpo_synthetic/run.py                     # the published design, 500 steps a pattern
    python examples/gpo_synthetic/run.py --design all --steps 2000 --keep cells.json --out table.md --plot table.svg

Sets of random vectors are pooled with known coefficients (a pattern), and a pooling is trained to give the same
vectors. Then its coefficients are compared with the true ones, for sizes that it has seen (20 to 100) and for smaller
(10 to 19) and larger ones (101 to 120): the root of the mean squared difference over all ranks of all sizes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vltk.models._coefficients import Coefficients, build_coefficients, within
from vltk.models._pooling import GeneralizedPooling

SEEN, SMALLER, LARGER = range(20, 101), range(10, 20), range(101, 121)
LEARNING_RATE, CLIP = 5e-3, 2.0


def k_max(k: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """Return the pattern that averages the ``k(size)`` largest."""
    return lambda sizes, width: (within(k(sizes), width).float() / k(sizes).unsqueeze(1)) * within(sizes, width)


def linear(sizes: Tensor, width: int) -> Tensor:
    """Return weights that fall linearly from the largest to the smallest element, to zero behind it."""
    weights = (sizes.unsqueeze(1) - torch.arange(width)).clamp(min=0).float()
    return weights / weights.sum(dim=1, keepdim=True)


PATTERNS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "A": k_max(lambda sizes: sizes),
    "M-1": k_max(lambda sizes: torch.ones_like(sizes)),
    "M-10": k_max(lambda sizes: sizes.clamp(max=10)),
    "T-50%": k_max(lambda sizes: (sizes / 2).round().long()),
    "L": linear,
}
DESIGNS = {
    "Cos/Sin + BiGRU": "gpo",
    "Index + BiGRU": "index",
    "Cos/Sin + MLP": "perceptron",
    "Index + Interp.": "interpolated",
}
# Table 6: seen, smaller, larger.
PAPER = {
    "Index + Interp.": {"A": (0, 0, 0), "M-1": (0.065, 0.017, 0.070), "M-10": (0.030, 0.141, 0.014),
                        "T-50%": (0.011, 0.039, 0.005), "L": (0.004, 0.016, 0.002)},
    "Cos/Sin + MLP": {"A": (0.012, 0.054, 0.006), "M-1": (0.003, 0.003, 0.003), "M-10": (0.047, 0.093, 0.030),
                      "T-50%": (0.032, 0.096, 0.026), "L": (0.022, 0.065, 0.028)},
    "Index + BiGRU": {"A": (0.002, 0.006, 0.003), "M-1": (0.002, 0.004, 0.001), "M-10": (0.026, 0.052, 0.018),
                      "T-50%": (0.011, 0.049, 0.007), "L": (0.008, 0.015, 0.005)},
    "Cos/Sin + BiGRU": {"A": (0, 0.002, 0), "M-1": (0.005, 0.010, 0.004), "M-10": (0.010, 0.031, 0.007),
                        "T-50%": (0.006, 0.046, 0.004), "L": (0, 0.005, 0.001)},
}  # fmt: skip


class Errors(NamedTuple):
    """Root mean squared errors of coefficients."""

    seen: float
    smaller: float
    larger: float


def train(
    design: str, pattern: str, *, steps: int, seed: int, batch: int = 32, size: int = 64
) -> tuple[Coefficients, float]:
    """Train a pooling to give what a pattern gives; return its coefficients and the seconds it took.

    Args:
        design: of :data:`DESIGNS`.
        pattern: of :data:`PATTERNS`.
        steps: updates, with a rate that falls to zero as a cosine.
        seed: of the weights and of the sets.
        batch: sets an update.
        size: dimensions of an element.
    """
    torch.manual_seed(seed)
    coefficients = build_coefficients(DESIGNS[design], hidden=size)
    pooling = GeneralizedPooling(coefficients)
    optimizer = torch.optim.Adam(coefficients.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = time.perf_counter()
    for _ in range(steps):
        sizes = torch.randint(SEEN.start, SEEN.stop, (batch,))
        mask = within(sizes, SEEN.stop - 1)
        features = torch.randn(batch, SEEN.stop - 1, size)
        ordered = features.masked_fill(~mask.unsqueeze(-1), -torch.inf).sort(dim=1, descending=True).values
        ordered = ordered.masked_fill(~mask.unsqueeze(-1), 0)
        wanted = (PATTERNS[pattern](sizes, ordered.shape[1]).unsqueeze(1) @ ordered).squeeze(1)
        # The sets are sorted already: what is learnt are the coefficients.
        found = (pooling.weights(sizes, ordered.shape[1]).unsqueeze(1) @ ordered).squeeze(1)
        optimizer.zero_grad()
        (found - wanted).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(coefficients.parameters(), CLIP)
        optimizer.step()
        schedule.step()
    return coefficients.eval(), time.perf_counter() - start


@torch.no_grad()
def error(coefficients: Coefficients, pattern: str, sizes: Sequence[int]) -> float:
    """Return the root mean squared error of the coefficients over all ranks of the sizes."""
    asked = torch.tensor(sizes)
    width = int(asked.max())
    difference = coefficients(asked, width) - PATTERNS[pattern](asked, width)
    return float(difference[within(asked, width)].square().mean().sqrt())


def measure(design: str, pattern: str, *, steps: int, seed: int) -> tuple[Errors, float]:
    """Train one cell of the table; return its errors and its seconds."""
    coefficients, seconds = train(design, pattern, steps=steps, seed=seed)
    return Errors(*(error(coefficients, pattern, sizes) for sizes in (SEEN, SMALLER, LARGER))), seconds


def kept_cell(path: Path | None, design: str, pattern: str, *, steps: int, seed: int) -> tuple[Errors, float]:
    """Return a cell of the table from a file of finished cells, or train it and add it there."""
    cells = json.loads(path.read_text("utf-8")) if path is not None and path.is_file() else {}
    name = f"{design}, {pattern}, {steps} steps, seed {seed}"
    if name not in cells:
        errors, seconds = measure(design, pattern, steps=steps, seed=seed)
        if path is None:
            return errors, seconds
        cells = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        cells[name] = [*errors, seconds]
        path.write_text(json.dumps(cells, indent=1) + "\n", "utf-8")
    return Errors(*cells[name][:3]), cells[name][3]


def shown(value: float) -> str:
    return "0" if value < 0.0005 else f"{value:.3f}".removeprefix("0")


def table(results: dict[tuple[str, str], tuple[Errors, float]]) -> str:
    """Return the results beside the paper's as Markdown."""
    lines = [
        "| design | pattern | seen | paper | smaller / larger | paper | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for (design, pattern), (errors, seconds) in results.items():
        seen, smaller, larger = PAPER[design][pattern]
        lines.append(
            f"| {design} | {pattern} | {shown(errors.seen)} | {shown(seen)} | {shown(errors.smaller)} / "
            f"{shown(errors.larger)} | {shown(smaller)} / {shown(larger)} | {seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def plot(results: dict[tuple[str, str], tuple[Errors, float]]) -> str:
    """Return a picture of the errors on seen sizes, ours solid and the paper's hollow, as SVG."""
    left, row, bar, scale, highest = 190, 22, 7, 520, 0.08
    parts = []
    for number, ((design, pattern), (errors, _)) in enumerate(results.items()):
        top = 46 + number * row
        paper = PAPER[design][pattern][0]
        parts.append(f'<text x="{left - 8}" y="{top + 12}" text-anchor="end">{design}, {pattern}</text>')
        for value, offset, style in ((errors.seen, 0, 'fill="#2b6cb0"'), (paper, bar + 1, 'fill="#cbd5e0"')):
            width = max(1.0, min(value, highest) / highest * scale)
            parts.append(f'<rect x="{left}" y="{top + offset}" width="{width:.1f}" height="{bar}" {style}/>')
    ticks = [
        f'<line x1="{left + share * scale}" y1="36" x2="{left + share * scale}" y2="{46 + len(results) * row}" '
        f'stroke="#e2e8f0"/><text x="{left + share * scale}" y="30" text-anchor="middle">{share * highest:.2f}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    title = "RMSE of the coefficients on seen sizes: vltk (blue), paper (grey)"
    size = f'width="{left + scale + 40}" height="{60 + len(results) * row}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/><text x="8" y="14" font-size="13">{title}</text>'
        f"{''.join(ticks)}{''.join(parts)}</svg>\n"
    )


def main(arguments: Sequence[str] | None = None) -> dict[tuple[str, str], tuple[Errors, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--design", default="Cos/Sin + BiGRU", help=f"all, or one of {', '.join(DESIGNS)}")
    parser.add_argument("--pattern", action="append", choices=list(PATTERNS), help="all where left out; repeatable")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="file of finished cells, which are not trained again")
    parser.add_argument("--out", type=Path, help="write the table as Markdown")
    parser.add_argument("--plot", type=Path, help="write a picture of it as SVG")
    chosen: Any = parser.parse_args(arguments)
    torch.set_num_threads(1)
    designs = list(DESIGNS) if chosen.design == "all" else [chosen.design]
    results = {}
    for design in designs:
        for pattern in chosen.pattern or PATTERNS:
            results[design, pattern] = kept_cell(chosen.keep, design, pattern, steps=chosen.steps, seed=chosen.seed)
            errors, seconds = results[design, pattern]
            shown_errors = "  ".join(f"{name} {value:.4f}" for name, value in errors._asdict().items())
            print(f"{design:<16} {pattern:<6} {shown_errors}  ({seconds:.0f} s)", flush=True)
    if chosen.out:
        chosen.out.write_text(table(results), "utf-8")
    if chosen.plot:
        chosen.plot.write_text(plot(results), "utf-8")
    return results


if __name__ == "__main__":
    main()
