"""Files under any name a file system allows, found in every way that sources can be named."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image

from .tool import Commands, Done, Log, check_store

Command = Callable[..., Done]

NAMES = [
    "with space.jpg",
    " leading.jpg",
    "trailing .jpg",
    "it's.jpg",
    'double "quoted".jpg',
    "new\nline.jpg",
    "tab\t.jpg",
    "percent%20.jpg",
    "question?.jpg",
    "star*[a].jpg",
    "hash#.jpg",
    "back\\slash.jpg",
    "-o.jpg",
    "--help.jpg",
    "a,b;c&d=e.jpg",
    "ünïcödé.jpg",
    "u\u0308ni.jpg",
    "写真.jpg",
    "😀.jpg",
    "\u202egnp.jpg",
    "x" * 250 + ".jpg",
    "UPPER.JPG",
]


@pytest.fixture
def images(gallery: Path) -> list[bytes]:
    paths = sorted(gallery.rglob("*.jpg"), key=lambda path: path.name)
    return [path.read_bytes() for path in paths[:40]]


def names_in(work: Path) -> list[str]:
    """Return the names in both outputs, which must be the same."""
    document = orjson.loads((work / "out.json").read_bytes())
    names = [image["file_name"] for image in document["images"]]
    assert pq.read_table(work / "out.parquet")["file_name"].to_pylist() == names
    assert names == sorted(names, key=str.encode)
    assert len(set(names)) == len(names)
    return names


DETECT = ("-m", "counting-detector", "-o", "out.json", "-o", "out.parquet", "--json")


def test_any_name(command: Command, log: Log, work: Path, images: list[bytes]) -> None:
    folder = work / "odd 'földer'\n%41"
    folder.mkdir()
    for name, content in zip(NAMES, images, strict=False):
        (folder / name).write_bytes(content)
    done = command("detect", folder, *DETECT)
    assert done.code == 0, done.err
    assert done.counts == {"total": len(NAMES), "processed": len(NAMES), "cached": 0, "failed": 0}
    assert sorted(names_in(work)) == sorted(NAMES)
    again = command("detect", folder, *DETECT)
    assert again.counts == {"total": len(NAMES), "processed": 0, "cached": len(NAMES), "failed": 0}
    assert log.count() == len(NAMES)
    check_store(work / ".pixano-annotate")


def test_names_that_are_no_unicode(
    command: Command, log: Log, work: Path, images: list[bytes]
) -> None:
    folder = work / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    names = (b"caf\xe9.jpg", b"\xff\xfe.png", b"na\xc3\xafve.jpg", b"caf\xe8.jpg")
    for name, content in zip(names, images, strict=False):
        (folder / os.fsdecode(name)).write_bytes(content)
    done = command("detect", folder, *DETECT)
    assert done.code == 0, done.err
    assert done.counts == {"total": 4, "processed": 4, "cached": 0, "failed": 0}
    assert names_in(work) == ["\\xff\\xfe.png", "caf\\xe8.jpg", "caf\\xe9.jpg", "naïve.jpg"]
    again = command("detect", folder, *DETECT)
    assert again.counts == {"total": 4, "processed": 0, "cached": 4, "failed": 0}
    assert log.count() == 4
    (folder / os.fsdecode(b"b\xe4d.jpg")).write_bytes(b"")
    failed = command("detect", folder, *DETECT)
    assert failed.code == 3
    line = orjson.loads((work / "out.json.failed.jsonl").read_bytes())
    assert line["path"] == "b\\xe4d.jpg"


def test_an_output_a_store_and_a_working_folder_that_are_no_unicode(
    commands: Commands, photos: Callable[..., Path], work: Path
) -> None:
    photos(2)
    folder = work / os.fsdecode(b"d\xe9pot")
    shutil.copytree(work / "photos", folder / "photos")
    commands.folder = folder
    detect = ("detect", "photos", "-o", b"\xe9.json", "--store", b"st\xf6re", "--json")
    done = commands.run(*detect)
    assert done.code == 0, done.err
    assert done.counts == {"total": 2, "processed": 2, "cached": 0, "failed": 0}
    output = folder / os.fsdecode(b"\xe9.json")
    content = output.read_bytes()
    assert len(orjson.loads(content)["images"]) == 2
    assert orjson.loads(output.with_name(output.name + ".run.json").read_bytes())
    assert commands.run(*detect).counts["cached"] == 2
    output.unlink()
    assert commands.run("export", "-o", b"\xe9.json", "--store", b"st\xf6re").code == 0
    assert output.read_bytes() == content


def test_one_name_in_two_folders_and_one_content_under_two_names(
    command: Command, log: Log, work: Path, images: list[bytes]
) -> None:
    for folder, content in (("one", images[0]), ("two", images[1]), ("three", images[1])):
        (work / "photos" / folder).mkdir(parents=True)
        (work / "photos" / folder / "same.jpg").write_bytes(content)
    done = command("detect", "photos", *DETECT)
    assert done.counts == {"total": 3, "processed": 2, "cached": 1, "failed": 0}
    assert log.count() == 2
    assert names_in(work) == ["one/same.jpg", "three/same.jpg", "two/same.jpg"]
    rows = pq.read_table(work / "out.parquet").to_pylist()
    assert rows[1]["sha256"] == rows[2]["sha256"] != rows[0]["sha256"]

    def boxes(row: dict[str, Any]) -> list[dict[str, float]]:
        return [annotation["bbox"] for annotation in row["annotations"]]

    assert boxes(rows[1]) == boxes(rows[2])
    # Two sources: their names keep what is in them apart.
    done = command("detect", "photos/one", "photos/two", *DETECT)
    assert done.counts == {"total": 2, "processed": 0, "cached": 2, "failed": 0}
    assert names_in(work) == ["one/same.jpg", "two/same.jpg"]


def test_what_is_hidden_or_leads_out_is_passed_over(
    command: Command, work: Path, images: list[bytes]
) -> None:
    photos, outside = work / "photos", work / "outside"
    for path in (
        photos / "seen.jpg",
        photos / ".hidden.jpg",
        photos / ".folder" / "in.jpg",
        photos / "below" / ".thumbnails" / "in.jpg",
        outside / "secret.jpg",
        outside / "more" / "secret.jpg",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images[0])
    (photos / "notes.txt").write_text("no image")
    (photos / "out.jpg").symlink_to(outside / "secret.jpg")
    (photos / "out").symlink_to(outside, target_is_directory=True)
    (photos / "up").symlink_to(work, target_is_directory=True)
    (photos / "loop").symlink_to(photos, target_is_directory=True)
    (photos / "twin.jpg").symlink_to("seen.jpg")
    done = command("detect", "photos", *DETECT)
    assert done.code == 0, done.err
    assert names_in(work) == ["seen.jpg", "twin.jpg"]
    assert "symbolic links lead out" in done.err
    quiet = command("detect", "photos", *DETECT, "-q")
    assert quiet.err == ""


def test_content_counts_and_not_the_suffix(
    command: Command, work: Path, crops: Callable[[int], list[Image.Image]]
) -> None:
    folder = work / "photos"
    folder.mkdir()
    formats = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"]
    for kind, wrong, crop in zip(formats, [*formats[1:], formats[0]], crops(7), strict=True):
        crop.save(folder / f"{kind}.{wrong.lower()}", kind)
        crop.save(folder / kind.lower(), kind)
    done = command("detect", "photos", *DETECT)
    assert done.code == 0, done.err
    assert done.counts == {"total": 14, "processed": 7, "cached": 7, "failed": 0}
    assert len(names_in(work)) == 14


def test_sources_of_every_kind(
    command: Command, commands: Commands, photos: Callable[..., Path], work: Path
) -> None:
    photos(3)
    photos(3, folder="photos/below", first=3)
    assert command("detect", "photos", *DETECT).counts["total"] == 6
    everything = names_in(work)
    top = ["000.jpg", "001.jpg", "002.jpg"]
    assert everything == [*top, "below/003.jpg", "below/004.jpg", "below/005.jpg"]
    for sources, names in (
        (["photos/000.jpg"], ["000.jpg"]),
        ([work / "photos" / "000.jpg"], ["000.jpg"]),
        (["photos/*.jpg"], top),
        (["photos/**/*.jpg"], everything),
        (["photos/*/*.jpg"], everything[3:]),
        (["photos/00[12].jpg"], everything[1:3]),
        (["photos", "--no-recursive"], top),
        (["photos", "photos/000.jpg", "photos/*.jpg"], everything),
        (["./photos/../photos/"], everything),
    ):
        done = command("detect", *sources, *DETECT)
        assert done.code == 0, done.err
        assert done.summary["processed"] == 0
        assert names_in(work) == names, sources
    for listed in (b"photos/001.jpg\nphotos/below\n", b"photos/001.jpg\0photos/below"):
        process = subprocess.run(
            [sys.executable, "-m", "pixano_cli", "detect", "-", *DETECT],
            cwd=work,
            env=commands.environment,
            input=listed,
            capture_output=True,
            check=True,
        )
        assert orjson.loads(process.stdout)["cached"] == 4
        assert names_in(work) == ["001.jpg", *everything[3:]]
