"""`export` and `store export` with filters, from outside."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from .coco_files import by_photograph
from .tool import SAMPLES, Commands, Done, query

Command = Callable[..., Done]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which the sample photographs are detected and segmented."""
    from pixano_cli.cli.app import run

    folder = tmp_path_factory.mktemp("annotated")
    for task in ("detect", "segment"):
        output = str(folder / f"{task}.json")
        assert run([task, str(SAMPLES), "-o", output, "--store", str(folder / "st"), "-q"]) == 0
    return folder


def without_info(path: Path) -> dict[str, Any]:
    return {key: value for key, value in json.loads(path.read_bytes()).items() if key != "info"}


def test_records_of_a_run_are_written_as_the_run_was(
    annotated: Path, command: Command, work: Path
) -> None:
    store = ("--store", annotated / "st")
    done = command(
        "export", "-o", "all.json", "--model-id", "picodet-s-416", "--threshold", 0.5, *store
    )
    assert done.code == 0, done.err
    assert without_info(work / "all.json") == without_info(annotated / "detect.json")
    # A segmenter has no box of its own: what a run showed of it is what it segmented.
    done = command("store", "export", "-o", "masks.json", "--model-id", "mobile-sam", *store)
    assert done.code == 0, done.err
    segmented = without_info(annotated / "segment.json")
    written = without_info(work / "masks.json")
    assert written["annotations"] == segmented["annotations"]
    assert written["categories"] == segmented["categories"]


def test_filters_choose_records(annotated: Path, command: Command, work: Path) -> None:
    common = ("export", "-o", "out.json", "--store", annotated / "st", "--threshold", 0.5, "--json")
    one = ("--model-id", "picodet-s-416")
    done = command(*common, *one, "--label", "cat", "--label", "cup", "--min-score", 0.5)
    assert done.summary["task"] == "export"
    assert done.counts == {"total": 2, "processed": 0, "cached": 2, "failed": 0}
    assert by_photograph(work / "out.json") == {
        "chelsea.png": ["cat"],
        "coffee.png": ["dining table", "cup"],
    }
    assert command(*common, *one, "--classes", "cup", "--since", "1h").summary["annotations"] == 1
    done = command(*common, *one, "--meta", "height>400", "--meta", "file_name in [rocket.jpg]")
    assert by_photograph(work / "out.json") == {"rocket.jpg": []}
    assert command(*common, "--until", "2020-01-01").counts["total"] == 0


def test_every_format(annotated: Path, command: Command, work: Path) -> None:
    outputs = [part for suffix in ("json", "parquet", "zip") for part in ("-o", f"o.{suffix}")]
    done = command("export", "--all", *outputs, "--store", annotated / "st")
    assert done.code == 0, done.err
    names = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]
    assert sorted(by_photograph(work / "o.json")) == names
    assert pq.read_table(work / "o.parquet").column("file_name").to_pylist() == names
    with zipfile.ZipFile(work / "o.zip") as archive:
        for name in names:
            assert archive.read(f"inputs/{name}") == (SAMPLES / name).read_bytes()
    for suffix in ("json", "parquet"):
        before = (work / f"o.{suffix}").read_bytes()
        assert (
            command("store", "export", "-o", f"o.{suffix}", "--store", annotated / "st").code == 0
        )
        assert (work / f"o.{suffix}").read_bytes() == before


def test_embeddings(command: Command, work: Path) -> None:
    store = ("--store", "st")
    assert command("embed", SAMPLES, "-o", "run.parquet", *store, "-q").code == 0
    done = command("store", "export", "-o", "records.parquet", *store)
    assert done.code == 0, done.err
    run, records = (pq.read_table(work / f"{name}.parquet") for name in ("run", "records"))
    assert run.to_pylist() == records.to_pylist()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--all", "--label", "cat"], "--all means every record"),
        (["--all", "--run", "x"], "--run: a run is written as it was"),
        (["--label", "cat", "--task", "detect"], "--task: a run is written as it was"),
        (["--meta", "nonsense"], "--meta 'nonsense' is no comparison"),
        (["--since", "yesterday"], "--since 'yesterday'"),
        (["--near", "1,2"], "--near '1,2': numbers are wanted"),
        (["--action", "guess"], "--action guess: one of"),
        (["--model-id", "picodet"], "has no model 'picodet': did you mean 'picodet-s-416'?"),
        (["--all", "--max-failures", "x"], "--max-failures x"),
        (["--all", "--threshold", "2"], "--threshold 2.0: a number from 0 to 1"),
        (["--all", "--categories", "none.txt"], "none.txt"),
    ],
)
def test_wrong_usage(annotated: Path, command: Command, options: list[str], line: str) -> None:
    done = command("export", "-o", "out.json", "--store", annotated / "st", *options)
    assert done.code == 2
    assert line in done.line
    assert not Path("out.json").exists()


def test_no_store(command: Command) -> None:
    done = command("store", "export", "-o", "out.json", "--store", "none")
    assert done.code == 1
    assert "there is none here" in done.line
    assert not Path("none").exists()


@pytest.mark.parametrize("options", [("-o", "out.zip"), ("-o", "o", "--format", "archive")])
def test_an_archive_is_of_records(command: Command, options: tuple[str, ...]) -> None:
    done = command("export", *options)
    assert done.code == 2
    assert "an archive is of records, not of a run" in done.line


def test_failures_give_exit_code_3(command: Command, commands: Commands, work: Path) -> None:
    """A record that somebody put in by hand, with nothing that tells the size of its file."""
    made = commands.run(program=("-c", RECORD))
    assert made.code == 0, made.err
    done = command("export", "--all", "-o", "out.json", "--store", "st")
    assert done.code == 3
    assert "1 file failed: more than --max-failures allows" in done.err
    [failed] = (work / "out.json.failed.jsonl").read_text().splitlines()
    assert json.loads(failed)["path"] == "one"
    assert (
        command("export", "--all", "-o", "out.json", "--store", "st", "--max-failures", 1).code == 0
    )
    assert query(work / "st", "SELECT count(*) FROM inferences") == [(1,)]


RECORD = """
from pixano_cli import inference_store as istore
with istore.connect("st"):
    istore.register_model_for_inference_storage(istore.NewRegisterModelRequest(
        model_id="m", project_id="p", task_type=istore.TaskType.OBJECT_DETECTION))
    istore.create_inference("m", istore.NewInferenceStorageRequest(
        model_id="m", inference_id="one", data=istore.NewInferenceAndMetadataCollection(
            object_detection=[], metadata=istore.NewMetadataCollectionRequest(
                standard_metadata=istore.NewStandardMetadataRequest(
                    data_hash="0" * 64, data_size=1,
                    task_type=istore.TaskType.OBJECT_DETECTION,
                    inference_action=istore.InferenceAction.DETECT)))))
"""


def test_help_says_how_filters_are_written(command: Command) -> None:
    for words in (("export",), ("store", "export")):
        shown = " ".join(command(*words, "--help").out.split())
        for option in ("--label", "--min-score", "--since", "--meta", "--near", "--within"):
            assert option in shown
