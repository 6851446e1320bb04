"""The file of vectors: whatever happens to it, searches find what is in the database."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import delete

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import pages, schema, similarity, vector_file, vectors
from pixano_cli.inference_store.records import Record, insert_records

from .requests import registration

MODEL = "embedder"
DIMENSION = 8
COUNT = 400
Rows = NDArray[np.float64]


@pytest.fixture
def rows() -> Rows:
    return np.random.default_rng(0).standard_normal((COUNT, DIMENSION))


@pytest.fixture(autouse=True)
def _as_if_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Search the few hundred embeddings of these tests as a million would be."""
    # The folder beside a server's database is where one works.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(similarity, "DIRECT_BYTES", 0)
    monkeypatch.setattr(pages, "FEW", 0)


@pytest.fixture
def filled(store: istore.Store, rows: Rows) -> istore.Store:
    fill(store, rows)
    return store


def register(model_id: str) -> None:
    istore.register_model_for_inference_storage(
        registration(model_id, istore.TaskType.IMAGE_EMBEDDING, DIMENSION)
    )


def put(store: istore.Store, embeddings: dict[str, Rows], model_id: str = MODEL) -> None:
    records = [
        Record(*(model_id, name, "Image Embedding", "embed", name, 1), embedding=embedding.tolist())
        for name, embedding in embeddings.items()
    ]
    for start in range(0, len(records), 100):
        with store.write() as connection:
            insert_records(connection, records[start : start + 100])


def remove(store: istore.Store, names: list[str]) -> None:
    table = schema.inferences
    with store.write() as connection:
        connection.execute(delete(table).where(table.c.inference_id.in_(names)))


def nearest(vector: Rows, limit: int = 3, model_id: str = MODEL) -> list[str]:
    request = istore.NewGetInferencesRequest(
        embedding_filters=istore.EmbeddingFilter(query_embedding=vector.tolist()),
        pagination=istore.Pagination.model_validate({"sort": "embedding_distance", "limit": limit}),
    )
    return [each.inference_id for each in istore.filter_inferences(model_id, request)]


def expected(rows: Rows, vector: Rows, limit: int = 3) -> list[str]:
    cosines = rows @ vector / np.linalg.norm(rows, axis=1) / np.linalg.norm(vector)
    return [f"{index:04}" for index in np.argsort(-cosines)[:limit]]


def check(rows: Rows) -> None:
    for vector in np.random.default_rng(1).standard_normal((3, DIMENSION)):
        assert nearest(vector) == expected(rows, vector)


def file_of(store: istore.Store) -> Path:
    (file,) = (store.folder / "vectors").glob("*.f32")
    return file


def recorded(store: istore.Store) -> vector_file.Recorded:
    with (
        store.read() as connection,
        vectors.open_vectors(connection, store.folder, MODEL, DIMENSION) as file,
    ):
        return file.recorded


