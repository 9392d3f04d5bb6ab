"""How Alembic runs our migrations: on the connection it is given, inside the transaction that is open on it."""

from alembic import context

from control_plane.storage.records import (
    audit,
    certificates,
    commands,
    init_scripts,
    joining,
    relays,
    reports,
    secrets,
    signers,
    trust,
)
from control_plane.storage.records.record import Record

# With these, and what they refer to, all tables are known.
TABLES = (audit, certificates, commands, init_scripts, joining, relays, reports, secrets, signers, trust)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Record.metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
