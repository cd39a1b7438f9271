"""Alembic's environment: the program hands in the connection, already in a transaction."""

from alembic import context

from flute_sync.ledger.indexes import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
