"""The same work is never done twice, whatever the command changes that is no part of the work."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from pixano_cli.annotate.record import Recorder

from .tool import Done, Log, check_store, query

NUMBER = 12
DETECT = ("detect", "photos", "-m", "counting-detector", "--json")
BOTH = ("-o", "out.json", "-o", "out.parquet")


class Rerun:
    """A folder that is recorded, and what commands make of it after a change."""

    def __init__(self, command: Callable[..., Done], work: Path, log: Log) -> None:
        self.command = command
        self.work = work
        self.log = log
        self.folder = work / "photos"
        self.first = command(*DETECT, *BOTH)
        assert self.first.counts == {"total": NUMBER, "processed": NUMBER, "cached": 0, "failed": 0}
        assert log.count() == NUMBER
        self.outputs = self.contents()

    def contents(self) -> list[bytes]:
        return [(self.work / name).read_bytes() for name in ("out.json", "out.parquet")]

    def again(self, *options: object, inferred: int) -> Done:
        """Run the command with more options; `inferred` says how many images must be."""
        before = self.log.count()
        done = self.command(*DETECT, *options)
        assert done.code == 0, done.err
        assert self.log.count() - before == inferred
        assert done.summary["processed"] == inferred
        assert done.summary["cached"] == done.summary["total"] - inferred
        check_store(self.work / ".pixano-annotate")
        return done

    def document(self) -> dict[str, Any]:
        return orjson.loads((self.work / "out.json").read_bytes())


@pytest.fixture
def rerun(command: Callable[..., Done], work: Path, log: Log, photos: Callable[..., Path]) -> Rerun:
    photos(NUMBER)
    return Rerun(command, work, log)


def without_time(done: Done) -> dict[str, Any]:
    return {
        key: value
        for key, value in done.summary.items()
        if key not in ("seconds", "processed", "cached")
    }


def test_the_same_command_again(rerun: Rerun) -> None:
    again = rerun.again(*BOTH, inferred=0)
    assert rerun.contents() == rerun.outputs
    assert without_time(again) == without_time(rerun.first)
    assert len(query(rerun.work / ".pixano-annotate", "SELECT 1 FROM runs")) == 2
    assert len(query(rerun.work / ".pixano-annotate", "SELECT 1 FROM items")) == NUMBER


def test_outputs_do_not_depend_on_concurrency_or_on_order(rerun: Rerun, tmp_path: Path) -> None:
    for concurrency in (1, 5):
        store = tmp_path / f"store{concurrency}"
        rerun.again("--store", store, "--concurrency", concurrency, *BOTH, inferred=NUMBER)
        assert rerun.contents() == rerun.outputs


def test_touched_files_are_read_and_not_inferred(rerun: Rerun) -> None:
    for path in rerun.folder.iterdir():
        os.utime(path, (1, 1))
    rerun.again(*BOTH, inferred=0)
    assert rerun.contents() == rerun.outputs
    remembered = query(rerun.work / ".pixano-annotate", "SELECT DISTINCT mtime_ns FROM files")
    assert remembered == [(1_000_000_000,)]


def test_a_renamed_and_a_copied_file_are_not_inferred(rerun: Rerun) -> None:
    first, second, *_ = sorted(rerun.folder.iterdir())
    first.rename(rerun.folder / "renamed.jpg")
    shutil.copyfile(second, rerun.folder / "copied.jpg")
    done = rerun.again(*BOTH, inferred=0)
    assert done.summary["total"] == NUMBER + 1
    names = [image["file_name"] for image in rerun.document()["images"]]
    assert names == sorted(path.name for path in rerun.folder.iterdir())


def test_a_moved_folder_is_not_inferred(rerun: Rerun) -> None:
    rerun.folder.rename(rerun.work / "elsewhere")
    shutil.copytree(rerun.work / "elsewhere", rerun.folder)
    rerun.again(*BOTH, inferred=0)
    assert rerun.contents() == rerun.outputs


def test_only_changed_content_is_inferred(rerun: Rerun) -> None:
    path = sorted(rerun.folder.iterdir())[3]
    Image.open(path).rotate(180).save(path)
    rerun.again(*BOTH, inferred=1)
    assert rerun.contents() != rerun.outputs


def test_what_is_applied_afterwards_needs_no_inference(rerun: Rerun) -> None:
    higher = rerun.again("--threshold", 0.7, *BOTH, inferred=0)
    lower = rerun.again("--threshold", 0.2, *BOTH, inferred=0)
    assert higher.summary["annotations"] < rerun.first.summary["annotations"]
    assert lower.summary["annotations"] > rerun.first.summary["annotations"]
    only = rerun.again("--classes", "cat,person", *BOTH, inferred=0)
    assert 0 < only.summary["annotations"] < rerun.first.summary["annotations"]
    named = {category["name"] for category in rerun.document()["categories"]}
    assert named == {"cat", "person"}
    labels = rerun.work / "labels.txt"
    labels.write_text("cup\ncat\n")
    rerun.again("--categories", labels, *BOTH, inferred=0)
    assert [(each["id"], each["name"]) for each in rerun.document()["categories"]] == [
        (1, "cup"),
        (2, "cat"),
    ]
    rerun.again("--format", "parquet", "-o", "other.out", inferred=0)
    rerun.again(*BOTH, inferred=0)
    assert rerun.contents() == rerun.outputs


def test_how_it_is_run_is_no_part_of_the_work(rerun: Rerun) -> None:
    how = ("--concurrency", 3, "--batch-size", 4, "--device", "auto", "--max-failures", 5)
    rerun.again(*how, *BOTH, inferred=0)
    assert rerun.contents() == rerun.outputs


def test_another_model_is_asked(rerun: Rerun) -> None:
    rerun.again("-m", "counting-detector-2", *BOTH, inferred=NUMBER)
    assert rerun.document()["info"]["requests"][0]["model"] == "counting-detector-2"
    rerun.again("-m", "counting-detector-2", *BOTH, inferred=0)
    rerun.again(*BOTH, inferred=0)
    assert rerun.contents() == rerun.outputs


def test_overwriting_asks_again_and_replaces(rerun: Rerun) -> None:
    statement = "SELECT inference_id, data FROM inferences ORDER BY inference_id"
    before = query(rerun.work / ".pixano-annotate", statement)
    rerun.again("--overwrite", *BOTH, inferred=NUMBER)
    assert rerun.contents() == rerun.outputs
    assert query(rerun.work / ".pixano-annotate", statement) == before
    rerun.again(*BOTH, inferred=0)


def test_overwriting_asks_once_for_the_same_bytes(rerun: Rerun) -> None:
    shutil.copyfile(sorted(rerun.folder.iterdir())[0], rerun.folder / "copied.jpg")
    before = rerun.log.count()
    done = rerun.command(*DETECT, *BOTH, "--overwrite")
    assert rerun.log.count() - before == NUMBER
    assert done.counts == {"total": NUMBER + 1, "processed": NUMBER, "cached": 1, "failed": 0}


def test_a_checksum_finds_what_size_and_time_hide(
    rerun: Rerun, crops: Callable[[int], list[Image.Image]]
) -> None:
    path = rerun.folder / "a.bmp"
    one, other = (crop.resize((200, 100)) for crop in crops(2))
    one.save(path)
    rerun.again(*BOTH, inferred=1)
    outputs = rerun.contents()
    before = path.stat()
    other.save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    rerun.again(*BOTH, inferred=0)
    assert rerun.contents() == outputs
    rerun.again("--checksum", *BOTH, inferred=1)
    assert rerun.contents() != outputs
    outputs = rerun.contents()
    rerun.again(*BOTH, inferred=0)
    assert rerun.contents() == outputs


def test_a_dry_run_tells_and_does_nothing(rerun: Rerun, photos: Callable[..., Path]) -> None:
    photos(3, first=NUMBER)
    before = query(rerun.work / ".pixano-annotate", "SELECT count(*) FROM items")
    done = rerun.command(*DETECT, "-o", "new.json", "--dry-run")
    assert done.code == 0
    assert done.summary == {
        "task": "detect",
        "model": "counting-detector",
        "provider": "local",
        "total": NUMBER + 3,
        "cached": NUMBER,
        "pending": 3,
    }
    assert rerun.log.count() == NUMBER
    assert not (rerun.work / "new.json").exists()
    assert query(rerun.work / ".pixano-annotate", "SELECT count(*) FROM items") == before


def test_segmenting_uses_what_detecting_recorded(rerun: Rerun) -> None:
    models = ("--detector", "counting-detector", "-m", "counting-segmenter")
    segment = ("segment", "photos/00[0-3].jpg", *models, "-o", "masks.json", "--json")
    done = rerun.command(*segment)
    assert done.code == 0, done.err
    assert rerun.log.count("detect") == NUMBER
    encoded, decoded = rerun.log.count("encode"), rerun.log.count("decode")
    assert decoded == done.summary["annotations"] > 0
    assert encoded == done.summary["processed"] == 4 - done.summary["empty"]
    # What a lower threshold adds is asked for, and nothing else.
    lower = rerun.command(*segment, "--threshold", 0.4)
    assert rerun.log.count("detect") == NUMBER
    assert rerun.log.count("decode") == lower.summary["annotations"] > decoded
    masks = (rerun.work / "masks.json").read_bytes()
    decoded = rerun.log.count("decode")
    higher = rerun.command(*segment, "--threshold", 0.5)
    assert rerun.log.count("decode") == decoded
    assert higher.summary["annotations"] == done.summary["annotations"]
    overwritten = rerun.command(*segment, "--threshold", 0.4, "--overwrite")
    assert overwritten.summary["processed"] == 4
    assert rerun.log.count("decode") == decoded + lower.summary["annotations"]
    assert (rerun.work / "masks.json").read_bytes() == masks
    check_store(rerun.work / ".pixano-annotate")


def test_copies_do_not_wait_for_each_other(
    command: Callable[..., Done],
    work: Path,
    log: Log,
    photos: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the first of many copies is inferred, and the others are recorded together."""
    folder = photos(1)
    for at in range(60):
        shutil.copyfile(folder / "000.jpg", folder / f"copy-{at}.jpg")
    commit, commits = Recorder._commit, []

    def counted(self: Recorder, group: Any) -> Exception | None:
        commits.append(len(group))
        return commit(self, group)

    monkeypatch.setattr(Recorder, "_commit", counted)
    done = command(*DETECT, "-o", "out.json")
    assert done.counts == {"total": 61, "processed": 1, "cached": 60, "failed": 0}
    assert log.count() == 1
    assert sum(commits) == 61
    assert len(commits) < 30


