"""Alembic's environment: migrations run on the connection that opens the store."""

from alembic import context

from pixano_cli.inference_store.schema import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables,
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,
)
context.run_migrations()
