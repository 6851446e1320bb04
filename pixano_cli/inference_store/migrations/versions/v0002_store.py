"""The complete store: embeddings, numbers to compare, blobs, retention, exports, their indexes.

A migration stands for ever: it names the tables as they were on its day, not as they are.
"""

import json
import struct
from typing import Any

import sqlalchemy as sa
from alembic import op

from pixano_cli.inference_store import values

revision = "0002"
down_revision = "0001"

PAGE = 1_000

_RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_CodePointText = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the new tables and fill them from the old."""
    _index_inferences()
    _move_embeddings()
    _complete_metadata()
    _make_blobs()
    _make_tasks()


def _partial_index(name: str, table: str, columns: list[Any], where: str) -> None:
    op.create_index(
        name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )


def _index_inferences() -> None:
    op.create_index(
        "ix_inferences_source",
        "inferences",
        ["model_id", sa.text("substr(data_source, 1, 200)"), "created_at"],
    )
    op.create_index(
        "ix_inferences_action", "inferences", ["model_id", "inference_action", "created_at"]
    )
    _partial_index(
        "ix_inferences_place", "inferences", ["latitude", "longitude"], "latitude IS NOT NULL"
    )
    for name, column in (
        ("ix_inferences_blob", "data_storage_key"),
        ("ix_inferences_deleted", "deleted_at"),
    ):
        _partial_index(name, "inferences", [column], f"{column} IS NOT NULL")


def _move_embeddings() -> None:
    op.create_table(
        "embeddings",
        sa.Column("position", _RowId, autoincrement=True, nullable=False),
        sa.Column("inference", _RowId, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["inference"], ["inferences.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("inference", name="uq_embeddings_inference"),
        sqlite_autoincrement=True,
    )
    connection = op.get_bind()
    embedded = sa.text(
        "SELECT id, data FROM inferences WHERE id > :last AND version = 'v1' "
        "AND data IS NOT NULL ORDER BY id LIMIT :page"
    )
    last = 0
    while rows := connection.execute(embedded, {"last": last, "page": PAGE}).all():
        last = rows[-1].id
        found = [(row.id, [float(number) for number in json.loads(row.data)]) for row in rows]
        connection.execute(
            sa.text("INSERT INTO embeddings (inference, vector) VALUES (:inference, :vector)"),
            [
                {"inference": row, "vector": struct.pack(f"<{len(vector)}d", *vector)}
                for row, vector in found
            ],
        )
        connection.execute(
            sa.text("UPDATE inferences SET data = NULL WHERE id = :row"),
            [{"row": row} for row, _ in found],
        )


def _complete_metadata() -> None:
    op.drop_index("ix_metadata_value", "metadata")
    op.rename_table("metadata", "metadata_0001")
    if op.get_bind().dialect.name == "postgresql":
        # Names of constraints are the database's, not the table's.
        op.execute("ALTER INDEX metadata_pkey RENAME TO metadata_0001_pkey")
    op.create_table(
        "metadata",
        sa.Column("inference", _RowId, nullable=False),
        sa.Column("key", _CodePointText, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", _CodePointText, nullable=False),
        sa.Column("number", sa.Float(), nullable=True),
        sa.Column("digits", _CodePointText, nullable=True),
        sa.ForeignKeyConstraint(["inference"], ["inferences.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("inference", "key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metadata_leaves",
        sa.Column("inference", _RowId, nullable=False),
        sa.Column("key", _CodePointText, nullable=False),
        sa.Column("name", _CodePointText, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", _CodePointText, nullable=False),
        sa.Column("number", sa.Float(), nullable=True),
        sa.Column("digits", _CodePointText, nullable=True),
        sa.ForeignKeyConstraint(
            ["inference", "key"], ["metadata.inference", "metadata.key"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("inference", "key", "name"),
        sqlite_with_rowid=False,
    )
    _copy_metadata()
    op.drop_table("metadata_0001")
    for table, short, name in (
        ("metadata", "metadata", "key"),
        ("metadata_leaves", "leaves", "name"),
    ):
        _partial_index(
            f"ix_{short}_text", table, [name, sa.text("substr(value, 1, 200)")], "type = 'string'"
        )
        _partial_index(f"ix_{short}_number", table, [name, "type", "number"], "number IS NOT NULL")


def _copy_metadata() -> None:
    connection = op.get_bind()
    page = sa.text(
        'SELECT inference, "key", type, value FROM metadata_0001 '
        'WHERE inference > :row OR (inference = :row AND "key" > :key) '
        'ORDER BY inference, "key" LIMIT :page'
    )
    add = sa.text(
        'INSERT INTO metadata (inference, "key", type, value, number, digits) '
        "VALUES (:inference, :key, :type, :value, :number, :digits)"
    )
    add_leaf = sa.text(
        'INSERT INTO metadata_leaves (inference, "key", name, type, value, number, digits) '
        "VALUES (:inference, :key, :name, :type, :value, :number, :digits)"
    )
    row, key = -1, ""
    while rows := connection.execute(page, {"row": row, "key": key, "page": PAGE}).all():
        row, key = rows[-1].inference, rows[-1].key
        connection.execute(add, [_compared(each.inference, *each[1:]) for each in rows])
        leaves = [
            _compared(each.inference, each.key, leaf.type, leaf.value) | {"name": leaf.name}
            for each in rows
            if each.type == "json"
            for leaf in values.leaves(each.key, each.value)
        ]
        if leaves:
            connection.execute(add_leaf, leaves)


def _compared(inference: int, key: str, kind: str, value: str) -> dict[str, Any]:
    number, digits = values.comparable(kind, value)
    return {
        "inference": inference,
        "key": key,
        "type": kind,
        "value": value,
        "number": number,
        "digits": digits,
    }


def _make_blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("storage_key", _CodePointText, nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("pending_since", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("storage_key"),
        sqlite_with_rowid=False,
    )
    _partial_index("ix_blobs_pending", "blobs", ["pending_since"], "pending_since IS NOT NULL")


def _make_tasks() -> None:
    op.create_table(
        "retention_policies",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("delete_action", sa.Text(), nullable=False),
        sa.Column("maximum_record_age", sa.Integer(), nullable=False),
        sa.Column("maximum_blob_age", sa.Integer(), nullable=False),
        sa.Column("automated_interval", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_scheduled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("model_id"),
    )
    op.create_table(
        "retention_tasks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("retention_policy_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("deleted_record_count", sa.BigInteger(), nullable=False),
        sa.Column("deleted_blob_count", sa.BigInteger(), nullable=False),
        sa.Column("total_record_count", sa.BigInteger(), nullable=False),
        sa.Column("total_blob_count", sa.BigInteger(), nullable=False),
        sa.Column("maximum_record_age_limit", sa.BigInteger(), nullable=False),
        sa.Column("maximum_blob_age_limit", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "export_tasks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("progress_count", sa.BigInteger(), nullable=False),
        sa.Column("expected_count", sa.BigInteger(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    for table in ("retention_tasks", "export_tasks"):
        op.create_index(f"ix_{table}_created", table, ["model_id", "created_at"])
