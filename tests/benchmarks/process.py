"""Running a program to its end, and what it took: time, processor time, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).parent
TOOL = str(Path(sys.executable).with_name("pixano-annotate"))


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program took.

    Attributes:
        seconds: Time from its start to its end.
        cpu_seconds: Time on processors, its threads and children together.
        peak_mb: Largest resident memory in megabytes.
        output: What it wrote on standard output.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    output: str


def run(*command: str | Path) -> Ended:
    """Run a program.

    The peak of its memory is never less than this process's own, as Linux counts it: so this
    process imports nothing large, and leaves the making of pictures to others.

    Raises:
        RuntimeError: If it fails; the text is the end of what it wrote on standard error.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PIXANO_STORE"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = perf_counter()
        child = subprocess.Popen(
            [os.fspath(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output, complaint = out.read().decode(), err.read().decode(errors="replace")
    if child.returncode != 0:
        raise RuntimeError(f"{command}: exit code {child.returncode}: {complaint[-2000:]}")
    return Ended(
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
        output,
    )


def tool(*arguments: str | Path) -> Ended:
    """Run pixano-annotate, as installed beside this Python."""
    return run(TOOL, *arguments)


def program(name: str, *arguments: str | Path) -> Ended:
    """Run a program of this folder with this Python."""
    return run(sys.executable, HERE / name, *arguments)


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def others_seconds() -> float | None:
    """Return the processor time that all other programs have taken so far; None if unknown."""
    try:
        times = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, *interrupts_and_stolen = map(int, times)
    busy = (user + nice + system + sum(interrupts_and_stolen)) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])
