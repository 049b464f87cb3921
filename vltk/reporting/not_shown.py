"""What the models of a page cannot give, and why, so that nobody looks for it in vain."""

from __future__ import annotations

from collections.abc import Sequence

from vltk.reporting.evidence import Evidence
from vltk.reporting.joint_attention import LOOKED_AT
from vltk.reporting.page import Section, table
from vltk.reporting.picture_attention import correlates
from vltk.reporting.pooling import pools

_INTRO = "Views of other models that these have no part for. What could be measured and was not is named above."
_APART = "embeds texts and pictures each alone, so that no word meets a region"
_STREAMS = "normalises attention within a side and across sides apart, and the patterns weigh one against the other"
_PROBED = "is measured by its probes, whose distances are the relations that it learns (vltk probe)"
_STATE = "takes a state of its own for the pair and pools no set"
_MEMORY = "reads regions one after the other into a memory and pools no set"
_POOLED = "pools its regions, of which none has a state in the space of the picture's vector"
_NO_PICTURE = "makes no vector of a picture alone that regions could be compared with"


def reasons(model: str) -> dict[str, str]:
    """Return the views that a kind of model cannot have, each with the reason.

    Args:
        model: a kind, e.g. "uniter" or "lxmert".

    Example:
        >>> list(reasons("vse"))[:2]
        ['attention of words to regions', 'patterns of heads']
        >>> "relation consistency (ISDa)" in reasons("uniter")
        False
    """
    joint = model in LOOKED_AT
    found: dict[str, str | None] = {
        "attention of words to regions": None if joint else _APART,
        "patterns of heads": _STREAMS if model in ("ssrp", "lxmert") else None if joint else _APART,
        "relation consistency (ISDa)": _PROBED if model == "ssrp" else None if joint else _APART,
        "dependency trees": None if joint else _APART,
        "pooling coefficients": None if pools(model) else _STATE if joint else _MEMORY,
        "what a picture's embedding speaks of": None if correlates(model) else _NO_PICTURE if joint else _POOLED,
    }
    return {view: reason for view, reason in found.items() if reason is not None}


def not_shown(runs: Sequence[Evidence]) -> Section:
    """Return a line for each reason why some runs have no part for some views; nothing where all have all."""
    section = Section(key="not-shown", title="What these models do not have", intro=_INTRO)
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for run in runs:
        for view, reason in reasons(run.model).items():
            views, names = found.setdefault(f"{run.model} {reason}.", ({}, {}))
            views[view] = names[run.name] = None
    if found:
        rows = [[", ".join(names), "; ".join(views), reason] for reason, (views, names) in found.items()]
        section.parts.append(table(["runs", "have no view of", "why"], rows))
    return section
