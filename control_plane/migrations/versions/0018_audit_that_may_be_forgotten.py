"""Audit events may be removed once they are 30 days old, by the database's clock; younger ones, and changes, may not."""

from alembic import op

revision = '0018'
down_revision = '0017'
branch_labels = None
depends_on = None

LEAST_MILLISECONDS = 30 * 86_400 * 1000
SQLITE_NEVER = """
CREATE TRIGGER audit_events_no_DELETE BEFORE DELETE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END
"""
SQLITE_YOUNG = f"""
CREATE TRIGGER audit_events_no_DELETE BEFORE DELETE ON audit_events
WHEN OLD.time > CAST(strftime('%s', 'now') AS INTEGER) * 1000 - {LEAST_MILLISECONDS}
BEGIN SELECT RAISE(ABORT, 'audit events are append-only for 30 days'); END
"""
POSTGRESQL_ALL = """
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR {0}TRUNCATE ON audit_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()
"""
POSTGRESQL_YOUNG = f"""
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events
FOR EACH ROW WHEN (OLD.time > extract(epoch FROM now()) * 1000 - {LEAST_MILLISECONDS})
EXECUTE FUNCTION refuse_audit_change()
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == 'sqlite':
        _run('DROP TRIGGER audit_events_no_DELETE', SQLITE_YOUNG)
    else:
        _run('DROP TRIGGER audit_events_append_only ON audit_events', POSTGRESQL_ALL.format(''), POSTGRESQL_YOUNG)


def downgrade() -> None:
    if op.get_bind().dialect.name == 'sqlite':
        _run('DROP TRIGGER audit_events_no_DELETE', SQLITE_NEVER)
    else:
        _run(
            'DROP TRIGGER audit_events_no_delete ON audit_events',
            'DROP TRIGGER audit_events_append_only ON audit_events',
            POSTGRESQL_ALL.format('DELETE OR '),
        )


def _run(*statements: str) -> None:
    for statement in statements:
        op.execute(statement)
