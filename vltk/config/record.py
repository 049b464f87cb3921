"""The record of a configuration: plain values, the command line that gives it, the hash of what tells."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from vltk.config.declaration import FieldPath, Option, mark_of, options
from vltk.config.groups import RESERVED


def plain(value: Any) -> Any:
    """Return a value of a configuration as JSON knows it."""
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain JSON-able values; :func:`~vltk.config.from_dict` reads it back."""
    return {item.name: plain(getattr(config, item.name)) for item in dataclasses.fields(config)}


def arguments(config: Any) -> list[str]:
    """Return the command line that gives a configuration: its options that differ from their defaults.

    Example:
        >>> from vltk.config import CommonConfig
        >>> arguments(CommonConfig(seed=3, dry_run=True))
        ['--dry-run', '--seed', '3']
    """
    fields = dataclasses.fields(config)
    chosen: dict[FieldPath, type[Any]] = {
        (item.name,): type(value)
        for item in fields
        if "selector" in mark_of(item) and (value := getattr(config, item.name)) is not None
    }
    words: list[str] = []
    for target in options(type(config), chosen, reserved=RESERVED):
        value = functools.reduce(getattr, target.path, config)
        if value != target.default and value is not None:
            words += spelled(target, value)
    return words


def spelled(target: Option, value: Any) -> list[str]:
    """Return the words of a command line that give an option a value."""
    if isinstance(value, bool):
        return [target.flag if value else f"--no-{target.flag[2:]}"]
    values = [str(one) for one in (value if isinstance(value, tuple) else (value,))]
    return values if target.mark.get("positional") else [word for one in values for word in (target.flag, one)]


def config_hash(config: Any) -> str:
    """Return the SHA-256 of what can change a result: all options but the incidental ones."""
    text = json.dumps(telling(config), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def telling(config: Any) -> dict[str, Any]:
    """Return the options that can change a result as plain values, nested groups included."""
    values = {i.name: getattr(config, i.name) for i in dataclasses.fields(config) if not mark_of(i).get("incidental")}
    return {name: telling(one) if dataclasses.is_dataclass(one) else plain(one) for name, one in values.items()}
