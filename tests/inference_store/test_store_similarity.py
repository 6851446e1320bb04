"""Search by embedding: what plain Python finds, however the store looks for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import pages, runs, schema, similarity
from pixano_cli.inference_store.browse import latest_request, latest_vector
from pixano_cli.inference_store.records import Record, insert_records

from .requests import create, registration

METRICS = ["cosine", "l2", "negative_dot_product"]
DIMENSION = 3
model_ids = (f"embedder {number}" for number in count())


@dataclass(frozen=True)
class Embedded:
    """A record of a random store; a whole number of a few sizes makes many of them equal."""

    name: str
    vector: tuple[float, ...] | None
    source: str
    colour: str


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The folder beside a server's database is where one works."""
    monkeypatch.chdir(tmp_path)


def new_model(dimension: int = DIMENSION) -> str:
    model_id = next(model_ids)
    istore.register_model_for_inference_storage(
        registration(model_id, istore.TaskType.IMAGE_EMBEDDING, dimension)
    )
    return model_id


def put(store: istore.Store, model_id: str, embedded: Sequence[Embedded]) -> None:
    records = [
        Record(
            model_id=model_id,
            inference_id=each.name,
            task_type="Image Embedding",
            inference_action="embed",
            data_hash=each.name,
            data_size=1,
            embedding=each.vector,
            data_source=each.source,
            metadata={
                "colour": ("string", each.colour),
                "file_name": ("string", f"{each.name}.jpg"),
            },
        )
        for each in embedded
    ]
    with store.write() as connection:
        assert len(insert_records(connection, records)) == len(records)


def remove(
    store: istore.Store, model_id: str, names: Sequence[str], *, softly: bool = False
) -> None:
    table = schema.inferences
    these = table.c.model_id == model_id, table.c.inference_id.in_(names)
    with store.write() as connection:
        if softly:
            connection.execute(update(table).where(*these).values(deleted_at=1))
        else:
            connection.execute(delete(table).where(*these))


def asked(
    vector: Sequence[float],
    metric: str | None = None,
    *,
    sort: str | None = "embedding_distance",
    direction: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
    **filters: Any,
) -> istore.NewGetInferencesRequest:
    return istore.NewGetInferencesRequest(
        filters=istore.BaseInferenceFilter(**filters),
        embedding_filters=istore.EmbeddingFilter(
            query_embedding=list(vector), distance_metric=metric
        ),
        pagination=istore.Pagination.model_validate(
            {"sort": sort, "direction": direction, "limit": limit, "offset": offset}
        ),
    )


def distance(metric: str, one: Sequence[float], other: Sequence[float]) -> float:
    """The second definition; its sums are exact for small whole numbers."""
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    if metric == "negative_dot_product":
        return -product + 0.0
    if metric == "l2":
        return math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(one, other, strict=True)))
    lengths = math.fsum(a * a for a in one) * math.fsum(b * b for b in other)
    return min(max(1 - product / math.sqrt(lengths), 0.0), 2.0) if lengths else 1.0


