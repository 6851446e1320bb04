"""Whose a task is: the process that began it, without which it will never end."""

from __future__ import annotations

import os

from pixano_cli.inference_store import process
from pixano_cli.inference_store.blob_ledger import GRACE_US
from pixano_cli.inference_store.database import now


def this_process() -> str:
    """Return what a task's row says of its owner, where this process begins it."""
    pid = os.getpid()
    return f"{process.host()} {pid} {process.started(pid) or ''}"


def is_abandoned(owner: str | None, created_at: int) -> bool:
    """Return whether the process is gone that a task's row says it was begun by, and when.

    Another host's processes are not seen from here: those are given a day.
    """
    host, pid, since = (owner or "  ").rsplit(" ", 2)
    if host != process.host():
        return created_at < now() - GRACE_US
    return not process.is_alive(int(pid), since or None)
