"""The benchmarks run: their figures at this size say nothing, but their code must not rot."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

RUN = Path(__file__).with_name("run.py")


def test_every_benchmark_gives_its_figures(tmp_path: Path) -> None:
    report = tmp_path / "figures.json"
    options = ["--quick", "--json", str(report), "--folder", str(tmp_path / "work")]
    ended = subprocess.run(
        [sys.executable, str(RUN), *options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(report.read_bytes())["figures"]
    with_torch = {"sam2"} if find_spec("sam2") and find_spec("torch") else set()
    assert {figure["benchmark"] for figure in figures} == with_torch | {
        "speed",
        "memory",
        "again",
        "help",
        "outputs",
        "segment",
        "store",
        "export-store",
        "remote",
        "similarity",
        "video",
    }
    lines = [line for line in ended.stdout.splitlines() if ", ratio " in line]
    assert len(lines) == len(figures)
    for figure, line in zip(figures, lines, strict=True):
        assert line.startswith(f"{figure['benchmark']}: ")
        assert figure["value"] > 0
        assert figure["ratio"] == figure["value"] / figure["baseline"]
        assert (figure["required"] is None) == (figure["holds"] is None)
        assert (figure["required"] or "nothing required") in line
    for name in ("segment", "video"):
        segmented = next(figure for figure in figures if figure["benchmark"] == name)
        assert segmented["detail"]["masks"] > 0
