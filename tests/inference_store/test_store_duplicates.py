"""Groups of images that are the same or nearly so: what plain Python finds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import components, copies, schema
from pixano_cli.inference_store.components import DisjointSets, cosine_distances, join_near
from pixano_cli.inference_store.duplicates import Duplicate, find_duplicates
from pixano_cli.inference_store.records import Record, insert_records

from .requests import registration

MODEL = "embedder"
Vector = tuple[float, ...]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The folder beside a server's database is where one works."""
    monkeypatch.chdir(tmp_path)


@contextmanager
def as_if_many(block: int = 3, share: int = 2) -> Iterator[None]:
    """Go about a few vectors as about very many, in blocks and by short vectors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "BLOCK", block)
        patch.setattr(components, "SAMPLE", 2)
        patch.setattr(components, "SHARE", share)
        patch.setattr(components, "FEWEST", 1)
        patch.setattr(components, "PAIR_BYTES", 200)
        patch.setattr(copies, "CONTENTS_A_STATEMENT", 2)
        yield


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """The second definition."""
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    lengths = math.fsum(a * a for a in one) * math.fsum(b * b for b in other)
    return min(max(1 - product / math.sqrt(lengths), 0.0), 2.0) if lengths else 1.0


def connected(number: int, pairs: Sequence[tuple[int, int]]) -> set[frozenset[int]]:
    """The second definition: a set grows by its neighbours until there are no more."""
    left = set(range(number))
    found = set()
    while left:
        group, new = set(), {left.pop()}
        while new:
            group |= new
            new = {b for pair in pairs for a, b in (pair, pair[::-1]) if a in group} - group
        left -= group
        found.add(frozenset(group))
    return found


def as_sets(sets: DisjointSets) -> set[frozenset[int]]:
    roots = sets.roots(np.arange(sets.size)).tolist()
    assert all(root == min(i for i, each in enumerate(roots) if each == root) for root in roots)
    return {frozenset(index for index, each in enumerate(roots) if each == root) for root in roots}


@given(
    steps=st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6),
        max_size=5,
    )
)
def test_sets_are_joined(steps: list[list[tuple[int, int]]]) -> None:
    sets = DisjointSets(10)
    done: list[tuple[int, int]] = []
    for pairs in steps:
        sets.join(*np.array(pairs).T)
        done += pairs
        assert as_sets(sets) == connected(10, done)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.integers(-3, 3)] * 6), min_size=1, max_size=14),
    threshold=st.sampled_from([0.0, 0.01, 0.06, 0.2, 0.5, 0.9]),
    block=st.integers(1, 5),
    share=st.sampled_from([2, 3, 6, 100]),
    many=st.sampled_from([0.0, 1.0]),
)
def test_those_near_one_another_are_connected(
    rows: list[Vector], threshold: float, block: int, share: int, many: float
) -> None:
    pairs = []
    for one in range(len(rows)):
        for other in range(one):
            apart = distance(rows[one], rows[other])
            assume(apart == threshold or abs(apart - threshold) > 1e-5)
            if apart <= threshold:
                pairs.append((one, other))
    vectors = np.array(rows, np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    sets = DisjointSets(len(rows))
    numbers = np.arange(len(rows))
    with as_if_many(block, share), pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "_MANY", many)
        join_near(unit.astype(np.float32), numbers, numbers, sets, threshold)
    assert as_sets(sets) == connected(len(rows), pairs)


def test_many_vectors_by_short_ones() -> None:
    """Enough of them, as they are, that short vectors serve; the pairs are known."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((1_500, 96))
    rows = np.vstack([centres, centres, centres[:1_200]]) + generator.normal(0, 0.05, (4_200, 96))
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    order = generator.permutation(4_200)
    sets = DisjointSets(4_200)
    join_near(unit, order, order, sets, 0.06)
    expected = np.concatenate([np.arange(1_500), np.arange(1_500), np.arange(1_200)])
    assert sets.roots(np.arange(4_200)).tolist() == expected.tolist()
    assert len(order) > components.SAMPLE


def test_a_vector_is_at_no_distance_from_itself() -> None:
    unit = np.random.default_rng(1).standard_normal((500, 33)).astype(np.float32)
    assert not cosine_distances(unit, unit).any()


