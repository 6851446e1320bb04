"""The benchmarks run: their figures at this size say nothing, but their code must not rot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).with_name("run.py")
NAMES = [
    *("speed", "memory", "again", "help", "outputs", "segment", "store", "export-store"),
    *("remote", "similarity", "video"),
]


def figures_of(folder: Path, *names: str) -> list[dict[str, Any]]:
    """Run benchmarks and check that what they print is what they write."""
    report = folder / "figures.json"
    options = ["--quick", "--json", str(report), "--folder", str(folder / "work")]
    options += [part for name in names for part in ("--only", name)]
    ended = subprocess.run(
        [sys.executable, str(RUN), *options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    figures: list[dict[str, Any]] = json.loads(report.read_bytes())["figures"]
    lines = [line for line in ended.stdout.splitlines() if ", ratio " in line]
    assert len(lines) == len(figures)
    for figure, line in zip(figures, lines, strict=True):
        assert line.startswith(f"{figure['benchmark']}: ")
        assert figure["value"] > 0
        assert figure["ratio"] == figure["value"] / figure["baseline"]
        assert (figure["required"] is None) == (figure["holds"] is None)
        assert (figure["required"] or "nothing required") in line
    return figures


def test_every_benchmark_gives_its_figures(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, *NAMES)
    assert {figure["benchmark"] for figure in figures} == set(NAMES)
    for name in ("segment", "video"):
        segmented = next(figure for figure in figures if figure["benchmark"] == name)
        assert segmented["detail"]["masks"] > 0


@pytest.mark.long
def test_those_that_need_torch_do_as_well(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sam2")
    figures = figures_of(tmp_path, "sam2")
    assert [figure["unit"] for figure in figures] == ["frames/s", "frames/s", "MB", "MB"]
