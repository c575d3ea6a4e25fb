"""What Alembic runs before a revision: it works on the connection and in the transaction that it is given."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="lorebase_version",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