@contextmanager
def through_the_file(
    *, few: int = 0, spare: int = 0, tried: int = 20_000, deepest: int = 16_000
) -> Iterator[None]:
    """Make a search in a store of a few records look for them as if there were a million."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "DIRECT_BYTES", few * 8 * DIMENSION)
        patch.setattr(similarity, "SPARE", spare)
        patch.setattr(similarity, "MOST_TRIED", tried)
        patch.setattr(similarity, "DEEPEST_PAGE", deepest)
        patch.setattr(pages, "FEW", few)
        yield


numbers = st.integers(-2, 2).map(float)
vectors = st.tuples(*[numbers] * DIMENSION)
embedded = st.builds(
    Embedded,
    name=st.sampled_from("aAbé\uffff\U0001f600") | st.text("abc", min_size=1, max_size=3),
    vector=st.none() | vectors | vectors,
    source=st.sampled_from(["s", "t"]),
    colour=st.sampled_from(["red", "blue"]),
)
searches = st.fixed_dictionaries(
    {
        "vector": vectors,
        "metric": st.sampled_from([None, *METRICS]),
        "sort": st.sampled_from(["embedding_distance"] * 3 + ["created_at", None]),
        "direction": st.sampled_from([None, "asc", "desc"]),
        "limit": st.sampled_from([None, 0, 1, 2, 5]),
        "offset": st.sampled_from([None, 0, 1, 3]),
        "source": st.sampled_from([None, None, "s"]),
        "colour": st.sampled_from([None, None, "red"]),
    }
)
ways = st.fixed_dictionaries(
    {
        "few": st.sampled_from([0, 0, 0, 2, 100]),
        "spare": st.sampled_from([0, 0, 1, 100]),
        "tried": st.sampled_from([1, 4, 20_000]),
        "deepest": st.sampled_from([2, 16_000]),
    }
)
steps = st.lists(
    st.tuples(
        st.lists(embedded, max_size=6, unique_by=lambda each: each.name),
        st.sets(st.integers(0, 12), max_size=3),
        st.booleans(),
        st.lists(st.tuples(searches, ways), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps)
def test_the_store_agrees_with_python(store: istore.Store, steps: list[Any]) -> None:
    """Between searches records come and go, so that the file of vectors has to follow."""
    model_id = new_model()
    kept: list[Embedded] = []
    for new, removed, softly, wanted in steps:
        names = {each.name for each in kept}
        new = [each for each in new if each.name not in names]
        put(store, model_id, new)
        kept += new
        gone = [kept[index].name for index in removed if index < len(kept)]
        remove(store, model_id, gone, softly=softly)
        kept = [each for each in kept if each.name not in gone]
        for search, way in wanted:
            with through_the_file(**way):
                check(model_id, kept, **search)


def check(
    model_id: str,
    kept: Sequence[Embedded],
    *,
    vector: Sequence[float],
    metric: str | None,
    sort: str | None,
    direction: str | None,
    limit: int | None,
    offset: int | None,
    source: str | None,
    colour: str | None,
) -> None:
    filters: dict[str, Any] = {"data_source_filter": source}
    if colour:
        filters["metadata_filter"] = [
            istore.MetadataFilter.model_validate(
                {"key": "colour", "type": "string", "operator": "=", "value": colour}
            )
        ]
    request = asked(
        vector,
        metric,
        sort=sort,
        direction=direction,
        limit=limit,
        offset=offset,
        **filters,
    )
    passing = [
        each
        for each in sorted(kept, key=lambda each: each.name)
        if each.vector is not None
        and source in (None, each.source)
        and colour in (None, each.colour)
    ]
    found = istore.filter_inferences(model_id, request)
    distances = {
        each.name: distance(metric or "cosine", vector, each.vector or ()) for each in passing
    }
    assert istore.count_inferences(model_id, request) == len(passing)
    for each in found:
        assert each.embedding_distance == distances[each.inference_id]
    start = offset or 0
    end = start + (50 if limit is None else limit)
    order = list(distances)
    if sort == "embedding_distance":
        order.sort(key=lambda name: distances[name], reverse=direction == "desc")
        assert [each.inference_id for each in found] == order[start:end]
        event("page", "some" if found else "none")
    else:
        assert len({each.inference_id for each in found}) == len(order[start:end])


@pytest.mark.parametrize("metric", METRICS)
def test_large_and_small_numbers_find_their_place(store: istore.Store, metric: str) -> None:
    generator = np.random.default_rng(1)
    model_id = new_model()
    scales = [1e-320, 1e-200, 1e-12, 1.0, 1e12, 1e200, 1e307]
    rows = [generator.uniform(-1, 1, DIMENSION) * scales[index % 7] for index in range(70)]
    put(
        store,
        model_id,
        [Embedded(f"{index:02}", tuple(row.tolist()), "s", "") for index, row in enumerate(rows)],
    )
    for query in (rows[0], rows[3], rows[5], rows[6], np.zeros(DIMENSION)):
        expected = istore.filter_inferences(model_id, asked(query.tolist(), metric, limit=100))
        assert len(expected) == 70
        with through_the_file():
            for direction in ("asc", "desc"):
                request = asked(query.tolist(), metric, limit=100, direction=direction)
                everything = istore.filter_inferences(model_id, request)
                some = request.model_copy(
                    update={
                        "pagination": istore.Pagination.model_validate(
                            {
                                "sort": "embedding_distance",
                                "direction": direction,
                                "limit": 5,
                                "offset": 3,
                            }
                        )
                    }
                )
                assert istore.filter_inferences(model_id, some) == everything[3:8]
                if direction == "asc":
                    assert everything == expected


def test_the_nearest_of_many(store: istore.Store) -> None:
    generator = np.random.default_rng(2)
    model_id = new_model(64)
    rows = generator.standard_normal((3_000, 64))
    put(
        store,
        model_id,
        [
            Embedded(f"{index:04}", tuple(row.tolist()), "st"[index % 2], "")
            for index, row in enumerate(rows)
        ],
    )
    for metric in METRICS:
        query = generator.standard_normal(64)
        cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        keys = {
            "cosine": 1 - cosines,
            "l2": np.linalg.norm(rows - query, axis=1),
            "negative_dot_product": -rows @ query,
        }[metric]
        odd = np.flatnonzero(np.arange(3_000) % 2)
        with through_the_file():
            for chosen, source in ((np.arange(3_000), None), (odd, "t")):
                request = asked(query.tolist(), metric, limit=20, data_source_filter=source)
                found = istore.filter_inferences(model_id, request)
                order = chosen[np.argsort(keys[chosen])][:20]
                assert [int(each.inference_id) for each in found] == order.tolist()
                assert [each.embedding_distance for each in found] == pytest.approx(
                    keys[order].tolist(), rel=1e-12
                )
    assert list((store.folder / "vectors").glob("*.f32"))


def test_those_that_float32_cannot_tell_apart(store: istore.Store) -> None:
    """The nearest are not among the first that are tried, nor are they the first of those."""
    generator = np.random.default_rng(4)
    model_id = new_model()
    centre = generator.standard_normal(DIMENSION)
    rows = [centre + generator.standard_normal(DIMENSION) * 1e-7 for _ in range(400)]
    # Some of them are the same.
    rows += rows[:100]
    put(
        store,
        model_id,
        [Embedded(f"{index:03}", tuple(row.tolist()), "s", "") for index, row in enumerate(rows)],
    )
    for metric in METRICS:
        for direction in ("asc", "desc"):
            request = asked(centre.tolist(), metric, direction=direction, limit=500)
            everything = istore.filter_inferences(model_id, request)
            assert len({each.inference_id for each in everything}) == 500
            for offset in (0, 10, 100, 497):
                request = asked(
                    centre.tolist(), metric, direction=direction, limit=4, offset=offset
                )
                for spare in (0, 30):
                    with through_the_file(spare=spare):
                        found = istore.filter_inferences(model_id, request)
                    assert found == everything[offset : offset + 4]


class TestWhatIsAsked:
    def test_a_wrong_dimension_is_refused(self, store: istore.Store) -> None:
        model_id = new_model()
        for vector, message in (
            ([1.0] * 4, f"has 4 numbers, and model '{model_id}' is registered for 3"),
            ([], "empty"),
            ([1.0, math.nan, 1.0], "NaN"),
        ):
            for call in istore.filter_inferences, istore.count_inferences:
                with pytest.raises(StoreError, match=message):
                    call(model_id, asked(vector))

    def test_a_model_without_embeddings_is_refused(self, store: istore.Store) -> None:
        create()
        with pytest.raises(StoreError, match="registered without embeddings"):
            istore.filter_inferences("picodet", asked([1.0]))

    def test_an_unknown_distance_is_refused(self, store: istore.Store) -> None:
        with pytest.raises(StoreError, match="no distance 'angle'"):
            istore.filter_inferences(new_model(), asked([1.0] * 3, "angle"))

    def test_a_model_that_is_not_there_has_nothing(self, store: istore.Store) -> None:
        assert istore.filter_inferences("nobody", asked([1.0])) == []
        assert istore.count_inferences("nobody", asked([1.0])) == 0

    def test_other_models_are_left_out(self, store: istore.Store) -> None:
        model_id, other = new_model(), new_model()
        put(store, model_id, [Embedded("a", (1.0, 0.0, 0.0), "s", "")])
        put(store, other, [Embedded("b", (1.0, 0.0, 0.0), "s", "")])
        for way in (through_the_file(), through_the_file(few=100)):
            with way:
                (found,) = istore.filter_inferences(model_id, asked([1.0, 0.0, 0.0]))
            assert (found.inference_id, found.embedding_distance) == ("a", 0)

    def test_without_the_filter_there_is_no_distance(self, store: istore.Store) -> None:
        model_id = new_model()
        put(store, model_id, [Embedded("a", (1.0, 0.0, 0.0), "s", "")])
        request = istore.NewGetInferencesRequest()
        assert istore.filter_inferences(model_id, request)[0].embedding_distance is None
        page = istore.Pagination.model_validate({"sort": "embedding_distance"})
        with pytest.raises(StoreError, match="needs an embedding filter"):
            istore.filter_inferences(model_id, request.model_copy(update={"pagination": page}))


class TestLatest:
    """What is known of an image, to search for those like it."""

    def test_of_several_vectors_it_is_the_last_that_is_to_be_seen(
        self, store: istore.Store
    ) -> None:
        model_id = new_model()
        digest = istore.get_data_hash(b"cat")
        with store.write() as connection:
            for name, vector in {"old": [1.0, 0.0, 0.0], "new": [0.0, 1.0, 0.0]}.items():
                record = Record(
                    *(model_id, name, "Image Embedding", "embed", digest, 1),
                    embedding=vector,
                    request_key=name,
                )
                insert_records(connection, [record])

        def latest(data_hash: str = digest) -> list[float] | None:
            with store.read() as connection:
                return latest_vector(connection, model_id, data_hash)

        assert latest() == [0.0, 1.0, 0.0]
        remove(store, model_id, ["new"], softly=True)
        assert latest() == [1.0, 0.0, 0.0]
        assert latest("another") is None

    def test_the_last_request_is_of_this_model(self, store: istore.Store) -> None:
        model_id = new_model()
        with store.write() as connection:
            assert latest_request(connection, model_id) is None
            for name in ("first", "second", "by hand"):
                key = None if name == "by hand" else f"{model_id} {name}"
                if key is not None:
                    runs.keep_request(connection, key, {"provider": name})
                record = Record(
                    *(model_id, name, "Image Embedding", "embed", name, 1),
                    embedding=[1.0, 0.0, 0.0],
                    request_key=key,
                )
                insert_records(connection, [record])
            assert latest_request(connection, model_id) == {"provider": "second"}
            assert latest_request(connection, "another") is None
