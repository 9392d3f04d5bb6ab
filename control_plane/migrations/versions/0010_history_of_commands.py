"""The events of commands, since when they are unknown, and what is kept of their outputs."""

import sqlalchemy as sa
from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('kept_outputs',
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('command_id', sa.String(length=255), nullable=False),
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.Column('state', sa.String(length=255), nullable=False),
    sa.Column('fetch_before', sa.BigInteger(), nullable=False),
    sa.Column('stdout_bytes', sa.BigInteger(), nullable=False),
    sa.Column('stdout_head_bytes', sa.BigInteger(), nullable=False),
    sa.Column('stdout_tail_bytes', sa.BigInteger(), nullable=False),
    sa.Column('stderr_bytes', sa.BigInteger(), nullable=False),
    sa.Column('stderr_head_bytes', sa.BigInteger(), nullable=False),
    sa.Column('stderr_tail_bytes', sa.BigInteger(), nullable=False),
    sa.Column('kept_bytes', sa.BigInteger(), nullable=False),
    sa.Column('keep_time', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('workspace_id', 'command_id', name=op.f('pk_kept_outputs'))
    )
    with op.batch_alter_table('kept_outputs', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_kept_outputs_keep_time'), ['keep_time'], unique=False)
        batch_op.create_index(batch_op.f('ix_kept_outputs_state_keep_time'), ['state', 'keep_time'], unique=False)

    op.create_table('command_events',
    sa.Column('event_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('command_id', sa.String(length=255), nullable=False),
    sa.Column('time', sa.BigInteger(), nullable=False),
    sa.Column('event', sa.String(length=255), nullable=False),
    sa.Column('details', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('event_id', name=op.f('pk_command_events'))
    )
    with op.batch_alter_table('command_events', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_command_events_workspace_id_command_id_event_id'), ['workspace_id', 'command_id', 'event_id'], unique=False)
    with op.batch_alter_table('commands', schema=None) as batch_op:
        batch_op.add_column(sa.Column('unknown_since', sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column('event_count', sa.BigInteger(), server_default='0', nullable=False))
    op.execute("UPDATE commands SET unknown_since = submit_time WHERE state = 'UNKNOWN'")
