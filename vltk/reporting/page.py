"""One page that needs nothing else: no server, no network, no script; for screens of any size, paper and the dark."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import vltk
from vltk.reporting.drawing import Figure
from vltk.reporting.palette import FONT, page_style
from vltk.reporting.tree_figure import GOLD, PREDICTED

_LONG = 40
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = f"""
*{{box-sizing:border-box}}html{{-webkit-text-size-adjust:100%;scroll-behavior:smooth}}
body{{font:16px/1.5 {FONT};margin:0 auto;max-width:75rem;padding:0 1rem 4rem;color:var(--ink);background:var(--paper)}}
h1{{font-size:1.7rem;line-height:1.2;margin:2rem 0 .5rem}}h2{{font-size:1.25rem;margin:2.8rem 0 .6rem;padding-top:.8rem;
border-top:1px solid var(--grid)}}h3{{font-size:1rem;margin:1.6rem 0 .4rem}}p{{max-width:46rem;margin:.5rem 0}}
a{{color:var(--c0)}}nav ul{{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:.6rem 0}}
figcaption{{margin-top:.4rem}}.lead,.note,figcaption,.missing{{color:var(--muted)}}.note,figcaption,.missing{{font-size:.875rem}}
.intro{{color:var(--muted);margin:.2rem 0 1rem}}
code span{{display:inline-block;max-width:100%}}
.missing{{border-left:3px solid var(--grid);padding-left:.7rem;margin:.6rem 0}}
code{{font:.85em ui-monospace,Menlo,Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere}}
.figures{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));
gap:1.6rem 2rem;margin:1rem 0}}figure{{margin:0;max-width:440px;break-inside:avoid}}
figure>svg{{width:100%;height:auto;display:block;overflow:visible}}
svg text{{font-family:{FONT}}}.wide{{max-width:none}}
.scroll{{overflow-x:auto;margin:.8rem 0;background:linear-gradient(90deg,var(--paper) 1.5rem,transparent),
linear-gradient(270deg,var(--paper) 1.5rem,transparent) 100% 0,linear-gradient(90deg,var(--shade),transparent),
linear-gradient(270deg,var(--shade),transparent) 100% 0;background-repeat:no-repeat;
background-size:2.5rem 100%,2.5rem 100%,.7rem 100%,.7rem 100%;background-attachment:local,local,scroll,scroll}}
table{{border-collapse:collapse;font-size:.875rem}}
th,td{{text-align:left;padding:.25rem .9rem .25rem 0;border-bottom:1px solid var(--grid);vertical-align:top}}
.scroll td,.scroll th{{white-space:nowrap}}.scroll .long{{white-space:normal;min-width:16rem}}
th{{font-weight:600;color:var(--muted)}}.num{{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}}
.cards{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,255px),1fr));gap:1.2rem}}
.card{{background:var(--panel);border-radius:8px;padding:.9rem 1.1rem;break-inside:avoid;min-width:0}}
.card h3{{margin:0 0 .5rem}}
dl{{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem .9rem;margin:.5rem 0;font-size:.875rem}}
dt{{color:var(--muted)}}dd{{margin:0;overflow-wrap:anywhere}}
details{{margin:.5rem 0;font-size:.875rem}}summary{{cursor:pointer;color:var(--c0)}}
.chip{{display:inline-block;width:.75em;height:.75em;border-radius:50%;margin-right:.4em}}
.trees{{overflow-x:auto}}.trees>svg{{fill:var(--ink)}}.picture-tree{{max-width:100%;height:auto}}
.trees [stroke="{GOLD}"]{{stroke:var(--ink)}}
.trees [stroke="{PREDICTED}"]{{stroke:var(--c1)}}.trees [fill="{PREDICTED}"]{{fill:var(--c1)}}
.trees text[stroke]{{stroke:var(--paper)}}
@media (max-width:40rem){{.scroll tr>:first-child{{position:sticky;left:0;background:var(--paper);
white-space:normal;min-width:7.5rem;padding-right:.5rem}}.scroll .long{{min-width:13rem}}}}
@media print{{body{{max-width:none;padding:0;font-size:10.5pt}}nav,summary,.screen{{display:none}}
h2,h3,.intro,.note{{break-after:avoid}}
.card{{border:1px solid var(--grid);break-inside:auto}}.scroll{{overflow:visible}}
.figures,.cards{{grid-template-columns:repeat(2,minmax(0,1fr))}}
details::details-content{{content-visibility:visible;display:block}}
a{{color:inherit;text-decoration:none}}table{{font-size:8pt}}.trees>svg{{max-width:100%;height:auto}}}}
"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures that stand side by side.

    Attributes:
        figures: in their order.
        shown: whether the page shows them; others are files only.
        bare: leave the frame that sets them side by side to what stands around them.
    """

    figures: Sequence[Figure]
    shown: bool = True
    bare: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
        key: its address within the page.
        title: as the table of contents has it.
        intro: what there is to see, for somebody who sees it for the first time; `code` between backticks.
        parts: HTML and figures in their order.
        style: rules that this section alone needs.
    """

    key: str
    title: str
    intro: str = ""
    parts: list[str | Figures] = field(default_factory=list)
    style: str = ""

    def figures(self) -> list[Figure]:
        """Return all its figures, those that are files only included."""
        return [figure for part in self.parts if isinstance(part, Figures) for figure in part.figures]


