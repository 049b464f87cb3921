"""Whether a file has labels: all of its records or none, because a few missing ones would change a score unseen."""

from __future__ import annotations

from dataclasses import dataclass

from vltk.datasets._record import Record


@dataclass(slots=True)
class Labels:
    """Watches one file: the first record decides, the others must agree.

    Attributes:
        key: the key that holds the label; test sets lack it, or have null.
        expected: what the first record said, None before it.
    """

    key: str
    expected: bool | None = None

    def there(self, record: Record) -> bool:
        """Return whether the file has labels.

        Raises:
            DataError: the record differs from the first one.
        """
        has = record.has(self.key)
        if self.expected is None:
            self.expected = has
        if has != self.expected:
            problem = (
                "lacks {!r}, which the records before it have" if self.expected else "has {!r}, unlike those before"
            )
            raise record.fail(problem.format(self.key), remedy="a file has labels throughout, or none (a test set)")
        return has
