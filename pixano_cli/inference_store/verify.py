"""Verifying a store: its database is sound, its tables agree, and its blobs are all there.

Records and blobs are gone through a page at a time, each as it is at one moment: so a store of any
size fits into memory, and others go on working with it. What dead processes left is no problem:
it is cleared away first, as whenever a store is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, delete, select

from pixano_cli.errors import StoreError
from pixano_cli.inference_store import export_task, schema
from pixano_cli.inference_store.blob_ledger import collect
from pixano_cli.inference_store.blobs import BlobStorage
from pixano_cli.inference_store.connection import blobs_of
from pixano_cli.inference_store.database import Store
from pixano_cli.inference_store.findings import Findings, Kind, Report
from pixano_cli.inference_store.retention import end_abandoned
from pixano_cli.inference_store.verify_blobs import verify_blobs
from pixano_cli.inference_store.verify_records import verify_records

DAMAGED = Kind(
    "damages to the database",
    "write what can still be read with export, then restore a copy of the store or begin a new one",
)
ORPHANS = Kind("tables with rows that belong to nothing", "verify --repair removes them")
NO_MODEL = Kind(
    "tables with rows of a model that is not registered",
    "register it with register_model_for_inference_storage",
)
NOT_CLEARED = Kind(
    "left-overs of dead processes that cannot be cleared away",
    "put right what failed, and verify again",
)
NOT_LOOKED_AT = Kind("inputs that cannot be looked at", "put right what failed, and verify again")


def verify(store: Store, *, deep: bool = False, repair: bool = False) -> Report:
    """Look for anything wrong with a store, while others may be using it.

    Args:
        store: An open store.
        deep: Whether to read every input, and not only ask for its size.
        repair: Whether to put right what the rest of the store tells how. No record and no input
            that one names is ever removed by it.

    Raises:
        StoreError: If the database fails.
    """
    blobs = blobs_of(store)
    findings = Findings()
    cleared = _clear(store, blobs, findings)
    if not _is_sound(store, findings):
        # What else is wrong follows from it, or cannot be read.
        return Report(findings.problems(), 0, 0, 0, cleared)
    _verify_parents(store, findings, repair=repair)
    records = verify_records(store, blobs, findings, repair=repair)
    inputs = elsewhere = 0
    try:
        inputs, elsewhere = verify_blobs(store, blobs, findings, deep=deep, repair=repair)
    except StoreError as error:
        findings.add(NOT_LOOKED_AT, str(error))
    return Report(findings.problems(), records, inputs, elsewhere, cleared)


def _clear(store: Store, blobs: BlobStorage, findings: Findings) -> int:
    """Finish what dead processes began; return how much it was."""
    works: tuple[Callable[[], int], ...] = (
        partial(end_abandoned, store),
        partial(export_task.sweep, store, blobs),
        partial(collect, store, blobs),
        blobs.sweep,
    )
    cleared = 0
    for work in works:
        try:
            cleared += work()
        except StoreError as error:
            findings.add(NOT_CLEARED, str(error))
    return cleared


def _is_sound(store: Store, findings: Findings) -> bool:
    """Return whether the database finds no fault in itself."""
    with store.read() as connection:
        if connection.dialect.name == "postgresql":
            # It keeps its own constraints; an index or a constraint may be left half made.
            said = connection.exec_driver_sql(
                "SELECT 'index ' || indexrelid::regclass || ' is not valid' FROM pg_index "
                "JOIN pg_class ON oid = indexrelid "
                "WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace "
                "UNION ALL "
                "SELECT 'constraint ' || conname || ' is not validated' FROM pg_constraint "
                "WHERE NOT convalidated AND connamespace = current_schema()::regnamespace"
            )
        else:
            said = connection.exec_driver_sql("PRAGMA integrity_check")
        damages = [line for line in said.scalars() if line != "ok"]
    for line in damages:
        findings.add(DAMAGED, " ".join(str(line).split()))
    return not damages


def _verify_parents(store: Store, findings: Findings, *, repair: bool) -> None:
    """Look for rows whose parents are gone; PostgreSQL never lets them go."""
    with store.read() as connection:
        if connection.dialect.name == "postgresql":
            return
        lost = connection.exec_driver_sql("PRAGMA foreign_key_check")
        orphans = sorted({(each[0], each[2]) for each in lost})
    for table, parent in orphans:
        if parent == schema.models.name:
            findings.add(NO_MODEL, table)
            continue
        if repair:
            with store.write() as connection:
                _remove_orphans(connection, table)
        findings.add(ORPHANS, table, repaired=repair)


def _remove_orphans(connection: Connection, name: str) -> None:
    table = schema.tables.tables[name]
    for key in table.foreign_key_constraints:
        parents = key.referred_table
        same = [each.column == each.parent for each in key.elements]
        connection.execute(delete(table).where(~select(parents).where(*same).exists()))
