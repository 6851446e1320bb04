"""The tables of the inference store, in SQLAlchemy Core, the same for every database.

Numbered migrations build them; a test holds that both agree. Times are whole microseconds
since 1970 in UTC, so that they sort and compare exactly on every database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    text,
)

from pixano_cli.inference_store.values import START

# Text that must sort by code point everywhere: output order must not depend on a locale.
CodePointText = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite numbers rows by itself only in a column typed INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")

VISIBLE = "deleted_at IS NULL"

tables = MetaData()


def _start(column: str) -> TextClause:
    return text(f"substr({column}, 1, {START})")


def _partial(name: str, *columns: str | TextClause, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


# Elements and metadata repeat the model of their inference, by the short id that it has for
# this: so an index of theirs lists what one model has, and no other's records stand between.
models = Table(
    "models",
    tables,
    Column("id", RowId, primary_key=True),
    Column("model_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("task_type", Text, nullable=False),
    Column("embedding_size", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # By how much a record was ever dated earlier than one before it, where a clock went back.
    Column("disorder", BigInteger, nullable=False, default=0),
    UniqueConstraint("model_id", name="uq_models_model"),
)

# Rows are numbered in the order in which they are made.
inferences = Table(
    "inferences",
    tables,
    Column("id", RowId, primary_key=True),
    Column("model_id", Text, ForeignKey("models.model_id"), nullable=False),
    Column("inference_id", CodePointText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("task_type", Text, nullable=False),
    Column("inference_action", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("data_hash", Text, nullable=False),
    Column("data_size", BigInteger, nullable=False),
    Column("data_source", Text),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("data_storage_key", Text),
    Column("is_protected", Boolean, nullable=False, default=False),
    Column("deleted_at", BigInteger),
    # What was asked, apart from the input and its prompts; null for records made by hand.
    Column("request_key", Text),
    # The answer as JSON text; null where it is an embedding, which is in a table of its own.
    # The last column: SQLite reads a row up to what is asked of it.
    Column("data", Text),
    UniqueConstraint("model_id", "inference_id", name="uq_inferences_model_inference"),
    Index("ix_inferences_answer", "data_hash", "request_key"),
    # They end with what inferences are sorted by, or SQLite takes the first for all three.
    _partial("ix_inferences_created", "model_id", "created_at", "inference_id", where=VISIBLE),
    _partial(
        "ix_inferences_source",
        *("model_id", _start("data_source"), "created_at", "inference_id"),
        where=VISIBLE,
    ),
    _partial(
        "ix_inferences_action",
        *("model_id", "inference_action", "created_at", "inference_id"),
        where=VISIBLE,
    ),
    _partial(
        "ix_inferences_place",
        "model_id",
        "latitude",
        "longitude",
        where=f"latitude IS NOT NULL AND {VISIBLE}",
    ),
    _partial("ix_inferences_blob", "data_storage_key", where="data_storage_key IS NOT NULL"),
    _partial("ix_inferences_deleted", "model_id", "created_at", where="deleted_at IS NOT NULL"),
    # As SQLAlchemy writes it for each of them.
    Index(
        "ix_inferences_protected",
        "model_id",
        sqlite_where=text("is_protected = 1"),
        postgresql_where=text("is_protected"),
    ),
)

elements = Table(
    "elements",
    tables,
    Column("inference", RowId, ForeignKey("inferences.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("model", Integer, nullable=False),
    Column("label", CodePointText, nullable=False),
    Column("score", Float),
    Index("ix_elements_label", "model", "label", "inference", "score"),
    _partial("ix_elements_score", "model", "score", where="score IS NOT NULL"),
    sqlite_with_rowid=False,
)

embeddings = Table(
    "embeddings",
    tables,
    # Never used twice, so that whoever has read up to one knows which are new.
    Column("position", RowId, primary_key=True, autoincrement=True),
    Column("inference", RowId, ForeignKey("inferences.id", ondelete="CASCADE"), nullable=False),
    # The numbers as doubles, least significant byte first.
    Column("vector", LargeBinary, nullable=False),
    UniqueConstraint("inference", name="uq_embeddings_inference"),
    sqlite_autoincrement=True,
)

# `start`, `number` and `digits` are what is compared of the value: see values.comparable. A start
# is a column of its own, for SQLite cannot answer a query from an index on an expression alone.
metadata = Table(
    "metadata",
    tables,
    Column("inference", RowId, ForeignKey("inferences.id", ondelete="CASCADE"), primary_key=True),
    Column("key", CodePointText, primary_key=True),
    Column("model", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("value", CodePointText, nullable=False),
    Column("start", CodePointText),
    Column("number", Float),
    Column("digits", CodePointText),
    _partial("ix_metadata_text", "model", "key", "start", where="start IS NOT NULL"),
    _partial("ix_metadata_number", "model", "key", "type", "number", where="number IS NOT NULL"),
    sqlite_with_rowid=False,
)

# The scalars inside json metadata: `name` is the key, a dot, and the path through the objects.
metadata_leaves = Table(
    "metadata_leaves",
    tables,
    Column("inference", RowId, primary_key=True),
    Column("key", CodePointText, primary_key=True),
    Column("name", CodePointText, primary_key=True),
    Column("model", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("value", CodePointText, nullable=False),
    Column("start", CodePointText),
    Column("number", Float),
    Column("digits", CodePointText),
    ForeignKeyConstraint(
        ["inference", "key"], ["metadata.inference", "metadata.key"], ondelete="CASCADE"
    ),
    _partial("ix_leaves_text", "model", "name", "start", where="start IS NOT NULL"),
    _partial("ix_leaves_number", "model", "name", "type", "number", where="number IS NOT NULL"),
    sqlite_with_rowid=False,
)

# Of an inference on a video's frame: which. It repeats what frames are asked for by.
frames = Table(
    "frames",
    tables,
    Column("inference", RowId, ForeignKey("inferences.id", ondelete="CASCADE"), primary_key=True),
    Column("data_hash", Text, nullable=False),
    Column("request_key", Text, nullable=False),
    Column("frame_index", BigInteger, nullable=False),
    Column("timestamp_s", Float, nullable=False),
    # Of a frame that is a file of its own: its name in the folder that is the video.
    Column("file_name", Text),
    Index("ix_frames_video", "data_hash", "request_key", "frame_index", "inference"),
    sqlite_with_rowid=False,
)

# Where objects are that were linked from frame to frame here: no model answered that. `masks` of
# them have a mask, which is in an inference.
tracks = Table(
    "tracks",
    tables,
    Column("work_key", Text, primary_key=True),
    Column("frame_index", BigInteger, primary_key=True),
    Column("timestamp_s", Float, nullable=False),
    Column("file_name", Text),
    Column("masks", Integer, nullable=False),
    Column("objects", Text, nullable=False),
    sqlite_with_rowid=False,
)

# How far the work on a video is, by what the work is known by, with all that is needed to go on.
checkpoints = Table(
    "checkpoints",
    tables,
    Column("work_key", Text, primary_key=True),
    Column("frames", BigInteger, nullable=False),
    Column("next_frame", BigInteger, nullable=False),
    Column("is_complete", Boolean, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("state", LargeBinary),
)

# Every blob in blob storage has its row before its bytes are written, and until they are gone.
blobs = Table(
    "blobs",
    tables,
    Column("storage_key", CodePointText, primary_key=True),
    Column("model_id", Text, nullable=False),
    Column("size", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    # Null: a record names it. Else it is being made, by `owner`, or is to be removed.
    Column("pending_since", BigInteger),
    Column("owner", Text),
    _partial("ix_blobs_pending", "pending_since", where="pending_since IS NOT NULL"),
    sqlite_with_rowid=False,
)

retention_policies = Table(
    "retention_policies",
    tables,
    Column("id", Text, primary_key=True),
    Column("model_id", Text, ForeignKey("models.model_id"), nullable=False, unique=True),
    Column("delete_action", Text, nullable=False),
    # Ages and the interval in hours.
    Column("maximum_record_age", Integer, nullable=False),
    Column("maximum_blob_age", Integer, nullable=False),
    Column("automated_interval", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_scheduled_at", BigInteger),
)

retention_tasks = Table(
    "retention_tasks",
    tables,
    Column("id", Text, primary_key=True),
    Column("retention_policy_id", Text, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("deleted_record_count", BigInteger, nullable=False),
    Column("deleted_blob_count", BigInteger, nullable=False),
    Column("total_record_count", BigInteger, nullable=False),
    Column("total_blob_count", BigInteger, nullable=False),
    Column("maximum_record_age_limit", BigInteger, nullable=False),
    Column("maximum_blob_age_limit", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("owner", Text),
    Index("ix_retention_tasks_created", "model_id", "created_at"),
)

export_tasks = Table(
    "export_tasks",
    tables,
    Column("id", Text, primary_key=True),
    Column("model_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("progress_count", BigInteger, nullable=False),
    Column("expected_count", BigInteger, nullable=False),
    Column("storage_key", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("owner", Text),
    Index("ix_export_tasks_created", "model_id", "created_at"),
)

requests = Table(
    "requests",
    tables,
    Column("request_key", Text, primary_key=True),
    Column("request", Text, nullable=False),
    Column("categories", Text),
)

images = Table(
    "images",
    tables,
    Column("sha256", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("orientation", Integer, nullable=False),
    Column("format", Text, nullable=False),
)

files = Table(
    "files",
    tables,
    Column("url", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Index("ix_files_content", "sha256"),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    tables,
    Column("run_id", Text, primary_key=True),
    Column("job_key", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("summary", Text),
    Index("ix_runs_started", "started_at"),
)

items = Table(
    "items",
    tables,
    Column("run_id", Text, ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("file_name", CodePointText, primary_key=True),
    Column("root", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("sha256", Text),
    # "pending", "processed", "cached" or "failed".
    Column("status", Text, nullable=False),
    # The prompts to answer for this item as JSON; null where a detector gives them.
    Column("prompts", Text),
    Column("stage", Text),
    Column("error_class", Text),
    Column("message", Text),
    sqlite_with_rowid=False,
)