class TestFollowing:
    def test_new_embeddings_are_appended(self, filled: istore.Store, rows: Rows) -> None:
        check(rows)
        before = file_of(filled).read_bytes()
        for index in range(5):
            vector = np.full(DIMENSION, index - 2.5)
            put(filled, {f"new {index}": vector})
            assert nearest(vector, 1) in ([f"new {index}"], ["new 0"], ["new 3"])
        after = file_of(filled).read_bytes()
        assert after[64 : len(before)] == before[64:]
        assert len(after) == len(before) + 5 * (DIMENSION * 4 + 32)

    def test_other_models_embeddings_are_not_read_again(
        self, filled: istore.Store, rows: Rows
    ) -> None:
        register("other")
        put(filled, {"1": rows[0], "2": rows[1]}, "other")
        check(rows)
        assert nearest(rows[0], 1, "other") == ["1"]
        newest = recorded(filled).seen
        put(filled, {"3": rows[2]}, "other")
        check(rows)
        assert (recorded(filled).seen, recorded(filled).count) == (newest + 1, COUNT)

    def test_deleted_ones_are_not_found(self, filled: istore.Store, rows: Rows) -> None:
        check(rows)
        size = file_of(filled).stat().st_size
        assert nearest(rows[7], 1) == ["0007"]
        # The newest among them: then the file's mark is gone too.
        remove(filled, ["0007", f"{COUNT - 1:04}"])
        assert "0007" not in nearest(rows[7])
        assert file_of(filled).stat().st_size == size
        put(filled, {"again": rows[7]})
        assert nearest(rows[7], 1) == ["again"]
        assert file_of(filled).stat().st_size == size + DIMENSION * 4 + 32

    def test_it_is_made_anew_when_most_are_deleted(self, filled: istore.Store, rows: Rows) -> None:
        check(rows)
        size = file_of(filled).stat().st_size
        remove(filled, [f"{index:04}" for index in range(300)])
        for _ in range(2):
            vector = rows[5]
            assert nearest(vector) == [
                f"{int(name) + 300:04}" for name in expected(rows[300:], vector)
            ]
        assert file_of(filled).stat().st_size < size / 2

    def test_it_is_removed_when_few_are_left(
        self, filled: istore.Store, rows: Rows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        check(rows)
        monkeypatch.setattr(similarity, "DIRECT_BYTES", COUNT * DIMENSION * 8)
        check(rows)
        assert not list((filled.folder / "vectors").glob("*.f32"))

    def test_it_can_be_discarded(self, filled: istore.Store, rows: Rows) -> None:
        register("other")
        put(filled, {"1": rows[0]}, "other")
        check(rows)
        nearest(rows[0], 1, "other")
        vectors.discard_vectors(filled.folder, "other")
        assert file_of(filled)
        vectors.discard_vectors(filled.folder)
        assert not list((filled.folder / "vectors").glob("*.f32"))
        check(rows)

    @pytest.mark.parametrize("deleted", ["0005", f"{COUNT - 1:04}"])
    def test_a_search_that_sees_an_earlier_state(
        self, filled: istore.Store, rows: Rows, deleted: str
    ) -> None:
        """Its file is ahead of it, and may be without what it sees: it must not take harm."""
        with filled.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM embeddings")
            put(filled, {"new": rows[3]})
            remove(filled, [deleted])
            assert nearest(rows[int(deleted)], 1) != [deleted]
            with vectors.open_vectors(connection, filled.folder, MODEL, DIMENSION) as file:
                assert file.recorded.count == COUNT
        assert nearest(rows[int(deleted)], 1) != [deleted]
        remove(filled, ["0003"])
        assert nearest(rows[3], 1) == ["new"]


class TestOtherDatabases:
    def test_a_database_brought_back_from_a_copy(
        self, sqlite_place: Path, rows: Rows, tmp_path: Path
    ) -> None:
        """Positions of the newer state are given to other embeddings."""
        names = [f"{index:04}" for index in range(COUNT)]
        with istore.connect(sqlite_place) as store:
            register(MODEL)
            put(store, dict(zip(names[:300], rows[:300], strict=True)))
        copy = shutil.copytree(sqlite_place, tmp_path / "copy")
        with istore.connect(sqlite_place) as store:
            put(store, {f"lost {index}": -rows[index] for index in range(50)})
            assert nearest(-rows[3], 1) == ["lost 3"]
        for file in sqlite_place.glob("store.sqlite3*"):
            file.unlink()
        shutil.copy(copy / "store.sqlite3", sqlite_place)
        with istore.connect(sqlite_place) as store:
            check(rows[:300])
            for start, stop in ((300, 320), (320, COUNT)):
                put(store, dict(zip(names[start:stop], rows[start:stop], strict=True)))
                check(rows[:stop])
                assert nearest(rows[stop - 1], 1) == names[stop - 1 : stop]

    def test_another_store_in_its_place(
        self, filled: istore.Store, rows: Rows, new_places: Callable[[int], list[str]]
    ) -> None:
        check(rows)
        folder = filled.folder
        filled.close()
        with istore.connect(new_places(1)[0]) as other:
            register(MODEL)
            turned = rows[::-1].copy()
            put(other, {f"{index:04}": row for index, row in enumerate(turned)})
            (other.folder / "vectors").mkdir(parents=True)
            shutil.copy(file_of_folder(folder), other.folder / "vectors")
            check(turned)


def file_of_folder(folder: Path) -> Path:
    (file,) = (folder / "vectors").glob("*.f32")
    return file


class TestDamage:
    @pytest.mark.parametrize("seed", range(3))
    def test_altered_bytes(self, sqlite_store: istore.Store, rows: Rows, seed: int) -> None:
        fill(sqlite_store, rows)
        check(rows)
        file = file_of(sqlite_store)
        chance = random.Random(seed)
        for _ in range(10):
            content = bytearray(file.read_bytes())
            at = chance.randrange(len(content))
            content[at] ^= 1 << chance.randrange(8)
            file.write_bytes(content)
            check(rows)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content[: len(content) // 2],
            lambda content: content[:40],
            lambda content: b"\0" * len(content),
            lambda content: content[:2000] + b"\0" * 4096 + content[6096:],
            lambda content: content + b"more",
            lambda content: b"\0" * 64 + content[64:],
        ],
    )
    def test_missing_parts(
        self, sqlite_store: istore.Store, rows: Rows, damage: Callable[[bytes], bytes]
    ) -> None:
        fill(sqlite_store, rows)
        check(rows)
        file = file_of(sqlite_store)
        file.write_bytes(damage(file.read_bytes()))
        check(rows)
        put(sqlite_store, {"0400": rows[0] * 2})
        check(np.vstack([rows, rows[:1] * 2]))

    def test_it_is_another_models(self, filled: istore.Store, rows: Rows) -> None:
        register("other")
        put(filled, {f"{index:04}": row for index, row in enumerate(rows[::-1])}, "other")
        check(rows)
        file = file_of(filled)
        nearest(rows[0], 1, "other")
        (other,) = set((filled.folder / "vectors").glob("*.f32")) - {file}
        shutil.copy(other, file)
        check(rows)

    def test_a_vector_of_another_size_is_told(self, filled: istore.Store, rows: Rows) -> None:
        with filled.write() as connection:
            insert_records(
                connection,
                [Record(MODEL, "short", "Image Embedding", "embed", "h", 1, embedding=[1.0])],
            )
        with pytest.raises(StoreError, match="does not have the 8 numbers"):
            nearest(rows[0])


