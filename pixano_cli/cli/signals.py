"""SIGINT and SIGTERM, from the first moment of the program to its last.

Where nothing is at stake a signal ends the program at once. Work that can stop in order is told
by an event instead, and a second signal ends that too. Either way the exit code tells.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_SHOW_CURSOR = b"\x1b[?25h"

# Signals come to a process, so what came of them is the process's too.
_received: int | None = None
_asked_to_stop: threading.Event | None = None


def handle_signals() -> None:
    """Handle the signals of this process from now on; called in its main thread."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _handle)


def stopping(work: Callable[[threading.Event], T]) -> T:
    """Do work that ends early, and in order, once the event it is given is set.

    It is done in a thread: the main one handles signals even while the work waits for a lock.
    """
    global _asked_to_stop
    _asked_to_stop = threading.Event()
    try:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(work, _asked_to_stop).result()
    finally:
        _asked_to_stop = None


def exit_code(code: int) -> int:
    """Return the exit code, which after a signal is never that of success."""
    return code if _received is None else 128 + _received


def _handle(number: int, _: Any) -> None:
    global _received
    if _asked_to_stop is None or _received is not None:
        text = b"" if _received is not None else b"pixano-annotate: interrupted\n"
        if os.isatty(2):
            text = _SHOW_CURSOR + b"\n" + text
        os.write(2, text)
        os._exit(128 + number)
    _received = number
    _asked_to_stop.set()
    os.write(2, b"\nstopping: what is in flight is still recorded (once more to quit now)\n")
