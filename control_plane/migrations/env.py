"""How Alembic runs our migrations: on the connection it is given, inside the transaction that is open on it."""

from alembic import context

from control_plane.storage.secret_records import SecretScope

context.configure(
    connection=context.config.attributes["connection"],
    # Of the modules with tables the one that stands on the others, so that all tables are known.
    target_metadata=SecretScope.metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