def put(
    store: istore.Store,
    embedded: Sequence[tuple[str, Vector]],
    *,
    request: str | None = None,
    start: int = 0,
) -> None:
    """Record embeddings of contents, each of a file of its own in the data source `photos`."""
    records = [
        Record(
            *(MODEL, f"{request}-{index}", "Image Embedding", "embed", digest, 1),
            embedding=list(vector),
            request_key=request,
            data_source="photos",
            metadata={"file_name": ("string", f"{index}.jpg")},
        )
        for index, (digest, vector) in enumerate(embedded, start)
    ]
    with store.write() as connection:
        insert_records(connection, records)


def read(store: istore.Store, **files: str) -> None:
    """Note contents of files that were read."""
    rows = [
        {"url": f"file:///{name}", "size": 1, "mtime_ns": 1, "sha256": digest}
        for name, digest in files.items()
    ]
    with store.write() as connection:
        connection.execute(insert(schema.files), rows)


@pytest.fixture
def filled(store: istore.Store) -> istore.Store:
    """A store with a model registered."""
    istore.register_model_for_inference_storage(
        registration(MODEL, istore.TaskType.IMAGE_EMBEDDING, 3)
    )
    return store


def names(groups: Sequence[Sequence[Duplicate]]) -> list[list[str | None]]:
    return [[each.copy.file_name or each.copy.url for each in group] for group in groups]


