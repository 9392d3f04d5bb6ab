"""Quotas of workspaces."""

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('workspaces', sa.Column('quotas', sa.JSON(none_as_null=True), nullable=True))
