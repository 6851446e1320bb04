"""Blobs in a folder and in S3-compatible storage: the same tests for both, then each one's own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import time

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import blobs as blobs_module
from pixano_cli.inference_store.blobs import (
    BlobStorage,
    FolderBlobs,
    blobs_location,
    check_key,
    data_key,
    is_key,
    open_blobs,
    upload_key,
)
from pixano_cli.media.flight import path_of

from . import s3_server
from .s3_server import serving  # noqa: F401
from .test_store_database import disk  # noqa: F401

HOSTILE = [
    "",
    "/",
    "/etc/passwd",
    "..",
    ".",
    "...",
    "../x",
    "a/../../x",
    "a/./b",
    "a//b",
    "a/",
    "a/ /b",
    "a/.. /b",
    "a\\b",
    "..\\x",
    "C:x",
    "a/c:/b",
    "C:\\x",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "a\udce9b",
    "x" * 256,
    "é" * 128,
    "/".join(["x" * 200] * 5),
    ".incoming/x",
    ".INCOMING",
]


@pytest.fixture
def s3(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStorage:
    """An own part of the bucket."""
    for name, value in s3_server.environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    return open_blobs(f"s3://{s3_server.BUCKET}/{tmp_path.name}")


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStorage:
    if request.param == "folder":
        return open_blobs(tmp_path / "blobs")
    storage: BlobStorage = request.getfixturevalue("s3")
    return storage


def refused(said: str) -> pytest.RaisesExc[StoreError]:
    """Expect one line that says this, and no secret."""

    def is_one_line(error: BaseException) -> bool:
        return "\n" not in str(error) and s3_server.SECRET not in str(error)

    return pytest.raises(StoreError, match=said, check=is_one_line)


class TestBoth:
    def test_what_is_put_is_got(self, blobs: BlobStorage) -> None:
        for key, data in (("a", b""), ("data/ab/c", b"\0\xff" * 5000), ("uploads/é ü+%2F#?", b"1")):
            assert not blobs.exists(key)
            assert blobs.size(key) is None
            blobs.put(key, data)
            assert blobs.get(key) == data
            assert blobs.size(key) == len(data)
            assert blobs.exists(key)
        assert sorted(blobs.keys()) == ["a", "data/ab/c", "uploads/é ü+%2F#?"]
        assert blobs.sweep() == 0

    def test_last_put_is_kept(self, blobs: BlobStorage) -> None:
        blobs.put("a/b", b"first, and longer")
        blobs.put("a/b", b"second")
        assert blobs.get("a/b") == b"second"
        assert list(blobs.keys()) == ["a/b"]

    def test_nothing_there(self, blobs: BlobStorage) -> None:
        with refused("there is no blob 'a/b' in "):
            blobs.get("a/b")
        blobs.delete("a/b")
        assert list(blobs.keys()) == []
        assert blobs.sweep() == 0

    def test_deleted_is_gone_and_deleted_again(self, blobs: BlobStorage) -> None:
        blobs.put("a/b", b"1")
        blobs.put("a/c", b"2")
        for _ in range(2):
            blobs.delete("a/b")
            assert not blobs.exists("a/b")
        assert list(blobs.keys()) == ["a/c"]
        blobs.put("a/b", b"3")
        assert blobs.get("a/b") == b"3"

    def test_a_part_of_a_key_is_no_key(self, blobs: BlobStorage) -> None:
        blobs.put("a/b/c", b"1")
        for key in ("a", "a/b", "a/b/c/d"):
            assert not blobs.exists(key)
            with refused("there is no blob"):
                blobs.get(key)
            blobs.delete(key)
        assert blobs.get("a/b/c") == b"1"

    @pytest.mark.parametrize("key", HOSTILE)
    def test_hostile_keys(self, blobs: BlobStorage, key: str) -> None:
        assert not is_key(key)
        for call in (
            lambda: blobs.put(key, b"hostile"),
            lambda: blobs.get(key),
            lambda: blobs.exists(key),
            lambda: blobs.size(key),
            lambda: blobs.delete(key),
            lambda: blobs.put_url(key),
            lambda: blobs.get_url(key),
        ):
            with refused("^storage key .* is refused: "):
                call()

    def test_longest_keys(self, blobs: BlobStorage) -> None:
        key = "/".join(["é" * 127] * 3 + ["x" * 232])
        assert len(key.encode()) == 997
        blobs.put(key, b"long")
        assert blobs.get(key) == b"long"
        assert list(blobs.keys()) == [key]

    def test_threads_put_one_key(self, blobs: BlobStorage) -> None:
        """Each read gives what one of them put, whole."""
        sizes = range(1, 9)
        contents = {bytes([size]) * size * 50_000 for size in sizes}
        errors: list[BaseException] = []
        seen: set[bytes] = set()

        def work(size: int) -> None:
            try:
                for _ in range(3):
                    blobs.put("a/same", bytes([size]) * size * 50_000)
                    seen.add(blobs.get("a/same"))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert seen <= contents
        assert list(blobs.keys()) == ["a/same"]

    def test_names_of_keys(self, blobs: BlobStorage) -> None:
        assert data_key("ab12") == "data/ab/ab12"
        first, second = upload_key(), upload_key()
        assert first != second
        for key in (data_key("0" * 64), first, second):
            assert check_key(key) == key
            blobs.put(key, b"1")
        assert sorted(blobs.keys()) == sorted([data_key("0" * 64), first, second])


@given(st.text(st.characters(), max_size=20) | st.text("./\\aC: \0é", max_size=12))
@example("a" * 1001)
@settings(max_examples=400, deadline=None)
def test_accepted_keys_stay_in_the_folder_and_others_make_nothing(key: str) -> None:
    folder = FolderBlobs(Path("/folder"))
    if is_key(key):
        path = folder._path(key)
        assert os.path.normpath(path) == str(path) == f"/folder/{key}"
        assert Path("/folder") in path.parents
    else:
        with pytest.raises(StoreError):
            folder._path(key)


@given(
    st.dictionaries(
        st.lists(st.text("ab.é~", min_size=1, max_size=3), min_size=1, max_size=3)
        .map("/".join)
        .filter(is_key),
        st.binary(max_size=8),
        max_size=8,
    )
)
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_folder_is_a_mapping(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    """A second definition: a dictionary without keys that are another's folder."""
    folder = FolderBlobs(tmp_path_factory.mktemp("mapping"))
    kept: dict[str, bytes] = {}
    for key, data in contents.items():
        if any(
            f"{other}/".startswith(f"{key}/") or f"{key}/".startswith(f"{other}/") for other in kept
        ):
            with refused("one key's folder would be another key's blob"):
                folder.put(key, data)
        else:
            folder.put(key, data)
            kept[key] = data
    assert {key: folder.get(key) for key in folder.keys()} == kept  # noqa: SIM118
    assert list((folder.folder / ".incoming").glob("*")) == []


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> FolderBlobs:
        return FolderBlobs(tmp_path / "below" / "blobs")

    def test_is_made_by_the_first_put(self, folder: FolderBlobs) -> None:
        assert list(folder.keys()) == []
        assert folder.sweep() == 0
        assert folder.get_url("a/b") == (folder.folder / "a/b").as_uri()
        assert not folder.folder.parent.exists()
        folder.put("a/b", b"1")
        assert (folder.folder / "a" / "b").read_bytes() == b"1"

    def test_urls(self, folder: FolderBlobs) -> None:
        key = "uploads/a b%é#"
        url = folder.put_url(key)
        assert url.startswith("file:///")
        path_of(url).write_bytes(b"uploaded")
        assert folder.get(key) == b"uploaded"
        assert path_of(folder.get_url(key)).read_bytes() == b"uploaded"
        assert folder.get_url(key) == url

    def test_is_made_by_several_at_once(self, tmp_path: Path) -> None:
        errors: list[BaseException] = []
        together = threading.Barrier(8)

        def work(me: int) -> None:
            for turn in range(40):
                together.wait(30)
                try:
                    FolderBlobs(tmp_path / str(turn) / "blobs").put(f"a/b/{me}", b"1")
                except BaseException as error:
                    errors.append(error)

        threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        for turn in range(40):
            assert len(list(FolderBlobs(tmp_path / str(turn) / "blobs").keys())) == 8

    def test_permissions_are_those_of_the_umask(self, folder: FolderBlobs) -> None:
        before = os.umask(0o027)
        try:
            folder.put("a", b"1")
        finally:
            os.umask(before)
        assert (folder.folder / "a").stat().st_mode & 0o777 == 0o640

    @pytest.mark.parametrize("link", ["a", "a/b", "a/b/c"])
    def test_no_link_is_followed(self, folder: FolderBlobs, tmp_path: Path, link: str) -> None:
        outside = tmp_path / "outside"
        (outside / "b").mkdir(parents=True)
        for name in ("c", "b/c"):
            (outside / name).write_bytes(b"not yours")
        at = folder.folder / link
        at.parent.mkdir(parents=True)
        at.symlink_to(outside / "c" if link == "a/b/c" else outside)
        key = "a/b/c"
        for call in (
            lambda: folder.get(key),
            lambda: folder.size(key),
            lambda: folder.exists(key),
            lambda: folder.delete(key),
            lambda: folder.put_url(key),
            lambda: folder.get_url(key),
        ):
            with refused("is a symbolic link: none is followed"):
                call()
        if link == key:
            # The link itself gives way.
            folder.put(key, b"mine")
            assert folder.get(key) == b"mine"
        else:
            with refused("is a symbolic link: none is followed"):
                folder.put(key, b"mine")
            assert list(folder.keys()) == []
        for name in ("c", "b/c"):
            assert (outside / name).read_bytes() == b"not yours"
        assert sorted(each.name for each in outside.iterdir()) == ["b", "c"]

    def test_link_to_the_folder_itself_is_the_user_s_choice(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        FolderBlobs(tmp_path / "link").put("a/b", b"1")
        assert FolderBlobs(tmp_path / "real").get("a/b") == b"1"

    def test_what_is_no_file_is_no_blob(self, folder: FolderBlobs) -> None:
        folder.put("a/b", b"1")
        os.mkfifo(folder.folder / "a" / "pipe")
        assert folder.size("a/pipe") is None
        with refused("there is no blob"):
            folder.get("a/pipe")
        assert list(folder.keys()) == ["a/b"]

    def test_a_key_s_folder_is_no_blob(self, folder: FolderBlobs) -> None:
        folder.put("a/b", b"1")
        for key in ("a", "a/b/c"):
            with refused("one key's folder would be another key's blob"):
                folder.put(key, b"2")
            with refused("one key's folder would be another key's blob"):
                folder.put_url(key)
        assert folder.get("a/b") == b"1"
        assert list((folder.folder / ".incoming").iterdir()) == []

    def test_names_that_are_no_keys_are_passed_over(self, folder: FolderBlobs) -> None:
        folder.put("a/b", b"1")
        (folder.folder / "a" / "x\ny").write_bytes(b"2")
        (folder.folder / os.fsdecode(b"\xe9")).mkdir()
        (folder.folder / os.fsdecode(b"\xe9") / "c").write_bytes(b"3")
        assert list(folder.keys()) == ["a/b"]

    def test_a_file_in_place_of_the_folder(self, folder: FolderBlobs) -> None:
        folder.folder.parent.mkdir()
        folder.folder.write_bytes(b"mine")
        for call in (
            lambda: folder.put("a", b"1"),
            lambda: folder.put_url("a/b"),
            lambda: list(folder.keys()),
        ):
            with refused("is a file, no folder to keep blobs in"):
                call()
        assert folder.size("a") is None
        assert folder.folder.read_bytes() == b"mine"

    def test_sweep_removes_what_is_older_than_a_day(self, folder: FolderBlobs) -> None:
        folder.put("a/b", b"1")
        os.utime(folder.folder / "a" / "b", (0, 0))
        incoming = folder.folder / ".incoming"
        for name, age in (("new", 0), ("young", 23 * 3600), ("old", 25 * 3600)):
            (incoming / name).write_bytes(b"half")
            os.utime(incoming / name, (time() - age,) * 2)
        assert list(folder.keys()) == ["a/b"]
        assert folder.sweep() == 1
        assert sorted(each.name for each in incoming.iterdir()) == ["new", "young"]
        assert folder.sweep() == 0

    def test_failing_half_way_leaves_what_was_there(
        self, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.put("a/b", b"before")

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(blobs_module.os, "fsync", fail)
        with refused("blob 'a/b' in .* cannot be written: Input/output error"):
            folder.put("a/b", b"after")
        assert folder.get("a/b") == b"before"
        assert list((folder.folder / ".incoming").iterdir()) == []

    def test_killed_half_way_leaves_what_was_there(self, folder: FolderBlobs) -> None:
        folder.put("a/b", b"before")
        script = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from pixano_cli.inference_store.blobs import FolderBlobs\n"
            "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
            "FolderBlobs(Path(sys.argv[1])).put('a/b', b'after')\n"
        )
        killed = subprocess.run([sys.executable, "-c", script, folder.folder])
        assert killed.returncode == -9
        assert folder.get("a/b") == b"before"
        (left,) = (folder.folder / ".incoming").iterdir()
        assert folder.sweep() == 0
        os.utime(left, (time() - 90_000,) * 2)
        assert folder.sweep() == 1

    def test_full_disk(self, disk: Path) -> None:  # noqa: F811
        folder = FolderBlobs(disk / "blobs")
        folder.put("a/b", b"before")
        with refused("blob 'a/b' in .* cannot be written: the disk is full: free some space"):
            folder.put("a/b", bytes(2_000_000))
        assert folder.get("a/b") == b"before"
        assert list((folder.folder / ".incoming").iterdir()) == []
        folder.put("a/c", bytes(500_000))
        assert sorted(folder.keys()) == ["a/b", "a/c"]

    def test_read_only(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        lock, unlock, place = read_only(request, tmp_path)
        folder = FolderBlobs(place / "blobs")
        folder.put("a/b", b"1")
        lock()
        try:
            for call in (
                lambda: folder.put("a/b", b"2"),
                lambda: folder.put("new/b", b"2"),
                lambda: folder.delete("a/b"),
                lambda: folder.put_url("other/c"),
            ):
                with refused("cannot be (written|deleted): (Read-only|Permission)"):
                    call()
            assert folder.get("a/b") == b"1"
        finally:
            unlock()
        folder.delete("a/b")

    def test_folder_that_cannot_be(self) -> None:
        folder = FolderBlobs(Path("a\0b"))
        with refused("null byte"):
            folder.put("a", b"1")
        with refused("cannot be made|null byte"):
            list(folder.keys())


def read_only(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Callable[[], object], Callable[[], object], Path]:
    """Functions that make a folder read-only, for root too, and writable again; the folder."""
    if os.geteuid() != 0:

        def chmod(mode: int) -> None:
            for each in [tmp_path, *tmp_path.rglob("*")]:
                if each.is_dir():
                    each.chmod(mode)

        return lambda: chmod(0o555), lambda: chmod(0o755), tmp_path
    place: Path = request.getfixturevalue("disk")

    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(place)], check=True)

    return lambda: remount("ro"), lambda: remount("rw"), place


