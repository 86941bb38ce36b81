"""Runs revisions on the connection that `covtrack.store.upgrading` hands over.

It opens no connection and commits nothing: the caller's transaction holds the whole move.
"""

from __future__ import annotations

from alembic import context

from covtrack.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