def render(sections: Sequence[Section], *, title: str, lead: str) -> str:
    """Return the page.

    Args:
        sections: in their order; those without a part are left out.
        title: what it is about.
        lead: HTML of a sentence or two below the title.

    Example:
        >>> page = render([Section(key="a", title="A <b>", parts=["<p>told</p>"])], title="run", lead="")
        >>> "A &lt;b&gt;" in page, "http://" in page
        (True, False)
    """
    filled = [section for section in sections if section.parts]
    links = "".join(f'<li><a href="#{one.key}">{html.escape(one.title)}</a></li>' for one in filled)
    body = "".join(_section(one) for one in filled)
    style = page_style() + _STYLE + "".join(dict.fromkeys(one.style for one in filled))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="generator" content="vltk {vltk.__version__}"><style>{style}</style></head>\n'
        f'<body><header><h1>{html.escape(title)}</h1><p class="lead">{lead}</p></header>\n'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>{body}</main></body></html>\n'
    )


def _section(section: Section) -> str:
    parts = [part if isinstance(part, str) else _figures(part) for part in section.parts]
    intro = paragraph(section.intro, kind="intro") if section.intro else ""
    return f'<section id="{section.key}"><h2>{html.escape(section.title)}</h2>\n{intro}{"".join(parts)}</section>\n'


def _figures(part: Figures) -> str:
    if not part.shown:
        return ""
    shown = [f"<figure>{one.inline()}{_caption(one)}</figure>" for one in part.figures]
    return "".join(shown) if part.bare else f'<div class="figures">{"".join(shown)}</div>\n'


def _caption(figure: Figure) -> str:
    return f"<figcaption>{html.escape(figure.caption)}</figcaption>" if figure.caption else ""


def paragraph(text: str, *, kind: str = "") -> str:
    """Return a text as a paragraph; `what stands between backticks` is code."""
    parts = [
        f"<code>{_unbroken(part)}</code>" if place % 2 else html.escape(part)
        for place, part in enumerate(text.split("`"))
    ]
    told = f' class="{kind}"' if kind else ""
    return f"<p{told}>{''.join(parts)}</p>\n"


def _unbroken(command: str) -> str:
    """Return a command as HTML whose lines break between words alone, not after the hyphens of options."""
    return " ".join(f"<span>{html.escape(word)}</span>" for word in command.split())


def missing(what: str, command: str) -> str:
    """Return the line that says how to make what a run does not have."""
    return paragraph(f"{what}. To have it: `{command}`", kind="missing")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """Return a table of texts.

    Args:
        headings: of the columns.
        rows: of the same length.
        numeric: columns that are read from their right end.
    """
    kinds = [' class="num"' if place in numeric else "" for place in range(len(headings))]
    head = "".join(f"<th{kind}>{html.escape(text)}</th>" for kind, text in zip(kinds, headings, strict=True))
    body = "".join(
        "<tr>" + "".join(_cell(kind, text) for kind, text in zip(kinds, row, strict=True)) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'


def _cell(kind: str, text: str) -> str:
    # What is long wraps, so that the columns of numbers stay in view.
    kind = kind or (' class="long"' if len(text) > _LONG else "")
    return f"<td{kind}>{html.escape(text)}</td>"


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Return terms with what they are."""
    items = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{items}</dl>\n"


def folded(summary: str, content: str, *, paper: bool = True) -> str:
    """Return what is shown when somebody asks for it, and on paper unless ``paper`` says not."""
    kind = "" if paper else ' class="screen"'
    return f"<details{kind}><summary>{html.escape(summary)}</summary>{content}</details>\n"


def chip(colour: int) -> str:
    """Return a spot in the colour of a run."""
    return f'<span class="chip" style="background:var(--c{colour})"></span>'
