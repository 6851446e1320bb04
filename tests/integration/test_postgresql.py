"""The tool with its store in PostgreSQL: the same outputs, nothing lost, no secret told."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pixano_cli.annotate.record import Recorder
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.errors import UnstorableError
from pixano_cli.inference_store.ledger import Item, Outcome, Picture, add_items, count_items
from pixano_cli.inference_store.models import NewRegisterModelRequest
from pixano_cli.inference_store.records import Record
from pixano_cli.inference_store.register import put_model
from pixano_cli.inference_store.runs import begin_run

from .test_names import NAMES
from .tool import SAMPLES, Commands, Done, Log, copy_images, query

ANSWERS = "SELECT inference_id, data_hash, request_key, data FROM inferences"
SECRET = "s3cr3t"


class Database:
    """An empty PostgreSQL database to keep a store in."""

    def __init__(self, server: Any) -> None:
        self.url: str = server.new_database()
        self._name = self.url.rpartition("/")[2]
        self._server = server

    def query(self, statement: str) -> list[Any]:
        """Ask past all code of the tool."""
        rows: list[Any] = self._server.execute(statement, self._name)
        return rows

    def answers(self, model: str) -> int:
        """How many answers of a model are recorded; the store may not have been made yet."""
        if not self.query("SELECT 1 FROM pg_tables WHERE tablename = 'pixano_store_version'"):
            return 0
        found: int = self.query(f"SELECT count(*) FROM inferences WHERE model_id = '{model}'")[0][0]
        return found


@pytest.fixture
def database(postgresql_server: Any) -> Database:
    return Database(postgresql_server)


def outputs(folder: Path, name: str) -> list[bytes]:
    return [(folder / f"{name}.{suffix}").read_bytes() for suffix in ("json", "parquet")]


def written(name: str) -> tuple[str, ...]:
    return ("-o", f"{name}.json", "-o", f"{name}.parquet", "-q", "--json")


def test_photographs(commands: Commands, database: Database, work: Path) -> None:
    detect = ("detect", SAMPLES)
    for name, store in (("sqlite", "store"), ("postgresql", database.url)):
        done = commands.run(*detect, *written(name), "--store", store)
        assert done.code == 0, done.err
        assert done.counts == {"total": 4, "processed": 4, "cached": 0, "failed": 0}
    assert outputs(work, "sqlite") == outputs(work, "postgresql")
    again = commands.run(*detect, *written("postgresql"), "--store", database.url)
    assert again.counts == {"total": 4, "processed": 0, "cached": 4, "failed": 0}
    assert outputs(work, "sqlite") == outputs(work, "postgresql")
    assert sorted(database.query(ANSWERS)) == sorted(query(work / "store", ANSWERS))


def test_each_command_with_any_name(
    command: Callable[..., Done], log: Log, gallery: Path, database: Database, work: Path
) -> None:
    """Names and failures come in the order of their code points, whatever the locale."""
    copy_images(gallery, work / "from", len(NAMES))
    many, few = work / "odd 'földer'\n%41", work / "few"
    many.mkdir()
    few.mkdir()
    for name, path in zip(NAMES, sorted((work / "from").iterdir()), strict=True):
        path.rename(many / name)
    (many / os.fsdecode(b"caf\xe9.jpg")).write_bytes((many / NAMES[0]).read_bytes())
    for name in ("Z.jpg", "a.jpg", "é.jpg", "A.jpg"):
        (few / name).write_bytes((many / NAMES[ord(name[0]) % 3]).read_bytes())
        (many / f"broken {name}").write_bytes(b"")
        (few / f"broken {name}").write_bytes(b"")
    runs = (
        ("detect", many, "-m", "counting-detector"),
        ("segment", few, "-m", "counting-segmenter", "--detector", "counting-detector"),
        ("embed", few, "-m", "counting-embedder"),
    )
    for run in runs:
        kept = ["parquet"] if run[0] == "embed" else ["json", "parquet"]
        options = [part for suffix in kept for part in ("-o", f"out.{suffix}")]
        found = []
        for store in ("store", database.url):
            done = command(*run, *options, "--store", store, "--json")
            assert done.code == 3, done.err
            assert done.summary["failed"] == 4
            assert done.summary["total"] == len(list(run[1].iterdir()))
            files = [*(f"out.{suffix}" for suffix in kept), f"out.{kept[0]}.failed.jsonl"]
            found.append([(work / name).read_bytes() for name in files])
        assert found[0] == found[1]
    calls = len(log)
    for run in runs:
        options = ["-o", "out.parquet"]
        assert command(*run, *options, "--store", database.url, "--json").summary["processed"] == 0
    assert len(log) == calls
    assert command("export", "-o", "again.json", "--task", "segment", "--store", "store").code == 0
    expected = (work / "again.json").read_bytes()
    arguments = ("-o", "again.json", "--task", "segment", "--store", database.url)
    assert command("export", *arguments).code == 0
    assert (work / "again.json").read_bytes() == expected


def test_changed_and_overwritten(
    command: Callable[..., Done], log: Log, photos: Callable[..., Path], database: Database
) -> None:
    folder = photos(6)
    detect = ("detect", folder, "-m", "counting-detector", "-o", "out.json", "--json")
    store = ("--store", database.url)
    forecast = command(*detect[:-1], *store, "--dry-run", "--json")
    assert forecast.summary["pending"] == 6
    assert database.query("SELECT * FROM pg_tables WHERE schemaname = 'public'") == []
    assert command(*detect, *store).counts["processed"] == 6
    assert command(*detect, *store, "--dry-run").summary["pending"] == 0
    first = sorted(folder.iterdir())[0]
    first.write_bytes(sorted(folder.iterdir())[1].read_bytes())
    assert command(*detect, *store).counts["cached"] == 6
    assert command(*detect, *store, "--overwrite").counts["processed"] >= 5
    assert database.answers("counting-detector") == 6
    assert log.count() >= 11


def test_killed_at_any_moment_a_run_ends_as_if_it_had_not_been(
    commands: Commands, log: Log, photos: Callable[..., Path], database: Database, work: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    detect = ("detect", photos(40), "-m", "counting-detector", "--concurrency", 2)
    assert commands.run(*detect, *written("expected"), "--store", "store").code == 0
    calls = log.count()
    log.clear()
    detect = (*detect, *written("out"), "--store", database.url)
    killed = 0
    for number in sorted(choose.sample(range(1, calls), 4)):
        before = database.answers("counting-detector")
        started = commands.start(*detect)
        if started.until(lambda number=number: log.count() >= number):  # type: ignore[misc]
            assert started.end(signal.SIGKILL).code == -signal.SIGKILL
            killed += 1
        else:
            assert started.end().code == 0
        assert database.answers("counting-detector") >= before
    assert killed
    done = commands.run(*detect)
    assert done.code == 0, done.err
    assert outputs(work, "out") == outputs(work, "expected")
    assert sorted(database.query(ANSWERS)) == sorted(query(work / "store", ANSWERS))
    print(f"{log.count() - calls} images inferred twice after {killed} kills")
    assert len(log.times()) == calls


def test_several_processes_at_once(
    commands: Commands, log: Log, photos: Callable[..., Path], database: Database, work: Path
) -> None:
    one, other = photos(25, "one"), photos(25, "other", 15)
    detect = {
        name: ("detect", folder, "-m", "counting-detector", *written(name))
        for name, folder in (("one", one), ("other", other))
    }
    for name in detect:
        assert commands.run(*detect[name], "--store", "store").code == 0
    expected = [outputs(work, name) for name in detect]
    log.clear()
    # All make the store; the same command twice writes the same files twice.
    names = ["one", "other", "one"]
    running = [commands.start(*detect[name], "--store", database.url) for name in names]
    for each in running:
        done = each.end()
        assert done.code == 0, done.err
    assert [outputs(work, name) for name in detect] == expected
    assert sorted(database.query(ANSWERS)) == sorted(query(work / "store", ANSWERS))
    # What one has recorded the others do not ask, but all may have had an image in flight.
    assert len(log.times()) <= log.count() < 75


def test_the_password_is_told_to_nobody(
    commands: Commands,
    photos: Callable[..., Path],
    postgresql_server: Any,
    database: Database,
    work: Path,
) -> None:
    postgresql_server.execute(f"CREATE ROLE keeper SUPERUSER LOGIN PASSWORD '{SECRET}'")
    photos(3)
    (work / "photos" / "broken.jpg").write_bytes(b"")
    name = database.url.rpartition("/")[2]
    url = postgresql_server.url(name, user="keeper", password=SECRET)
    detect = ("detect", "photos", "-m", "counting-detector", "-o", "out.json", "-v", "--debug")
    done = commands.run(*detect, "--store", url)
    assert done.code == 3, done.err
    said = done.out + done.err
    commands.environment["PIXANO_STORE"] = url
    for arguments in (detect, (*detect, "--dry-run"), ("export", "-o", "e.json", "--debug")):
        done = commands.run(*arguments)
        said += done.out + done.err
    for wrong in (url.replace("/new", "/no-new"), url.replace(SECRET, f"{SECRET}x"), f"{url}@"):
        done = commands.run(*detect, "--store", wrong)
        assert done.code == 1, done.err
        said += done.out + done.err
    assert "keeper:***@" in said
    assert SECRET not in said
    for path in work.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()
    shown = orjson.loads((work / "out.json.run.json").read_bytes())["store"]
    assert shown == url.replace(SECRET, "***")
    assert not (work / ".pixano-annotate").exists()
    for table in schema.tables.tables:
        assert SECRET not in str(database.query(f"SELECT * FROM {table}"))


def test_a_wrong_password_is_one_line(
    command: Callable[..., Done], photos: Callable[..., Path], postgresql_server: Any, work: Path
) -> None:
    photos(1)
    (work / "out.json").write_bytes(b"an earlier output")
    url = postgresql_server.url(password="wrong")
    done = command("detect", "photos", "-o", "out.json", "--store", url)
    assert done.code == 1
    assert done.line.startswith("pixano-annotate: store postgresql://tester:***@127.0.0.1:")
    assert "password authentication failed" in done.line
    assert "check the URL's user and password" in done.line
    assert (work / "out.json").read_bytes() == b"an earlier output"


def test_what_it_cannot_hold_fails_alone(database: Database) -> None:
    labels = ["good", "null\0", "ab" * 500_000, "fine"]
    items = [Item(f"{number}.jpg", "root", f"file:///{number}.jpg", 1, 1) for number in range(4)]

    def outcome(item: Item, label: str) -> Outcome:
        digest = f"{item.file_name:0>64}"
        answer = [{"label": label}]
        record = Record("model", digest, "Object Detection", "detect", digest, 1, answer)
        return Outcome(item, "processed", Picture(digest, 1, 1, 1, 1, "PNG"), (record,))

    with open_store(database.url) as store:
        with store.write() as connection:
            request = NewRegisterModelRequest(
                model_id="model", project_id="p", task_type="Object Detection"
            )
            put_model(connection, request)
            begin_run(connection, "run", "job", {})
            add_items(connection, "run", items, ())

        async def record() -> list[BaseException | None]:
            with Recorder(store, "run", overwrite=False) as recorder:
                outcomes = map(outcome, items, labels)
                return await asyncio.gather(
                    *(recorder.record(each) for each in outcomes), return_exceptions=True
                )

        told = asyncio.run(record())
        assert [told[0], told[3]] == [None, None]
        assert [type(each) for each in told[1:3]] == [UnstorableError] * 2
        assert count_items(store, "run")["processed"] == 2
    assert database.answers("model") == 2
