"""Options as parameters of a typer command; the only place that makes a ``typer.Option``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vltk.config.declaration import MISSING, Option, item_type, members

# A longer list of choices stands in the help text instead of beside the flag.
LONGEST_METAVAR = 24


def parameters(known: Sequence[Option]) -> list[Any]:
    """Return options as typer's parameters; the value of an absent flag is None, so that a file may give it."""
    import typer
    from typer.main import get_command

    def holder() -> None: ...

    holder.__signature__ = inspect.Signature([_parameter(target) for target in known])  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(holder)
    made: list[Any] = list(get_command(app).params)
    for target, parameter in zip(known, made, strict=True):
        if target.mark.get("positional"):
            parameter.display_type_rich = partial(_shown_type, _metavar(target))
    return made


def _shown_type(text: str, ctx: Any) -> str:
    return text


def _parameter(target: Option) -> inspect.Parameter:
    import typer

    item = item_type(target.hint)
    is_bool = members(target.hint) == (bool,)
    details: dict[str, Any] = {
        "help": markup(" ".join([target.help, *_hints(target)])) + _shown_default(target.default),
        "rich_help_panel": target.panel or None,
        "autocompletion": _completion(target.choices) if target.choices else None,
    }
    if target.mark.get("positional"):
        default = typer.Argument(None, metavar=target.flag, **details)
    else:
        off = f"/--no-{target.flag[2:]}" if is_bool and not target.mark.get("switch") else ""
        short = [target.mark["short"]] if target.mark.get("short") else []
        default = typer.Option(None, target.flag + off, *short, metavar="" if is_bool else _metavar(target), **details)
    annotation: Any = bool | None if is_bool else list[str] | None if item is not None else str | None
    return inspect.Parameter(target.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(target: Option) -> str:
    listed = "|".join(target.choices or ())
    if 0 < len(listed) <= LONGEST_METAVAR and not target.mark.get("package"):
        return f"<{listed}>"
    if target.choices is not None:
        return "<text>" if target.mark.get("positional") else f"<{target.name}>"
    words = {str: "text", int: "int", float: "float", Path: "path"}
    kinds = members(item_type(target.hint) or target.hint)
    return f"<{'|'.join(dict.fromkeys(words.get(kind, 'value') for kind in kinds))}>"


def _hints(target: Option) -> list[str]:
    """Return the sentences that follow an option's help."""
    positional, found = target.mark.get("positional"), []
    if target.choices is not None and (positional or _metavar(target) == f"<{target.name}>"):
        found.append(f"One of: {', '.join(target.choices) or 'none yet'}.")
    if item_type(target.hint) is not None and not positional:
        found.append("May be given several times.")
    return found


def _shown_default(value: Any) -> str:
    """Return what a help text says of a default; nothing where it goes without saying."""
    if value is MISSING or value is None or value is False or value == ():
        return ""
    shown = ", ".join(map(str, value)) if isinstance(value, tuple) else "on" if value is True else str(value)
    return f" [dim]{markup(f'[default: {shown}]')}[/dim]"


def _completion(choices: Sequence[str]) -> Any:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def markup(text: str) -> str:
    """Return a docstring's text for a terminal: brackets escaped, double backticks gone."""
    return re.sub(r"\[(?=[a-z#/@])", r"\\[", text.replace("``", ""))
