"""Wrong usage: one line that says what to do, an exit code, and nothing written."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import pixano_cli
from pixano_cli.errors import UsageError

from .tool import Commands, Done, tree

Command = Callable[..., Done]

COCO = {
    "images": [{"id": 1, "file_name": "000.jpg", "width": 300, "height": 200}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "iscrowd": 0}
    ],
    "categories": [{"id": 1, "name": "cat"}],
}


def changed(part: str, **values: Any) -> str:
    """Return the COCO file above with other values in the only row of one of its lists."""
    return json.dumps(COCO | {part: [COCO[part][0] | values]})


FILES: Mapping[str, str | bytes] = {
    "empty.json": "",
    "list.json": "[]",
    "number.json": "1",
    "coco.json": json.dumps(COCO),
    "no-categories.txt": "\n",
    "twice.txt": "cat\ncat\n",
    "bad-id.json": '[{"id": "x", "name": "cat"}]',
    "binary.bin": bytes(range(256)),
    "fake.parquet": b"PAR1 and no more",
    "score.json": changed("annotations", score=57),
    "negative.json": changed("annotations", score=-0.1),
    "infinite.json": changed("annotations", bbox=[0, 0, 1e999, 1]),
    "text-box.json": changed("annotations", bbox=["0", 0, 1, 1]),
    "no-image.json": changed("annotations", image_id=2),
    "no-label.json": changed("categories", name=""),
    "box.json": '{"000.jpg": [{"box": [1, 2, 3]}]}',
    "points.json": '{"000.jpg": [{"points": {"x": 1}, "box": [0, 0, 9, 9]}]}',
    "labels.json": '{"000.jpg": [{"points": [[1, 2]], "labels": [[1]]}]}',
    "key.json": '{"000.jpg": [{"bbox": [1, 2, 3, 4]}]}',
    "nothing.json": '{"000.jpg": [{}]}',
    "elsewhere.json": '{"other.jpg": [{"box": [1, 2, 3, 4]}]}',
    "text.json": "not json",
    "latin.json": b'{"caf\xe9.jpg": []}',
    "nan.json": '{"000.jpg": [{"box": [NaN, 0, 1, 1]}]}',
    "deep.json": "[" * 100_000,
}

WRONG: list[tuple[str, int, str]] = [
    # What there is to annotate
    ("detect -o out.json", 2, "Missing argument 'SOURCE"),
    ("detect missing.jpg -o out.json", 2, "missing.jpg"),
    ("detect missing/ -o out.json", 2, "missing"),
    ("detect photos missing.jpg -o out.json", 2, "missing.jpg"),
    ("detect missing/*.jpg -o out.json", 2, "missing/*.jpg"),
    ("detect void -o out.json", 2, "no images in void"),
    ("detect https://example.org/a.jpg -o out.json", 2, "https://example.org/a.jpg"),
    ("detect - - -o out.json", 2, "twice"),
    ("detect - -o out.json", 2, "no images in -"),
    # Where to write
    ("detect photos", 2, "--output"),
    ("detect photos -o", 2, "-o"),
    ("detect photos -o out.txt", 2, ".json (coco), .parquet (parquet)"),
    ("detect photos -o out", 2, "--format"),
    ("detect photos -o out.json --format xml", 2, "xml"),
    ("detect photos -o out.json -o ./out.json", 2, "twice"),
    ("detect photos -o photos --format coco", 2, "it is a folder"),
    ("detect photos -o photos/000.jpg/out.json", 2, "not a folder"),
    ("detect photos -o /proc/out.json", 2, "cannot write /proc/out.json"),
    ("detect photos -o /dev/null --format coco", 2, "cannot write /dev/null"),
    ("detect photos -o out.json -o missing.txt", 2, "missing.txt"),
    ("detect photos -o out.txt --dry-run", 2, "out.txt"),
    ("detect photos -o photos/000.jpg --format coco --dry-run", 2, "one of the sources"),
    # Who is asked
    ("detect photos -o out.json -m picodet", 2, "picodet-s-416"),
    ("detect photos -o out.json -m mobile-sam", 2, "mobile-sam"),
    ("detect photos -o out.json -p nobody", 2, "local"),
    ("detect photos -o out.json -p loca", 2, "local"),
    ("segment photos -o out.json -m picodet-s-416", 2, "picodet-s-416"),
    ("segment photos -o out.json --detector mobile-sam", 2, "mobile-sam"),
    ("segment photos -o out.json --detector nothing", 2, "nothing"),
    ("models show nothing", 2, "nothing"),
    # What a provider does not take
    ("detect photos -o out.json --rpm 5 --url http://h", 2, "take these options: --url, --rpm"),
    ("detect photos -o out.json --box-format xyxy-unit", 2, "options: --box-format"),
    ("detect photos -o out.json -p openai --device cuda", 2, "take these options: --device"),
    ("detect photos -o out.json --max-cost 1 --dry-run", 2, "no price is known"),
    ("caption photos -o out.json", 2, "'local' has no model for text"),
    # Values of options
    ("detect photos -o out.json --threshold 1.5", 2, "--threshold 1.5"),
    ("detect photos -o out.json --threshold -0.1", 2, "--threshold -0.1"),
    ("detect photos -o out.json --threshold nan", 2, "--threshold nan"),
    ("detect photos -o out.json --threshold high", 2, "--threshold"),
    ("detect photos -o out.json --batch-size 0", 2, "--batch-size 0"),
    ("detect photos -o out.json --batch-size 1.5", 2, "--batch-size"),
    ("detect photos -o out.json --concurrency 0", 2, "--concurrency 0"),
    ("detect photos -o out.json --concurrency -2", 2, "--concurrency -2"),
    ("detect photos -o out.json --device gpu", 2, "gpu"),
    ("detect photos -o out.json --max-failures many", 2, "--max-failures many"),
    ("detect photos -o out.json --max-failures 101%", 2, "--max-failures 101%"),
    ("detect photos -o out.json --max-failures=-1", 2, "--max-failures -1"),
    ("detect photos -o out.json --max-failures many --dry-run", 2, "--max-failures many"),
    ("detect photos -o out.json --classes caat", 2, "did you mean 'cat'"),
    ("detect photos -o out.json --classes cat,,cup", 2, "--classes"),
    ("detect photos -o out.json --classes unicorn", 2, "unicorn"),
    ("segment photos -o out.json --classes caat", 2, "did you mean 'cat'"),
    ("detect photos -o out.json --categories missing.txt", 2, "missing.txt"),
    ("detect photos -o out.json --categories photos", 2, "photos"),
    ("detect photos -o out.json --categories no-categories.txt", 2, "no categories"),
    ("detect photos -o out.json --categories twice.txt", 2, "'cat'"),
    ("detect photos -o out.json --categories bad-id.json", 2, "bad-id.json"),
    ("detect photos -o out.json --categories binary.bin", 2, "binary.bin"),
    ("detect photos -o out.json --categories coco.json --classes cup", 2, "'cup'"),
    ("detect photos -o out.json --no-such-option", 2, "--no-such-option"),
    ("detect photos -o out.json --from coco.json", 2, "--from"),
    # What to segment
    ("segment photos -o out.json --prompts key.json --from coco.json", 2, "--from"),
    ("segment photos -o out.json --prompts missing.json", 2, "missing.json"),
    ("segment photos -o out.json --prompts photos", 2, "photos"),
    *(
        (f"segment photos -o out.json --prompts {name}", 2, name)
        for name in FILES
        if name.endswith(".json")
        and name not in ("coco.json", "elsewhere.json")
        and "categor" not in name
    ),
    ("segment photos -o out.json --prompts coco.json", 2, "--from"),
    ("segment photos -o out.json --prompts elsewhere.json", 2, "'other.jpg'"),
    ("segment photos -o out.json --from missing.json", 2, "missing.json"),
    ("segment photos -o out.json --from photos", 2, "photos"),
    ("segment photos -o out.json --from coco.json --classes dog", 2, "'dog'"),
    *(
        (f"segment photos -o out.json --from {name}", 2, name)
        for name in FILES
        if name not in ("coco.json", "binary.bin") and not name.endswith(".txt")
    ),
    # The store
    ("export -o out.json", 1, "there is none here"),
    ("export -o out.json --store nowhere", 1, "nowhere"),
    ("export", 2, "--output"),
    ("detect photos -o out.json --store coco.json", 1, "coco.json"),
    ("detect photos -o out.json --store /proc/store", 1, "/proc/store"),
    ("detect photos -o out.json --store photos/000.jpg/store", 1, "photos/000.jpg/store"),
    # What follows a scheme is not repeated: it may hold a password.
    ("detect photos -o out.json --store sqlite:///x", 1, "store sqlite://...: a store is a folder"),
    # The command itself
    ("detekt photos", 2, "detekt"),
    ("models", 2, "Missing command"),
    ("models liste", 2, "liste"),
    ("models show", 2, "name"),
]


@pytest.fixture
def usage(work: Path, photos: Callable[..., Path]) -> Path:
    photos(1)
    (work / "void").mkdir()
    (work / "void" / "notes.txt").write_text("no image")
    for name, content in FILES.items():
        (work / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return work


def check(done: Done, code: int, says: str) -> None:
    assert done.code == code, done.err
    assert done.line.startswith("pixano-annotate: ")
    assert says in done.line
    assert not re.search(r"unexpected \w+(Error|Exception)", done.line)
    assert len(done.line) < 500
    assert done.out == ""


@pytest.mark.parametrize(("arguments", "code", "says"), WRONG, ids=[each[0] for each in WRONG])
def test_wrong_usage(
    command: Command,
    usage: Path,
    arguments: str,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = tree(usage), sorted(usage.rglob("*"))
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        done = command(*arguments.split())
    check(done, code, says)
    assert (tree(usage), sorted(usage.rglob("*"))) == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [WRONG[0], WRONG[5], WRONG[21], ("export -o out.json", 1, "there is none here")],
)
def test_wrong_usage_of_the_program_itself(
    commands: Commands, usage: Path, arguments: str, code: int, says: str
) -> None:
    before = tree(usage)
    check(commands.run(*arguments.split()), code, says)
    assert tree(usage) == before


def test_an_image_is_not_replaced_by_an_output(command: Command, usage: Path) -> None:
    image = (usage / "photos" / "000.jpg").read_bytes()
    (usage / "link").symlink_to("photos")
    for source, output in (("photos", "photos/000.jpg"), ("photos", "link/000.jpg")):
        done = command("detect", source, "-o", output, "--format", "coco")
        check(done, 2, "is one of the sources")
    assert (usage / "photos" / "000.jpg").read_bytes() == image


def test_no_command_shows_the_help(command: Command, work: Path) -> None:
    done = command()
    assert done.code == 2
    assert "detect" in done.out + done.err
    assert "pixano-annotate:" not in done.err


def test_what_was_not_recorded_cannot_be_exported(command: Command, usage: Path) -> None:
    assert command("detect", "photos", "-o", "out.json", "--classes", "cat,cup").code == 0
    outputs = (usage / "out.json").read_bytes()
    for arguments, says in (
        ("--threshold 0.01", "scores from 0.05 up"),
        ("--threshold 2", "--threshold 2"),
        ("--task segment", "no segment run"),
        ("--task nothing", "nothing"),
        ("--run 0123", "no run 0123"),
        ("--classes unicorn", "'unicorn'"),
        ("--classes cat,,", "--classes"),
        ("--categories coco.json --classes dog", "'dog'"),
        ("--format xml", "xml"),
        ("-o out.json", "twice"),
    ):
        done = command("export", "-o", "out.json", *arguments.split())
        check(done, 2, says)
        assert (usage / "out.json").read_bytes() == outputs
    done = command("export", "-o", "new.json", "--classes", "dog,person")
    assert done.code == 0, done.err
    names = {each["name"] for each in json.loads((usage / "new.json").read_bytes())["categories"]}
    assert names == {"dog", "person"}


def test_an_output_that_turns_out_not_to_be_writable(
    command: Command, usage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of an output vanishes, or a folder takes the output's place, during the run."""
    from pixano_cli.annotate import job
    from pixano_cli.annotate.outputs import write_outputs

    def meanwhile(*arguments: Any) -> Any:
        (usage / "out.json").mkdir()
        return write_outputs(*arguments)

    monkeypatch.setattr(job, "write_outputs", meanwhile)
    done = command("detect", "photos", "-o", "out.json", "-q")
    check(done, 1, "cannot write out.json")
    (usage / "out.json").rmdir()
    monkeypatch.setattr(job, "write_outputs", write_outputs)
    assert command("detect", "photos", "-o", "out.json", "--json").summary["cached"] == 1


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_pipe_that_nobody_reads_is_no_reason_to_fail_loudly(
    commands: Commands, usage: Path, closed: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "pixano_cli", "detect", "photos", "-o", "out.json", "--json"],
            cwd=usage,
            env=commands.environment,
            stdin=subprocess.DEVNULL,
            stdout=writer if closed == "stdout" else subprocess.PIPE,
            stderr=writer if closed == "stderr" else subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert b"Traceback" not in (process.stderr or b"")
    if closed == "stdout":
        assert json.loads((usage / "out.json").read_bytes())["images"]


def test_from_python(work: Path, photos: Callable[..., Path], monkeypatch: Any) -> None:
    photos(1)
    monkeypatch.chdir(work)
    listed = pixano_cli.detect(["photos"], ["a.json", Path("a.parquet")], store="st")
    assert (listed.total, listed.processed, listed.outputs) == (1, 1, ("a.json", "a.parquet"))

    async def in_a_notebook() -> None:
        alone = pixano_cli.detect("photos/000.jpg", "b.json", store=Path("st"))
        assert (alone.cached, alone.outputs) == (1, ("b.json",))

    asyncio.run(in_a_notebook())
    with pytest.raises(UsageError, match=r"a list of names is wanted, as \['cat'\]"):
        pixano_cli.detect("photos", "c.json", classes="cat", store="st")
