"""What stands beside an output: the list of failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixano_cli.annotate.outputs import Output, write_failures
from pixano_cli.errors import OutputError
from pixano_cli.inference_store import runs
from pixano_cli.inference_store.database import Store, open_store
from pixano_cli.inference_store.ledger import Failure, Item, Outcome, add_items, record_outcomes

ITEM = Item("a.jpg", "photos", "file:///photos/a.jpg", 1, 1)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path / "out.json", "coco")


def failed(store: Store, run_id: str, *, is_failed: bool) -> None:
    with store.write() as connection:
        runs.begin_run(connection, run_id, "job", {})
        add_items(connection, run_id, [ITEM], ())
        if is_failed:
            outcome = Outcome(ITEM, "failed", failure=Failure("decode", "ImageDecodeError", "no"))
            record_outcomes(connection, run_id, [outcome], overwrite=False)


def test_failures_are_listed_and_the_list_of_an_earlier_run_goes(
    tmp_path: Path, output: Output
) -> None:
    path = tmp_path / "out.json.failed.jsonl"
    other = Output(tmp_path / "out.parquet", "parquet")
    with open_store(tmp_path / "store") as store:
        failed(store, "one", is_failed=True)
        write_failures([output, other], store, "one")
        expected = {"path": "a.jpg", "stage": "decode", "error_class": "ImageDecodeError"}
        assert json.loads(path.read_text()) == expected | {"message": "no"}
        assert path.read_bytes() == (tmp_path / "out.parquet.failed.jsonl").read_bytes()
        failed(store, "two", is_failed=False)
        write_failures([output], store, "two")
    assert not path.exists()


def test_a_list_that_cannot_be_removed_is_told_of(tmp_path: Path, output: Output) -> None:
    (tmp_path / "out.json.failed.jsonl").mkdir()
    with open_store(tmp_path / "store") as store:
        failed(store, "one", is_failed=False)
        with pytest.raises(OutputError, match=r"out\.json\.failed\.jsonl"):
            write_failures([output], store, "one")
