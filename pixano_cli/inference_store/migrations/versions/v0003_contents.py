"""An index of the files by their content: an archive asks for them page by page."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_files_content", "files", ["sha256"])
