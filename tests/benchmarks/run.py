"""The numbers that the tool promises, each against a baseline measured in the same run.

`python tests/benchmarks/run.py [--only NAME] [--quick] [--json FILE] [--folder FOLDER]` prints a
line a figure; the exit code is 1 if one that is required does not hold. Pixano-annotate is that
which is installed beside the Python that runs this.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from time import monotonic

from again import again
from export_store import export_store
from figure import Figure
from help import start
from large_store import large_store
from memory import memory
from outputs import outputs
from process import others_seconds, processors
from remote import remote
from sam2_figures import sam2
from segment import segment
from similarity import similarity
from sizes import QUICK, Sizes
from speed import speed
from video import video

BENCHMARKS: Mapping[str, Callable[[Path, Sizes], Iterator[Figure]]] = {
    "speed": speed,
    "memory": memory,
    "again": again,
    "help": start,
    "outputs": outputs,
    "segment": segment,
    "store": large_store,
    "export-store": export_store,
    "remote": remote,
    "similarity": similarity,
    "video": video,
    "sam2": sam2,
}

QUIET = 0.05
"""The share of the processors that other programs may take before a figure is in doubt."""


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=[*BENCHMARKS], action="append", help="repeat for more")
    parser.add_argument("--quick", action="store_true", help="only see that they work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--folder", type=Path, help="work there and leave it, so that its pictures serve again"
    )
    options = parser.parse_args()
    machine = {
        "processors": processors(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    if options.quick:
        print("sizes for a smoke test: the figures mean nothing", flush=True)
    figures: list[Figure] = []
    busy = {}
    work = nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory()
    with work as folder:
        for name in options.only or BENCHMARKS:
            started, others = monotonic(), others_seconds()
            for figure in BENCHMARKS[name](Path(folder), QUICK if options.quick else Sizes()):
                figures.append(figure)
                print(figure.line(), flush=True)
            busy[name] = _share_of_others(others, monotonic() - started)
            if busy[name] > QUIET:
                print(
                    f"{name}: other programs took {busy[name]:.0%} of the processors meanwhile: "
                    "measure again when they rest",
                    flush=True,
                )
    if options.json:
        report = {
            "machine": machine,
            "taken_by_others": busy,
            "figures": [figure.to_dict() for figure in figures],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if options.quick or all(figure.holds is not False for figure in figures) else 1


def _share_of_others(before: float | None, seconds: float) -> float:
    after = others_seconds()
    if before is None or after is None:
        return 0.0
    return max(after - before, 0.0) / (seconds * processors())


if __name__ == "__main__":
    sys.exit(main())
