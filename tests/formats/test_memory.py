"""Ten times the annotations need no more memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WRITE = """
import resource, sys
from pathlib import Path
from pixano_cli.annotations import AnnotatedImage, Annotation, Box, Category, number
from pixano_cli.formats import write
from pixano_cli.rle import CompressedRLEData

name, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def images():
    for at in range(count // 10):
        found = tuple(
            Annotation(
                "cat",
                (at * 31 + index * 17) % 1000 / 1000,
                Box(index + at % 97 / 100, 0.34, 400.45 + at % 777, 1000.5),
                1234.56 + at,
                # Every other image has masks; no mask is read here.
                CompressedRLEData([1080, 1920], b"x" * 200 + b"%d" % at) if at % 2 else None,
            )
            for index in range(10)
        )
        yield AnnotatedImage(f"folder/{at}.jpg", f"{at:064x}", 1920, 1080, 1, found)

categories = [Category(1, "cat")]
write(name, number(images(), categories), path, categories, {"version": "1"})
try:
    # The peak of this process alone: ru_maxrss also holds what its parent had.
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
print(peak)
"""


def peak_megabytes(name: str, path: Path, annotations: int) -> float:
    run = subprocess.run(
        [sys.executable, "-c", WRITE, name, str(path), str(annotations)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout) / 1e6


@pytest.mark.parametrize("name", ["coco", "parquet"])
def test_a_quarter_of_a_million_annotations(tmp_path: Path, name: str) -> None:
    few = peak_megabytes(name, tmp_path / "few", 25_000)
    many = peak_megabytes(name, tmp_path / "many", 250_000)
    assert (tmp_path / "many").stat().st_size > 5 * (tmp_path / "few").stat().st_size
    assert many - few < 30


@pytest.mark.long
@pytest.mark.parametrize("name", ["coco", "parquet"])
def test_a_million_annotations(tmp_path: Path, name: str) -> None:
    few = peak_megabytes(name, tmp_path / "few", 100_000)
    many = peak_megabytes(name, tmp_path / "many", 1_000_000)
    assert many - few < 30
