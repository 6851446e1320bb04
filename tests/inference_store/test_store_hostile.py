"""What somebody may try with the store: it is refused, or kept as the data that it is.

More of it is beside what it concerns: names in archives (`test_store_safe_paths`,
`test_store_export`), keys in storages (`test_store_blobs`, `test_store_upload`), numbers
(`test_store_values`), what cannot be stored (`test_store_inference`, `test_store_arguments`).
"""

from __future__ import annotations

import zipfile
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, inspect, update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.register import put_model
from pixano_cli.inference_store.verify import verify
from pixano_cli.media.flight import path_of

from .requests import CAT, MODEL_ID, create, found, fresh, registration, search, texts

SQL = (
    "'",
    '"',
    "\\",
    "%",
    "_",
    "?",
    ":id",
    "$1",
    "%s",
    "%(model)s",
    "{x}",
    "--",
    "/* ",
    ";",
    "'; DROP TABLE inferences; --",
    "' OR '1'='1",
    "x') UNION SELECT 1 --",
    "$$x$$",
    "E'\\x27'",
    "CASE",
)
hostile = st.lists(st.sampled_from(SQL), min_size=1, max_size=3).map("".join) | texts(max_size=8)
Kind = istore.MetadataFilterType
EQUAL = istore.MetadataFilterOperator.EQUAL


def metadata(key: str, kind: Kind, value: str) -> dict[str, Any]:
    asked = istore.MetadataFilter(key=key, operator=EQUAL, type=kind, value=value)
    return {"metadata_filter": [asked]}


def labelled(label: str) -> dict[str, Any]:
    return {"deconstructed_inference_filter": istore.DeconstructedInferenceFilter(labels=[label])}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hostile.filter(bool), hostile, hostile)
@example("'; DROP TABLE inferences; --", "' OR '1'='1", "%")
@example("%(model)s", ":id", "?")
def test_any_text_is_data(store: istore.Store, name: str, value: str, other: str) -> None:
    """It comes back as it was, and is found by what equals it, and by nothing else."""
    fresh(store)
    with store.write() as connection:
        put_model(connection, registration())
        put_model(connection, registration(name, project_id=value))
    assert istore.get_registered_model(name) is not None
    texts_of = {"data_source": value, "data_hash": value, "metadata": {name: ("string", value)}}
    created = create(name, [CAT | {"label": value}], **texts_of)
    create("plain")
    assert istore.get_inference(MODEL_ID, name) == created
    assert (created.inference_id, created.data_source, created.data_hash) == (name, value, value)
    for text in (value, other):
        ids = [name] if text == value else []
        assert found(data_source_filter=text) == ids
        assert found(data_hash_filter=text) == ids
        assert found(**metadata(name, Kind.STRING, text)) == ids
        assert found(**metadata(name, Kind.JSON_STRING, text)) == []
        if text != CAT["label"]:
            assert found(**labelled(text)) == ids
    (read,) = istore.get_metadata(MODEL_ID, name)
    assert (read.key, read.value) == (name, value)
    counts = istore.get_metadata_key_type_counts(MODEL_ID)
    assert counts is not None
    assert counts.counts == {name: {"string": 1}}
    request = istore.NewGetMetadataStatisticsRequest(
        key=name, type=istore.MetadataStatisticsType.STRING
    )
    measured = istore.get_metadata_statistics(MODEL_ID, request)
    assert measured is not None
    assert measured.distribution == {value: 1}
    assert len(istore.bulk_delete_inferences(MODEL_ID, search(data_hash_filter=value).filters)) == 1
    assert found() == ["plain"]
    with store.read() as connection:
        tables = set(inspect(connection).get_table_names())
    assert tables >= set(schema.tables.tables)


@pytest.mark.parametrize("text", ["a\0", "\ud800", "caf\udce9"])
def test_filters_of_texts_that_no_database_holds(store: istore.Store, text: str) -> None:
    create("one")
    filters: list[dict[str, Any]] = [
        {"data_source_filter": text},
        {"data_hash_filter": text},
        labelled(text),
        metadata(text, Kind.STRING, "a"),
        metadata("a", Kind.STRING, text),
        metadata(text, Kind.JSON_INT, "1"),
    ]
    for each in filters:
        request = search(**each)
        for ask, asked in (
            (istore.filter_inferences, request),
            (istore.count_inferences, request),
            (istore.bulk_delete_inferences, request.filters),
        ):
            with pytest.raises(StoreError, match=r"holds (a NUL character|half a surrogate pair)"):
                ask(MODEL_ID, asked)  # type: ignore[arg-type]
    assert found() == ["one"]


CLIMBING = [
    "../../secret",
    "..",
    "a/../../../secret",
    "/etc/passwd",
    "data/../../secret",
    "a\\..\\b",
]


