"""`store retention set | show | run | tasks | remove`: what was said is kept, the rest goes."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pixano_cli import inference_store as istore

from .test_store_change import keep_input
from .tool import Done, query, tree

Command = Callable[..., Done]

DETECTOR, EMBEDDER = "picodet-s-416", "pplcnetv2"
OF_DETECTOR = ("--model-id", DETECTOR)


@pytest.fixture(autouse=True)
def store(record: Path) -> Iterator[istore.Store]:
    with istore.connect(record) as opened:
        yield opened


def told(command: Command, *arguments: object) -> Any:
    done = command("store", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def printed(command: Command, *arguments: object) -> str:
    done = command("store", *arguments)
    assert done.code == 0, done.err
    return done.out


def make_old(record: Path, name: str, days: float) -> None:
    """Date back the records of a file, past all code of the tool."""
    then = datetime.now(UTC) - timedelta(days=days)
    with closing(sqlite3.connect(record / "store.sqlite3")) as connection, connection:
        changed = connection.execute(
            "UPDATE inferences SET created_at = ? WHERE id IN"
            " (SELECT inference FROM metadata WHERE key = 'file_name' AND value = ?)",
            (int(then.timestamp() * 1e6), name),
        )
        assert changed.rowcount == 2


def left(command: Command) -> int:
    found: int = told(command, "count", *OF_DETECTOR)["count"]
    return found


@pytest.mark.parametrize(
    ("options", "fields", "sentence"),
    [
        (
            ["--records", "30d"],
            ("soft", 720, 720, 0),
            "records are kept for 30 days, then hidden; inputs are kept as long; the policy is "
            "run by `store retention run` only",
        ),
        (
            ["--records", "4w", "--inputs", "36h", "--every", "1d", "--hard"],
            ("hard", 672, 36, 24),
            "records are kept for 28 days, then removed for good; inputs are kept for 36 hours; "
            "the policy is run every day when the store is opened",
        ),
        (
            ["--inputs", "24", "--every", "6h"],
            ("soft", -1, 24, 6),
            "records are kept for ever; inputs are kept for 1 day; the policy is run every 6 "
            "hours when the store is opened",
        ),
    ],
)
def test_a_policy_is_set_and_shown(
    command: Command, options: list[str], fields: tuple[object, ...], sentence: str
) -> None:
    line = f"{DETECTOR}: {sentence}\n"
    assert printed(command, "retention", "set", *OF_DETECTOR, *options) == line
    assert printed(command, "retention", "show") == line
    policy = istore.get_retention_policy(DETECTOR)
    assert policy is not None
    assert told(command, "retention", "show") == [policy.model_dump(mode="json")]
    assert fields == (
        policy.delete_action,
        policy.maximum_record_age,
        policy.maximum_blob_age,
        policy.automated_interval,
    )
    assert printed(command, "retention", "remove", *OF_DETECTOR) == (
        f"the policy of {DETECTOR} is removed\n"
    )
    assert istore.get_retention_policy(DETECTOR) is None
    assert told(command, "retention", "show") == []
    assert printed(command, "retention", "show") == (
        "no policy: everything is kept until it is deleted by hand\n"
    )


@pytest.mark.parametrize("action", ["soft", "hard"])
def test_a_policy_is_run(command: Command, record: Path, action: str) -> None:
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        make_old(record, name, 10)
    protect = ("protect", "--meta", "file_name=rocket.jpg")
    assert told(command, *protect) == {"records": 2}
    # Records made in another order than they were stored in are noted.
    assert command("store", "verify", "--repair").code == 0
    hard = ["--hard"] if action == "hard" else []
    told(command, "retention", "set", *OF_DETECTOR, "--records", "7d", *hard)
    assert left(command) == 5

    run = ("retention", "run", *OF_DETECTOR)
    dry = printed(command, *run, "--dry-run")
    assert dry == "2 records and 0 inputs would be deleted\n"
    assert left(command) == 5
    said = told(command, *run)
    task = istore.get_retention_task(DETECTOR, said["id"])
    assert task is not None
    assert said == task.model_dump(mode="json")
    assert (said["state"], said["deleted_record_count"]) == ("complete", 2)
    assert printed(command, *run) == "0 records and 0 inputs deleted\n"
    assert left(command) == 3
    names = {
        datum["value"]
        for each in told(command, "list", *OF_DETECTOR)
        for datum in each["metadata"]
        if datum["key"] == "file_name"
    }
    assert names == {"astronaut.png", "rocket.jpg", "paris.jpg"}

    status = {each["model_id"]: each for each in told(command, "status")["models"]}
    assert status[DETECTOR]["inferences"] == 3
    assert status[DETECTOR]["hidden"] == (2 if action == "soft" else 0)
    assert status[EMBEDDER]["inferences"] == 5
    kept = query(record, f"SELECT count(*) FROM inferences WHERE model_id = '{DETECTOR}'")
    assert kept == [(5 if action == "soft" else 3,)]
    assert told(command, "verify")["is_sound"]

    tasks = told(command, "retention", "tasks", *OF_DETECTOR)
    found = istore.filter_retention_tasks(DETECTOR, istore.NewGetRetentionTasksRequest())
    assert sorted(tasks, key=str) == sorted((x.model_dump(mode="json") for x in found), key=str)
    assert [each["total_record_count"] for each in tasks] == [0, 2, 2]
    assert [each["deleted_record_count"] for each in tasks] == [0, 2, 0]
    assert tasks[1] == said
    assert told(command, "retention", "tasks", *OF_DETECTOR, "--limit", 1) == tasks[:1]
    header, *rows = printed(command, "retention", "tasks", *OF_DETECTOR).splitlines()
    assert header.split("  ")[0] == "TASK"
    assert [row.split()[:6] for row in rows] == [
        [each["id"][:12], "complete", *map(str, counts)]
        for each, counts in zip(tasks, [(0, 0, 0, 0), (2, 2, 0, 0), (0, 2, 0, 0)], strict=True)
    ]


def test_inputs_go_before_their_records(command: Command, record: Path) -> None:
    keep_input("kept")
    with closing(sqlite3.connect(record / "store.sqlite3")) as connection, connection:
        connection.execute(
            "UPDATE inferences SET created_at = created_at - 2 * 86400 * 1000000"
            " WHERE inference_id = 'kept'"
        )
    told(command, "retention", "set", *OF_DETECTOR, "--inputs", "1d")
    assert len(tree(record / "blobs")) == 1
    said = printed(command, "retention", "run", *OF_DETECTOR)
    assert said == "0 records and 1 input deleted\n"
    assert tree(record / "blobs") == {}
    assert "input      not kept in the store" in printed(command, "show", "kept")
    assert left(command) == 6


def test_a_due_policy_runs_when_the_store_is_opened(command: Command, record: Path) -> None:
    make_old(record, "chelsea.png", 10)
    options = ["--records", "7d", "--every", "1h", "--hard"]
    told(command, "retention", "set", *OF_DETECTOR, *options)
    assert left(command) == 5
    two_hours_ago = "UPDATE retention_policies SET created_at = created_at - 2 * 3600 * 1000000"
    with closing(sqlite3.connect(record / "store.sqlite3")) as connection, connection:
        connection.execute(two_hours_ago)
    assert left(command) == left(command) == 4
    tasks = told(command, "retention", "tasks", *OF_DETECTOR)
    assert [each["deleted_record_count"] for each in tasks] == [1]


def test_no_task(command: Command) -> None:
    done = command("store", "retention", "tasks", *OF_DETECTOR)
    assert (done.code, done.out, done.err) == (0, "", "no task\n")
    assert told(command, "retention", "tasks", *OF_DETECTOR) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("set", "say what is to be deleted, by --records AGE or --inputs AGE"),
        ("set --records never", "say what is to be deleted"),
        ("set --records 1d", "has several models: name one with --model-id (picodet-s-416, "),
        ("set --records 1d --model-id picodet", "did you mean 'picodet-s-416'?"),
        ("set --records 1y", "--records '1y': an age is wanted, such as 48h, 30d or 4w, or never"),
        ("set --records -1d", "--records '-1d': an age is wanted"),
        ("set --records 1.5d", "--records '1.5d': an age is wanted"),
        ("set --records 999999999999w", "2,147,483,647 hours are the most"),
        ("set --records 1d --inputs 2d", "--inputs 2d: an input does not outlive its record: 1d"),
        ("set --records 1d --every 0", "--every 0: an hour is the least, or never"),
        ("set --inputs x", "--inputs 'x': an age is wanted"),
        ("run", "has several models"),
        ("run --model-id picodet-s-416", "make one with `pixano-annotate store retention set`"),
        ("remove --model-id pplcnetv2", "model 'pplcnetv2' has no policy"),
        ("tasks --model-id nothing", "has no model 'nothing': it has picodet-s-416, pplcnetv2"),
        ("tasks --limit -1", "--limit: it cannot be negative"),
        ("tusks", "tusks"),
    ],
)
def test_wrong_usage(command: Command, arguments: str, says: str) -> None:
    done = command("store", "retention", *arguments.split())
    assert (done.code, done.out) == (2, "")
    assert says in done.line
    assert told(command, "retention", "show") == []
