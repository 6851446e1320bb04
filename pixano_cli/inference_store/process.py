"""Which process did something, and whether it still runs: what is left behind by a dead one."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path


def host() -> str:
    """Name what process ids mean something in: the machine, and in it the container."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()} {namespace}"


def started(pid: int) -> str | None:
    """Return when a process of this host was started, as text without spaces.

    A number that was given to another process meanwhile is told by it. None where the process
    is gone, or the system does not say.
    """
    status = _status(pid)
    if status is None:
        return None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    # proc(5): field 22, in clock ticks since the boot.
    return f"{boot}:{status[19]}"


def is_alive(pid: int, since: str | None = None) -> bool:
    """Return whether a process of this host runs.

    Args:
        pid: Its number.
        since: What `started` said of it; another one with its number is not it.
    """
    status = _status(pid)
    if status is not None and status[0] == "Z":
        return False
    if since is not None and status is not None:
        return started(pid) == since
    if sys.platform == "win32":
        # There the call below would end it.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _status(pid: int) -> list[str] | None:
    """Return the fields of proc(5)'s stat from the third on, the state of the process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is a name, which may hold spaces and brackets.
    return text.rpartition(")")[2].split()