@pytest.mark.parametrize("key", CLIMBING)
def test_keys_that_climb_out_of_the_storage_are_refused(store: istore.Store, key: str) -> None:
    with pytest.raises(StoreError, match=r"storage key .* is refused"):
        create("one", data_storage_key=key)
    assert found() == []


@pytest.mark.parametrize("key", CLIMBING)
def test_keys_that_somebody_wrote_into_the_database_lead_nowhere(
    place: str, tmp_path: Path, key: str
) -> None:
    """Past all code of the tool; what is there is neither read nor removed."""
    blobs = tmp_path / "deep" / "blobs"
    secrets = [tmp_path / "secret", tmp_path / "deep" / "secret"]
    blobs.mkdir(parents=True)
    for secret in secrets:
        secret.write_bytes(b"s3cr3t")
    with istore.connect(place, blobs=blobs) as store:
        create("one", metadata={"file_name": ("string", key)})
        with store.write() as connection:
            connection.execute(update(schema.inferences).values(data_storage_key=key))
            row = {"storage_key": key, "model_id": MODEL_ID, "size": 6, "created_at": 0}
            connection.execute(insert(schema.blobs).values(row))
        asked = istore.NewExportTaskRequest(include_custom_metadata=True)
        with suppress(StoreError):
            task = istore.create_export_task(MODEL_ID, asked)
            assert task is not None
            with zipfile.ZipFile(path_of(task.presigned_url or "")) as archive:
                assert not any(b"s3cr3t" in archive.read(name) for name in archive.namelist())
        assert not verify(store, deep=True).is_sound
        verify(store, deep=True, repair=True)
        with suppress(StoreError):
            istore.bulk_delete_inferences(MODEL_ID, istore.BaseInferenceFilter())
        assert found() == []
        verify(store, deep=True, repair=True)
    assert [secret.read_bytes() for secret in secrets] == [b"s3cr3t"] * 2


class TestNumbers:
    @pytest.mark.parametrize(
        "number",
        [2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400, 10**4000, -(10**400)],
        ids=lambda number: f"{number:.0e}" if abs(number) < 1e300 else f"{len(str(number))} digits",
    )
    def test_integers_of_any_size(self, store: istore.Store, number: int) -> None:
        create("one", metadata={"n": ("int", str(number)), "j": ("json", f'{{"n": {number}}}')})
        create("next", metadata={"n": ("int", str(number + 1))})
        kept = {each.key: each.value for each in istore.get_metadata(MODEL_ID, "one")}
        assert int(kept["n"]) == number
        assert found(**metadata("n", Kind.INT, str(number))) == ["one"]
        assert found(**metadata("j.n", Kind.JSON_INT, str(number))) == ["one"]
        request = istore.NewGetMetadataStatisticsRequest(
            key="n", type=istore.MetadataStatisticsType.INT
        )
        measured = istore.get_metadata_statistics(MODEL_ID, request)
        assert measured is not None
        assert measured.count == 2

    @pytest.mark.parametrize(
        "text",
        ["nan", "inf", "-inf", "1e999", "0x10", "1_000", "9" * 5000],
        ids=lambda text: text[:9],
    )
    def test_what_is_no_number_is_kept_and_found_by_no_comparison(
        self, store: istore.Store, text: str
    ) -> None:
        kind = "int" if text.startswith("9") else "float"
        create("one", metadata={"n": (kind, text)})
        (read,) = istore.get_metadata(MODEL_ID, "one")
        assert read.value == text
        for operator in istore.MetadataFilterOperator:
            value = "[1]" if operator == istore.MetadataFilterOperator.IN else "1"
            asked = istore.MetadataFilter(key="n", operator=operator, type=Kind(kind), value=value)
            assert found(metadata_filter=[asked]) == []

    def test_pages_of_any_size(self, store: istore.Store) -> None:
        create("one")
        huge = 10**30
        assert found(istore.Pagination(limit=huge)) == ["one"]
        assert found(istore.Pagination(limit=huge, offset=huge)) == []

    def test_the_far_ends_of_time(self, store: istore.Store) -> None:
        created = create("one").created_at
        for start, end, ids in (
            (datetime.min, datetime.max, ["one"]),
            (datetime.max, datetime.min, []),
            (created.replace(tzinfo=None) + timedelta(days=1), datetime.max, []),
        ):
            window = istore.TimeWindowFilter(
                start=start.isoformat() + "Z", end=end.isoformat() + "Z"
            )
            assert found(time_window_filter=window) == ids

    def test_scores_at_the_ends_of_what_a_double_holds(self, store: istore.Store) -> None:
        scores = [1.7e308, -1.7e308, 5e-324, -0.0]
        for index, score in enumerate(scores):
            create(f"{index}", [CAT | {"score": score}])
        for index, score in enumerate(scores):
            asked = istore.DeconstructedInferenceFilter(minimum_score=score, maximum_score=score)
            assert found(deconstructed_inference_filter=asked) == [f"{index}"]
