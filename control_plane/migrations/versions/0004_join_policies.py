"""Join policies, requests that wait for an operator, and what a node's platform calls it."""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('nodes', schema=None) as batch_op:
        batch_op.add_column(sa.Column('machine_resource', sa.String(length=2048), nullable=True))
        batch_op.add_column(sa.Column('attest_time', sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column('join_policy_id', sa.String(length=255), nullable=True))
        batch_op.create_index(batch_op.f('ix_nodes_machine_resource'), ['machine_resource'], unique=False)

    op.create_table('join_policies',
    sa.Column('join_policy_id', sa.String(length=255), nullable=False),
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('join_policy', sa.String(length=255), nullable=False),
    sa.Column('platform', sa.String(length=255), nullable=False),
    sa.Column('conditions', sa.JSON(), nullable=False),
    sa.Column('node_name', sa.String(length=255), nullable=True),
    sa.Column('labels', sa.JSON(), nullable=False),
    sa.Column('cluster_id', sa.String(length=255), nullable=True),
    sa.Column('reattestation', sa.JSON(), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['cluster_id'], ['clusters.cluster_id'], name=op.f('fk_join_policies_cluster_id_clusters'), ondelete='SET NULL'),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_join_policies_workspace_id_workspaces'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('join_policy_id', name=op.f('pk_join_policies')),
    sa.UniqueConstraint('workspace_id', 'join_policy', name=op.f('uq_join_policies_workspace_id_join_policy'))
    )
    with op.batch_alter_table('join_policies', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_join_policies_platform'), ['platform'], unique=False)

    op.create_table('join_requests',
    sa.Column('join_request_id', sa.String(length=255), nullable=False),
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('join_policy_id', sa.String(length=255), nullable=False),
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.Column('machine_id', sa.String(length=255), nullable=False),
    sa.Column('csr_sha256', sa.String(length=255), nullable=False),
    sa.Column('evidence_sha256', sa.String(length=255), nullable=False),
    sa.Column('machine', sa.JSON(), nullable=False),
    sa.Column('source_address', sa.String(length=255), nullable=True),
    sa.Column('state', sa.String(length=255), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.Column('last_time', sa.BigInteger(), nullable=False),
    sa.Column('expire_time', sa.BigInteger(), nullable=False),
    sa.Column('decided_by', sa.String(length=512), nullable=True),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.node_id'], name=op.f('fk_join_requests_node_id_nodes'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_join_requests_workspace_id_workspaces'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('join_request_id', name=op.f('pk_join_requests')),
    sa.UniqueConstraint('workspace_id', 'machine_id', 'csr_sha256', name=op.f('uq_join_requests_workspace_id_machine_id_csr_sha256'))
    )
    with op.batch_alter_table('join_requests', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_join_requests_expire_time'), ['expire_time'], unique=False)
