"""What Alembic runs for every command: the connection and its transaction come from :mod:`quotas.store.migrate`."""

from __future__ import annotations

from alembic import context

from quotas.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
