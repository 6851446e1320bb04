"""`store duplicates` and `store similar` from the command line, on photographs."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from pixano_cli.annotate.duplicates import DEFAULT_THRESHOLD
from pixano_cli.cli.store.find import duplicates

from .tool import PHOTOGRAPHS, SAMPLES, Done, query

Command = Callable[..., Done]

CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved": lambda photo: photo,
    "smaller": lambda photo: photo.resize((photo.width * 9 // 10, photo.height * 9 // 10)),
    "brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.1),
    "darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.9),
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs, each also with its changes and as a copy."""
    folder = tmp_path_factory.mktemp("changed")
    for name in PHOTOGRAPHS:
        shutil.copy(SAMPLES / name, folder)
        photo = Image.open(SAMPLES / name).convert("RGB")
        stem = Path(name).stem
        for change, make in CHANGES.items():
            make(photo).save(folder / f"{stem} {change}.jpg", quality=80)
    (folder / "copies").mkdir()
    shutil.copy(SAMPLES / "coffee.png", folder / "copies" / "again.png")
    return folder


@pytest.fixture
def embedded(command: Command, changed: Path, work: Path) -> Path:
    """A folder to work in, where the photographs are embedded."""
    shutil.copytree(changed, work / "photos")
    done = command("embed", "photos", "-o", "vectors.parquet", "-q")
    assert done.code == 0, done.err
    return work


def groups(command: Command, *options: object) -> list[set[str]]:
    done = command("store", "duplicates", "--json", *options)
    assert done.code == 0, done.err
    return [
        {each["url"].rpartition("/photos/")[2] for each in group}
        for group in json.loads(done.out)["groups"]
    ]


def test_the_same_photograph_is_found_and_no_other(command: Command, embedded: Path) -> None:
    found = groups(command)
    expected = []
    for name in PHOTOGRAPHS:
        stem = Path(name).stem
        expected.append({name, *(f"{stem}%20{change}.jpg" for change in CHANGES)})
    expected[PHOTOGRAPHS.index("coffee.png")].add("copies/again.png")
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))
    # Another photograph is so far that half of the way does not reach it.
    assert sorted(map(sorted, groups(command, "--threshold", 0.3))) == sorted(map(sorted, found))
    assert groups(command, "--threshold", 0) == [{"coffee.png", "copies/again.png"}]
    assert len(groups(command, "--threshold", 0.9)) == 1
    assert groups(command, "--meta", "file_name=rocket.jpg") == []
    # A file that is removed is spared already.
    (embedded / "photos" / "copies" / "again.png").unlink()
    assert groups(command, "--threshold", 0) == []


def test_it_reads_well(command: Command, embedded: Path) -> None:
    done = command("store", "duplicates")
    assert done.code == 0
    assert done.line == "4 groups in 20 images: 17 files could be spared"
    blocks = done.out.split("\n\n")
    assert len(blocks) == 4
    (coffee,) = [block.splitlines() for block in blocks if "coffee.png" in block]
    assert coffee[0].split() == ["DISTANCE", "FILE", "SOURCE", "INFERENCE"]
    assert len(coffee) == 7
    assert coffee[1].split()[0] == "first"
    for line in coffee[2:]:
        likeness = line.split()[0]
        assert likeness == "same" or 0 < float(likeness) < 0.1
    exact = command("store", "duplicates", "--threshold", 0)
    assert exact.line == "1 group in 20 images: 1 file could be spared"
    words = [line.split()[:2] for line in exact.out.splitlines()[1:]]
    assert words[0][0] == "first"
    assert words[1][0] == "same"
    assert {Path(name).name for _, name in words} == {"coffee.png", "again.png"}


def test_none_is_said(command: Command, work: Path) -> None:
    assert command("embed", SAMPLES, "-o", "vectors.parquet", "-q").code == 0
    done = command("store", "duplicates")
    assert (done.code, done.out) == (0, "")
    assert done.line == "no duplicates in 4 images"
    assert json.loads(command("store", "duplicates", "--json").out) == {
        "model_id": "pplcnetv2",
        "threshold": DEFAULT_THRESHOLD,
        "images": 4,
        "groups": [],
    }


def test_what_cannot_be(command: Command, work: Path, photos: Callable[..., Path]) -> None:
    photos(1)
    assert command("detect", "photos", "-m", "counting-detector", "-o", "o.json", "-q").code == 0
    nothing = command("store", "duplicates")
    assert nothing.code == 2
    assert "no vectors of images yet: run `pixano-annotate embed` first" in nothing.line
    assert command("embed", "photos", "-m", "counting-embedder", "-o", "o.parquet", "-q").code == 0
    for value in ("1", "-0.5", "nan"):
        refused = command("store", "duplicates", "--threshold", value)
        assert refused.code == 2
        assert "a distance from 0 to under 1 is wanted" in refused.line
    unknown = command("store", "duplicates", "--model-id", "counting-embeder")
    assert unknown.code == 2
    assert "did you mean 'counting-embedder'" in unknown.line
    assert signature(duplicates).parameters["threshold"].default == DEFAULT_THRESHOLD


@pytest.fixture
def server() -> Iterator[str]:
    """A server with OpenAI's API, whose model gives every image one vector."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"data": [{"id": "clip"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer({"data": [{"embedding": [0.25, 0.5, 1.0]}]})

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


class TestSimilar:
    def test_of_a_server_that_has_to_be_named(
        self, command: Command, work: Path, server: str
    ) -> None:
        asked = ("--provider", "openai", "--url", server)
        embed = ("embed", SAMPLES / "rocket.jpg", "-m", "clip", *asked)
        assert command(*embed, "-o", "o.parquet", "-q").code == 0
        recorded = command("store", "similar", SAMPLES / "rocket.jpg", "--json")
        assert json.loads(recorded.out)[0]["embedding_distance"] == 0
        coffee = ("store", "similar", SAMPLES / "coffee.png")
        refused = command(*coffee)
        assert refused.code == 2
        assert "name its server with --provider openai --url URL" in refused.line
        other = command(*coffee, "--provider", "local")
        assert other.code == 2
        assert "the vectors of 'clip'" in other.line
        assert "are by openai" in other.line
        for options in (asked, asked[2:]):
            found = command(*coffee, *options, "--json")
            assert found.code == 0, found.err
            assert [each["embedding_distance"] for each in json.loads(found.out)] == [0]

    def test_the_model_has_to_be_the_one_that_made_the_others(
        self, command: Command, work: Path
    ) -> None:
        rocket, coffee = SAMPLES / "rocket.jpg", SAMPLES / "coffee.png"
        assert command("embed", rocket, "-o", "o.parquet", "-q").code == 0
        found = command("store", "similar", coffee, "--json")
        assert found.code == 0, found.err
        assert 0.5 < json.loads(found.out)[0]["embedding_distance"] < 1
        remote = command("store", "similar", coffee, "--url", "http://127.0.0.1:9")
        assert remote.code == 2
        assert "'local' cannot take these options" in remote.line
        store = work / ".pixano-annotate" / "store.sqlite3"
        ((digest,),) = query(
            store.parent, "SELECT json_extract(request, '$.model_digest') FROM requests"
        )
        other = "0" * len(digest)
        _execute(store, "UPDATE requests SET request = replace(request, ?, ?)", digest, other)
        refused = command("store", "similar", coffee)
        assert refused.code == 2
        assert "is another one than made the vectors" in refused.line
        # The recorded vector of the image itself serves nevertheless.
        assert command("store", "similar", rocket).code == 0


def _execute(file: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement, values)
