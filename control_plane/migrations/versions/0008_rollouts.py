"""A submission may let its commands go in waves, and be stopped."""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('commands', schema=None) as batch_op:
        batch_op.add_column(sa.Column('held', sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column('wave', sa.BigInteger(), nullable=True))

    with op.batch_alter_table('submissions', schema=None) as batch_op:
        batch_op.add_column(sa.Column('rollout', sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column('rollout_open', sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column('wave', sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column('wave_over_time', sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column('stop_reason', sa.String(length=1024), nullable=True))
        batch_op.create_index(batch_op.f('ix_submissions_rollout_open'), ['rollout_open'], unique=False)
        batch_op.create_index(batch_op.f('ix_submissions_workspace_id_creation_time_submission_id'), ['workspace_id', 'creation_time', 'submission_id'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('submissions', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_submissions_workspace_id_creation_time_submission_id'))
        batch_op.drop_index(batch_op.f('ix_submissions_rollout_open'))
        for column in ('stop_reason', 'wave_over_time', 'wave', 'rollout_open', 'rollout'):
            batch_op.drop_column(column)

    with op.batch_alter_table('commands', schema=None) as batch_op:
        batch_op.drop_column('wave')
        batch_op.drop_column('held')
