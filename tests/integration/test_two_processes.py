"""Two processes at once on one store: the same result as one after the other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pixano_cli.annotate import job
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import runs

from .tool import Commands, Done, Log, check_store, query

ANSWERS = "SELECT inference_id, data_hash, request_key, data FROM inferences ORDER BY inference_id"


@pytest.fixture
def overlapping(photos: Callable[..., Path]) -> tuple[Path, Path]:
    """Two folders of 40 images, of which 25 are in both: one lies in the other."""
    below = photos(25, folder="one/both")
    photos(15, folder="one", first=25)
    photos(15, folder="other", first=40)
    return below.parent, below


def outputs(folder: Path, name: str) -> list[bytes]:
    return [(folder / f"{name}.{suffix}").read_bytes() for suffix in ("json", "parquet")]


@pytest.mark.parametrize("attempt", range(3))
def test_overlapping_folders_into_a_store_that_both_make(
    commands: Commands, log: Log, overlapping: tuple[Path, Path], work: Path, attempt: int
) -> None:
    one, both = overlapping
    other = work / "other"

    def detect(name: str, *sources: Path, store: str) -> tuple[object, ...]:
        options = ("-o", f"{name}.json", "-o", f"{name}.parquet", "--store", store, "-q")
        return ("detect", *sources, "-m", "counting-detector", *options)

    for name, sources in (("a", [one]), ("b", [both, other])):
        assert commands.run(*detect(f"{name}-alone", *sources, store="alone")).code == 0
    assert log.count() == 55
    log.clear()
    started = [
        commands.start(*detect("a", one, store="shared")),
        commands.start(*detect("b", both, other, store="shared")),
    ]
    for each in started:
        done = each.end()
        assert done.code == 0, done.err
        assert done.err == ""
    for name in ("a", "b"):
        assert outputs(work, name) == outputs(work, f"{name}-alone")
    check_store(work / "shared")
    assert query(work / "shared", ANSWERS) == query(work / "alone", ANSWERS)
    # Both may have had an image in flight, but what one has recorded the other does not ask.
    assert 55 <= log.count() < 80
    for name, sources in (("a", [one]), ("b", [both, other])):
        assert commands.run(*detect(name, *sources, store="shared")).code == 0
        assert outputs(work, name) == outputs(work, f"{name}-alone")


def test_the_very_same_command_twice_at_once(
    commands: Commands, photos: Callable[..., Path], work: Path
) -> None:
    command = ("detect", photos(30), "-o", "out.json", "-o", "out.parquet", "-q")
    assert commands.run(*command, "--store", "alone").code == 0
    expected = outputs(work, "out")
    for output in ("out.json", "out.parquet"):
        (work / output).unlink()
    started = [commands.start(*command, "--store", "shared") for _ in range(3)]
    for each in started:
        done = each.end()
        assert done.code == 0, done.err
    assert outputs(work, "out") == expected
    check_store(work / "shared")
    assert query(work / "shared", ANSWERS) == query(work / "alone", ANSWERS)
    assert not [path for path in work.iterdir() if path.name.startswith(".pixano-annotate-")]


def test_one_detects_and_one_segments(
    commands: Commands, log: Log, photos: Callable[..., Path], work: Path
) -> None:
    folder = photos(4)
    detect = ("detect", folder, "-m", "counting-detector", "-o", "boxes.json", "-q")
    models = ("--detector", "counting-detector", "-m", "counting-segmenter")
    segment = ("segment", folder, *models, "-o", "masks.json", "-q")
    for command in (detect, segment):
        assert commands.run(*command, "--store", "alone").code == 0
    expected = [(work / name).read_bytes() for name in ("boxes.json", "masks.json")]
    for each in [commands.start(*command, "--store", "shared") for command in (detect, segment)]:
        done = each.end()
        assert done.code == 0, done.err
    assert [(work / name).read_bytes() for name in ("boxes.json", "masks.json")] == expected
    check_store(work / "shared")
    assert query(work / "shared", ANSWERS) == query(work / "alone", ANSWERS)
    assert set(log.times("encode").values()) == {2}


def test_one_overwrites_while_the_other_reads(
    commands: Commands, photos: Callable[..., Path], work: Path
) -> None:
    folder = photos(40)
    command = ("detect", folder, "-q")
    assert commands.run(*command, "-o", "first.json").code == 0
    expected = (work / "first.json").read_bytes()
    overwriting = commands.start(*command, "-o", "overwritten.json", "--overwrite")
    while overwriting.process.poll() is None:
        done = commands.run(*command, "-o", "again.json", "--json")
        assert done.code == 0, done.err
        assert done.counts == {"total": 40, "processed": 0, "cached": 40, "failed": 0}
        assert (work / "again.json").read_bytes() == expected
    assert overwriting.end().code == 0
    assert (work / "overwritten.json").read_bytes() == expected
    check_store(work / ".pixano-annotate")


def test_a_run_is_taken_for_dead_only_where_its_process_would_be_seen(
    command: Callable[..., Done],
    photos: Callable[..., Path],
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a live run has to do must not be removed by the same command in another container."""
    photos(3)
    detect = ("detect", "photos", "-o", "out.json", "-q")

    async def dies(*_: object, **__: object) -> None:
        raise StoreError("the process dies")

    def items() -> int:
        return query(work / ".pixano-annotate", "SELECT count(*) FROM items")[0][0]

    monkeypatch.setattr(runs, "is_alive", lambda _: False)
    for expected in (3, 3):
        with monkeypatch.context() as patch:
            patch.setattr(job, "run_items", dies)
            assert command(*detect).code == 1
        assert items() == expected
    with monkeypatch.context() as patch:
        patch.setattr(runs, "host", lambda: "another container")
        assert command(*detect).code == 0
    assert items() == 6
    assert command(*detect).code == 0
    assert items() == 3
