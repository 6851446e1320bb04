"""`store tag | protect | delete | export | vacuum | verify`: what they change, what they ask."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from pixano_cli import inference_store as istore

from .tool import Commands, Done, query, tree

Command = Callable[..., Done]

DETECTOR, EMBEDDER = "picodet-s-416", "pplcnetv2"
CATS = ("--label", "cat", "--min-score", "0.9")
INPUT = b"the bytes of an image"


@pytest.fixture(autouse=True)
def store(record: Path) -> Iterator[istore.Store]:
    with istore.connect(record) as opened:
        yield opened


def told(command: Command, *arguments: object, code: int = 0) -> Any:
    """Return what a command of `store` prints as JSON."""
    done = command("store", *arguments, "--json")
    assert done.code == code, done.err
    return json.loads(done.out)


def printed(command: Command, *arguments: object) -> str:
    done = command("store", *arguments)
    assert done.code == 0, done.err
    assert done.err == ""
    return done.out


def count(command: Command, *arguments: object) -> int:
    found: int = told(command, "count", *arguments)["count"]
    return found


def keep_input(inference_id: str) -> istore.Inference:
    """Record an answer with the input that it is about."""
    created = istore.create_inference_storage_request(
        DETECTOR,
        inference_id,
        INPUT,
        istore.NewInferenceAndMetadataCollection(
            object_detection=[],
            metadata=istore.NewMetadataCollectionRequest(
                standard_metadata=istore.NewStandardMetadataRequest(
                    data_hash=istore.get_data_hash(INPUT),
                    data_size=len(INPUT),
                    task_type=istore.TaskType.OBJECT_DETECTION,
                    inference_action=istore.InferenceAction.DETECT,
                    data_source="kept",
                )
            ),
        ),
    )
    assert created is not None
    return created


class TestTag:
    def test_attaches_replaces_and_removes(self, command: Command) -> None:
        assert printed(command, "tag", *CATS, "--set", "split=train") == "2 records tagged\n"
        assert count(command, "--meta", "split=train") == 2
        assert told(command, "tag", *CATS, "--set", "split=test") == {"records": 2}
        assert count(command, "--meta", "split=train") == 0
        assert count(command, "--meta", "split=test", *CATS) == 2
        untag = ("tag", "--meta", "split=test", "--unset", "split")
        assert printed(command, *untag) == "2 records untagged\n"
        assert printed(command, *untag) == "0 records untagged\n"
        assert count(command, "--meta", "split in [train, test]") == 0

    @pytest.mark.parametrize(
        ("text", "key", "kind", "value"),
        [
            ("a=train", "a", "string", "train"),
            ("a=5", "a", "int", "5"),
            ("a=-2.5e3", "a", "float", "-2.5e3"),
            ("a:string=5", "a", "string", "5"),
            ('a:json={"b": [1]}', "a", "json", '{"b": [1]}'),
            ("a:b=1", "a:b", "int", "1"),
            ("a=b=c", "a", "string", "b=c"),
            ("a=", "a", "string", ""),
            ("a=nan", "a", "string", "nan"),
            ("a=1e999", "a", "string", "1e999"),
            (f"a={'9' * 400}", "a", "int", "9" * 400),
        ],
    )
    def test_types_are_what_values_look_like(
        self, command: Command, text: str, key: str, kind: str, value: str
    ) -> None:
        assert told(command, "tag", *CATS, "--set", text) == {"records": 2}
        for each in told(command, "list", *CATS):
            (datum,) = (datum for datum in each["metadata"] if datum["key"] == key)
            assert (datum["type"], datum["value"]) == (kind, value)

    def test_all_records_of_all_models_are_meant_if_so_said(self, command: Command) -> None:
        assert told(command, "tag", "--all", "--set", "a=1", "--set", "b=2") == {"records": 10}
        assert count(command, "--meta", "a=1", "--meta", "b=2") == 10


def test_protect(command: Command) -> None:
    assert printed(command, "protect", *CATS) == "2 records protected\n"
    assert printed(command, "protect", *CATS) == "2 records protected\n"
    protected = [each["is_protected"] for each in told(command, "list", *CATS)]
    assert protected == [True, True]
    models = {each["model_id"]: each for each in told(command, "status")["models"]}
    assert (models[DETECTOR]["protected"], models[EMBEDDER]["protected"]) == (2, 0)
    assert told(command, "protect", "--all", "--off") == {"records": 10}
    assert not any(each["is_protected"] for each in told(command, "list"))
    assert printed(command, "protect", *CATS, "--off") == "2 records no longer protected\n"


class TestDelete:
    def test_says_what_it_removes_and_removes_it(self, command: Command, record: Path) -> None:
        assert told(command, "protect", "--label", "cup", "--min-score", "0.9") == {"records": 1}
        done = command("store", "delete", "--min-score", "0.9", "--yes")
        assert (done.code, done.out) == (0, "4 records deleted\n")
        assert done.line == (
            "to be deleted for good from store .pixano-annotate: 4 records with their metadata; "
            "1 of the records is protected from retention policies"
        )
        assert count(command) == 6
        assert count(command, "--model-id", DETECTOR) == 1
        for table in ("elements", "metadata"):
            orphans = f"SELECT count(*) FROM {table} WHERE inference NOT IN "
            assert query(record, f"{orphans}(SELECT id FROM inferences)") == [(0,)]
        assert told(command, "verify")["is_sound"]

    def test_an_input_goes_with_the_last_record_of_it(self, command: Command, record: Path) -> None:
        for name in ("one", "two"):
            keep_input(name)
        blobs = record / "blobs"
        assert len(tree(blobs)) == 1
        assert told(command, "status")["blobs"] == {
            "where": ".pixano-annotate/blobs",
            "count": 1,
            "size": len(INPUT),
            "pending": 0,
        }
        assert "inputs  1 (21 B in .pixano-annotate/blobs)" in printed(command, "status")
        assert told(command, "tag", "--source", "kept", "--set", "name=kept") == {"records": 2}
        other = istore.NewExtendedMetadataRequest(
            key="name", value="other", type=istore.MetadataType.STRING
        )
        istore.create_metadata(DETECTOR, "two", other)
        planned = {"records": 1, "protected": 0, "blobs": 0, "size": 0}
        assert told(command, "delete", "--meta", "name=other", "--yes") == {
            "deleted": 1,
            "planned": planned,
        }
        assert len(tree(blobs)) == 1
        done = command("store", "delete", "--source", "kept", "-y")
        assert "1 record with its metadata and 1 input (21 B)" in done.line
        assert tree(blobs) == {}
        assert told(command, "status")["blobs"]["count"] == 0

    def test_a_dry_run_deletes_nothing(self, command: Command) -> None:
        done = command("store", "delete", *CATS, "--dry-run")
        assert (done.code, done.out) == (0, "")
        assert "to be deleted for good from store .pixano-annotate: 2 records" in done.line
        planned = {"records": 2, "protected": 0, "blobs": 0, "size": 0}
        said = told(command, "delete", *CATS, "--dry-run", "--yes")
        assert said == {"deleted": 0, "planned": planned}
        assert count(command) == 10

    def test_nothing_to_delete(self, command: Command) -> None:
        done = command("store", "delete", "--label", "none")
        assert (done.code, done.out) == (0, "")
        assert done.line == "store .pixano-annotate: no record passes the filters"
        assert told(command, "delete", "--label", "none")["deleted"] == 0

    def test_without_a_terminal_it_refuses(self, commands: Commands, command: Command) -> None:
        for options in ([], ["--json"]):
            done = commands.run("store", "delete", "--all", *options)
            assert (done.code, done.out) == (2, "")
            assert done.err.splitlines() == [
                "to be deleted for good from store .pixano-annotate: 10 records with their "
                "metadata",
                "pixano-annotate: nothing is deleted without a yes: give --yes",
            ]
        assert count(command) == 10

    @pytest.mark.parametrize(
        ("typed", "code", "said", "left"),
        [
            (b"y\n", 0, "2 records deleted", 8),
            (b"n\n", 1, "nothing is deleted", 10),
            (b"\n", 1, "nothing is deleted", 10),
            (b"what?\ny\n", 0, "2 records deleted", 8),
            (b"\x04", 130, "pixano-annotate: aborted", 10),
        ],
    )
    def test_on_a_terminal_it_asks(
        self,
        commands: Commands,
        command: Command,
        typed: bytes,
        code: int,
        said: str,
        left: int,
    ) -> None:
        """A real terminal, at which somebody types."""
        terminal, inside = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "pixano_cli", "store", "delete", *CATS],
            cwd=commands.folder,
            env=commands.environment | {"TERM": "dumb"},
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)
        shown = b""
        while b"Delete them? [y/N]: " not in shown:
            shown += os.read(terminal, 1000)
        assert b"2 records with their metadata" in shown
        os.write(terminal, typed)
        # The terminal is gone once the process has ended.
        with suppress(OSError):
            while more := os.read(terminal, 1000):
                shown += more
        os.close(terminal)
        assert process.wait() == code, shown
        assert said in shown.decode()
        assert b"Traceback" not in shown
        assert count(command) == left

    def test_what_was_deleted_is_asked_about_again(self, command: Command, recorded: Path) -> None:
        detect = ("detect", recorded / "photos", "-o", "out.json", "--json")
        assert command(*detect).summary["processed"] == 0
        assert command("store", "delete", *CATS, "--yes").code == 0
        assert command(*detect).summary["processed"] == 2
        assert count(command) == 10


def test_export(command: Command, work: Path) -> None:
    done = command("store", "export", "-o", "cats.json", *CATS, "--threshold", 0.5, "--json")
    assert done.code == 0, done.err
    assert done.counts == {"total": 2, "processed": 0, "cached": 2, "failed": 0}
    coco = json.loads((work / "cats.json").read_bytes())
    names = {each["id"]: each["name"] for each in coco["categories"]}
    assert {each["file_name"] for each in coco["images"]} == {"chelsea.png", "paris.jpg"}
    assert [names[each["category_id"]] for each in coco["annotations"]] == ["cat", "cat"]
    done = command("store", "export", "-o", "all.zip", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    with ZipFile(work / "all.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist()
    vectors = ("store", "export", "-o", "vectors.parquet", "--action", "embed", "--json")
    assert command(*vectors).summary["annotations"] == 5


def test_vacuum(command: Command, store: istore.Store) -> None:
    assert told(command, "tag", "--all", "--set", f"text={'x' * 100_000}") == {"records": 10}
    assert told(command, "tag", "--all", "--unset", "text") == {"records": 10}
    said = told(command, "vacuum")
    assert said["before"] > 1_000_000
    assert said["after"] < said["before"] - 900_000
    assert said["after"] == told(command, "status")["size"] == store.size()
    assert printed(command, "vacuum").count(" kB") == 2
    assert count(command) == 10


class TestVerify:
    def test_a_sound_store(self, command: Command) -> None:
        keep_input("kept")
        for options in ([], ["--deep"], ["--repair"]):
            said = told(command, "verify", *options)
            assert (said["is_sound"], said["problems"]) == (True, [])
            assert (said["records"], said["blobs"]) == (11, 1)
            assert printed(command, "verify", *options) == "11 records and 1 input checked: ok\n"

    def test_a_lost_input(self, command: Command, record: Path) -> None:
        keep_input("kept")
        (name,) = tree(record / "blobs")
        (record / "blobs" / name).unlink()
        done = command("store", "verify")
        assert (done.code, done.err) == (1, "")
        assert done.out.endswith("11 records and 1 input checked: 1 kind of problem\n")
        said = told(command, "verify", code=1)
        assert not said["is_sound"]
        assert len(said["problems"]) == 1

    def test_an_altered_input_is_found_by_reading_it(self, command: Command, record: Path) -> None:
        keep_input("kept")
        (name,) = tree(record / "blobs")
        (record / "blobs" / name).write_bytes(INPUT[::-1])
        assert told(command, "verify")["is_sound"]
        assert not told(command, "verify", "--deep", code=1)["is_sound"]

    def test_a_file_that_nobody_knows_is_left(self, command: Command, record: Path) -> None:
        keep_input("kept")
        (name,) = tree(record / "blobs")
        stray = (record / "blobs" / name).with_name("0" * 64)
        stray.write_bytes(b"stray")
        done = command("store", "verify", "--repair")
        assert done.code == 1
        assert f"{stray.name}): remove them, if no other store keeps its inputs there" in done.out
        assert stray.exists()

    def test_what_is_told_elsewhere_is_put_right(self, command: Command, record: Path) -> None:
        cats = count(command, *CATS)
        with closing(sqlite3.connect(record / "store.sqlite3")) as connection, connection:
            connection.execute("DELETE FROM elements WHERE label = 'cat'")
        assert count(command, *CATS) == 0
        done = command("store", "verify")
        assert done.code == 1
        assert "verify --repair" in done.out.splitlines()[0]
        repaired = command("store", "verify", "--repair")
        assert repaired.code == 0
        assert len(repaired.out.splitlines()) == 2
        assert repaired.out.endswith("checked: ok\n")
        assert told(command, "verify")["problems"] == []
        assert count(command, *CATS) == cats == 2