def test_of_two_answers_to_one_prompt_the_latest_counts(rerun: Rerun) -> None:
    """Prompts asked again together with others leave the earlier answers to others in place."""
    store = rerun.work / ".pixano-annotate"

    def segment(*boxes: list[int]) -> dict[str, float]:
        prompts = [{"label": f"{box}", "box": box} for box in boxes]
        (rerun.work / "prompts.json").write_bytes(
            orjson.dumps({path.name: prompts for path in rerun.folder.glob("00[0-3].jpg")})
        )
        done = rerun.command(
            *("segment", "photos/00[0-3].jpg", "--prompts", "prompts.json", "--overwrite"),
            *("-o", "out.json", "--json"),
        )
        assert done.counts == {"total": 4, "processed": 4, "cached": 0, "failed": 0}
        return {
            f"{each['image_id']} {each['category_id']}": each["score"]
            for each in rerun.document()["annotations"]
        }

    again, once, new = [0, 0, 150, 150], [90, 90, 200, 200], [50, 0, 250, 100]
    segment(again, once)
    with closing(sqlite3.connect(store / "store.sqlite3")) as connection:
        connection.execute(
            """UPDATE inferences SET data = replace(data, '"iou":0.', '"iou":0.00')
            WHERE model_id = 'mobile-sam'"""
        )
        connection.commit()
    assert all(score > 0.01 for score in segment(again, new).values())
    assert query(store, "SELECT count(*) FROM inferences WHERE model_id = 'mobile-sam'") == [(8,)]
    assert len(segment(again, once, new)) == 12
    assert query(store, "SELECT count(*) FROM inferences WHERE model_id = 'mobile-sam'") == [(4,)]