class TestGroups:
    def test_near_ones(self, filled: istore.Store) -> None:
        put(
            filled,
            [
                ("a", (1.0, 0.0, 0.0)),
                ("b", (0.0, 1.0, 0.0)),
                ("c", (1.0, 0.2, 0.0)),
                ("d", (1.0, 0.1, 0.0)),
                ("e", (0.0, 0.0, 0.0)),
                ("f", (0.0, 1.0, 0.01)),
                ("g", (0.0, 0.0, 0.0)),
            ],
        )
        for many in (False, True):
            if many:
                with as_if_many():
                    found = find_duplicates(filled, MODEL, 0.01)
            else:
                found = find_duplicates(filled, MODEL, 0.01)
            assert found.images == 7
            assert names(found.groups) == [["0.jpg", "3.jpg", "2.jpg"], ["1.jpg", "5.jpg"]]
            # The ends of the chain are farther apart than the threshold.
            assert [each.distance for each in found.groups[0]] == [
                0,
                pytest.approx(distance((1, 0, 0), (1, 0.1, 0)), abs=1e-7),
                pytest.approx(distance((1, 0, 0), (1, 0.2, 0)), abs=1e-7),
            ]
            assert distance((1, 0, 0), (1, 0.2, 0)) > 0.01

    def test_copies(self, filled: istore.Store) -> None:
        put(filled, [("a", (1.0, 0.0, 0.0)), ("b", (0.0, 1.0, 0.0)), ("a", (1.0, 0.0, 0.0))])
        read(filled, x="b", y="b", z="c", w="c")
        found = find_duplicates(filled, MODEL, 0.0)
        assert found.images == 2
        assert names(found.groups) == [
            ["0.jpg", "2.jpg"],
            ["1.jpg", "file:///x", "file:///y"],
        ]
        assert {each.copy.data_hash for each in found.groups[1]} == {"b"}
        assert {each.distance for group in found.groups for each in group} == {0}
        gone = find_duplicates(filled, MODEL, 0.0, is_gone=lambda url: url != "file:///y")
        assert names(gone.groups)[1] == ["1.jpg", "file:///y"]

    def test_what_the_tool_recorded_is_told_by_its_files(self, filled: istore.Store) -> None:
        put(
            filled,
            [("a", (1.0, 0.0, 0.0)), ("old", (1.0, 0.0, 0.0)), ("b", (1.0, 0.0, 0.0))],
            request="r",
        )
        # The file 1.jpg has another content by now.
        files = {
            "photos/0.jpg": "a",
            "photos/1.jpg": "new",
            "photos/2.jpg": "b",
            "copy": "a",
            "other/0.jpg": "a",
        }
        read(filled, **files)
        with as_if_many():
            (group,) = find_duplicates(filled, MODEL, 0.0).groups
        assert [(each.copy.url, each.copy.file_name, each.copy.data_source) for each in group] == [
            ("file:///photos/0.jpg", "0.jpg", "photos"),
            ("file:///copy", None, None),
            ("file:///other/0.jpg", None, None),
            ("file:///photos/2.jpg", "2.jpg", "photos"),
        ]

    def test_a_file_asked_about_twice_is_no_duplicate(self, filled: istore.Store) -> None:
        for request in ("old weights", "new weights"):
            put(filled, [("a", (1.0, 0.0, 0.0))], request=request)
        read(filled, **{"photos/0.jpg": "a"})
        assert find_duplicates(filled, MODEL, 0.5).groups == []

    def test_vectors_of_other_weights_are_not_compared(self, filled: istore.Store) -> None:
        put(filled, [("a", (1.0, 0.0, 0.0)), ("b", (0.0, 1.0, 0.0))], request="old")
        put(filled, [("c", (1.0, 0.0, 0.0)), ("b", (1.0, 0.0, 0.0))], request="new", start=5)
        urls = {"photos/0.jpg": "a", "photos/1.jpg": "b", "photos/5.jpg": "c", "photos/6.jpg": "b"}
        read(filled, **urls)
        (group,) = find_duplicates(filled, MODEL, 0.1).groups
        assert [(each.copy.file_name, each.distance) for each in group] == [
            ("1.jpg", 0),
            ("6.jpg", 0),
            ("5.jpg", 0),
        ]
        # Chained by b, of which both weights have a vector.
        put(filled, [("b2", (0.0, 1.0, 0.0)), ("a2", (1.0, 0.05, 0.0))], request="old", start=8)
        read(filled, **{"photos/8.jpg": "b2", "photos/9.jpg": "a2"})
        first, second = find_duplicates(filled, MODEL, 0.1).groups
        assert [each.copy.file_name for each in first] == ["0.jpg", "9.jpg"]
        assert [(each.copy.data_hash, each.distance) for each in second] == [
            ("b", 0),
            ("b", 0),
            ("c", 0),
            ("b2", 0),
        ]

    def test_where_two_cannot_be_compared(self, filled: istore.Store) -> None:
        put(filled, [("a", (1.0, 0.0, 0.0)), ("b", (1.0, 0.0, 0.0))], request="old")
        put(filled, [("b", (0.0, 1.0, 0.0)), ("c", (0.0, 1.0, 0.0))], request="new", start=1)
        read(filled, **{f"photos/{index}.jpg": digest for index, digest in enumerate("abc")})
        (group,) = find_duplicates(filled, MODEL, 0.1).groups
        assert [(each.copy.data_hash, each.distance) for each in group] == [
            ("a", 0),
            ("b", 0),
            ("c", None),
        ]

    def test_filters_apply(self, filled: istore.Store) -> None:
        put(filled, [(digest, (1.0, 0.0, 0.0)) for digest in "abc"])
        with filled.write() as connection:
            table = schema.inferences
            connection.execute(update(table).where(table.c.data_hash == "b").values(deleted_at=1))
        assert names(find_duplicates(filled, MODEL, 0.0).groups) == [["0.jpg", "2.jpg"]]
        only = istore.BaseInferenceFilter(data_hash_filter="a")
        found = find_duplicates(filled, MODEL, 0.0, only)
        assert (found.images, found.groups) == (1, [])

    def test_nothing(self, filled: istore.Store) -> None:
        found = find_duplicates(filled, MODEL, 0.1)
        assert (found.images, found.groups) == (0, [])

    @pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
    def test_a_threshold_out_of_range_is_refused(
        self, filled: istore.Store, threshold: float
    ) -> None:
        with pytest.raises(StoreError, match="from 0 to under 1"):
            find_duplicates(filled, MODEL, threshold)

    def test_an_unregistered_model_is_refused(self, filled: istore.Store) -> None:
        with pytest.raises(StoreError, match="not registered"):
            find_duplicates(filled, "nobody", 0.1)

    def test_nothing_is_left_on_disk(self, filled: istore.Store) -> None:
        put(filled, [(digest, (1.0, 0.0, 0.0)) for digest in "abc"])
        find_duplicates(filled, MODEL, 0.1)
        before = sorted(filled.folder.rglob("*"))
        find_duplicates(filled, MODEL, 0.1)
        assert sorted(filled.folder.rglob("*")) == before
