"""How Alembic runs our migrations: on the connection it is given, inside the transaction that is open on it."""

from alembic import context

from control_plane.storage import init_records, secret_records

# The modules with tables that no other of them imports: with these, all tables are known.
TABLES = (init_records, secret_records)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=TABLES[0].Record.metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
