"""How much of a command's output its node dropped."""

import sqlalchemy as sa
from alembic import op

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('commands', schema=None) as batch_op:
        batch_op.add_column(sa.Column('stdout_dropped_bytes', sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column('stderr_dropped_bytes', sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('commands', schema=None) as batch_op:
        batch_op.drop_column('stderr_dropped_bytes')
        batch_op.drop_column('stdout_dropped_bytes')
