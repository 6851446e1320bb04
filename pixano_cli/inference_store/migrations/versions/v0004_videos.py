"""Frames of videos, objects through them, and how far the work on a video is."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "frames",
        sa.Column(
            "inference",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.ForeignKey("inferences.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("data_hash", sa.Text, nullable=False),
        sa.Column("request_key", sa.Text, nullable=False),
        sa.Column("frame_index", sa.BigInteger, nullable=False),
        sa.Column("timestamp_s", sa.Float, nullable=False),
        sa.Column("file_name", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_frames_video", "frames", ["data_hash", "request_key", "frame_index", "inference"]
    )
    op.create_table(
        "tracks",
        sa.Column("work_key", sa.Text, primary_key=True),
        sa.Column("frame_index", sa.BigInteger, primary_key=True),
        sa.Column("timestamp_s", sa.Float, nullable=False),
        sa.Column("file_name", sa.Text),
        sa.Column("masks", sa.Integer, nullable=False),
        sa.Column("objects", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoints",
        sa.Column("work_key", sa.Text, primary_key=True),
        sa.Column("frames", sa.BigInteger, nullable=False),
        sa.Column("next_frame", sa.BigInteger, nullable=False),
        sa.Column("is_complete", sa.Boolean, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.LargeBinary),
    )
