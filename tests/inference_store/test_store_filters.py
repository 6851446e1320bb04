"""Each filter by example, and pagination."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.media.flight import path_of

from .inputs import create_with_data
from .requests import MODEL_ID, create, found, registration, search


def where(key: str, symbol: str, kind: str, value: str) -> dict[str, Any]:
    return {
        "metadata_filter": [{"key": key, "operator": symbol, "type": kind, "value": value}],
    }


def elements(*labelled: tuple[str, float | None]) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in labelled]


def set_time(store: istore.Store, inference_id: str, microseconds: int) -> None:
    table = schema.inferences
    with store.write() as connection:
        connection.execute(
            update(table)
            .where(table.c.inference_id == inference_id)
            .values(created_at=microseconds)
        )


def test_equalities(store: istore.Store) -> None:
    create("a", data_hash="h1", data_source="camera")
    create("b", data_hash="h2", data_source="Camera")
    create("c", data_hash="h1")
    assert found(data_hash_filter="h1") == ["a", "c"]
    assert found(data_source_filter="camera") == ["a"]
    assert found(inference_action_filter="detect") == ["a", "b", "c"]
    assert found(inference_action_filter="predict") == []
    assert found(data_hash_filter="h1", data_source_filter="camera") == ["a"]
    assert found(data_hash_filter="") == found(data_source_filter="") == []
    assert found() == ["a", "b", "c"]


def test_action(store: istore.Store) -> None:
    task = istore.TaskType.IMAGE_SEGMENTATION
    istore.register_model_for_inference_storage(registration("m", task))
    for action in (istore.InferenceAction.PREDICT, istore.InferenceAction.PREDICT_PROBA):
        create(action.value, None, model_id="m", task=task, action=action)
    request = search(inference_action_filter="predict")
    assert [each.inference_id for each in istore.filter_inferences("m", request)] == ["predict"]


def test_time_window(store: istore.Store) -> None:
    base = 1_700_000_000_000_000  # 2023-11-14T22:13:20Z
    for name, offset in (("a", 0), ("b", 1), ("c", 1_000_000)):
        create(name)
        set_time(store, name, base + offset)

    def within(start: str | None = None, end: str | None = None) -> list[str]:
        return found(time_window_filter={"start": start, "end": end})

    assert within("2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z") == ["a", "b", "c"]
    assert within("2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z") == ["a"]
    assert within("2023-11-14T22:13:20.000001Z") == ["b", "c"]
    assert within("2023-11-14T22:13:20.0000001Z") == ["b", "c"]
    assert within(end="2023-11-14T22:13:20.0000019Z") == ["a", "b"]
    assert within(end="2023-11-14T22:13:20.9Z") == ["a", "b"]
    assert within("2023-11-14T22:13:22Z") == []
    assert within() == ["a", "b", "c"]
    stamp = datetime.fromtimestamp(base // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert within(stamp, stamp) == ["a"]


def test_time_window_ends_now_and_starts_in_1970(store: istore.Store) -> None:
    create("future")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    set_time(store, "future", int(tomorrow.timestamp() * 1_000_000))
    create("old")
    set_time(store, "old", -1)
    assert found(time_window_filter={}) == []
    assert found(time_window_filter={"end": "9999-12-31T23:59:59Z"}) == ["future"]
    assert found(time_window_filter={"start": "0001-01-01T00:00:00Z"}) == ["old"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023-11-14",
        "2023-11-14T22:13:20",
        "2023-11-14 22:13:20Z",
        "2023-02-30T00:00:00Z",
        "2023-11-14T24:00:01Z",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:20+01:00",
        "2023-11-14T22:13:20Z\n",
        "\u0662023-11-14T22:13:20Z",
        "0000-01-01T00:00:00Z",
    ],
)
@pytest.mark.parametrize("side", ["start", "end"])
def test_other_times_are_refused(store: istore.Store, text: str, side: str) -> None:
    with pytest.raises(StoreError, match="is not YYYY-MM-DDTHH:MM:SSZ"):
        found(time_window_filter={side: text})


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        (("n", "=", "int", "5"), ["five", "five again"]),
        (("n", "=", "int", "+05"), ["five", "five again"]),
        (("n", "!=", "int", "5"), ["huge", "ten", "tiny"]),
        (("n", ">", "int", "5"), ["huge", "ten"]),
        (("n", ">=", "int", "5"), ["five", "five again", "huge", "ten"]),
        (("n", "<", "int", "10"), ["five", "five again", "tiny"]),
        (("n", "<=", "int", "10"), ["five", "five again", "ten", "tiny"]),
        (("n", "in", "int", "[10, 5,-1]"), ["five", "five again", "ten"]),
        (("n", "in", "int", "[]"), []),
        (("n", ">", "int", "9223372036854775807"), ["huge"]),
        (("n", "=", "int", str(10**30)), ["huge"]),
        (("n", "<", "int", str(-(2**63))), ["tiny"]),
        (("n", "=", "float", "5"), ["float"]),
        (("n", "<", "float", "1e308"), ["float"]),
        (("n", ">", "float", "5.1"), []),
        (("n", "=", "string", "5"), ["text"]),
        (("n", ">=", "string", ""), ["text"]),
        (("n", "in", "string", "[4, 5]"), ["text"]),
        (("n", "!=", "string", "6"), ["text"]),
        (("missing", "!=", "string", "6"), []),
        (("n", "=", "json.int", "5"), ["json"]),
        (("n", "=", "json.float", "5"), ["json"]),
        (("n", "=", "json.string", "5"), []),
    ],
)
def test_metadata(store: istore.Store, asked: tuple[str, str, str, str], ids: list[str]) -> None:
    for name, kind, value in (
        ("five", "int", "5"),
        ("five again", "int", "+05"),
        ("ten", "int", "10"),
        ("huge", "int", str(10**30)),
        ("tiny", "int", str(-(10**30))),
        ("no int", "int", "5.0"),
        ("float", "float", "5.0"),
        ("nan", "float", "nan"),
        ("infinite", "float", "1e999"),
        ("text", "string", "5"),
        ("json", "json", "5"),
        ("no json", "json", "{"),
    ):
        create(name, metadata={"n": (kind, value)})
    create("nothing")
    assert sorted(found(**where(*asked))) == sorted(ids)


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        (("x.y", "=", "json.int", "10"), ["plain", "dotted key"]),
        (("x.y", "!=", "json.int", "10"), []),
        (("x.s", "in", "json.string", "[a, b]"), ["plain"]),
        (("x.s", ">", "json.string", "a"), ["plain"]),
        (("x.y", "<", "json.float", "10.5"), ["plain", "dotted key"]),
        (("x.z.w", "=", "json.string", "deep"), ["plain"]),
        (("x.y.z", "=", "json.int", "10"), []),
        (("x", "=", "json.int", "10"), []),
        (("y", "=", "json.int", "10"), []),
    ],
)
def test_json_metadata(
    store: istore.Store, asked: tuple[str, str, str, str], ids: list[str]
) -> None:
    create("plain", metadata={"x": ("json", '{"y": 10, "s": "b", "z": {"w": "deep"}, "b": true}')})
    create("dotted key", metadata={"x.y": ("json", "10")})
    create("text", metadata={"x": ("string", '{"y": 10}')})
    create("array", metadata={"x": ("json", "[10]")})
    assert found(**where(*asked)) == ids


def test_metadata_filters_are_joined_by_and(store: istore.Store) -> None:
    create("a", metadata={"split": ("string", "train"), "n": ("int", "1")})
    create("b", metadata={"split": ("string", "train"), "n": ("int", "2")})
    create("c", metadata={"split": ("string", "test"), "n": ("int", "2")})
    both = where("split", "=", "string", "train")["metadata_filter"]
    both += where("n", "=", "int", "2")["metadata_filter"]
    assert found(metadata_filter=both) == ["b"]
    assert found(metadata_filter=[]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("n", "=", "int", "five"), "'five' is no int"),
        (("n", "=", "json.int", "5.0"), "'5.0' is no int"),
        (("n", "<", "float", "nan"), "'nan' is no float"),
        (("n", "in", "int", "5"), "'5' is no list"),
        (("n", "in", "int", "[5, x]"), "'x' is no int"),
    ],
)
def test_values_of_another_type_are_refused(
    store: istore.Store, asked: tuple[str, str, str, str], said: str
) -> None:
    with pytest.raises(StoreError, match=said):
        found(**where(*asked))


def test_locations(store: istore.Store) -> None:
    for name, latitude, longitude in (
        ("Notre-Dame", 48.8530, 2.3499),
        ("Louvre", 48.8606, 2.3376),  # 1.24 km away
        ("Big Ben", 51.5007, -0.1246),  # 343 km away
        ("Fiji", -17.7, 178.0),
        ("Samoa", -13.8, -172.1),
        ("pole", 90.0, 12.0),
    ):
        create(name, latitude=latitude, longitude=longitude)
    create("nowhere")

    def around(latitude: float, longitude: float, radius: float) -> list[str]:
        center = {"latitude": latitude, "longitude": longitude}
        circle = {"center": center, "radius": radius}
        return found(location_filter={"gps_coordinates_circle": circle})

    assert around(48.8530, 2.3499, 0) == ["Notre-Dame"]
    assert around(48.8530, 2.3499, 1230) == ["Notre-Dame"]
    assert around(48.8530, 2.3499, 1240) == ["Notre-Dame", "Louvre"]
    assert around(48.8530, 2.3499, 345_000) == ["Notre-Dame", "Louvre", "Big Ben"]
    assert around(-17.7, -179.0, 400_000) == ["Fiji"]
    assert around(90, -100, 1) == ["pole"]
    assert around(48.8530, 2.3499, -1) == []
    everywhere = ["Notre-Dame", "Louvre", "Big Ben", "Fiji", "Samoa", "pole"]
    assert around(0, 0, 20_016_000) == around(0, 0, float("inf")) == everywhere

    def between(p1: tuple[float, float], p2: tuple[float, float]) -> list[str]:
        corners = [{"latitude": each[0], "longitude": each[1]} for each in (p1, p2)]
        rectangle = {"p1": corners[0], "p2": corners[1]}
        return found(location_filter={"gps_coordinates_rectangle": rectangle})

    assert between((48, 2), (49, 3)) == ["Notre-Dame", "Louvre"]
    assert between((49, 2), (48, 3)) == between((48, 3), (49, 2)) == ["Notre-Dame", "Louvre"]
    assert between((51.5007, -0.1246), (51.5007, -0.1246)) == ["Big Ben"]
    assert between((-90, -180), (90, 180)) == everywhere
    assert between((-20, 170), (-10, -170)) == []

    circle = {"center": {"latitude": 48.85, "longitude": 2.35}, "radius": 10_000}
    rectangle = {
        "p1": {"latitude": 48.86, "longitude": 2},
        "p2": {"latitude": 49, "longitude": 3},
    }
    assert found(
        location_filter={"gps_coordinates_circle": circle, "gps_coordinates_rectangle": rectangle}
    ) == ["Louvre"]
    assert found(location_filter={}) == [*everywhere, "nowhere"]


@pytest.mark.parametrize(
    ("latitude", "longitude", "radius"),
    [(91, 0, 1), (0, -181, 1), (float("nan"), 0, 1), (0, 0, float("nan"))],
)
def test_places_that_are_none_are_refused(
    store: istore.Store, latitude: float, longitude: float, radius: float
) -> None:
    center = {"latitude": latitude, "longitude": longitude}
    with pytest.raises(StoreError, match="is no"):
        found(location_filter={"gps_coordinates_circle": {"center": center, "radius": radius}})


def test_one_element_satisfies_label_and_score(store: istore.Store) -> None:
    create("a", elements(("cat", 0.9), ("dog", 0.2)))
    create("b", elements(("cat", 0.1), ("dog", 0.8)))
    create("c", elements(("cat", None)))
    create("empty", [])
    create("no list", None)

    def having(**asked: Any) -> list[str]:
        return found(deconstructed_inference_filter=asked)

    assert having(labels=["cat"], minimum_score=0.5) == ["a"]
    assert having(labels=["dog"], minimum_score=0.5) == ["b"]
    assert having(labels=["cat"], maximum_score=0.1) == ["b"]
    assert having(labels=["cat"]) == ["a", "b", "c"]
    assert having(labels=["dog", "bird"]) == ["a", "b"]
    assert having(labels=[]) == []
    assert having(labels=["CAT"]) == []
    assert having(minimum_score=0.9) == ["a"]
    assert having(minimum_score=0.2, maximum_score=0.2) == ["a"]
    assert having(minimum_score=0.3, maximum_score=0.7) == []
    assert having(minimum_score=float("-inf"), maximum_score=float("inf")) == ["a", "b"]
    assert having() == ["a", "b", "c"]
    with pytest.raises(StoreError, match="bound is no number"):
        having(minimum_score=float("nan"))


def test_pages(store: istore.Store) -> None:
    for index in range(60):
        create(f"{index:02d}")
        set_time(store, f"{index:02d}", 1_000_000 + index // 7)
    every = [f"{index:02d}" for index in range(60)]

    def page(**asked: Any) -> list[str]:
        return found(istore.Pagination(**asked))

    assert page() == every[:50]
    assert page(limit=0) == []
    assert page(limit=3) == every[:3]
    assert page(limit=3, offset=58) == every[58:]
    assert page(offset=100) == []
    assert page(limit=2**70, offset=0) == every
    assert page(limit=5, offset=2**70) == []
    assert page(direction="asc", sort="created_at", limit=60) == every
    newest_first = sorted(every, key=lambda name: (-(int(name) // 7), name))
    assert page(direction="desc", limit=60) == newest_first
    request = search(istore.Pagination(limit=1, offset=59))
    assert istore.count_inferences(MODEL_ID, request) == 60
    default = istore.filter_inferences(MODEL_ID, istore.NewGetInferencesRequest())
    assert [each.inference_id for each in default] == every[:50]


def test_pages_of_few(store: istore.Store) -> None:
    """An index lists few: the first of them by id are the first by time, but for a clock's ways."""
    for index in range(12):
        create(f"{index:02d}", metadata={"run": ("string", "ba"[index % 2])})
        set_time(store, f"{index:02d}", 1_000_000 - index // 6)
    asked = where("run", "=", "string", "a")
    with store.write() as connection:
        connection.execute(update(schema.models).values(disorder=1))

    def page(**pagination: Any) -> list[str]:
        return found(istore.Pagination(**pagination), **asked)

    in_order = ["07", "09", "11", "01", "03", "05"]
    assert page() == in_order
    assert page(limit=0) == []
    assert page(limit=0, offset=2) == []
    assert page(limit=2, offset=2) == in_order[2:4]
    assert page(limit=2, offset=6) == []
    assert page(direction="desc") == ["01", "03", "05", "07", "09", "11"]
    assert page(direction="desc", limit=4) == ["01", "03", "05", "07"]


def test_places_on_the_edge_of_two_boxes_count_once(store: istore.Store) -> None:
    for name, longitude in (("west", -180.0), ("east", 180.0), ("near", 179.999)):
        create(name, latitude=0.0, longitude=longitude)
    circle = {"center": {"latitude": 0, "longitude": 180}, "radius": 1_000}
    asked = {"location_filter": {"gps_coordinates_circle": circle}}
    assert sorted(found(**asked)) == ["east", "near", "west"]
    assert istore.count_inferences(MODEL_ID, search(**asked)) == 3


def test_sorting_by_the_best_element(store: istore.Store) -> None:
    create("a", elements(("zebra", 0.1), ("cat", 0.5)))
    create("b", elements(("cat", 0.2), ("dog", 0.9)))
    create("c", elements(("ant", None), ("bee", 0.5), ("cow", 0.5)))
    create("d", elements(("elk", None)))
    create("e", [])

    def by(sort: str, direction: str | None = None) -> str:
        page = istore.Pagination.model_validate({"sort": sort, "direction": direction})
        return "".join(found(page))

    assert by("score") == "acbde"
    assert by("score", "desc") == "bacde"
    assert by("label") == "cabde"
    assert by("label", "desc") == "dbace"
    assert by("created_at", "desc") == "edcba"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"limit": -1}, "limit -1"),
        ({"offset": -1}, "offset -1"),
        ({"sort": "embedding_distance"}, "needs an embedding filter"),
    ],
)
def test_pages_that_are_none_are_refused(
    store: istore.Store, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(StoreError, match=said):
        found(istore.Pagination(**asked))


def test_urls_to_inputs_are_given_where_asked_for(store: istore.Store) -> None:
    create_with_data("kept", b"an image")
    create("not kept")
    request = istore.NewGetInferencesRequest(presign=True)
    kept, other = istore.filter_inferences(MODEL_ID, request)
    assert kept.presigned_url is not None
    assert path_of(kept.presigned_url).read_bytes() == b"an image"
    assert other.presigned_url is None
    plain = istore.filter_inferences(MODEL_ID, istore.NewGetInferencesRequest())
    assert [each.presigned_url for each in plain] == [None, None]


def test_metadata_of_a_large_page(store: istore.Store) -> None:
    for index in range(505):
        create(f"{index:03d}", None, metadata={"n": ("int", str(index))})
    page = istore.filter_inferences(MODEL_ID, search(istore.Pagination(limit=1000)))
    assert [(each.metadata or [])[0].value for each in page] == [str(n) for n in range(505)]


@pytest.mark.parametrize(
    ("kind", "stored", "others"),
    [
        ("int", "7", range(10, 3_000)),
        # Of these a double does not hold all digits.
        ("int", str(10**20 + 7), range(10**20 + 10, 10**20 + 3_000)),
        ("float", "0.5", range(10, 3_000)),
        ("string", "7", range(10, 3_000)),
        ("string", "x" * 300 + "7", [f"{'x' * 300}{each}" for each in range(10, 300)]),
    ],
    ids=["int", "large-int", "float", "string", "long-string"],
)
def test_one_of_very_many_values(
    store: istore.Store, kind: str, stored: str, others: Sequence[object]
) -> None:
    create("a", metadata={"k": (kind, stored)})
    create("b", metadata={"k": (kind, stored + "0000001")})
    without = ",".join(map(str, others))
    assert found(**where("k", "in", kind, f"[{without}]")) == []
    assert found(**where("k", "in", kind, f"[{without},{stored}]")) == ["a"]
    request = search(**where("k", "in", kind, f"[{without},{stored}]"))
    assert istore.count_inferences(MODEL_ID, request) == 1
