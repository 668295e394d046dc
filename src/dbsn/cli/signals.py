"""Ctrl-C, SIGTERM and a closed terminal end the command in one line.

While the command starts, it ends at once: there is nothing to keep, and an interrupted import may fail in any way.
Later they are a KeyboardInterrupt, so that what was done is kept. Tested in tests/e2e/test_hostile.py.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command."""
STOPPED = "dbsn: stopped"


class Stops:
    """What to do at a signal that ends the command."""

    def __init__(self) -> None:
        self.is_running = False
        """Whether the command has started."""
        self.signal: int | None = None
        """The first signal that arrived."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise a KeyboardInterrupt, or end at once: during the start, or at a second signal."""
        if self.signal is not None or not self.is_running:
            os.write(2, f"{STOPPED}\n".encode())
            os._exit(128 + number)
        self.signal = number
        raise KeyboardInterrupt


@contextmanager
def stops() -> Iterator[Stops]:
    """Handle the signals within; a signal that the caller ignores (as nohup does) stays ignored."""
    handler, before = Stops(), {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in ENDING}
        for number, previous in before.items():
            if previous is not signal.SIG_IGN:
                signal.signal(number, handler)
    try:
        yield handler
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def say_stopped() -> None:
    """Print the line; the terminal may be closed."""
    try:
        print(STOPPED, file=sys.stderr, flush=True)
    except OSError:
        return
