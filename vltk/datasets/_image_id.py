"""Image ids from a pattern, for files that know their pictures by a number only."""

from __future__ import annotations

from vltk.errors import UsageError


def filled(pattern: str, **values: object) -> str:
    """Return the image id that a pattern gives for the values.

    Raises:
        UsageError: the pattern names a value that is not there, formats it in a way that does not fit, or names none.

    Example:
        >>> filled("COCO_{subset}_{image_id:012d}", subset="val2014", image_id=42)
        'COCO_val2014_000000000042'
    """
    known = " and ".join(f"{{{name}}}" for name in values)
    try:
        name = pattern.format_map(values)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"image id pattern {pattern!r} cannot be filled ({error})", remedy=f"it may use {known}"
        ) from error
    if name == pattern:
        raise UsageError(f"image id pattern {pattern!r} gives every picture one id", remedy=f"use {known} in it")
    return name
