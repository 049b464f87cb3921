"""Signals that ask a long command to stop: what is done is saved first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from vltk.errors import StoppedEarlyError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal


class StopRequest:
    """Whether a signal asked to stop; called, it says so."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None


@contextmanager
def stoppable(terminal: Terminal) -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGUSR1 and the first Ctrl-C into a request to stop; a second Ctrl-C stops at once.

    Work that obeys the request ends with StoppedEarlyError, which after Ctrl-C becomes KeyboardInterrupt.
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and request.signal is not None:
            raise KeyboardInterrupt
        request.signal = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        yield request
    except StoppedEarlyError as error:
        if request.signal != signal.SIGINT:
            raise
        terminal.say(str(error))
        raise KeyboardInterrupt from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
