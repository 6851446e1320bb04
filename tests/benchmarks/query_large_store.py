"""`query_large_store.py STORE INFERENCES`: time every kind of filter on a store that is filled.

Prints JSON: for each search the seconds to its first page, the first time and again, those of the
processor, the seconds to its count, and how many pass. The file is read before, so that it is
memory that is searched and not a disk.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from fill_large_store import COMMON, FIRST_CAPTURE, LATE, MAIN, RUNS, SELDOM, SOURCES, record

from pixano_cli import inference_store as istore

AGAIN = 5
COUNTS = 2
BLOCK = 2**24
SORTED = "sorted by "
"""Searches that have to sort all that passes, which no index does, have names that begin so."""


def meta(key: str, symbol: str, kind: str, value: str) -> dict[str, str]:
    """Return a metadata filter."""
    return {"key": key, "operator": symbol, "type": kind, "value": value}


def around(latitude: float, longitude: float, radius: float) -> dict[str, Any]:
    """Return a location filter for a circle."""
    center = {"latitude": latitude, "longitude": longitude}
    return {"gps_coordinates_circle": {"center": center, "radius": radius}}


def between(*corners: float) -> dict[str, Any]:
    """Return a location filter for a rectangle."""
    south, west, north, east = corners
    points = {"p1": {"latitude": south, "longitude": west}}
    points["p2"] = {"latitude": north, "longitude": east}
    return {"gps_coordinates_rectangle": points}


def searches(count: int) -> Mapping[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the filters and the pagination of each search, by what it is."""

    def metadata(*filters: dict[str, str]) -> dict[str, Any]:
        return {"metadata_filter": list(filters)}

    def elements(**asked: Any) -> dict[str, Any]:
        return {"deconstructed_inference_filter": asked}

    def captured(share: float) -> str:
        return (FIRST_CAPTURE + timedelta(seconds=7 * count * share)).isoformat()

    last_run = meta("run_id", "=", "string", f"run-{RUNS - 1}")
    one = record(count // 2 // 10 * 10, count)
    filters: dict[str, dict[str, Any]] = {
        "nothing": {},
        "action": {"inference_action_filter": "detect"},
        "action, none": {"inference_action_filter": "predict"},
        "hash": {"data_hash_filter": one.data_hash},
        "source, a twentieth": {"data_source_filter": "/data/site-3"},
        "source, the last tenth": {"data_source_filter": f"/data/site-{SOURCES}"},
        "source, none": {"data_source_filter": "/data/nowhere"},
        "time, all": {"time_window_filter": {}},
        "time, none": {"time_window_filter": {"end": "2020-01-01T00:00:00Z"}},
        "string =, a tenth": metadata(meta("run_id", "=", "string", "run-3")),
        "string =, the last tenth": metadata(last_run),
        "string =, one": metadata(meta("captured_at", "=", "string", captured(0.5))),
        "string =, none": metadata(meta("run_id", "=", "string", "run-x")),
        "string !=, nine tenths": metadata(meta("run_id", "!=", "string", "run-0")),
        "string in, two tenths": metadata(meta("run_id", "in", "string", "[run-2, run-9]")),
        "string >=, all but the first fiftieth": metadata(
            meta("captured_at", ">=", "string", captured(0.02))
        ),
        "string >=, the last half": metadata(meta("captured_at", ">=", "string", captured(0.5))),
        "string >=, the last tenth": metadata(meta("captured_at", ">=", "string", captured(0.9))),
        "string <, the first half": metadata(meta("captured_at", "<", "string", captured(0.5))),
        "int =, one": metadata(meta("frame", "=", "int", str(count // 2))),
        "int in, three": metadata(meta("frame", "in", "int", f"[1, {count // 2}, {count - 9}]")),
        "int >, the last half": metadata(meta("frame", ">", "int", str(count // 2))),
        "int <=, the first half": metadata(meta("frame", "<=", "int", str(count // 2))),
        "int !=, all": metadata(meta("frame", "!=", "int", "-1")),
        "float <, half": metadata(meta("brightness", "<", "float", "0.5")),
        "float <, a hundredth": metadata(meta("brightness", "<", "float", "0.01")),
        "float <, a thousandth": metadata(meta("brightness", "<", "float", "0.001")),
        "float >=, all": metadata(meta("brightness", ">=", "float", "0")),
        "json.int =, a thousandth": metadata(meta("camera.id", "=", "json.int", "7")),
        "json.string =, a seventh": metadata(
            meta("camera.lens.name", "=", "json.string", "lens-3")
        ),
        "json.float >, half": metadata(meta("camera.lens.f", ">", "json.float", "0.5")),
        "json.float in, two": metadata(meta("camera.lens.f", "in", "json.float", "[0.1, 0.2]")),
        "circle, 500 m in the town": {"location_filter": around(48.85, 2.32, 500)},
        "circle, 20 km": {"location_filter": around(48.85, 2.32, 20_000)},
        "circle, 500 km": {"location_filter": around(48.85, 2.32, 500_000)},
        "circle, nowhere": {"location_filter": around(-40, 100, 500_000)},
        "rectangle, the town": {"location_filter": between(48.8, 2.25, 48.9, 2.4)},
        "rectangle, a tenth of a degree": {"location_filter": between(50, 10, 50.1, 10.1)},
        "rectangle, everywhere": {"location_filter": between(-90, -180, 90, 180)},
        "label, most": elements(labels=[COMMON]),
        "label, the last tenth": elements(labels=[LATE]),
        "label, a ten-thousandth": elements(labels=[SELDOM]),
        "label, none": elements(labels=["nothing such"]),
        "labels, two": elements(labels=[SELDOM, LATE]),
        "score, most": elements(minimum_score=0.5),
        "score, few": elements(minimum_score=0.99999),
        "score, a hundredth": elements(minimum_score=0.5, maximum_score=0.502),
        "label and score, many": elements(labels=[COMMON], minimum_score=0.5),
        "label and score, few": elements(labels=[COMMON], minimum_score=0.9999),
        "label and score, the last tenth": elements(labels=[LATE], minimum_score=0.9),
        "two: label and last run": metadata(last_run) | elements(labels=[COMMON]),
        "two: string and float": metadata(last_run, meta("brightness", "<", "float", "0.02")),
        "two: late label, first run": metadata(meta("run_id", "=", "string", "run-0"))
        | elements(labels=[LATE]),
        "two: circle and score": {"location_filter": around(48.85, 2.32, 20_000)}
        | elements(minimum_score=0.9),
        "three: action, source, label": {
            "inference_action_filter": "detect",
            "data_source_filter": f"/data/site-{SOURCES}",
        }
        | elements(labels=[COMMON]),
    }
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]]
    found = {name: (asked, {}) for name, asked in filters.items()}
    for name in ("nothing", "label, most", "string =, a tenth", "float <, half"):
        found[f"{name}, newest first"] = (filters[name], {"direction": "desc"})
    for name in ("nothing", "label, most"):
        found[f"{SORTED}time, from the middle: {name}"] = (
            filters[name],
            {"offset": count // 2},
        )
    for sort in ("score", "label"):
        found[f"{SORTED}{sort}: label, most"] = (filters["label, most"], {"sort": sort})
        found[f"{SORTED}{sort}: label, a ten-thousandth"] = (
            filters["label, a ten-thousandth"],
            {"sort": sort},
        )
    return found


def timed(call: Any, *arguments: Any) -> tuple[float, Any]:
    """Return the seconds a call took, and what it returned."""
    started = perf_counter()
    result = call(*arguments)
    return perf_counter() - started, result


def main(folder: str, count: str, only: str = "") -> None:
    """Search; print the times."""
    report = {}
    for file in Path(folder).glob("*.sqlite3"):
        with file.open("rb") as opened:
            while opened.read(BLOCK):
                pass
    with istore.connect(folder):
        for name, (filters, pagination) in searches(int(count)).items():
            if only not in name:
                continue
            request = istore.NewGetInferencesRequest.model_validate(
                {"filters": filters, "pagination": pagination}
            )
            first, page = timed(istore.filter_inferences, MAIN, request)
            busy = process_time()
            again = [timed(istore.filter_inferences, MAIN, request)[0] for _ in range(AGAIN)]
            busy = process_time() - busy
            counts = [timed(istore.count_inferences, MAIN, request) for _ in range(COUNTS)]
            report[name] = {
                "first": first,
                "again": sorted(again),
                "again_cpu": busy / AGAIN,
                "count": sorted(seconds for seconds, _ in counts),
                "passing": counts[0][1],
                "page": len(page),
            }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
