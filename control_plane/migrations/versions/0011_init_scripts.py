"""Init scripts of workspaces and clusters, and how far each node's initialisation is."""

import sqlalchemy as sa
from alembic import op

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('init_scripts',
    sa.Column('script_id', sa.String(length=255), nullable=False),
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('cluster_id', sa.String(length=255), nullable=True),
    sa.Column('owner_id', sa.String(length=255), nullable=False),
    sa.Column('name', sa.String(length=255), nullable=False),
    sa.Column('position', sa.BigInteger(), nullable=False),
    sa.Column('enabled', sa.Boolean(), nullable=False),
    sa.Column('content', sa.LargeBinary(), nullable=False),
    sa.Column('sha256', sa.String(length=255), nullable=False),
    sa.Column('secrets', sa.JSON(), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('created_by', sa.String(length=512), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_by', sa.String(length=512), nullable=False),
    sa.ForeignKeyConstraint(['cluster_id'], ['clusters.cluster_id'], name=op.f('fk_init_scripts_cluster_id_clusters'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_init_scripts_workspace_id_workspaces'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('script_id', name=op.f('pk_init_scripts')),
    sa.UniqueConstraint('owner_id', 'name', name=op.f('uq_init_scripts_owner_id_name'))
    )
    with op.batch_alter_table('init_scripts', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_init_scripts_cluster_id'), ['cluster_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_init_scripts_workspace_id'), ['workspace_id'], unique=False)

    op.create_table('node_inits',
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.Column('run', sa.BigInteger(), nullable=False),
    sa.Column('instance', sa.String(length=255), nullable=True),
    sa.Column('state', sa.String(length=255), nullable=False),
    sa.Column('reason', sa.String(length=1024), nullable=True),
    sa.Column('report', sa.JSON(), nullable=True),
    sa.Column('report_sequence', sa.BigInteger(), nullable=False),
    sa.Column('requested_by', sa.String(length=512), nullable=True),
    sa.Column('request_time', sa.BigInteger(), nullable=False),
    sa.Column('hand_time', sa.BigInteger(), nullable=True),
    sa.Column('report_time', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.node_id'], name=op.f('fk_node_inits_node_id_nodes'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('node_id', name=op.f('pk_node_inits'))
    )
    with op.batch_alter_table('node_inits', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_node_inits_state'), ['state'], unique=False)
