"""Bad files among good ones: each is told of, none stops the rest, and they are tried again."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from PIL import Image

from .tool import Done, Log, check_store, query

Command = Callable[..., Done]


def png_of_30000_by_30000() -> bytes:
    """Return a small, valid PNG whose header announces 900 million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", checksum)

    header = struct.pack(">LLBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 30_000 // 8) * 30)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_with_broken_exif(image: Image.Image) -> bytes:
    """Return a JPEG whose EXIF block has a directory beyond its end."""
    block = b"Exif\0\0II*\0" + struct.pack("<L", 5000) + b"\0" * 20
    content = io.BytesIO()
    image.save(content, "JPEG", exif=block)
    return content.getvalue()


def put_bad_files(root: Path, image: Image.Image) -> dict[str, str]:
    """Put 20 bad files below `root`; return the stage that each fails at, by name."""
    jpeg, png = io.BytesIO(), io.BytesIO()
    image.save(jpeg, "JPEG")
    image.save(png, "PNG")
    contents = {
        "empty.jpg": b"",
        "empty.png": b"",
        "bad/empty.webp": b"",
        "half.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
        "bad/header-only.jpg": jpeg.getvalue()[:24],
        "half.png": png.getvalue()[: len(png.getvalue()) // 2],
        "bad/header-only.png": png.getvalue()[:24],
        "text.jpg": b"not an image at all\n",
        "bad/text.png": b"{}\n",
        "page.tiff": b"<!DOCTYPE html><html></html>",
        "zeros.bmp": bytes(1000),
        "bomb.png": png_of_30000_by_30000(),
        "bad/bomb.png": png_of_30000_by_30000(),
        "exif.jpg": jpeg_with_broken_exif(image),
        "bad/exif.jpg": jpeg_with_broken_exif(image.transpose(Image.Transpose.ROTATE_90)),
        "damaged.png": png.getvalue()[:60] + bytes(200) + png.getvalue()[260:],
        "signature.gif": b"GIF89a",
    }
    stages = dict.fromkeys(contents, "decode")
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "dangling.jpg").symlink_to("nowhere.jpg")
    (root / "loop.png").symlink_to("loop.png")
    os.mkfifo(root / "pipe.jpg")
    stages |= dict.fromkeys(("dangling.jpg", "loop.png", "pipe.jpg"), "read")
    return stages


@pytest.fixture
def folder(photos: Callable[..., Path], crops: Callable[[int], list[Image.Image]]) -> Path:
    """180 good images."""
    return photos(180)


def failures(path: Path) -> list[dict[str, str]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_the_good_ones_are_done_and_the_bad_ones_told_of_and_tried_again(
    command: Command,
    folder: Path,
    work: Path,
    log: Log,
    crops: Callable[[int], list[Image.Image]],
) -> None:
    stages = put_bad_files(folder, crops(1)[0])
    assert len(stages) == 20
    detect = ("detect", folder, "-m", "counting-detector", "-o", "out.json", "--json")

    first = command(*detect)
    assert first.code == 3, first.err
    assert "20 files failed" in first.err
    assert "Traceback" not in first.err
    assert first.counts == {"total": 200, "processed": 180, "cached": 0, "failed": 20}
    listed = failures(work / "out.json.failed.jsonl")
    assert {row["path"]: row["stage"] for row in listed} == stages
    assert [row["path"] for row in listed] == sorted(stages)
    for row in listed:
        assert row["error_class"] in {"MediaReadError", "ImageDecodeError"}
        assert row["message"]
        assert row["message"].isprintable()
    reasons = {row["path"]: row["message"] for row in listed}
    assert "empty" in reasons["empty.jpg"]
    assert "truncated" in reasons["half.jpg"]
    assert "truncated" in reasons["half.png"]
    assert "text" in reasons["text.jpg"]
    assert "bomb" in reasons["bomb.png"]
    assert "EXIF" in reasons["exif.jpg"]
    assert "pipe" in reasons["pipe.jpg"]
    document = orjson.loads((work / "out.json").read_bytes())
    names = [image["file_name"] for image in document["images"]]
    assert len(names) == 180
    assert not set(names) & set(stages)
    assert len(document["annotations"]) == first.summary["annotations"]
    annotated = {annotation["image_id"] for annotation in document["annotations"]}
    assert first.summary["empty"] == 180 - len(annotated)
    calls = log.count()

    again = command(*detect, "--max-failures", "10%")
    assert again.code == 0, again.err
    assert again.counts == {"total": 200, "processed": 0, "cached": 180, "failed": 20}
    assert log.count() == calls
    assert failures(work / "out.json.failed.jsonl") == listed
    for allowed, code in (("20", 0), ("19", 3), ("9.9%", 3)):
        assert command(*detect, "--max-failures", allowed).code == code

    crops(1)[0].rotate(7).save(folder / "half.jpg", "JPEG")
    repaired = command(*detect)
    assert repaired.code == 3
    assert repaired.counts == {"total": 200, "processed": 1, "cached": 180, "failed": 19}
    assert log.count() == calls + 1
    assert "half.jpg" not in {row["path"] for row in failures(work / "out.json.failed.jsonl")}

    for name in stages:
        if name != "half.jpg":
            (folder / name).unlink()
    whole = command(*detect)
    assert whole.code == 0
    assert whole.counts == {"total": 181, "processed": 0, "cached": 181, "failed": 0}
    assert not (work / "out.json.failed.jsonl").exists()
    check_store(work / ".pixano-annotate")


def test_a_run_of_bad_files_only_writes_an_empty_output(command: Command, work: Path) -> None:
    (work / "a.jpg").write_bytes(b"")
    done = command("detect", "a.jpg", "-o", "out.json", "-o", "out.parquet", "--json")
    assert done.code == 3
    assert done.counts == {"total": 1, "processed": 0, "cached": 0, "failed": 1}
    assert orjson.loads((work / "out.json").read_bytes())["images"] == []
    for output in ("out.json", "out.parquet"):
        assert [row["path"] for row in failures(work / f"{output}.failed.jsonl")] == ["a.jpg"]


def test_the_first_failure_is_named_and_all_of_them_when_asked(
    command: Command, work: Path
) -> None:
    (work / "a.jpg").write_bytes(b"")
    detect = ("detect", "a.jpg", "-o", "o.json")
    told = "failed (decode): a.jpg: the file is empty"
    for options in ((), ("-v",)):
        assert command(*detect, *options).err.splitlines().count(told) == 1
    assert command(*detect, "-q").line.startswith("pixano-annotate: 1 file failed: more than")
    (work / "b.jpg").write_bytes(b"")
    detect = ("detect", "a.jpg", "b.jpg", "-o", "o.json")
    err = command(*detect).err
    assert err.count("the first that failed (decode): ") == 1
    assert err.count(".jpg: the file is empty\n") == 1
    err = command(*detect, "-v").err
    assert "first that" not in err
    assert err.count(".jpg: the file is empty\n") == 2


def test_one_is_counted_as_one(command: Command, photos: Callable[..., Path]) -> None:
    photos(1)
    done = command("detect", "photos", "-o", "o.json", "--threshold", "1")
    assert "1 image, 0 of them recorded already" in done.err
    assert "0 annotations, 1 image without any" in done.err
    assert command("embed", "photos", "-o", "o.parquet").err.count("; 1 vector\n") == 1


def test_what_may_not_be_read_fails_alone(
    command: Command, photos: Callable[..., Path], work: Path
) -> None:
    folder = photos(3)
    first = min(folder.iterdir())
    first.chmod(0)
    if os.access(first, os.R_OK):
        pytest.skip("root may read everything: run it as another user")
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0)
    try:
        done = command("detect", folder, "-o", "out.json", "--json")
    finally:
        (folder / "closed").chmod(0o700)
    assert done.counts == {"total": 4, "processed": 2, "cached": 0, "failed": 2}
    listed = {row["path"]: row["stage"] for row in failures(work / "out.json.failed.jsonl")}
    assert listed == {first.name: "read", "closed": "read"}


def test_a_file_that_fails_is_kept_out_of_the_store_and_its_neighbours_are_not(
    command: Command, photos: Callable[..., Path], work: Path
) -> None:
    folder = photos(4)
    (folder / "half.jpg").write_bytes(next(folder.iterdir()).read_bytes()[:2000])
    assert command("detect", folder, "-o", "out.json").code == 3
    store = work / ".pixano-annotate"
    assert query(store, "SELECT count(*) FROM inferences") == [(4,)]
    assert query(store, "SELECT file_name, status FROM items WHERE status <> 'processed'") == [
        ("half.jpg", "failed")
    ]


def test_no_answer_of_a_model_takes_others_with_it(command: Command, work: Path, log: Log) -> None:
    folder = work / "photos"
    folder.mkdir()
    for width in range(17):
        Image.new("RGB", (100 + width, 80), (width, 0, 0)).save(folder / f"{width:02}.png")
    detect = ("detect", folder, "-m", "hostile-detector", "-o", "out.json", "--json")
    done = command(*detect, "--concurrency", 8)
    assert done.code == 3, done.err
    listed = {row["path"]: row for row in failures(work / "out.json.failed.jsonl")}
    for row in listed.values():
        assert row["stage"] == "infer"
        assert row["message"]
        assert len(row["message"]) < 1000
        assert "\n" not in row["message"]
    assert [int(name[:2]) for name in listed] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert done.counts == {"total": 17, "processed": 6, "cached": 0, "failed": 11}
    document = orjson.loads((work / "out.json").read_bytes())
    boxes = {each["image_id"]: each["bbox"] for each in document["annotations"]}
    named = {image["id"]: image["file_name"] for image in document["images"]}
    found = {named[image]: bbox for image, bbox in boxes.items()}
    assert found == {
        "00.png": [1, 2, 29, 38],
        "12.png": [1, 2, 29, 38],
        "13.png": [1, 2, 29, 38],
        "14.png": [0, 0, 114, 80],
    }
    again = command(*detect)
    assert again.counts == {"total": 17, "processed": 0, "cached": 6, "failed": 11}
