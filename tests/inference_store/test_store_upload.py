"""Inputs: uploaded by URL, stored with their inference, and had back by URL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError
from pixano_cli.inference_store import schema
from pixano_cli.inference_store.blob_ledger import collect, discard, doom
from pixano_cli.inference_store.blobs import BlobStorage, FolderBlobs, data_key
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.database import now
from pixano_cli.inference_store.upload import presigned
from pixano_cli.media.flight import path_of

from . import s3_server
from .inputs import answer, check_blobs, create_with_data, ledger, named_keys
from .requests import CAT, MODEL_ID, create, inference
from .s3_server import serving  # noqa: F401
from .test_store_blob_ledger import remove_records
from .test_store_database import disk  # noqa: F401

NAN = float("nan")
DAY_US = 24 * 3600 * 1_000_000
TEXT = st.text(st.characters(codec="utf-8"))


@pytest.fixture(params=["folder", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kind of place for blobs."""
    if request.param == "folder":
        return str(tmp_path / "blobs")
    endpoint: str = request.getfixturevalue("s3_endpoint")
    for name, value in s3_server.environment(endpoint).items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.BUCKET}/{tmp_path.name}"


@pytest.fixture
def store(place: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[istore.Store]:
    """A store whose blobs are in a place of the test's own."""
    chosen = "where" in request.fixturenames
    blobs = request.getfixturevalue("where") if chosen else tmp_path / "blobs"
    with istore.connect(place, blobs=blobs) as opened:
        yield opened


@pytest.fixture
def blobs(where: str, store: istore.Store) -> BlobStorage:
    """The blob storage of the store, of each kind."""
    return blobs_of(store)


@pytest.fixture
def folder(store: istore.Store) -> FolderBlobs:
    """The blob storage of the store, a folder."""
    found = blobs_of(store)
    assert isinstance(found, FolderBlobs)
    return found


def put(url: str, data: bytes) -> None:
    """Upload as a user does."""
    if url.startswith("file://"):
        path_of(url).write_bytes(data)
    else:
        assert httpx.put(url, content=data).status_code == 200


def got(url: str | None) -> bytes:
    """Download as a user does."""
    assert url is not None
    return path_of(url).read_bytes() if url.startswith("file://") else httpx.get(url).content


class TestUploads:
    def test_data(self, store: istore.Store, blobs: BlobStorage) -> None:
        place = istore.upload_data(MODEL_ID)
        assert place is not None
        assert ledger(store) == {place.data_storage_key: "upload"}
        put(place.data_presigned_url, b"an image")
        assert blobs.get(place.data_storage_key) == b"an image"
        created = create("one", data_storage_key=place.data_storage_key)
        assert created.data_storage_key == place.data_storage_key
        assert ledger(store) == {place.data_storage_key: "settled"}
        assert got(presigned(store, created.data_storage_key)) == b"an image"
        assert collect(store, blobs) == 0
        assert discard(store, blobs, remove_records(store)) == 1
        assert list(blobs.keys()) == []

    def test_inference_and_metadata(self, store: istore.Store, blobs: BlobStorage) -> None:
        place = istore.upload_inference_and_metadata(MODEL_ID)
        assert place is not None
        request = inference("one", metadata={"a": ("string", "é"), "b": ("int", "1")})
        put(place.metadata_presigned_url, request.data.encode())
        uploaded = blobs.get(place.metadata_storage_key)
        read = istore.NewInferenceAndMetadataCollection.model_validate_json(uploaded)
        assert read == request.data

    def test_each_has_a_key_of_its_own(self, store: istore.Store, blobs: BlobStorage) -> None:
        places = [istore.upload_data(MODEL_ID) for _ in range(3)]
        keys = {place.data_storage_key for place in places if place}
        assert len(keys) == 3
        assert set(ledger(store)) == keys

    def test_what_is_not_used_in_a_day_goes(self, store: istore.Store, blobs: BlobStorage) -> None:
        place = istore.upload_data(MODEL_ID)
        assert place is not None
        put(place.data_presigned_url, b"an image")
        with store.write() as connection:
            young = update(schema.blobs).values(pending_since=now() - DAY_US + 60_000_000)
            connection.execute(young)
        assert collect(store, blobs) == 0
        with store.write() as connection:
            connection.execute(update(schema.blobs).values(pending_since=now() - DAY_US - 1))
        assert collect(store, blobs) == 1
        assert list(blobs.keys()) == []

    def test_refused_record_leaves_the_upload(
        self, store: istore.Store, folder: FolderBlobs
    ) -> None:
        place = istore.upload_data(MODEL_ID)
        assert place is not None
        create("one")
        with pytest.raises(StoreError, match="stored already"):
            create("one", data_storage_key=place.data_storage_key)
        assert ledger(store) == {place.data_storage_key: "upload"}

    def test_model_that_is_not_registered(self, store: istore.Store, folder: FolderBlobs) -> None:
        for function in (istore.upload_data, istore.upload_inference_and_metadata):
            with pytest.raises(StoreError, match="'none' is not registered"):
                function("none")
        assert ledger(store) == {}
        assert not folder.folder.exists()


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        ["", "..", "../x", "/etc/passwd", "a//b", "a\\b", "C:x", "a\0b", "a\udce9", "x" * 1001],
    )
    def test_hostile_keys_are_refused(
        self, store: istore.Store, folder: FolderBlobs, key: str
    ) -> None:
        with pytest.raises(StoreError, match=r"storage key .* is refused"):
            create("one", data_storage_key=key)
        assert istore.get_inference(MODEL_ID, "one") is None
        # One that came into the database past the tool has no URL.
        assert presigned(store, key) is None

    def test_key_of_what_others_keep(self, store: istore.Store, folder: FolderBlobs) -> None:
        created = create("one", data_storage_key="theirs/image 1.jpg")
        assert created.data_storage_key == "theirs/image 1.jpg"
        assert ledger(store) == {}
        assert (
            presigned(store, "theirs/image 1.jpg")
            == (folder.folder / "theirs/image 1.jpg").as_uri()
        )
        folder.put("theirs/image 1.jpg", b"theirs")
        assert remove_records(store) == []
        assert folder.get("theirs/image 1.jpg") == b"theirs"

    def test_no_key_no_url(self, store: istore.Store, folder: FolderBlobs) -> None:
        assert presigned(store, None) is None