def fill(store: istore.Store, rows: Rows) -> None:
    register(MODEL)
    put(store, {f"{index:04}": row for index, row in enumerate(rows)})


class TestNoFile:
    def test_a_folder_that_cannot_be_written(
        self, filled: istore.Store, rows: Rows, caplog: pytest.LogCaptureFixture
    ) -> None:
        filled.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(filled.folder / "vectors", ignore_errors=True)
        (filled.folder / "vectors").write_text("in the way")
        try:
            check(rows)
        finally:
            (filled.folder / "vectors").unlink()
        assert "without a file of vectors" in caplog.text

    def test_a_full_disk_is_left_alone(
        self,
        filled: istore.Store,
        rows: Rows,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        usage = shutil.disk_usage(filled.folder if filled.folder.exists() else "/")
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _: usage._replace(free=vectors.SPARE_BYTES + 1000)
        )
        check(rows)
        assert "No space left" in caplog.text
        assert not list((filled.folder / "vectors").glob("*.f32"))

    def test_a_disk_that_fills_meanwhile_is_freed(
        self,
        filled: istore.Store,
        rows: Rows,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        write = os.pwrite

        def fails_later(descriptor: int, data: Any, at: int) -> int:
            if at > 10_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(descriptor, data, at)

        monkeypatch.setattr(os, "pwrite", fails_later)
        monkeypatch.setattr(vectors, "BLOCK_BYTES", 4096)
        check(rows)
        assert "No space left" in caplog.text
        assert not list((filled.folder / "vectors").glob("*.f32"))

    def test_a_lock_that_is_held_for_long(
        self,
        filled: istore.Store,
        rows: Rows,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        check(rows)
        monkeypatch.setattr(vector_file, "LOCK_TIMEOUT_S", 0.05)
        with vector_file.locked(file_of(filled)):
            check(rows)
        assert "another process is writing it" in caplog.text


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from pixano_cli import inference_store as istore
from pixano_cli.inference_store import pages, similarity, vectors

place, folder, query, times = sys.argv[1], Path(sys.argv[2]), eval(sys.argv[3]), int(sys.argv[4])
similarity.DIRECT_BYTES = pages.FEW = 0
vectors.BLOCK_BYTES = 2 ** 12
request = istore.NewGetInferencesRequest(
    embedding_filters=istore.EmbeddingFilter(query_embedding=query),
    pagination=istore.Pagination(sort="embedding_distance", limit=5),
)

def search():
    with istore.connect(place):
        return [each.inference_id for each in istore.filter_inferences("embedder", request)]

def child():
    if pid := os.fork():
        return pid
    search()
    os._exit(0)

def remove():
    for file in (folder / "vectors").glob("*.f32"):
        file.unlink()

right = search()
remove()
started = time.perf_counter()
os.waitpid(child(), 0)
whole = time.perf_counter() - started
chance = random.Random(0)
unfinished = 0
while unfinished < times:
    remove()
    pid = child()
    time.sleep(chance.uniform(0, 1) * whole)
    os.kill(pid, signal.SIGKILL)
    if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
        unfinished += 1
    else:
        # This time the machine was faster.
        whole *= 0.8
    # Two go on with what it left.
    for pid in [child(), child()]:
        assert os.waitpid(pid, 0)[1] == 0
    assert search() == right
print(*right)
"""


SEARCHING = """
import sys
from pathlib import Path
from pixano_cli import inference_store as istore
from pixano_cli.inference_store import pages, similarity, vectors

place, query, stop = sys.argv[1], eval(sys.argv[2]), Path(sys.argv[3])
similarity.DIRECT_BYTES = pages.FEW = 0
vectors.BLOCK_BYTES = 2 ** 12
request = istore.NewGetInferencesRequest(
    embedding_filters=istore.EmbeddingFilter(query_embedding=query),
    pagination=istore.Pagination(sort="embedding_distance", limit=5),
)
with istore.connect(place):
    first, count = None, 0
    while count < 2 or not stop.exists():
        found = [each.inference_id for each in istore.filter_inferences("embedder", request)]
        assert first in (None, found), (first, found)
        first, count = found, count + 1
print(*first, count)
"""


class TestProcesses:
    def test_made_anew_while_others_search(
        self, sqlite_store: istore.Store, tmp_path: Path
    ) -> None:
        generator = np.random.default_rng(5)
        rows = generator.standard_normal((2_000, DIMENSION))
        fill(sqlite_store, rows)
        query = generator.standard_normal(DIMENSION)
        stop = tmp_path / "stop"
        searching = [
            subprocess.Popen(
                [sys.executable, "-c", SEARCHING, sqlite_store.name, repr(query.tolist()), stop],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        try:
            for _ in range(25):
                vectors.discard_vectors(sqlite_store.folder)
                assert nearest(query, 5) == expected(rows, query, 5)
        finally:
            stop.touch()
            ended = [each.communicate(timeout=60) for each in searching]
        for each, (out, err) in zip(searching, ended, strict=True):
            assert each.returncode == 0, err
            *found, count = out.split()
            assert found == expected(rows, query, 5)
            assert int(count) >= 2

    def test_killed_while_they_make_it(self, sqlite_store: istore.Store, tmp_path: Path) -> None:
        generator = np.random.default_rng(3)
        rows = generator.standard_normal((4_000, DIMENSION))
        fill(sqlite_store, rows)
        query = generator.standard_normal(DIMENSION)
        sqlite_store.close()
        ended = subprocess.run(
            [
                *(sys.executable, "-c", KILLED, sqlite_store.name, str(sqlite_store.folder)),
                *(repr(query.tolist()), "10"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.split() == expected(rows, query, 5)

    def test_threads_search_while_others_write(self, filled: istore.Store, rows: Rows) -> None:
        failures: list[BaseException] = []
        done = threading.Event()

        def search() -> None:
            try:
                while not done.is_set():
                    assert nearest(rows[3], 1) == ["0003"]
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for index in range(20):
                put(filled, {f"far {index}": -rows[3]})
                remove(filled, [f"far {index - 1}"])
                if index % 5 == 4:
                    vectors.discard_vectors(filled.folder)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert failures == []
