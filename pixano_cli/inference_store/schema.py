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
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

# Text that must sort by code point everywhere: output order must not depend on a locale.
CodePointText = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite numbers rows by itself only in a column typed INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")

tables = MetaData()

models = Table(
    "models",
    tables,
    Column("model_id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("task_type", Text, nullable=False),
    Column("embedding_size", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

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
    # The answer as JSON text: the deconstructed list, or an embedding.
    Column("data", Text),
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
    UniqueConstraint("model_id", "inference_id", name="uq_inferences_model_inference"),
    Index("ix_inferences_answer", "data_hash", "request_key"),
    Index("ix_inferences_created", "model_id", "created_at", "inference_id"),
)

elements = Table(
    "elements",
    tables,
    Column("inference", RowId, ForeignKey("inferences.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("label", CodePointText, nullable=False),
    Column("score", Float),
    Index("ix_elements_label", "label", "score"),
    sqlite_with_rowid=False,
)

metadata = Table(
    "metadata",
    tables,
    Column("inference", RowId, ForeignKey("inferences.id", ondelete="CASCADE"), primary_key=True),
    Column("key", CodePointText, primary_key=True),
    Column("type", Text, nullable=False),
    Column("value", CodePointText, nullable=False),
    Index("ix_metadata_value", "key", "type", "value"),
    sqlite_with_rowid=False,
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
