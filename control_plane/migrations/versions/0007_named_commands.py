"""Named commands: what a submission names in place of an argument list."""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('submissions', sa.Column('named', sa.String(length=255), nullable=True))
    op.add_column('submissions', sa.Column('parameters', sa.JSON(), nullable=True))
