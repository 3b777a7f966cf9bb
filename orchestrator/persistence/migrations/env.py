"""Alembic's entry: runs on a connection that `runner` hands over."""

from alembic import context

from orchestrator.persistence.rows import Row

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Row.metadata,
)
with context.begin_transaction():
    context.run_migrations()
