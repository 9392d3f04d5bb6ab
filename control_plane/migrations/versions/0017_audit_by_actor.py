"""An index by which the events of one actor are found among millions."""

from alembic import op

revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f('ix_audit_events_actor_event_id'), 'audit_events', ['actor', 'event_id'], unique=False)


def downgrade() -> None:
    op.drop_index(op.f('ix_audit_events_actor_event_id'), table_name='audit_events')