class TestWithData:
    @pytest.mark.parametrize("data", [b"", b"\0\xff" * 70_000, "text", "é\n"])
    def test_input_is_kept(
        self, store: istore.Store, blobs: BlobStorage, data: str | bytes
    ) -> None:
        content = data.encode() if isinstance(data, str) else data
        created = create_with_data("one", data, is_protected=True)
        digest = istore.get_data_hash(content)
        assert created.data_storage_key == data_key(digest) == f"data/{digest[:2]}/{digest}"
        assert created.data_hash == digest
        assert created.is_protected is True
        assert istore.get_inference(MODEL_ID, "one") == created
        assert got(presigned(store, created.data_storage_key)) == content
        check_blobs(store)

    def test_a_search_gives_urls_where_asked(self, store: istore.Store, blobs: BlobStorage) -> None:
        create_with_data("one", b"x")
        create("two", data_storage_key="theirs/2")
        create("three")
        asked = istore.NewGetInferencesRequest(presign=True)
        one, two, three = istore.filter_inferences(MODEL_ID, asked)
        assert got(one.presigned_url) == b"x"
        assert two.presigned_url is not None
        assert three.presigned_url is None
        assert istore.count_inferences(MODEL_ID, asked) == 3
        not_asked = istore.filter_inferences(MODEL_ID, istore.NewGetInferencesRequest())
        assert [each.presigned_url for each in not_asked] == [None] * 3

    def test_without_data(self, store: istore.Store, folder: FolderBlobs) -> None:
        created = istore.create_inference_storage_request(MODEL_ID, "one", None, inference().data)
        assert created is not None
        assert created.data_storage_key is None
        assert created.is_protected is False
        assert created == istore.get_inference(MODEL_ID, "one")
        check_blobs(store)
        assert not folder.folder.exists()

    def test_the_same_again_changes_nothing(self, store: istore.Store, blobs: BlobStorage) -> None:
        created = create_with_data("one", b"x")
        assert create_with_data("one", b"x") == created
        assert len(named_keys(store)) == 1
        check_blobs(store)

    def test_the_same_input_is_kept_once(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = create_with_data("one", b"x")

        def put_again(*_: object) -> None:
            raise AssertionError("put again")

        monkeypatch.setattr(FolderBlobs, "put", put_again)
        second = create_with_data("two", b"x")
        assert first.data_storage_key == second.data_storage_key
        check_blobs(store)

    def test_same_id_with_other_content(self, store: istore.Store, blobs: BlobStorage) -> None:
        created = create_with_data("one", b"x")
        for data, options in ((b"y", {}), (b"x", {"elements": []})):
            with pytest.raises(StoreError, match="is stored already with other content"):
                create_with_data("one", data, **options)
            check_blobs(store)
        assert named_keys(store) == {created.data_storage_key}

    @pytest.mark.parametrize(
        ("said", "model_id", "data", "metadata"),
        [
            ("is not registered", "none", b"x", answer(b"x")),
            ("has no label", MODEL_ID, b"x", answer(b"x", elements=[{"score": 1}])),
            ("are not those of its input", MODEL_ID, b"x", answer(b"y")),
            ("are not those of its input", MODEL_ID, "é", answer("è".encode())),
            (
                "data_size 1 are not those of its input, .* and 2",
                MODEL_ID,
                "é",
                inference(data_hash=istore.get_data_hash("é".encode()), data_size=1).data,
            ),
            ("its input is no valid text", MODEL_ID, "\ud800", answer(b"x")),
        ],
    )
    def test_refused_before_anything_is_uploaded(
        self,
        store: istore.Store,
        folder: FolderBlobs,
        said: str,
        model_id: str,
        data: str | bytes,
        metadata: istore.NewInferenceAndMetadataCollection,
    ) -> None:
        with pytest.raises(StoreError, match=said):
            istore.create_inference_storage_request(model_id, "one", data, metadata)
        assert ledger(store) == {}
        assert not folder.folder.exists()
        assert istore.get_inference(model_id, "one") is None

    def test_storage_that_fails(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise StoreError("the disk is on fire")

        with monkeypatch.context() as patch:
            patch.setattr(FolderBlobs, "put", fail)
            with pytest.raises(StoreError, match="on fire"):
                create_with_data("one", b"x")
        assert ledger(store) == {}
        check_blobs(store)
        with monkeypatch.context() as patch:
            patch.setattr(FolderBlobs, "put", fail)
            patch.setattr(FolderBlobs, "delete", fail)
            with pytest.raises(StoreError, match="on fire"):
                create_with_data("one", b"x")
        assert list(ledger(store).values()) == ["made"]
        create_with_data("one", b"x")
        check_blobs(store)

    def test_bucket_that_is_not_there(
        self, place: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in s3_server.environment(s3_endpoint).items():
            monkeypatch.setenv(name, value)
        with istore.connect(place, blobs="s3://nowhere"):
            with pytest.raises(StoreError, match="there is no bucket 'nowhere'"):
                create_with_data("one", b"x")
            assert istore.get_inference(MODEL_ID, "one") is None

    def test_database_that_fails_after_the_put(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pixano_cli.inference_store import inference as module

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "insert_records", fail)
        with pytest.raises(KeyboardInterrupt):
            create_with_data("one", b"x")
        assert ledger(store) == {}
        check_blobs(store)

    def test_full_disk(self, disk: Path, place: str) -> None:  # noqa: F811
        with istore.connect(place, blobs=disk / "blobs") as store:
            create_with_data("small", b"x")
            with pytest.raises(StoreError, match="the disk is full"):
                create_with_data("large", bytes(2_000_000))
            assert istore.get_inference(MODEL_ID, "large") is None
            check_blobs(store)
            create_with_data("small too", b"y")
            check_blobs(store)

    def test_place_given_when_connecting(
        self, sqlite_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIXANO_BLOBS", str(tmp_path / "not here"))
        with istore.connect(sqlite_place, blobs=tmp_path / "here") as store:
            create_with_data("one", b"x")
            check_blobs(store)
            assert (tmp_path / "here" / "data").is_dir()
        monkeypatch.delenv("PIXANO_BLOBS")
        with istore.connect(sqlite_place) as store:
            create_with_data("two", b"y")
            assert (sqlite_place / "blobs" / "data").is_dir()
        with pytest.raises(StoreError, match="name a folder or s3://bucket/prefix"):
            istore.connect(sqlite_place, blobs="https://host")


class TestAtOnce:
    """What others do between two transactions of one creation."""

    def between(self, monkeypatch: pytest.MonkeyPatch, then: list[Any], at: str = "put") -> None:
        """Run each of `then` once, one after each put."""
        original = getattr(FolderBlobs, at)

        def patched(self: FolderBlobs, *args: Any) -> None:
            original(self, *args)
            if then:
                then.pop(0)()

        monkeypatch.setattr(FolderBlobs, at, patched)

    def test_another_makes_and_removes_the_same(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def other() -> None:
            create_with_data("other", b"x")
            discard(store, folder, remove_records(store))
            assert not folder.exists(data_key(istore.get_data_hash(b"x")))

        then = [other, other]
        self.between(monkeypatch, then)
        create_with_data("one", b"x")
        assert then == []
        assert istore.get_inference(MODEL_ID, "one") is not None
        check_blobs(store)

    def test_another_makes_the_same_and_keeps_it(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.between(monkeypatch, [lambda: create_with_data("other", b"x")])
        create_with_data("one", b"x")
        assert istore.count_inferences(MODEL_ID, istore.NewGetInferencesRequest()) == 2
        check_blobs(store)

    def test_another_fails_to_make_the_same(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create("other")

        def other() -> None:
            with pytest.raises(StoreError, match="stored already"):
                create_with_data("other", b"x")

        self.between(monkeypatch, [other])
        create_with_data("one", b"x")
        check_blobs(store)

    def test_another_names_the_key_and_takes_it_back(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = data_key(istore.get_data_hash(b"x"))

        def other() -> None:
            create("other", data_storage_key=key)
            discard(store, folder, remove_records(store))

        self.between(monkeypatch, [other])
        create_with_data("one", b"x")
        check_blobs(store)

    def test_a_collector_that_takes_it_for_dead(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a process does that was asleep for longer than the grace."""

        def other() -> None:
            with store.write() as connection:
                connection.execute(update(schema.blobs).values(pending_since=1))
            assert collect(store, folder) == 1

        self.between(monkeypatch, [other])
        create_with_data("one", b"x")
        check_blobs(store)

    def test_a_collector_that_takes_it_for_dead_before_anything_is_put(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = FolderBlobs.put

        def put_late(self: FolderBlobs, key: str, data: bytes) -> None:
            with store.write() as connection:
                connection.execute(update(schema.blobs).values(pending_since=1))
            assert collect(store, folder) == 1
            original(self, key, data)

        monkeypatch.setattr(FolderBlobs, "put", put_late)
        create_with_data("one", b"x")
        check_blobs(store)

    def test_the_last_record_goes_while_another_is_made(
        self, store: istore.Store, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create_with_data("first", b"x")
        original = FolderBlobs.size
        then = [lambda: discard(store, folder, remove_records(store))]

        def size(self: FolderBlobs, key: str) -> int | None:
            found = original(self, key)
            if then:
                then.pop()()
            return found

        monkeypatch.setattr(FolderBlobs, "size", size)
        create_with_data("one", b"x")
        assert istore.get_inference(MODEL_ID, "first") is None
        check_blobs(store)

    def test_threads_make_and_remove_the_same_few(
        self, store: istore.Store, folder: FolderBlobs
    ) -> None:
        errors: list[BaseException] = []

        def work(me: int) -> None:
            try:
                for turn in range(12):
                    name = f"{me}-{turn}"
                    create_with_data(name, b"%d" % (turn % 3))
                    with store.write() as connection:
                        table = schema.inferences
                        ours = table.c.inference_id == name
                        gone = delete(table).where(ours).returning(table.c.data_storage_key)
                        keys = list(connection.execute(gone).scalars()) if turn % 4 else []
                        doomed = doom(connection, keys)
                    discard(store, folder, doomed)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(me,)) for me in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        check_blobs(store)
        assert len(named_keys(store)) == 3


class TestEncoding:
    @given(
        st.lists(
            st.fixed_dictionaries(
                {"label": TEXT},
                optional={
                    "score": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
                    "note": st.recursive(
                        st.none() | st.booleans() | TEXT,
                        lambda inner: st.lists(inner) | st.dictionaries(st.just("é"), inner),
                    ),
                },
            )
        ),
        st.lists(st.tuples(TEXT, st.sampled_from(["int", "json"]))),
    )
    @settings(max_examples=50)
    def test_what_is_encoded_is_read_back(
        self, elements: list[dict[str, Any]], metadata: list[tuple[str, str]]
    ) -> None:
        whole = inference(elements=elements, metadata={key: (kind, key) for key, kind in metadata})
        encoded = whole.data.encode()
        assert type(encoded) is bytes
        collection = istore.NewInferenceAndMetadataCollection
        assert collection.model_validate_json(encoded) == whole.data
        part = whole.data.metadata
        assert istore.NewMetadataCollectionRequest.model_validate_json(part.encode()) == part

    def test_is_json_as_people_read_it(self) -> None:
        encoded = inference(elements=[{"label": "é"}], data_source="caméra").data.encode()
        assert '"é"' in encoded.decode()
        assert '"caméra"' in encoded.decode()

    @pytest.mark.parametrize(
        "element",
        [{"score": NAN}, {"score": float("inf")}, {"x": object()}, {"x": "\ud800"}, {"x": b"\xff"}],
    )
    def test_what_is_no_json_is_refused(self, element: dict[str, Any]) -> None:
        with pytest.raises(StoreError, match="cannot be written as JSON") as caught:
            inference(elements=[{**CAT, **element}]).data.encode()
        assert "\n" not in str(caught.value)

    def test_embedding(self) -> None:
        data = inference(elements=None, embedding=[1.5, -2e-300]).data
        assert istore.NewInferenceAndMetadataCollection.model_validate_json(data.encode()) == data


def test_nothing_but_the_given_folders_is_written(
    tmp_path: Path, sqlite_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("PIXANO_BLOBS", raising=False)
    with istore.connect(sqlite_place):
        create_with_data("one", b"x")
        istore.upload_data(MODEL_ID)
    assert list(Path().iterdir()) == []