class TestS3:
    def test_presigned_urls(self, s3: BlobStorage) -> None:
        key = "uploads/a b%é#"
        url = s3.put_url(key)
        assert "X-Amz-Expires=3600" in url
        assert s3_server.SECRET not in url
        assert not s3.exists(key)
        assert httpx.put(url, content=b"uploaded").status_code == 200
        assert s3.get(key) == b"uploaded"
        assert httpx.get(s3.get_url(key)).content == b"uploaded"
        assert httpx.get(s3.get_url("uploads/none")).status_code == 404

    def test_objects_are_below_the_prefix_alone(self, s3: BlobStorage, s3_endpoint: str) -> None:
        prefix = s3.name.removeprefix(f"s3://{s3_server.BUCKET}/")
        other = open_blobs(f"{s3.name}-other")
        other.put("a/b", b"theirs")
        s3.put("a/b", b"mine")
        client = s3_server.client(s3_endpoint)
        stored = client.get_object(Bucket=s3_server.BUCKET, Key=f"{prefix}/a/b")["Body"].read()
        assert stored == b"mine"
        assert list(s3.keys()) == ["a/b"]
        s3.delete("a/b")
        assert list(s3.keys()) == []
        assert other.get("a/b") == b"theirs"

    def test_whole_bucket(self, s3: BlobStorage, s3_endpoint: str) -> None:
        s3_server.make_bucket(s3_endpoint, "of-its-own")
        whole = open_blobs("S3://of-its-own/")
        assert whole.name == "s3://of-its-own"
        whole.put("a/b", b"1")
        s3_server.client(s3_endpoint).put_object(Bucket="of-its-own", Key="a//b", Body=b"2")
        assert list(whole.keys()) == ["a/b"]

    def test_more_keys_than_a_page_has(
        self, s3: BlobStorage, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
        client = s3_server.client(s3_endpoint)
        prefix = s3.name.removeprefix(f"s3://{s3_server.BUCKET}/")
        names = [f"a/{number:04}" for number in range(25)]
        for name in names:
            client.put_object(Bucket=s3_server.BUCKET, Key=f"{prefix}/{name}", Body=b"")
        assert list(s3.keys()) == names

    def test_no_such_bucket(self, s3: BlobStorage) -> None:
        nowhere = open_blobs("s3://nowhere/blobs")
        for call in (
            lambda: nowhere.put("a", b"1"),
            lambda: nowhere.get("a"),
            lambda: nowhere.size("a"),
            lambda: nowhere.delete("a"),
            lambda: list(nowhere.keys()),
        ):
            with refused("there is no bucket 'nowhere' at this endpoint: make it first"):
                call()

    def test_no_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        environment = s3_server.environment(f"http://user:{s3_server.SECRET}@127.0.0.1:9")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with refused("blob 'a' cannot be put in s3://inputs/x: Could not connect|Invalid endpoint"):
            open_blobs("s3://inputs/x").put("a", b"1")

    def test_no_credentials(self, s3: BlobStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with refused("Unable to locate credentials"):
            open_blobs(s3.name).put("a", b"1")

    def test_without_boto3(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "boto3", None)
        with refused("need the package boto3: pip install 'pixano-annotate\\[s3\\]'"):
            open_blobs("s3://inputs")

    @pytest.mark.parametrize(
        "url",
        [
            "s3://",
            "s3:///key",
            f"s3://id:{s3_server.SECRET}@inputs/x",
            f"s3://inputs/x?secret={s3_server.SECRET}",
            "s3://in puts",
        ],
    )
    def test_urls_of_another_form(self, url: str) -> None:
        with refused("the URL of S3 storage is s3://bucket/prefix"):
            open_blobs(url)

    @pytest.mark.parametrize("prefix", ["../x", "a//b", "a\\b"])
    def test_hostile_prefix(self, prefix: str) -> None:
        with refused("storage key .* is refused"):
            open_blobs(f"s3://inputs/{prefix}")


class TestWhich:
    def test_the_one_given_then_the_environment_s_then_one_beside_the_store(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PIXANO_BLOBS", raising=False)
        assert blobs_location(tmp_path) == str(tmp_path / "blobs")
        monkeypatch.setenv("PIXANO_BLOBS", "s3://inputs/x")
        assert blobs_location(tmp_path) == "s3://inputs/x"
        assert blobs_location(tmp_path, tmp_path / "given") == str(tmp_path / "given")
        monkeypatch.setenv("PIXANO_BLOBS", "")
        assert blobs_location(tmp_path) == str(tmp_path / "blobs")

    @pytest.mark.parametrize("url", ["gs://bucket", "https://host/bucket", "file:///tmp/x"])
    def test_other_urls(self, url: str) -> None:
        with refused("name a folder or s3://bucket/prefix"):
            open_blobs(url)

    def test_nothing_heavy_is_imported_for_a_folder(self) -> None:
        script = (
            "import sys\n"
            "from pixano_cli.inference_store.blobs import open_blobs\n"
            "open_blobs('x')\n"
            "heavy = {'sqlalchemy', 'boto3', 'botocore', 'httpx', 'pydantic'}\n"
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True)
