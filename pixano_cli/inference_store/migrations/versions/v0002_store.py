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

# Tables of 0001 that are made anew, for columns are added to what SQLite cannot add them to.
REMADE = ("models", "inferences", "elements", "metadata")

_RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_CodePointText = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the new tables, and fill them from the old."""
    _put_old_tables_aside()
    _make_models()
    _make_inferences()
    _make_embeddings()
    _make_elements()
    _make_metadata()
    for table in reversed(REMADE):
        op.drop_table(f"{table}_0001")
    _make_blobs()
    _make_tasks()


def _put_old_tables_aside() -> None:
    for index, table in (
        ("ix_inferences_answer", "inferences"),
        ("ix_inferences_created", "inferences"),
        ("ix_elements_label", "elements"),
        ("ix_metadata_value", "metadata"),
    ):
        op.drop_index(index, table)
    for table in REMADE:
        op.rename_table(table, f"{table}_0001")
    if op.get_bind().dialect.name == "postgresql":
        # There the names of constraints and sequences stay, and those of new ones give way.
        for table, name in (
            *((table, f"{table}_pkey") for table in REMADE),
            ("inferences", "uq_inferences_model_inference"),
            ("inferences", "inferences_model_id_fkey"),
            ("elements", "elements_inference_fkey"),
            ("metadata", "metadata_inference_fkey"),
        ):
            op.execute(f"ALTER TABLE {table}_0001 RENAME CONSTRAINT {name} TO {name}_0001")
        op.execute("ALTER SEQUENCE inferences_id_seq RENAME TO inferences_0001_id_seq")


def _make_models() -> None:
    op.create_table(
        "models",
        sa.Column("id", _RowId, nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("embedding_size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("disorder", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("model_id", name="uq_models_model"),
    )
    kept = "model_id, project_id, task_type, embedding_size, created_at, updated_at"
    op.execute(
        f"INSERT INTO models ({kept}, disorder) "
        f"SELECT {kept}, coalesce((SELECT max(earlier - created_at) FROM ("
        "SELECT model_id, created_at, "
        "max(created_at) OVER (PARTITION BY model_id ORDER BY id) AS earlier FROM inferences_0001"
        ") AS dated WHERE dated.model_id = models_0001.model_id), 0) "
        "FROM models_0001 ORDER BY models_0001.created_at, models_0001.model_id"
    )


def _make_inferences() -> None:
    op.create_table(
        "inferences",
        sa.Column("id", _RowId, nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("inference_id", _CodePointText, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("inference_action", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("data_hash", sa.Text(), nullable=False),
        sa.Column("data_size", sa.BigInteger(), nullable=False),
        sa.Column("data_source", sa.Text(), nullable=True),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.Column("data_storage_key", sa.Text(), nullable=True),
        sa.Column("is_protected", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("request_key", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("model_id", "inference_id", name="uq_inferences_model_inference"),
    )
    columns = (
        "id, model_id, inference_id, created_at, updated_at, task_type, inference_action, "
        "version, data_hash, data_size, data_source, latitude, longitude, data_storage_key, "
        "is_protected, deleted_at, request_key, data"
    )
    op.execute(
        f"INSERT INTO inferences ({columns}) SELECT {columns} FROM inferences_0001 ORDER BY id"
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SELECT setval('inferences_id_seq', max(id)) FROM inferences")
    _index_inferences()


def _index_inferences() -> None:
    visible = "deleted_at IS NULL"
    order = ["created_at", "inference_id"]
    source = sa.text("substr(data_source, 1, 200)")
    op.create_index("ix_inferences_answer", "inferences", ["data_hash", "request_key"])
    for name, columns, where in (
        ("created", ["model_id", *order], visible),
        ("source", ["model_id", source, *order], visible),
        ("action", ["model_id", "inference_action", *order], visible),
        ("place", ["model_id", "latitude", "longitude"], f"latitude IS NOT NULL AND {visible}"),
        ("blob", ["data_storage_key"], "data_storage_key IS NOT NULL"),
        ("deleted", ["model_id", "created_at"], "deleted_at IS NOT NULL"),
    ):
        _partial_index(f"ix_inferences_{name}", "inferences", columns, where)
    op.create_index(
        "ix_inferences_protected",
        "inferences",
        ["model_id"],
        sqlite_where=sa.text("is_protected = 1"),
        postgresql_where=sa.text("is_protected"),
    )


def _partial_index(name: str, table: str, columns: list[Any], where: str) -> None:
    op.create_index(
        name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )


def _make_embeddings() -> None:
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


def _make_elements() -> None:
    op.create_table(
        "elements",
        sa.Column("inference", _RowId, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("label", _CodePointText, nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["inference"], ["inferences.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("inference", "position"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO elements (inference, position, model, label, score) "
        "SELECT old.inference, old.position, models.id, old.label, old.score "
        f"FROM elements_0001 AS old {_MODEL_OF_OLD} ORDER BY old.inference, old.position"
    )
    op.create_index("ix_elements_label", "elements", ["model", "label", "inference", "score"])
    _partial_index("ix_elements_score", "elements", ["model", "score"], "score IS NOT NULL")


def _make_metadata() -> None:
    op.create_table(
        "metadata",
        sa.Column("inference", _RowId, nullable=False),
        sa.Column("key", _CodePointText, nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", _CodePointText, nullable=False),
        sa.Column("start", _CodePointText, nullable=True),
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
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", _CodePointText, nullable=False),
        sa.Column("start", _CodePointText, nullable=True),
        sa.Column("number", sa.Float(), nullable=True),
        sa.Column("digits", _CodePointText, nullable=True),
        sa.ForeignKeyConstraint(
            ["inference", "key"], ["metadata.inference", "metadata.key"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("inference", "key", "name"),
        sqlite_with_rowid=False,
    )
    _copy_metadata()
    for table, short, name in (
        ("metadata", "metadata", "key"),
        ("metadata_leaves", "leaves", "name"),
    ):
        _partial_index(f"ix_{short}_text", table, ["model", name, "start"], "start IS NOT NULL")
        _partial_index(
            f"ix_{short}_number", table, ["model", name, "type", "number"], "number IS NOT NULL"
        )


def _copy_metadata() -> None:
    connection = op.get_bind()
    page = sa.text(
        'SELECT old.inference, old."key", models.id AS model, old.type, old.value '
        f"FROM metadata_0001 AS old {_MODEL_OF_OLD} "
        'WHERE old.inference > :row OR (old.inference = :row AND old."key" > :key) '
        'ORDER BY old.inference, old."key" LIMIT :page'
    )
    add = sa.text(
        'INSERT INTO metadata (inference, "key", model, type, value, start, number, digits) '
        "VALUES (:inference, :key, :model, :type, :value, :start, :number, :digits)"
    )
    add_leaf = sa.text(
        "INSERT INTO metadata_leaves "
        '(inference, "key", name, model, type, value, start, number, digits) '
        "VALUES (:inference, :key, :name, :model, :type, :value, :start, :number, :digits)"
    )
    row, key = -1, ""
    while rows := connection.execute(page, {"row": row, "key": key, "page": PAGE}).all():
        row, key = rows[-1].inference, rows[-1].key
        connection.execute(add, [_compared(*each) for each in rows])
        leaves = [
            _compared(each.inference, each.key, each.model, leaf.type, leaf.value)
            | {"name": leaf.name}
            for each in rows
            if each.type == "json"
            for leaf in values.leaves(each.key, each.value)
        ]
        if leaves:
            connection.execute(add_leaf, leaves)


def _compared(inference: int, key: str, model: int, kind: str, value: str) -> dict[str, Any]:
    start, number, digits = values.comparable(kind, value)
    return {
        "inference": inference,
        "key": key,
        "model": model,
        "type": kind,
        "value": value,
        "start": start,
        "number": number,
        "digits": digits,
    }


_MODEL_OF_OLD = (
    "JOIN inferences ON inferences.id = old.inference "
    "JOIN models ON models.model_id = inferences.model_id"
)


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
