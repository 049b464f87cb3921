"""One command in several processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import IO

from vltk.commands._terminal import Terminal

# How long the others may take once one has ended: to save where they were asked to stop, to give up where it failed.
SAVING_SECONDS, FAILING_SECONDS = 600.0, 15.0
_STOPPED = (75, 130)


def rank() -> int:
    """Return the number of this process among those of the run; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def alone_or_among(count: int, terminal: Terminal, *, begin: bool = True) -> Terminal:
    """Return where this process speaks: nowhere if another one of the run does.

    Args:
        count: processes that were asked for; the first to get here starts them all, and exits as they do.
        terminal: of the command.
        begin: start them; a plan needs none.
    """
    if count > 1 and begin and "WORLD_SIZE" not in os.environ:
        relaunch(count)
    return Terminal(quiet=True) if rank() else terminal


def relaunch(count: int) -> None:
    """Run the command line of this process in ``count`` processes that find each other, and exit as they do.

    The processes are told of each other as torchrun does it. Unlike torchrun, the exit code is theirs (75 after a
    saved checkpoint), signals reach them, and what one says is said once.

    Raises:
        SystemExit: always, with the exit code of the first process that failed, else 0.
    """
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        children = list(_start(count, logs))
        stack.enter_context(_forwarding(children))
        failed = _wait(children)
        if failed is not None and (children[0].returncode or 0) > 0:
            failed = 0  # it failed as well, and has said so on our stderr
        elif failed:
            logs[failed].seek(0)
            sys.stderr.write(logs[failed].read().decode(errors="replace"))
        raise SystemExit(0 if failed is None else children[failed].returncode % 256)


def _start(count: int, logs: Sequence[IO[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(port), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    for number in range(count):
        own = {"RANK": str(number), "LOCAL_RANK": str(number)}
        yield subprocess.Popen(
            [sys.executable, "-m", "vltk", *sys.argv[1:]],
            env=os.environ | shared | own,
            stdout=subprocess.DEVNULL if number else None,
            stderr=logs[number] if number else None,
        )


@contextlib.contextmanager
def _forwarding(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def forward(number: int, frame: FrameType | None) -> None:
        # A terminal sends Ctrl-C to the processes itself.
        for child in children if number != signal.SIGINT else ():
            child.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in children:
            child.kill()
            child.wait()


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Return which process failed first, None where none did; the others are given a while to end."""
    running = dict(enumerate(children))
    while running:
        for number, child in list(running.items()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if child.wait(0.2):
                    del running[number]
                    _end(running, SAVING_SECONDS if child.returncode in _STOPPED else FAILING_SECONDS)
                    return number
                del running[number]
    return None


def _end(running: dict[int, subprocess.Popen[bytes]], seconds: float) -> None:
    # What waits for a process that is gone waits for ever.
    for child in running.values():
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
